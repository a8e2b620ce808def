//! Executors: how a step is done that no client session pulls.
//!
//! [`Executors::execute`] runs one attempt and always comes back with a [`Done`]; what becomes of it is decided by the
//! state machine. An executor may be ended at any await by dropping it, and then leaves nothing behind that goes on:
//! the same step may be given to another process, with the same [`StepWork::idempotency_key`].
//!
//! Invariant: what an agent or a workflow says is only ever looked up in the operator's file
//! ([`OperatorFile`]). Nothing stored can name a program, a server or an origin that this
//! file does not have.
//!
//! Invariant: nothing that others say leaves this module with a secret of that file in it ([`Redaction`]). What is cut
//! before has `…` at the cut.

mod a2a;
mod builtin;
mod command;
#[cfg(test)]
mod contact_tests;
mod http;
mod mcp;
mod redacted;
mod tail;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use a2a_core::agent::{Executor, ExecutorKind};
use a2a_core::ids::{AgentId, Namespace, RunId, StepName};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::redacted::Redacted;
use crate::egress::Egress;
use crate::operator::redaction::CUT;
use crate::operator::{OperatorFile, Redaction};

/// Somebody waits for the answer when it is asked whether an agent is there.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// Different executors of which it is kept whether they can be run.
const CAN_RUN_MAX: usize = 4_096;
/// Ending what an attempt has left is tried again later when it takes longer.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// One attempt at one step, as an executor sees it.
#[derive(Debug, Clone)]
pub struct StepWork {
    /// The run.
    pub run: RunId,
    /// The step of that run.
    pub step: StepName,
    /// The number of this attempt, from 1.
    pub attempt: i32,
    /// The namespace of the run and of its agents.
    pub namespace: Namespace,
    /// Who does it.
    pub agent: AgentId,
    /// Which capability of that agent.
    pub capability: Option<Box<str>>,
    /// How that agent works, as it was when the run was started.
    pub executor: Executor,
    /// The input.
    pub input: Value,
    /// The answer to the question that an earlier attempt has asked.
    pub answer: Option<Value>,
    /// What an earlier attempt has noted last.
    pub checkpoint: Option<Value>,
    /// The attempt fails after this long.
    pub timeout: Option<Duration>,
}

impl StepWork {
    /// Names the step and not the attempt, so that whoever does the work can tell a repetition: `{run}:{step}`.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}:{}", self.run, self.step)
    }

    /// What programs outside are told of the step.
    pub(crate) fn message(&self) -> Value {
        let mut message = json!({
            "run": self.run,
            "step": self.step,
            "attempt": self.attempt,
            "idempotency_key": self.idempotency_key(),
            "namespace": self.namespace,
            "agent": self.agent,
            "capability": self.capability,
            "input": self.input,
        });
        if let (Some(fields), Some(answer)) = (message.as_object_mut(), &self.answer) {
            fields.insert("answer".to_owned(), answer.clone());
        }
        message
    }

    /// The settings of the executor; null when they can't be read, in which every setting is missing.
    pub(crate) fn settings(&self) -> Value {
        settings_of(&self.executor)
    }
}

/// The claim is over: another process has the step, or the run has ended. Nothing that is done now counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the claim of the step is over")]
pub struct ClaimLost;

/// The way back into the run while an attempt goes on.
pub trait StepContext: Send + Sync {
    /// Stores a value that the next attempt gets when this one ends without a result. Returns when it is committed.
    fn checkpoint(&self, value: Value) -> BoxFuture<'_, Result<(), ClaimLost>>;

    /// Says how far the work is. May be called often; only the latest is kept.
    fn progress(&self, message: &str, percent: Option<u8>);

    /// Says whether whoever does the work was reached: answered in any way, or why it could not be connected to or
    /// started. Nothing is said when the operator's file does not allow it to be tried. May be called often.
    fn contact(&self, reached: Result<(), &str>) {
        let _nobody_asks = reached;
    }

    /// Cancelled when the run was cancelled or the claim is over. The executor then passes this on and ends soon; what
    /// it returns is not looked at.
    fn cancelled(&self) -> CancellationToken;

