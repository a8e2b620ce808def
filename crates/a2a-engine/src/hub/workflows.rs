//! Operations on workflows: saving and reading the templates of runs.

use std::sync::Arc;

use a2a_core::agent::{Executor, content_hash};
use a2a_core::error::{Problem, Problems};
use a2a_core::ids::{Actor, Namespace, OpId, Revision, WorkflowId, WorkflowKey};
use a2a_core::input::did_you_mean;
use a2a_core::workflow::command::{WorkflowCommand, WorkflowOutcome, WorkflowPut};
use a2a_core::workflow::definition::{Definition, Workflow, WorkflowSpec};
use a2a_core::workflow::document::builtin;
use a2a_store::store::WorkflowVersion;
use serde_json::Value;

use super::agents::read;
use super::{Hub, Running, WriteStatus};
use crate::error::HubError;
use crate::runner::capability_of;

/// How a workflow is saved.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// Where it goes when the document names no namespace; `None` means the configured one.
    pub namespace: Option<Namespace>,
    /// Save only when it has this revision, 0 for none.
    pub expected_revision: Option<Revision>,
}

/// A workflow that was saved.
#[derive(Debug, Clone)]
pub struct SavedWorkflow {
    /// Its key.
    pub key: WorkflowKey,
    /// What happened.
    pub status: WriteStatus,
    /// Its revision now.
    pub revision: Revision,
    /// The revision that was replaced.
    pub replaced_revision: Option<Revision>,
    /// What would keep a run from starting now: agents that are missing or disabled.
    pub warnings: Vec<String>,
}

/// A page of workflows.
#[derive(Debug, Clone)]
pub struct WorkflowPage {
    /// Sorted by id.
    pub workflows: Vec<Arc<Workflow>>,
    /// How many there are in all.
    pub total: usize,
}

impl Hub {
    /// Saves a workflow. What it is made of is checked whole; agents that are missing are warnings only.
    ///
    /// # Errors
    /// When the document is not valid, the workflow is not at the expected revision, or the database did not take it.
    pub async fn workflow_save(
        &self,
        document: &Value,
        path: &str,
        options: &SaveOptions,
        actor: &Actor,
    ) -> Result<SavedWorkflow, HubError> {
        let running = self.running().await?;
        let namespace = self.namespace(options.namespace.as_ref());
        let spec = Definition::from_document(document, path, &namespace)?.spec;
        let key = spec.key();
        let warnings = self
            .step_executors(&spec, path)
            .err()
            .map_or_else(Vec::new, |problems| problems.0.into_iter().map(|problem| problem.to_string()).collect());
        let document: Arc<str> = spec.to_json().map_err(|error| Problems::one(path, error.to_string()))?.into();
        let put = WorkflowPut {
            op_id: OpId::new(),
            content_hash: content_hash(&document),
            spec: Arc::new(spec),
            document,
            expected_revision: options.expected_revision,
            actor: actor.clone(),
        };
        let (status, revision, replaced_revision) =
            match self.workflow_command(running, WorkflowCommand::WorkflowPut(Box::new(put))).await? {
                WorkflowOutcome::WorkflowPut { workflow, replaced_revision } => {
                    let status = if replaced_revision.is_some() { WriteStatus::Updated } else { WriteStatus::Created };
                    (status, workflow.revision, replaced_revision)
                }
                WorkflowOutcome::WorkflowUnchanged { revision } => (WriteStatus::Unchanged, revision, None),
                WorkflowOutcome::Conflict { current } => {
                    return Err(HubError::Conflict {
                        entity: "workflow",
                        id: key.id.to_string(),
                        expected: options.expected_revision.unwrap_or_default(),
                        current,
                    });
                }
                other => return Err(unexpected(other)),
            };
        Ok(SavedWorkflow { key, status, revision, replaced_revision, warnings })
    }

