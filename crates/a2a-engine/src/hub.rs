//! The running system: one method for each operation. Every face calls these.

mod agent_checks;
mod agents;
#[cfg(test)]
mod clock_tests;
mod memories;
mod memory_changes;
mod recall;
mod run_list;
mod runs;
mod stats;
mod step_memories;
mod work;
mod workflows;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use a2a_core::ids::Namespace;
use a2a_core::time::Timestamp;
use a2a_store::error::StoreError;
use a2a_store::feed::{self, Cache, FeedStatus, LoadState};
use a2a_store::memory_view::MemoryView;
use a2a_store::memory_writer::MemoryWriter;
use a2a_store::snapshot::SnapshotError;
use a2a_store::snapshot::sync::Mirror;
use a2a_store::store::Store;
pub use a2a_store::store::{ToolUsage, WorkflowVersion};
use a2a_store::workflow_view::WorkflowView;
use a2a_store::workflow_writer::WorkflowWriter;
use a2a_store::writer::Writer;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, StorageMode};
use crate::contacts::Contacts;
use crate::embedder::Embeddings;
use crate::embedder::reader::Reader;
use crate::error::HubError;
use crate::executors::Executors;
use crate::heartbeat::Heartbeat;
use crate::learner::Learner;
use crate::maintenance;
use crate::runner::{Runner, Surroundings};
use crate::sync::Syncer;

pub use a2a_store::store::OperationTiming;
pub use agent_checks::{CheckOutcome, CheckedAgent};
pub use agents::{
    AgentHistoryEntry, DeployOptions, DeployedAgent, Durability, RemoveOptions, RemovedAgent, UpdateOptions,
    WriteStatus,
};
pub use memories::{CheckedMemory, MemoryInput, MemoryStoreOptions, StoredMemories, StoredMemory, StoredStatus, Told};
pub use memory_changes::{Feedback, ForgetQuery, Forgotten, MemoryUpdate, UpdatedMemory};
pub use recall::{MemoryMatches, Suggestions};
pub use run_list::{RunList, RunQuery, RunSummary, StepPayloads};
pub use runs::{INLINE_WORKFLOW, InvokeRequest, RunControl, RunRequest, StartedRun, workflow_name};
pub use stats::{DatabaseStats, FeedStats, HubStats};
pub use work::{HandedIn, PROGRESS_WITHIN, WorkItem, WorkOutcome, WorkUpdate};
pub use workflows::{SaveOptions, SavedWorkflow, WorkflowPage};

/// How long what was accepted may take to be committed when the process ends.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Longer names of clients are cut.
const CLIENT_CHARS_MAX: usize = 200;
/// How long taking the sign of life away may take; otherwise others do it.
const LEAVE_LIMIT: Duration = Duration::from_millis(300);
/// How long giving back the steps that are worked on may take; those that are not are free when their leases run out.
const RELEASE_LIMIT: Duration = Duration::from_millis(300);

/// The running system. Cheap to clone; all clones are the same system.
#[derive(Debug, Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    cache: Arc<Cache>,
    workflows: Arc<WorkflowView>,
    memories: Arc<MemoryView>,
    recalled: recall::RecalledTexts,
    embeddings: Option<Arc<Embeddings>>,
    feed: Arc<FeedStatus>,
    client: Arc<OnceLock<String>>,
    running: OnceLock<Running>,
    shutdown: CancellationToken,
    /// Those that give something back at the end.
    tasks: TaskTracker,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What exists once the database was opened.
#[derive(Debug, Clone)]
struct Running {
    store: Store,
    writer: Writer,
    workflow_writer: WorkflowWriter,
    memory_writer: MemoryWriter,
    learner: Learner,
    runner: Runner,
    contacts: Contacts,
    heartbeat: Option<Arc<Heartbeat>>,
    syncer: Option<Arc<Syncer>>,
}

