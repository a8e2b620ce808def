//! What callers ask the store for, and what comes of it.
//!
//! Each of these can be sent again after an unknown outcome without being applied twice: a write of a workflow has its
//! operation id, a run its own id before it is sent, a claim its name, everything about a claim its attempt, and the rest
//! is the same when done twice.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::{ContentHash, Executor};
use crate::ids::{Actor, Namespace, OpId, Revision, RunId, WorkflowId, WorkflowKey};
use crate::json_text::JsonText;
use crate::workflow::definition::{Definition, Workflow, WorkflowSpec};
use crate::workflow::run::{Progress, Run, RunState, RunStatus, Step, StepStatus};

/// A write about workflows.
#[derive(Debug, Clone)]
pub enum WorkflowCommand {
    /// Saves a workflow.
    WorkflowPut(Box<WorkflowPut>),
    /// Removes a workflow. Its runs go on: they have their own snapshot.
    WorkflowRemove {
        /// Names this write across retries.
        op_id: OpId,
        /// Which one.
        key: WorkflowKey,
        /// Only at this revision.
        expected_revision: Option<Revision>,
        /// Who asks.
        actor: Actor,
    },
    /// Begins a run; [`crate::workflow::machine::start`] makes it, with the time of the database.
    RunStart(Box<NewRun>),
    /// Something happens to a run.
    RunEvent {
        /// Which run.
        run: RunId,
        /// What happens.
        event: Event,
        /// Who caused it.
        actor: Actor,
    },
    /// Takes a ready step.
    StepClaim {
        /// Which run.
        run: RunId,
        /// Position of the step.
        order: usize,
        /// Who takes it.
        claimer: Claimer,
    },
    /// Says that the worker of a claim is alive.
    StepRenew {
        /// The claim.
        claim: ClaimRef,
        /// The lease lasts so long from now.
        lease: Duration,
    },
    /// Notes what a worker wants to be kept, and that it works.
    StepNote {
        /// The claim.
        claim: ClaimRef,
        /// How far it is.
        progress: Option<Progress>,
        /// What another process needs to go on.
        checkpoint: Option<JsonText>,
        /// The lease lasts so long from now.
        lease: Duration,
        /// The next call about the claim must come within this time.
        progress_within: Option<Duration>,
    },
}

/// A run that is to be begun.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its id, made by the caller so that sending it again begins no second run.
    pub id: RunId,
    /// The namespace of its agents.
    pub namespace: Namespace,
    /// The workflow that it executes, `None` for steps that were given with the call.
    pub workflow: Option<WorkflowId>,
    /// The revision of that workflow.
    pub workflow_revision: Option<Revision>,
    /// What it executes.
    pub definition: Arc<Definition>,
    /// How the agent of each step works, in the order of the steps.
    pub executors: Vec<Executor>,
    /// The whole context: the defaults of the workflow with what the caller gave over them.
    pub context: JsonText,
    /// What expressions see as `input`.
    pub input: JsonText,
    /// 0 to 9.
    pub priority: i16,
    /// Starting again with the same key finds this run.
    pub idempotency_key: Option<Box<str>>,
    /// The run whose results are taken over.
    pub forked_from: Option<RunId>,
    /// Steps that count as done, in the order of the steps; empty when there are none.
    pub kept: Vec<Option<KeptStep>>,
    /// Steps that are ready at once may be claimed at once.
    pub claim_next: Option<ClaimNext>,
    /// Who asks.
    pub actor: Actor,
}

/// The end of a step in an earlier run that a new one takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptStep {
    /// Completed, failed (and passed over) or skipped.
    pub status: StepStatus,
    /// Its input.
    pub input: Option<JsonText>,
    /// Its output.
    pub output: Option<JsonText>,
    /// Its error.
    pub error: Option<Box<str>>,
}

impl KeptStep {
    /// What its texts weigh.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let json = [&self.input, &self.output].into_iter().flatten().map(|text| text.as_str().len());
        json.sum::<usize>() + self.error.as_ref().map_or(0, |error| error.len())
    }
}

/// A new document of a workflow.
#[derive(Debug, Clone)]
pub struct WorkflowPut {
    /// Names this write across retries.
    pub op_id: OpId,
    /// The document.
    pub spec: Arc<WorkflowSpec>,
    /// The document as compact JSON.
    pub document: Arc<str>,
    /// The hash of `document`.
    pub content_hash: ContentHash,
    /// Save only when the workflow has this revision; 0 means only when there is none.
    pub expected_revision: Option<Revision>,
    /// Who asks.
    pub actor: Actor,
}

/// Who takes a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimer {
    /// The process, and within it the claim: no two claims have the same.
    pub owner: Box<str>,
    /// The lease lasts so long from the claim.
    pub lease: Duration,
    /// The next call about the claim must come within this time.
    pub progress_within: Option<Duration>,
}

/// One claim of one step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimRef {
    /// Which run.
    pub run: RunId,
    /// Position of the step.
    pub order: usize,
    /// The attempt that the claim has made.
    pub attempt: i32,
}

