//! The inverted index of one namespace: for each stem the documents that use it.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::Doc;
use super::analysis::{Analysis, FIELDS_MAX, Field, Occurrences, Worth};
use super::vocabulary::{TermId, Vocabulary, WordId};
use super::word_text::WordText;

/// That one document uses a stem, and what it is worth there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Posting {
    pub(crate) doc: Doc,
    pub(crate) worth: Worth,
}

#[derive(Debug, Clone)]
pub(crate) struct Term {
    stem: WordText,
    /// In the order of document numbers. Those of removed documents stay until the next renumbering, so that a removal
    /// does not have to move long lists; whoever reads postings skips documents that are not live.
    pub(crate) postings: Vec<Posting>,
    /// How many live documents use it, exact at all times.
    pub(crate) documents: u32,
    /// Which add or remove counted it last, and where its occurrences are collected.
    stamp: u32,
    slot: u32,
}

/// Words and postings, kept in step with every put and remove.
///
/// Invariant: all counts equal those of an index that is built anew from the live documents, and so do all scores.
#[derive(Default)]
pub(crate) struct SearchIndex {
    pub(crate) vocabulary: Vocabulary,
    by_stem: HashMap<WordText, TermId, RandomState>,
    terms: Vec<Term>,
    free: Vec<TermId>,
    stamp: u32,
    scratch: Scratch,
}

/// Lists that each add fills anew.
#[derive(Default)]
struct Scratch {
    /// Each occurrence of a word: its number, its field, its units.
    words: Vec<(WordId, Field, u16)>,
    /// Each stem of the document once.
    occurrences: Vec<(TermId, Occurrences)>,
}

impl SearchIndex {
    pub(crate) fn term(&self, id: TermId) -> Option<&Term> {
        self.terms.get(id as usize)
    }

    pub(crate) fn term_of_stem(&self, stem: &str) -> Option<TermId> {
        self.by_stem.get(&WordText::new(stem)).copied()
    }

    /// How many distinct words and stems there are.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.vocabulary.len(), self.by_stem.len())
    }

    fn next_stamp(&mut self) -> u32 {
        if self.stamp == u32::MAX {
            self.vocabulary.forget_stamps();
            for term in &mut self.terms {
                term.stamp = 0;
            }
            self.stamp = 0;
        }
        self.stamp += 1;
        self.stamp
    }

    fn word_id(&mut self, word: &str) -> WordId {
        if let Some(id) = self.vocabulary.id(word) {
            return id;
        }
        let stem = WordText::new(&self.vocabulary.stem(word));
        let term = match self.by_stem.get(&stem) {
            Some(term) => *term,
            None => self.insert_term(stem),
        };
        self.vocabulary.insert(word, term)
    }

    fn insert_term(&mut self, stem: WordText) -> TermId {
        let term = Term { stem: stem.clone(), postings: Vec::new(), documents: 0, stamp: 0, slot: 0 };
        let id = if let Some(id) = self.free.pop() {
            if let Some(place) = self.terms.get_mut(id as usize) {
                *place = term;
            }
            id
        } else {
            self.terms.push(term);
            u32::try_from(self.terms.len() - 1).unwrap_or(u32::MAX)
        };
        self.by_stem.insert(stem, id);
        id
    }

    /// Adds a document under a number that is higher than all before.
    pub(crate) fn add(&mut self, doc: Doc, analysis: &Analysis) {
        let stamp = self.next_stamp();
        let Scratch { mut words, mut occurrences } = std::mem::take(&mut self.scratch);
        words.clear();
        occurrences.clear();
        // Three short loops and not one: each step waits for memory, and apart they wait for many words at once.
        words.extend(analysis.words().map(|(word, field, units)| (self.word_id(word), field, units)));
        for (id, _, _) in &mut words {
            // From here on it holds the number of the stem.
            *id = self.vocabulary.count_up(*id, stamp).unwrap_or(TermId::MAX);
        }
        for (id, field, units) in &words {
            let Some(term) = self.terms.get_mut(*id as usize) else { continue };
            if term.stamp != stamp {
                term.stamp = stamp;
                term.slot = u32::try_from(occurrences.len()).unwrap_or(u32::MAX);
                occurrences.push((*id, [0; FIELDS_MAX]));
            }
            let count = occurrences.get_mut(term.slot as usize).and_then(|(_, o)| o.get_mut(usize::from(*field)));
            if let Some(count) = count {
                *count = count.saturating_add(*units);
            }
        }
        for (id, occurrences) in &occurrences {
            if let Some(term) = self.terms.get_mut(*id as usize) {
                if term.postings.is_empty() {
                    // Most stems occur in one document only; a list of one spares them the room for more.
                    term.postings.reserve_exact(1);
                }
                term.postings.push(Posting { doc, worth: analysis.worth(occurrences) });
                term.documents += 1;
            }
        }
        self.scratch = Scratch { words, occurrences };
    }

    /// Takes a document out, given the same analysis that it was added with.
    pub(crate) fn remove(&mut self, analysis: &Analysis) {
        let stamp = self.next_stamp();
        let mut unused_words = Vec::new();
        let mut unused_terms = Vec::new();
        for (word, _, _) in analysis.words() {
            let Some(word) = self.vocabulary.id(word) else { continue };
            let Some(id) = self.vocabulary.count_down(word, stamp, &mut unused_words) else { continue };
            let Some(term) = self.terms.get_mut(id as usize) else { continue };
            if term.stamp != stamp {
                term.stamp = stamp;
                term.documents = term.documents.saturating_sub(1);
                if term.documents == 0 {
                    unused_terms.push(id);
                }
            }
        }
        for word in unused_words {
            self.vocabulary.remove(word);
        }
        for id in unused_terms {
            if let Some(term) = self.terms.get_mut(id as usize) {
                // All postings that are left belong to removed documents.
                term.postings = Vec::new();
                self.by_stem.remove(&std::mem::replace(&mut term.stem, WordText::new("")));
                self.free.push(id);
            }
        }
    }

    /// Gives documents new numbers in the same order and drops the postings of those that get none.
    pub(crate) fn renumber(&mut self, new: impl Fn(Doc) -> Option<Doc>) {
        for term in &mut self.terms {
            term.postings.retain_mut(|posting| match new(posting.doc) {
                Some(doc) => {
                    posting.doc = doc;
                    true
                }
                None => false,
            });
            term.postings.shrink_to(term.postings.len() + term.postings.len() / 8);
        }
    }
}

impl Term {
    /// What this stem is worth in one document.
    pub(crate) fn worth_in(&self, doc: Doc) -> Option<Worth> {
        let at = self.postings.binary_search_by_key(&doc, |p| p.doc).ok()?;
        self.postings.get(at).map(|p| p.worth)
    }
}
