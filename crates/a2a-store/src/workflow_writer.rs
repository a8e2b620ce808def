//! The writer of workflows: the one task of a process that commits what happens to runs.
//!
//! It is the sibling of the [writer](crate::writer) of agents, with a queue and a connection of its own, so that a large
//! deploy does not hold up a run. It too commits whatever is queued as one transaction, then changes the cache, then
//! answers. Every command may be sent twice without being applied twice, so that an unknown outcome is simply tried
//! again.

use std::sync::Arc;
use std::time::Duration;

use a2a_core::limits;
use a2a_core::workflow::command::{Event, KeptStep, StepResult, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::live::WorkflowCommitted;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::StoreError;
use crate::queue::{self, CLOSING_LIMIT, Job, Queue, Unanswered};
use crate::store::Store;
use crate::workflow_view::WorkflowView;
use crate::writer::WriteError;

/// What an overloaded caller is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Most commands of one transaction: its runs are locked until it is over.
const BATCH_COMMANDS_MAX: usize = 256;
/// Most bytes of one transaction.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(300);

type Commands = Vec<WorkflowCommand>;
type Answer = Result<Vec<WorkflowOutcome>, WriteError>;

/// The way to the writer of workflows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkflowWriter {
    queue: Queue<Commands, Answer>,
    closing: CancellationToken,
    done: watch::Receiver<bool>,
}

impl WorkflowWriter {
    /// Starts the task. `committed` is notified after each commit.
    #[must_use]
    pub fn start(store: Store, view: Arc<WorkflowView>, committed: Arc<Notify>) -> Self {
        let (queue, jobs) = Queue::new(limits::QUEUE_CHANGES_MAX, limits::QUEUE_BYTES_MAX);
        let (done_sender, done) = watch::channel(false);
        let closing = CancellationToken::new();
        let task = Task { store, view, committed, jobs, closing: closing.clone(), give_up: None };
        tokio::spawn(async move {
            task.run().await;
            done_sender.send_replace(true);
        });
        Self { queue, closing, done }
    }

    /// Commits commands, and returns an outcome for each.
    ///
    /// # Errors
    /// As [`WriteError`] says. After [`WriteError::Unknown`] the same commands may be sent again.
    pub async fn submit(&self, commands: Commands, deadline: Instant) -> Answer {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let (items, bytes) = (commands.len(), commands.iter().map(bytes_of).sum());
        match self.queue.submit(commands, items, bytes, false, deadline).await {
            Ok(answer) => answer,
            Err(Unanswered::Full) => Err(WriteError::Overloaded { retry_after: RETRY_AFTER }),
            Err(Unanswered::NotDone) => Err(WriteError::NotDone { cause: None }),
            Err(Unanswered::Unknown) => Err(WriteError::Unknown { op_ids: Vec::new() }),
            Err(Unanswered::Closed) => Err(WriteError::Closed),
        }
    }

    /// How many commands wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.queued()
    }

    /// Takes no more commands, commits what was accepted, and ends the task within `limit`.
    pub async fn close(&self, limit: Duration) {
        self.queue.close();
        self.closing.cancel();
        let mut done = self.done.clone();
        if timeout(limit, done.wait_for(|done| *done)).await.is_err() {
            tracing::warn!("not everything about runs could be written before the end");
        }
    }
}

/// What a command weighs in the queue: the texts that callers send.
fn bytes_of(command: &WorkflowCommand) -> usize {
    const OVERHEAD: usize = 256;
    OVERHEAD
        + match command {
            WorkflowCommand::WorkflowPut(put) => put.document.len(),
            WorkflowCommand::RunStart(new) => {
                let kept: usize = new.kept.iter().flatten().map(KeptStep::bytes).sum();
                new.context.as_str().len() + new.input.as_str().len() + kept
            }
            WorkflowCommand::RunEvent { event, .. } => match event {
                Event::Finish { result: StepResult::Completed { output }, .. } => output.as_str().len(),
                Event::Finish { result: StepResult::Failed { error, .. }, .. } => error.len(),
                Event::Answer { answer, .. } => answer.as_str().len(),
                Event::Ask { question, schema, checkpoint, .. } => {
                    let checkpoint = checkpoint.as_ref().map_or(0, |json| json.as_str().len());
                    question.len() + schema.as_ref().map_or(0, |schema| schema.len()) + checkpoint
                }
                _ => 0,
            },
            WorkflowCommand::StepNote { checkpoint, .. } => checkpoint.as_ref().map_or(0, |c| c.as_str().len()),
            _ => 0,
        }
}

struct Task {
    store: Store,
    view: Arc<WorkflowView>,
    committed: Arc<Notify>,
    jobs: mpsc::Receiver<Job<Commands, Answer>>,
    closing: CancellationToken,
    /// When to stop trying, once the process is closing.
    give_up: Option<Instant>,
}

impl Task {
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
    async fn commit(&mut self, mut batch: Vec<Job<Commands, Answer>>) {
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
                    tracing::debug!(%error, "a write about runs is tried again");
                }
                Err(error) => {
                    tracing::error!(%error, "the database refuses to write about runs");
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
    async fn attempt_in_time(
        &mut self,
        batch: &mut Vec<Job<Commands, Answer>>,
    ) -> Option<Result<Vec<WorkflowOutcome>, StoreError>> {
        let (closing, mut give_up) = (self.closing.clone(), self.give_up);
        let result = queue::attempt_in_time(&closing, &mut give_up, self.attempt(batch)).await;
        self.give_up = give_up;
        result
    }

    async fn attempt(&self, batch: &mut Vec<Job<Commands, Answer>>) -> Result<Vec<WorkflowOutcome>, StoreError> {
        // Ordering: first a connection, then the claim. While there is no connection nothing can have been committed,
        // and a caller whose deadline comes is told so.
        self.store.ready().await?;
        batch.retain(Job::begin);
        let commands: Commands = batch.iter().flat_map(|job| job.work.iter().cloned()).collect();
        self.store.workflow_commit(commands).await
    }

    /// Ordering: cache first, then the answer. A caller that has its answer reads its own write.
    fn answer(&self, batch: Vec<Job<Commands, Answer>>, outcomes: Vec<WorkflowOutcome>) {
        let commands = batch.iter().flat_map(|job| &job.work);
        let states: Vec<WorkflowCommitted> =
            commands.zip(&outcomes).filter_map(|(command, outcome)| committed_state(command, outcome)).collect();
        if !states.is_empty() {
            self.view.apply(states);
            self.committed.notify_one();
        }
        let mut outcomes = outcomes.into_iter();
        for job in batch {
            let own = outcomes.by_ref().take(job.items).collect();
            job.answer(Ok(own));
        }
    }
}

fn committed_state(command: &WorkflowCommand, outcome: &WorkflowOutcome) -> Option<WorkflowCommitted> {
    match (command, outcome) {
        (_, WorkflowOutcome::WorkflowPut { workflow, .. }) => Some(WorkflowCommitted::Workflow(workflow.clone())),
        (WorkflowCommand::WorkflowRemove { key, .. }, WorkflowOutcome::WorkflowRemoved { revision }) => {
            Some(WorkflowCommitted::WorkflowRemoved(key.clone(), *revision))
        }
        (_, WorkflowOutcome::Started { state, .. } | WorkflowOutcome::Applied { state, .. }) => {
            Some(WorkflowCommitted::Run(state.clone()))
        }
        (_, WorkflowOutcome::Claimed { run, step }) => Some(WorkflowCommitted::Step(run.id.clone(), step.clone())),
        _ => None,
    }
}
