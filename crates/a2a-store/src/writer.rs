//! The writer: the one task of a process that writes to the database.
//!
//! It takes whatever is queued (when idle it does not wait for more) and commits it as one transaction, puts the
//! result into the cache, and then answers. While one batch is being committed the next one gathers, so that the batch
//! size follows the load by itself. A batch that has others behind it is answered while the database has the next one.
//!
//! A write lives here until it is answered, never in the task of the caller: a cancelled request cannot leave a
//! transaction open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant as StdInstant};

use a2a_core::agent::Agent;
use a2a_core::change::{Change, Committed, Mutation, Outcome};
use a2a_core::ids::{AgentKey, OpId};
use a2a_core::limits;
use a2a_core::registry::{Prepared, Reading};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::agent_check::NotedCheck;
use crate::check_feed;
use crate::error::StoreError;
use crate::feed::{self, Cache};
use crate::queue::{self, CLOSING_LIMIT, Queue, Unanswered};
use crate::round::Unit;
use crate::store::{Retention, Store, ToolUsage};

/// What an overloaded caller is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Most changes of one transaction: it should be over in well under a second.
const BATCH_CHANGES_MAX: usize = 1_000;
/// Most bytes of one transaction.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// From so many changes on, or so many bytes, their words are read on another thread.
const READ_ASIDE_CHANGES_MIN: usize = 32;
const READ_ASIDE_BYTES_MIN: usize = 64 * 1024;
/// From so many changes on, putting them into the cache takes long enough to do it on another thread.
const ANSWER_ASIDE_CHANGES_MIN: usize = 256;
/// Pauses between attempts. The longest one is well below the time in which service has to be normal again.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(300);
/// Tool calls waiting to be written; the oldest are given up when the database is away for long.
const TELEMETRY_ROWS_MAX: usize = 10_000;
/// Agents whose last contact is waiting to be written.
const CHECKS_MAX: usize = 10_000;
const TELEMETRY_INTERVAL: Duration = Duration::from_secs(1);
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);
const IDLE_INTERVAL: Duration = Duration::from_secs(30);

/// Why a write has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The queue stayed full. Nothing was done.
    #[error("too many writes are waiting; try again in {} ms", retry_after.as_millis())]
    Overloaded {
        /// When to come back.
        retry_after: Duration,
    },
    /// The database did not take the write before its deadline. Nothing was done.
    #[error("the database did not take the write in time; nothing was changed")]
    NotDone {
        /// What the database, or the way to it, said last.
        cause: Option<String>,
    },
    /// The connection was lost while the write was being committed: it may have happened or not.
    #[error("the connection was lost while the write was being committed; it may have happened or not")]
    Unknown {
        /// The names of the writes: one that is sent again under its name is not applied twice.
        op_ids: Vec<OpId>,
    },
    /// The database refuses to write at all. Nothing was done.
    #[error("the database refuses to write")]
    Refused {
        /// Why, for the log.
        cause: String,
    },
    /// This process only reads the database. Nothing was done.
    #[error("this process only reads the database")]
    ReadOnly,
    /// The process is shutting down. Nothing was done.
    #[error("the server is shutting down; nothing was changed")]
    Closed,
}

/// What callers send.
#[derive(Debug)]
struct Write {
    units: Vec<Unit>,
    /// A change whose `op_id` was applied before is not applied again.
    recheck: bool,
}

type Answer = Result<Vec<Vec<Outcome>>, WriteError>;
type Job = queue::Job<Write, Answer>;

/// Counters of the writer.
#[derive(Debug, Default)]
pub struct WriterStatus {
    commits: AtomicU64,
    changes: AtomicU64,
    retries: AtomicU64,
    last_commit_us: AtomicU64,
    last_error: Mutex<Option<String>>,
    telemetry_lost: AtomicU64,
}

