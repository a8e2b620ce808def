//! One attempt at one step: from its claim to its result.

use std::sync::Arc;
use std::time::Duration;

use a2a_core::agent::Executor;
use a2a_core::ids::AgentKey;
use a2a_core::json_text::JsonText;
use a2a_core::limits;
use a2a_core::workflow::command::{ClaimRef, Event, StepResult, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::run::{Payload, Run, RunState, Step, StepStatus};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::places::is_remote;
use super::{Checked, PAUSE, Runner, actor};
use crate::executors::{ClaimLost, Done, StepContext, StepWork};

/// How long an executor may take to pass on that its work is no longer wanted.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);
/// How long an executor whose claim is over waits for the cache to show what became of the step.
const SHOWN_LIMIT: Duration = Duration::from_secs(1);
/// Most steps that one result may claim at once.
pub(super) const CLAIM_NEXT_MAX: usize = 8;

/// A claim that this process works on.
pub(super) struct Attempt {
    runner: Runner,
    run: Arc<Run>,
    step: Step,
    claim: ClaimRef,
    over: CancellationToken,
}

impl Attempt {
    pub(super) fn new(runner: Runner, run: Arc<Run>, step: Step) -> Self {
        let claim = ClaimRef { run: run.id.clone(), order: step.order, attempt: step.attempt };
        let over = runner.shared.claims.hold(claim.clone(), runner.shared.settings.lease);
        Self { runner, run, step, claim, over }
    }

    /// Works on the step and hands in the result. `place` is given back at the end.
    pub(super) async fn work(self, place: OwnedSemaphorePermit) {
        let stop = self.runner.shared.stop.clone();
        let done = tokio::select! {
            biased;
            // Given back at once: another process goes on, with the same idempotency key.
            () = stop.cancelled() => Some(Done::Released),
            done = self.execute() => done,
        };
        if let Some(done) = done {
            self.hand_in(done, place).await;
        }
    }

    /// `None` when the claim is over and nobody wants the result.
    async fn execute(&self) -> Option<Done> {
        let work = match self.step_work() {
            Ok(work) => work,
            Err(error) => return Some(Done::Failed { error, retryable: false }),
        };
        let context = Arc::new(Context {
            attempt: self.claim.clone(),
            runner: self.runner.clone(),
            over: self.over.clone(),
            agent: AgentKey { namespace: work.namespace.clone(), id: work.agent.clone() },
            executor: work.executor.clone(),
        });
        let executing = self.runner.shared.executors.execute(work, context);
        tokio::pin!(executing);
        tokio::select! {
            done = &mut executing => Some(done),
            () = self.over.cancelled() => {
                if tokio::time::timeout(CANCEL_LIMIT, executing).await.is_err() {
                    tracing::debug!(run = %self.claim.run, "an executor did not end in time after its claim was over");
                }
                None
            }
        }
    }

    fn step_work(&self) -> Result<StepWork, String> {
        let spec = self.run.definition.spec.steps.get(self.step.order).ok_or("the run has no such step")?;
        let json = |text: &JsonText| text.value().map_err(|error| format!("a stored value is not JSON: {error}"));
        let input = match &self.step.input {
            Payload::Loaded(text) => json(text)?,
            Payload::None | Payload::Stored => return Err("the input of the step was not read".to_owned()),
        };
        self.runner
            .check(Checked::Input, &self.run.namespace, spec, &input)
            .map_err(|problems| format!("the input does not fit the agent's input schema: {problems}"))?;
        Ok(StepWork {
            run: self.run.id.clone(),
            step: spec.name.clone(),
            attempt: self.step.attempt,
            namespace: self.run.namespace.clone(),
            agent: spec.agent.clone(),
            capability: spec.capability.clone(),
            executor: self.step.executor.clone(),
            input,
            answer: self.step.answer.as_ref().map(json).transpose()?,
            checkpoint: self.step.checkpoint.as_ref().map(json).transpose()?,
            timeout: spec.timeout_s.map(|seconds| Duration::from_secs(seconds.into())),
        })
    }

    /// Tells the database until it has taken or refused the result. What it has taken may have made other steps ready,
    /// which this process then goes on with.
    async fn hand_in(&self, done: Done, place: OwnedSemaphorePermit) {
        let shared = &self.runner.shared;
        // A place for a task elsewhere is none for what may be claimed next, and is given back at the end too.
        let (_remote, mut places) =
            if is_remote(self.step.executor.kind) { (Some(place), Vec::new()) } else { (None, vec![place]) };
        if !matches!(done, Done::Released) {
            places.extend(self.runner.reserve(CLAIM_NEXT_MAX - places.len()));
        }
        let event = self.event(done, &places);
        let outcome = loop {
            let command =
                WorkflowCommand::RunEvent { run: self.claim.run.clone(), event: event.clone(), actor: actor() };
            if let Some(outcome) = self.runner.submit(vec![command]).await.and_then(|mut outcomes| outcomes.pop()) {
                break outcome;
            }
            // When the process ends nothing is tried again; the lease runs out. That the claim is over may be the doing
            // of this very result, which may have claimed other steps.
            if shared.stop.is_cancelled() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        };
        match outcome {
            WorkflowOutcome::Applied { state, claimed, .. } => {
                self.tell(&state);
                shared.learner.step_changed(&state, self.claim.order, &actor());
                self.runner.work_on_claimed(&state, claimed, places);
            }
            WorkflowOutcome::Refused(refusal) => {
                tracing::info!(run = %self.claim.run, step = self.claim.order, %refusal, "a late result was refused");
            }
            WorkflowOutcome::Rejected { reason } => {
                tracing::warn!(run = %self.claim.run, step = self.claim.order, %reason, "a result was not taken");
            }
            other => tracing::debug!(?other, "a result came to nothing"),
        }
    }

    /// What a worker without a client shows of its work.
    fn tell(&self, state: &RunState) {
        if let Some((spec, step)) = state.step(self.claim.order) {
            let (run, attempt) = (&self.claim.run, self.claim.attempt);
            let (step, agent, status) = (&spec.name, &spec.agent, step.status);
            tracing::info!(%run, %step, %agent, attempt, %status, run_status = %state.run.status, "a step was handed in");
        }
    }

    fn event(&self, done: Done, places: &[OwnedSemaphorePermit]) -> Event {
        let (order, attempt) = (self.claim.order, self.claim.attempt);
        let failed = |error: String, retryable| StepResult::Failed { error: shortened(error).into(), retryable };
        let result = match done {
            Done::Completed(output) => match self.checked_output(&output) {
                Ok(output) => StepResult::Completed { output },
                Err(error) => failed(error, false),
            },
            Done::Failed { error, retryable } => failed(error, retryable),
            Done::Released => {
                return Event::Finish { order, attempt, result: StepResult::Released, claim_next: None };
            }
            Done::Ask { question, schema, checkpoint } => {
                return Event::Ask {
                    order,
                    attempt,
                    question: shortened(question).into(),
                    schema: schema.map(|schema| schema.to_string().into()),
                    checkpoint: checkpoint.as_ref().map(JsonText::new),
                };
            }
        };
        let state = self.runner.shared.view.read().run(&self.claim.run).cloned();
        let claim_next =
            state.and_then(|state| self.runner.claim_next(state.run.priority, self.runner.can_do(&state), places));
        Event::Finish { order, attempt, result, claim_next }
    }

    fn checked_output(&self, output: &Value) -> Result<JsonText, String> {
        let text = JsonText::new(output);
        let bytes = text.as_str().len();
        if bytes > limits::STEP_OUTPUT_BYTES_MAX {
            return Err(format!("the output has {bytes} bytes; at most {} are taken", limits::STEP_OUTPUT_BYTES_MAX));
        }
        let spec = self.run.definition.spec.steps.get(self.step.order).ok_or("the run has no such step")?;
        self.runner
            .check(Checked::Output, &self.run.namespace, spec, output)
            .map_err(|problems| format!("the output does not fit the agent's output schema: {problems}"))?;
        Ok(text)
    }
}

impl Drop for Attempt {
    /// However the work has ended, no more signs of life are given for it.
    fn drop(&mut self) {
        self.runner.shared.claims.let_go(&self.claim);
    }
}

/// An error or a question in a length that people read.
fn shortened(text: String) -> String {
    const CHARS_MAX: usize = 4_000;
    if text.chars().count() <= CHARS_MAX { text } else { text.chars().take(CHARS_MAX).chain(['…']).collect() }
}

/// The way of an executor back into its run.
struct Context {
    attempt: ClaimRef,
    runner: Runner,
    over: CancellationToken,
    agent: AgentKey,
    executor: Executor,
}

impl StepContext for Context {
    fn checkpoint(&self, value: Value) -> BoxFuture<'_, Result<(), ClaimLost>> {
        async move {
            let lease = self.runner.shared.settings.lease;
            loop {
                let command = WorkflowCommand::StepNote {
                    claim: self.attempt.clone(),
                    progress: None,
                    checkpoint: Some(JsonText::new(&value)),
                    lease,
                    progress_within: None,
                };
                match self.runner.submit(vec![command]).await.and_then(|mut outcomes| outcomes.pop()) {
                    Some(WorkflowOutcome::Noted) => return Ok(()),
                    Some(_) => {
                        self.over.cancel();
                        return Err(ClaimLost);
                    }
                    None if self.over.is_cancelled() || self.runner.shared.stop.is_cancelled() => {
                        return Err(ClaimLost);
                    }
                    None => tokio::time::sleep(PAUSE).await,
                }
            }
        }
        .boxed()
    }

    fn progress(&self, message: &str, percent: Option<u8>) {
        self.runner.shared.claims.progress(&self.attempt, message, percent, self.runner.now());
    }

    fn contact(&self, reached: Result<(), &str>) {
        self.runner.shared.contacts.step(&self.agent, &self.executor, reached, &actor());
    }

    fn cancelled(&self) -> CancellationToken {
        self.over.clone()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        self.runner.note_closed(&self.attempt).boxed()
    }

    fn goes_on(&self) -> BoxFuture<'_, bool> {
        async move {
            let view = &self.runner.shared.view;
            let mut changed = view.changed();
            let shown = async {
                loop {
                    changed.mark_unchanged();
                    if let Some(goes_on) = self.shown_to_go_on() {
                        return goes_on;
                    }
                    if changed.changed().await.is_err() {
                        return true;
                    }
                }
            };
            // What can't be seen in time is left to whoever has the step now.
            tokio::time::timeout(SHOWN_LIMIT, shown).await.unwrap_or(true)
        }
        .boxed()
    }
}

impl Context {
    /// Whether the cache shows that another attempt goes on from the checkpoint; nothing while it shows this one.
    fn shown_to_go_on(&self) -> Option<bool> {
        let cache = self.runner.shared.view.read();
        let Some(state) = cache.run(&self.attempt.run) else {
            return cache.has_ended(&self.attempt.run).then_some(false);
        };
        let step = state.steps.get(self.attempt.order)?;
        if step.status == StepStatus::Running && step.attempt == self.attempt.attempt {
            return None;
        }
        // A step that begins anew has no checkpoint.
        Some(!step.status.is_finished() && step.checkpoint.is_some())
    }
}
