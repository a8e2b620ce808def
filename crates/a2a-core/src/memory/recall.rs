//! All memories in memory, with the indices that find them.
//!
//! Pure and synchronous; whoever shares it puts a lock around it. It holds committed states only.
//!
//! Invariants:
//! - A memory never goes back to an older revision, and a purged one does not come back by a late older put.
//! - Indices, counts and scores after any sequence of changes equal those of an index built anew from what is live.
//! - What is expired or superseded is never recalled unless it is asked for; expiry is judged by the time of the query.

mod filter;
mod list;
mod near;
mod phrase;
mod rank;
mod reason;
mod score;
mod search;
mod shard;
mod turns;
mod when;
mod words;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod recall_tests;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use self::shard::Shard;
use super::{Memory, MemorySpec, MemoryType};
use crate::agent::ContentHash;
use crate::embedding::ModelVector;
use crate::error::Problems;
use crate::ids::{MemoryId, Namespace, Revision};
use crate::time::Timestamp;

pub use self::filter::MemoryFilters;
pub use self::list::{MemoryList, MemoryListQuery};
pub use self::rank::Ranking;
pub use self::search::{RecallHit, RecallPage, RecallQuery};
pub use self::turns::{TurnPage, TurnQuery};
pub use self::when::When;
pub use self::words::passage;
pub use crate::index::Reading;

/// The committed memories of all namespaces.
#[derive(Default)]
pub struct MemoryIndex {
    shards: HashMap<Namespace, Shard, RandomState>,
    by_id: HashMap<MemoryId, Arc<Memory>, RandomState>,
    /// Memories that are gone, with when this was learned.
    removed: HashMap<MemoryId, (Revision, Timestamp), RandomState>,
}

/// The committed state of one memory.
#[derive(Debug, Clone)]
pub enum CommittedMemory {
    /// It is there, live or superseded.
    Memory(Arc<Memory>),
    /// It was forgotten or purged at this revision.
    Removed(MemoryId, Revision),
}

impl Reading {
    /// Reads the words of a memory and computes its vector. It is the slow part of applying a state and needs no lock.
    #[must_use]
    pub fn of_memory(spec: &MemorySpec) -> Self {
        Self { words: words::words_of_memory(spec), vector: words::vector_of_memory(spec) }
    }
}

impl MemoryIndex {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many memories there are, live or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The memory with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Memory>> {
        self.by_id.get(id)
    }

