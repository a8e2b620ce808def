//! One execution of a workflow, and its steps.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::agent::{Executor, ExecutorKind};
use crate::ids::{Actor, Namespace, Revision, RunId, WorkflowId};
use crate::json_text::JsonText;
use crate::time::Timestamp;
use crate::workflow::definition::{Definition, StepSpec};

macro_rules! status {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "UPPERCASE")]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every status.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word in replies and in the database.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The status with this word, in capitals or not.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|status| status.as_str().eq_ignore_ascii_case(name))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

status!(
    /// Where a run stands.
    RunStatus {
        /// Nothing was begun yet.
        Pending = "PENDING",
        /// A step is worked on, or about to be.
        Running = "RUNNING",
        /// It goes on when somebody takes a step or answers, a time comes, or it is resumed.
        Waiting = "WAITING",
        /// It has ended with a result.
        Completed = "COMPLETED",
        /// It has ended with an error.
        Failed = "FAILED",
        /// It was cancelled.
        Cancelled = "CANCELLED",
    }
);

impl RunStatus {
    /// Whether the run has ended.
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

status!(
    /// Where a step stands.
    StepStatus {
        /// What it depends on is not done, or the run is paused or has no free place.
        Pending = "PENDING",
        /// It can be claimed.
        Ready = "READY",
        /// A worker has it.
        Running = "RUNNING",
        /// It goes on at a time, or when somebody answers.
        Waiting = "WAITING",
        /// It is done.
        Completed = "COMPLETED",
        /// Its last attempt has failed.
        Failed = "FAILED",
        /// A condition, or a step that it requires, said that it is not to be done.
        Skipped = "SKIPPED",
        /// The run ended before it was done.
        Cancelled = "CANCELLED",
    }
);

impl StepStatus {
    /// Whether the step has ended.
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Skipped | Self::Cancelled)
    }
}

/// One execution of a workflow.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The namespace of its agents.
    pub namespace: Namespace,
    /// The workflow that it executes, `None` for steps that were given with the call.
    pub workflow: Option<WorkflowId>,
    /// The revision of that workflow.
    pub workflow_revision: Option<Revision>,
    /// What it executes: a snapshot, so that a change of the workflow does not change it.
    pub definition: Arc<Definition>,
    /// Where it stands.
    pub status: RunStatus,
    /// Nothing new is begun while this holds.
    pub paused: bool,
    /// Steps of a higher one are taken first; 0 to 9, 5 unless given.
    pub priority: i16,
    /// An object that expressions see as `context`.
    pub context: JsonText,
    /// What expressions see as `input`.
    pub input: JsonText,
    /// What came of it, once it has completed.
    pub result: Option<JsonText>,
    /// Why it has failed, or will fail when the compensation that goes on is done.
    pub error: Option<Box<str>>,
    /// Starting again with the same key finds this run.
    pub idempotency_key: Option<Box<str>>,
    /// The run whose results it took over.
    pub forked_from: Option<RunId>,
    /// Raised at each change of the run itself; steps have their own.
    pub revision: Revision,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Who asked for it, as declared.
    pub created_by: Actor,
    /// When the first step was taken.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it fails because it takes too long.
    pub timeout_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Who made the last change, as declared.
    pub updated_by: Actor,
}

/// A JSON text that may be in the database only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Payload {
    /// There is none.
    #[default]
    None,
    /// It is in the database and was not read.
    Stored,
    /// Here it is.
    Loaded(JsonText),
}

