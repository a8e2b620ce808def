//! Work that client sessions do: taking a step, reporting on it, handing in what came of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use a2a_core::agent::{Agent, ExecutorKind};
use a2a_core::error::Problems;
use a2a_core::ids::{Actor, AgentId, Namespace, RunId, StepName};
use a2a_core::json_text::JsonText;
use a2a_core::limits;
use a2a_core::memory::{Memory, secrets};
use a2a_core::workflow::command::{ClaimRef, Claimer, Event, Refusal, StepResult, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::live::{ReadyStep, WorkflowCache};
use a2a_core::workflow::run::{Payload, Progress, Run, RunState, Step};
use serde_json::Value;
use tokio::time::Instant;

use super::runs::step_order;
use super::workflows::{shown, unexpected};
use super::{Hub, Running};
use crate::error::HubError;
use crate::runner::{Checked, capability_of};

/// A worker that is not heard of for so long has lost its step. Renewed by every call about the claim.
pub const PROGRESS_WITHIN: Duration = Duration::from_secs(30 * 60);

/// How long a call that waits no more goes on claiming when others are always quicker.
const CLAIM_PATIENCE: Duration = Duration::from_secs(5);

/// A step that a session has taken.
#[derive(Debug, Clone)]
pub struct WorkItem {
    /// Names the claim in every later call about it.
    pub claim: String,
    /// The run.
    pub run: Arc<Run>,
    /// The step, with its input.
    pub step: Step,
    /// Its name.
    pub step_name: StepName,
    /// The agent whose work it is, as it is now; `None` when it was removed since.
    pub agent: Option<Arc<Agent>>,
    /// Which capability is wanted.
    pub capability: Option<String>,
    /// What was learned before that matters here.
    pub memories: Vec<Arc<Memory>>,
}

/// What came of handing in a step.
#[derive(Debug, Clone)]
pub struct HandedIn {
    /// The run as it is now.
    pub state: Arc<RunState>,
    /// The memory that keeps what was learned, or why it was not kept.
    pub remembered: Option<Result<Arc<Memory>, HubError>>,
}

/// What a session says of its step.
#[derive(Debug, Clone, Default)]
pub struct WorkUpdate {
    /// How far it is, in words.
    pub progress: Option<String>,
    /// 0 to 100.
    pub percent: Option<u8>,
    /// What another session needs to go on, should this one vanish.
    pub checkpoint: Option<Value>,
    /// A question to a person. It ends the claim; the step is given out again when it is answered.
    pub question: Option<String>,
    /// JSON Schema of the answer.
    pub answer_schema: Option<Value>,
}

/// What came of a step.
#[derive(Debug, Clone)]
pub enum WorkOutcome {
    /// It is done.
    Done(Value),
    /// It was tried and failed.
    Failed {
        /// Why.
        error: String,
        /// Whether another attempt may help.
        retryable: bool,
    },
    /// It is given back untouched.
    Released,
}

impl Hub {
    /// Takes the most urgent step that waits for one of `agents`, or for any, and waits for one to come when there is
    /// none.
    ///
    /// # Errors
    /// When an agent is not known, or the database did not answer in time.
    pub async fn work_next(
        &self,
        namespace: Option<&Namespace>,
        agents: &[String],
        wait: Duration,
        actor: &Actor,
    ) -> Result<Option<WorkItem>, HubError> {
        self.writable()?;
        let until = Instant::now() + wait;
        let running = self.running().await?;
        let namespace = self.namespace(namespace);
        let mut wanted: Vec<AgentId> = Vec::with_capacity(agents.len());
        for id in agents {
            let agent = self.agent_get(Some(&namespace), id).await?;
            running.contacts.pulled(&agent, actor);
            wanted.push(agent.spec.id.clone());
        }
        let patience = until.max(Instant::now() + CLAIM_PATIENCE);
        let mut changed = self.inner.workflows.changed();
        loop {
            changed.mark_unchanged();
            if let Some(item) = self.work_claim(running, &namespace, &wanted, patience, actor).await? {
                return Ok(Some(item));
            }
            match tokio::time::timeout_at(until, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(None),
            }
        }
    }

    /// Claims the most urgent step that is to be had. When others are quicker it goes on with the next one, until there is
    /// none: a step that was lost is not tried again before it is ready anew.
    async fn work_claim(
        &self,
        running: &Running,
        namespace: &Namespace,
        agents: &[AgentId],
        patience: Instant,
        actor: &Actor,
    ) -> Result<Option<WorkItem>, HubError> {
        let lease = running.runner.settings().pull_lease;
        let mut lost: HashSet<ReadyStep> = HashSet::new();
        while Instant::now() < patience {
            if running.runner.is_closing() {
                return Err(HubError::Closed);
            }
            let ready = most_urgent(&self.inner.workflows.read(), namespace, agents, &lost);
            let Some(ready) = ready else { return Ok(None) };
            let claimer = Claimer {
                owner: format!("{actor}/{}", uuid::Uuid::new_v4().simple()).into(),
                lease,
                progress_within: Some(PROGRESS_WITHIN),
            };
            let command = WorkflowCommand::StepClaim { run: ready.run.clone(), order: ready.order, claimer };
            let WorkflowOutcome::Claimed { run, step } = self.workflow_command(running, command).await? else {
                lost.insert(ready);
                continue;
            };
            if let Some(item) = self.work_item(running, run, *step, actor).await? {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// `None` when the input does not fit, so that the step has failed.
    async fn work_item(
        &self,
        running: &Running,
        run: Arc<Run>,
        step: Step,
        actor: &Actor,
    ) -> Result<Option<WorkItem>, HubError> {
        let Some(spec) = run.definition.spec.steps.get(step.order).cloned() else { return Ok(None) };
        let claim = ClaimRef { run: run.id.clone(), order: step.order, attempt: step.attempt };
        running.runner.claims().hold_pulled(claim.clone(), running.runner.settings().pull_lease);
        if running.runner.is_closing() {
            // Claimed while the process ends: what is held then is given back, this with the rest or here.
            running.runner.release(vec![claim]).await;
            return Err(HubError::Closed);
        }
        let agent = self.inner.cache.read().get(&run.namespace, spec.agent.as_str()).cloned();
        if let Some(agent) = &agent {
            running.contacts.pulled(agent, actor);
        }
        let input = match &step.input {
            Payload::Loaded(text) => text.value().unwrap_or(Value::Null),
            Payload::None | Payload::Stored => Value::Null,
        };
        if let Err(problems) = running.runner.check(Checked::Input, &run.namespace, &spec, &input) {
            let error = format!("the input does not fit the agent's input schema: {problems}");
            let result = StepResult::Failed { error: error.into(), retryable: false };
            let event = Event::Finish { order: step.order, attempt: step.attempt, result, claim_next: None };
            running.runner.claims().let_go(&claim);
            self.run_event(running, &run.id, event, actor).await?;
            return Ok(None);
        }
        let capability = agent
            .as_ref()
            .and_then(|agent| capability_of(&agent.spec, spec.capability.as_deref()))
            .map(|capability| capability.name.to_string());
        let mut item = WorkItem {
            claim: claim_text(&run.id, spec.name.as_str(), step.attempt),
            capability: capability.or_else(|| spec.capability.as_ref().map(ToString::to_string)),
            step_name: spec.name,
            run,
            step,
            agent,
            memories: Vec::new(),
        };
        item.memories = self.memories_for_step(&item, &input).await;
        Ok(Some(item))
    }

    /// Reports on a step that was taken, which also keeps the claim, or asks a person a question.
    ///
    /// # Errors
    /// When the claim is over, what is said is not valid, or the database did not take it.
    pub async fn work_update(&self, claim: &str, update: WorkUpdate, actor: &Actor) -> Result<(), HubError> {
        let running = self.running().await?;
        let (_, claim) = self.work_claimed(claim).await?;
        let checkpoint = match update.checkpoint.as_ref().map(JsonText::new) {
            Some(text) if text.as_str().len() > limits::DOCUMENT_BYTES_MAX => {
                let message =
                    format!("has {} bytes; at most {} are kept", text.as_str().len(), limits::DOCUMENT_BYTES_MAX);
                return Err(Problems::one("checkpoint", message).into());
            }
            checkpoint => checkpoint,
        };
        if let Some(question) = update.question {
            if let Some(schema) = &update.answer_schema {
                let bytes = schema.to_string().len();
                if bytes > limits::DOCUMENT_BYTES_MAX {
                    let message = format!("has {bytes} bytes; at most {} are taken", limits::DOCUMENT_BYTES_MAX);
                    return Err(Problems::one("answer_schema", message).into());
                }
                let problems = a2a_core::json_schema::problems(schema);
                if !problems.is_empty() {
                    return Err(Problems(problems).into());
                }
            }
            let event = Event::Ask {
                order: claim.order,
                attempt: claim.attempt,
                question: question.into(),
                schema: update.answer_schema.map(|schema| schema.to_string().into()),
                checkpoint,
            };
            return self.work_end(running, &claim, event, actor).await.map(drop);
        }
        let at = a2a_core::time::Timestamp::from_system_time(std::time::SystemTime::now());
        let progress = (update.progress.is_some() || update.percent.is_some()).then(|| Progress {
            message: update.progress.unwrap_or_default().into(),
            percent: update.percent,
            at,
        });
        self.work_note(running, &claim, progress, checkpoint).await
    }

    /// Keeps a claim: whoever calls about it works on its step.
    async fn work_note(
        &self,
        running: &Running,
        claim: &ClaimRef,
        progress: Option<Progress>,
        checkpoint: Option<JsonText>,
    ) -> Result<(), HubError> {
        let lease = running.runner.settings().pull_lease;
        // This process gives the signs of life from now on, also when another one has taken the step.
        running.runner.claims().hold_pulled(claim.clone(), lease);
        let command = WorkflowCommand::StepNote {
            claim: claim.clone(),
            progress,
            checkpoint,
            lease,
            progress_within: Some(PROGRESS_WITHIN),
        };
        match self.workflow_command(running, command).await? {
            WorkflowOutcome::Noted => Ok(()),
            other => Err(self.claim_error(running, claim, other)),
        }
    }

    /// Hands in what came of a step. An output that does not fit the schema of the capability is refused and the claim
    /// stays, with all its time, so that it can be mended.
    ///
    /// # Errors
    /// When the claim is over, the output does not fit, or the database did not take it.
    pub async fn work_finish(
        &self,
        claim: &str,
        outcome: WorkOutcome,
        learned: Option<String>,
        actor: &Actor,
    ) -> Result<HandedIn, HubError> {
        let running = self.running().await?;
        let (state, claim) = self.work_claimed(claim).await?;
        if let Some(learned) = &learned {
            refuse_secrets(learned)?;
        }
        let success = matches!(outcome, WorkOutcome::Done(_));
        let result = match outcome {
            WorkOutcome::Done(output) => {
                let text = JsonText::new(&output);
                if let Err(problems) = output_problems(running, &state, &claim, &output, &text) {
                    self.work_note(running, &claim, None, None).await?;
                    return Err(problems.into());
                }
                StepResult::Completed { output: text }
            }
            WorkOutcome::Failed { error, retryable } => StepResult::Failed { error: error.into(), retryable },
            WorkOutcome::Released => StepResult::Released,
        };
        let (hub, actor) = (self.clone(), actor.clone());
        to_the_end(async move {
            let running = hub.running().await?;
            let (places, claim_next) = running.runner.claim_after(&state);
            let event = Event::Finish { order: claim.order, attempt: claim.attempt, result, claim_next };
            let (state, claimed) = hub.work_end(running, &claim, event, &actor).await?;
            running.runner.work_on_claimed(&state, claimed, places);
            running.learner.step_changed(&state, claim.order, &actor);
            let remembered = match learned {
                Some(learned) => Some(hub.step_remember(&state, claim.order, success, &learned, &actor).await),
                None => None,
            };
            Ok(HandedIn { state, remembered })
        })
        .await
    }

    /// Ends a claim with an event. Returns what the event has claimed too.
    async fn work_end(
        &self,
        running: &Running,
        claim: &ClaimRef,
        event: Event,
        actor: &Actor,
    ) -> Result<(Arc<RunState>, Vec<usize>), HubError> {
        let claims = running.runner.claims();
        claims.is_handed_in(claim);
        match self.run_event(running, &claim.run, event, actor).await {
            Ok(WorkflowOutcome::Applied { state, claimed, .. }) => {
                claims.let_go(claim);
                Ok((state, claimed))
            }
            Ok(other) => Err(self.claim_error(running, claim, other)),
            Err(error) => {
                // The client still has it, and tries again.
                claims.hold_pulled(claim.clone(), running.runner.settings().pull_lease);
                Err(error)
            }
        }
    }

    /// The run and the claim that a text names.
    async fn work_claimed(&self, claim: &str) -> Result<(Arc<RunState>, ClaimRef), HubError> {
        let wrong = || {
            let message = "is not a claim; copy it from the reply of work_next, such as run-…:step:1";
            HubError::from(Problems::one("claim", message))
        };
        let (rest, attempt) = claim.rsplit_once(':').ok_or_else(wrong)?;
        let (run, step) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let attempt: i32 = attempt.parse().map_err(|_| wrong())?;
        let state = self.run_get(run, false).await?;
        let order = step_order(&state, step)?;
        let claim = ClaimRef { run: state.run.id.clone(), order, attempt };
        Ok((state, claim))
    }

    fn claim_error(&self, running: &Running, claim: &ClaimRef, outcome: WorkflowOutcome) -> HubError {
        running.runner.claims().let_go(claim);
        match outcome {
            WorkflowOutcome::Refused(Refusal::Stale { status, attempt }) => HubError::ClaimOver { status, attempt },
            WorkflowOutcome::Refused(refusal) => HubError::Refused { reason: refusal.to_string() },
            WorkflowOutcome::NotFound => {
                HubError::NotFound { entity: "run", id: claim.run.to_string(), nearest: Vec::new() }
            }
            other => unexpected(other),
        }
    }

    /// How many steps wait for clients to pull them, counted up to a thousand, and for which agents, most urgent first.
    #[must_use]
    pub fn work_waiting(&self, namespace: Option<&Namespace>) -> (usize, Vec<AgentId>) {
        const COUNTED: usize = 1_000;
        const LOOKED_AT: usize = 50;
        const AGENTS_SHOWN: usize = 3;
        let namespace = self.namespace(namespace);
        let cache = self.inner.workflows.read();
        let count = cache.pullable(&namespace, None).take(COUNTED).count();
        let mut agents: Vec<AgentId> = Vec::new();
        for ready in cache.pullable(&namespace, None).take(LOOKED_AT) {
            let spec = cache.run(&ready.run).and_then(|state| state.run.definition.spec.steps.get(ready.order));
            if let Some(spec) = spec.filter(|spec| !agents.contains(&spec.agent)) {
                agents.push(spec.agent.clone());
            }
            if agents.len() == AGENTS_SHOWN {
                break;
            }
        }
        (count, agents)
    }

    /// Why nobody goes on with a ready step, as far as this process knows: what its configuration lacks.
    #[must_use]
    pub fn step_hindrance(&self, step: &Step) -> Option<String> {
        let running = self.inner.running.get()?;
        match step.executor.kind {
            ExecutorKind::Pull => None,
            _ => running.runner.executors().can_run(&step.executor).err().map(|missing| missing.to_string()),
        }
    }
}

/// Does what must not be left half done when a caller goes away: what a transaction has claimed for this process is worked
/// on whether somebody still waits for the answer or not.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, HubError>> + Send + 'static,
) -> Result<T, HubError> {
    // It fails only when the process ends, or by a panic, which the runtime has told already.
    tokio::spawn(work).await.unwrap_or(Err(HubError::Closed))
}

/// Why an output can't be taken.
fn output_problems(
    running: &Running,
    state: &RunState,
    claim: &ClaimRef,
    output: &Value,
    text: &JsonText,
) -> Result<(), Problems> {
    let bytes = text.as_str().len();
    if bytes > limits::STEP_OUTPUT_BYTES_MAX {
        let message = format!(
            "has {bytes} bytes; at most {} are taken; store what is larger elsewhere and pass a reference",
            limits::STEP_OUTPUT_BYTES_MAX
        );
        return Err(Problems::one("output", message));
    }
    let Some((spec, _)) = state.step(claim.order) else { return Ok(()) };
    running.runner.check(Checked::Output, &state.run.namespace, spec, output)
}

/// The step to do next: of the highest priority, and of those the one that was ready first. What was `lost` to others is
/// passed over.
fn most_urgent(
    cache: &WorkflowCache,
    namespace: &Namespace,
    agents: &[AgentId],
    lost: &HashSet<ReadyStep>,
) -> Option<ReadyStep> {
    let first = |agent| cache.pullable(namespace, agent).find(|ready| !lost.contains(*ready));
    if agents.is_empty() {
        return first(None).cloned();
    }
    let firsts = agents.iter().filter_map(|agent| first(Some(agent)));
    let urgency = |ready: &&ReadyStep| {
        let priority = cache.run(&ready.run).map_or(0, |state| state.run.priority);
        (std::cmp::Reverse(priority), ready.ready_at)
    };
    firsts.min_by_key(urgency).cloned()
}

fn refuse_secrets(learned: &str) -> Result<(), Problems> {
    match secrets::find(learned).first() {
        None => Ok(()),
        Some(secret) => {
            let message = format!("holds what looks like a secret ({secret}); nothing was handed in; leave it out");
            Err(Problems::one("remember", message))
        }
    }
}

/// The text that names a claim.
fn claim_text(run: &RunId, step: &str, attempt: i32) -> String {
    debug_assert!(!step.contains(':'), "the names of steps have no colon: {}", shown(step));
    format!("{run}:{step}:{attempt}")
}