    /// After [`Self::cancelled`]: whether another attempt goes on from the checkpoint, or may. What an executor has
    /// begun elsewhere is then left alone, because it is not this attempt's any more.
    fn goes_on(&self) -> BoxFuture<'_, bool> {
        std::future::ready(false).boxed()
    }

    /// After [`Self::cancelled`]: what the executor has noted of work elsewhere is of no use any more, because that work
    /// is over.
    fn closed(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

/// How an attempt has ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// It is done.
    Completed(Value),
    /// It has failed.
    Failed {
        /// Why, for people.
        error: String,
        /// Whether another attempt may succeed and does no harm.
        retryable: bool,
    },
    /// Somebody has to answer first. The step is then attempted again, with the answer.
    Ask {
        /// What is asked.
        question: String,
        /// JSON Schema of the answer.
        schema: Option<Value>,
        /// What the attempt with the answer gets besides.
        checkpoint: Option<Value>,
    },
    /// It was given back undone.
    Released,
}

impl Done {
    /// Another attempt may succeed.
    pub(crate) fn retryable(error: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), retryable: true }
    }

    /// No other attempt helps.
    pub(crate) fn failed(error: impl Into<String>) -> Self {
        Self::Failed { error: error.into(), retryable: false }
    }
}

/// What came of speaking with an agent without giving it any work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contact {
    /// It has answered.
    Reached {
        /// What is remarkable about the answer, such as an error.
        remark: Option<String>,
    },
    /// It has not.
    NotReached {
        /// Why not.
        reason: String,
    },
}

impl Contact {
    pub(crate) fn not_reached(reason: impl Into<String>) -> Self {
        Self::NotReached { reason: reason.into() }
    }
}

/// Why this process cannot run a step: what its configuration lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

impl From<Missing> for Done {
    fn from(missing: Missing) -> Self {
        Self::failed(missing.0)
    }
}

/// One kind of executor.
pub(crate) trait Execute: Send + Sync {
    /// Whether the configuration of this process has what `settings` refer to. Quick and without IO, and always the same
    /// for the same settings.
    fn can_run(&self, settings: &Value) -> Result<(), Missing>;

    /// Runs one attempt. `work.settings()` may say anything that [`Self::can_run`] would refuse.
    fn execute(&self, work: StepWork, context: Arc<dyn StepContext>) -> BoxFuture<'_, Done>;

    /// Ends what a note tells of that an attempt has left. Limited in time by who calls this, and called again when it
    /// has failed.
    ///
    /// # Errors
    /// Why it may still go on.
    fn close<'s>(&'s self, _note: &'s Value) -> BoxFuture<'s, Result<(), String>> {
        std::future::ready(Ok(())).boxed()
    }

    /// Speaks with whoever does the work, without giving any. Limited in time by who calls this.
    ///
    /// # Errors
    /// When the configuration of this process does not allow it, in which nothing was tried.
    fn check<'s>(&'s self, settings: &'s Value) -> BoxFuture<'s, Result<Contact, Missing>>;
}

/// Reads the card of an agent of the A2A protocol, as far as the operator's file allows. The URL is that of the card, or
/// of the agent below which the card is at its well-known place.
///
/// # Errors
/// Why it could not be read.
pub async fn agent_card(operator: &Arc<OperatorFile>, url: &str) -> Result<Value, String> {
    a2a::card::read(&Egress::new(operator.clone()), url).await
}

/// All executors of a process.
pub struct Executors {
    kinds: Vec<(ExecutorKind, Box<dyn Execute>)>,
    /// For everything that others say, which leaves this module by way of it.
    redaction: Redaction,
    /// What was asked before: every ready step is asked for at each look, and the operator's file does not change.
    can_run: RwLock<HashMap<Executor, Result<(), Missing>>>,
}

impl std::fmt::Debug for Executors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executors").finish_non_exhaustive()
    }
}

impl Executors {
    /// Executors that may do what the operator's file allows.
    #[must_use]
    pub fn new(operator: Arc<OperatorFile>) -> Self {
        let egress = Arc::new(Egress::new(operator.clone()));
        Self::with_egress(operator, egress)
    }

    pub(crate) fn with_egress(operator: Arc<OperatorFile>, egress: Arc<Egress>) -> Self {
        let redaction = operator.redaction().clone();
        let kinds: Vec<(ExecutorKind, Box<dyn Execute>)> = vec![
            (ExecutorKind::Builtin, Box::new(builtin::Builtin)),
            (ExecutorKind::A2a, Box::new(a2a::A2a::new(egress.clone()))),
            (ExecutorKind::Mcp, Box::new(mcp::Mcp::new(operator.clone(), egress.clone()))),
            (ExecutorKind::Http, Box::new(http::Http::new(egress))),
            (ExecutorKind::Command, Box::new(command::Command::new(operator))),
        ];
        Self { kinds, redaction, can_run: RwLock::default() }
    }

