//! The words that the documents of one namespace use.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use foldhash::fast::RandomState;
use rust_stemmers::{Algorithm, Stemmer};

use super::typo::{Signature, slips_allowed, slips_between};
use super::word_text::WordText;

/// The number of a word as written.
pub(crate) type WordId = u32;
/// The number of a stem, which is what postings are kept by.
pub(crate) type TermId = u32;

/// Every word as written leads to its stem, so that each distinct word is stemmed once.
pub(crate) struct Vocabulary {
    stemmer: Stemmer,
    by_text: HashMap<WordText, WordId, RandomState>,
    /// In alphabetical order, for prefixes.
    ordered: BTreeSet<(WordText, WordId)>,
    words: Vec<Word>,
    /// Beside `words`, because looking for typos reads all of them.
    signatures: Vec<Signature>,
    free: Vec<WordId>,
}

#[derive(Debug, Clone)]
pub(crate) struct Word {
    pub(crate) text: WordText,
    pub(crate) term: TermId,
    /// How many documents use it.
    pub(crate) documents: u32,
    /// Which add or remove counted it last.
    stamp: u32,
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self {
            stemmer: Stemmer::create(Algorithm::English),
            by_text: HashMap::default(),
            ordered: BTreeSet::new(),
            words: Vec::new(),
            signatures: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl Vocabulary {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_text.len()
    }

    pub(crate) fn word(&self, id: WordId) -> Option<&Word> {
        self.words.get(id as usize)
    }

    pub(crate) fn id(&self, text: &str) -> Option<WordId> {
        self.by_text.get(&WordText::new(text)).copied()
    }

    /// The stem of a word. Words with digits, signs or letters beyond a to z are their own stems.
    pub(crate) fn stem<'w>(&self, word: &'w str) -> std::borrow::Cow<'w, str> {
        if word.len() > 2 && word.bytes().all(|b| b.is_ascii_lowercase()) {
            self.stemmer.stem(word)
        } else {
            word.into()
        }
    }

    /// Adds a word that no document uses yet.
    pub(crate) fn insert(&mut self, text: &str, term: TermId) -> WordId {
        let signature = Signature::of(text);
        let text = WordText::new(text);
        let word = Word { text: text.clone(), term, documents: 0, stamp: 0 };
        let id = if let Some(id) = self.free.pop() {
            if let (Some(w), Some(s)) = (self.words.get_mut(id as usize), self.signatures.get_mut(id as usize)) {
                *w = word;
                *s = signature;
            }
            id
        } else {
            self.words.push(word);
            self.signatures.push(signature);
            u32::try_from(self.words.len() - 1).unwrap_or(u32::MAX)
        };
        self.by_text.insert(text.clone(), id);
        self.ordered.insert((text, id));
        id
    }

    /// Counts that one more document uses the word; further calls with the same stamp count nothing.
    pub(crate) fn count_up(&mut self, id: WordId, stamp: u32) -> Option<TermId> {
        let word = self.words.get_mut(id as usize)?;
        if word.stamp != stamp {
            word.stamp = stamp;
            word.documents += 1;
        }
        Some(word.term)
    }

    /// Counts that one document less uses the word, and notes it in `unused` when none is left.
    pub(crate) fn count_down(&mut self, id: WordId, stamp: u32, unused: &mut Vec<WordId>) -> Option<TermId> {
        let word = self.words.get_mut(id as usize)?;
        if word.stamp != stamp {
            word.stamp = stamp;
            word.documents = word.documents.saturating_sub(1);
            if word.documents == 0 {
                unused.push(id);
            }
        }
        Some(word.term)
    }

    pub(crate) fn remove(&mut self, id: WordId) {
        let Some(word) = self.words.get_mut(id as usize) else { return };
        let text = std::mem::replace(&mut word.text, WordText::new(""));
        if let Some(signature) = self.signatures.get_mut(id as usize) {
            *signature = Signature::NONE;
        }
        self.by_text.remove(&text);
        self.ordered.remove(&(text, id));
        self.free.push(id);
    }

    pub(crate) fn forget_stamps(&mut self) {
        for word in &mut self.words {
            word.stamp = 0;
        }
    }

    /// The words that begin with `prefix` and are longer, in alphabetical order.
    pub(crate) fn beginning_with<'v>(&'v self, prefix: &'v str) -> impl Iterator<Item = (WordId, &'v Word)> {
        let start = (Bound::Excluded((WordText::new(prefix), WordId::MAX)), Bound::Unbounded);
        self.ordered
            .range::<(WordText, WordId), _>(start)
            .take_while(move |(text, _)| text.starts_with(prefix))
            .filter_map(|(_, id)| Some((*id, self.word(*id)?)))
    }

    /// The words that differ from `text` by the fewest slips, if that is not too many, with that number.
    pub(crate) fn nearest(&self, text: &str) -> (u32, Vec<WordId>) {
        let mut allowed = slips_allowed(text.chars().count());
        let mut found = Vec::new();
        // Numbers that differ by a digit are different numbers and not slips.
        if allowed == 0 || text.bytes().any(|b| b.is_ascii_digit()) {
            return (0, found);
        }
        let signature = Signature::of(text);
        for (id, candidate) in (0..).zip(&self.signatures) {
            if !signature.may_be_within(*candidate, allowed) {
                continue;
            }
            let slips = self.word(id).and_then(|word| slips_between(text, word.text.as_str(), allowed));
            if let Some(slips) = slips {
                if slips < allowed {
                    allowed = slips;
                    found.clear();
                }
                found.push(id);
            }
        }
        (allowed, found)
    }
}
