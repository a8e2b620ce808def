//! The writer: the one task of a process that writes to the database.
//!
//! It takes whatever is queued (when idle it does not wait for more) and commits it as one transaction, puts the
//! result into the cache, and then answers. While one batch is being committed the next one gathers, so that the batch
//! size follows the load by itself.
//!
//! A write lives here until it is answered, never in the task of the caller: a cancelled request cannot leave a
//! transaction open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant as StdInstant};

use a2a_core::change::{Committed, Mutation, Outcome};
use a2a_core::ids::OpId;
use a2a_core::limits;
use a2a_core::registry::{Prepared, Words};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::error::StoreError;
use crate::feed::{self, Cache};
use crate::round::Unit;
use crate::store::{Retention, Store, ToolUsage};

/// How long a caller waits for room in the queue before it is told to come back.
const QUEUE_WAIT: Duration = Duration::from_secs(2);
/// What an overloaded caller is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Most changes of one transaction: it should be over in well under a second.
const BATCH_CHANGES_MAX: usize = 1_000;
/// Most bytes of one transaction.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// From so many changes on, their words are read while the database commits: for fewer another thread is not worth it.
const READ_AHEAD_CHANGES_MIN: usize = 32;
/// From so many changes on, putting them into the cache takes long enough to begin the next commit meanwhile. That one
/// may then know an agent at the state before, which costs a round trip; writes to one agent in a row come in small
/// batches.
const ANSWER_ASIDE_CHANGES_MIN: usize = 256;
/// Pauses between attempts. The longest one is well below the time in which service has to be normal again.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(300);
/// Tool calls waiting to be written; the oldest are given up when the database is away for long.
const TELEMETRY_ROWS_MAX: usize = 10_000;
const TELEMETRY_INTERVAL: Duration = Duration::from_secs(1);
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);
const IDLE_INTERVAL: Duration = Duration::from_secs(30);
/// The bytes of the queue are counted in these, because a semaphore has a limited number of permits.
const BYTES_PER_PERMIT: usize = 1024;

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
    /// The process is shutting down. Nothing was done.
    #[error("the server is shutting down; nothing was changed")]
    Closed,
}

/// Where a job stands, so that a caller whose deadline has come knows what to say.
mod stage {
    /// Nothing was sent to the database, or what was sent is known to have been rolled back.
    pub(super) const WAITING: u8 = 0;
    /// An attempt is going on.
    pub(super) const COMMITTING: u8 = 1;
    /// An attempt ended without telling whether it was committed.
    pub(super) const UNKNOWN: u8 = 2;
    /// The caller has gone; it must not be attempted any more.
    pub(super) const ABANDONED: u8 = 3;
}

struct Job {
    units: Vec<Unit>,
    recheck: bool,
    changes: usize,
    bytes: usize,
    stage: Arc<AtomicU8>,
    reply: oneshot::Sender<Result<Vec<Vec<Outcome>>, WriteError>>,
    /// Given back when the job is answered, which is what bounds the queue.
    _room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// What is sent again may have been committed before, so that nobody can say of it that nothing was done.
fn waiting_stage(recheck: bool) -> u8 {
    if recheck { stage::UNKNOWN } else { stage::WAITING }
}

impl Job {
    /// Claims the job for an attempt; false when its caller has gone.
    fn begin(&self) -> bool {
        let claim =
            |from| self.stage.compare_exchange(from, stage::COMMITTING, Ordering::AcqRel, Ordering::Acquire).is_ok();
        !self.reply.is_closed() && (claim(stage::WAITING) || claim(stage::UNKNOWN))
    }
}

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
    /// Tool calls that were given up because the database was away for too long.
    pub telemetry_lost: u64,
    /// Changes waiting.
    pub queued: usize,
}

