//! Why an operation did not succeed, in terms that every face can show.

use std::time::Duration;

use a2a_core::error::Problems;
use a2a_core::ids::{OpId, Revision, RunId};
use a2a_core::workflow::run::StepStatus;
use a2a_store::writer::WriteError;

/// An error of an operation of the `Hub`. Its text may be shown to anyone: it holds no SQL, hosts or credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// The input is not valid.
    #[error("{0}")]
    Invalid(#[from] Problems),
    /// There is no such thing.
    #[error("there is no {entity} {id:?}{}", nearest_text(nearest))]
    NotFound {
        /// What kind of thing: agent, workflow, run or step.
        entity: &'static str,
        /// What was asked for.
        id: String,
        /// Ids that look like it.
        nearest: Vec<String>,
    },
    /// The start of an id fits several things.
    #[error("{id:?} fits several {entity}s: {}; use a whole id", candidates.join(", "))]
    Ambiguous {
        /// What kind of thing: agent, workflow or run.
        entity: &'static str,
        /// What was asked for.
        id: String,
        /// Some of them.
        candidates: Vec<String>,
    },
    /// It is not at the expected revision.
    #[error("{}", conflict_text(entity, id, *expected, *current))]
    Conflict {
        /// What kind of thing: agent or workflow.
        entity: &'static str,
        /// Which one.
        id: String,
        /// The revision that the caller expected.
        expected: Revision,
        /// The revision there is, 0 for none.
        current: Revision,
    },
    /// Not done because another item of the same atomic call could not be.
    #[error("not done, because another item of this atomic call could not be done")]
    Aborted,
    /// The database does not accept the document.
    #[error("{reason}")]
    Rejected {
        /// Why.
        reason: String,
    },
    /// The agents are still being loaded.
    #[error(
        "the agents are not loaded yet{}; try again in a few seconds, or run `a2a-mcp doctor`",
        reason_text(reason)
    )]
    NotReady {
        /// What keeps them.
        reason: Option<String>,
    },
    /// Nothing will load the agents before somebody changes something.
    #[error("the database can't be used: {reason}; run `a2a-mcp doctor`")]
    Unusable {
        /// Why.
        reason: String,
    },
    /// Too many writes are waiting.
    #[error("too many writes are waiting; try again in {} ms", retry_after.as_millis())]
    Overloaded {
        /// When to come back.
        retry_after: Duration,
    },
    /// The database did not answer in time. Nothing was changed.
    #[error("the database did not answer in time; nothing was changed; try again")]
    Unavailable,
    /// It is not known whether the write happened.
    #[error(
        "the database did not answer in time; the write may have happened or not; \
         {}", if op_ids.is_empty() {
            "look at what became of it before sending it again"
        } else {
            "send it again with the same op_id: it is never applied twice"
        }
    )]
    Unknown {
        /// The names of the writes.
        op_ids: Vec<OpId>,
    },
    /// It is not known whether a run was started.
    #[error(
        "the database did not answer in time; the run {run} may have been started or not; look with workflow_status \
         before starting another one"
    )]
    StartUnknown {
        /// Its id, if it was.
        run: RunId,
    },
    /// The claim that a worker names is over.
    #[error(
        "this claim is over: the step is {status} at attempt {attempt}; its result is not taken; \
         call work_next for other work"
    )]
    ClaimOver {
        /// Where the step stands.
        status: StepStatus,
        /// Its attempt.
        attempt: i32,
    },
    /// The step does not ask what was meant to be answered.
    #[error("{}", other_question_text(step, asked))]
    OtherQuestion {
        /// The name of the step.
        step: String,
        /// The number of the question that it asks, and the start of its text.
        asked: Option<(Revision, String)>,
    },
    /// It cannot be done in the state in which the run or step is.
    #[error("{reason}")]
    Refused {
        /// Why, and what can be done instead.
        reason: String,
    },
    /// A queue has as much as it may have. Nothing was changed.
    #[error("{reason}")]
    QueueFull {
        /// Which queue, and what to do.
        reason: String,
    },
    /// This process is a replica. Nothing was changed.
    #[error(
        "this server is a replica (A2A_STORAGE=replica): it only reads, and nothing was changed; write through a \
         server in mode persisted, or set A2A_STORAGE=persisted"
    )]
    ReadOnly,
    /// The process is ending. Nothing was changed.
    #[error("the server is shutting down; nothing was changed")]
    Closed,
}

fn nearest_text(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; nearest: {}", nearest.join(", ")) }
}

fn other_question_text(step: &str, asked: &Option<(Revision, String)>) -> String {
    match asked {
        Some((number, text)) => {
            format!("step {step:?} asks another question by now: {text:?}; answer that one with question={number}")
        }
        None => format!("step {step:?} asks nothing any more; workflow_status shows which step waits"),
    }
}

fn reason_text(reason: &Option<String>) -> String {
    reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"))
}

fn conflict_text(entity: &str, id: &str, expected: Revision, current: Revision) -> String {
    match (expected, current) {
        (0, _) => format!("{entity} {id:?} exists at revision {current}; expected_revision 0 means that it must not"),
        (_, 0) => format!("{entity} {id:?} does not exist; leave expected_revision out to make it"),
        _ => format!(
            "{entity} {id:?} is at revision {current}, not {expected}; read it again and repeat with \
             expected_revision {current}"
        ),
    }
}

impl HubError {
    /// A short name that programs can match.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::NotFound { .. } => "not_found",
            Self::Ambiguous { .. } => "ambiguous",
            Self::Conflict { .. } | Self::OtherQuestion { .. } => "conflict",
            Self::Aborted => "aborted",
            Self::Rejected { .. } => "rejected",
            Self::NotReady { .. } => "not_ready",
            Self::Unusable { .. } => "unusable",
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Unknown { .. } | Self::StartUnknown { .. } => "unknown",
            Self::ClaimOver { .. } => "claim_over",
            Self::Refused { .. } => "refused",
            Self::QueueFull { .. } => "queue_full",
            Self::ReadOnly => "read_only",
            Self::Closed => "closed",
        }
    }

    /// Whether the very same call can succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NotReady { .. }
                | Self::Overloaded { .. }
                | Self::QueueFull { .. }
                | Self::Unavailable
                | Self::Unknown { .. }
                | Self::Closed
        )
    }
}

impl From<WriteError> for HubError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            WriteError::NotDone { .. } => Self::Unavailable,
            WriteError::Unknown { op_ids } => Self::Unknown { op_ids },
            WriteError::Refused { cause } => {
                // The cause may name tables or hosts, so that it goes to the log only.
                tracing::error!(%cause, "the database refuses to write");
                Self::Unusable { reason: "it refuses to write".to_owned() }
            }
            WriteError::ReadOnly => Self::ReadOnly,
            WriteError::Closed => Self::Closed,
        }
    }
}
