//! Conversations: the turns of a session in their order.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::shard::{Shard, turn_of};
use crate::error::Problems;
use crate::ids::{MemoryId, Namespace};
use crate::index::Doc;
use crate::index::cursor::{QueryHash, list_cursor, read_list_cursor};
use crate::limits::SESSION_TURNS_MAX;
use crate::memory::Memory;
use crate::time::Timestamp;

/// Which turns to read.
#[derive(Debug, Clone, Default)]
pub struct TurnQuery {
    /// Where the session is.
    pub namespace: Namespace,
    /// The session.
    pub session: String,
    /// Turns of the page, at most [`SESSION_TURNS_MAX`].
    pub limit: usize,
    /// The `next_cursor` of the page before, which leads to earlier turns.
    pub cursor: Option<String>,
    /// What is expired by then is left out.
    pub now: Timestamp,
}

/// The latest turns of a session, or those before a page of them.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnPage {
    /// In the order in which they were said.
    pub turns: Vec<Arc<Memory>>,
    /// How many the session has.
    pub total: usize,
    /// Leads to earlier turns; absent when there are none.
    pub next_cursor: Option<String>,
}

impl Shard {
    pub(super) fn turns(&self, query: &TurnQuery) -> Result<TurnPage, Problems> {
        let hash = QueryHash::of(&("turns", &query.namespace, &query.session));
        let before = query.cursor.as_deref().map(|cursor| read_list_cursor(cursor, hash)).transpose()?;
        let end = match before {
            Some(id) => {
                let turn = self.doc(id).and_then(|doc| self.memory(doc)).ok_or_else(|| {
                    Problems::one("cursor", "names a turn that is gone; leave it out to start from the latest turn")
                })?;
                Bound::Excluded((turn.created_at, turn.id.clone()))
            }
            None => Bound::Unbounded,
        };
        let Some(turns) = self.sessions_turns.get(query.session.as_str()) else {
            return Ok(TurnPage { turns: Vec::new(), total: 0, next_cursor: None });
        };
        let is_there = |doc: &Doc| {
            self.memory(*doc).filter(|memory| memory.superseded_by.is_none() && !memory.is_expired(query.now))
        };
        let limit = query.limit.clamp(1, SESSION_TURNS_MAX);
        let mut page: Vec<Arc<Memory>> = turns
            .range((Bound::Unbounded, end))
            .rev()
            .filter_map(|(_, doc)| is_there(doc))
            .take(limit + 1)
            .cloned()
            .collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let next_cursor = page.last().filter(|_| more).map(|memory| list_cursor(hash, memory.id.as_str()));
        page.reverse();
        let total = turns.values().filter(|doc| is_there(doc).is_some()).count();
        Ok(TurnPage { turns: page, total, next_cursor })
    }

    /// The first turns of a session, at most `count`.
    pub(super) fn first_turns(&self, session: &str, count: usize) -> impl Iterator<Item = &MemoryId> {
        self.sessions_turns.get(session).into_iter().flat_map(BTreeMap::keys).take(count).map(|(_, id)| id)
    }

    pub(super) fn turns_of(&self, session: &str) -> usize {
        self.sessions_turns.get(session).map_or(0, BTreeMap::len)
    }

    /// The turns right before and after a turn.
    pub(super) fn neighbours(&self, doc: Doc) -> [Option<Doc>; 2] {
        let Some(memory) = self.memory(doc) else { return [None, None] };
        let Some(turns) = turn_of(memory).and_then(|session| self.sessions_turns.get(session)) else {
            return [None, None];
        };
        let at: (Timestamp, MemoryId) = (memory.created_at, memory.id.clone());
        let before = turns.range((Bound::Unbounded, Bound::Excluded(&at))).next_back();
        let after = turns.range((Bound::Excluded(&at), Bound::Unbounded)).next();
        [before.map(|(_, doc)| *doc), after.map(|(_, doc)| *doc)]
    }
}