/// What happens to a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// A worker hands in what came of its claim.
    Finish {
        /// Position of the step.
        order: usize,
        /// The attempt of the claim.
        attempt: i32,
        /// What came of it.
        result: StepResult,
        /// Steps that become ready by this may be claimed at once.
        claim_next: Option<ClaimNext>,
    },
    /// A worker asks a question; its claim ends.
    Ask {
        /// Position of the step.
        order: usize,
        /// The attempt of the claim.
        attempt: i32,
        /// What is asked.
        question: Box<str>,
        /// JSON Schema of the answer, as JSON text.
        schema: Option<Box<str>>,
        /// What another worker needs to go on.
        checkpoint: Option<JsonText>,
    },
    /// Somebody answers the question of a step.
    Answer {
        /// Position of the step.
        order: usize,
        /// The number of the question, see [`Step::question`]: what is meant for one must not answer a later one.
        question: Revision,
        /// The answer, already checked against the schema of the question.
        answer: JsonText,
        /// A person refuses: the step fails, without another attempt.
        refuse: bool,
    },
    /// What the last claim of a step that has ended had begun elsewhere is over: its note is not needed any more.
    Closed {
        /// Position of the step.
        order: usize,
        /// Its attempt.
        attempt: i32,
    },
    /// Time has passed: leases, timeouts, timers and pauses are looked at.
    Tick,
    /// Ends the run.
    Cancel {
        /// Why.
        reason: Box<str>,
    },
    /// Begins nothing new.
    Pause,
    /// Goes on after a pause.
    Resume,
    /// A failed run goes on: its failed and cancelled steps are done again. Refused once a compensation has completed.
    Retry,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepResult {
    /// It is done.
    Completed {
        /// The output, already checked against the schema of the capability.
        output: JsonText,
    },
    /// The attempt failed.
    Failed {
        /// Why.
        error: Box<str>,
        /// Whether another attempt may help.
        retryable: bool,
    },
    /// The worker gives it back; it counts as no attempt.
    Released,
}

/// Lets a process go on with what its result makes ready, in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNext {
    /// Begins the owner of each claim; the position of the step is appended.
    pub claimer: Claimer,
    /// Positions of steps that the process can do, of this run.
    pub can_do: Arc<[bool]>,
    /// Most steps to claim.
    pub limit: usize,
}

/// What came of a command.
#[derive(Debug, Clone)]
pub enum WorkflowOutcome {
    /// The workflow was saved, now or by an earlier attempt of the same command.
    WorkflowPut {
        /// As that write has left it.
        workflow: Arc<Workflow>,
        /// The live revision that was replaced.
        replaced_revision: Option<Revision>,
    },
    /// The workflow was already so.
    WorkflowUnchanged {
        /// The revision that stays.
        revision: Revision,
    },
    /// The workflow was removed at this revision.
    WorkflowRemoved {
        /// The revision of the removal.
        revision: Revision,
    },
    /// The revision was not the expected one.
    Conflict {
        /// The revision there is, 0 for none.
        current: Revision,
    },
    /// There is no such workflow, run or step.
    NotFound,
    /// The run was begun, now or by an earlier attempt of the same command.
    Started {
        /// The run as it is now, with all payloads loaded when it was begun now.
        state: Arc<RunState>,
        /// Positions of the steps that were claimed by `claim_next`.
        claimed: Vec<usize>,
    },
    /// The idempotency key has a run already.
    AlreadyStarted {
        /// That run.
        run: RunId,
    },
    /// The event happened, or had happened before.
    Applied {
        /// The run as it is now. Payloads of its steps may not be loaded.
        state: Arc<RunState>,
        /// Positions of the steps that were claimed by `claim_next`, with their inputs loaded.
        claimed: Vec<usize>,
        /// Whether it had happened before.
        repeated: bool,
    },
    /// The step was taken; its input is loaded.
    Claimed {
        /// The run.
        run: Arc<Run>,
        /// The step.
        step: Box<Step>,
    },
    /// The note was taken, the lease renewed.
    Noted,
    /// The event cannot happen now.
    Refused(Refusal),
    /// The database refuses this command itself; others were not affected.
    Rejected {
        /// What a caller may see of the reason.
        reason: Box<str>,
    },
}

/// Why an event cannot happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another worker has the step, or it has ended: the claim is over.
    #[error("the claim is over: the step is {status} at attempt {attempt}")]
    Stale {
        /// Where the step stands.
        status: StepStatus,
        /// Its attempt.
        attempt: i32,
    },
    /// The step is not in a state in which this can happen.
    #[error("the step is {status}")]
    Step {
        /// Where it stands.
        status: StepStatus,
    },
    /// The run is not in a state in which this can happen.
    #[error("the run is {status}")]
    Run {
        /// Where it stands.
        status: RunStatus,
    },
    /// The step asks another question by now.
    #[error("the step asks question {current} by now")]
    OtherQuestion {
        /// The number of the question that it asks.
        current: Revision,
    },
    /// A compensation of the run has completed.
    #[error("its compensation has completed, so that effects of its steps are undone whose results it still has")]
    Compensated,
    /// There is no such step.
    #[error("the run has no such step")]
    NoSuchStep,
}
