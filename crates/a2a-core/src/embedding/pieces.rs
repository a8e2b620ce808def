//! Words that have been cut into tokens of the table before. Cutting a word tries many beginnings of it, and texts use the
//! same words again and again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;

use super::table::Token;
use crate::index::WordText;

/// Words that are remembered: a few hundred kilobytes.
const WORDS_MAX: usize = 8_192;
/// Longer words are rare, and would be allocated.
const WORD_BYTES_MAX: usize = 16;

/// What one vocabulary makes of words.
#[derive(Default)]
pub(super) struct Pieces {
    words: HashMap<WordText, Range<u32>, RandomState>,
    tokens: Vec<Token>,
}

thread_local! {
    static OF_TABLE: RefCell<Pieces> = RefCell::default();
}

impl Pieces {
    /// Lends those of the table, which each thread has for itself.
    pub(super) fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        OF_TABLE.with(|pieces| match pieces.try_borrow_mut() {
            Ok(mut pieces) => work(&mut pieces),
            Err(_in_use) => work(&mut Self::default()),
        })
    }

    /// The tokens of a word.
    pub(super) fn get(&self, word: &str) -> Option<&[Token]> {
        if !is_kept(word) {
            return None;
        }
        let range = self.words.get(&WordText::new(word))?;
        self.tokens.get(range.start as usize..range.end as usize)
    }

    /// Remembers the tokens of a word.
    pub(super) fn keep(&mut self, word: &str, tokens: &[Token]) {
        if !is_kept(word) {
            return;
        }
        if self.words.len() >= WORDS_MAX {
            self.words.clear();
            self.tokens.clear();
        }
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let start = place(self.tokens.len());
        self.tokens.extend_from_slice(tokens);
        self.words.insert(WordText::new(word), start..place(self.tokens.len()));
    }
}

/// Numbers hardly come twice.
fn is_kept(word: &str) -> bool {
    word.len() <= WORD_BYTES_MAX && !word.bytes().any(|byte| byte.is_ascii_digit())
}
