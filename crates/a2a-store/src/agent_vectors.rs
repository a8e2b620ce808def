//! The part of the feed that follows what a model has made of agents.

use a2a_core::ids::AgentKey;

use crate::agent_cache::Cache;
use crate::error::StoreError;
use crate::feed::{FETCH_KEYS_MAX, FeedRow};
use crate::store::Store;

/// Takes over the vectors that the log says are there. An agent that has changed may say again what it said before, and has
/// its vector then without a word in the log.
pub(crate) async fn apply(store: &Store, cache: &Cache, rows: &[FeedRow]) -> Result<(), StoreError> {
    if cache.model().is_none() {
        return Ok(());
    }
    let told = |row: &FeedRow| match row {
        FeedRow::AgentEmbedding(key) | FeedRow::Agent(key, _) => Some(key.clone()),
        _ => None,
    };
    let mut keys: Vec<AgentKey> = rows.iter().filter_map(told).collect();
    keys.sort_unstable();
    keys.dedup();
    {
        let registry = cache.read();
        keys.retain(|key| registry.get(&key.namespace, key.id.as_str()).is_some() && !registry.has_model_vector(key));
    }
    read(store, cache, &keys).await
}

/// Takes over the vectors that the database has of agents that have none here.
pub(crate) async fn adopt(store: &Store, cache: &Cache) -> Result<(), StoreError> {
    if cache.model().is_none() {
        return Ok(());
    }
    let lacking: Vec<AgentKey> = cache.read().without_model_vector().map(|agent| agent.key()).collect();
    read(store, cache, &lacking).await
}

async fn read(store: &Store, cache: &Cache, keys: &[AgentKey]) -> Result<(), StoreError> {
    let Some(model) = cache.model() else { return Ok(()) };
    for part in keys.chunks(FETCH_KEYS_MAX) {
        cache.set_model_vectors(&store.agent_vectors_read(model, part).await?);
    }
    Ok(())
}
