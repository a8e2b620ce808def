//! Which agents have all words of a text: the condition of lists.

use super::shard::Shard;
use crate::index::Doc;
use crate::index::keys::{DocBits, intersect};
use crate::index::query::written;

impl Shard {
    /// The agents that have every word of `text` in any inflection or as the beginning of a word, ascending; nothing
    /// when the text has no words.
    pub(super) fn docs_with_words(&self, text: &str) -> Option<Vec<Doc>> {
        let mut selected: Option<Vec<Doc>> = None;
        for word in written(text) {
            let mut docs = self.docs_with_word(&word.text);
            if docs.is_empty() && !word.parts.is_empty() {
                docs = self.docs_with_word(word.parts.first().map_or("", |part| part));
                for part in word.parts.iter().skip(1) {
                    intersect(&mut docs, &self.docs_with_word(part));
                }
            }
            match &mut selected {
                None => selected = Some(docs),
                Some(selected) => intersect(selected, &docs),
            }
        }
        selected
    }

    fn docs_with_word(&self, word: &str) -> Vec<Doc> {
        let index = &self.texts.words;
        let mut bits = DocBits::new(self.end());
        if let Some(term) = index.exact(word) {
            index.insert_docs(&mut bits, term);
        }
        for (_, longer) in index.vocabulary.beginning_with(word) {
            index.insert_docs(&mut bits, longer.term);
        }
        bits.iter().filter(|doc| self.agent(*doc).is_some()).collect()
    }
}
