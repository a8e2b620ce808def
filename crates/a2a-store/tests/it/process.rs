//! What one server process runs of the store: cache, writer and feed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::agent::Agent;
use a2a_core::agent_check::AgentCheck;
use a2a_core::change::{Change, Outcome};
use a2a_core::ids::{AgentKey, Namespace};
use a2a_store::Unit;
use a2a_store::feed::{self, Cache, FeedStatus, LoadState};
use a2a_store::memory_view::MemoryView;
use a2a_store::memory_writer::MemoryWriter;
use a2a_store::store::{Location, Store};
use a2a_store::workflow_view::WorkflowView;
use a2a_store::workflow_writer::WorkflowWriter;
use a2a_store::writer::{WriteError, Writer};
use a2a_testing::wait::wait_until;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// How long anything may take that is bound to happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Process {
    pub(crate) store: Store,
    pub(crate) cache: Arc<Cache>,
    pub(crate) workflows: Arc<WorkflowView>,
    pub(crate) writer: Writer,
    pub(crate) workflow_writer: WorkflowWriter,
    pub(crate) memories: Arc<MemoryView>,
    pub(crate) memory_writer: MemoryWriter,
    pub(crate) status: Arc<FeedStatus>,
    shutdown: CancellationToken,
    feed: Option<JoinHandle<()>>,
}

pub(crate) fn in_secs(seconds: u64) -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(seconds)
}

impl Process {
    pub(crate) async fn start(location: &Location) -> Self {
        Self::with_store(Store::open(location).await.unwrap()).await
    }

    /// One that has vectors of an embedding model.
    pub(crate) async fn reading(location: &Location, model: &str) -> Self {
        Self::with_model(Store::open(location).await.unwrap(), Some(model.into())).await
    }

    /// Returns when the cache is loaded.
    pub(crate) async fn with_store(store: Store) -> Self {
        Self::with_model(store, None).await
    }

    async fn with_model(store: Store, model: Option<Arc<str>>) -> Self {
        let cache = Arc::new(Cache::of_model(model.clone()));
        let workflows = Arc::new(WorkflowView::default());
        let status = Arc::new(FeedStatus::default());
        let committed = Arc::new(Notify::new());
        let shutdown = CancellationToken::new();
        let writer = Writer::start(store.clone(), cache.clone(), committed.clone());
        let workflow_writer = WorkflowWriter::start(store.clone(), workflows.clone(), committed.clone());
        let memories = Arc::new(MemoryView::of_model(model));
        let memory_writer = MemoryWriter::start(store.clone(), memories.clone(), committed.clone());
        let feed = tokio::spawn(feed::run(
            store.clone(),
            cache.clone(),
            workflows.clone(),
            memories.clone(),
            status.clone(),
            committed,
            shutdown.clone(),
        ));
        let mut loaded = status.loaded();
        tokio::time::timeout(LIMIT, loaded.wait_for(|state| *state == LoadState::Loaded)).await.unwrap().unwrap();
        let mut recallable = memories.searchable();
        tokio::time::timeout(LIMIT, recallable.wait_for(|loaded| *loaded)).await.unwrap().unwrap();
        Self {
            store,
            cache,
            workflows,
            writer,
            workflow_writer,
            memories,
            memory_writer,
            status,
            shutdown,
            feed: Some(feed),
        }
    }

    pub(crate) async fn submit(&self, change: Change) -> Result<Outcome, WriteError> {
        let outcomes = self.writer.submit(vec![Unit::one(change)], false, in_secs(20)).await?;
        Ok(outcomes[0][0].clone())
    }

    /// Writes what has to succeed.
    #[track_caller]
    pub(crate) fn write(&self, change: Change) -> impl Future<Output = Outcome> {
        let caller = std::panic::Location::caller();
        async move {
            match self.submit(change).await {
                Ok(outcome) if outcome.is_success() => outcome,
                other => panic!("{caller}: {other:?}"),
            }
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Agent>> {
        self.cache.read().get(&Namespace::default(), id).cloned()
    }

    /// The revision in the cache, 0 for none.
    pub(crate) fn revision(&self, id: &str) -> i64 {
        self.get(id).map_or(0, |agent| agent.revision)
    }

    pub(crate) fn agents(&self) -> BTreeMap<AgentKey, Arc<Agent>> {
        self.cache.read().live().map(|agent| (agent.key(), agent.clone())).collect()
    }

    pub(crate) fn checks(&self) -> BTreeMap<AgentKey, Arc<AgentCheck>> {
        self.cache.read().checks().map(|(key, check)| (key, check.clone())).collect()
    }

    /// Ends the feed: from now on the cache shows what this process writes.
    pub(crate) async fn stop_feed(&mut self) {
        self.shutdown.cancel();
        if let Some(feed) = self.feed.take() {
            feed.await.unwrap();
        }
    }

    pub(crate) async fn stop(mut self) {
        self.writer.close(LIMIT).await;
        self.workflow_writer.close(LIMIT).await;
        self.memory_writer.close(LIMIT).await;
        self.stop_feed().await;
    }
}

/// Waits until every cache shows what the database holds, and ends the processes. Returns what the database holds.
pub(crate) async fn finish(world: &World, processes: Vec<Process>) -> BTreeMap<AgentKey, Arc<Agent>> {
    for process in &processes {
        process.writer.close(LIMIT).await;
    }
    let fresh = Process::start(&world.location()).await;
    let stored = fresh.agents();
    let live = world.count("SELECT count(*) FROM agents WHERE removed_at IS NULL").await;
    assert_eq!(i64::try_from(stored.len()).unwrap(), live);
    let start = Instant::now();
    for (number, process) in processes.iter().enumerate() {
        wait_until(Duration::from_secs(5), &format!("cache {number} to equal the database"), async || {
            process.agents() == stored && process.checks() == fresh.checks()
        })
        .await;
        assert_eq!(process.cache.read().len(), stored.len());
    }
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(3), "the caches took {elapsed:?}");
    for process in processes {
        process.stop().await;
    }
    fresh.stop().await;
    stored
}
