//! A writer: the one task of a process that commits commands of one kind.
//!
//! It commits whatever is queued as one transaction, then changes the cache, then answers. Every command may be sent
//! twice without being applied twice, so that an unknown outcome is simply tried again.

use std::sync::Arc;
use std::time::Duration;

use a2a_core::limits;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::StoreError;
use crate::queue::{self, CLOSING_LIMIT, Job, Queue, Unanswered};
use crate::store::Store;
use crate::writer::WriteError;

/// What an overloaded caller is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Most commands of one transaction: what they are about is locked until it is over.
const BATCH_COMMANDS_MAX: usize = 256;
/// Most bytes of one transaction.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(300);

/// What a writer commits, and where it goes then.
pub(crate) trait Committing: Send + Sync + 'static {
    /// What callers ask for.
    type Command: Clone + Send + Sync + 'static;
    /// What comes of it.
    type Outcome: Send + 'static;
    /// What it writes about, for the log.
    const WHAT: &'static str;

    /// What a command weighs in the queue: the texts that callers send.
    fn bytes_of(command: &Self::Command) -> usize;

    /// Commits commands as one transaction.
    fn commit(
        &self,
        store: &Store,
        commands: Vec<Self::Command>,
    ) -> impl Future<Output = Result<Vec<Self::Outcome>, StoreError>> + Send;

    /// Puts what was committed into the cache. Returns whether others have to hear of it.
    fn committed<'c>(&self, commands: impl Iterator<Item = &'c Self::Command>, outcomes: &[Self::Outcome]) -> bool;
}

type Answer<K> = Result<Vec<<K as Committing>::Outcome>, WriteError>;
type Waiting<K> = Job<Vec<<K as Committing>::Command>, Answer<K>>;

/// The way to a writer. Cheap to clone.
pub(crate) struct BatchWriter<K: Committing> {
    queue: Queue<Vec<K::Command>, Answer<K>>,
    closing: CancellationToken,
    done: watch::Receiver<bool>,
    read_only: bool,
}

impl<K: Committing> Clone for BatchWriter<K> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            closing: self.closing.clone(),
            done: self.done.clone(),
            read_only: self.read_only,
        }
    }
}

impl<K: Committing> std::fmt::Debug for BatchWriter<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchWriter").field("what", &K::WHAT).field("queued", &self.queued()).finish_non_exhaustive()
    }
}

impl<K: Committing> BatchWriter<K> {
    /// Starts the task. `committed` is notified after each commit.
    pub(crate) fn start(kind: K, store: Store, committed: Arc<Notify>) -> Self {
        let (queue, jobs) = Queue::new(limits::QUEUE_CHANGES_MAX, limits::QUEUE_BYTES_MAX);
        let (done_sender, done) = watch::channel(false);
        let closing = CancellationToken::new();
        let read_only = store.is_read_only();
        let task = Task { kind, store, committed, jobs, closing: closing.clone(), give_up: None };
        tokio::spawn(async move {
            task.run().await;
            done_sender.send_replace(true);
        });
        Self { queue, closing, done, read_only }
    }

    /// Commits commands, and returns an outcome for each.
    pub(crate) async fn submit(&self, commands: Vec<K::Command>, deadline: Instant) -> Answer<K> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        if self.read_only {
            return Err(WriteError::ReadOnly);
        }
        let (items, bytes) = (commands.len(), commands.iter().map(K::bytes_of).sum());
        match self.queue.submit(commands, items, bytes, false, deadline).await {
            Ok(answer) => answer,
            Err(Unanswered::Full) => Err(WriteError::Overloaded { retry_after: RETRY_AFTER }),
            Err(Unanswered::NotDone) => Err(WriteError::NotDone { cause: None }),
            Err(Unanswered::Unknown) => Err(WriteError::Unknown { op_ids: Vec::new() }),
            Err(Unanswered::Closed) => Err(WriteError::Closed),
        }
    }

    /// Whether every command is refused.
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// How many commands wait.
    pub(crate) fn queued(&self) -> usize {
        self.queue.queued()
    }

    /// Takes no more commands, commits what was accepted, and ends the task within `limit`.
    pub(crate) async fn close(&self, limit: Duration) {
        self.queue.close();
        self.closing.cancel();
        let mut done = self.done.clone();
        if timeout(limit, done.wait_for(|done| *done)).await.is_err() {
            tracing::warn!("not everything about {} could be written before the end", K::WHAT);
        }
    }
}

