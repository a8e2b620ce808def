//! What workers hand in and ask, and what is answered.

use std::time::Duration;

use super::Verdict;
use super::work::{Work, later, shortened};
use crate::ids::{Revision, RunId};
use crate::json_text::JsonText;
use crate::workflow::command::{Refusal, StepResult};
use crate::workflow::definition::Retry;
use crate::workflow::run::{Payload, Step, StepStatus, Wait};

/// Whether another attempt may follow a failed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// After a pause that grows.
    Later,
    /// At once.
    AtOnce,
    Never,
}

impl Work {
    /// A worker hands in what came of its claim.
    pub(super) fn finish(&mut self, order: usize, attempt: i32, result: &StepResult) -> Verdict {
        let Some(step) = self.steps.get(order) else { return Verdict::Refused(Refusal::NoSuchStep) };
        if step.status != StepStatus::Running || step.attempt != attempt {
            let stale = Verdict::Refused(Refusal::Stale { status: step.status, attempt: step.attempt });
            if step.attempt != attempt || attempt == 0 {
                return stale;
            }
            return match self.is_repeated(order, result) {
                Some(true) => Verdict::Repeated,
                Some(false) => stale,
                None => {
                    self.needed.insert(order);
                    stale
                }
            };
        }
        match result {
            StepResult::Completed { output } => self.complete_step(order, output.clone()),
            StepResult::Failed { error, retryable } => {
                if let Some(step) = self.step_mut(order) {
                    // What was noted belongs to the work that has failed; the next attempt begins anew.
                    step.checkpoint = None;
                    step.answer = None;
                }
                self.fail_attempt(order, error, if *retryable { Again::Later } else { Again::Never });
            }
            StepResult::Released => self.make_pending(order),
        }
        Verdict::Applied
    }

    /// Whether the last claim of a step had this result. `None` when its output must be loaded to know.
    fn is_repeated(&self, order: usize, result: &StepResult) -> Option<bool> {
        let step = self.steps.get(order)?;
        Some(match result {
            StepResult::Completed { output } if step.status == StepStatus::Completed => match &step.output {
                Payload::Loaded(known) => known == output,
                Payload::None => false,
                Payload::Stored => return None,
            },
            StepResult::Completed { .. } => false,
            StepResult::Failed { error, .. } => {
                let goes_on = matches!(step.status, StepStatus::Pending | StepStatus::Ready | StepStatus::Failed)
                    || step.wait == Some(Wait::Retry);
                goes_on && step.error.as_deref() == Some(&*shortened(error))
            }
            StepResult::Released => matches!(step.status, StepStatus::Pending | StepStatus::Ready),
        })
    }

    /// An attempt has failed: another one follows, or the step has failed.
    pub(super) fn fail_attempt(&mut self, order: usize, error: &str, again: Again) {
        let Some(retry) = self.spec(order).map(|spec| spec.retry) else { return };
        let (now, run) = (self.now, self.run.id.clone());
        let Some(step) = self.step_mut(order) else { return };
        step.failures = step.failures.saturating_add(1);
        step.error = Some(shortened(error));
        if again == Again::Never || step.failures >= i32::from(retry.max_attempts) {
            return self.fail_step(order, error);
        }
        let pause = if again == Again::AtOnce { Duration::ZERO } else { backoff(&retry, &run, step) };
        self.make_pending(order);
        if pause.is_zero() {
            return;
        }
        self.candidates.remove(&order);
        if let Some(step) = self.step_mut(order) {
            step.status = StepStatus::Waiting;
            step.wait = Some(Wait::Retry);
            step.due_at = Some(later(now, pause));
        }
    }

