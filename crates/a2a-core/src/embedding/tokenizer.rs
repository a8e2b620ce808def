//! Cuts text into the tokens of the model: the uncased tokenizer of BERT with its WordPiece, exactly.
//!
//! A crate that does this brings a regular expression engine and a parser of its file format along; the rules themselves
//! are few, and a test holds them against the reference.

use super::characters::{Characters, hangul_parts, is_chinese};
use super::pieces::Pieces;
use super::table::Token;

/// A word of more characters is read as unknown, and unknown means nothing to the table.
const WORD_CHARS_MAX: usize = 100;

/// The tokens that a model knows.
pub(super) trait Vocabulary {
    /// The number of a token.
    fn token(&self, text: &str) -> Option<Token>;
    /// The one that stands for words that are not known, if that has a meaning.
    fn unknown(&self) -> Option<Token>;
    /// How many bytes the longest token has.
    fn longest(&self) -> usize;
    /// What the tokenizer has to know of Unicode.
    fn characters(&self) -> &Characters;
}

/// Calls `emit` with each token of `text` that the vocabulary knows. `pieces` are those of the same vocabulary.
pub(super) fn tokens<V: Vocabulary>(text: &str, vocabulary: &V, pieces: &mut Pieces, emit: &mut impl FnMut(Token)) {
    let mut cutter =
        Cutter { vocabulary, pieces, word: String::new(), chars: 0, piece: String::new(), found: Vec::new() };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        // Most of a text is this, and is taken at once.
        let plain = rest.bytes().take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).count();
        let (taken, left) = rest.split_at(plain.max(c.len_utf8()));
        if plain > 0 {
            cutter.push_plain(taken);
        } else {
            cutter.read(c, emit);
        }
        rest = left;
    }
    cutter.end_word(emit);
}

struct Cutter<'v, V> {
    vocabulary: &'v V,
    pieces: &'v mut Pieces,
    /// The word that is being read, in lower case and without accents.
    word: String,
    chars: usize,
    piece: String,
    /// The tokens of a word.
    found: Vec<Token>,
}

impl<V: Vocabulary> Cutter<'_, V> {
    fn read(&mut self, c: char, emit: &mut impl FnMut(Token)) {
        let characters = self.vocabulary.characters();
        if c == '\0' || c == '\u{FFFD}' || characters.is_control(c) {
            return;
        }
        if c.is_whitespace() {
            self.end_word(emit);
            return;
        }
        let alone = is_chinese(c);
        if alone {
            self.end_word(emit);
        }
        if c.is_ascii() {
            self.read_plain(c.to_ascii_lowercase(), emit);
        } else if let Some(parts) = hangul_parts(c) {
            parts.for_each(|part| self.push(part));
        } else if let Some(base) = characters.decompositions.get(&c) {
            base.chars().flat_map(char::to_lowercase).for_each(|part| self.read_plain(part, emit));
        } else if !characters.is_mark(c) {
            c.to_lowercase().for_each(|part| self.read_plain(part, emit));
        }
        if alone {
            self.end_word(emit);
        }
    }

    /// Reads a character that needs no more normalizing: a sign of punctuation is a word of its own.
    fn read_plain(&mut self, c: char, emit: &mut impl FnMut(Token)) {
        if self.vocabulary.characters().is_punctuation(c) {
            self.end_word(emit);
            self.push(c);
            self.end_word(emit);
        } else {
            self.push(c);
        }
    }

    fn push(&mut self, c: char) {
        self.chars += 1;
        // What is too long is unknown as a whole, so that the rest of it need not be kept.
        if self.chars <= WORD_CHARS_MAX {
            self.word.push(c);
        }
    }

    /// The same for lower-case letters and digits of ASCII.
    fn push_plain(&mut self, plain: &str) {
        self.chars += plain.len();
        if self.chars <= WORD_CHARS_MAX {
            self.word.push_str(plain);
        }
    }

    /// Emits the longest known piece from the left, again and again; a word with a rest that is not known is unknown.
    fn end_word(&mut self, emit: &mut impl FnMut(Token)) {
        if self.chars > 0 && self.chars <= WORD_CHARS_MAX {
            if let Some(known) = self.pieces.get(&self.word) {
                known.iter().copied().for_each(emit);
            } else {
                self.find_pieces();
                self.pieces.keep(&self.word, &self.found);
                self.found.iter().copied().for_each(emit);
            }
        } else if self.chars > 0
            && let Some(unknown) = self.vocabulary.unknown()
        {
            emit(unknown);
        }
        self.word.clear();
        self.chars = 0;
    }

    fn find_pieces(&mut self) {
        self.found.clear();
        let mut start = 0;
        while start < self.word.len() {
            let rest = self.word.get(start..).unwrap_or_default();
            let mark = if start > 0 { "##" } else { "" };
            self.piece.clear();
            self.piece.push_str(mark);
            self.piece.push_str(rest);
            let mut longest = None;
            for end in rest.char_indices().map(|(i, c)| i + c.len_utf8()).rev() {
                if mark.len() + end > self.vocabulary.longest() {
                    continue;
                }
                self.piece.truncate(mark.len() + end);
                if let Some(token) = self.vocabulary.token(&self.piece) {
                    longest = Some((token, end));
                    break;
                }
            }
            let Some((token, end)) = longest else {
                self.found.clear();
                self.found.extend(self.vocabulary.unknown());
                return;
            };
            self.found.push(token);
            start += end;
        }
    }
}

#[cfg(test)]
#[cfg(feature = "embedding")]
mod tests {
    use super::*;

    #[test]
    fn tokens_equal_those_of_the_reference() {
        let table = crate::embedding::TABLE.as_ref().unwrap();
        let reference = include_str!("../../embedding/reference.tsv");
        let (mut read, mut pieces) = (0, Pieces::default());
        for line in reference.lines() {
            let (text, expected) = line.split_once('\t').unwrap();
            let text: String = serde_json::from_str(text).unwrap();
            let expected: Vec<String> = serde_json::from_str(expected).unwrap();
            // What is unknown means nothing to the table, so that it is left out.
            let expected: Vec<Token> =
                expected.iter().filter(|t| *t != "[UNK]").map(|t| table.token(t).unwrap()).collect();
            let mut found = Vec::new();
            // Twice: the second time its words are known.
            for _ in 0..2 {
                found.clear();
                tokens(&text, table, &mut pieces, &mut |token| found.push(token));
                assert_eq!(found, expected, "{text:?}");
            }
            read += 1;
        }
        assert!(read > 20);
    }
}
