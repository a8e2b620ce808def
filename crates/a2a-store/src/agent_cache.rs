//! The agents in memory, as all of a process share them.

use std::sync::Arc;

use a2a_core::agent::ContentHash;
use a2a_core::embedding::ModelVector;
use a2a_core::ids::AgentKey;
use a2a_core::registry::Registry;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::Notify;

/// Vectors set under one lock, so that readers wait for microseconds and not for all of them.
const SET_VECTORS_MAX: usize = 32;

/// The vector that a model has made of an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentVector {
    /// The agent.
    pub key: AgentKey,
    /// The hash of what the model has read of it.
    pub passage_hash: ContentHash,
    /// Its direction.
    pub vector: ModelVector,
}

/// The registry in memory, shared by readers, the writer and the feed. Held for microseconds, never while waiting.
#[derive(Default)]
pub struct Cache {
    registry: RwLock<Registry>,
    model: Option<Arc<str>>,
    news: Notify,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("agents", &self.read().len()).finish_non_exhaustive()
    }
}

impl Cache {
    /// An empty one, with vectors of an embedding model if it is to have any.
    #[must_use]
    pub fn of_model(model: Option<Arc<str>>) -> Self {
        Self { model, ..Self::default() }
    }

    /// The embedding model whose vectors it has.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Reads the registry; the guard must not be held across a wait.
    pub fn read(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read()
    }

    /// Changes the registry; the guard must not be held across a wait.
    pub fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write()
    }

    /// Until there may be agents that the model has not read.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Says that agents have changed.
    pub(crate) fn changed(&self) {
        if self.model.is_some() {
            self.news.notify_one();
        }
    }

    /// Takes over vectors of the model, those of agents that are still what the model has read.
    pub fn set_model_vectors(&self, vectors: &[AgentVector]) {
        for part in vectors.chunks(SET_VECTORS_MAX) {
            let mut registry = self.write();
            for AgentVector { key, passage_hash, vector } in part {
                if !registry.set_model_vector(key, passage_hash, vector) {
                    tracing::debug!(%key, dimensions = vector.dimensions(), "a vector is of an agent as it was, or does not fit");
                }
            }
        }
    }
}
