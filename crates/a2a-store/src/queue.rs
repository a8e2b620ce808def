//! The way into a writer: a bounded queue whose every entry is answered, in time.
//!
//! A caller waits for room, then for its answer, both until its deadline. When the deadline comes it is told what is
//! certain: nothing was done, or nobody knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long a caller waits for room in the queue before it is told to come back.
const QUEUE_WAIT: Duration = Duration::from_secs(2);
/// The bytes of the queue are counted in these, because a semaphore has a limited number of permits.
const BYTES_PER_PERMIT: usize = 1024;
/// After closing begins, jobs that the database does not take are given up after this long.
pub(crate) const CLOSING_LIMIT: Duration = Duration::from_millis(900);

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

/// Why a job has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// There was no room. Nothing was done.
    Full,
    /// Its deadline came before it was done. Nothing was done.
    NotDone,
    /// Its deadline came while it was being done.
    Unknown,
    /// The writer has ended. Nothing was done.
    Closed,
}

/// What waits for the writer.
#[derive(Debug)]
pub(crate) struct Job<Work, Answer> {
    pub(crate) work: Work,
    pub(crate) items: usize,
    pub(crate) bytes: usize,
    maybe_done: bool,
    stage: Arc<AtomicU8>,
    reply: oneshot::Sender<Answer>,
    /// Given back when the job is answered, which is what bounds the queue.
    _room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl<Work, Answer> Job<Work, Answer> {
    /// Claims the job for an attempt; false when its caller has gone.
    pub(crate) fn begin(&self) -> bool {
        let claim =
            |from| self.stage.compare_exchange(from, stage::COMMITTING, Ordering::AcqRel, Ordering::Acquire).is_ok();
        !self.reply.is_closed() && (claim(stage::WAITING) || claim(stage::UNKNOWN))
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Notes that an attempt has failed, and whether it may have been committed all the same.
    pub(crate) fn failed(&self, ambiguous: bool) {
        let stage = waiting_stage(ambiguous || self.maybe_done);
        let _gone = self.stage.compare_exchange(stage::COMMITTING, stage, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Answers the caller; one that went away finds the outcome in the cache.
    pub(crate) fn answer(self, answer: Answer) {
        let _gone = self.reply.send(answer);
    }
}

/// What may have been committed before: nobody can say of it that nothing was done.
fn waiting_stage(maybe_done: bool) -> u8 {
    if maybe_done { stage::UNKNOWN } else { stage::WAITING }
}

/// Takes what is queued behind the first job, up to the size of a batch.
pub(crate) fn gather<Work, Answer>(
    jobs: &mut mpsc::Receiver<Job<Work, Answer>>,
    first: Job<Work, Answer>,
    items_max: usize,
    bytes_max: usize,
) -> Vec<Job<Work, Answer>> {
    let (mut items, mut bytes) = (first.items, first.bytes);
    let mut batch = vec![first];
    while items < items_max && bytes < bytes_max {
        let Ok(job) = jobs.try_recv() else { break };
        items += job.items;
        bytes += job.bytes;
        batch.push(job);
    }
    batch
}

/// Waits for an attempt. Once `closing` begins it is given up after [`CLOSING_LIMIT`], at `give_up`; then `None`.
pub(crate) async fn attempt_in_time<T>(
    closing: &CancellationToken,
    give_up: &mut Option<Instant>,
    attempt: impl Future<Output = T>,
) -> Option<T> {
    let mut attempt = std::pin::pin!(attempt);
    loop {
        let end = *give_up;
        tokio::select! {
            result = &mut attempt => return Some(result),
            () = closing.cancelled(), if end.is_none() => *give_up = Some(Instant::now() + CLOSING_LIMIT),
            () = async { tokio::time::sleep_until(end.unwrap_or_else(Instant::now)).await }, if end.is_some() => {
                return None;
            }
        }
    }
}

/// The way to a writer. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Queue<Work, Answer> {
    jobs: mpsc::Sender<Job<Work, Answer>>,
    items: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    items_max: usize,
    bytes_max: usize,
}

impl<Work, Answer> Clone for Queue<Work, Answer> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone(), items: self.items.clone(), bytes: self.bytes.clone(), ..*self }
    }
}

impl<Work, Answer> Queue<Work, Answer> {
    pub(crate) fn new(items_max: usize, bytes_max: usize) -> (Self, mpsc::Receiver<Job<Work, Answer>>) {
        // Every job holds a permit for each of its items, so that the channel can never be full.
        let (jobs, receiver) = mpsc::channel(items_max);
        let queue = Self {
            jobs,
            items: Arc::new(Semaphore::new(items_max)),
            bytes: Arc::new(Semaphore::new(bytes_max / BYTES_PER_PERMIT)),
            items_max,
            bytes_max,
        };
        (queue, receiver)
    }

    /// Waits for the answer. `maybe_done` says that the work may have been committed by an earlier call.
    pub(crate) async fn submit(
        &self,
        work: Work,
        items: usize,
        bytes: usize,
        maybe_done: bool,
        deadline: Instant,
    ) -> Result<Answer, Unanswered> {
        let room = self.room(items, bytes, deadline).await?;
        let stage = Arc::new(AtomicU8::new(waiting_stage(maybe_done)));
        let (reply, answer) = oneshot::channel();
        let job = Job { work, items, bytes, maybe_done, stage: stage.clone(), reply, _room: room };
        self.jobs.try_send(job).map_err(|_| Unanswered::Closed)?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            // The task ended with the job still in it.
            Ok(Err(_)) if stage.load(Ordering::Acquire) == stage::WAITING => Err(Unanswered::Closed),
            Ok(Err(_)) => Err(Unanswered::Unknown),
            Err(_) => {
                let abandoned =
                    stage.compare_exchange(stage::WAITING, stage::ABANDONED, Ordering::AcqRel, Ordering::Acquire);
                Err(if abandoned.is_ok() { Unanswered::NotDone } else { Unanswered::Unknown })
            }
        }
    }

    async fn room(
        &self,
        items: usize,
        bytes: usize,
        deadline: Instant,
    ) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), Unanswered> {
        let permits = |amount: usize| u32::try_from(amount).unwrap_or(u32::MAX);
        // A job that is larger than the whole queue takes all of it.
        let items = permits(items.min(self.items_max));
        let bytes = permits(bytes.div_ceil(BYTES_PER_PERMIT).min(self.bytes_max / BYTES_PER_PERMIT));
        let wait_until = deadline.min(Instant::now() + QUEUE_WAIT);
        let room = async {
            Ok::<_, tokio::sync::AcquireError>((
                self.items.clone().acquire_many_owned(items).await?,
                self.bytes.clone().acquire_many_owned(bytes).await?,
            ))
        };
        match timeout_at(wait_until, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(Unanswered::Closed),
            Err(_) => Err(Unanswered::Full),
        }
    }

    /// How many items wait.
    pub(crate) fn queued(&self) -> usize {
        self.items_max.saturating_sub(self.items.available_permits())
    }

    /// Takes no more jobs; those that wait for room are told so.
    pub(crate) fn close(&self) {
        self.items.close();
        self.bytes.close();
    }
}
