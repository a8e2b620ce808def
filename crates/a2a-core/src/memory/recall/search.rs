//! Recalls what fits a query best: by id or key, by the exact phrase, and else by words and meaning together.

use std::sync::Arc;

use super::filter::{MemoryFilters, Selection};
use super::rank::{Asked, Ranking};
use super::reason;
use super::score::Scoring;
use super::shard::Shard;
use crate::embedding::{Alignment, ModelVector, Vector, embed};
use crate::error::Problems;
use crate::ids::Namespace;
use crate::index::Doc;
use crate::index::best::Best;
use crate::index::cursor::{QueryHash, hits_cursor, read_hits_cursor};
use crate::index::query::{SearchWord, written};
use crate::index::scores::with_scores;
use crate::limits::PAGE_ROWS_MAX;
use crate::memory::Memory;
use crate::time::Timestamp;

/// What to recall.
#[derive(Debug, Clone, Default)]
pub struct RecallQuery {
    /// Where to look.
    pub namespace: Namespace,
    /// A question, words, an id or the beginning of one, or a key.
    pub query: String,
    /// Conditions that must all hold.
    pub filters: MemoryFilters,
    /// Hits of the page, at most [`PAGE_ROWS_MAX`]; 0 asks for the total alone.
    pub limit: usize,
    /// The `next_cursor` of the page before, with the same query and conditions.
    pub cursor: Option<String>,
    /// The time of the question. A page with a cursor is of the time of the first page, so that ages do not move it.
    pub now: Timestamp,
    /// How much each part of the rank counts.
    pub ranking: Ranking,
    /// The vector of the query by the model whose vectors the index has. Without it the table alone tells of meaning.
    pub meaning: Option<Arc<ModelVector>>,
}

/// One page of hits, the best first; equal scores are in the order of ids.
#[derive(Debug, Clone, PartialEq)]
pub struct RecallPage {
    /// The hits of this page.
    pub hits: Vec<RecallHit>,
    /// How many memories pass the conditions and share a word with the query or are similar to it.
    pub total: usize,
    /// Leads to the next page; absent on the last.
    pub next_cursor: Option<String>,
}

/// A memory that was recalled.
#[derive(Debug, Clone, PartialEq)]
pub struct RecallHit {
    /// The memory.
    pub memory: Arc<Memory>,
    /// How well it fits, from 0 to 1; 1 is an exact id.
    pub score: f32,
    /// The cosine with the query, when both have a vector; by the model when both have one of it.
    pub similarity: Option<f32>,
    /// Why it was recalled, such as `deploy in content, tags; similar 0.61; 3 days ago`.
    pub reason: String,
}

const EXACT_ID: f32 = 1.0;
const EXACT_KEY: f32 = 0.98;
const ID_PREFIX: f32 = 0.96;
/// Memories with the exact phrase lie above this, in the order of their rank.
const PHRASE: f32 = 0.9;
const PHRASE_SPAN: f32 = 0.05;
/// The beginning of an id counts as one from this many characters, of which four are `mem-`.
const ID_PREFIX_CHARS_MIN: usize = 7;
/// A beginning that more ids than these have in common does not single out any of them.
const ID_PREFIX_MAX: usize = 200;

/// Why a memory stands above those that were found by words and meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Id,
    IdPrefix,
    Key,
    Phrase,
}

impl Named {
    /// The score of a memory that the query names; `share` is its rank by words and meaning, 0 to 1.
    pub(super) fn score(self, share: f32) -> f32 {
        match self {
            Self::Id => EXACT_ID,
            Self::Key => EXACT_KEY,
            Self::IdPrefix => ID_PREFIX,
            Self::Phrase => PHRASE + PHRASE_SPAN * share,
        }
    }
}

/// What a query asks for, read once.
struct Question {
    words: Vec<SearchWord>,
    vector: Option<Vector>,
    meaning: Option<Arc<ModelVector>>,
    asked: Asked,
}

