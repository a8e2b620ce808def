//! Finds words that differ by a slip of the keyboard.

/// What a word is made of in 64 bits: the set of its characters below, its length on top.
///
/// One slip changes at most two bits of the set and one of the length, so that comparing two of these rules out
/// nearly every word of a vocabulary without reading its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signature(u64);

const LENGTH_SHIFT: u32 = 56;

impl Signature {
    /// No word has this one.
    pub(crate) const NONE: Self = Self(u64::MAX);

    pub(crate) fn of(word: &str) -> Self {
        let mut set = 0u64;
        let mut chars = 0u64;
        for c in word.chars() {
            set |= 1
                << match c {
                    'a'..='z' => u32::from(c) - u32::from('a'),
                    '0'..='9' => 26 + u32::from(c) - u32::from('0'),
                    _ => 36 + u32::from(c) % 20,
                };
            chars += 1;
        }
        Self(set | chars << LENGTH_SHIFT)
    }

    pub(crate) fn may_be_within(self, other: Self, slips: u32) -> bool {
        let set = (self.0 ^ other.0) << (64 - LENGTH_SHIFT);
        let lengths = (self.0 >> LENGTH_SHIFT).abs_diff(other.0 >> LENGTH_SHIFT);
        set.count_ones() <= 2 * slips && lengths <= u64::from(slips)
    }
}

/// How many slips a word of this many characters may have.
pub(crate) fn slips_allowed(chars: usize) -> u32 {
    match chars {
        0..=3 => 0,
        4..=7 => 1,
        _ => 2,
    }
}

/// The number of slips between two words if it is at most `max`: a slip is a character that is missing, added or
/// changed, or two neighbours that are swapped (optimal string alignment distance).
pub(crate) fn slips_between(a: &str, b: &str, max: u32) -> Option<u32> {
    let b: Vec<char> = b.chars().collect();
    let mut before_previous = vec![0u32; b.len() + 1];
    let mut previous: Vec<u32> = (0..).take(b.len() + 1).collect();
    let mut current = before_previous.clone();
    let mut a_before = None;
    for (i, a_char) in (1u32..).zip(a.chars()) {
        // One row of the table of distances between the beginnings of both words.
        let mut left = i;
        let mut best = i;
        let mut diagonal = previous.first().copied().unwrap_or(0);
        let mut two_back = None;
        let mut b_before = None;
        if let Some(first) = current.first_mut() {
            *first = i;
        }
        let cells = current.iter_mut().skip(1).zip(previous.iter().skip(1)).zip(&b);
        for (j, ((cell, &above), &b_char)) in cells.enumerate() {
            let mut distance = (diagonal + u32::from(a_char != b_char)).min(above + 1).min(left + 1);
            if a_before == Some(b_char) && b_before == Some(a_char) {
                distance = distance.min(two_back.unwrap_or(u32::MAX - 1) + 1);
            }
            two_back = before_previous.get(j).copied();
            diagonal = above;
            left = distance;
            best = best.min(distance);
            b_before = Some(b_char);
            *cell = distance;
        }
        if best > max {
            return None;
        }
        a_before = Some(a_char);
        std::mem::swap(&mut before_previous, &mut previous);
        std::mem::swap(&mut previous, &mut current);
    }
    previous.last().copied().filter(|&distance| distance <= max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slips_are_counted() {
        for (a, b, slips) in [
            ("tuning", "tunning", 1),
            ("postgres", "postgers", 1),
            ("kuberntes", "kubernetes", 1),
            ("kubrentes", "kubernetes", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(slips_between(a, b, 2), Some(slips), "{a} {b}");
        }
        assert_eq!(slips_between("rust", "ruby", 1), None);
        assert_eq!(slips_between("日本語", "日本", 1), Some(1));
    }

    proptest! {
        #[test]
        fn distance_equals_that_of_a_plain_implementation(a in "[a-d]{0,8}", b in "[a-d]{0,8}", max in 0u32..4) {
            let plain = u32::try_from(strsim::osa_distance(&a, &b)).unwrap();
            prop_assert_eq!(slips_between(&a, &b, max), Some(plain).filter(|&d| d <= max));
        }

        #[test]
        fn signatures_never_rule_out_a_word_that_is_near(a in "[a-e0-2é]{0,9}", b in "[a-e0-2é]{0,9}") {
            if let Some(slips) = slips_between(&a, &b, 9) {
                prop_assert!(Signature::of(&a).may_be_within(Signature::of(&b), slips));
            }
        }
    }
}
