//! Which documents carry a key, such as a tag.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Doc;

/// How a key is compared: without regard to case.
pub(crate) fn folded(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) { text.into() } else { text.to_lowercase().into() }
}

/// From lower-case keys to the documents that carry them.
///
/// Invariant: holds exactly the keys of live documents, each with exactly those that carry it.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    entries: HashMap<Box<str>, Entry, RandomState>,
}

/// The documents that carry one key.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Ascending document numbers.
    docs: Vec<Doc>,
    /// The ways in which the key is written, each with the number of times; documents share these texts.
    spellings: Vec<(Arc<str>, u32)>,
}

impl Entry {
    pub(crate) fn docs(&self) -> &[Doc] {
        &self.docs
    }

    fn add(&mut self, spelling: Option<&Arc<str>>, doc: Doc) {
        // A document can carry one key in two spellings.
        if self.docs.last() != Some(&doc) {
            self.docs.push(doc);
        }
        let Some(spelling) = spelling else { return };
        if let Some((_, count)) = self.spellings.iter_mut().find(|(text, _)| text == spelling) {
            *count += 1;
        } else {
            self.spellings.push((Arc::clone(spelling), 1));
        }
    }

    /// The way in which most documents write the key; the first in the alphabet of several.
    fn spelling(&self) -> Option<&Arc<str>> {
        self.spellings.iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0))).map(|(text, _)| text)
    }
}

impl KeyIndex {
    /// The documents that carry `key` in any case, ascending.
    pub(crate) fn docs(&self, key: &str) -> &[Doc] {
        self.entries.get(folded(key).as_ref()).map_or(&[], Entry::docs)
    }

    /// The text that documents share which write the key exactly so.
    pub(crate) fn shared(&self, key: &str) -> Option<&Arc<str>> {
        let entry = self.entries.get(folded(key).as_ref())?;
        entry.spellings.iter().map(|(text, _)| text).find(|text| ***text == *key)
    }

    /// Every key as most documents write it, with its documents.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(key, entry)| (entry.spelling().map_or(&**key, |text| &**text), entry))
    }

    /// Adds a document whose number is higher than all before. Documents share the spelling if one is given.
    pub(crate) fn add(&mut self, key: &str, spelling: Option<&Arc<str>>, doc: Doc) {
        let folded = folded(key);
        if let Some(entry) = self.entries.get_mut(folded.as_ref()) {
            entry.add(spelling, doc);
        } else {
            let mut entry = Entry::default();
            entry.add(spelling, doc);
            self.entries.insert(folded.into(), entry);
        }
    }

    /// Takes a document out from under a key that it was added with.
    pub(crate) fn remove(&mut self, key: &str, doc: Doc) {
        let folded = folded(key);
        let Some(entry) = self.entries.get_mut(folded.as_ref()) else { return };
        if let Ok(at) = entry.docs.binary_search(&doc) {
            entry.docs.remove(at);
        }
        if let Some((_, count)) = entry.spellings.iter_mut().find(|(text, _)| **text == *key) {
            *count -= 1;
            entry.spellings.retain(|(_, count)| *count > 0);
        }
        if entry.docs.is_empty() {
            self.entries.remove(folded.as_ref());
        }
    }

    /// Gives documents new numbers in the same order.
    pub(crate) fn renumber(&mut self, new: impl Fn(Doc) -> Option<Doc>) {
        for entry in self.entries.values_mut() {
            entry.docs.retain_mut(|doc| new(*doc).map(|n| *doc = n).is_some());
        }
    }
}

/// Keeps in `docs` those that `other` has too; both ascend.
pub(crate) fn intersect(docs: &mut Vec<Doc>, other: &[Doc]) {
    if docs.len().saturating_mul(16) < other.len() {
        docs.retain(|doc| other.binary_search(doc).is_ok());
    } else {
        let mut other = other.iter().peekable();
        docs.retain(|doc| {
            while other.next_if(|o| *o < doc).is_some() {}
            other.peek() == Some(&doc)
        });
    }
}

/// Drops from `docs` those that `other` has; both ascend.
pub(crate) fn subtract(docs: &mut Vec<Doc>, other: &[Doc]) {
    let mut other = other.iter().peekable();
    docs.retain(|doc| {
        while other.next_if(|o| *o < doc).is_some() {}
        other.peek() != Some(&doc)
    });
}

/// A set of documents with one bit for each.
#[derive(Debug, Default)]
pub(crate) struct DocBits(Vec<u64>);

impl DocBits {
    /// An empty set for numbers below `end`.
    pub(crate) fn new(end: usize) -> Self {
        Self(vec![0; end.div_ceil(64)])
    }

    pub(crate) fn of(docs: &[Doc], end: usize) -> Self {
        let mut bits = Self::new(end);
        for doc in docs {
            bits.insert(*doc);
        }
        bits
    }

    pub(crate) fn insert(&mut self, doc: Doc) {
        if let Some(word) = self.0.get_mut(doc as usize / 64) {
            *word |= 1 << (doc % 64);
        }
    }

    pub(crate) fn contains(&self, doc: Doc) -> bool {
        self.0.get(doc as usize / 64).is_some_and(|word| word & 1 << (doc % 64) != 0)
    }

    /// The members in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Doc> {
        (0..).step_by(64).zip(&self.0).flat_map(|(base, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let doc = base + left.trailing_zeros();
                    left &= left - 1;
                    doc
                })
            })
        })
    }
}