    /// Removes a workflow. Runs of it go on.
    ///
    /// # Errors
    /// When there is none, or the database did not take it.
    pub async fn workflow_remove(
        &self,
        namespace: Option<&Namespace>,
        id: &str,
        expected_revision: Option<Revision>,
        actor: &Actor,
    ) -> Result<Revision, HubError> {
        let running = self.running().await?;
        let key = WorkflowKey { namespace: self.namespace(namespace), id: workflow_id(id)? };
        let (op_id, actor) = (OpId::new(), actor.clone());
        let command = WorkflowCommand::WorkflowRemove { op_id, key: key.clone(), expected_revision, actor };
        match self.workflow_command(running, command).await? {
            WorkflowOutcome::WorkflowRemoved { revision } => Ok(revision),
            WorkflowOutcome::Conflict { current } => Err(HubError::Conflict {
                entity: "workflow",
                id: key.id.to_string(),
                expected: expected_revision.unwrap_or_default(),
                current,
            }),
            WorkflowOutcome::NotFound => Err(self.no_workflow(&key.namespace, id)),
            other => Err(unexpected(other)),
        }
    }

    /// One workflow by its id or the unique start of it.
    ///
    /// # Errors
    /// When there is none, or several.
    pub async fn workflow_get(&self, namespace: Option<&Namespace>, id: &str) -> Result<Arc<Workflow>, HubError> {
        self.running().await?;
        let namespace = self.namespace(namespace);
        self.workflow_resolve(&namespace, id)
    }

