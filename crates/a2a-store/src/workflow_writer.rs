//! The writer of workflows: the one task of a process that commits what happens to runs.
//!
//! It has a queue and a connection of its own beside the [writer](crate::writer) of agents, so that a large deploy does
//! not hold up a run.

use std::sync::Arc;
use std::time::Duration;

use a2a_core::workflow::command::{Event, KeptStep, StepResult, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::live::WorkflowCommitted;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::batch_writer::{BatchWriter, Committing};
use crate::error::StoreError;
use crate::store::Store;
use crate::workflow_view::WorkflowView;
use crate::writer::WriteError;

/// The way to the writer of workflows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkflowWriter(BatchWriter<Workflows>);

struct Workflows(Arc<WorkflowView>);

impl WorkflowWriter {
    /// Starts the task. `committed` is notified after each commit.
    #[must_use]
    pub fn start(store: Store, view: Arc<WorkflowView>, committed: Arc<Notify>) -> Self {
        Self(BatchWriter::start(Workflows(view), store, committed))
    }

    /// Commits commands, and returns an outcome for each.
    ///
    /// # Errors
    /// As [`WriteError`] says. After [`WriteError::Unknown`] the same commands may be sent again.
    pub async fn submit(
        &self,
        commands: Vec<WorkflowCommand>,
        deadline: Instant,
    ) -> Result<Vec<WorkflowOutcome>, WriteError> {
        self.0.submit(commands, deadline).await
    }

    /// How many commands wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.queued()
    }

    /// Takes no more commands, commits what was accepted, and ends the task within `limit`.
    pub async fn close(&self, limit: Duration) {
        self.0.close(limit).await;
    }
}

impl Committing for Workflows {
    type Command = WorkflowCommand;
    type Outcome = WorkflowOutcome;
    const WHAT: &'static str = "runs";

    fn bytes_of(command: &WorkflowCommand) -> usize {
        bytes_of(command)
    }

    async fn commit(&self, store: &Store, commands: Vec<WorkflowCommand>) -> Result<Vec<WorkflowOutcome>, StoreError> {
        store.workflow_commit(commands).await
    }

    fn committed<'c>(&self, commands: impl Iterator<Item = &'c WorkflowCommand>, outcomes: &[WorkflowOutcome]) -> bool {
        let states: Vec<WorkflowCommitted> =
            commands.zip(outcomes).filter_map(|(command, outcome)| committed_state(command, outcome)).collect();
        let any = !states.is_empty();
        if any {
            self.0.apply(states);
        }
        any
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
