//! The words and the meaning of the documents of a shard.
//!
//! Reading them takes far longer than keeping the documents, so that many documents that are loaded at once are kept
//! first and read after. They are read in the order of their numbers: [`Texts`] knows all below one number and none from
//! there on.

use std::sync::Arc;

use super::{Analysis, Doc, SearchIndex};
use crate::embedding::{ModelVector, ModelVectors, Vector, Vectors};

/// What is read of a document. It needs no access to the index.
#[derive(Debug)]
pub struct Reading {
    pub(crate) words: Analysis,
    pub(crate) vector: Option<Vector>,
}

/// What finds the documents of a shard by words and by meaning.
#[derive(Default)]
pub(crate) struct Texts {
    pub(crate) words: SearchIndex,
    pub(crate) vectors: Vectors,
    /// Vectors of the model that an operator has chosen, as far as they are there. They are set in any order.
    pub(crate) model: ModelVectors,
    /// Documents below this number are in `words` and `vectors`.
    read: usize,
}

impl Texts {
    /// Whether every document has been read.
    pub(crate) fn is_complete<T>(&self, docs: &[Option<T>]) -> bool {
        self.unread(docs).next().is_none()
    }

    /// The documents that have not been read, in the order in which they have to be.
    pub(crate) fn unread<'d, T>(&self, docs: &'d [Option<T>]) -> impl Iterator<Item = &'d T> + use<'d, T> {
        docs.iter().skip(self.read).flatten()
    }

    /// Takes over what was read of the next document that has not been. Nothing happens when that is another one by now.
    pub(crate) fn read_next<T>(&mut self, docs: &[Option<Arc<T>>], document: &Arc<T>, reading: &Reading) {
        while matches!(docs.get(self.read), Some(None)) {
            self.read += 1;
        }
        let next = docs.get(self.read).and_then(Option::as_ref);
        if next.is_some_and(|next| Arc::ptr_eq(next, document)) {
            self.add(reading);
        }
    }

    /// Takes over what was read of a document that comes after `docs`. When others have to be read first, it is left out
    /// and is one of those.
    pub(crate) fn push<T>(&mut self, docs: &[Option<T>], reading: &Reading) {
        if self.is_complete(docs) {
            self.read = docs.len();
            self.add(reading);
        }
    }

    fn add(&mut self, reading: &Reading) {
        let doc = Doc::try_from(self.read).unwrap_or(Doc::MAX);
        self.words.add(doc, &reading.words);
        self.vectors.push(doc, reading.vector.as_ref());
        self.read += 1;
    }

    /// Those that the model has made no vector of, the last ones first.
    pub(crate) fn without_model_vector<'d, T>(&self, docs: &'d [Option<T>]) -> impl Iterator<Item = &'d T> {
        let numbered = (0..Doc::try_from(docs.len()).unwrap_or(Doc::MAX)).zip(docs).rev();
        numbered.filter(|(doc, _)| !self.model.has(*doc)).filter_map(|(_, document)| document.as_ref())
    }

    /// Takes a document out, whose words are read again if they had been, and returns the vector that the model had made
    /// of it.
    pub(crate) fn take(&mut self, doc: Doc, words: impl FnOnce() -> Analysis) -> Option<ModelVector> {
        if (doc as usize) < self.read {
            self.words.remove(&words());
            self.vectors.remove(doc);
        }
        self.model.remove(doc)
    }

    /// Gives documents new numbers in the same order and drops those that get none.
    pub(crate) fn renumber(&mut self, new: impl Fn(Doc) -> Option<Doc> + Copy) {
        self.words.renumber(new);
        self.vectors.renumber(new);
        self.model.renumber(new);
        self.read = (0..).take(self.read).filter(|doc| new(*doc).is_some()).count();
    }
}
