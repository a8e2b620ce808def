//! Finds agents by what is needed: an exact id or name, the beginning of an id, or words ranked by BM25F.

mod analysis;
mod index;
mod query;
mod reason;
mod stop_words;
mod tokens;
mod typo;
mod vocabulary;
mod word_text;

use std::cell::RefCell;
use std::cmp::Ordering;
use std::sync::Arc;

pub(super) use analysis::Analysis;
pub(super) use index::SearchIndex;

use analysis::Worth;
use query::SearchWord;

use super::cursor::{QueryHash, hits_cursor, read_hits_cursor};
use super::filter::Filters;
use super::shard::{Doc, Shard};
use crate::agent::Agent;
use crate::error::Problems;
use crate::ids::Namespace;
use crate::limits::PAGE_ROWS_MAX;

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct SearchQuery {
    /// Where to look.
    pub namespace: Namespace,
    /// An id, a name, or words that say what is needed.
    pub query: String,
    /// Conditions that must all hold. Without a condition on `enabled` only enabled agents are found.
    pub filters: Filters,
    /// Finds disabled agents too.
    pub include_disabled: bool,
    /// Hits of the page, at most [`PAGE_ROWS_MAX`]; 0 asks for the total alone.
    pub limit: usize,
    /// The `next_cursor` of the page before, with the same query and conditions.
    pub cursor: Option<String>,
}

/// One page of hits, the best first; equal scores are in the order of ids.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchPage {
    /// The hits of this page.
    pub hits: Vec<Hit>,
    /// How many agents have at least one of the words, on all pages together.
    pub total: usize,
    /// Leads to the next page; absent on the last. Nothing is skipped or repeated as long as no agent changes.
    pub next_cursor: Option<String>,
}

/// An agent that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The agent.
    pub agent: Arc<Agent>,
    /// How well it fits, from 0 to 1; 1 is an exact id.
    pub score: f32,
    /// Why it was found, such as `postgres in name, tags; "slow query" in examples; tunning≈tuning in description`.
    pub reason: String,
}

const EXACT_ID: f32 = 1.0;
const EXACT_NAME: f32 = 0.98;
/// Ids that begin with the whole query lie above this and below an exact name.
const ID_PREFIX: f32 = 0.86;
const ID_PREFIX_SPAN: f32 = 0.1;
/// What words alone can reach.
const WORDS: f32 = 0.85;
/// A deprecated agent that is not named exactly counts this part.
const DEPRECATED_FACTOR: f32 = 0.5;
/// A beginning that more ids than these have in common does not single out any of them.
const ID_PREFIX_MAX: usize = 200;

/// A word's scores are added for all documents in a row, and not by its postings one by one, when there is a posting
/// for so many documents.
const DENSE_PART: usize = 16;

/// Why an agent stands above those that were found by words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Id,
    Name,
    IdPrefix,
}

/// One number per document, kept by each thread so that a search does not have to ask for memory.
#[derive(Default)]
struct Scores {
    /// What each document has in total.
    total: Vec<f32>,
    /// What it has for the word that is being looked at; all zero between words.
    word: Vec<f32>,
}

thread_local! {
    static SCORES: RefCell<Scores> = RefCell::default();
}

