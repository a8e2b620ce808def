//! Memories that have the query word for word.

use super::filter::{Candidates, Selection};
use super::shard::Shard;
use crate::index::Doc;
use crate::index::query::{How, SearchWord};

/// A phrase has at least so many words; a single one is no phrase.
const PHRASE_WORDS_MIN: usize = 2;
/// How many of the newest memories with its rarest word are looked at, and how many of those with all its words are read.
const LOOKED_AT_MAX: usize = 4_096;
const READ_MAX: usize = 256;

impl Shard {
    /// Those of the selection that have all of `query` in a row, or all of the part of it that stands in quotes.
    pub(super) fn with_phrase(&self, query: &str, words: &[SearchWord], selection: &Selection<'_>) -> Vec<Doc> {
        let mut phrase = String::new();
        write_plain(quoted(query).unwrap_or(query), &mut phrase);
        if phrase.trim().split(' ').count() < PHRASE_WORDS_MIN {
            return Vec::new();
        }
        // Whoever has the phrase has every word of it as it stands; words outside of quotes are not asked for.
        let inside = |word: &&SearchWord| quoted(query).is_none() || phrase.contains(word.text.as_str());
        let mut terms = Vec::new();
        for word in words.iter().filter(inside) {
            let same = word.matches.iter().find(|m| m.how == How::Same).and_then(|m| self.texts.words.term(m.term));
            match same {
                Some(term) => terms.push(term),
                None => return Vec::new(),
            }
        }
        terms.sort_by_key(|term| term.postings.len());
        let Some(rarest) = terms.first() else { return Vec::new() };
        let mut content = String::new();
        let mut has_phrase = |doc: &Doc| {
            content.clear();
            self.memory(*doc).is_some_and(|memory| {
                write_plain(&memory.spec.content, &mut content);
                content.contains(&phrase)
            })
        };
        let newest: Box<dyn Iterator<Item = Doc>> = match &selection.candidates {
            Candidates::Listed(docs) if docs.len() < LOOKED_AT_MAX => Box::new(docs.iter().rev().copied()),
            _ => Box::new(rarest.postings.iter().rev().map(|posting| posting.doc)),
        };
        let with_all = newest
            .filter(|doc| selection.place(*doc).is_some())
            .take(LOOKED_AT_MAX)
            .filter(|doc| terms.iter().all(|term| term.worth_in(*doc).is_some()));
        with_all.take(READ_MAX).filter(|doc| has_phrase(doc)).collect()
    }
}

/// What stands in the first pair of quotes.
fn quoted(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(['"', '“'])?;
    let (inside, _) = rest.split_once(['"', '”'])?;
    (!inside.trim().is_empty()).then_some(inside)
}

/// Writes a text in lower case, with one space around each word and no signs, so that words are compared whole.
fn write_plain(text: &str, plain: &mut String) {
    plain.push(' ');
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if word.is_ascii() {
            plain.push_str(word);
            let start = plain.len() - word.len();
            if let Some(added) = plain.get_mut(start..) {
                added.make_ascii_lowercase();
            }
        } else {
            plain.extend(word.chars().flat_map(char::to_lowercase));
        }
        plain.push(' ');
    }
}
