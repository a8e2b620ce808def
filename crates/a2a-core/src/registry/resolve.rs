//! From what a caller wrote to the agent that it means.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::search::SearchQuery;
use super::shard::Shard;
use crate::agent::Agent;
use crate::ids::AgentId;
use crate::index::Doc;

/// What a text means as an agent id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// It is the id of this agent.
    Exact(Arc<Agent>),
    /// Only this agent's id begins with it or equals it, without regard to case.
    UniquePrefix(Arc<Agent>),
    /// The ids of several agents begin with it; the first few of them in order.
    Ambiguous(Vec<AgentId>),
    /// No id begins with it.
    NotFound {
        /// The agents with the most similar ids or names, the most similar first.
        nearest: Vec<AgentId>,
    },
}

/// How many ids an ambiguous prefix names.
const AMBIGUOUS_SHOWN: usize = 5;
/// How many similar ids are named.
const NEAREST_SHOWN: usize = 3;
/// How similar (Jaro-Winkler, 0 to 1) an id or a name must be to be named.
const SIMILARITY_MIN: f64 = 0.7;
/// How many hits of a search, and how many neighbours in the order of ids on each side, are compared.
const COMPARED: usize = 20;

impl Shard {
    pub(super) fn resolve(&self, text: &str) -> Resolved {
        let text = text.trim();
        if let Some(agent) = self.get(text) {
            return Resolved::Exact(Arc::clone(agent));
        }
        if text.is_empty() {
            return Resolved::NotFound { nearest: Vec::new() };
        }
        let docs = self.docs_with_prefix(text, COMPARED);
        let mut ids: Vec<(&AgentId, &Arc<Agent>)> =
            docs.iter().filter_map(|doc| self.agent(*doc)).map(|agent| (&agent.spec.id, agent)).collect();
        ids.sort_unstable_by_key(|(id, _)| *id);
        let mut same = ids.iter().filter(|(id, _)| id.as_str().eq_ignore_ascii_case(text));
        match (ids.as_slice(), same.next(), same.next()) {
            ([(_, only)], _, _) | (_, Some((_, only)), None) => Resolved::UniquePrefix(Arc::clone(only)),
            ([], _, _) => Resolved::NotFound { nearest: self.nearest(text) },
            _ => Resolved::Ambiguous(ids.iter().take(AMBIGUOUS_SHOWN).map(|(id, _)| (*id).clone()).collect()),
        }
    }

    /// Compares the agents that a search finds and those beside `text` in the order of ids: comparing all would take
    /// too long in a large registry.
    fn nearest(&self, text: &str) -> Vec<AgentId> {
        let query =
            SearchQuery { query: text.to_owned(), include_disabled: true, limit: COMPARED, ..SearchQuery::default() };
        let hits = self.search(&query).map(|page| page.hits).unwrap_or_default();
        let found = hits.iter().filter_map(|hit| self.doc(hit.agent.spec.id.as_str()));
        let candidates: BTreeSet<Doc> = found.chain(self.neighbours(text, COMPARED)).collect();
        let text = text.to_lowercase();
        let similarity = |agent: &Agent| {
            let of = |other: &str| strsim::jaro_winkler(&text, &other.to_lowercase());
            of(agent.spec.id.as_str()).max(of(&agent.spec.name))
        };
        let mut nearest: Vec<(f64, &AgentId)> = candidates
            .iter()
            .filter_map(|doc| self.agent(*doc))
            .map(|agent| (similarity(agent), &agent.spec.id))
            .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
            .collect();
        nearest.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        nearest.into_iter().take(NEAREST_SHOWN).map(|(_, id)| id.clone()).collect()
    }
}