/// One step of a run. What does not change is in the definition, at the same position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its position in the definition.
    pub order: usize,
    /// How its agent works, as it was when the run was started.
    pub executor: Executor,
    /// Where it stands.
    pub status: StepStatus,
    /// Raised at each claim: the fencing token.
    pub attempt: i32,
    /// Attempts that failed or whose worker vanished.
    pub failures: i32,
    /// The input, evaluated when the step became ready.
    pub input: Payload,
    /// The output, once it has completed.
    pub output: Payload,
    /// Why the last attempt failed.
    pub error: Option<Box<str>>,
    /// Why it waits.
    pub wait: Option<Wait>,
    /// The answer to a question that the step has asked.
    pub answer: Option<JsonText>,
    /// What an executor has noted, so that another process goes on where it stood. When the step has ended with one,
    /// what it tells of goes on elsewhere and is to be ended.
    pub checkpoint: Option<JsonText>,
    /// How far the worker says it is.
    pub progress: Option<Progress>,
    /// Which process has it.
    pub lease_owner: Option<Box<str>>,
    /// Without a sign of that process until then, the step is given to another; when the step has ended, what it has
    /// noted is.
    pub lease_until: Option<Timestamp>,
    /// Without a call about the claim until then, the step is given to another.
    pub progress_until: Option<Timestamp>,
    /// When this attempt has taken too long.
    pub timeout_at: Option<Timestamp>,
    /// When a waiting step goes on by itself.
    pub due_at: Option<Timestamp>,
    /// When it became ready.
    pub ready_at: Option<Timestamp>,
    /// When it was first claimed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Raised at each change.
    pub revision: Revision,
}

/// What a step asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'s> {
    /// Tells it from all other questions of the step.
    pub number: Revision,
    /// What is asked.
    pub text: &'s str,
    /// JSON Schema of the answer, as JSON text.
    pub schema: Option<&'s str>,
}

impl Step {
    /// The question that the step waits to be answered. Nothing else changes a step while it asks, so that its revision
    /// is the number of the question.
    #[must_use]
    pub fn question(&self) -> Option<Question<'_>> {
        match (self.status, &self.wait) {
            (StepStatus::Waiting, Some(Wait::Answer { question, schema, .. })) => {
                Some(Question { number: self.revision, text: question, schema: schema.as_deref() })
            }
            _ => None,
        }
    }

    /// The earliest time at which the step changes without anybody calling.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        match self.status {
            StepStatus::Running => [self.lease_until, self.progress_until, self.timeout_at].into_iter().flatten().min(),
            StepStatus::Waiting => [self.due_at, self.timeout_at].into_iter().flatten().min(),
            _ => None,
        }
    }
}

/// Why a step waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Wait {
    /// For the pause after a failed attempt.
    Retry,
    /// For a time.
    Timer,
    /// For an answer: of a person, or of whoever signals the run.
    Answer {
        /// What is asked.
        question: Box<str>,
        /// JSON Schema of the answer, as JSON text.
        schema: Option<Box<str>>,
        /// The answer is the output of the step; otherwise the step becomes ready again and its worker gets it.
        completes: bool,
    },
}

/// How far a worker says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// In words.
    pub message: Box<str>,
    /// 0 to 100.
    pub percent: Option<u8>,
    /// When it was said.
    pub at: Timestamp,
}

/// A run with all its steps.
#[derive(Debug, Clone)]
pub struct RunState {
    /// The run.
    pub run: Run,
    /// One for each step of the definition, in the same order.
    pub steps: Vec<Step>,
}

impl RunState {
    /// A step with its definition.
    #[must_use]
    pub fn step(&self, order: usize) -> Option<(&StepSpec, &Step)> {
        Some((self.run.definition.spec.steps.get(order)?, self.steps.get(order)?))
    }
}

/// Where a run stands that has not ended, by its steps: what it is told to be between two events. A claim changes its
/// step alone, so that the status in the row of the run may be that of before.
#[must_use]
pub fn status_of(steps: &[Step]) -> RunStatus {
    let is_begun =
        |step: &Step| step.started_at.is_some() || !matches!(step.status, StepStatus::Pending | StepStatus::Ready);
    let is_worked_on = |step: &Step| match step.status {
        StepStatus::Running => true,
        StepStatus::Ready => step.executor.kind != ExecutorKind::Pull,
        _ => false,
    };
    if !steps.iter().any(is_begun) {
        RunStatus::Pending
    } else if steps.iter().any(is_worked_on) {
        RunStatus::Running
    } else {
        RunStatus::Waiting
    }
}
