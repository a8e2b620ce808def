//! What an embedding model has made of memories and agents, and which process has it read them.

use std::time::Duration;

use a2a_core::embedding::ModelVector;
use a2a_core::ids::{AgentKey, MemoryId};

use super::{Backend, Pruned, Store};
use crate::agent_cache::AgentVector;
use crate::agent_row::stored_key;
use crate::error::StoreError;
use crate::workflow_row::stored_hash;

/// Most vectors of a model that one pruning deletes.
pub(crate) const PRUNE_VECTORS_MAX: i64 = 1_000;

/// The vector of a memory, as the database has it.
pub(crate) type VectorRow = (String, Vec<u8>);

/// The vector of an agent: namespace, id, hash of the passage, vector.
pub(crate) type AgentVectorRow = (String, String, Vec<u8>, Vec<u8>);

pub(crate) fn read_agent_rows(rows: Vec<AgentVectorRow>) -> Vec<AgentVector> {
    let read = |(namespace, id, hash, bytes): AgentVectorRow| {
        let vector = ModelVector::from_bytes(&bytes)?;
        Some(AgentVector { key: stored_key(namespace, id), passage_hash: stored_hash(&hash), vector })
    };
    rows.into_iter().filter_map(read).collect()
}

pub(crate) fn read_rows(rows: Vec<VectorRow>) -> Vec<(MemoryId, ModelVector)> {
    let read = |(id, bytes): VectorRow| Some((MemoryId::from_stored(id), ModelVector::from_bytes(&bytes)?));
    rows.into_iter().filter_map(read).collect()
}

impl Store {
    /// Notes that a process is set to use a model, so that its vectors are kept.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn embedding_model_used(&self, model: &str) -> Result<(), StoreError> {
        on_backend!(self, EmbeddingModelUsed, backend => backend.embedding_model_used(model))
    }

    /// Takes the turn to have a model read memories, or keeps it, for a time by the clock of the database. Returns whether
    /// it is the turn of `holder` now.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn embedding_claim(&self, model: &str, holder: &str, limit: Duration) -> Result<bool, StoreError> {
        let millis = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        on_backend!(self, EmbeddingClaim, backend => backend.embedding_claim(model, holder, millis))
    }

    /// Gives the turn back, if `holder` has it.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn embedding_release(&self, model: &str, holder: &str) -> Result<(), StoreError> {
        on_backend!(self, EmbeddingRelease, backend => backend.embedding_release(model, holder))
    }

    /// Keeps vectors of memories, those that are there and have none, and tells other processes.
    ///
    /// # Errors
    /// When nothing was committed, or it is not known whether it was. They may be sent again.
    pub async fn memory_vectors_put(&self, model: &str, vectors: &[(MemoryId, ModelVector)]) -> Result<(), StoreError> {
        if vectors.is_empty() {
            return Ok(());
        }
        on_backend!(self, MemoryVectorsPut, backend => backend.memory_vectors_put(model, vectors))
    }

    /// The vectors of some memories, as far as they are there, in no order.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn memory_vectors_read(
        &self,
        model: &str,
        ids: &[MemoryId],
    ) -> Result<Vec<(MemoryId, ModelVector)>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        on_backend!(self, MemoryVectorsRead, backend => backend.memory_vectors_read(model, ids))
    }

    /// Keeps vectors of agents, those that are there and have none of the same passage, and tells other processes.
    ///
    /// # Errors
    /// When nothing was committed, or it is not known whether it was. They may be sent again.
    pub async fn agent_vectors_put(&self, model: &str, vectors: &[AgentVector]) -> Result<(), StoreError> {
        if vectors.is_empty() {
            return Ok(());
        }
        on_backend!(self, AgentVectorsPut, backend => backend.agent_vectors_put(model, vectors))
    }

    /// The vectors of some agents, as far as they are there, in no order.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn agent_vectors_read(&self, model: &str, keys: &[AgentKey]) -> Result<Vec<AgentVector>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        on_backend!(self, AgentVectorsRead, backend => backend.agent_vectors_read(model, keys))
    }

    /// Deletes some vectors of models that no process was set to use for a time. Returns whether that was all.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn embedding_models_prune(&self, unused_for: Duration) -> Result<bool, StoreError> {
        let millis = i64::try_from(unused_for.as_millis()).unwrap_or(i64::MAX);
        let pruned = on_backend!(self, EmbeddingModelsPrune, backend => backend.embedding_models_prune(millis))?;
        Ok(pruned == Pruned::All)
    }
}
