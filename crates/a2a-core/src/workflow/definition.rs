//! The definition of a workflow: what its author decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::expression::{Expression, Template};
use crate::ids::{Actor, AgentId, Namespace, Revision, StepName, WorkflowId, WorkflowKey};
use crate::json_text::JsonText;
use crate::time::Timestamp;

/// The document of a workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkflowSpec {
    /// The namespace it lives in; its steps use agents of the same one.
    pub namespace: Namespace,
    /// Unique in the namespace. A run of steps that were given with the call has the id of none.
    pub id: WorkflowId,
    /// Shown to people.
    pub name: Box<str>,
    /// When to use it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub description: Box<str>,
    /// The context of a run that gives none; an object, whose fields a run may replace one by one.
    pub context: JsonText,
    /// In the order in which they are shown.
    pub steps: Arc<[StepSpec]>,
    /// Template of the result; absent means the output of the last steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<JsonText>,
    /// A run fails after this many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
    /// Most steps of one run that are ready or running at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u16>,
}

/// One step of a workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepSpec {
    /// Unique in the workflow.
    pub name: StepName,
    /// Who does it: a deployed agent, or one of the built-in `builtin:echo`, `builtin:transform`, `builtin:wait`,
    /// `builtin:gate`.
    pub agent: AgentId,
    /// Which capability of that agent; absent means its only one or none in particular.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capability: Option<Box<str>>,
    /// Template of the input.
    pub input: JsonText,
    /// What must be done before.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub depends_on: Box<[Dependency]>,
    /// The step is skipped unless this is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_if: Option<Box<str>>,
    /// The step is skipped when this is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_if: Option<Box<str>>,
    /// What happens when an attempt fails.
    pub retry: Retry,
    /// An attempt fails after this many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
    /// What happens when the last attempt has failed.
    pub on_failure: OnFailure,
}

/// One thing that must be done before a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// The step that must be done.
    pub step: StepName,
    /// Skip the depending step too when that one was skipped, or failed and was passed over.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

/// How often and how soon a failed attempt is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Attempts in all, the first one included.
    pub max_attempts: u16,
    /// The pause after the first failure; it doubles with each one.
    pub backoff_ms: u32,
    /// The longest pause.
    pub backoff_max_ms: u32,
}

/// What the failure of a step means for its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The run fails; what is not done is cancelled.
    Fail,
    /// The run goes on; the step counts as done, without output.
    Continue,
    /// The run fails after this step, and what depends on it, is done.
    Compensate(StepName),
}

impl WorkflowSpec {
    /// What names this workflow.
    #[must_use]
    pub fn key(&self) -> WorkflowKey {
        WorkflowKey { namespace: self.namespace.clone(), id: self.id.clone() }
    }

    /// The document as compact JSON; its length is what the document limit counts.
    ///
    /// # Errors
    /// When a stored JSON text is not JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// A workflow as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workflow {
    /// The document.
    #[serde(flatten)]
    pub spec: WorkflowSpec,
    /// Raised by the database at each change: the version of the workflow.
    pub revision: Revision,
    /// When the id was first saved.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Who made the last change, as declared.
    pub updated_by: Actor,
}

/// A definition that is ready to run: its graph resolved and its expressions compiled. Shared by all runs of it.
#[derive(Debug)]
pub struct Definition {
    /// The document.
    pub spec: WorkflowSpec,
    /// One for each step, in the same order.
    pub steps: Box<[CompiledStep]>,
    /// The compiled template of the result.
    pub result: Option<Template>,
    /// Steps whose outputs make the result: those that its template reads, or else the last steps.
    pub result_reads: Box<[usize]>,
}

impl Definition {
    /// These steps and all that depend on one of them, directly or not.
    #[must_use]
    pub fn with_dependents(&self, steps: &[usize]) -> BTreeSet<usize> {
        let mut found: BTreeSet<usize> = steps.iter().copied().collect();
        let mut unseen = steps.to_vec();
        while let Some(order) = unseen.pop() {
            let dependents = self.steps.get(order).map_or(&[][..], |compiled| &compiled.dependents);
            unseen.extend(dependents.iter().copied().filter(|dependent| found.insert(*dependent)));
        }
        found
    }
}

/// A step that is ready to run. Numbers are positions in the list of steps.
#[derive(Debug)]
pub struct CompiledStep {
    /// What must be done before, with whether it is required.
    pub depends_on: Box<[(usize, bool)]>,
    /// What waits for this step.
    pub dependents: Box<[usize]>,
    /// The compensation that runs when it fails.
    pub compensate: Option<usize>,
    /// Whether it runs as a compensation only: it is the target of one, or depends on one.
    pub is_compensation: bool,
    /// The compiled condition.
    pub run_if: Option<Expression>,
    /// The compiled condition.
    pub skip_if: Option<Expression>,
    /// The compiled input.
    pub input: Template,
    /// Steps that the conditions read, ascending.
    pub condition_reads: Box<[usize]>,
    /// Steps that the input reads, ascending.
    pub input_reads: Box<[usize]>,
}