/// What [`WriterStatus`] counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterCounts {
    /// Transactions committed.
    pub commits: u64,
    /// Changes in them.
    pub changes: u64,
    /// Attempts that failed and were tried again.
    pub retries: u64,
    /// How long the last transaction took.
    pub last_commit: Duration,
    /// What failed last, while it lasts.
    pub last_error: Option<String>,
    /// Tool calls and contacts with agents that were given up because the database was away for too long.
    pub telemetry_lost: u64,
    /// Changes waiting.
    pub queued: usize,
}

/// The way to the writer task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: Queue<Write, Answer>,
    telemetry: Arc<Mutex<Vec<ToolUsage>>>,
    checks: Arc<Mutex<Checks>>,
    status: Arc<WriterStatus>,
    closing: CancellationToken,
    done: watch::Receiver<bool>,
    /// What is to be written is refused, and what is only noted is dropped.
    read_only: bool,
}

/// The last contact with each agent that is waiting to be written.
type Checks = HashMap<AgentKey, NotedCheck>;

impl Writer {
    /// Starts the task. `committed` is notified after each commit.
    #[must_use]
    pub fn start(store: Store, cache: Arc<Cache>, committed: Arc<Notify>) -> Self {
        let (queue, jobs) = Queue::new(limits::QUEUE_CHANGES_MAX, limits::QUEUE_BYTES_MAX);
        let (done_sender, done) = watch::channel(false);
        let writer = Self {
            queue,
            telemetry: Arc::default(),
            checks: Arc::default(),
            status: Arc::default(),
            closing: CancellationToken::new(),
            done,
            read_only: store.is_read_only(),
        };
        let task = WriterTask {
            store,
            cache,
            committed,
            jobs,
            telemetry: writer.telemetry.clone(),
            checks: writer.checks.clone(),
            status: writer.status.clone(),
            closing: writer.closing.clone(),
            give_up: None,
            unanswered: None,
            answering: None,
            ahead: Ahead::default(),
        };
        tokio::spawn(async move {
            task.run().await;
            done_sender.send_replace(true);
        });
        writer
    }

