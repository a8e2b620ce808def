//! What people decide about a run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Verdict;
use super::work::{Work, later, shortened};
use crate::workflow::command::Refusal;
use crate::workflow::run::{Payload, RunStatus, StepStatus};

impl Work {
    fn refused(&self) -> Verdict {
        Verdict::Refused(Refusal::Run { status: self.run.status })
    }

    /// Ends the run, whatever goes on in it.
    pub(super) fn cancel(&mut self, reason: &str) -> Verdict {
        match self.run.status {
            RunStatus::Cancelled => return Verdict::Repeated,
            status if status.is_finished() => return self.refused(),
            _ => {}
        }
        for order in self.unfinished() {
            self.end_step(order, StepStatus::Cancelled);
        }
        let colon = if reason.trim().is_empty() { "" } else { ": " };
        let cancelled = format!("cancelled by {}{colon}{reason}", self.actor);
        let error = match &self.run.error {
            None => cancelled,
            Some(first) => format!("{cancelled}; before that {first}"),
        };
        self.run_mut().error = Some(shortened(&error));
        self.end_run(RunStatus::Cancelled);
        Verdict::Applied
    }

    /// Begins nothing new; what is worked on goes on.
    pub(super) fn pause(&mut self) -> Verdict {
        if self.run.status.is_finished() {
            return self.refused();
        }
        if self.run.paused {
            return Verdict::Repeated;
        }
        self.run_mut().paused = true;
        let ready = self.steps.iter().filter(|step| step.status == StepStatus::Ready);
        // A step that is READY could be claimed without a look at its run.
        for order in ready.map(|step| step.order).collect::<Vec<_>>() {
            self.make_pending(order);
        }
        Verdict::Applied
    }

    /// Goes on after a pause.
    pub(super) fn resume(&mut self) -> Verdict {
        if self.run.status.is_finished() {
            return self.refused();
        }
        if !self.run.paused {
            return Verdict::Repeated;
        }
        self.run_mut().paused = false;
        self.look_at_all();
        Verdict::Applied
    }

    /// Does again what has failed, what was cancelled because of it, all compensations, and what was skipped and
    /// depends on one of them. Not once a compensation has completed: what it has undone can't be told from what it has
    /// not, and steps that depend on results whose effects are gone would go on as if they were there.
    pub(super) fn retry(&mut self) -> Verdict {
        if self.run.status != RunStatus::Failed {
            return self.refused();
        }
        let definition = Arc::clone(&self.definition);
        let mut steps = self.steps.iter().zip(&definition.steps);
        if steps.any(|(step, compiled)| compiled.is_compensation && step.status == StepStatus::Completed) {
            return Verdict::Refused(Refusal::Compensated);
        }
        let mut again: BTreeSet<usize> = self
            .steps
            .iter()
            .zip(&definition.steps)
            .filter(|(step, compiled)| {
                compiled.is_compensation || matches!(step.status, StepStatus::Failed | StepStatus::Cancelled)
            })
            .map(|(step, _)| step.order)
            .collect();
        let mut unseen: Vec<usize> = again.iter().copied().collect();
        while let Some(order) = unseen.pop() {
            let dependents = definition.steps.get(order).map_or(&[][..], |compiled| &compiled.dependents);
            for dependent in dependents {
                let is_skipped = self.steps.get(*dependent).is_some_and(|step| step.status == StepStatus::Skipped);
                if is_skipped && again.insert(*dependent) {
                    unseen.push(*dependent);
                }
            }
        }
        for order in again {
            self.reset_step(order);
        }
        let now = self.now;
        let run = self.run_mut();
        run.status = RunStatus::Waiting;
        run.error = None;
        run.result = None;
        run.finished_at = None;
        run.timeout_at = definition.spec.timeout_s.map(|seconds| later(now, Duration::from_secs(seconds.into())));
        self.look_at_all();
        Verdict::Applied
    }

    /// Forgets what was done, except the attempt: claims of before stay over.
    fn reset_step(&mut self, order: usize) {
        self.make_pending(order);
        if let Some(step) = self.step_mut(order) {
            step.failures = 0;
            step.input = Payload::None;
            step.output = Payload::None;
            step.error = None;
            step.answer = None;
            step.checkpoint = None;
            step.progress = None;
            step.ready_at = None;
            step.finished_at = None;
        }
    }
}
