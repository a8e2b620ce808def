//! The only rule by which runs change: (run, event, now) → (run, what changed).
//!
//! A step that is to be done again for whatever reason goes back to PENDING with its input, and the scheduler alone
//! decides whether it may begin: so a pause, the limit of parallel steps and a failing run hold in one place.
//!
//! What the built-in agents do needs no worker: it is done in the very transition in which their steps can begin.
//!
//! Invariants:
//! - Equal runs and equal events give equal runs: nothing here asks a clock or draws a random number.
//! - A revision is raised by one for all that one event changes.

mod builtin;
mod control;
mod evaluate;
mod expire;
mod finish;
mod fork;
mod result;
mod schedule;
mod work;

#[cfg(test)]
mod builtin_tests;
#[cfg(test)]
mod control_tests;
#[cfg(test)]
pub(in crate::workflow) mod fixtures;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
pub(in crate::workflow) mod random_runs;
#[cfg(test)]
mod step_tests;

use std::time::Duration;

use crate::ids::{Actor, RunId};
use crate::json_text::JsonText;
use crate::time::Timestamp;
use crate::workflow::command::{ClaimRef, Claimer, Event, NewRun, Refusal};
use crate::workflow::definition::StepSpec;
use crate::workflow::run::{Progress, RunState, Step, StepStatus};
use work::{Work, later};

pub(crate) use builtin::input_problem as builtin_input_problem;
pub use builtin::{BuiltinOperation, TransformError, builtin_operation, transform};

/// A run after an event.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The run as it is now; revisions of what changed are raised by one.
    pub state: RunState,
    /// What the event did.
    pub verdict: Verdict,
    /// Whether the run itself changed, and not only its steps.
    pub run_changed: bool,
    /// Positions of the steps that changed, ascending. A payload that changed is loaded.
    pub steps_changed: Vec<usize>,
    /// Positions of the steps that were claimed by `claim_next`, ascending; their inputs are loaded.
    pub claimed: Vec<usize>,
}

/// What an event did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It happened. Nothing may have changed, as when time has passed and nothing was due.
    Applied,
    /// It had happened before.
    Repeated,
    /// It cannot happen now; nothing changed.
    Refused(Refusal),
}

/// Outputs that an expression reads and that are in the database only: positions of the steps, ascending. Load them and
/// apply the event again, until it is applied: what is read later may depend on what was read first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputsNeeded(pub Vec<usize>);

/// Makes a run and begins what can begin.
#[must_use]
pub fn start(new: &NewRun, now: Timestamp) -> Transition {
    let mut work = Work::begin(new, now);
    work.schedule_all();
    work.settle();
    if let Some(claim_next) = &new.claim_next {
        work.claim_next(claim_next);
    }
    // Everything that a new run can read is loaded, so nothing is needed.
    work.into_transition(Verdict::Applied)
}

/// Applies an event.
///
/// # Errors
/// When outputs must be loaded first; nothing was changed.
pub fn apply(state: &RunState, event: &Event, actor: &Actor, now: Timestamp) -> Result<Transition, OutputsNeeded> {
    let mut work = Work::new(state, actor, now);
    let verdict = match event {
        Event::Finish { order, attempt, result, .. } => work.finish(*order, *attempt, result),
        Event::Ask { order, attempt, question, schema, checkpoint } => {
            work.ask(*order, *attempt, question, schema.as_deref(), checkpoint.as_ref())
        }
        Event::Answer { order, question, answer, refuse } => work.answer(*order, *question, answer, *refuse),
        Event::Closed { order, attempt } => work.closed(*order, *attempt),
        Event::Tick => work.tick(),
        Event::Cancel { reason } => work.cancel(reason),
        Event::Pause => work.pause(),
        Event::Resume => work.resume(),
        Event::Retry => work.retry(),
    };
    if verdict == Verdict::Applied {
        work.schedule();
        work.settle();
        if let Event::Finish { claim_next: Some(claim_next), .. } = event {
            work.claim_next(claim_next);
        }
    }
    match work.outputs_needed() {
        Some(needed) => Err(needed),
        None => Ok(work.into_transition(verdict)),
    }
}

/// Takes a ready step: the rule of a claim, for stores that lock the row of the step alone. `spec` is the step in the
/// definition of its run. A step that `claimer` has already is returned as it is.
///
/// # Errors
/// When the step is not ready, unless `claimer` has it already.
pub fn claim(step: &Step, spec: &StepSpec, claimer: &Claimer, now: Timestamp) -> Result<Step, Refusal> {
    if step.status == StepStatus::Running && step.lease_owner.as_deref() == Some(&*claimer.owner) {
        return Ok(step.clone());
    }
    if step.status != StepStatus::Ready {
        return Err(Refusal::Step { status: step.status });
    }
    let mut step = step.clone();
    step.status = StepStatus::Running;
    step.attempt = step.attempt.saturating_add(1);
    step.lease_owner = Some(claimer.owner.clone());
    step.lease_until = Some(later(now, claimer.lease));
    step.progress_until = claimer.progress_within.map(|within| later(now, within));
    step.timeout_at = spec.timeout_s.map(|seconds| later(now, Duration::from_secs(seconds.into())));
    step.started_at.get_or_insert(now);
    step.progress = None;
    step.revision += 1;
    Ok(step)
}

/// Renews the lease of a claim, and notes what the worker says. What is `None` stays as it was.
///
/// # Errors
/// When the claim is over.
pub fn note(
    step: &Step,
    claim: &ClaimRef,
    lease: Duration,
    progress_within: Option<Duration>,
    progress: Option<Progress>,
    checkpoint: Option<JsonText>,
    now: Timestamp,
) -> Result<Step, Refusal> {
    if step.status != StepStatus::Running || step.attempt != claim.attempt {
        return Err(Refusal::Stale { status: step.status, attempt: step.attempt });
    }
    let mut step = step.clone();
    step.lease_until = Some(later(now, lease));
    if let Some(within) = progress_within {
        step.progress_until = Some(later(now, within));
    }
    if progress.is_some() {
        step.progress = progress;
    }
    if checkpoint.is_some() {
        step.checkpoint = checkpoint;
    }
    step.revision += 1;
    Ok(step)
}

/// A new run of what `old` executes, in which the step at `from` and all that depend on it are done again and the rest
/// is taken over as far as it is done. Payloads of `old` must be loaded; a step whose output is not is done again.
#[must_use]
pub fn fork(old: &RunState, from: usize, id: RunId, actor: Actor) -> NewRun {
    fork::fork(old, from, id, actor)
}
