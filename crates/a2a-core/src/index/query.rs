//! From the text of a query to the stems that it looks for.

use super::inverted::SearchIndex;
use super::keys::DocBits;
use super::stop_words::is_stop_word;
use super::tokens::{Cut, tokens};
use super::vocabulary::{TermId, WordId};

/// Further words of a query are not read: what is looked for can be said in fewer.
const WORDS_MAX: usize = 64;
/// A beginning of a word counts as one from this many characters.
const PREFIX_CHARS_MIN: usize = 2;
/// How many words that begin alike are looked at, and how many of them are used.
const PREFIX_LOOKED_AT: usize = 1_000;
const PREFIX_USED: usize = 16;
/// How many words that a slip may have been meant as are used.
const TYPO_USED: usize = 4;

/// What a match is worth in relation to the word itself.
const PREFIX_FACTOR: f32 = 0.6;
/// The last word may be half typed even when it is a word as it stands.
const PREFIX_OF_WORD_FACTOR: f32 = 0.3;
const ONE_SLIP_FACTOR: f32 = 0.7;
const SLIPS_FACTOR: f32 = 0.5;

/// A word of a query with the stems that answer it.
#[derive(Debug)]
pub(crate) struct SearchWord {
    /// As the caller wrote it, in lower case.
    pub(crate) text: String,
    /// How rare it is, which is how much it counts.
    pub(crate) rarity: f32,
    /// Empty when no document has anything like it.
    pub(crate) matches: Vec<Match>,
}

/// A stem that answers a word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Match {
    pub(crate) term: TermId,
    pub(crate) factor: f32,
    pub(crate) how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The word itself or an inflection of it.
    Same,
    /// This word begins with it.
    Prefix(WordId),
    /// It may be this word with a slip.
    Typo(WordId),
}

/// A word of a text with the parts of the identifier that it may be.
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) parts: Vec<String>,
}

/// The distinct words of a text, without stop words unless there is nothing else.
pub(crate) fn written(text: &str) -> Vec<Written> {
    let mut all: Vec<Written> = Vec::new();
    tokens(text, &mut |word, cut| {
        let text = word.to_owned();
        match cut {
            Cut::Whole => all.push(Written { text, parts: Vec::new() }),
            Cut::Part => {
                if let Some(whole) = all.last_mut() {
                    whole.parts.push(text);
                }
            }
        }
    });
    if all.iter().any(|word| !is_stop_word(&word.text)) {
        all.retain(|word| !is_stop_word(&word.text));
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|word| seen.insert(word.text.clone()));
    all.truncate(WORDS_MAX);
    all
}

impl SearchIndex {
    pub(crate) fn exact(&self, word: &str) -> Option<TermId> {
        match self.vocabulary.id(word).and_then(|id| self.vocabulary.word(id)) {
            Some(word) => Some(word.term),
            None => self.term_of_stem(&self.vocabulary.stem(word)),
        }
    }

    fn documents_with(&self, term: TermId) -> usize {
        self.term(term).map_or(0, |term| term.documents as usize)
    }

    /// The words of a query with everything in the index that answers them; `documents` is how many there are in all.
    pub(crate) fn words_of(&self, query: &str, documents: usize) -> Vec<SearchWord> {
        let written = written(query);
        let count = written.len();
        let mut words: Vec<SearchWord> = Vec::with_capacity(count);
        for (i, word) in written.into_iter().enumerate() {
            let is_last = i + 1 == count;
            if word.parts.is_empty() || self.exact(&word.text).is_some() {
                words.push(self.search_word(word.text, is_last, documents));
            } else {
                // Nobody writes the identifier like this; its parts may still say what it means.
                words.extend(word.parts.into_iter().map(|part| self.search_word(part, false, documents)));
            }
        }
        let mut terms = std::collections::HashSet::new();
        words.retain(|word| match word.matches.first() {
            Some(Match { term, how: How::Same, .. }) => terms.insert(*term),
            _ => true,
        });
        words
    }

    fn search_word(&self, text: String, is_last: bool, documents: usize) -> SearchWord {
        let exact = self.exact(&text);
        let mut matches: Vec<Match> = exact.iter().map(|&term| Match { term, factor: 1.0, how: How::Same }).collect();
        if exact.is_none() || is_last {
            let factor = if exact.is_none() { PREFIX_FACTOR } else { PREFIX_OF_WORD_FACTOR };
            for id in self.prefixed(&text) {
                self.push_match(&mut matches, id, factor, How::Prefix(id));
            }
        }
        if matches.is_empty() {
            let (slips, mut found) = self.vocabulary.nearest(&text);
            self.most_used_first(&mut found);
            let factor = if slips <= 1 { ONE_SLIP_FACTOR } else { SLIPS_FACTOR };
            for id in found.into_iter().take(TYPO_USED) {
                self.push_match(&mut matches, id, factor, How::Typo(id));
            }
        }
        // A rare misspelling must not count more than the word that it stands for, so all matches of a word weigh
        // alike: by the word itself when there is one, else by all of them together.
        let used_by = match exact {
            Some(term) => self.documents_with(term),
            None => matches.iter().map(|m| self.documents_with(m.term)).sum::<usize>().min(documents),
        };
        SearchWord { text, rarity: rarity(documents, used_by), matches }
    }

    fn push_match(&self, matches: &mut Vec<Match>, id: WordId, factor: f32, how: How) {
        let Some(word) = self.vocabulary.word(id) else { return };
        if matches.iter().all(|m| m.term != word.term) {
            matches.push(Match { term: word.term, factor, how });
        }
    }

    fn prefixed(&self, prefix: &str) -> Vec<WordId> {
        if prefix.chars().count() < PREFIX_CHARS_MIN {
            return Vec::new();
        }
        let mut ids: Vec<WordId> =
            self.vocabulary.beginning_with(prefix).take(PREFIX_LOOKED_AT).map(|(id, _)| id).collect();
        self.most_used_first(&mut ids);
        ids.truncate(PREFIX_USED);
        ids
    }

    /// By number of documents, then in alphabetical order, so that the numbers of words do not matter.
    fn most_used_first(&self, ids: &mut [WordId]) {
        let key = |id: &WordId| self.vocabulary.word(*id).map(|w| (std::cmp::Reverse(w.documents), &w.text));
        ids.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    }

    /// Adds all documents that have the stem, live or not.
    pub(crate) fn insert_docs(&self, bits: &mut DocBits, term: TermId) {
        for posting in self.term(term).map_or(&[][..], |term| &term.postings) {
            bits.insert(posting.doc);
        }
    }
}

/// The inverse document frequency of BM25, which is above zero for every word.
pub(crate) fn rarity(documents: usize, used_by: usize) -> f32 {
    let (documents, used_by) = (documents as f64, used_by as f64);
    (1.0 + (documents - used_by + 0.5) / (used_by + 0.5)).ln() as f32
}