    /// Commits units and returns the outcome of each change of each unit. With `recheck`, a change whose `op_id` was
    /// applied before is not applied again.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn submit(
        &self,
        units: Vec<Unit>,
        recheck: bool,
        deadline: Instant,
    ) -> Result<Vec<Vec<Outcome>>, WriteError> {
        let changes: usize = units.iter().map(|unit| unit.changes.len()).sum();
        if changes == 0 {
            return Ok(vec![Vec::new(); units.len()]);
        }
        if self.read_only {
            return Err(WriteError::ReadOnly);
        }
        let bytes: usize = units.iter().flat_map(|unit| &unit.changes).map(|c| c.mutation.bytes()).sum();
        let op_ids: Vec<OpId> = units.iter().flat_map(|unit| &unit.changes).map(|c| c.op_id).collect();
        match self.queue.submit(Write { units, recheck }, changes, bytes, recheck, deadline).await {
            Ok(answer) => answer,
            Err(Unanswered::Full) => Err(WriteError::Overloaded { retry_after: RETRY_AFTER }),
            Err(Unanswered::NotDone) => Err(WriteError::NotDone { cause: self.status.last_error.lock().clone() }),
            Err(Unanswered::Unknown) => Err(WriteError::Unknown { op_ids }),
            Err(Unanswered::Closed) => Err(WriteError::Closed),
        }
    }

    /// Notes a tool call; it is written within a second.
    pub fn tool_used(&self, usage: ToolUsage) {
        if self.read_only {
            return;
        }
        let mut telemetry = self.telemetry.lock();
        if telemetry.len() >= TELEMETRY_ROWS_MAX {
            self.status.telemetry_lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        telemetry.push(usage);
    }

    /// Notes a contact with an agent; it is written within a second, unless another one with the same agent comes first.
    pub fn agent_checked(&self, noted: NotedCheck) {
        if self.read_only {
            return;
        }
        let mut checks = self.checks.lock();
        if checks.len() >= CHECKS_MAX && !checks.contains_key(&noted.key) {
            self.status.telemetry_lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        checks.insert(noted.key.clone(), noted);
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> WriterCounts {
        let status = &self.status;
        WriterCounts {
            commits: status.commits.load(Ordering::Relaxed),
            changes: status.changes.load(Ordering::Relaxed),
            retries: status.retries.load(Ordering::Relaxed),
            last_commit: Duration::from_micros(status.last_commit_us.load(Ordering::Relaxed)),
            last_error: status.last_error.lock().clone(),
            telemetry_lost: status.telemetry_lost.load(Ordering::Relaxed),
            queued: self.queue.queued(),
        }
    }

    /// Takes no more writes, commits what was accepted, and ends the task within `limit`. What could not be committed
    /// is answered as not done.
    pub async fn close(&self, limit: Duration) {
        self.queue.close();
        self.closing.cancel();
        let mut done = self.done.clone();
        if timeout(limit, done.wait_for(|done| *done)).await.is_err() {
            tracing::warn!("not everything could be written before the end");
        }
    }
}

struct WriterTask {
    store: Store,
    cache: Arc<Cache>,
    committed: Arc<Notify>,
    jobs: mpsc::Receiver<Job>,
    telemetry: Arc<Mutex<Vec<ToolUsage>>>,
    checks: Arc<Mutex<Checks>>,
    status: Arc<WriterStatus>,
    closing: CancellationToken,
    /// When to stop trying, once the process is closing.
    give_up: Option<Instant>,
    /// The last batch, when it is committed and not yet answered.
    unanswered: Option<Answering>,
    /// A large batch that another thread is answering.
    answering: Option<JoinHandle<()>>,
    /// What these two are about to put into the cache.
    ahead: Ahead,
}

/// Agents as they are committed and not yet in the cache, `None` for removed ones.
type Ahead = HashMap<AgentKey, Option<Arc<Agent>>>;

impl WriterTask {
    async fn run(mut self) {
        let mut telemetry_tick = tokio::time::interval(TELEMETRY_INTERVAL);
        telemetry_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next_idle = Instant::now() + IDLE_INTERVAL;
        // Processes that start together do not prune together.
        let mut next_prune = Instant::now() + PRUNE_INTERVAL.mul_f64(rand::random_range(0.1..1.0));
        loop {
            if self.jobs.is_empty() {
                // Nothing to commit meanwhile.
                self.answer().await;
            }
            tokio::select! {
                biased;
                () = self.closing.cancelled(), if self.give_up.is_none() => {
                    self.give_up = Some(Instant::now() + CLOSING_LIMIT);
                    // What is in the channel is still received, and then None.
                    self.jobs.close();
                }
                // Before the queue, which may never be empty under load.
                _ = telemetry_tick.tick() => {
                    self.answer().await;
                    self.flush_telemetry().await;
                    if Instant::now() >= next_idle {
                        next_idle = Instant::now() + IDLE_INTERVAL;
                        self.store.release_idle();
                    }
                    if Instant::now() >= next_prune && !self.store.is_read_only() {
                        next_prune = Instant::now() + PRUNE_INTERVAL;
                        if let Err(error) = self.store.prune(&Retention::default()).await {
                            tracing::warn!(%error, "old rows could not be pruned; trying again later");
                        }
                    }
                }
                job = self.jobs.recv() => match job {
                    Some(job) => {
                        let batch = queue::gather(&mut self.jobs, job, BATCH_CHANGES_MAX, BATCH_BYTES_MAX);
                        self.commit(batch).await;
                        if self.give_up.is_some() {
                            self.jobs.close();
                        }
                    }
                    None => break,
                },
            }
        }
        self.answer().await;
        answered(&mut self.answering).await;
        self.flush_telemetry().await;
    }

    /// Tries until it is committed, refused, or nobody waits any more.
    async fn commit(&mut self, mut batch: Vec<Job>) {
        let mut ambiguous = false;
        let mut pause = RETRY_MIN;
        loop {
            // Callers whose deadline has come have their answer already.
            batch.retain(|job| !job.is_abandoned());
            if batch.is_empty() {
                return;
            }
            let Some(attempted) = self.attempt_in_time(&mut batch, ambiguous).await else {
                // The dropped jobs answer their callers: as not done, or as unknown.
                return;
            };
            match attempted {
                Ok(attempt) => return self.committed(batch, attempt).await,
                Err(error) if error.is_transient() => {
                    ambiguous |= error.is_ambiguous();
                    batch.iter().for_each(|job| job.failed(ambiguous));
                    tracing::debug!(%error, "a write is tried again");
                    *self.status.last_error.lock() = Some(error.to_string());
                }
                Err(error) => {
                    tracing::error!(%error, "the database refuses to write");
                    *self.status.last_error.lock() = Some(error.to_string());
                    for job in batch {
                        job.answer(Err(WriteError::Refused { cause: error.to_string() }));
                    }
                    return;
                }
            }
            self.status.retries.fetch_add(1, Ordering::Relaxed);
            let until = Instant::now() + pause.mul_f64(rand::random_range(0.5..1.0));
            pause = (pause * 2).min(RETRY_MAX);
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = self.closing.cancelled(), if self.give_up.is_none() => {
                    self.give_up = Some(Instant::now() + CLOSING_LIMIT);
                }
            }
            if self.give_up.is_some_and(|end| Instant::now() >= end) {
                // The dropped jobs answer their callers: as not done, or as unknown.
                return;
            }
        }
    }

    /// Attempts it, and stops waiting for it when the time to close is over.
    async fn attempt_in_time(&mut self, batch: &mut Vec<Job>, ambiguous: bool) -> Option<Result<Attempt, StoreError>> {
        let (closing, mut give_up) = (self.closing.clone(), self.give_up);
        let result = queue::attempt_in_time(&closing, &mut give_up, self.attempt(batch, ambiguous)).await;
        self.give_up = give_up;
        result
    }

    async fn attempt(&mut self, batch: &mut Vec<Job>, ambiguous: bool) -> Result<Attempt, StoreError> {
        if self.unanswered.is_none() && self.answering.as_ref().is_none_or(JoinHandle::is_finished) {
            // The cache has it all, and may have heard of newer states since.
            self.ahead.clear();
        }
        let Self { store, cache, status, unanswered, answering, ahead, .. } = self;
        let committing = async {
            // Ordering: first a connection, then the claim. While there is no connection nothing can have been
            // committed, and a caller whose deadline comes is told so.
            store.ready().await?;
            batch.retain(Job::begin);
            let units: Arc<[Unit]> = batch.iter().flat_map(|job| job.work.units.iter().cloned()).collect();
            let recheck = ambiguous || batch.iter().any(|job| job.work.recheck);
            // SQLite does not ask.
            let known_agents = OnceLock::new();
            let base = |key: &AgentKey| known_agents.get_or_init(|| known(&units, cache, ahead)).get(key).cloned();
            let start = StdInstant::now();
            let (outcomes, readings) = tokio::join!(
                store.commit(units.clone(), recheck, &base),
                // Of what is sent again an earlier document may have been committed, whose words are others.
                async { if recheck { Vec::new() } else { read_ahead(&units).await } },
            );
            let elapsed = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            status.last_commit_us.store(elapsed, Ordering::Relaxed);
            Ok(Attempt { outcomes: outcomes?, readings })
        };
        let meanwhile = async {
            // Lets the statement go out first.
            tokio::task::yield_now().await;
            if unanswered.is_some() {
                // Ordering: one after the other, so that the cache takes commits in their order.
                answered(answering).await;
                if let Some(answering) = unanswered.take() {
                    answering.answer();
                }
            }
        };
        tokio::join!(committing, meanwhile).0
    }

    /// Notes a batch that is committed. A large one is answered on another thread, any other one while the next one is
    /// committed, or at once when there is none.
    async fn committed(&mut self, batch: Vec<Job>, attempt: Attempt) {
        // Ordering: one after the other, so that the cache takes commits in their order.
        self.answer().await;
        answered(&mut self.answering).await;
        let (cache, committed) = (self.cache.clone(), self.committed.clone());
        let answering = Answering { cache, committed, status: self.status.clone(), batch, attempt };
        self.ahead = answering.ahead();
        if answering.changes() < ANSWER_ASIDE_CHANGES_MIN {
            self.unanswered = Some(answering);
        } else {
            self.answering = Some(tokio::task::spawn_blocking(move || answering.answer()));
        }
    }

    /// Answers the last batch, unless another thread does it.
    async fn answer(&mut self) {
        if let Some(answering) = self.unanswered.take() {
            answered(&mut self.answering).await;
            answering.answer();
            self.ahead.clear();
        }
    }

    async fn flush_telemetry(&self) {
        // While the database is away one of them waits for it, and not both.
        if self.flush_tool_usage().await {
            self.flush_checks().await;
        }
    }

    async fn flush_checks(&self) {
        let noted: Vec<NotedCheck> = std::mem::take(&mut *self.checks.lock()).into_values().collect();
        match self.store.agent_checks_note(&noted).await {
            Ok(stored) if stored.is_empty() => {}
            Ok(stored) => {
                check_feed::apply(&self.cache, stored);
                self.committed.notify_one();
            }
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, rows = noted.len(), "contacts with agents could not be written; trying again");
                let mut checks = self.checks.lock();
                for noted in noted {
                    // One that came meanwhile is later.
                    checks.entry(noted.key.clone()).or_insert(noted);
                }
            }
            Err(error) => {
                tracing::warn!(%error, rows = noted.len(), "contacts with agents could not be written");
                self.status.telemetry_lost.fetch_add(noted.len() as u64, Ordering::Relaxed);
            }
        }
    }

    /// Returns whether the database has taken it.
    async fn flush_tool_usage(&self) -> bool {
        let rows = std::mem::take(&mut *self.telemetry.lock());
        if rows.is_empty() {
            return true;
        }
        if let Err(error) = self.store.tool_usage_append(&rows).await {
            tracing::debug!(%error, rows = rows.len(), "tool usage could not be written; trying again");
            let mut telemetry = self.telemetry.lock();
            let room = TELEMETRY_ROWS_MAX.saturating_sub(telemetry.len());
            let lost = rows.len().saturating_sub(room);
            self.status.telemetry_lost.fetch_add(lost as u64, Ordering::Relaxed);
            telemetry.splice(0..0, rows.into_iter().skip(lost));
            return false;
        }
        true
    }
}

