//! The feed: keeps the cache in step with what other processes commit.
//!
//! The part that follows workflows and runs is in `workflow_feed`, that of memories in `memory_feed`, that of contacts
//! with agents in `check_feed`.
//!
//! A session loads everything, then polls the change log, woken early by the database where it can. The log names keys
//! and revisions only; the rows are read when they are newer than what the cache holds. The cache refuses whatever is
//! not newer, so that the feed and the writer may tell it the same thing in any order.
//!
//! After any error the session is opened anew and everything is reconciled by revision, so that no missed wake-up, no
//! lost connection and no failover can lose a change.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use a2a_core::agent::Agent;
use a2a_core::change::Committed;
use a2a_core::ids::{AgentKey, MemoryId, Namespace, Revision, RunId, WorkflowId, WorkflowKey};
use a2a_core::memory::experience::AgentExperience;
use a2a_core::registry::{Prepared, Registry};
use a2a_core::time::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use crate::agent_cache::Cache;
use crate::agent_check::StoredCheck;
use crate::agent_row::stored_key;
use crate::agent_vectors;
use crate::check_feed;
use crate::error::StoreError;
use crate::in_order::in_order;
use crate::memory_feed;
use crate::memory_view::MemoryView;
use crate::postgres::PostgresFeed;
use crate::sqlite::SqliteFeed;
use crate::store::{AgentVersion, MemoryVersion, Store};
use crate::timing::Operation;
use crate::workflow_feed::{self, Fetched, Snapshot, Wanted};
use crate::workflow_row::read_step_log_id;
use crate::workflow_view::WorkflowView;

/// Agents handed over at once while loading: large enough to keep two threads busy, small enough to stay in cache.
pub(crate) const CHUNK_AGENTS: usize = 256;
/// Rows of the log read at once; when there are more, reconciling everything is cheaper than replaying them.
pub(crate) const POLL_ROWS_MAX: usize = 20_000;
/// Keys whose rows are fetched at once.
pub(crate) const FETCH_KEYS_MAX: usize = 1_000;
/// Agents put into the cache under one lock, so that readers wait for microseconds and not for a whole batch.
const APPLY_AGENTS_MAX: usize = 32;
/// Agents that are taken at once to be read for search.
const READ_AGENTS_MAX: usize = 4_096;
/// A feed that was not heard of for longer is reported with its age.
pub const STALE_AFTER: Duration = Duration::from_millis(1_000);
/// How long the cache remembers that an agent was removed: far longer than any older state can be on its way to it.
const REMEMBER_REMOVED: Duration = Duration::from_secs(600);
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// One row of the change log.
#[derive(Debug, Clone)]
pub(crate) enum FeedRow {
    /// An agent was written or removed.
    Agent(AgentKey, Revision),
    /// A contact with an agent was noted.
    AgentCheck(AgentKey, Revision),
    /// A model has read an agent.
    AgentEmbedding(AgentKey),
    /// A workflow was written or removed.
    Workflow(WorkflowKey, Revision),
    /// A run was made or has changed.
    Run { id: RunId, revision: Revision, ended: bool },
    /// A step has changed.
    Step { run: RunId, order: usize, revision: Revision },
    /// A memory was written or has gone.
    Memory(MemoryId, Revision),
    /// A model has read a memory.
    MemoryEmbedding(MemoryId),
    /// An agent has learned.
    Personality(AgentKey, Revision),
}

impl FeedRow {
    /// Reads the columns of a row. What this program does not know is `None`: nothing here follows it.
    pub(crate) fn stored(entity: &str, namespace: String, id: String, revision: Revision, op: &str) -> Option<Self> {
        match entity {
            "agent" => Some(Self::Agent(stored_key(namespace, id), revision)),
            "agent_embedding" => Some(Self::AgentEmbedding(stored_key(namespace, id))),
            "agent_check" => Some(Self::AgentCheck(stored_key(namespace, id), revision)),
            "workflow" => {
                let key = WorkflowKey { namespace: Namespace::from_stored(namespace), id: WorkflowId::from_stored(id) };
                Some(Self::Workflow(key, revision))
            }
            "run" => Some(Self::Run { id: RunId::from_stored(id), revision, ended: op == "remove" }),
            "memory" => Some(Self::Memory(MemoryId::from_stored(id), revision)),
            "memory_embedding" => Some(Self::MemoryEmbedding(MemoryId::from_stored(id))),
            "personality" => Some(Self::Personality(stored_key(namespace, id), revision)),
            "step" => read_step_log_id(&id).map(|(run, order)| Self::Step { run, order, revision }),
            _ => None,
        }
    }
}

