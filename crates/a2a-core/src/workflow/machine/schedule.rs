//! Which steps can begin.

use std::sync::Arc;
use std::time::Duration;

use super::builtin::{self, BuiltinOperation, builtin_operation};
use super::evaluate::Evaluated;
use super::work::{Work, later};
use crate::json_text::JsonText;
use crate::limits;
use crate::workflow::definition::CompiledStep;
use crate::workflow::document::is_reserved;
use crate::workflow::run::{Payload, StepStatus, Wait};

/// What the dependencies of a step say.
enum Dependencies {
    NotDone,
    Done,
    /// One that is required was not completed.
    Missing,
}

impl Work {
    /// Begins whatever can begin.
    pub(super) fn schedule_all(&mut self) {
        self.look_at_all();
        self.schedule();
    }

    pub(super) fn look_at_all(&mut self) {
        let pending = self.steps.iter().filter(|step| step.status == StepStatus::Pending);
        self.candidates.extend(pending.map(|step| step.order));
    }

    /// Begins those of the candidates that can begin, in their order, and those that can begin because of it.
    pub(super) fn schedule(&mut self) {
        if self.definition.spec.max_parallel.is_some() {
            // A place that has become free is for any step, not only for those that depend on what has changed.
            self.look_at_all();
        }
        while let Some(order) = self.candidates.pop_first() {
            if self.run.paused || self.run.status.is_finished() {
                self.candidates.clear();
                return;
            }
            self.begin_step(order);
        }
    }

    fn begin_step(&mut self, order: usize) {
        let definition = Arc::clone(&self.definition);
        let (Some(compiled), Some(step)) = (definition.steps.get(order), self.steps.get(order)) else { return };
        // While a compensation goes on, everything else has ended.
        if step.status != StepStatus::Pending || (compiled.is_compensation && self.run.error.is_none()) {
            return;
        }
        let operation = self.own_operation(order);
        let is_evaluated = step.input != Payload::None && operation.is_none();
        if !is_evaluated {
            match self.dependencies(compiled) {
                Dependencies::NotDone => return,
                Dependencies::Missing => return self.skip_step(order),
                Dependencies::Done => {}
            }
        }
        if operation.is_none() && !self.has_place() {
            return;
        }
        if is_evaluated {
            return self.make_ready(order);
        }
        let is_first = !self.values.is_used;
        let input = match self.evaluate_step(compiled) {
            Evaluated::Needed => return,
            Evaluated::Later => return self.evaluate_later(order),
            Evaluated::Skip => return self.skip_step(order),
            Evaluated::Failed(error) => return self.fail_step(order, &error),
            Evaluated::Input(input) => input,
        };
        if let Some(step) = self.step_mut(order) {
            step.input = Payload::Loaded(input.clone());
        }
        match operation {
            Some(BuiltinOperation::Wait) => self.begin_wait(order, &input),
            Some(BuiltinOperation::Gate) => self.begin_gate(order, &input),
            Some(BuiltinOperation::Echo) => self.complete_at_once(order, input),
            Some(BuiltinOperation::Transform) => self.transform(order, &input, is_first),
            None => {
                self.make_ready(order);
                self.claimable.insert(order);
            }
        }
    }

    /// What of a step is done here and needs no worker. Deployed agents may do what the built-in ones do; their inputs
    /// and outputs have schemas, which a worker checks.
    fn own_operation(&self, order: usize) -> Option<BuiltinOperation> {
        let operation = builtin_operation(&self.steps.get(order)?.executor)?;
        let waits = matches!(operation, BuiltinOperation::Wait | BuiltinOperation::Gate);
        (waits || is_reserved(&self.spec(order)?.agent)).then_some(operation)
    }

    fn transform(&mut self, order: usize, input: &JsonText, is_first: bool) {
        if is_first {
            // What it may use does not depend on how much its own input took.
            self.refuel();
        }
        let Some(step) = self.steps.get(order) else { return };
        let (settings, value) = match (step.executor.settings.value(), input.value()) {
            (Ok(settings), Ok(value)) => (settings, value),
            (Err(error), _) | (_, Err(error)) => return self.fail_step(order, &format!("not JSON: {error}")),
        };
        match builtin::transform(&settings, &value, &self.run.id, &mut self.values.fuel) {
            Ok(output) => self.complete_at_once(order, JsonText::new(&output)),
            Err(error) if error.is_out_of_fuel && !is_first => self.evaluate_later(order),
            Err(error) => self.fail_step(order, &error.message),
        }
    }

    /// Ends a step that has begun in this transition.
    fn complete_at_once(&mut self, order: usize, output: JsonText) {
        let bytes = output.as_str().len();
        if bytes > limits::STEP_OUTPUT_BYTES_MAX {
            let most = limits::STEP_OUTPUT_BYTES_MAX;
            return self.fail_step(order, &format!("the output has {bytes} bytes; at most {most} are taken"));
        }
        // One transition writes no more than it may read.
        self.values.bytes += bytes;
        let now = self.now;
        if let Some(step) = self.step_mut(order) {
            step.ready_at = Some(now);
            step.started_at.get_or_insert(now);
        }
        self.complete_step(order, output);
    }

    fn dependencies(&self, compiled: &CompiledStep) -> Dependencies {
        let mut is_missing = false;
        for (dependency, required) in &compiled.depends_on {
            let Some(step) = self.steps.get(*dependency) else { return Dependencies::NotDone };
            match step.status {
                StepStatus::Completed => {}
                // A failure that was not passed over has ended the run, or this step is its compensation.
                status if status.is_finished() => is_missing |= required,
                // Ordering: a step is not skipped before all it depends on is done, or else its dependents could begin
                // too early.
                _ => return Dependencies::NotDone,
            }
        }
        if is_missing { Dependencies::Missing } else { Dependencies::Done }
    }

    /// The expressions of one transition share their fuel. A step that got too little of it has its turn in a
    /// transition of its own.
    fn evaluate_later(&mut self, order: usize) {
        let now = self.now;
        if let Some(step) = self.step_mut(order) {
            step.status = StepStatus::Waiting;
            step.wait = Some(Wait::Retry);
            step.due_at = Some(now);
        }
    }

    fn begin_wait(&mut self, order: usize, input: &JsonText) {
        match builtin::wait_until(input, self.now) {
            Err(error) => self.fail_step(order, &error),
            Ok(due) if due <= self.now => self.complete_step(order, builtin::waited(due)),
            Ok(due) => {
                self.wait(order, Wait::Timer);
                if let Some(step) = self.step_mut(order) {
                    step.due_at = Some(due);
                }
            }
        }
    }

    fn begin_gate(&mut self, order: usize, input: &JsonText) {
        match builtin::question(input) {
            Err(error) => self.fail_step(order, &error),
            Ok((question, schema)) => self.wait(order, Wait::Answer { question, schema, completes: true }),
        }
    }

    fn wait(&mut self, order: usize, wait: Wait) {
        let now = self.now;
        let timeout_s = self.spec(order).and_then(|spec| spec.timeout_s);
        if let Some(step) = self.step_mut(order) {
            step.status = StepStatus::Waiting;
            step.wait = Some(wait);
            step.ready_at = Some(now);
            step.started_at.get_or_insert(now);
            step.timeout_at = timeout_s.map(|seconds| later(now, Duration::from_secs(seconds.into())));
        }
    }
}