/// Waits until another thread has answered its batch.
async fn answered(answering: &mut Option<JoinHandle<()>>) {
    if let Some(task) = answering {
        let result = task.await;
        *answering = None;
        if let Err(error) = result {
            tracing::error!(%error, "a committed batch was not answered");
        }
    }
}

/// What is committed of the agents of these units, as far as this process knows.
fn known(units: &[Unit], cache: &Cache, ahead: &Ahead) -> HashMap<AgentKey, Arc<Agent>> {
    // Under one lock: readers may come in between the parts of a batch that is put into the cache, and each lock would
    // wait for the next part.
    let cache = cache.read();
    let keys = units.iter().flat_map(|unit| &unit.changes).map(|change| change.mutation.key());
    keys.filter_map(|key| {
        let agent = match ahead.get(&key) {
            Some(committed) => committed.clone(),
            None => cache.get(&key.namespace, key.id.as_str()).cloned(),
        };
        Some((key, agent?))
    })
    .collect()
}

/// Reads the words of the documents while the database commits them, for many of them on another thread.
async fn read_ahead(units: &Arc<[Unit]>) -> Vec<Option<Reading>> {
    // Lets the statement go out first.
    tokio::task::yield_now().await;
    let changes = || units.iter().flat_map(|unit| &unit.changes);
    let bytes: usize = changes().map(|change| change.mutation.bytes()).sum();
    if changes().count() < READ_ASIDE_CHANGES_MIN && bytes < READ_ASIDE_BYTES_MIN {
        return readings_of(units);
    }
    let units = units.clone();
    // Without them the words are read when they are needed.
    tokio::task::spawn_blocking(move || readings_of(&units)).await.unwrap_or_default()
}

