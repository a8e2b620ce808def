//! What the end of a step teaches: the personality of its agent, how reliable it is for the capability, and memories of
//! what failed and which tools were used.
//!
//! It is telemetry: written in the background after the step was committed, and what the end of the process or an outage
//! catches is not made up for. A lesson that a worker hands in together with its result is not: [`Hub::work_finish`]
//! stores it and says so.
//!
//! [`Hub::work_finish`]: crate::hub::Hub::work_finish

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use a2a_core::agent::ExecutorKind;
use a2a_core::ids::{Actor, AgentKey, MemoryId, OpId};
use a2a_core::memory::command::{MemoryAction, MemoryCommand, NewMemory};
use a2a_core::memory::experience::Experience;
use a2a_core::memory::learning::{Lesson, tool_memory};
use a2a_core::memory::{MemorySpec, Trust};
use a2a_core::workflow::run::{RunState, Step, StepStatus};
use a2a_store::memory_writer::MemoryWriter;
use tokio::time::Instant;

/// After so long a lesson is given up.
const LIMIT: Duration = Duration::from_secs(30);
/// The name of the capability in the records of a step that names none.
const NO_CAPABILITY: &str = "work";

/// Where the ends of steps are told. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Learner {
    /// `None` when nothing is to be learned.
    writer: Option<MemoryWriter>,
}

impl Learner {
    pub(crate) fn new(writer: Option<MemoryWriter>) -> Self {
        Self { writer }
    }

    /// Takes in how a step has ended, if it has.
    pub(crate) fn step_changed(&self, state: &RunState, order: usize, actor: &Actor) {
        let (Some(writer), Some((_, step))) = (&self.writer, state.step(order)) else { return };
        let success = match step.status {
            StepStatus::Completed => true,
            StepStatus::Failed => false,
            _ => return,
        };
        // Built-in steps are no agents that could get better.
        if step.executor.kind == ExecutorKind::Builtin {
            return;
        }
        let Some(lesson) = lesson(state, order, success, step.error.as_deref().unwrap_or_default()) else { return };
        let agent = AgentKey { namespace: lesson.namespace.clone(), id: lesson.agent.clone() };
        let learn = MemoryAction::Learn {
            agent,
            capability: Some(Arc::clone(&lesson.capability)),
            experience: Experience::Outcome { success },
        };
        let mut actions = vec![learn];
        let tool = success.then(|| tool_of(step)).flatten();
        let spec = if success { tool.map(|tool| tool_memory(&lesson, &tool)) } else { Some(lesson.memory()) };
        actions.extend(spec.map(|spec| store(spec, trust_of(state, order))));
        submit(writer.clone(), actions, actor);
    }
}

fn submit(writer: MemoryWriter, actions: Vec<MemoryAction>, actor: &Actor) {
    let commands: Vec<MemoryCommand> =
        actions.into_iter().map(|action| MemoryCommand { op_id: OpId::new(), actor: actor.clone(), action }).collect();
    // The queue of the writer bounds how many of these wait.
    tokio::spawn(async move {
        if let Err(error) = writer.submit(commands, Instant::now() + LIMIT).await {
            tracing::debug!(?error, "what a step has taught was not kept");
        }
    });
}

fn store(mut spec: MemorySpec, trust: Trust) -> MemoryAction {
    // Errors of tools and agents are texts from outside, which may quote what they were given.
    spec.redact_secrets();
    let new = NewMemory { id: MemoryId::generate(), spec, trust, derived_from: [].into(), created_at: None };
    MemoryAction::Store(Box::new(new))
}

/// What a step has shown, with the words of whoever says so.
pub(crate) fn lesson(state: &RunState, order: usize, success: bool, summary: &str) -> Option<Lesson> {
    let (spec, _) = state.step(order)?;
    Some(Lesson {
        namespace: state.run.namespace.clone(),
        agent: spec.agent.clone(),
        capability: spec.capability.as_deref().unwrap_or(NO_CAPABILITY).into(),
        step: Some((state.run.id.clone(), spec.name.clone())),
        success,
        summary: summary.into(),
    })
}

/// How far what a step says may be relied on: as far as the least of those whose work went into it.
pub(crate) fn trust_of(state: &RunState, order: usize) -> Trust {
    let steps = &state.run.definition.spec.steps;
    let mut seen = BTreeSet::from([order]);
    let mut open = vec![order];
    let mut trust = Trust::Agent;
    while let Some(order) = open.pop() {
        if let Some(step) = state.steps.get(order) {
            trust = trust.min(trust_of_executor(step.executor.kind));
        }
        let depends_on = steps.get(order).map_or([].as_slice(), |spec| &*spec.depends_on);
        for dependency in depends_on {
            if let Some(before) = steps.iter().position(|spec| spec.name == dependency.step)
                && seen.insert(before)
            {
                open.push(before);
            }
        }
    }
    trust
}

fn trust_of_executor(kind: ExecutorKind) -> Trust {
    match kind {
        ExecutorKind::Pull | ExecutorKind::Builtin | ExecutorKind::Command => Trust::Agent,
        ExecutorKind::A2a | ExecutorKind::Mcp | ExecutorKind::Http => Trust::External,
    }
}

/// The tool of another server that a step has used, as `server/tool`.
fn tool_of(step: &Step) -> Option<String> {
    if step.executor.kind != ExecutorKind::Mcp {
        return None;
    }
    let settings = step.executor.settings.value().ok()?;
    let (server, tool) = (settings.get("server")?.as_str()?, settings.get("tool")?.as_str()?);
    Some(format!("{server}/{tool}"))
}
