//! What the tokenizer has to know of Unicode: categories and decompositions, as the table carries them.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// Ranges of code points are in order and do not touch.
pub(super) struct Characters {
    pub(super) punctuation: Box<[(u32, u32)]>,
    pub(super) marks: Box<[(u32, u32)]>,
    pub(super) controls: Box<[(u32, u32)]>,
    /// What remains of a character without its accents.
    pub(super) decompositions: HashMap<char, &'static str, RandomState>,
}

impl Characters {
    pub(super) fn is_punctuation(&self, c: char) -> bool {
        c.is_ascii_punctuation() || !c.is_ascii() && is_in(&self.punctuation, c)
    }

    pub(super) fn is_mark(&self, c: char) -> bool {
        !c.is_ascii() && is_in(&self.marks, c)
    }

    pub(super) fn is_control(&self, c: char) -> bool {
        !matches!(c, '\t' | '\n' | '\r') && if c.is_ascii() { c.is_ascii_control() } else { is_in(&self.controls, c) }
    }
}

fn is_in(ranges: &[(u32, u32)], c: char) -> bool {
    let code = u32::from(c);
    let after = ranges.partition_point(|(first, _)| *first <= code);
    after.checked_sub(1).and_then(|i| ranges.get(i)).is_some_and(|(_, last)| code <= *last)
}

/// The parts of a Korean syllable, as the Unicode standard computes them (section 3.12).
pub(super) fn hangul_parts(c: char) -> Option<impl Iterator<Item = char>> {
    const VOWELS: u32 = 21;
    const FINALS: u32 = 28;
    let index = u32::from(c).checked_sub(0xAC00).filter(|index| *index < 19 * VOWELS * FINALS)?;
    let first = 0x1100 + index / (VOWELS * FINALS);
    let vowel = 0x1161 + index % (VOWELS * FINALS) / FINALS;
    let last = (index % FINALS > 0).then_some(0x11A7 + index % FINALS);
    Some([Some(first), Some(vowel), last].into_iter().flatten().filter_map(char::from_u32))
}

/// Characters that the model reads one by one: Chinese ones, not Japanese or Korean letters.
pub(super) fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}
