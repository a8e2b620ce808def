//! A run while an event is applied to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::evaluate::Values;
use super::{OutputsNeeded, Transition, Verdict};
use crate::ids::Actor;
use crate::json_text::JsonText;
use crate::limits;
use crate::time::Timestamp;
use crate::workflow::command::{ClaimNext, Claimer, NewRun};
use crate::workflow::definition::{CompiledStep, Definition, OnFailure, StepSpec};
use crate::workflow::run::{Payload, Run, RunState, RunStatus, Step, StepStatus, status_of};

/// The time that lies `duration` after `now`.
pub(super) fn later(now: Timestamp, duration: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
}

/// A text in the length that is kept of an error.
pub(super) fn shortened(text: &str) -> Box<str> {
    match text.char_indices().nth(limits::ERROR_CHARS_MAX) {
        Some((end, _)) => text.get(..end).unwrap_or_default().chars().chain(['…']).collect(),
        None => text.into(),
    }
}

/// A run, what of it has changed, and what is to be looked at.
pub(super) struct Work {
    pub(super) definition: Arc<Definition>,
    pub(super) run: Run,
    pub(super) steps: Vec<Step>,
    pub(super) now: Timestamp,
    pub(super) actor: Actor,
    /// What expressions see.
    pub(super) values: Values,
    /// PENDING steps that may be able to begin.
    pub(super) candidates: BTreeSet<usize>,
    /// Steps whose outputs must be loaded before this can be decided.
    pub(super) needed: BTreeSet<usize>,
    /// Steps that are READY or RUNNING, counted when somebody asks.
    places_taken: Option<usize>,
    /// Steps that became ready and whose inputs were evaluated just now. Whether other inputs are loaded must make no
    /// difference, and a worker that has released its step does not want it back.
    pub(super) claimable: BTreeSet<usize>,
    run_changed: bool,
    steps_changed: BTreeSet<usize>,
    claimed: Vec<usize>,
}

impl Work {
    pub(super) fn new(state: &RunState, actor: &Actor, now: Timestamp) -> Self {
        Self::of(state.run.clone(), state.steps.clone(), actor.clone(), now)
    }

    fn of(run: Run, steps: Vec<Step>, actor: Actor, now: Timestamp) -> Self {
        Self {
            definition: Arc::clone(&run.definition),
            run,
            steps,
            now,
            actor,
            values: Values::default(),
            candidates: BTreeSet::new(),
            needed: BTreeSet::new(),
            places_taken: None,
            claimable: BTreeSet::new(),
            run_changed: false,
            steps_changed: BTreeSet::new(),
            claimed: Vec::new(),
        }
    }

    /// A run that was just asked for, with all its steps PENDING or kept.
    pub(super) fn begin(new: &NewRun, now: Timestamp) -> Self {
        let spec = &new.definition.spec;
        let run = Run {
            id: new.id.clone(),
            namespace: new.namespace.clone(),
            workflow: new.workflow.clone(),
            workflow_revision: new.workflow_revision,
            definition: Arc::clone(&new.definition),
            status: RunStatus::Pending,
            paused: false,
            priority: new.priority.clamp(0, limits::PRIORITY_MAX),
            context: new.context.clone(),
            input: new.input.clone(),
            result: None,
            error: None,
            idempotency_key: new.idempotency_key.clone(),
            forked_from: new.forked_from.clone(),
            revision: 0,
            created_at: now,
            created_by: new.actor.clone(),
            started_at: None,
            finished_at: None,
            timeout_at: spec.timeout_s.map(|seconds| later(now, Duration::from_secs(seconds.into()))),
            updated_at: now,
            updated_by: new.actor.clone(),
        };
        let steps = (0..spec.steps.len()).map(|order| new_step(new, order, now)).collect();
        let mut work = Self::of(run, steps, new.actor.clone(), now);
        work.run_changed = true;
        work.steps_changed = (0..work.steps.len()).collect();
        work
    }

    /// The run, for a change.
    pub(super) fn run_mut(&mut self) -> &mut Run {
        self.run_changed = true;
        &mut self.run
    }

    /// A step, for a change.
    pub(super) fn step_mut(&mut self, order: usize) -> Option<&mut Step> {
        let step = self.steps.get_mut(order)?;
        self.steps_changed.insert(order);
        self.places_taken = None;
        Some(step)
    }

    pub(super) fn spec(&self, order: usize) -> Option<&StepSpec> {
        self.definition.spec.steps.get(order)
    }

    /// A step with what was compiled of it.
    pub(super) fn compiled(&self, order: usize) -> Option<(&CompiledStep, &Step)> {
        Some((self.definition.steps.get(order)?, self.steps.get(order)?))
    }

