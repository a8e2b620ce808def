//! How the system is doing.

use std::time::Duration;

use a2a_core::ids::Namespace;
use a2a_core::registry::RegistryStats;
use a2a_core::time::Timestamp;
use a2a_store::store::{Health, OperationTiming, ToolUsageSummary};
use a2a_store::writer::WriterCounts;

use super::Hub;
use crate::config::StorageMode;
use crate::embedder::{EmbedError, EmbeddingStats};
use crate::error::HubError;
use crate::sync::SyncStats;

/// How long the database may take to tell how it is, before it counts as not reachable.
const HEALTH_LIMIT: Duration = Duration::from_secs(2);
/// The time that tool usage is summed up over.
const USAGE_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Everything that `registry_stats` tells.
#[derive(Debug, Clone)]
pub struct HubStats {
    /// Counts of agents.
    pub registry: RegistryStats,
    /// How agents are kept.
    pub storage: StorageMode,
    /// Where, without credentials.
    pub location: String,
    /// The database.
    pub database: DatabaseStats,
    /// The feed.
    pub feed: FeedStats,
    /// The writer.
    pub writer: Option<WriterCounts>,
    /// The syncs to the database, in mode `backup`.
    pub sync: Option<SyncStats>,
    /// The model that reads memories, if the operator has chosen one.
    pub embeddings: Option<EmbeddingStats>,
    /// Tool calls of the last day, most used first.
    pub usage: Vec<ToolUsageSummary>,
    /// What this process has done with the database, what took most time first.
    pub operations: Vec<OperationTiming>,
}

/// How the database is.
#[derive(Debug, Clone)]
pub enum DatabaseStats {
    /// It answers.
    Reachable(Health),
    /// It does not; reads go on from memory.
    Unreachable,
}

/// How the feed is.
#[derive(Debug, Clone)]
pub struct FeedStats {
    /// Whether it has a connection.
    pub connected: bool,
    /// The time since the cache was last known to equal the database.
    pub age: Duration,
    /// How many times everything was compared.
    pub reconciled: u64,
}

impl Hub {
    /// How the model that reads memories and agents is doing, if the operator has chosen one.
    #[must_use]
    pub fn embedding_stats(&self) -> Option<EmbeddingStats> {
        let embeddings = self.inner.embeddings.as_ref()?;
        let memories = {
            let index = self.inner.memories.read();
            (index.model_vectors(), index.len())
        };
        let agents = self.inner.cache.read();
        Some(embeddings.stats(memories, (agents.model_vectors(), agents.len())))
    }

    /// Has the model read a few words, and returns the dimensions of its vectors.
    ///
    /// # Errors
    /// When it does not. `None` when there is none.
    pub async fn embedding_probe(&self) -> Option<Result<usize, EmbedError>> {
        Some(self.inner.embeddings.as_ref()?.probe().await)
    }

    /// Counts of agents from memory, and how database, feed and writer are.
    ///
    /// # Errors
    /// When the agents are not loaded.
    pub async fn registry_stats(&self, namespace: Option<&Namespace>) -> Result<HubStats, HubError> {
        let running = self.running().await?;
        let registry = self.inner.cache.read().stats(namespace);
        let now = Timestamp::from_system_time(std::time::SystemTime::now());
        let window = i64::try_from(USAGE_WINDOW.as_millis()).unwrap_or(i64::MAX);
        let since = Timestamp(now.0.saturating_sub(window));
        let asked = tokio::time::timeout(HEALTH_LIMIT, async {
            let health = running.store.health().await?;
            Ok::<_, a2a_store::error::StoreError>((health, running.store.tool_usage_summary(since).await?))
        })
        .await;
        let (database, usage) = match asked {
            Ok(Ok((health, usage))) => (DatabaseStats::Reachable(health), usage),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the database does not tell how it is");
                (DatabaseStats::Unreachable, Vec::new())
            }
            Err(_) => (DatabaseStats::Unreachable, Vec::new()),
        };
        Ok(HubStats {
            registry,
            storage: self.inner.config.storage,
            location: self.inner.config.location.to_string(),
            database,
            feed: FeedStats {
                connected: self.inner.feed.is_connected(),
                age: self.inner.feed.age(),
                reconciled: self.inner.feed.reconciled(),
            },
            writer: Some(running.writer.counts()),
            sync: match &running.syncer {
                Some(syncer) => Some(syncer.stats().await),
                None => None,
            },
            embeddings: self.embedding_stats(),
            usage,
            operations: running.store.operation_timings(),
        })
    }
}