    /// Whether this process can run the steps of an agent.
    ///
    /// # Errors
    /// Which configuration is missing.
    pub fn can_run(&self, executor: &Executor) -> Result<(), Missing> {
        if let Some(known) = self.can_run.read().get(executor) {
            return known.clone();
        }
        let can_run = self.of_kind(executor.kind).and_then(|kind| kind.can_run(&settings_of(executor)));
        let mut known = self.can_run.write();
        if known.len() >= CAN_RUN_MAX {
            known.clear();
        }
        known.insert(executor.clone(), can_run.clone());
        can_run
    }

    /// Runs one attempt. A panic in an executor is a failure of the attempt.
    pub async fn execute(&self, work: StepWork, context: Arc<dyn StepContext>) -> Done {
        let executor = match self.of_kind(work.executor.kind) {
            Ok(executor) => executor,
            Err(missing) => return missing.into(),
        };
        let (run, step, kind) = (work.run.clone(), work.step.clone(), work.executor.kind);
        // What is built in hears of no secrets, and gives back what it was given.
        let redaction = if kind == ExecutorKind::Builtin { Redaction::default() } else { self.redaction.clone() };
        let context = Arc::new(Redacted { context, redaction: redaction.clone() });
        // The executor is not used again after a panic in a way that could see a broken state: what it shares is
        // behind locks that are not held while anything else runs.
        let executing = AssertUnwindSafe(async { executor.execute(work, context).await }).catch_unwind();
        match executing.await {
            Ok(done) => redacted::done(&redaction, done),
            Err(panic) => {
                let message = &*redaction.text(panic_message(panic.as_ref()));
                tracing::error!(%run, %step, %kind, message, "an executor has panicked");
                Done::failed(format!("internal error: the {kind} executor has panicked: {message}"))
            }
        }
    }

    /// Speaks with an agent without giving it any work.
    ///
    /// # Errors
    /// Which configuration is missing; nothing was tried then.
    pub async fn check(&self, executor: &Executor) -> Result<Contact, Missing> {
        let settings = settings_of(executor);
        let checking = self.of_kind(executor.kind)?.check(&settings);
        match tokio::time::timeout(CHECK_LIMIT, checking).await {
            Ok(checked) => checked.map(|contact| redacted::contact(&self.redaction, contact)),
            Err(_) => Ok(Contact::not_reached(format!("no answer within {}", seconds(CHECK_LIMIT)))),
        }
    }

    /// Ends what a step that has ended had begun elsewhere, by what its last attempt has noted.
    ///
    /// # Errors
    /// Why it may still go on. Another try may help.
    pub(crate) async fn close(&self, executor: &Executor, note: &Value) -> Result<(), String> {
        let closing = self.of_kind(executor.kind).map_err(|missing| missing.0)?.close(note);
        match tokio::time::timeout(CLOSE_LIMIT, closing).await {
            Ok(closed) => closed.map_err(|error| self.redaction.text(&error).into_owned()),
            Err(_) => Err(format!("no answer within {}", seconds(CLOSE_LIMIT))),
        }
    }

    fn of_kind(&self, kind: ExecutorKind) -> Result<&dyn Execute, Missing> {
        let found = self.kinds.iter().find(|(known, _)| *known == kind);
        found.map(|(_, executor)| executor.as_ref()).ok_or_else(|| {
            Missing(match kind {
                ExecutorKind::Pull => "a client session takes this step with work_next".to_owned(),
                other => format!("this process has no executor of the kind {other}"),
            })
        })
    }
}

/// A text among the settings of an executor.
pub(crate) fn text_setting<'a>(settings: &'a Value, name: &str) -> Result<&'a str, Missing> {
    settings
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| Missing(format!("the settings of the agent's executor have no text {name:?}")))
}

fn settings_of(executor: &Executor) -> Value {
    executor.settings.value().unwrap_or_default()
}

/// Text from outside in a form and length that fits into an error: one line without control characters, with [`CUT`] at
/// its end when it was longer.
pub(crate) fn excerpt(bytes: &[u8], chars_max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}{CUT}", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// A time limit in words.
pub(crate) fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}

/// The limit that an executor keeps by itself, for one that undoes what it has begun elsewhere. It is a little shorter
/// than that of the run, which ends the attempt without asking whether another one does harm.
pub(crate) fn limit_within(timeout: Option<Duration>) -> Option<Duration> {
    const UNDOING_MAX: Duration = Duration::from_secs(5);
    timeout.map(|timeout| timeout.saturating_sub(UNDOING_MAX.min(timeout / 10)))
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
