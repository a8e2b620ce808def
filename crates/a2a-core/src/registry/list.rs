//! Lists of agents: filters, pages, totals and facets.

use std::collections::HashSet;
use std::sync::Arc;

use super::filter::{Filters, Selection};
use super::shard::Shard;
use crate::agent::Agent;
use crate::error::Problems;
use crate::ids::Namespace;
use crate::index::Doc;
use crate::index::cursor::{QueryHash, list_cursor, read_list_cursor};
use crate::index::keys::KeyIndex;
use crate::limits::PAGE_ROWS_MAX;

/// Which agents to list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Where to look.
    pub namespace: Namespace,
    /// Only agents with these ids; none mean no condition.
    pub ids: Vec<String>,
    /// Conditions that must all hold.
    pub filters: Filters,
    /// Each word of this text must occur in the agent: in any field that search reads, in any inflection, or as the
    /// beginning of a word there. Stop words are left out unless there is nothing else; a text without any word is no
    /// condition.
    pub text: Option<String>,
    /// Whether to count the categories and tags of all matches.
    pub facets: bool,
    /// Rows of the page, at most [`PAGE_ROWS_MAX`]; 0 asks for the total alone.
    pub limit: usize,
    /// The `next_cursor` of the page before, with the same conditions.
    pub cursor: Option<String>,
}

/// One page of a list, in the order of ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The agents of this page.
    pub agents: Vec<Arc<Agent>>,
    /// How many agents match on all pages together.
    pub total: usize,
    /// Leads to the next page; absent on the last.
    pub next_cursor: Option<String>,
    /// Those of the requested ids that are not in the registry, in the order of the request.
    pub missing: Vec<String>,
    /// Counts over all matches, when asked for.
    pub facets: Option<Facets>,
}

/// A name and how many agents have it.
pub type Count = (String, usize);

/// What the matches have in common. Both lists start with the highest count; equal counts are in the order of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facets {
    /// Each category as most agents write it.
    pub categories: Vec<Count>,
    /// Each tag as most agents write it.
    pub tags: Vec<Count>,
}

impl Shard {
    pub(super) fn list(&self, query: &ListQuery) -> Result<ListPage, Problems> {
        // Most lists have neither a page before nor one after, and no use for the hash.
        let after = query.cursor.as_deref().map(|cursor| read_list_cursor(cursor, query.hash())).transpose()?;
        let mut within = Vec::new();
        let mut missing = Vec::new();
        if !query.ids.is_empty() {
            let mut docs = Vec::new();
            let mut seen = HashSet::new();
            for id in query.ids.iter().filter(|id| seen.insert(id.as_str())) {
                match self.doc(id) {
                    Some(doc) => docs.push(doc),
                    None => missing.push(id.clone()),
                }
            }
            docs.sort_unstable();
            within.push(docs);
        }
        if let Some(text) = &query.text {
            within.extend(self.docs_with_words(text));
        }
        let selection = query.filters.select(self, within);
        let limit = query.limit.min(PAGE_ROWS_MAX);
        // One more than the page holds tells whether there is another page.
        let mut docs = if limit == 0 { Vec::new() } else { selection.page(self, after, limit + 1) };
        let more = docs.len() > limit;
        docs.truncate(limit);
        let agents: Vec<Arc<Agent>> = docs.iter().filter_map(|doc| self.agent(*doc).cloned()).collect();
        let last = agents.last().filter(|_| more);
        Ok(ListPage {
            next_cursor: last.map(|agent| list_cursor(query.hash(), agent.spec.id.as_str())),
            total: selection.total(self),
            missing,
            facets: query.facets.then(|| self.facets(&selection)),
            agents,
        })
    }

    /// Counts over the selected agents; costs one look at each entry of the indices.
    fn facets(&self, selection: &Selection<'_>) -> Facets {
        if selection.is_everything() {
            return Facets {
                categories: counts(&self.categories, |docs| docs.len()),
                tags: counts(&self.tags, |docs| docs.len()),
            };
        }
        let selected = selection.contains(self);
        let count = |docs: &[Doc]| docs.iter().filter(|doc| selected(**doc)).count();
        Facets { categories: counts(&self.categories, count), tags: counts(&self.tags, count) }
    }
}

impl ListQuery {
    /// Whether nothing but the ids decides what is listed, all of it on one page.
    #[must_use]
    pub fn asks_for_ids_alone(&self) -> bool {
        let Self { namespace: _, ids, filters, text, facets, limit, cursor } = self;
        !ids.is_empty()
            && *filters == Filters::default()
            && text.is_none()
            && !facets
            && ids.len() <= *limit
            && cursor.is_none()
    }

    fn hash(&self) -> QueryHash {
        let mut ids = self.ids.clone();
        ids.sort_unstable();
        ids.dedup();
        QueryHash::of(&("list", &self.namespace, ids, self.filters.normalized(), &self.text))
    }

    /// The page of a namespace that holds nothing.
    pub(super) fn nothing(&self) -> Result<ListPage, Problems> {
        Shard::default().list(self)
    }
}

/// Counts the agents of each key; keys without any are left out.
pub(super) fn counts(index: &KeyIndex, count: impl Fn(&[Doc]) -> usize) -> Vec<Count> {
    let mut counts: Vec<Count> = index
        .iter()
        .map(|(name, entry)| (name, count(entry.docs())))
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
    sort_counts(&mut counts);
    counts
}

/// The highest count first, then by name.
pub(super) fn sort_counts(counts: &mut [Count]) {
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
}
