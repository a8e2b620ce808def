//! The end of what a program says: it tells why the program has failed.

use super::excerpt;
use crate::operator::redaction::CUT;

/// The last bytes of a stream.
pub(super) struct Tail {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// Something was dropped before them.
    is_cut: bool,
}

impl Tail {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, is_cut: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let excess = self.bytes.len().saturating_sub(self.bytes_max);
        self.bytes.drain(..excess);
        self.is_cut |= excess > 0;
    }

    /// One line of at most `chars_max` characters, with [`CUT`] before it when there was more.
    pub(super) fn excerpt(&self, chars_max: usize) -> String {
        let line = excerpt(&self.bytes, usize::MAX);
        let over = line.chars().count().saturating_sub(chars_max);
        if over == 0 && !self.is_cut { line } else { [CUT].into_iter().chain(line.chars().skip(over)).collect() }
    }
}