struct Task<K: Committing> {
    kind: K,
    store: Store,
    committed: Arc<Notify>,
    jobs: mpsc::Receiver<Waiting<K>>,
    closing: CancellationToken,
    /// When to stop trying, once the process is closing.
    give_up: Option<Instant>,
}

impl<K: Committing> Task<K> {
    async fn run(mut self) {
        loop {
            let job = tokio::select! {
                biased;
                () = self.closing.cancelled(), if self.give_up.is_none() => {
                    self.give_up = Some(Instant::now() + CLOSING_LIMIT);
                    // What is in the channel is still received, and then None.
                    self.jobs.close();
                    continue;
                }
                job = self.jobs.recv() => job,
            };
            let Some(job) = job else { return };
            let batch = queue::gather(&mut self.jobs, job, BATCH_COMMANDS_MAX, BATCH_BYTES_MAX);
            self.commit(batch).await;
            if self.give_up.is_some() {
                self.jobs.close();
            }
        }
    }

    /// Tries until it is committed, refused, or nobody waits any more.
    async fn commit(&mut self, mut batch: Vec<Waiting<K>>) {
        let mut ambiguous = false;
        let mut pause = RETRY_MIN;
        loop {
            batch.retain(|job| !job.is_abandoned());
            if batch.is_empty() {
                return;
            }
            // The dropped jobs answer their callers: as not done, or as unknown.
            let Some(attempted) = self.attempt_in_time(&mut batch).await else { return };
            match attempted {
                Ok(outcomes) => return self.answer(batch, outcomes),
                Err(error) if error.is_transient() => {
                    ambiguous |= error.is_ambiguous();
                    batch.iter().for_each(|job| job.failed(ambiguous));
                    tracing::debug!(%error, "a write about {} is tried again", K::WHAT);
                }
                Err(error) => {
                    tracing::error!(%error, "the database refuses to write about {}", K::WHAT);
                    for job in batch {
                        job.answer(Err(WriteError::Refused { cause: error.to_string() }));
                    }
                    return;
                }
            }
            let until = Instant::now() + pause.mul_f64(rand::random_range(0.5..1.0));
            pause = (pause * 2).min(RETRY_MAX);
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = self.closing.cancelled(), if self.give_up.is_none() => {
                    self.give_up = Some(Instant::now() + CLOSING_LIMIT);
                }
            }
            if self.give_up.is_some_and(|end| Instant::now() >= end) {
                return;
            }
        }
    }

    /// Attempts it, and stops waiting for it when the time to close is over.
    async fn attempt_in_time(&mut self, batch: &mut Vec<Waiting<K>>) -> Option<Result<Vec<K::Outcome>, StoreError>> {
        let (closing, mut give_up) = (self.closing.clone(), self.give_up);
        let result = queue::attempt_in_time(&closing, &mut give_up, self.attempt(batch)).await;
        self.give_up = give_up;
        result
    }

    async fn attempt(&self, batch: &mut Vec<Waiting<K>>) -> Result<Vec<K::Outcome>, StoreError> {
        // Ordering: first a connection, then the claim. While there is no connection nothing can have been committed,
        // and a caller whose deadline comes is told so.
        self.store.ready().await?;
        batch.retain(Job::begin);
        let commands: Vec<K::Command> = batch.iter().flat_map(|job| job.work.iter().cloned()).collect();
        self.kind.commit(&self.store, commands).await
    }

    /// Ordering: cache first, then the answer. A caller that has its answer reads its own write.
    fn answer(&self, batch: Vec<Waiting<K>>, outcomes: Vec<K::Outcome>) {
        if self.kind.committed(batch.iter().flat_map(|job| &job.work), &outcomes) {
            self.committed.notify_one();
        }
        let mut outcomes = outcomes.into_iter();
        for job in batch {
            let own = outcomes.by_ref().take(job.items).collect();
            job.answer(Ok(own));
        }
    }
}