    /// Positions of the steps that have not ended, ascending.
    pub(super) fn unfinished(&self) -> Vec<usize> {
        self.steps.iter().filter(|step| !step.status.is_finished()).map(|step| step.order).collect()
    }

    /// Whether another step may be ready or running.
    pub(super) fn has_place(&mut self) -> bool {
        let Some(places) = self.definition.spec.max_parallel else { return true };
        let taken = *self.places_taken.get_or_insert_with(|| {
            self.steps.iter().filter(|s| matches!(s.status, StepStatus::Ready | StepStatus::Running)).count()
        });
        taken < usize::from(places)
    }

    /// Lets a step be claimed.
    pub(super) fn make_ready(&mut self, order: usize) {
        let now = self.now;
        let taken = self.places_taken;
        if let Some(step) = self.step_mut(order) {
            step.status = StepStatus::Ready;
            step.ready_at = Some(now);
        }
        self.places_taken = taken.map(|taken| taken + 1);
    }

    /// Sends a step back to the scheduler, with its input when that was evaluated.
    pub(super) fn make_pending(&mut self, order: usize) {
        if let Some(step) = self.step_mut(order) {
            step.status = StepStatus::Pending;
            step.wait = None;
            step.due_at = None;
            let_go(step);
            self.candidates.insert(order);
        }
    }

    /// Ends a step; the caller says what it means for those that depend on it.
    pub(super) fn end_step(&mut self, order: usize, status: StepStatus) -> Option<&mut Step> {
        let now = self.now;
        let step = self.step_mut(order)?;
        step.status = status;
        step.finished_at = Some(now);
        step.wait = None;
        step.due_at = None;
        // What was noted tells what goes on elsewhere. The worker ends that as long as it has the lease, then anybody.
        let lease_until = step.lease_until.filter(|_| step.checkpoint.is_some());
        let_go(step);
        step.lease_until = lease_until;
        Some(step)
    }

    /// Ends a step with its output.
    pub(super) fn complete_step(&mut self, order: usize, output: JsonText) {
        if let Some(step) = self.end_step(order, StepStatus::Completed) {
            step.output = Payload::Loaded(output);
            step.error = None;
            step.progress = None;
            step.checkpoint = None;
            step.lease_until = None;
        }
        self.look_at_dependents(order);
    }

    /// Ends a step that is not to be done.
    pub(super) fn skip_step(&mut self, order: usize) {
        self.end_step(order, StepStatus::Skipped);
        self.look_at_dependents(order);
    }

    pub(super) fn look_at_dependents(&mut self, order: usize) {
        let definition = Arc::clone(&self.definition);
        if let Some(compiled) = definition.steps.get(order) {
            self.candidates.extend(compiled.dependents.iter().copied());
        }
    }

    /// Ends a step whose last attempt has failed, and does what that means for its run.
    pub(super) fn fail_step(&mut self, order: usize, error: &str) {
        let error = shortened(error);
        if let Some(step) = self.end_step(order, StepStatus::Failed) {
            step.error = Some(error.clone());
        }
        let definition = Arc::clone(&self.definition);
        let (Some(spec), Some(compiled)) = (definition.spec.steps.get(order), definition.steps.get(order)) else {
            return;
        };
        match (&spec.on_failure, compiled.compensate, &self.run.error) {
            (OnFailure::Continue, _, _) => self.look_at_dependents(order),
            (_, Some(compensation), None) => {
                self.run_mut().error = Some(shortened(&format!("step {:?} failed: {error}", spec.name)));
                self.compensate(compensation);
            }
            (_, _, None) => self.fail_run(&format!("step {:?} failed: {error}", spec.name)),
            (_, _, Some(first)) => {
                let both = format!("{first}; then its compensation failed: step {:?}: {error}", spec.name);
                self.fail_run(&both);
            }
        }
    }

    /// Leaves nothing to do but the compensation and what depends on it.
    fn compensate(&mut self, compensation: usize) {
        let branch = self.definition.with_dependents(&[compensation]);
        for order in self.unfinished() {
            if branch.contains(&order) {
                self.candidates.insert(order);
            } else {
                self.end_unneeded(order);
            }
        }
    }

    /// Ends what is not needed any more: a compensation was never begun, so that it is skipped.
    fn end_unneeded(&mut self, order: usize) {
        let is_compensation = self.compiled(order).is_some_and(|(compiled, _)| compiled.is_compensation);
        let is_begun = self.steps.get(order).is_some_and(|step| step.status != StepStatus::Pending);
        let status = if is_compensation && !is_begun { StepStatus::Skipped } else { StepStatus::Cancelled };
        self.end_step(order, status);
    }