    /// Every memory, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Memory>> {
        self.by_id.values()
    }

    /// The revision of what was committed last.
    #[must_use]
    pub fn known_revision(&self, id: &str) -> Option<Revision> {
        match self.by_id.get(id) {
            Some(memory) => Some(memory.revision),
            None => self.removed.get(id).map(|(revision, _)| *revision),
        }
    }

    /// Takes over a committed state. Returns false and changes nothing when it is not newer than what is known.
    pub fn apply(&mut self, committed: CommittedMemory, now: Timestamp) -> bool {
        let reading = match &committed {
            CommittedMemory::Memory(memory) => Some(Reading::of_memory(&memory.spec)),
            CommittedMemory::Removed(..) => None,
        };
        self.apply_read(committed, reading.as_ref(), now)
    }

    /// Like [`MemoryIndex::apply`], for a memory that was read without the lock. Without a reading, recall finds it only
    /// after [`MemoryIndex::make_searchable`]. For loading many memories: everything else can be asked long before their
    /// words have been read.
    pub fn apply_read(&mut self, committed: CommittedMemory, reading: Option<&Reading>, now: Timestamp) -> bool {
        let (id, revision) = match &committed {
            CommittedMemory::Memory(memory) => (&memory.id, memory.revision),
            CommittedMemory::Removed(id, revision) => (id, *revision),
        };
        if self.known_revision(id.as_str()).is_some_and(|known| revision <= known) {
            return false;
        }
        match committed {
            CommittedMemory::Memory(memory) => {
                let old = self.by_id.insert(memory.id.clone(), Arc::clone(&memory));
                self.removed.remove(memory.id.as_str());
                let of_model = match old {
                    // Counters and times change often and are in no index.
                    Some(old) if old.spec == memory.spec => {
                        self.shard(&memory.spec.namespace).replace(memory);
                        return true;
                    }
                    // What is said never changes, so that the vector of the model stays.
                    Some(old) => self.take(&old),
                    None => None,
                };
                let (id, shard) = (memory.id.clone(), self.shard(&memory.spec.namespace));
                shard.insert(memory, reading);
                if let (Some(doc), Some(vector)) = (shard.doc(id.as_str()), of_model) {
                    shard.texts.model.set(doc, &vector);
                }
            }
            CommittedMemory::Removed(id, revision) => {
                if let Some(old) = self.by_id.remove(id.as_str()) {
                    let _of_no_use = self.take(&old);
                }
                self.removed.insert(id, (revision, now));
            }
        }
        true
    }

    /// Whether recall knows every memory.
    #[must_use]
    pub fn is_searchable(&self) -> bool {
        self.shards.values().all(Shard::is_searchable)
    }

    /// Some of the memories that recall does not know yet, for [`MemoryIndex::make_searchable`].
    #[must_use]
    pub fn unread(&self, max: usize) -> Vec<Arc<Memory>> {
        self.shards.values().flat_map(Shard::unread).take(max).cloned().collect()
    }

    /// Makes memories that [`MemoryIndex::unread`] gave known to recall. Those that have been replaced or removed since are
    /// left out.
    pub fn make_searchable(&mut self, read: &[(Arc<Memory>, Reading)]) {
        for (memory, reading) in read {
            if let Some(shard) = self.shards.get_mut(&memory.spec.namespace) {
                shard.make_searchable(memory, reading);
            }
        }
    }

    /// Drops a memory as if it had never been heard of.
    pub fn forget(&mut self, id: &str) {
        if let Some(memory) = self.by_id.remove(id) {
            let _of_no_use = self.take(&memory);
        }
        self.removed.remove(id);
    }

    /// Takes over counters that telemetry has raised; they change no revision.
    pub fn touch(&mut self, id: &str, accesses: u32, last_accessed: Timestamp) {
        let Some(memory) = self.by_id.get_mut(id) else { return };
        if memory.accesses >= accesses && memory.last_accessed >= last_accessed {
            return;
        }
        let touched = Arc::make_mut(memory);
        touched.accesses = touched.accesses.max(accesses);
        touched.last_accessed = touched.last_accessed.max(last_accessed);
        let memory = Arc::clone(memory);
        self.shard(&memory.spec.namespace).replace(memory);
    }

    /// Forgets what it knows of removals that it learned of before `time`.
    pub fn forget_removed_before(&mut self, time: Timestamp) {
        self.removed.retain(|_, (_, learned)| *learned >= time);
    }

    fn shard(&mut self, namespace: &Namespace) -> &mut Shard {
        self.shards.entry(namespace.clone()).or_default()
    }

    fn take(&mut self, memory: &Memory) -> Option<ModelVector> {
        let shard = self.shards.get_mut(&memory.spec.namespace)?;
        let of_model = shard.take(memory);
        if shard.len() == 0 {
            self.shards.remove(&memory.spec.namespace);
        }
        of_model
    }

    /// Takes over the vector that a model has made of a memory. All that an index gets are of one model. Returns false and
    /// changes nothing when there is no such memory, or when the vector has not the dimensions of the others.
    pub fn set_model_vector(&mut self, id: &str, vector: &ModelVector) -> bool {
        let Some(memory) = self.by_id.get(id) else { return false };
        let Some(shard) = self.shards.get_mut(&memory.spec.namespace) else { return false };
        shard.doc(id).is_some_and(|doc| shard.texts.model.set(doc, vector))
    }

    /// Whether there is a vector of the model of this memory.
    #[must_use]
    pub fn has_model_vector(&self, id: &str) -> bool {
        let shard = self.by_id.get(id).and_then(|memory| self.shards.get(&memory.spec.namespace));
        shard.is_some_and(|shard| shard.doc(id).is_some_and(|doc| shard.texts.model.has(doc)))
    }

    /// How many memories have a vector of the model.
    #[must_use]
    pub fn model_vectors(&self) -> usize {
        self.shards.values().map(|shard| shard.texts.model.count()).sum()
    }

    /// How many numbers the vectors of the model have, if there are any.
    #[must_use]
    pub fn model_dimensions(&self) -> Option<usize> {
        self.shards.values().find_map(|shard| shard.texts.model.dimensions())
    }

    /// Memories that have no vector of the model and are wanted, those first that came last.
    pub fn without_model_vector<'s>(
        &'s self,
        is_wanted: impl Fn(&MemoryId) -> bool + Copy + 's,
    ) -> impl Iterator<Item = &'s Arc<Memory>> {
        let lacking = self.shards.values().filter(|shard| shard.texts.model.count() < shard.len());
        lacking.flat_map(move |shard| shard.without_model_vector().filter(move |memory| is_wanted(&memory.id)))
    }

    /// Recalls what fits a query best.
    ///
    /// # Errors
    /// When the cursor is not one of this query.
    pub fn recall(&self, query: &RecallQuery) -> Result<RecallPage, Problems> {
        match self.shards.get(&query.namespace) {
            Some(shard) => shard.recall(query),
            None => Shard::default().recall(query),
        }
    }

    /// Lists memories, the newest first.
    ///
    /// # Errors
    /// When the cursor is not one of this query.
    pub fn list(&self, query: &MemoryListQuery) -> Result<MemoryList, Problems> {
        match self.shards.get(&query.namespace) {
            Some(shard) => shard.list(query),
            None => Shard::default().list(query),
        }
    }

    /// Reads the turns of a session.
    ///
    /// # Errors
    /// When the cursor is not one of this session.
    pub fn turns(&self, query: &TurnQuery) -> Result<TurnPage, Problems> {
        match self.shards.get(&query.namespace) {
            Some(shard) => shard.turns(query),
            None => Shard::default().turns(query),
        }
    }

    /// A live memory that says the same.
    #[must_use]
    pub fn same(&self, namespace: &Namespace, hash: &ContentHash, now: Timestamp) -> Option<&Arc<Memory>> {
        self.shards.get(namespace)?.same(hash).find(|m| m.superseded_by.is_none() && !m.is_expired(now))
    }

    /// The memory that one from elsewhere is when it was taken over before. `told_at` is when it was told there, if that is
    /// known: then a superseded memory, or a turn of a conversation, counts only if it was told at that time, because the
    /// same may have been said again later.
    #[must_use]
    pub fn taken_over(
        &self,
        namespace: &Namespace,
        hash: &ContentHash,
        told_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<&Arc<Memory>> {
        let shard = self.shards.get(namespace)?;
        let is_again = |m: &Memory| m.superseded_by.is_some() || m.spec.kind == MemoryType::Conversation;
        let counts = |m: &Memory| !m.is_expired(now) && (told_at.is_none() || !is_again(m));
        let at_that_time = shard.same(hash).find(|m| told_at == Some(m.created_at));
        at_that_time.or_else(|| shard.same(hash).filter(|m| counts(m)).min_by_key(|m| m.superseded_by.is_some()))
    }

    /// Live memories that say nearly the same as a text, nearest first, with how similar they are: for hints.
    #[must_use]
    pub fn near(
        &self,
        namespace: &Namespace,
        reading: &Reading,
        now: Timestamp,
        max: usize,
    ) -> Vec<(Arc<Memory>, f32)> {
        self.shards.get(namespace).map_or_else(Vec::new, |shard| shard.near(reading, now, max))
    }

    /// The live memories of a namespace that have expired.
    #[must_use]
    pub fn expired(&self, now: Timestamp, max: usize) -> Vec<MemoryId> {
        self.by_id.values().filter(|memory| memory.is_expired(now)).take(max).map(|memory| memory.id.clone()).collect()
    }

    /// How many memories a namespace, or one agent in it, has, superseded and expired ones included.
    #[must_use]
    pub fn count(&self, namespace: &Namespace, agent: Option<&str>) -> usize {
        self.shards.get(namespace).map_or(0, |shard| agent.map_or_else(|| shard.len(), |agent| shard.count_of(agent)))
    }

    /// The memories of a namespace, or of one agent in it, that go first to make room for `count` more than `limit` allows.
    #[must_use]
    pub fn to_evict(
        &self,
        namespace: &Namespace,
        agent: Option<&str>,
        limit: usize,
        count: usize,
        now: Timestamp,
    ) -> Vec<MemoryId> {
        let Some(shard) = self.shards.get(namespace) else { return Vec::new() };
        let mut all: Vec<&Arc<Memory>> = shard
            .live()
            .filter(|m| agent.is_none() || m.spec.agent.as_ref().map(crate::ids::AgentId::as_str) == agent)
            .collect();
        let excess = (all.len() + count).saturating_sub(limit).min(all.len());
        all.sort_by(|a, b| super::retention::eviction_order(a, b, now));
        all.into_iter().take(excess).map(|memory| memory.id.clone()).collect()
    }

    /// The turns of a session that go first to make room for `count` more, when it would have more than `limit`: a
    /// hundredth of them at once.
    #[must_use]
    pub fn turns_to_evict(&self, namespace: &Namespace, session: &str, limit: usize, count: usize) -> Vec<MemoryId> {
        let Some(shard) = self.shards.get(namespace) else { return Vec::new() };
        let wanted = shard.turns_of(session) + count;
        if wanted <= limit {
            return Vec::new();
        }
        shard.first_turns(session, wanted - (limit - limit / 100)).cloned().collect()
    }

    /// The memories of all namespaces whose ids begin with `prefix`, at most `max`, in order.
    #[must_use]
    pub fn ids_with_prefix(&self, prefix: &str, max: usize) -> Vec<MemoryId> {
        let each = self.shards.values().flat_map(|shard| shard.with_id_prefix(prefix).take(max));
        let mut found: Vec<MemoryId> = each.map(|(id, _)| id.clone()).collect();
        found.sort_unstable();
        found.truncate(max);
        found
    }
}