/// A committed batch, and what it takes to answer it.
struct Answering {
    cache: Arc<Cache>,
    committed: Arc<Notify>,
    status: Arc<WriterStatus>,
    batch: Vec<Job>,
    attempt: Attempt,
}

impl Answering {
    fn changes(&self) -> usize {
        self.batch.iter().map(|job| job.items).sum()
    }

    /// Every change with what came of it.
    fn outcomes(&self) -> impl Iterator<Item = (&Change, &Outcome)> {
        let units = self.batch.iter().flat_map(|job| &job.work.units);
        units.zip(&self.attempt.outcomes).flat_map(|(unit, outcomes)| unit.changes.iter().zip(outcomes))
    }

    /// What the cache is going to hold of these agents.
    fn ahead(&self) -> Ahead {
        let states = self.outcomes().filter_map(|(change, outcome)| committed_state(&change.mutation, outcome));
        states
            .map(|state| match state {
                Committed::Agent(agent) => (agent.key(), Some(agent)),
                Committed::Removed(key, _) => (key, None),
            })
            .collect()
    }

    /// Ordering: cache first, then the answer. A caller that has its answer reads its own write.
    fn answer(mut self) {
        let readings = std::mem::take(&mut self.attempt.readings).into_iter().chain(std::iter::repeat_with(|| None));
        let states: Vec<(Committed, Option<Reading>)> = self
            .outcomes()
            .zip(readings)
            .filter_map(|((change, outcome), reading)| Some((committed_state(&change.mutation, outcome)?, reading)))
            .collect();
        self.status.commits.fetch_add(1, Ordering::Relaxed);
        self.status.changes.fetch_add(states.len() as u64, Ordering::Relaxed);
        self.status.last_error.lock().take();
        let wrote = !states.is_empty();
        let prepared = states.into_iter().map(|state| match state {
            (Committed::Agent(agent), Some(reading)) => Prepared::with_reading(agent, reading),
            (state, _) => Prepared::new(state),
        });
        feed::apply(&self.cache, prepared);
        let mut outcomes = self.attempt.outcomes.into_iter();
        for job in self.batch {
            let own: Vec<Vec<Outcome>> = outcomes.by_ref().take(job.work.units.len()).collect();
            job.answer(Ok(own));
        }
        if wrote {
            self.committed.notify_one();
        }
    }
}

/// What an attempt has committed.
struct Attempt {
    outcomes: Vec<Vec<Outcome>>,
    /// What was read of the document of each change, or nothing at all.
    readings: Vec<Option<Reading>>,
}

fn readings_of(units: &[Unit]) -> Vec<Option<Reading>> {
    let changes = units.iter().flat_map(|unit| &unit.changes);
    changes
        .map(|change| match &change.mutation {
            Mutation::AgentPut(put) => Some(Reading::of_agent(&put.spec)),
            Mutation::AgentRemove(_) | Mutation::AgentPurge(_) => None,
        })
        .collect()
}

fn committed_state(mutation: &Mutation, outcome: &Outcome) -> Option<Committed> {
    match outcome {
        Outcome::Put { agent, .. } => Some(Committed::Agent(agent.clone())),
        Outcome::Removed { revision, .. } => Some(Committed::Removed(mutation.key(), *revision)),
        _ => None,
    }
}