    /// Ends the run with an error, and what is not done with it.
    pub(super) fn fail_run(&mut self, error: &str) {
        for order in self.unfinished() {
            self.end_unneeded(order);
        }
        self.run_mut().error = Some(shortened(error));
        self.end_run(RunStatus::Failed);
    }

    pub(super) fn end_run(&mut self, status: RunStatus) {
        let now = self.now;
        self.candidates.clear();
        let run = self.run_mut();
        run.status = status;
        run.paused = false;
        run.finished_at = Some(now);
        run.timeout_at = None;
    }

    /// Ends the run when nothing is left to do, or else tells where it stands.
    pub(super) fn settle(&mut self) {
        if self.run.status.is_finished() || !self.needed.is_empty() {
            return;
        }
        let compensates = self.run.error.is_some();
        let is_done = self
            .steps
            .iter()
            .zip(&self.definition.steps)
            .all(|(step, compiled)| step.status.is_finished() || (compiled.is_compensation && !compensates));
        match (is_done, &self.run.error) {
            (true, Some(error)) => {
                let error = error.clone();
                self.fail_run(&error);
            }
            (true, None) => self.complete_run(),
            (false, _) => {
                let status = status_of(&self.steps);
                if status != self.run.status {
                    self.run_mut().status = status;
                }
            }
        }
        if self.run.started_at.is_none()
            && let Some(started) = self.steps.iter().filter_map(|step| step.started_at).min()
        {
            self.run_mut().started_at = Some(started);
        }
    }

    /// Claims steps that have just become ready, in their order.
    pub(super) fn claim_next(&mut self, next: &ClaimNext) {
        for order in std::mem::take(&mut self.claimable) {
            if self.claimed.len() >= next.limit {
                return;
            }
            let can_do = next.can_do.get(order).copied().unwrap_or(false);
            let (Some(step), Some(spec)) = (self.steps.get(order), self.spec(order)) else { continue };
            if !can_do {
                continue;
            }
            let owner = format!("{}/{order}", next.claimer.owner).into();
            let claimer = Claimer { owner, ..next.claimer.clone() };
            if let Ok(claimed) = super::claim(step, spec, &claimer, self.now) {
                let revision = step.revision;
                if let Some(step) = self.step_mut(order) {
                    *step = Step { revision, ..claimed };
                }
                self.claimed.push(order);
            }
        }
        if !self.claimed.is_empty() {
            self.settle();
        }
    }

    pub(super) fn outputs_needed(&self) -> Option<OutputsNeeded> {
        (!self.needed.is_empty()).then(|| OutputsNeeded(self.needed.iter().copied().collect()))
    }

    pub(super) fn into_transition(mut self, verdict: Verdict) -> Transition {
        for order in &self.steps_changed {
            if let Some(step) = self.steps.get_mut(*order) {
                step.revision += 1;
            }
        }
        if self.run_changed {
            self.run.revision += 1;
            self.run.updated_at = self.now;
            self.run.updated_by = self.actor;
        }
        Transition {
            state: RunState { run: self.run, steps: self.steps },
            verdict,
            run_changed: self.run_changed,
            steps_changed: self.steps_changed.into_iter().collect(),
            claimed: self.claimed,
        }
    }
}

/// Ends a claim.
fn let_go(step: &mut Step) {
    step.lease_owner = None;
    step.lease_until = None;
    step.progress_until = None;
    step.timeout_at = None;
}

fn new_step(new: &NewRun, order: usize, now: Timestamp) -> Step {
    let kept = new.kept.get(order).and_then(Option::as_ref);
    let payload = |text: Option<&JsonText>| text.cloned().map_or(Payload::None, Payload::Loaded);
    Step {
        order,
        executor: new.executors.get(order).cloned().unwrap_or_default(),
        status: kept.map_or(StepStatus::Pending, |kept| kept.status),
        attempt: 0,
        failures: 0,
        input: payload(kept.and_then(|kept| kept.input.as_ref())),
        output: payload(kept.and_then(|kept| kept.output.as_ref())),
        error: kept.and_then(|kept| kept.error.clone()),
        wait: None,
        answer: None,
        checkpoint: None,
        progress: None,
        lease_owner: None,
        lease_until: None,
        progress_until: None,
        timeout_at: None,
        due_at: None,
        ready_at: None,
        started_at: None,
        finished_at: kept.map(|_| now),
        revision: 0,
    }
}