    /// A worker asks a question and ends its claim.
    pub(super) fn ask(
        &mut self,
        order: usize,
        attempt: i32,
        question: &str,
        schema: Option<&str>,
        checkpoint: Option<&JsonText>,
    ) -> Verdict {
        let Some(step) = self.steps.get(order) else { return Verdict::Refused(Refusal::NoSuchStep) };
        let wait = Wait::Answer { question: question.into(), schema: schema.map(Into::into), completes: false };
        if step.status != StepStatus::Running || step.attempt != attempt {
            if step.attempt == attempt && step.wait.as_ref() == Some(&wait) {
                return Verdict::Repeated;
            }
            return Verdict::Refused(Refusal::Stale { status: step.status, attempt: step.attempt });
        }
        self.make_pending(order);
        self.candidates.remove(&order);
        if let Some(step) = self.step_mut(order) {
            step.status = StepStatus::Waiting;
            step.wait = Some(wait);
            // The answer to an earlier question, which the worker has seen.
            step.answer = None;
            if let Some(checkpoint) = checkpoint {
                step.checkpoint = Some(checkpoint.clone());
            }
        }
        Verdict::Applied
    }

    /// What a step that has ended had begun elsewhere is over.
    pub(super) fn closed(&mut self, order: usize, attempt: i32) -> Verdict {
        let Some(step) = self.steps.get(order) else { return Verdict::Refused(Refusal::NoSuchStep) };
        if !step.status.is_finished() || step.attempt != attempt {
            return Verdict::Refused(Refusal::Stale { status: step.status, attempt: step.attempt });
        }
        if step.checkpoint.is_none() {
            return Verdict::Repeated;
        }
        if let Some(step) = self.step_mut(order) {
            step.checkpoint = None;
            step.lease_until = None;
        }
        Verdict::Applied
    }

    /// Somebody answers the question of a step, or refuses to.
    pub(super) fn answer(&mut self, order: usize, question: Revision, answer: &JsonText, refuse: bool) -> Verdict {
        let Some(step) = self.steps.get(order) else { return Verdict::Refused(Refusal::NoSuchStep) };
        let refused = format!("refused by {}{}", self.actor, reason(answer));
        let asked = step.question().map(|asked| asked.number);
        let Some(Wait::Answer { completes, .. }) = step.wait.as_ref().filter(|_| asked == Some(question)) else {
            let is_repeated = if refuse {
                step.status == StepStatus::Failed && step.error.as_deref() == Some(&*shortened(&refused))
            } else {
                step.answer.as_ref() == Some(answer)
            };
            return match asked {
                _ if is_repeated => Verdict::Repeated,
                Some(current) => Verdict::Refused(Refusal::OtherQuestion { current }),
                None => Verdict::Refused(Refusal::Step { status: step.status }),
            };
        };
        let completes = *completes;
        if refuse {
            self.fail_attempt(order, &refused, Again::Never);
            return Verdict::Applied;
        }
        if let Some(step) = self.step_mut(order) {
            step.answer = Some(answer.clone());
        }
        if completes {
            self.complete_step(order, answer.clone());
        } else {
            self.make_pending(order);
        }
        Verdict::Applied
    }
}

/// Why somebody refuses, as the end of a sentence.
fn reason(answer: &JsonText) -> String {
    match answer.value() {
        Ok(serde_json::Value::Null) | Err(_) => String::new(),
        Ok(serde_json::Value::String(text)) if text.trim().is_empty() => String::new(),
        Ok(serde_json::Value::String(text)) => format!(": {text}"),
        Ok(_) => format!(": {}", answer.as_str()),
    }
}

/// The pause before the next attempt: it doubles with each failure up to the longest one, and is then drawn out by up to
/// a quarter so that steps which failed together do not come back together. Drawn from the step itself, because equal
/// events must give equal runs.
fn backoff(retry: &Retry, run: &RunId, step: &Step) -> Duration {
    let doublings = u32::try_from(step.failures.saturating_sub(1)).unwrap_or(0).min(32);
    let pause = (u64::from(retry.backoff_ms) << doublings).min(u64::from(retry.backoff_max_ms));
    let seed = run.as_str().bytes().map(u64::from).chain([step.order as u64, u64::from(step.failures.unsigned_abs())]);
    // FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/: the same in every process and version.
    let hash = seed.fold(0xcbf2_9ce4_8422_2325_u64, |hash, part| (hash ^ part).wrapping_mul(0x0100_0000_01b3));
    let per_mille = (hash >> 32) % 251;
    Duration::from_millis(pause + pause * per_mille / 1_000)
}