    /// Revisions of a workflow, newest first, those below `before` when it is given. That of a removed one is asked for by
    /// its whole id.
    ///
    /// # Errors
    /// When there is none, or several, or the database can't be reached.
    pub async fn workflow_history(
        &self,
        namespace: Option<&Namespace>,
        id: &str,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<WorkflowVersion>, HubError> {
        let running = self.running().await?;
        let namespace = self.namespace(namespace);
        let live = self.workflow_resolve(&namespace, id);
        let key = match &live {
            Ok(workflow) => workflow.spec.key(),
            Err(HubError::NotFound { .. }) => WorkflowKey { namespace, id: workflow_id(id)? },
            Err(error) => return Err(error.clone()),
        };
        let versions = read(running.store.workflow_history(&key, before, limit).await)?;
        match live {
            Err(not_found) if versions.is_empty() && before.is_none() => Err(not_found),
            _ => Ok(versions),
        }
    }

    /// One revision of a workflow.
    ///
    /// # Errors
    /// As [`Hub::workflow_history`], and when there is no such revision or it is a removal.
    pub async fn workflow_revision(
        &self,
        namespace: Option<&Namespace>,
        id: &str,
        revision: Revision,
    ) -> Result<Arc<Workflow>, HubError> {
        let page = self.workflow_history(namespace, id, Some(revision.saturating_add(1)), 1).await?;
        let reason = match page.into_iter().find(|version| version.workflow.revision == revision) {
            Some(version) if version.removed_at.is_none() => return Ok(version.workflow),
            Some(_) => format!("revision {revision} of {id:?} is its removal and has no document; take another one"),
            None => {
                let newest = self.workflow_history(namespace, id, None, 1).await?;
                let newest = newest.first().map_or(0, |version| version.workflow.revision);
                format!("there is no revision {revision} of {id:?}; the newest is {newest}")
            }
        };
        Err(HubError::Refused { reason })
    }

    /// Workflows of a namespace, sorted by id.
    ///
    /// # Errors
    /// When they are not loaded.
    pub async fn workflow_list(
        &self,
        namespace: Option<&Namespace>,
        offset: usize,
        limit: usize,
    ) -> Result<WorkflowPage, HubError> {
        self.running().await?;
        let namespace = self.namespace(namespace);
        let all = self.inner.workflows.read().workflows(&namespace);
        let total = all.len();
        Ok(WorkflowPage { workflows: all.into_iter().skip(offset).take(limit).collect(), total })
    }

    pub(super) async fn workflow_command(
        &self,
        running: &Running,
        command: WorkflowCommand,
    ) -> Result<WorkflowOutcome, HubError> {
        let mut outcomes = running.workflow_writer.submit(vec![command], self.deadline()).await?;
        match outcomes.pop() {
            Some(WorkflowOutcome::Rejected { reason }) => Err(HubError::Rejected { reason: reason.into() }),
            Some(outcome) => {
                running.runner.close_left_open(&outcome);
                Ok(outcome)
            }
            None => Err(HubError::Unavailable),
        }
    }

    /// How the agent of each step works, as things are now.
    ///
    /// # Errors
    /// A problem for each step whose agent is missing, is disabled, or lacks the capability.
    pub(super) fn step_executors(&self, spec: &WorkflowSpec, path: &str) -> Result<Vec<Executor>, Problems> {
        let mut problems = Vec::new();
        let mut executors = Vec::with_capacity(spec.steps.len());
        let agents = self.inner.cache.read();
        for (order, step) in spec.steps.iter().enumerate() {
            if let Some(executor) = builtin(&step.agent) {
                executors.push(executor);
                continue;
            }
            let mut problem = |field: &str, message: String| {
                let at = if path.is_empty() { String::new() } else { format!("{path}.") };
                problems.push(Problem { path: format!("{at}steps[{order}].{field}"), message });
            };
            let Some(agent) = agents.get(&spec.namespace, step.agent.as_str()) else {
                let nearest = match agents.resolve(&spec.namespace, step.agent.as_str()) {
                    a2a_core::registry::Resolved::NotFound { nearest } => nearest,
                    _ => Vec::new(),
                };
                let nearest: Vec<String> = nearest.iter().map(ToString::to_string).collect();
                let hint = did_you_mean(step.agent.as_str(), nearest.iter().map(String::as_str));
                problem("agent", format!("there is no agent {:?}{hint}; deploy it with agent_deploy", step.agent));
                continue;
            };
            if !agent.spec.enabled {
                problem("agent", format!("agent {:?} is disabled; enable it with agent_update", step.agent));
            }
            if let Some(name) = step.capability.as_deref()
                && capability_of(&agent.spec, Some(name)).is_none()
            {
                let known: Vec<&str> = agent.spec.capabilities.iter().map(|c| &*c.name).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                problem("capability", format!("agent {:?} has no capability {name:?}; it has: {known}", step.agent));
            }
            executors.push(agent.spec.executor.clone());
        }
        if problems.is_empty() { Ok(executors) } else { Err(Problems(problems)) }
    }

    pub(super) fn workflow_resolve(&self, namespace: &Namespace, id: &str) -> Result<Arc<Workflow>, HubError> {
        use a2a_core::workflow::live::Found;
        match self.inner.workflows.read().resolve_workflow(namespace, id) {
            Found::One(workflow) => Ok(workflow),
            Found::Several(candidates) => {
                Err(HubError::Ambiguous { entity: "workflow", id: id.to_owned(), candidates })
            }
            Found::None { nearest } => Err(HubError::NotFound { entity: "workflow", id: shown(id), nearest }),
        }
    }

    fn no_workflow(&self, namespace: &Namespace, id: &str) -> HubError {
        match self.workflow_resolve(namespace, id) {
            Err(error) => error,
            Ok(workflow) => {
                HubError::NotFound { entity: "workflow", id: shown(id), nearest: vec![workflow.spec.id.to_string()] }
            }
        }
    }
}

/// An id that a caller gave, in a length that fits an error.
pub(super) fn shown(id: &str) -> String {
    id.chars().take(a2a_core::limits::ID_CHARS_MAX).collect()
}

fn workflow_id(id: &str) -> Result<WorkflowId, HubError> {
    WorkflowId::parse(id).map_err(|error| Problems::one("id", error.to_string()).into())
}

/// An outcome that its command cannot have.
pub(super) fn unexpected(outcome: WorkflowOutcome) -> HubError {
    tracing::error!(?outcome, "an outcome that this command cannot have");
    HubError::Unavailable
}