/// The revision that the database has of a key.
#[derive(Debug, Clone)]
pub(crate) struct StoredRevision {
    pub(crate) key: AgentKey,
    pub(crate) revision: Revision,
    /// When this revision was made, `None` for what was purged.
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) removed: bool,
}

/// What a poll found.
#[derive(Debug)]
pub(crate) enum Poll {
    /// These keys changed since the last poll.
    Changes(Vec<FeedRow>),
    /// The log does not tell everything: compare all revisions.
    Reconcile,
}

/// One connection that follows the database.
#[derive(Debug)]
pub(crate) enum FeedSession {
    /// Woken by `NOTIFY`.
    Postgres(Box<PostgresFeed>),
    /// Looks at the file.
    Sqlite(SqliteFeed),
}

macro_rules! on_session {
    ($self:ident, $feed:ident => $call:expr) => {
        match $self {
            FeedSession::Postgres($feed) => $call.await,
            FeedSession::Sqlite($feed) => $call.await,
        }
    };
}

impl FeedSession {
    async fn load(&mut self, agents: mpsc::Sender<Vec<Agent>>) -> Result<(), StoreError> {
        on_session!(self, feed => feed.load(agents))
    }

    async fn poll(&mut self) -> Result<Poll, StoreError> {
        on_session!(self, feed => feed.poll())
    }

    async fn fetch(&mut self, keys: &[AgentKey]) -> Result<Vec<AgentVersion>, StoreError> {
        on_session!(self, feed => feed.fetch(keys))
    }

    /// The contacts, workflows and live runs that the last load or comparison has read in its own snapshot.
    pub(crate) fn take_snapshot(&mut self) -> Snapshot {
        match self {
            Self::Postgres(feed) => feed.take_snapshot(),
            Self::Sqlite(feed) => feed.take_snapshot(),
        }
    }

    pub(crate) async fn fetch_workflows(&mut self, wanted: Wanted) -> Result<Fetched, StoreError> {
        on_session!(self, feed => feed.fetch_workflows(wanted))
    }

    pub(crate) async fn fetch_checks(&mut self, keys: &[AgentKey]) -> Result<Vec<StoredCheck>, StoreError> {
        on_session!(self, feed => feed.fetch_checks(keys))
    }

    pub(crate) async fn fetch_memories(
        &mut self,
        ids: &[MemoryId],
        agents: &[AgentKey],
    ) -> Result<(Vec<MemoryVersion>, Vec<AgentExperience>), StoreError> {
        on_session!(self, feed => feed.fetch_memories(ids, agents))
    }

    async fn revisions(&mut self) -> Result<Vec<StoredRevision>, StoreError> {
        on_session!(self, feed => feed.revisions())
    }

    /// Until it is time to poll. `committed` tells that this process has committed something that others must hear of.
    async fn wait(&mut self, committed: &Notify) -> Result<(), StoreError> {
        match self {
            Self::Postgres(feed) => feed.wait(committed).await,
            Self::Sqlite(feed) => {
                feed.wait().await;
                Ok(())
            }
        }
    }
}

/// How the feed is doing; read by every reply.
#[derive(Debug)]
pub struct FeedStatus {
    start: Instant,
    /// Milliseconds after `start` at which the cache was last known to equal the database.
    fresh_ms: AtomicU64,
    loaded: watch::Sender<LoadState>,
    searchable: watch::Sender<bool>,
    connected: AtomicBool,
    reconciled: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// Whether the cache has been filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadState {
    /// Not yet; with the reason why not, once an attempt has failed.
    Loading(Option<String>),
    /// It will not be: somebody has to change something first.
    Failed(String),
    /// Yes.
    Loaded,
}

impl Default for FeedStatus {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            fresh_ms: AtomicU64::new(0),
            loaded: watch::Sender::new(LoadState::Loading(None)),
            searchable: watch::Sender::new(false),
            connected: AtomicBool::new(false),
            reconciled: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }
}

impl FeedStatus {
    /// How old the cache may be, when that is more than [`STALE_AFTER`].
    #[must_use]
    pub fn stale(&self) -> Option<Duration> {
        let age = self.age();
        (age > STALE_AFTER).then_some(age)
    }

