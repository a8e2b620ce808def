//! A new run that takes over what another one has done.

use std::collections::BTreeSet;

use crate::ids::{Actor, RunId};
use crate::json_text::JsonText;
use crate::workflow::command::{KeptStep, NewRun};
use crate::workflow::definition::OnFailure;
use crate::workflow::run::{Payload, RunState, Step, StepStatus};

pub(super) fn fork(old: &RunState, from: usize, id: RunId, actor: Actor) -> NewRun {
    let definition = &old.run.definition;
    let again = steps_again(old, from);
    let kept = old.steps.iter().map(|step| (!again.contains(&step.order)).then(|| keep(step))).collect();
    NewRun {
        id,
        namespace: old.run.namespace.clone(),
        workflow: old.run.workflow.clone(),
        workflow_revision: old.run.workflow_revision,
        definition: definition.clone(),
        executors: old.steps.iter().map(|step| step.executor.clone()).collect(),
        context: old.run.context.clone(),
        input: old.run.input.clone(),
        priority: old.run.priority,
        idempotency_key: None,
        forked_from: Some(old.run.id.clone()),
        kept,
        claim_next: None,
        actor,
    }
}

/// The step to begin from, whatever is not done, and all that depend on one of these.
fn steps_again(old: &RunState, from: usize) -> BTreeSet<usize> {
    let definition = &old.run.definition;
    let first: Vec<usize> = old
        .steps
        .iter()
        .filter(|step| {
            let order = step.order;
            let is_compensation = definition.steps.get(order).is_some_and(|compiled| compiled.is_compensation);
            let passes = definition.spec.steps.get(order).is_some_and(|s| s.on_failure == OnFailure::Continue);
            let is_done = match step.status {
                StepStatus::Completed => step.output != Payload::Stored,
                StepStatus::Skipped => true,
                StepStatus::Failed => passes,
                _ => false,
            };
            order == from || is_compensation || !is_done
        })
        .map(|step| step.order)
        .collect();
    definition.with_dependents(&first)
}

fn keep(step: &Step) -> KeptStep {
    let text = |payload: &Payload| -> Option<JsonText> {
        match payload {
            Payload::Loaded(text) => Some(text.clone()),
            Payload::None | Payload::Stored => None,
        }
    };
    KeptStep { status: step.status, input: text(&step.input), output: text(&step.output), error: step.error.clone() }
}
