//! Finds agents by what is needed: an exact id or name, the beginning of an id, or words ranked by BM25F together with what
//! they mean.

mod analysis;
mod meaning;
mod rank;
mod reason;

use std::collections::HashMap;
use std::sync::Arc;

pub(super) use analysis::words_of_agent;
pub(super) use meaning::vector_of_agent;

use self::rank::Rank;
use super::filter::Filters;
use super::shard::Shard;
use crate::agent::Agent;
use crate::embedding::{ModelVector, embed};
use crate::error::Problems;
use crate::ids::{AgentId, Namespace};
use crate::index::Doc;
use crate::index::best::Best;
use crate::index::cursor::{QueryHash, hits_cursor, read_hits_cursor};
use crate::index::scores::with_scores;
use crate::limits::PAGE_ROWS_MAX;

pub use self::rank::AgentRanking;

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
    /// What else is known of some agents and moves them a little, such as how reliable they were.
    pub factors: Arc<HashMap<AgentId, Factor>>,
    /// How much words and meaning count.
    pub ranking: AgentRanking,
    /// The vector of the query by the model whose vectors the registry has. Without it the table alone tells of meaning.
    pub meaning: Option<Arc<ModelVector>>,
}

/// Moves an agent that was found by words or meaning a little up or down. An agent that is named exactly stays first.
#[derive(Debug, Clone, PartialEq)]
pub struct Factor {
    /// What its score is multiplied with, within 0.9 to 1.1; anything else counts as the nearer of these.
    pub times: f32,
    /// Why, as the reason of the hit tells it.
    pub reason: Arc<str>,
}

/// One page of hits, the best first; equal scores are in the order of ids.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchPage {
    /// The hits of this page.
    pub hits: Vec<Hit>,
    /// How many agents have at least one of the words or are similar, on all pages together.
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
    /// Why it was found, such as `postgres in name, tags; "slow query" in examples; similar 0.52`.
    pub reason: String,
}

/// A beginning that more ids than these have in common does not single out any of them.
const ID_PREFIX_MAX: usize = 200;

/// Why an agent stands above those that were found by words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Id,
    Name,
    IdPrefix,
}

impl Shard {
    pub(super) fn search(&self, query: &SearchQuery) -> Result<SearchPage, Problems> {
        let hash = query.hash();
        let after = query.cursor.as_deref().map(|cursor| read_hits_cursor(cursor, hash)).transpose()?;
        let named = self.named(query.query.trim());
        let model = &self.texts.model;
        let meaning = query.meaning.as_deref().filter(|vector| model.fits(vector) && query.ranking.model > 0.0);
        // With every agent read by the model there is nothing to ask the table for.
        let is_read = meaning.is_some() && model.count() == self.len();
        let rank = Rank {
            shard: self,
            query,
            words: self.texts.words.words_of(&query.query, self.len()),
            vector: (query.ranking.semantic > 0.0 && !is_read).then(|| embed(&query.query)).flatten(),
            meaning,
            named: &named,
        };
        let limit = query.limit.min(PAGE_ROWS_MAX);
        // One more than the page holds tells whether there is another page.
        let mut best = Best::new(|doc| self.agent(doc).map(|agent| agent.spec.id.as_str()), after, limit + 1);
        let total = with_scores(|scores| rank.run(scores, &mut best));
        let mut found = best.into_sorted();
        let more = limit > 0 && found.len() > limit;
        found.truncate(limit);
        let hits: Vec<Hit> = found
            .into_iter()
            .filter_map(|(score, doc)| {
                let agent = Arc::clone(self.agent(doc)?);
                let reason = rank.reason(&agent, doc);
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
}

impl SearchQuery {
    fn hash(&self) -> QueryHash {
        let filters = self.filters.normalized();
        QueryHash::of(&("search", &self.namespace, self.query.trim(), filters, self.include_disabled, self.ranking))
    }

    /// The page of a namespace that holds nothing.
    pub(super) fn nothing(&self) -> Result<SearchPage, Problems> {
        Shard::default().search(self)
    }
}