    /// The time since the cache was last known to equal the database.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.fresh_ms.load(Ordering::Relaxed)))
    }

    /// Whether the feed has a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// How many times all revisions were compared.
    #[must_use]
    pub fn reconciled(&self) -> u64 {
        self.reconciled.load(Ordering::Relaxed)
    }

    /// The last error of the feed, while it lasts.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    /// Follows whether the cache has been filled.
    #[must_use]
    pub fn loaded(&self) -> watch::Receiver<LoadState> {
        self.loaded.subscribe()
    }

    /// Follows whether search knows every agent, which takes longer than filling the cache.
    #[must_use]
    pub fn searchable(&self) -> watch::Receiver<bool> {
        self.searchable.subscribe()
    }

    /// Reports why there is no store yet.
    pub fn unavailable(&self, error: &StoreError) {
        self.failed(error);
        if !error.is_transient() && *self.loaded.borrow() != LoadState::Loaded {
            self.loaded.send_replace(LoadState::Failed(error.to_string()));
        }
    }

    fn failed(&self, error: &StoreError) {
        self.connected.store(false, Ordering::Relaxed);
        *self.last_error.lock() = Some(error.to_string());
        self.loaded.send_if_modified(|state| {
            if *state == LoadState::Loaded {
                return false;
            }
            *state = LoadState::Loading(Some(error.to_string()));
            true
        });
    }

    /// `at` is a time before the database was asked.
    fn fresh(&self, at: Instant) {
        let millis = at.saturating_duration_since(self.start).as_millis();
        self.fresh_ms.fetch_max(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
        if !self.connected.swap(true, Ordering::Relaxed) {
            *self.last_error.lock() = None;
        }
    }
}

