//! What happens because time has passed.

use super::Verdict;
use super::builtin::{self, BuiltinOperation, builtin_operation};
use super::finish::Again;
use super::work::Work;
use crate::time::Timestamp;
use crate::workflow::run::{StepStatus, Wait};

impl Work {
    /// Looks at leases, timeouts, timers and pauses.
    pub(super) fn tick(&mut self) -> Verdict {
        if self.run.status.is_finished() {
            return Verdict::Applied;
        }
        if self.is_past(self.run.timeout_at) {
            self.time_out_run();
            return Verdict::Applied;
        }
        let now = self.now;
        let due: Vec<usize> =
            self.steps.iter().filter(|step| step.next_due().is_some_and(|due| due <= now)).map(|s| s.order).collect();
        for order in due {
            // A failure among them may have ended the run, and these with it.
            if self.run.status.is_finished() {
                break;
            }
            match self.steps.get(order).map(|step| step.status) {
                Some(StepStatus::Running) => self.expire_running(order),
                Some(StepStatus::Waiting) => self.expire_waiting(order),
                _ => {}
            }
        }
        if !self.run.status.is_finished() {
            self.look_at_all();
        }
        Verdict::Applied
    }

    fn is_past(&self, time: Option<Timestamp>) -> bool {
        time.is_some_and(|time| time <= self.now)
    }

    fn time_out_run(&mut self) {
        let seconds = self.definition.spec.timeout_s.unwrap_or_default();
        let error = match &self.run.error {
            None => format!("the run took longer than {seconds} s"),
            Some(first) => format!("{first}; then the run took longer than {seconds} s"),
        };
        self.fail_run(&error);
    }

    fn expire_running(&mut self, order: usize) {
        let Some(step) = self.steps.get(order) else { return };
        if self.is_past(step.timeout_at) {
            let seconds = self.spec(order).and_then(|spec| spec.timeout_s).unwrap_or_default();
            self.fail_attempt(order, &format!("took longer than {seconds} s"), Again::Later);
            // The next attempt begins anew. Without one, what goes on elsewhere is to be ended.
            if let Some(step) = self.step_mut(order).filter(|step| !step.status.is_finished()) {
                step.checkpoint = None;
                step.answer = None;
            }
            return;
        }
        let error = if self.is_past(step.lease_until) {
            "its worker vanished: its process gave no sign of life in time"
        } else {
            "its worker vanished: no progress was told in time"
        };
        self.fail_attempt(order, error, Again::AtOnce);
    }

    fn expire_waiting(&mut self, order: usize) {
        let Some(step) = self.steps.get(order) else { return };
        let is_due = self.is_past(step.due_at);
        let is_late = self.is_past(step.timeout_at) && (!is_due || step.timeout_at < step.due_at);
        match (&step.wait, step.due_at) {
            _ if is_late => {
                let seconds = self.spec(order).and_then(|spec| spec.timeout_s).unwrap_or_default();
                let asks = builtin_operation(&step.executor) == Some(BuiltinOperation::Gate);
                let error = if asks {
                    format!("nobody answered within {seconds} s")
                } else {
                    format!("took longer than {seconds} s")
                };
                // Asking or waiting once more would only make the timeout a longer one.
                self.fail_attempt(order, &error, Again::Never);
            }
            (Some(Wait::Timer), Some(due)) => self.complete_step(order, builtin::waited(due)),
            (Some(Wait::Retry), Some(_)) => self.make_pending(order),
            _ => {}
        }
    }
}
