//! Lists memories by filters alone, the newest first.

use std::sync::Arc;

use super::filter::MemoryFilters;
use super::shard::Shard;
use crate::error::Problems;
use crate::ids::Namespace;
use crate::index::Doc;
use crate::index::cursor::{QueryHash, list_cursor, read_list_cursor};
use crate::limits::PAGE_ROWS_MAX;
use crate::memory::Memory;
use crate::time::Timestamp;

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct MemoryListQuery {
    /// Where to look.
    pub namespace: Namespace,
    /// Conditions that must all hold.
    pub filters: MemoryFilters,
    /// Memories of the page, at most [`PAGE_ROWS_MAX`]; 0 asks for the total alone.
    pub limit: usize,
    /// The `next_cursor` of the page before, with the same conditions.
    pub cursor: Option<String>,
    /// What is expired by then is left out.
    pub now: Timestamp,
}

/// One page of a list, the newest first, then by id.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryList {
    /// The memories of this page.
    pub memories: Vec<Arc<Memory>>,
    /// How many pass the conditions, on all pages together.
    pub total: usize,
    /// Leads to the next page; absent on the last.
    pub next_cursor: Option<String>,
}

impl Shard {
    pub(super) fn list(&self, query: &MemoryListQuery) -> Result<MemoryList, Problems> {
        let hash = QueryHash::of(&("memories", &query.namespace, query.filters.normalized()));
        let after = query.cursor.as_deref().map(|cursor| read_list_cursor(cursor, hash)).transpose()?;
        let after = after.map(read_place).transpose()?;
        let selection = query.filters.select(self, query.now);
        let limit = query.limit.min(PAGE_ROWS_MAX);
        let order = |doc: Doc| self.memory(doc).map(|m| (std::cmp::Reverse(m.created_at), m.id.as_str()));
        let mut total = 0;
        let mut found: Vec<Doc> = Vec::new();
        for doc in selection.docs() {
            total += 1;
            let is_behind = after.is_none_or(|(created_at, id)| {
                self.rows().get(doc as usize).is_some_and(|row| {
                    row.created_at < created_at
                        || row.created_at == created_at && self.memory(doc).is_some_and(|m| m.id.as_str() > id)
                })
            });
            if limit > 0 && is_behind {
                found.push(doc);
            }
        }
        if found.len() > limit + 1 {
            found.select_nth_unstable_by(limit, |a, b| order(*a).cmp(&order(*b)));
            found.truncate(limit + 1);
        }
        found.sort_unstable_by(|a, b| order(*a).cmp(&order(*b)));
        let more = limit > 0 && found.len() > limit;
        found.truncate(limit);
        let memories: Vec<Arc<Memory>> = found.into_iter().filter_map(|doc| self.memory(doc).cloned()).collect();
        let last = memories.last().filter(|_| more);
        let next_cursor = last.map(|m| list_cursor(hash, &format!("{}.{}", m.created_at.0, m.id)));
        Ok(MemoryList { memories, total, next_cursor })
    }
}

fn read_place(text: &str) -> Result<(Timestamp, &str), Problems> {
    let unreadable = || Problems::one("cursor", "is not a cursor; pass the `next_cursor` of the page before as it is");
    let (created_at, id) = text.split_once('.').ok_or_else(unreadable)?;
    let created_at = created_at.parse().map_err(|_not_a_number| unreadable())?;
    Ok((Timestamp(created_at), id))
}
