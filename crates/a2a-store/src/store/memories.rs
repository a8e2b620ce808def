//! Memories and what agents have experienced: the commands that change them, and reads of what is not in memory.

use std::sync::Arc;

use a2a_core::ids::{AgentKey, MemoryId, Revision};
use a2a_core::memory::Memory;
use a2a_core::memory::command::{MemoryCommand, MemoryOutcome};
use a2a_core::memory::experience::AgentExperience;
use a2a_core::time::Timestamp;

use super::{Backend, Store};
use crate::error::StoreError;

/// A memory as the database has it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryVersion {
    /// The memory.
    pub memory: Arc<Memory>,
    /// When it was forgotten.
    pub removed_at: Option<Timestamp>,
}

/// That a memory was recalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryTouch {
    /// The memory.
    pub id: MemoryId,
    /// How often.
    pub count: u32,
    /// When last.
    pub at: Timestamp,
}

/// The revision that the database has of a memory which was not forgotten.
#[derive(Debug, Clone)]
pub(crate) struct MemoryRevision {
    pub(crate) id: MemoryId,
    pub(crate) revision: Revision,
    pub(crate) updated_at: Timestamp,
}

/// Memories read at once while loading: large enough to keep two threads busy.
pub(crate) const CHUNK_MEMORIES: i64 = 1_000;
/// Most memories that one pruning deletes: their rows are locked until it is done.
pub(crate) const PRUNE_MEMORIES_MAX: i64 = 1_000;

impl Store {
    /// Commits commands about memories as one transaction and returns an outcome for each, in their order. What the
    /// database itself rejects is isolated and fails alone. After an error the same commands may be sent again: what was
    /// committed is found by its `op_id`.
    ///
    /// # Errors
    /// When it is not known of all commands that they were committed; of each one it may be so
    /// ([`StoreError::is_ambiguous`]).
    pub async fn memory_commit(&self, commands: Vec<MemoryCommand>) -> Result<Vec<MemoryOutcome>, StoreError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        on_backend!(self, MemoryCommit, backend => backend.memory_commit(commands))
    }

    /// Counts recalls. They make no revision, and other processes learn of them when they load the memory anew.
    ///
    /// # Errors
    /// When nothing was committed, or it is not known whether it was.
    pub async fn memories_touch(&self, touches: &[MemoryTouch]) -> Result<(), StoreError> {
        if touches.is_empty() {
            return Ok(());
        }
        on_backend!(self, MemoriesTouch, backend => backend.memories_touch(touches))
    }

    /// Memories by their ids, forgotten ones too, in no order.
    ///
    /// # Errors
    /// When the database can't be reached, or one of them can't be read.
    pub async fn memories_read(&self, ids: &[MemoryId]) -> Result<Vec<MemoryVersion>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        on_backend!(self, MemoriesRead, backend => backend.memories_read(ids))
    }

    /// Memories that were not forgotten and whose ids come after one, in the order of ids, a chunk at a time.
    pub(crate) async fn memories_after(&self, after: &str) -> Result<Vec<MemoryVersion>, StoreError> {
        on_backend!(self, MemoriesAfter, backend => backend.memories_after(after))
    }

    /// The revisions of all memories that were not forgotten.
    pub(crate) async fn memory_revisions(&self) -> Result<Vec<MemoryRevision>, StoreError> {
        on_backend!(self, MemoryRevisions, backend => backend.memory_revisions())
    }

    /// What agents have experienced: those that are named, or all.
    pub(crate) async fn experiences_read(
        &self,
        agents: Option<&[AgentKey]>,
    ) -> Result<Vec<AgentExperience>, StoreError> {
        on_backend!(self, ExperiencesRead, backend => backend.experiences_read(agents))
    }
}
