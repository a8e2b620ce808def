//! What steps that have ended have left open elsewhere: tasks of agents that go on although nobody wants them.
//!
//! Such a step has ended with its note. As long as its lease lasts its worker ends the task. Otherwise, as when the step
//! was waiting for an answer, this is for whoever has ended the step; and because that process may have died, or may not
//! speak with the agent, every process looks for such steps from time to time. The note goes when it is done.

use std::collections::HashMap;
use std::time::Duration;

use a2a_core::agent::ExecutorKind;
use a2a_core::ids::RunId;
use a2a_core::time::Timestamp;
use a2a_core::workflow::command::{ClaimRef, Event, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::run::Step;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Runner, actor};

/// The pause between two looks, and before the first one.
const LOOK: Duration = Duration::from_secs(15);
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Whoever has ended a step has so long to deal with it before others look.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so long nobody tries any more: the agent is gone.
const GIVEN_UP: Duration = Duration::from_secs(24 * 60 * 60);
/// The pause after a try that has failed; it doubles from the first to the second.
const AGAIN_MIN: Duration = Duration::from_secs(10);
const AGAIN_MAX: Duration = Duration::from_secs(60 * 60);
/// Most runs that are read at once.
const RUNS_MAX: usize = 64;
/// Most agents that are spoken with at once.
const AT_ONCE: usize = 8;

/// What this process is closing, or has tried to.
pub(super) struct LeftOpen {
    tried: Mutex<HashMap<ClaimRef, Tried>>,
    places: Semaphore,
}

struct Tried {
    pause: Duration,
    /// Absent while it is tried.
    again: Option<Instant>,
}

impl Default for LeftOpen {
    fn default() -> Self {
        Self { tried: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }
}

impl LeftOpen {
    /// Whether it is for this process to try now.
    fn begin(&self, claim: &ClaimRef) -> bool {
        let mut tried = self.tried.lock();
        let known = tried.entry(claim.clone()).or_insert(Tried { pause: AGAIN_MIN, again: Some(Instant::now()) });
        known.again.take_if(|again| *again <= Instant::now()).is_some()
    }

    fn end(&self, claim: &ClaimRef, is_closed: bool) {
        let mut tried = self.tried.lock();
        if is_closed {
            tried.remove(claim);
        } else if let Some(known) = tried.get_mut(claim) {
            known.again = Some(Instant::now() + known.pause);
            known.pause = (known.pause * 2).min(AGAIN_MAX);
        }
        // What others have closed is not heard of.
        tried.retain(|_, tried| tried.again.is_none_or(|again| again.elapsed() < AGAIN_MAX));
    }
}

/// What a look has left alone.
enum Left {
    Nothing,
    /// Whoever has ended the step may be dealing with it.
    ForOthers,
}

/// Whether a step has ended with something open that nobody works on.
fn is_left_open(step: &Step, now: Timestamp) -> bool {
    step.executor.kind == ExecutorKind::A2a
        && step.status.is_finished()
        && step.checkpoint.is_some()
        && step.lease_until.is_none_or(|until| until < now)
}

impl Runner {
    /// Closes what a command of this process has left open.
    pub(crate) fn close_left_open(&self, outcome: &WorkflowOutcome) {
        if let WorkflowOutcome::Applied { state, .. } = outcome {
            let now = self.now();
            state
                .steps
                .iter()
                .filter(|step| is_left_open(step, now))
                .for_each(|step| self.close_step(&state.run.id, step));
        }
    }

    /// Looks for what others have left open.
    pub(super) async fn look_for_left_open_until_stopped(self) {
        let mut pause = FIRST_LOOK;
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                // Processes that were started together do not look together.
                () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))) => {}
            }
            let looked = tokio::select! {
                () = self.shared.stop.cancelled() => return,
                looked = self.look_for_left_open() => looked,
            };
            pause = match looked {
                Ok(Left::Nothing) => LOOK,
                Ok(Left::ForOthers) => PATIENCE,
                Err(error) => {
                    tracing::debug!(%error, "what steps have left open could not be looked for");
                    LOOK
                }
            };
        }
    }

    async fn look_for_left_open(&self) -> Result<Left, a2a_store::error::StoreError> {
        let runs = self.shared.store.runs_left_open(RUNS_MAX).await?;
        if runs.is_empty() {
            return Ok(Left::Nothing);
        }
        let now = self.now();
        let mut left = Left::Nothing;
        for state in self.shared.store.runs_read(&runs, false).await? {
            for step in state.steps.iter().filter(|step| is_left_open(step, now)) {
                match step.finished_at.map(|ended| now.since(ended)) {
                    Some(age) if age < PATIENCE => left = Left::ForOthers,
                    Some(age) if age < GIVEN_UP => self.close_step(&state.run.id, step),
                    _ => {}
                }
            }
        }
        Ok(left)
    }

    fn close_step(&self, run: &RunId, step: &Step) {
        let shared = &self.shared;
        let claim = ClaimRef { run: run.clone(), order: step.order, attempt: step.attempt };
        let may = shared.settings.steps_max > 0 && shared.executors.can_run(&step.executor).is_ok();
        let Some(note) = step.checkpoint.as_ref().and_then(|note| note.value().ok()) else { return };
        if !may || !shared.left_open.begin(&claim) {
            return;
        }
        let (runner, executor) = (self.clone(), step.executor.clone());
        shared.attempts.spawn(async move {
            let shared = &runner.shared;
            let closing = async {
                let _place = shared.left_open.places.acquire().await;
                shared.executors.close(&executor, &note).await
            };
            let closed = tokio::select! {
                () = shared.stop.cancelled() => return,
                closed = closing => closed,
            };
            match &closed {
                Ok(()) => runner.note_closed(&claim).await,
                Err(error) => {
                    tracing::info!(run = %claim.run, step = claim.order, %error, "a task that nobody wants may go on");
                }
            }
            // Ordering: when it is noted, so that this process does not find it once more.
            shared.left_open.end(&claim, closed.is_ok());
        });
    }

    /// Notes that what a claim had begun elsewhere is over. When this fails it is tried again, which does no harm.
    pub(super) async fn note_closed(&self, claim: &ClaimRef) {
        let event = Event::Closed { order: claim.order, attempt: claim.attempt };
        let command = WorkflowCommand::RunEvent { run: claim.run.clone(), event, actor: actor() };
        if self.submit(vec![command]).await.is_none() {
            tracing::debug!(run = %claim.run, step = claim.order, "that a task has ended could not be noted");
        }
    }
}
