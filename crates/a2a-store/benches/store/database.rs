//! Databases to measure on, and the running store over one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::change::{AgentPut, Change, Mutation};
use a2a_core::ids::{Actor, OpId};
use a2a_store::Unit;
use a2a_store::database_url::DatabaseUrl;
use a2a_store::feed::{self, Cache, FeedStatus, LoadState};
use a2a_store::memory_view::MemoryView;
use a2a_store::store::Store;
use a2a_store::writer::Writer;
use a2a_testing::postgres::{PostgresServer, TestDatabase};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::roster;

/// A migrated, empty database.
pub(crate) enum Database {
    Postgres(TestDatabase),
    Sqlite(tempfile::TempDir),
}

impl Database {
    pub(crate) async fn postgres(server: &PostgresServer) -> Self {
        Self::Postgres(TestDatabase::create(server).await).migrated().await
    }

    pub(crate) async fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap()).migrated().await
    }

    async fn migrated(self) -> Self {
        drop(open(&self.url()).await);
        self
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Postgres(database) => database.url(),
            Self::Sqlite(folder) => format!("sqlite:{}", folder.path().join("a2a.db").display()),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "Postgres",
            Self::Sqlite(_) => "SQLite",
        }
    }
}

pub(crate) async fn open(url: &str) -> Store {
    Store::open(&DatabaseUrl::parse(url).unwrap().into()).await.unwrap()
}

/// Everything of a process that touches the database.
pub(crate) struct Running {
    pub(crate) cache: Arc<Cache>,
    pub(crate) memories: Arc<MemoryView>,
    status: Arc<FeedStatus>,
    pub(crate) writer: Writer,
    shutdown: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Running {
    /// Opens the database and returns when the cache is filled.
    pub(crate) async fn start(url: &str) -> Self {
        let store = open(url).await;
        let cache = Arc::new(Cache::default());
        let status: Arc<FeedStatus> = Arc::default();
        let committed = Arc::new(Notify::new());
        let shutdown = CancellationToken::new();
        let writer = Writer::start(store.clone(), cache.clone(), committed.clone());
        let mut loaded = status.loaded();
        let workflows = Arc::default();
        let memories: Arc<MemoryView> = Arc::default();
        tokio::spawn(feed::run(
            store,
            cache.clone(),
            workflows,
            memories.clone(),
            status.clone(),
            committed,
            shutdown.clone(),
        ));
        loaded.wait_for(|state| *state == LoadState::Loaded).await.unwrap();
        Self { cache, memories, status, writer, shutdown }
    }

    /// Returns when search knows every agent.
    pub(crate) async fn searchable(&self) {
        self.status.searchable().wait_for(|searchable| *searchable).await.unwrap();
    }

    /// Returns when every memory is loaded.
    pub(crate) async fn remembering(&self) {
        self.memories.loaded().wait_for(|loaded| *loaded).await.unwrap();
    }

    /// Returns when every memory can be recalled.
    pub(crate) async fn recallable(&self) {
        self.memories.searchable().wait_for(|searchable| *searchable).await.unwrap();
    }

    /// Commits units, each for itself, and returns how long that took.
    pub(crate) async fn commit(&self, units: Vec<Unit>) -> Duration {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let start = Instant::now();
        let outcomes = self.writer.submit(units, false, deadline).await.unwrap();
        let took = start.elapsed();
        assert!(outcomes.iter().flatten().all(a2a_core::change::Outcome::is_success));
        took
    }
}

/// The deploy of one agent. The document and its hash are made here, as each deploy has to.
pub(crate) fn deploy_of(spec: a2a_core::agent::AgentSpec) -> Unit {
    let put = AgentPut::new(spec, true).unwrap();
    Unit::one(Change {
        op_id: OpId::new(),
        mutation: Mutation::AgentPut(Box::new(put)),
        expected_revision: None,
        actor: Actor::new("bench"),
    })
}

/// Deploys agents 0 to `agents`.
pub(crate) async fn fill(url: &str, agents: usize) {
    let running = Running::start(url).await;
    for first in (0..agents).step_by(1_000) {
        running.commit((first..agents.min(first + 1_000)).map(|n| deploy_of(roster::spec(n, 0))).collect()).await;
    }
    assert_eq!(running.cache.read().len(), agents);
    running.writer.close(Duration::from_secs(5)).await;
}