impl Shard {
    pub(super) fn recall(&self, query: &RecallQuery) -> Result<RecallPage, Problems> {
        let hash = query.hash();
        let after = query.cursor.as_deref().map(|cursor| read_cursor(cursor, hash)).transpose()?;
        let now = after.map_or(query.now, |(_, _, as_of)| as_of);
        let asked = Asked::of(&query.query, now);
        let selection = query.filters.select(self, now);
        let limit = query.limit.min(PAGE_ROWS_MAX);
        // One more than the page holds tells whether there is another page.
        let after = after.map(|(score, id, _)| (score, id));
        let mut best = Best::new(|doc| self.memory(doc).map(|memory| memory.id.as_str()), after, limit + 1);
        let mut named = self.with_id(query.query.trim(), &selection);
        let (question, total) = if named.is_empty() {
            let words = self.texts.words.words_of(&query.query, self.len());
            let by_model =
                query.meaning.clone().filter(|vector| self.texts.model.fits(vector) && query.ranking.model > 0.0);
            // With every memory read by the model there is nothing to ask the table for.
            let is_read = by_model.is_some() && self.texts.model.count() == self.len();
            let vector = (query.ranking.semantic > 0.0 && !is_read).then(|| embed(&query.query)).flatten();
            let alignment = (query.ranking.alignment > 0.0).then(|| Alignment::of(&meaning(&query.query))).flatten();
            named = self.with_key_or_phrase(query.query.trim(), &words, &selection);
            let recency = if by_model.is_some() { query.ranking.model_recency } else { query.ranking.recency };
            let scoring = Scoring {
                shard: self,
                ranking: &Ranking { recency, ..query.ranking },
                meaning: by_model.as_deref(),
                selection: &selection,
                asked: &asked,
            };
            let total =
                with_scores(|scores| scoring.run(&words, vector.as_ref(), alignment, &named, scores, &mut best));
            (Question { words, vector, meaning: by_model, asked }, total)
        } else {
            // Whoever writes an id means that memory and nothing like it.
            named.iter().for_each(|(doc, how)| best.offer(how.score(0.0), *doc));
            (Question { words: Vec::new(), vector: None, meaning: None, asked }, named.len())
        };
        let mut found = best.into_sorted();
        let more = limit > 0 && found.len() > limit;
        found.truncate(limit);
        let hits: Vec<RecallHit> =
            found.into_iter().filter_map(|(score, doc)| self.hit(score, doc, &question, &named)).collect();
        let last = hits.last().filter(|_| more);
        let next_cursor = last.map(|hit| hits_cursor(hash, hit.score, &format!("{}.{}", now.0, hit.memory.id)));
        Ok(RecallPage { hits, total, next_cursor })
    }

    fn hit(&self, score: f32, doc: Doc, question: &Question, named: &[(Doc, Named)]) -> Option<RecallHit> {
        let memory = Arc::clone(self.memory(doc)?);
        let named = named.iter().find(|(d, _)| *d == doc).map(|(_, named)| *named);
        let by_model = question.meaning.as_ref().and_then(|meaning| self.texts.model.cosine(meaning, doc));
        let by_table = || question.vector.as_ref().and_then(|vector| self.texts.vectors.similarity(vector, doc));
        let similarity = by_model.or_else(by_table);
        let reason = reason::of(self, &memory, doc, &question.words, named, similarity, &question.asked);
        Some(RecallHit { memory, score, similarity, reason })
    }

    /// Those of the selection whose id is the query or, when there is none, begins with it.
    fn with_id(&self, query: &str, selection: &Selection<'_>) -> Vec<(Doc, Named)> {
        let is_in = |doc: &Doc| selection.place(*doc).is_some();
        if let Some(doc) = self.doc(query).filter(is_in) {
            return vec![(doc, Named::Id)];
        }
        if !query.starts_with("mem-") || query.len() < ID_PREFIX_CHARS_MIN {
            return Vec::new();
        }
        let begin: Vec<Doc> = self.with_id_prefix(query).map(|(_, doc)| doc).take(ID_PREFIX_MAX + 1).collect();
        let few = begin.len() <= ID_PREFIX_MAX;
        begin.into_iter().filter(|doc| few && is_in(doc)).map(|doc| (doc, Named::IdPrefix)).collect()
    }

    /// Those of the selection that the whole query names by their key or quotes.
    fn with_key_or_phrase(&self, query: &str, words: &[SearchWord], selection: &Selection<'_>) -> Vec<(Doc, Named)> {
        let keyed = self.keys.docs(query).iter().filter(|doc| selection.place(**doc).is_some());
        let mut named: Vec<(Doc, Named)> = keyed.map(|doc| (*doc, Named::Key)).collect();
        for doc in self.with_phrase(query, words, selection) {
            if named.iter().all(|(d, _)| *d != doc) {
                named.push((doc, Named::Phrase));
            }
        }
        named
    }
}

/// The words of a question that carry its meaning: without those that every question has.
fn meaning(query: &str) -> String {
    written(query).into_iter().map(|word| word.text).collect::<Vec<_>>().join(" ")
}

/// The score, the id and the time of the first page.
fn read_cursor(cursor: &str, hash: QueryHash) -> Result<(f32, &str, Timestamp), Problems> {
    let (score, rest) = read_hits_cursor(cursor, hash)?;
    let unreadable = || Problems::one("cursor", "is not a cursor; pass the `next_cursor` of the page before as it is");
    let (as_of, id) = rest.split_once('.').ok_or_else(unreadable)?;
    let as_of = as_of.parse().map_err(|_not_a_number| unreadable())?;
    Ok((score, id, Timestamp(as_of)))
}

impl RecallQuery {
    fn hash(&self) -> QueryHash {
        QueryHash::of(&("recall", &self.namespace, self.query.trim(), self.filters.normalized(), self.ranking))
    }
}
