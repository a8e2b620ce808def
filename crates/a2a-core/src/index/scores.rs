//! Adds up what the words of a query are worth in each document.

use std::cell::RefCell;

use super::Doc;
use super::inverted::SearchIndex;
use super::query::SearchWord;

/// A word's scores are added for all documents in a row, and not by its postings one by one, when there is a posting
/// for so many documents.
const DENSE_PART: usize = 16;
/// Documents are looked up in the postings of a word, and not met by walking along both, when there are so many times more
/// postings.
const SPARSE_PART: usize = 16;

/// One number per document, kept by each thread so that a search does not have to ask for memory.
#[derive(Default)]
pub(crate) struct Scores {
    /// What each document has in total.
    pub(crate) total: Vec<f32>,
    /// What it has for the word that is being looked at; all zero between words.
    word: Vec<f32>,
    /// Room for one more number per document.
    pub(crate) second: Vec<f32>,
}

/// How what the words say and what the meaning says become one number.
pub(crate) struct Fusion {
    /// How much each counts.
    pub(crate) lexical: f32,
    pub(crate) semantic: f32,
    /// The least that each is measured against: a best that hardly fits does not count as if it did.
    pub(crate) lexical_floor: f32,
    pub(crate) similarity_floor: f32,
    /// From this similarity on a document matches though it has none of the words.
    pub(crate) similar_min: f32,
}

/// What came of it.
pub(crate) struct Fused {
    /// What each similarity was multiplied with.
    pub(crate) similar_unit: f32,
    /// How many documents match.
    pub(crate) total: usize,
}

thread_local! {
    static SCORES: RefCell<Scores> = RefCell::default();
}

/// Lends the scores of this thread.
pub(crate) fn with_scores<T>(work: impl FnOnce(&mut Scores) -> T) -> T {
    SCORES.with(|scores| match scores.try_borrow_mut() {
        Ok(mut scores) => work(&mut scores),
        Err(_in_use) => work(&mut Scores::default()),
    })
}

impl Scores {
    /// Makes all totals zero, for documents below `end`.
    pub(crate) fn reset(&mut self, end: usize) {
        self.total.clear();
        self.total.resize(end, 0.0);
        self.word.resize(end.max(self.word.len()), 0.0);
    }

    /// Adds what one word is worth in each document: the best of its matches there, times `unit`.
    pub(crate) fn add_word(&mut self, index: &SearchIndex, word: &SearchWord, unit: f32) {
        let terms = word.matches.iter().filter_map(|m| Some((m.factor, index.term(m.term)?)));
        let terms_again = terms.clone();
        if let [_only] = word.matches.as_slice() {
            for (factor, term) in terms {
                for posting in &term.postings {
                    if let Some(score) = self.total.get_mut(posting.doc as usize) {
                        *score += unit * (factor * posting.worth.fraction());
                    }
                }
            }
            return;
        }
        let mut postings = 0;
        for (factor, term) in terms {
            postings += term.postings.len();
            for posting in &term.postings {
                if let Some(score) = self.word.get_mut(posting.doc as usize) {
                    *score = score.max(factor * posting.worth.fraction());
                }
            }
        }
        if postings * DENSE_PART > self.total.len() {
            for (total, word) in self.total.iter_mut().zip(&mut self.word) {
                *total += unit * std::mem::take(word);
            }
            return;
        }
        for posting in terms_again.flat_map(|(_, term)| &term.postings) {
            let doc = posting.doc as usize;
            if let (Some(total), Some(word)) = (self.total.get_mut(doc), self.word.get_mut(doc)) {
                *total += unit * std::mem::take(word);
            }
        }
    }

    /// The same for some documents, in ascending order: the totals are those of `docs`, one by one.
    pub(crate) fn add_word_of(&mut self, index: &SearchIndex, word: &SearchWord, unit: f32, docs: &[Doc]) {
        for found in &word.matches {
            let Some(term) = index.term(found.term) else { continue };
            let mut postings = term.postings.iter().peekable();
            let is_sparse = docs.len().saturating_mul(SPARSE_PART) < term.postings.len();
            for (doc, score) in docs.iter().zip(&mut self.word) {
                let worth = if is_sparse {
                    term.worth_in(*doc)
                } else {
                    while postings.next_if(|posting| posting.doc < *doc).is_some() {}
                    postings.peek().filter(|posting| posting.doc == *doc).map(|posting| posting.worth)
                };
                if let Some(worth) = worth {
                    *score = score.max(found.factor * worth.fraction());
                }
            }
        }
        for (total, word) in self.total.iter_mut().zip(&mut self.word) {
            *total += unit * std::mem::take(word);
        }
    }

    /// Takes out the documents that are not wanted: their totals are below zero from then on.
    #[inline]
    pub(crate) fn keep_only(&mut self, is_wanted: impl Fn(Doc) -> bool) {
        for (doc, (total, similar)) in (0..).zip(self.total.iter_mut().zip(&mut self.second)) {
            if !is_wanted(doc) {
                *total = -1.0;
                *similar = 0.0;
            }
        }
    }

    /// Fuses the totals, which say how well the words fit, with the similarities in `second`: each divided by the highest
    /// there is. Documents that match have a total above zero then.
    pub(crate) fn fuse(&mut self, fusion: &Fusion) -> Fused {
        let lexical_unit = fusion.lexical / highest_of(&self.total, fusion.lexical_floor);
        let similar_unit = fusion.semantic / highest_of(&self.second, fusion.similarity_floor);
        let mut matching: u32 = 0;
        for (total, similar) in self.total.iter_mut().zip(&self.second) {
            // What matches in no way is no candidate: a faint similarity alone says nothing.
            let matches = (*total > 0.0) | ((*total == 0.0) & (*similar >= fusion.similar_min));
            let positive = if *similar > 0.0 { *similar } else { 0.0 };
            let fused = *total * lexical_unit + positive * similar_unit;
            let unmatched = if *total < 0.0 { *total } else { 0.0 };
            *total = if matches { fused } else { unmatched };
            matching += u32::from(matches);
        }
        Fused { similar_unit, total: matching as usize }
    }
}

/// The highest of some numbers, or `least` when that is higher.
pub(crate) fn highest_of(numbers: &[f32], least: f32) -> f32 {
    // Several at a time, because one after the other each would wait for the one before.
    let (chunks, rest) = numbers.as_chunks::<16>();
    let mut highest = [least; 16];
    for chunk in chunks {
        for (highest, number) in highest.iter_mut().zip(chunk) {
            *highest = if *number > *highest { *number } else { *highest };
        }
    }
    highest.iter().chain(rest).fold(least, |most, number| most.max(*number))
}