/// The way to the writer task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    changes: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    telemetry: Arc<Mutex<Vec<ToolUsage>>>,
    status: Arc<WriterStatus>,
    closing: CancellationToken,
    done: watch::Receiver<bool>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("changes", &self.changes).finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the task. `committed` is notified after each commit.
    #[must_use]
    pub fn start(store: Store, cache: Arc<Cache>, committed: Arc<Notify>) -> Self {
        // Every job holds a permit for each of its changes, so that the channel can never be full.
        let (jobs, queue) = mpsc::channel(limits::QUEUE_CHANGES_MAX);
        let (done_sender, done) = watch::channel(false);
        let writer = Self {
            jobs,
            changes: Arc::new(Semaphore::new(limits::QUEUE_CHANGES_MAX)),
            bytes: Arc::new(Semaphore::new(limits::QUEUE_BYTES_MAX / BYTES_PER_PERMIT)),
            telemetry: Arc::default(),
            status: Arc::default(),
            closing: CancellationToken::new(),
            done,
        };
        let task = WriterTask {
            store,
            cache,
            committed,
            queue,
            telemetry: writer.telemetry.clone(),
            status: writer.status.clone(),
            closing: writer.closing.clone(),
            give_up: None,
            answering: None,
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
        let bytes: usize = units.iter().flat_map(|unit| &unit.changes).map(|c| c.mutation.bytes()).sum();
        let op_ids: Vec<OpId> = units.iter().flat_map(|unit| &unit.changes).map(|c| c.op_id).collect();
        let room = self.room(changes, bytes, deadline).await?;
        let stage = Arc::new(AtomicU8::new(waiting_stage(recheck)));
        let (reply, answer) = oneshot::channel();
        let job = Job { units, recheck, changes, bytes, stage: stage.clone(), reply, _room: room };
        self.jobs.try_send(job).map_err(|_| WriteError::Closed)?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            // The task ended with the job still in it.
            Ok(Err(_)) if stage.load(Ordering::Acquire) == stage::WAITING => Err(WriteError::Closed),
            Ok(Err(_)) => Err(WriteError::Unknown { op_ids }),
            Err(_) => {
                let abandoned =
                    stage.compare_exchange(stage::WAITING, stage::ABANDONED, Ordering::AcqRel, Ordering::Acquire);
                Err(match abandoned {
                    Ok(_) => WriteError::NotDone { cause: self.status.last_error.lock().clone() },
                    Err(_) => WriteError::Unknown { op_ids },
                })
            }
        }
    }

    async fn room(
        &self,
        changes: usize,
        bytes: usize,
        deadline: Instant,
    ) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), WriteError> {
        let permits = |amount: usize| u32::try_from(amount).unwrap_or(u32::MAX);
        // A unit that is larger than the whole queue takes all of it.
        let changes = permits(changes.min(limits::QUEUE_CHANGES_MAX));
        let bytes = permits(bytes.div_ceil(BYTES_PER_PERMIT).min(limits::QUEUE_BYTES_MAX / BYTES_PER_PERMIT));
        let wait_until = deadline.min(Instant::now() + QUEUE_WAIT);
        let room = async {
            Ok::<_, tokio::sync::AcquireError>((
                self.changes.clone().acquire_many_owned(changes).await?,
                self.bytes.clone().acquire_many_owned(bytes).await?,
            ))
        };
        match timeout_at(wait_until, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(WriteError::Closed),
            Err(_) => Err(WriteError::Overloaded { retry_after: RETRY_AFTER }),
        }
    }

    /// Notes a tool call; it is written within a second.
    pub fn tool_used(&self, usage: ToolUsage) {
        let mut telemetry = self.telemetry.lock();
        if telemetry.len() >= TELEMETRY_ROWS_MAX {
            self.status.telemetry_lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        telemetry.push(usage);
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
            queued: limits::QUEUE_CHANGES_MAX.saturating_sub(self.changes.available_permits()),
        }
    }

    /// Takes no more writes, commits what was accepted, and ends the task within `limit`. What could not be committed
    /// is answered as not done.
    pub async fn close(&self, limit: Duration) {
        self.changes.close();
        self.bytes.close();
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
    queue: mpsc::Receiver<Job>,
    telemetry: Arc<Mutex<Vec<ToolUsage>>>,
    status: Arc<WriterStatus>,
    closing: CancellationToken,
    /// When to stop trying, once the process is closing.
    give_up: Option<Instant>,
    /// A large batch that is committed and not yet answered.
    answering: Option<JoinHandle<()>>,
}

impl WriterTask {
    /// After closing begins, jobs that the database does not take are given up after this long.
    const CLOSING_LIMIT: Duration = Duration::from_millis(900);

