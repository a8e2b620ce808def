//! The tokens of a model that comes with a vocabulary of its own.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::TABLE;
use super::characters::Characters;
use super::pieces::Pieces;
use super::table::Token;
use super::tokenizer::{self, Vocabulary};

/// Words longer than this in a vocabulary are no words.
const TOKEN_BYTES_MAX: usize = 1_024;

/// The uncased tokenizer of BERT with a vocabulary: one token per line, numbered from zero.
pub struct WordPieces {
    tokens: HashMap<Box<str>, Token, RandomState>,
    longest: usize,
    unknown: Token,
    first: Token,
    last: Token,
    characters: &'static Characters,
}

impl WordPieces {
    /// Reads a vocabulary; `None` when it is none, as when it lacks the tokens that every text has, or when the program was built without
    /// the table, which knows what characters are.
    #[must_use]
    pub fn new(vocabulary: &str) -> Option<Self> {
        let characters = &TABLE.as_ref()?.characters;
        if vocabulary.lines().any(|line| line.len() > TOKEN_BYTES_MAX) {
            return None;
        }
        let tokens: HashMap<Box<str>, Token, RandomState> = vocabulary.lines().map(Box::from).zip(0..).collect();
        let token = |name: &str| tokens.get(name).copied();
        let (unknown, first, last) = (token("[UNK]")?, token("[CLS]")?, token("[SEP]")?);
        let longest = tokens.keys().map(|token| token.len()).max().unwrap_or(0);
        Some(Self { tokens, longest, unknown, first, last, characters })
    }

    /// How many tokens there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens of a text, with the one that begins and the one that ends every text, at most `max`.
    #[must_use]
    pub fn tokens(&self, text: &str, max: usize) -> Vec<u32> {
        let mut found = vec![self.first];
        tokenizer::tokens(text, self, &mut Pieces::default(), &mut |token| {
            if found.len() + 1 < max {
                found.push(token);
            }
        });
        found.push(self.last);
        found
    }
}

impl std::fmt::Debug for WordPieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WordPieces").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Vocabulary for WordPieces {
    fn token(&self, text: &str) -> Option<Token> {
        self.tokens.get(text).copied()
    }

    fn unknown(&self) -> Option<Token> {
        Some(self.unknown)
    }

    fn longest(&self) -> usize {
        self.longest
    }

    fn characters(&self) -> &Characters {
        self.characters
    }
}

#[cfg(test)]
#[cfg(feature = "embedding")]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_their_own_vocabulary() {
        let pieces = WordPieces::new("[PAD]\n[UNK]\n[CLS]\n[SEP]\ndeploy\n##s\n!\n##ed").unwrap();
        assert_eq!(pieces.tokens("Deploys DEPLOYED!", 16), [2, 4, 5, 4, 7, 6, 3]);
        assert_eq!(pieces.tokens("deployment deploy", 16), [2, 1, 4, 3], "a word with an unknown rest is unknown");
        assert_eq!(pieces.tokens(&"x".repeat(101), 16), [2, 1, 3]);
        assert_eq!(pieces.tokens("deploy deploy deploy", 4), [2, 4, 4, 3]);
        assert_eq!(pieces.tokens("", 4), [2, 3]);
        assert!(WordPieces::new("deploy").is_none());
    }
}
