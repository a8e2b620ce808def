//! Words that say nothing about what a text is about.

use std::collections::HashSet;
use std::sync::LazyLock;

/// As the tokenizer writes them: lower case, without apostrophes.
const STOP_WORDS: &str = "
    a an the this that these those there here it its itself he him his she her hers they them their theirs
    i me my mine myself you your yours we us our ours one ones
    am is are was were be been being do does did doing done have has had having
    can could shall should will would may might must cant cannot couldnt wont wouldnt dont doesnt didnt isnt arent
    and or but nor so if then than else because as at by for from in into of off on onto out over to toward under
    up upon with within without about across after against along among around before between during
    not no yes all any both each either every few more most much many other some such only own same too very just also
    what which who whom whose when where why how whats hows
    im ive id ill youre theyre were weve lets thats
    please need needs want wants like help helps let get gets got give gives make makes made go goes
    someone something somebody anyone anything way ways etc eg ie via per
    using use used uses
";

static SET: LazyLock<HashSet<&'static str, foldhash::fast::RandomState>> =
    LazyLock::new(|| STOP_WORDS.split_whitespace().collect());
/// By first letter, the lengths that stop words have, each as a bit: most other words need no hashing to be told apart.
static LENGTHS: LazyLock<[u16; 256]> = LazyLock::new(|| {
    let mut lengths = [0; 256];
    for word in SET.iter() {
        if let Some(lengths) = word.bytes().next().and_then(|first| lengths.get_mut(usize::from(first))) {
            *lengths |= 1 << word.len();
        }
    }
    lengths
});

/// Whether search leaves this word out when there are better ones.
pub(crate) fn is_stop_word(word: &str) -> bool {
    let lengths = word.bytes().next().and_then(|first| LENGTHS.get(usize::from(first)));
    word.len() < 16 && lengths.is_some_and(|lengths| lengths & 1 << word.len() != 0) && SET.contains(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_check_lets_every_stop_word_through() {
        assert!(SET.iter().all(|word| is_stop_word(word)));
        assert!(is_stop_word("the") && is_stop_word("which") && !is_stop_word("database"));
    }
}