/// Follows the database until `shutdown`. `committed` is notified by the writers after each commit.
pub async fn run(
    store: Store,
    cache: Arc<Cache>,
    workflows: Arc<WorkflowView>,
    memories: Arc<MemoryView>,
    status: Arc<FeedStatus>,
    committed: Arc<Notify>,
    shutdown: CancellationToken,
) {
    const RETRY_MIN: Duration = Duration::from_millis(50);
    const RETRY_MAX: Duration = Duration::from_millis(500);
    let mut retry = RETRY_MIN;
    loop {
        let started = Instant::now();
        let result = tokio::select! {
            () = shutdown.cancelled() => return,
            result = follow(&store, &cache, &workflows, &memories, &status, &committed, &shutdown) => result,
        };
        if let Err(error) = result {
            // Once for each outage: reconnecting fails many times while it lasts.
            if status.is_connected() {
                tracing::warn!(%error, "the feed lost the database; reads go on from memory while it is away");
            } else {
                tracing::debug!(%error, "the feed still has no database");
            }
            status.failed(&error);
        }
        // A session that lasted shows that the database was there, so that the next attempt comes soon.
        retry = if started.elapsed() > Duration::from_secs(5) { RETRY_MIN } else { (retry * 2).min(RETRY_MAX) };
        let pause = retry.mul_f64(rand::random_range(0.5..1.0));
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One session, until it fails.
async fn follow(
    store: &Store,
    cache: &Arc<Cache>,
    workflows: &WorkflowView,
    memories: &Arc<MemoryView>,
    status: &Arc<FeedStatus>,
    committed: &Notify,
    shutdown: &CancellationToken,
) -> Result<(), StoreError> {
    let before = Instant::now();
    let mut session = store.feed().await?;
    if *status.loaded.borrow() == LoadState::Loaded {
        reconcile_all(store, &mut session, cache, workflows, memories, status).await?;
    } else {
        load(&mut session, cache).await?;
        let mut snapshot = session.take_snapshot();
        check_feed::apply(cache, std::mem::take(&mut snapshot.checks));
        workflow_feed::load(workflows, snapshot);
        status.loaded.send_replace(LoadState::Loaded);
        let shutdown = shutdown.clone();
        // It ends by itself, and early at shutdown; nobody has to wait for it but searches.
        tokio::task::spawn_blocking({
            let (cache, status, shutdown) = (cache.clone(), status.clone(), shutdown.clone());
            move || make_searchable(&cache, &status, &shutdown)
        });
        tokio::spawn(memory_feed::load_all(store.clone(), cache.clone(), memories.clone(), shutdown));
    }
    status.fresh(before);
    let mut forgotten = Instant::now();
    loop {
        let before = Instant::now();
        let polled = session.poll().await;
        store.timings().note(Operation::FeedPoll, before, polled.is_err());
        let poll = polled?;
        if let FeedSession::Postgres(feed) = &mut session {
            feed.take_told().into_iter().for_each(|told| workflows.clock().learn(told));
        }
        match poll {
            Poll::Changes(rows) if rows.is_empty() => {}
            Poll::Changes(rows) => {
                // Workflows first: somebody may wait for the next step, and there are few of them.
                workflow_feed::apply_changes(&mut session, workflows, &rows).await?;
                apply_changes(&mut session, cache, &rows).await?;
                // Ordering: after the agents, because what is older than the agent is refused.
                check_feed::apply_changes(&mut session, cache, &rows).await?;
                // Ordering: after the agents, because a vector of one that is not there is dropped.
                agent_vectors::apply(store, cache, &rows).await?;
                memory_feed::apply_changes(&mut session, memories, &rows).await?;
                // Ordering: after the memories, because a vector of one that is not there is dropped.
                memory_feed::apply_vectors(store, memories, &rows).await?;
            }
            Poll::Reconcile => reconcile_all(store, &mut session, cache, workflows, memories, status).await?,
        }
        status.fresh(before);
        if forgotten.elapsed() > FORGET_INTERVAL {
            forgotten = Instant::now();
            let horizon = now().0.saturating_sub(i64::try_from(REMEMBER_REMOVED.as_millis()).unwrap_or(i64::MAX));
            cache.write().forget_removed_before(Timestamp(horizon));
            workflows.forget_before(Timestamp(horizon));
            memories.forget_before(Timestamp(horizon));
        }
        session.wait(committed).await?;
    }
}

/// Compares everything with the database.
async fn reconcile_all(
    store: &Store,
    session: &mut FeedSession,
    cache: &Arc<Cache>,
    workflows: &WorkflowView,
    memories: &MemoryView,
    status: &FeedStatus,
) -> Result<(), StoreError> {
    let before = memory_feed::known(memories);
    reconcile(session, cache, workflows, status).await?;
    agent_vectors::adopt(store, cache).await?;
    memory_feed::reconcile(store, memories, &before).await
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

/// Reads the words of what was loaded, which takes far longer than loading it.
fn make_searchable(cache: &Cache, status: &FeedStatus, shutdown: &CancellationToken) {
    while !shutdown.is_cancelled() {
        let unread = cache.read().unread(READ_AGENTS_MAX);
        if unread.is_empty() {
            status.searchable.send_replace(true);
            return;
        }
        let read = |agent: &Arc<Agent>| Prepared::new(Committed::Agent(Arc::clone(agent)));
        let parts: Vec<&[Arc<Agent>]> = unread.chunks(APPLY_AGENTS_MAX).collect();
        in_order(&parts, |part| part.iter().map(read).collect::<Vec<_>>(), |read| cache.write().make_searchable(&read));
    }
}

/// Fills the cache but for what search needs. Reading and indexing go on at the same time, on two threads.
async fn load(session: &mut FeedSession, cache: &Arc<Cache>) -> Result<(), StoreError> {
    // What an attempt that failed has left may have been removed since. Nobody reads or writes before the load is done.
    *cache.write() = Registry::new();
    // Bounded: a few chunks ahead are enough to keep both sides busy.
    let (sender, mut receiver) = mpsc::channel::<Vec<Agent>>(4);
    let (target, loading_since) = (cache.clone(), now());
    let indexing = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = receiver.blocking_recv() {
            let mut cache = target.write();
            for agent in chunk {
                cache.apply_unread(Committed::Agent(Arc::new(agent)), loading_since);
            }
        }
    });
    let loaded = session.load(sender).await;
    indexing.await.map_err(|error| StoreError::Task(error.to_string()))?;
    loaded
}

/// Puts committed states into the cache, a few under each lock.
pub(crate) fn apply(cache: &Cache, prepared: impl IntoIterator<Item = Prepared>) {
    let mut prepared = prepared.into_iter();
    loop {
        // Collected first: reading words while holding the lock would keep readers waiting.
        let some: Vec<Prepared> = prepared.by_ref().take(APPLY_AGENTS_MAX).collect();
        if some.is_empty() {
            return cache.changed();
        }
        let (mut cache, now) = (cache.write(), now());
        for state in some {
            cache.apply_prepared(state, now);
        }
    }
}

async fn apply_changes(session: &mut FeedSession, cache: &Cache, rows: &[FeedRow]) -> Result<(), StoreError> {
    let mut newest: HashMap<AgentKey, Revision> = HashMap::new();
    {
        let cache = cache.read();
        for row in rows {
            let FeedRow::Agent(key, revision) = row else { continue };
            if cache.known_revision(key).is_none_or(|known| known < *revision) {
                let newest = newest.entry(key.clone()).or_insert(*revision);
                *newest = (*revision).max(*newest);
            }
        }
    }
    fetch_into(session, cache, newest).await
}

/// Reads the rows of `keys` and applies them; what has no row any more was removed at the revision that is given.
async fn fetch_into(
    session: &mut FeedSession,
    cache: &Cache,
    keys: HashMap<AgentKey, Revision>,
) -> Result<(), StoreError> {
    let all: Vec<AgentKey> = keys.keys().cloned().collect();
    for part in all.chunks(FETCH_KEYS_MAX) {
        let mut gone: HashMap<AgentKey, Revision> =
            part.iter().filter_map(|key| Some((key.clone(), *keys.get(key)?))).collect();
        let mut states = Vec::with_capacity(part.len());
        for version in session.fetch(part).await? {
            let key = version.agent.key();
            gone.remove(&key);
            states.push(match version.removed_at {
                Some(_) => Committed::Removed(key, version.agent.revision),
                None => Committed::Agent(version.agent),
            });
        }
        states.extend(gone.into_iter().map(|(key, revision)| Committed::Removed(key, revision)));
        apply(cache, states.into_iter().map(Prepared::new));
    }
    Ok(())
}

/// Compares every revision of the cache with the database.
async fn reconcile(
    session: &mut FeedSession,
    cache: &Cache,
    workflows: &WorkflowView,
    status: &FeedStatus,
) -> Result<(), StoreError> {
    status.reconciled.fetch_add(1, Ordering::Relaxed);
    // Ordering: the cache is read before the database. What the cache shows was committed before, so that a database
    // with an older state has gone back, as after the failover to a replica that was behind.
    let mut unseen: Unseen =
        cache.read().live().map(|agent| (agent.key(), (agent.revision, agent.updated_at))).collect();
    let known_checks = check_feed::known(cache);
    let known_workflows = workflows.read().known();
    let stored = session.revisions().await?;
    let mut snapshot = session.take_snapshot();
    let checks = std::mem::take(&mut snapshot.checks);
    workflow_feed::reconcile(session, workflows, &known_workflows, snapshot).await?;
    reconcile_agents(session, cache, &mut unseen, stored).await?;
    // Ordering: after the agents, because what is older than the agent is refused.
    check_feed::reconcile(cache, &known_checks, checks);
    Ok(())
}

/// What the cache had of each agent before the database was read.
type Unseen = HashMap<AgentKey, (Revision, Timestamp)>;

async fn reconcile_agents(
    session: &mut FeedSession,
    cache: &Cache,
    unseen: &mut Unseen,
    stored: Vec<StoredRevision>,
) -> Result<(), StoreError> {
    let mut changed = HashMap::new();
    let mut lost: Vec<AgentKey> = Vec::new();
    for row in stored {
        match unseen.remove(&row.key) {
            Some((known, _)) if known < row.revision => {
                changed.insert(row.key, row.revision);
            }
            // The same revision made at another time is another one: one of both was made after the database went
            // back.
            Some((known, at)) if known > row.revision || row.removed || row.updated_at != Some(at) => {
                lost.push(row.key);
            }
            // What the cache knows to be removed is there again.
            None if !row.removed && cache.read().known_revision(&row.key) >= Some(row.revision) => lost.push(row.key),
            None if !row.removed => {
                changed.insert(row.key, row.revision);
            }
            _ => {}
        }
    }
    lost.extend(unseen.drain().map(|(key, _)| key));
    fetch_into(session, cache, changed).await?;
    if lost.is_empty() {
        return Ok(());
    }
    tracing::warn!(agents = lost.len(), "the database has gone back; taking over its state");
    for part in lost.chunks(FETCH_KEYS_MAX) {
        let rows = session.fetch(part).await?;
        let mut cache = cache.write();
        for key in part {
            cache.forget(key);
        }
        for version in rows.into_iter().filter(|version| version.removed_at.is_none()) {
            cache.apply(Committed::Agent(version.agent), now());
        }
        drop(cache);
    }
    Ok(())
}
