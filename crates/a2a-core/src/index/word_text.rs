//! The text of one word, kept in place when it is short.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

const SHORT_MAX: usize = 16;

/// A word of the tokenizer. Nearly all are short: comparing them reads no other memory, and that is most of what
/// indexing and prefix lookups do.
///
/// Invariant: a word has no NUL, and is `Long` only when it does not fit `Short`, so that equal words have equal form.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum WordText {
    /// Filled up with zeros.
    Short([u8; SHORT_MAX]),
    Long(Box<str>),
}

impl WordText {
    pub(crate) fn new(word: &str) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match bytes.get_mut(..word.len()) {
            Some(place) => {
                place.copy_from_slice(word.as_bytes());
                Self::Short(bytes)
            }
            None => Self::Long(word.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => {
                let length = bytes.iter().position(|b| *b == 0).unwrap_or(SHORT_MAX);
                bytes.get(..length).unwrap_or_default()
            }
            Self::Long(text) => text.as_bytes(),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    pub(crate) fn starts_with(&self, prefix: &str) -> bool {
        self.as_bytes().starts_with(prefix.as_bytes())
    }
}

impl Hash for WordText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Short(bytes) => state.write_u128(u128::from_ne_bytes(*bytes)),
            Self::Long(text) => text.hash(state),
        }
    }
}

impl Ord for WordText {
    /// The order of the texts.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            // The zeros at the end sort a word before those that it begins.
            (Self::Short(a), Self::Short(b)) => u128::from_be_bytes(*a).cmp(&u128::from_be_bytes(*b)),
            _ => self.as_bytes().cmp(other.as_bytes()),
        }
    }
}

impl PartialOrd for WordText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for WordText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_compare_and_read_as_their_texts(a in "[ab]{15,18}|[a-cé]{0,18}", b in "[ab]{15,18}|[a-cé]{0,18}") {
            let (x, y) = (WordText::new(&a), WordText::new(&b));
            prop_assert_eq!(x.as_str(), &a);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x == y, a == b);
            prop_assert_eq!(x.starts_with(&b), a.starts_with(&b));
        }
    }
}