impl Hub {
    /// Starts the system and returns at once; the database is opened in the background, and tried again until it is
    /// there. Must be called within a tokio runtime.
    #[must_use]
    pub fn open(config: Config) -> Self {
        let embeddings = config.embedder.as_ref().map(|settings| Arc::new(Embeddings::new(settings)));
        let model = embeddings.as_ref().map(|embeddings| embeddings.name().clone());
        let inner = Arc::new(Inner {
            config,
            cache: Arc::new(Cache::of_model(model.clone())),
            workflows: Arc::default(),
            memories: Arc::new(MemoryView::of_model(model)),
            recalled: recall::RecalledTexts::default(),
            embeddings,
            feed: Arc::default(),
            client: Arc::default(),
            running: OnceLock::new(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        tokio::spawn(run(inner.clone()));
        Self { inner }
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The namespace of calls that name none.
    #[must_use]
    pub fn default_namespace(&self) -> &Namespace {
        &self.inner.config.namespace
    }

    /// Waits until the agents are loaded, for as long as a call may wait.
    ///
    /// # Errors
    /// [`HubError::NotReady`] or [`HubError::Unusable`].
    pub async fn ready(&self) -> Result<(), HubError> {
        self.running().await.map(drop)
    }

    async fn running(&self) -> Result<&Running, HubError> {
        let mut loaded = self.inner.feed.loaded();
        // Nearly always; the rest takes a timer and copies.
        if let (LoadState::Loaded, Some(running)) = (&*loaded.borrow(), self.inner.running.get()) {
            return Ok(running);
        }
        let wait = loaded.wait_for(|state| !matches!(state, LoadState::Loading(_)));
        let state = match tokio::time::timeout(self.inner.config.ready_timeout, wait).await {
            Ok(Ok(state)) => state.clone(),
            // The feed ended, or it takes too long.
            _ => self.inner.feed.loaded().borrow().clone(),
        };
        match (state, self.inner.running.get()) {
            (LoadState::Loaded, Some(running)) => Ok(running),
            (LoadState::Failed(reason), _) => {
                tracing::error!(%reason, "the database can't be used");
                Err(HubError::Unusable { reason: public_reason(&reason) })
            }
            (LoadState::Loading(reason), _) => Err(HubError::NotReady { reason: reason.as_deref().map(public_reason) }),
            (LoadState::Loaded, None) => Err(HubError::NotReady { reason: None }),
        }
    }

    /// Waits until search knows every agent, within the time that a call may wait for everything.
    async fn searchable(&self) -> Result<(), HubError> {
        self.running_and(self.inner.feed.searchable(), "the words of the agents are still being read").await.map(drop)
    }

    /// Waits until agents are loaded and something else has become true, within the time that a call may wait for everything.
    async fn running_and(&self, mut and: watch::Receiver<bool>, otherwise: &'static str) -> Result<&Running, HubError> {
        let until = Instant::now() + self.inner.config.ready_timeout;
        let running = self.running().await?;
        if *and.borrow() {
            return Ok(running);
        }
        match tokio::time::timeout_at(until, and.wait_for(|is_true| *is_true)).await {
            Ok(Ok(_)) => Ok(running),
            _ => Err(HubError::NotReady { reason: Some(otherwise.to_owned()) }),
        }
    }

    /// Refuses what a replica can't do, before anything is begun.
    fn writable(&self) -> Result<(), HubError> {
        if self.inner.config.storage == StorageMode::Replica { Err(HubError::ReadOnly) } else { Ok(()) }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.inner.config.write_timeout
    }

    /// What a successful write can claim.
    #[must_use]
    pub fn durability(&self) -> Durability {
        match self.inner.config.storage {
            StorageMode::Persisted | StorageMode::Replica => Durability::Committed,
            StorageMode::Memory | StorageMode::Backup => Durability::Accepted,
        }
    }

    /// In mode `backup`, when what is written now will be in the database.
    #[must_use]
    pub fn next_sync(&self) -> Option<Timestamp> {
        Some(self.inner.running.get()?.syncer.as_ref()?.next_at())
    }

    /// How old the answers of reads may be, when that is worth telling.
    #[must_use]
    pub fn stale(&self) -> Option<Duration> {
        self.inner.feed.stale()
    }

    /// Notes what the client of this process calls itself, for those who look after the database.
    pub fn client_named(&self, name: &str) {
        // The first name counts.
        self.inner.client.get_or_init(|| name.chars().take(CLIENT_CHARS_MAX).collect());
    }

    /// Notes a tool call for analytics.
    pub fn tool_used(&self, usage: ToolUsage) {
        if let Some(running) = self.inner.running.get() {
            running.writer.tool_used(usage);
        }
    }

    /// After [`Self::close`], in mode `backup`: brings everything into the database, within seconds, or says that it
    /// could not.
    pub async fn sync_at_end(&self) {
        if let Some(syncer) = self.inner.running.get().and_then(|running| running.syncer.as_ref()) {
            syncer.finish().await;
        }
    }

    /// Ends the system: commits what was accepted, within a second, and reports the rest to its callers as not done.
    pub async fn close(&self) {
        if let Some(running) = self.inner.running.get() {
            // Ordering: the runner gives its steps back through the writer, which therefore closes after it.
            running.runner.close(RELEASE_LIMIT).await;
            tokio::join!(
                running.writer.close(CLOSE_LIMIT),
                running.workflow_writer.close(CLOSE_LIMIT),
                running.memory_writer.close(CLOSE_LIMIT),
                async {
                    if let Some(heartbeat) = &running.heartbeat {
                        heartbeat.leave(LEAVE_LIMIT).await;
                    }
                },
            );
        }
        self.inner.shutdown.cancel();
        if self.inner.running.get().is_some()
            && tokio::time::timeout(RELEASE_LIMIT, self.inner.tasks.wait()).await.is_err()
        {
            tracing::debug!("a task in the background has not ended in time");
        }
    }
}

/// Opens the database and follows it until the end.
async fn run(inner: Arc<Inner>) {
    let Some(Opened { store, mirror }) = open_store(&inner).await else { return };
    let committed = Arc::new(Notify::new());
    let writer = Writer::start(store.clone(), inner.cache.clone(), committed.clone());
    let workflow_writer = WorkflowWriter::start(store.clone(), inner.workflows.clone(), committed.clone());
    let memory_writer = MemoryWriter::start(store.clone(), inner.memories.clone(), committed.clone());
    let learner = Learner::new(inner.config.learn.then(|| memory_writer.clone()));
    let contacts = Contacts::new(inner.cache.clone(), writer.clone());
    let surroundings = Surroundings {
        store: store.clone(),
        view: inner.workflows.clone(),
        agents: inner.cache.clone(),
        writer: workflow_writer.clone(),
        contacts: contacts.clone(),
        learner: learner.clone(),
    };
    let executors = Executors::new(inner.config.operator.clone());
    let runner = Runner::start(inner.config.runner.clone(), executors, surroundings);
    // The signs of life are in the database, where others look.
    let database = mirror.as_ref().map_or_else(|| store.clone(), |mirror| mirror.target().clone());
    let syncer = mirror.map(|mirror| Syncer::start(mirror, inner.config.backup_interval));
    let heartbeat = Heartbeat::start(&inner.config, database, inner.client.clone(), syncer.clone()).map(Arc::new);
    let running = Running {
        store: store.clone(),
        writer,
        workflow_writer,
        memory_writer,
        learner,
        runner,
        contacts,
        heartbeat,
        syncer,
    };
    if inner.running.set(running).is_err() {
        tracing::error!("the system was started twice");
        return;
    }
    if let Some(embeddings) = inner.embeddings.as_ref().filter(|_| inner.config.reads_memories) {
        let reader = Reader::new(
            embeddings.clone(),
            store.clone(),
            inner.cache.clone(),
            inner.memories.clone(),
            committed.clone(),
            inner.shutdown.clone(),
        );
        inner.tasks.spawn(reader.run());
    }
    inner.tasks.close();
    feed::run(
        store,
        inner.cache.clone(),
        inner.workflows.clone(),
        inner.memories.clone(),
        inner.feed.clone(),
        committed,
        inner.shutdown.clone(),
    )
    .await;
}

/// What a process works with, and in mode `backup` what brings it together with the database.
struct Opened {
    store: Store,
    mirror: Option<Mirror>,
}

async fn open_in_mode(config: &Config) -> Result<Opened, StoreError> {
    let store = maintenance::open(config).await?;
    if config.storage != StorageMode::Backup {
        return Ok(Opened { store, mirror: None });
    }
    let mirror = Mirror::open(store).await.map_err(|error| match error {
        SnapshotError::Store(error) => error,
        other => StoreError::Task(other.to_string()),
    })?;
    Ok(Opened { store: mirror.memory().clone(), mirror: Some(mirror) })
}

async fn open_store(inner: &Inner) -> Option<Opened> {
    const RETRY: Duration = Duration::from_millis(250);
    /// Somebody has to change something first; a process that lives on finds out without much noise.
    const RETRY_UNUSABLE: Duration = Duration::from_secs(5);
    let mut told = String::new();
    loop {
        let opened = tokio::select! {
            () = inner.shutdown.cancelled() => return None,
            opened = open_in_mode(&inner.config) => opened,
        };
        let error: StoreError = match opened {
            Ok(opened) => return Some(opened),
            Err(error) => error,
        };
        let text = error.to_string();
        // Once for each reason: an outage may last, and the log of a client is read by people.
        if text != told {
            tracing::warn!(%error, "the database can't be opened; trying until it can");
            told = text;
        }
        inner.feed.unavailable(&error);
        let pause = if error.is_transient() { RETRY } else { RETRY_UNUSABLE };
        tokio::select! {
            () = inner.shutdown.cancelled() => return None,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The part of an error of the store that a caller may see: its kind, not hosts or paths, which `doctor` shows.
fn public_reason(error: &str) -> String {
    const KNOWN: [(&str, &str); 7] = [
        ("has schema", "the database was made by a newer version of a2a-mcp"),
        ("lacks tables", "the database is older than this program, and a replica can't bring it up to date"),
        ("refused", "the database server refuses connections"),
        ("authentication", "the database does not accept the credentials"),
        ("does not exist", "the database does not exist"),
        ("SQLite file", "the database file can't be opened"),
        ("migration failed", "the database could not be brought up to date"),
    ];
    KNOWN
        .iter()
        .find(|(part, _)| error.contains(part))
        .map_or("the database can't be reached", |(_, reason)| reason)
        .to_owned()
}
