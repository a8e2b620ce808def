//! What every process knows of memories and of what agents have experienced.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use a2a_core::embedding::ModelVector;
use a2a_core::ids::{AgentKey, MemoryId};
use a2a_core::memory::Memory;
use a2a_core::memory::command::MemoryCommitted;
use a2a_core::memory::experience::AgentExperience;
use a2a_core::memory::recall::{CommittedMemory, MemoryIndex, Reading};
use a2a_core::time::Timestamp;
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::in_order::in_order;

/// The experiences of all agents.
pub type Experiences = HashMap<AgentKey, Arc<AgentExperience>>;

/// Memories put into the index under one lock, so that readers wait for microseconds and not for a whole batch.
const APPLY_MEMORIES_MAX: usize = 32;
/// The same while nobody but the load changes it, and for memories that are not read yet.
const LOAD_MEMORIES_MAX: usize = 128;
/// Memories that are taken at once to be read for recall.
const READ_MEMORIES_MAX: usize = 4_096;
/// The same for vectors, which are only copied.
const SET_VECTORS_MAX: usize = 128;

/// The memories in memory. Written by the memory writer and the feed, read by everybody. The locks are held for
/// microseconds, never while waiting.
#[derive(Default)]
pub struct MemoryView {
    index: RwLock<MemoryIndex>,
    experiences: RwLock<Experiences>,
    loaded: Once,
    searchable: Once,
    model: Option<Arc<str>>,
    news: Notify,
}

/// Becomes true once.
struct Once(watch::Sender<bool>);

impl Default for Once {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl std::fmt::Debug for MemoryView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryView").field("memories", &self.read().len()).finish_non_exhaustive()
    }
}

impl MemoryView {
    /// An empty view, with vectors of an embedding model if it is to have any.
    #[must_use]
    pub fn of_model(model: Option<Arc<str>>) -> Self {
        Self { model, ..Self::default() }
    }

    /// The embedding model whose vectors it has.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Until there may be memories that the model has not read.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Takes over vectors of the model.
    pub fn set_model_vectors(&self, vectors: &[(MemoryId, ModelVector)]) {
        for part in vectors.chunks(SET_VECTORS_MAX) {
            let mut index = self.index.write();
            for (id, vector) in part {
                if !index.set_model_vector(id.as_str(), vector) && index.get(id.as_str()).is_some() {
                    tracing::debug!(%id, dimensions = vector.dimensions(), "a vector does not fit the others");
                }
            }
        }
    }

    /// Reads the index; the guard must not be held across a wait.
    pub fn read(&self) -> RwLockReadGuard<'_, MemoryIndex> {
        self.index.read()
    }

    /// Reads the experiences; the guard must not be held across a wait.
    pub fn experiences(&self) -> RwLockReadGuard<'_, Experiences> {
        self.experiences.read()
    }

    /// What an agent has experienced.
    #[must_use]
    pub fn experience(&self, agent: &AgentKey) -> Option<Arc<AgentExperience>> {
        self.experiences.read().get(agent).cloned()
    }

    /// Follows whether all memories are there.
    #[must_use]
    pub fn loaded(&self) -> watch::Receiver<bool> {
        self.loaded.0.subscribe()
    }

    pub(crate) fn all_loaded(&self) {
        self.loaded.0.send_replace(true);
    }

    /// Follows whether recall knows every memory, which takes longer than loading them.
    #[must_use]
    pub fn searchable(&self) -> watch::Receiver<bool> {
        self.searchable.0.subscribe()
    }

    /// Puts memories into the index that recall will know later.
    pub(crate) fn load(&self, memories: Vec<CommittedMemory>) {
        let now = Timestamp::from_system_time(SystemTime::now());
        let mut memories = memories.into_iter();
        while memories.len() > 0 {
            let mut index = self.index.write();
            for memory in memories.by_ref().take(LOAD_MEMORIES_MAX) {
                index.apply_read(memory, None, now);
            }
        }
    }

    /// Reads the words of what was loaded, which takes far longer than loading it.
    pub(crate) fn make_searchable(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let unread = self.read().unread(READ_MEMORIES_MAX);
            if unread.is_empty() {
                self.searchable.0.send_replace(true);
                return;
            }
            let read = |memory: &Arc<Memory>| (Arc::clone(memory), Reading::of_memory(&memory.spec));
            let parts: Vec<&[Arc<Memory>]> = unread.chunks(APPLY_MEMORIES_MAX).collect();
            in_order(
                &parts,
                |part| part.iter().map(read).collect::<Vec<_>>(),
                |read| self.index.write().make_searchable(&read),
            );
        }
    }

    /// Puts committed states into the cache, which refuses whatever is not newer.
    pub fn apply(&self, states: impl IntoIterator<Item = MemoryCommitted>) {
        let mut memories = Vec::new();
        for state in states {
            match state {
                MemoryCommitted::Memory(memory) => memories.push(memory),
                MemoryCommitted::Experience(experience) => self.experienced(experience),
            }
        }
        self.apply_memories(memories);
    }

    fn experienced(&self, experience: Arc<AgentExperience>) {
        let mut experiences = self.experiences.write();
        let known = experiences.get(&experience.agent).map(|known| known.revision);
        if known.is_none_or(|known| known < experience.revision) {
            experiences.insert(experience.agent.clone(), experience);
        }
    }

    /// Puts memories into the index. Their words are read before the lock is taken.
    pub(crate) fn apply_memories(&self, memories: Vec<CommittedMemory>) {
        let now = Timestamp::from_system_time(SystemTime::now());
        let mut memories = memories.into_iter();
        while memories.len() > 0 {
            let part: Vec<(CommittedMemory, Option<Reading>)> = memories
                .by_ref()
                .take(APPLY_MEMORIES_MAX)
                .map(|memory| {
                    let reading = match &memory {
                        CommittedMemory::Memory(memory) => Some(Reading::of_memory(&memory.spec)),
                        CommittedMemory::Removed(..) => None,
                    };
                    (memory, reading)
                })
                .collect();
            let mut index = self.index.write();
            for (memory, reading) in part {
                index.apply_read(memory, reading.as_ref(), now);
            }
        }
        if self.model.is_some() {
            self.news.notify_one();
        }
    }

    /// Changes the index as a whole, as a comparison with the database does.
    pub(crate) fn update(&self, change: impl FnOnce(&mut MemoryIndex)) {
        change(&mut self.index.write());
    }

    /// Changes the experiences as a whole.
    pub(crate) fn update_experiences(&self, change: impl FnOnce(&mut Experiences)) {
        change(&mut self.experiences.write());
    }

    /// Forgets what was heard before a time of what has gone.
    pub(crate) fn forget_before(&self, time: Timestamp) {
        self.index.write().forget_removed_before(time);
    }
}