    async fn run(mut self) {
        let mut telemetry_tick = tokio::time::interval(TELEMETRY_INTERVAL);
        telemetry_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next_idle = Instant::now() + IDLE_INTERVAL;
        // Processes that start together do not prune together.
        let mut next_prune = Instant::now() + PRUNE_INTERVAL.mul_f64(rand::random_range(0.1..1.0));
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled(), if self.give_up.is_none() => {
                    self.give_up = Some(Instant::now() + Self::CLOSING_LIMIT);
                    // What is in the channel is still received, and then None.
                    self.queue.close();
                }
                // Before the queue, which may never be empty under load.
                _ = telemetry_tick.tick() => {
                    self.flush_telemetry().await;
                    if Instant::now() >= next_idle {
                        next_idle = Instant::now() + IDLE_INTERVAL;
                        self.store.release_idle();
                    }
                    if Instant::now() >= next_prune {
                        next_prune = Instant::now() + PRUNE_INTERVAL;
                        if let Err(error) = self.store.prune(&Retention::default()).await {
                            tracing::warn!(%error, "old rows could not be pruned; trying again later");
                        }
                    }
                }
                job = self.queue.recv() => match job {
                    Some(job) => {
                        let batch = self.gather(job);
                        self.commit(batch).await;
                        if self.give_up.is_some() {
                            self.queue.close();
                        }
                    }
                    None => break,
                },
            }
        }
        self.answered().await;
        self.flush_telemetry().await;
    }

    /// Takes what is queued behind the first job, up to the size of a batch.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let (mut changes, mut bytes) = (first.changes, first.bytes);
        let mut batch = vec![first];
        while changes < BATCH_CHANGES_MAX && bytes < BATCH_BYTES_MAX {
            let Ok(job) = self.queue.try_recv() else { break };
            changes += job.changes;
            bytes += job.bytes;
            batch.push(job);
        }
        batch
    }

    /// Tries until it is committed, refused, or nobody waits any more.
    async fn commit(&mut self, mut batch: Vec<Job>) {
        let mut ambiguous = false;
        let mut pause = RETRY_MIN;
        loop {
            // Callers whose deadline has come have their answer already.
            batch.retain(|job| !job.reply.is_closed());
            if batch.is_empty() {
                return;
            }
            let Some(attempted) = self.attempt_in_time(&mut batch, ambiguous).await else {
                // The dropped jobs answer their callers: as not done, or as unknown.
                return;
            };
            match attempted {
                Ok(attempt) => return self.answer(batch, attempt).await,
                Err(error) if error.is_transient() => {
                    ambiguous |= error.is_ambiguous();
                    for job in &batch {
                        let stage = if ambiguous { stage::UNKNOWN } else { waiting_stage(job.recheck) };
                        let _gone =
                            job.stage.compare_exchange(stage::COMMITTING, stage, Ordering::AcqRel, Ordering::Acquire);
                    }
                    tracing::debug!(%error, "a write is tried again");
                    *self.status.last_error.lock() = Some(error.to_string());
                }
                Err(error) => {
                    tracing::error!(%error, "the database refuses to write");
                    *self.status.last_error.lock() = Some(error.to_string());
                    for job in batch {
                        let _gone = job.reply.send(Err(WriteError::Refused { cause: error.to_string() }));
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
                    self.give_up = Some(Instant::now() + Self::CLOSING_LIMIT);
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
        let result = {
            let mut attempt = std::pin::pin!(self.attempt(batch, ambiguous));
            loop {
                let end = give_up;
                tokio::select! {
                    result = &mut attempt => break Some(result),
                    () = closing.cancelled(), if end.is_none() => {
                        give_up = Some(Instant::now() + Self::CLOSING_LIMIT);
                    }
                    () = async { tokio::time::sleep_until(end.unwrap_or_else(Instant::now)).await }, if end.is_some() => {
                        break None;
                    }
                }
            }
        };
        self.give_up = give_up;
        result
    }

    async fn attempt(&self, batch: &mut Vec<Job>, ambiguous: bool) -> Result<Attempt, StoreError> {
        // Ordering: first a connection, then the claim. While there is no connection nothing can have been committed,
        // and a caller whose deadline comes is told so.
        self.store.ready().await?;
        batch.retain(Job::begin);
        let units: Arc<[Unit]> = batch.iter().flat_map(|job| job.units.iter().cloned()).collect();
        let recheck = ambiguous || batch.iter().any(|job| job.recheck);
        let changes: usize = units.iter().map(|unit| unit.changes.len()).sum();
        // Of what is sent again an earlier document may have been committed, whose words are others.
        let reading = (changes >= READ_AHEAD_CHANGES_MIN && !recheck).then(|| {
            let units = units.clone();
            tokio::task::spawn_blocking(move || words_of(&units))
        });
        let start = StdInstant::now();
        let cache = &self.cache;
        let outcomes = self
            .store
            .commit(units, recheck, &|key| cache.read().get(&key.namespace, key.id.as_str()).cloned())
            .await?;
        let elapsed = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.status.last_commit_us.store(elapsed, Ordering::Relaxed);
        // Without them the words are read when they are needed.
        let words = match reading {
            Some(reading) => reading.await.unwrap_or_default(),
            None => Vec::new(),
        };
        Ok(Attempt { outcomes, words })
    }

    /// Puts the result into the cache and answers, for a large batch on another thread while the next one is committed.
    async fn answer(&mut self, batch: Vec<Job>, attempt: Attempt) {
        // Ordering: one at a time, so that the cache takes commits in their order.
        self.answered().await;
        let answering =
            Answering { cache: self.cache.clone(), committed: self.committed.clone(), status: self.status.clone() };
        let changes: usize = batch.iter().map(|job| job.changes).sum();
        if changes < ANSWER_ASIDE_CHANGES_MIN {
            answering.answer(batch, attempt);
        } else {
            self.answering = Some(tokio::task::spawn_blocking(move || answering.answer(batch, attempt)));
        }
    }

    /// Waits until the last batch is answered.
    async fn answered(&mut self) {
        if let Some(answering) = self.answering.take()
            && let Err(error) = answering.await
        {
            tracing::error!(%error, "a committed batch was not answered");
        }
    }

    async fn flush_telemetry(&self) {
        let rows = std::mem::take(&mut *self.telemetry.lock());
        if rows.is_empty() {
            return;
        }
        if let Err(error) = self.store.tool_usage_append(&rows).await {
            tracing::debug!(%error, rows = rows.len(), "tool usage could not be written; trying again");
            let mut telemetry = self.telemetry.lock();
            let room = TELEMETRY_ROWS_MAX.saturating_sub(telemetry.len());
            let lost = rows.len().saturating_sub(room);
            self.status.telemetry_lost.fetch_add(lost as u64, Ordering::Relaxed);
            telemetry.splice(0..0, rows.into_iter().skip(lost));
        }
    }
}

/// What it takes to answer.
struct Answering {
    cache: Arc<Cache>,
    committed: Arc<Notify>,
    status: Arc<WriterStatus>,
}

impl Answering {
    /// Ordering: cache first, then the answer. A caller that has its answer reads its own write.
    fn answer(&self, batch: Vec<Job>, Attempt { outcomes, words }: Attempt) {
        let words = words.into_iter().chain(std::iter::repeat_with(|| None));
        let states: Vec<(Committed, Option<Words>)> = batch
            .iter()
            .flat_map(|job| &job.units)
            .zip(&outcomes)
            .flat_map(|(unit, outcomes)| unit.changes.iter().zip(outcomes))
            .zip(words)
            .filter_map(|((change, outcome), words)| Some((committed_state(&change.mutation, outcome)?, words)))
            .collect();
        self.status.commits.fetch_add(1, Ordering::Relaxed);
        self.status.changes.fetch_add(states.len() as u64, Ordering::Relaxed);
        self.status.last_error.lock().take();
        let wrote = !states.is_empty();
        let prepared = states.into_iter().map(|state| match state {
            (Committed::Agent(agent), Some(words)) => Prepared::with_words(agent, words),
            (state, _) => Prepared::new(state),
        });
        feed::apply(&self.cache, prepared);
        if wrote {
            self.committed.notify_one();
        }
        let mut outcomes = outcomes.into_iter();
        for job in batch {
            let own: Vec<Vec<Outcome>> = outcomes.by_ref().take(job.units.len()).collect();
            // A caller that went away finds the outcome in the registry.
            let _gone = job.reply.send(Ok(own));
        }
    }
}

/// What an attempt has committed.
struct Attempt {
    outcomes: Vec<Vec<Outcome>>,
    /// The words of the document of each change, or nothing at all.
    words: Vec<Option<Words>>,
}

fn words_of(units: &[Unit]) -> Vec<Option<Words>> {
    let changes = units.iter().flat_map(|unit| &unit.changes);
    changes
        .map(|change| match &change.mutation {
            Mutation::AgentPut(put) => Some(Words::of(&put.spec)),
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