impl Shard {
    pub(super) fn search(&self, query: &SearchQuery) -> Result<SearchPage, Problems> {
        let hash = query.hash();
        let after = query.cursor.as_deref().map(|cursor| read_hits_cursor(cursor, hash)).transpose()?;
        let words = self.search.words_of(&query.query, self.len());
        let named = self.named(query.query.trim());
        let limit = query.limit.min(PAGE_ROWS_MAX);
        // One more than the page holds tells whether there is another page.
        let mut best = Best { shard: self, after, count: limit + 1, floor: f32::MIN, found: Vec::new() };
        let total = SCORES.with(|scores| match scores.try_borrow_mut() {
            Ok(mut scores) => self.rank(query, &words, &named, &mut scores, &mut best),
            Err(_in_use) => self.rank(query, &words, &named, &mut Scores::default(), &mut best),
        });
        let mut found = best.into_sorted();
        let more = limit > 0 && found.len() > limit;
        found.truncate(limit);
        let hits: Vec<Hit> = found
            .into_iter()
            .filter_map(|(score, doc)| {
                let agent = Arc::clone(self.agent(doc)?);
                let reason = self.reason(&agent, doc, query, &words, &named);
                Some(Hit { agent, score, reason })
            })
            .collect();
        let last = hits.last().filter(|_| more);
        let next_cursor = last.map(|hit| hits_cursor(hash, hit.score, hit.agent.spec.id.as_str()));
        Ok(SearchPage { hits, total, next_cursor })
    }

    /// The agents that the whole query names.
    fn named(&self, query: &str) -> Vec<(Doc, Named)> {
        if query.is_empty() {
            return Vec::new();
        }
        let mut named: Vec<(Doc, Named)> = Vec::new();
        let begins = self.docs_with_prefix(query, ID_PREFIX_MAX + 1);
        let few = begins.len() <= ID_PREFIX_MAX;
        for doc in begins {
            let is_id = self.agent(doc).is_some_and(|agent| agent.spec.id.as_str().eq_ignore_ascii_case(query));
            if is_id {
                named.push((doc, Named::Id));
            } else if few && query.len() > 1 {
                named.push((doc, Named::IdPrefix));
            }
        }
        for doc in self.docs_named(query) {
            match named.iter_mut().find(|(d, _)| *d == doc) {
                Some((_, Named::Id)) => {}
                Some((_, kind)) => *kind = Named::Name,
                None => named.push((doc, Named::Name)),
            }
        }
        named
    }

    /// Scores every agent, offers those that pass the filters to `best`, and returns how many there are.
    fn rank(
        &self,
        query: &SearchQuery,
        words: &[SearchWord],
        named: &[(Doc, Named)],
        scores: &mut Scores,
        best: &mut Best<'_>,
    ) -> usize {
        scores.total.clear();
        scores.total.resize(self.end(), 0.0);
        scores.word.resize(self.end().max(scores.word.len()), 0.0);
        let rarities: f32 = words.iter().map(|word| word.rarity).sum();
        for word in words {
            self.add_word(word, WORDS * word.rarity / rarities / Worth::WHOLE, scores);
        }
        for (doc, kind) in named {
            let Some(score) = scores.total.get_mut(*doc as usize) else { continue };
            let named_score = match kind {
                Named::Id => EXACT_ID,
                Named::Name => EXACT_NAME,
                Named::IdPrefix => ID_PREFIX + ID_PREFIX_SPAN * *score,
            };
            // An exact name is meant, deprecated or not, so the factor below must leave it as it is.
            let spared = *kind != Named::IdPrefix && self.flags_of(*doc).is_deprecated();
            *score = if spared { named_score / DEPRECATED_FACTOR } else { named_score };
        }
        let mut filters = query.filters.clone();
        if filters.enabled.is_none() && !query.include_disabled {
            filters.enabled = Some(true);
        }
        let flag_filter = filters.flags();
        let selection = filters.select(self, Vec::new());
        let selected = selection.contains(self);
        let only_flags = selection.is_flags();
        let mut total = 0;
        for (doc, (&score, &flags)) in (0..).zip(scores.total.iter().zip(self.flags())) {
            // Most documents fail here or at the floor: without a jump for each condition this loop runs twice as fast.
            let passes = (score > 0.0) & flag_filter.passes(flags);
            if !only_flags && passes && !selected(doc) {
                continue;
            }
            total += usize::from(passes);
            let score = score * if flags.is_deprecated() { DEPRECATED_FACTOR } else { 1.0 };
            if passes & (score >= best.floor) {
                best.offer(score, doc);
            }
        }
        total
    }

    /// Adds what one word is worth in each agent: the best of its matches there, times `unit`.
    fn add_word(&self, word: &SearchWord, unit: f32, scores: &mut Scores) {
        let terms = word.matches.iter().filter_map(|m| Some((m.factor, self.search.term(m.term)?)));
        let terms_again = terms.clone();
        if let [_only] = word.matches.as_slice() {
            for (factor, term) in terms {
                for posting in &term.postings {
                    if let Some(score) = scores.total.get_mut(posting.doc as usize) {
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
                if let Some(score) = scores.word.get_mut(posting.doc as usize) {
                    *score = score.max(factor * posting.worth.fraction());
                }
            }
        }
        if postings * DENSE_PART > scores.total.len() {
            for (total, word) in scores.total.iter_mut().zip(&mut scores.word) {
                *total += unit * std::mem::take(word);
            }
            return;
        }
        for posting in terms_again.flat_map(|(_, term)| &term.postings) {
            let doc = posting.doc as usize;
            if let (Some(total), Some(word)) = (scores.total.get_mut(doc), scores.word.get_mut(doc)) {
                *total += unit * std::mem::take(word);
            }
        }
    }

    fn reason(
        &self,
        agent: &Agent,
        doc: Doc,
        query: &SearchQuery,
        words: &[SearchWord],
        named: &[(Doc, Named)],
    ) -> String {
        let kind = named.iter().find(|(d, _)| *d == doc).map(|(_, kind)| *kind);
        let reason = match kind {
            Some(Named::Id) => "exact id".to_owned(),
            Some(Named::Name) => "exact name".to_owned(),
            Some(Named::IdPrefix) => format!("id begins with {}", query.query.trim()),
            None => reason::words_in_fields(&self.search, words, doc),
        };
        reason::with_deprecation(agent, reason)
    }
}

/// The best documents so far, at most a few times as many as are wanted.
struct Best<'s> {
    shard: &'s Shard,
    after: Option<(f32, &'s str)>,
    count: usize,
    /// What scores less cannot be among the best any more.
    floor: f32,
    found: Vec<(f32, Doc)>,
}

impl<'s> Best<'s> {
    fn id(&self, doc: Doc) -> Option<&'s str> {
        self.shard.agent(doc).map(|agent| agent.spec.id.as_str())
    }

    /// Takes a document whose score is not below the floor.
    fn offer(&mut self, score: f32, doc: Doc) {
        if let Some((last_score, last_id)) = self.after {
            let comes_after = score < last_score || (score == last_score && self.id(doc) > Some(last_id));
            if !comes_after {
                return;
            }
        }
        self.found.push((score, doc));
        if self.found.len() >= (4 * self.count).max(256) {
            self.cut();
        }
    }

    /// The higher score first, then by id.
    fn order(&self) -> impl Fn(&(f32, Doc), &(f32, Doc)) -> Ordering + use<'s> {
        let shard = self.shard;
        let id = move |doc: Doc| shard.agent(doc).map(|agent| &agent.spec.id);
        move |a, b| b.0.total_cmp(&a.0).then_with(|| id(a.1).cmp(&id(b.1)))
    }

    fn cut(&mut self) {
        if self.found.len() <= self.count {
            return;
        }
        let order = self.order();
        let (_, last, _) = self.found.select_nth_unstable_by(self.count - 1, order);
        self.floor = last.0;
        self.found.truncate(self.count);
    }

    fn into_sorted(mut self) -> Vec<(f32, Doc)> {
        self.cut();
        let order = self.order();
        self.found.sort_unstable_by(order);
        self.found
    }
}

impl SearchQuery {
    fn hash(&self) -> QueryHash {
        let filters = self.filters.normalized();
        QueryHash::of(&("search", &self.namespace, self.query.trim(), filters, self.include_disabled))
    }

    /// The page of a namespace that holds nothing.
    pub(super) fn nothing(&self) -> Result<SearchPage, Problems> {
        Shard::default().search(self)
    }
}
