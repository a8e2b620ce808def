//! Operations on runs: starting, reading, waiting, controlling.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use a2a_core::error::Problems;
use a2a_core::ids::{Actor, AgentId, Namespace, Revision, RunId, StepName, WorkflowId};
use a2a_core::json_schema;
use a2a_core::json_text::JsonText;
use a2a_core::limits;
use a2a_core::workflow::command::{Event, KeptStep, NewRun, Refusal, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::definition::{Definition, WorkflowSpec};
use a2a_core::workflow::document::{merged_context, with_overrides};
use a2a_core::workflow::live::Found;
use a2a_core::workflow::machine;
use a2a_core::workflow::run::{RunState, RunStatus, Step, StepStatus};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::agents::read;
use super::work::to_the_end;
use super::workflows::{shown, unexpected};
use super::{Hub, Running};
use crate::error::HubError;

/// The id of the workflow of a run whose steps came with the call.
pub const INLINE_WORKFLOW: &str = "inline";
/// The priority of a run that names none.
pub(super) const PRIORITY_DEFAULT: i16 = 5;

/// What is to be run.
#[derive(Debug, Clone, Default)]
pub struct RunRequest {
    /// Where its agents are; `None` means the configured namespace.
    pub namespace: Option<Namespace>,
    /// The workflow, by its id or the unique start of it.
    pub workflow: Option<String>,
    /// Or the document of one that is not saved: an object with `steps`.
    pub inline: Option<Value>,
    /// Replaces fields of the workflow's context.
    pub context: Option<Map<String, Value>>,
    /// What expressions see as `input`.
    pub input: Option<Value>,
    /// Replaces fields of steps: an object by the name of the step.
    pub overrides: Option<Map<String, Value>>,
    /// 0 to 9, higher first.
    pub priority: Option<i16>,
    /// Starting again with the same key finds the same run.
    pub idempotency_key: Option<String>,
}

/// One capability of one agent.
#[derive(Debug, Clone, Default)]
pub struct InvokeRequest {
    /// Where the agent is; `None` means the configured namespace.
    pub namespace: Option<Namespace>,
    /// The agent, by its id or the unique start of it.
    pub agent: String,
    /// Which capability, when it has several.
    pub capability: Option<String>,
    /// The input.
    pub input: Value,
    /// An earlier run whose result the agent gets as `context.handoff`.
    pub handoff_from: Option<String>,
    /// Invoking again with the same key finds the same run.
    pub idempotency_key: Option<String>,
    /// The attempt fails after this long.
    pub timeout_s: Option<u32>,
    /// 0 to 9, higher first.
    pub priority: Option<i16>,
}

/// A run that was started.
#[derive(Debug, Clone)]
pub struct StartedRun {
    /// Its id.
    pub id: RunId,
    /// An earlier call with the same idempotency key has started it.
    pub existing: bool,
}

/// What is to be done with a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunControl {
    /// End it.
    Cancel {
        /// Why.
        reason: String,
    },
    /// Begin nothing new.
    Pause,
    /// Go on.
    Resume,
    /// Do what has failed again.
    Retry,
}

impl Hub {
    /// Starts a run and returns at once.
    ///
    /// # Errors
    /// When the request is not valid, an agent is missing, a queue is full, or the database did not take it.
    pub async fn run_start(&self, request: RunRequest, actor: &Actor) -> Result<StartedRun, HubError> {
        let running = self.running().await?;
        let namespace = self.namespace(request.namespace.as_ref());
        if let Some(existing) = run_of_key(running, &namespace, request.idempotency_key.as_deref()).await? {
            return Ok(existing);
        }
        let (spec, revision, path) = match (&request.workflow, &request.inline) {
            (Some(id), None) => {
                let workflow = self.workflow_resolve(&namespace, id)?;
                (workflow.spec.clone(), Some(workflow.revision), "workflow")
            }
            (None, Some(document)) => (inline_spec(document, &namespace)?, None, ""),
            _ => return Err(Problems::one("workflow", "give either workflow (a saved one) or steps, not both").into()),
        };
        let spec = match &request.overrides {
            Some(overrides) => with_overrides(&spec, overrides, "overrides")?,
            None => spec,
        };
        let context = merged_context(&spec, request.context.as_ref(), "context")?;
        let executors = self.step_executors(&spec, path)?;
        let workflow = revision.is_some().then(|| spec.id.clone());
        let definition = Arc::new(Definition::compile(spec, path)?);
        let new = NewRun {
            id: RunId::generate(),
            namespace,
            workflow,
            workflow_revision: revision,
            definition,
            executors,
            context,
            input: JsonText::new(&request.input.unwrap_or(Value::Null)),
            priority: request.priority.unwrap_or(PRIORITY_DEFAULT),
            idempotency_key: request.idempotency_key.map(Into::into),
            forked_from: None,
            kept: Vec::new(),
            claim_next: None,
            actor: actor.clone(),
        };
        self.run_begin(new).await
    }

    /// Lets one agent do one thing: a run of a single step.
    ///
    /// # Errors
    /// As [`Hub::run_start`], and when the input does not fit the schema of the capability.
    pub async fn agent_invoke(&self, request: InvokeRequest, actor: &Actor) -> Result<StartedRun, HubError> {
        let running = self.running().await?;
        let namespace = self.namespace(request.namespace.as_ref());
        if let Some(existing) = run_of_key(running, &namespace, request.idempotency_key.as_deref()).await? {
            return Ok(existing);
        }
        let agent = self.agent_get(Some(&namespace), &request.agent).await?;
        let mut context = Map::new();
        if let Some(run) = &request.handoff_from {
            let state = self.run_get(run, true).await?;
            let result = state.run.result.as_ref().and_then(|text| text.value().ok());
            let agents: Vec<&str> = state.run.definition.spec.steps.iter().map(|step| step.agent.as_str()).collect();
            context.insert(
                "handoff".to_owned(),
                json!({"run": state.run.id, "status": state.run.status, "agents": agents, "result": result}),
            );
        }
        // The input goes in as data: what looks like an expression in it is not one.
        let mut step = json!({"name": "invoke", "agent": agent.spec.id, "input": "{{ input }}"});
        if let Some(fields) = step.as_object_mut() {
            fields.extend(request.capability.map(|name| ("capability".to_owned(), Value::from(name))));
            fields.extend(request.timeout_s.map(|seconds| ("timeout_s".to_owned(), Value::from(seconds))));
        }
        let spec = inline_spec(&json!({"steps": [step], "context": context}), &namespace)?;
        let executors = self.step_executors(&spec, "")?;
        if let Some(step) = spec.steps.first() {
            running.runner.check(crate::runner::Checked::Input, &namespace, step, &request.input)?;
        }
        let context = merged_context(&spec, None, "context")?;
        let new = NewRun {
            id: RunId::generate(),
            namespace,
            workflow: None,
            workflow_revision: None,
            definition: Arc::new(Definition::compile(spec, "")?),
            executors,
            context,
            input: JsonText::new(&request.input),
            priority: request.priority.unwrap_or(PRIORITY_DEFAULT),
            idempotency_key: request.idempotency_key.map(Into::into),
            forked_from: None,
            kept: Vec::new(),
            claim_next: None,
            actor: actor.clone(),
        };
        self.run_begin(new).await
    }

    /// Starts a run that takes over the results of another one, up to a step that is done again with all that follow.
    ///
    /// # Errors
    /// When there is no such run or step, or the database did not take it.
    pub async fn run_fork(&self, id: &str, from: &str, actor: &Actor) -> Result<StartedRun, HubError> {
        let state = self.run_get(id, true).await?;
        let order = step_order(&state, from)?;
        let new = machine::fork(&state, order, RunId::generate(), actor.clone());
        let kept: usize = new.kept.iter().flatten().map(KeptStep::bytes).sum();
        if kept > limits::FORK_BYTES_MAX {
            let reason = format!(
                "the steps before {from:?} have {kept} bytes of inputs and outputs; a fork takes over at most {}; fork \
                 from an earlier step, or start the workflow anew",
                limits::FORK_BYTES_MAX
            );
            return Err(HubError::Refused { reason });
        }
        self.run_begin(new).await
    }

    async fn run_begin(&self, mut new: NewRun) -> Result<StartedRun, HubError> {
        const KEY_CHARS_MAX: usize = limits::NAME_CHARS_MAX;
        if new.idempotency_key.as_ref().is_some_and(|key| key.is_empty() || key.chars().count() > KEY_CHARS_MAX) {
            let message = format!("must have 1 to {KEY_CHARS_MAX} characters");
            return Err(Problems::one("idempotency_key", message).into());
        }
        if new.input.as_str().len() > limits::DOCUMENT_BYTES_MAX {
            let message = format!(
                "has {} bytes; at most {} are taken; pass a reference to what is larger",
                new.input.as_str().len(),
                limits::DOCUMENT_BYTES_MAX
            );
            return Err(Problems::one("input", message).into());
        }
        let is_new = |order: &usize| new.kept.get(*order).is_none_or(Option::is_none);
        self.refuse_full_queues(&new.namespace, &new.definition, is_new)?;
        let hub = self.clone();
        to_the_end(async move {
            let running = hub.running().await?;
            let (places, claim_next) = running.runner.claim_first(&new);
            new.claim_next = claim_next;
            let id = new.id.clone();
            match hub.workflow_command(running, WorkflowCommand::RunStart(Box::new(new))).await {
                Ok(WorkflowOutcome::Started { state, claimed }) => {
                    running.runner.work_on_claimed(&state, claimed, places);
                    Ok(StartedRun { id, existing: false })
                }
                Ok(WorkflowOutcome::AlreadyStarted { run }) => Ok(StartedRun { id: run, existing: true }),
                Ok(other) => Err(unexpected(other)),
                Err(HubError::Unknown { .. }) => Err(HubError::StartUnknown { run: id }),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Whether there is room for one more run, whose steps at the positions of `is_open` are to be done. The limits hold
    /// for what this process knows; a few more may slip in from others at the same moment.
    fn refuse_full_queues(
        &self,
        namespace: &Namespace,
        definition: &Definition,
        is_open: impl Fn(&usize) -> bool,
    ) -> Result<(), HubError> {
        let mut own: BTreeMap<&AgentId, usize> = BTreeMap::new();
        for (order, step) in definition.spec.steps.iter().enumerate() {
            if is_open(&order) {
                *own.entry(&step.agent).or_default() += 1;
            }
        }
        let cache = self.inner.workflows.read();
        let agents = own.into_iter().map(|(agent, own)| (agent, cache.unfinished_steps(namespace, agent), own));
        room_for(cache.live_runs(), agents).map_err(|reason| HubError::QueueFull { reason })
    }

    /// A run by its id or the unique start of it: from memory while it goes on, else from the database. With
    /// `payloads` always from the database, whole.
    ///
    /// # Errors
    /// When there is none, or several, or the database can't be reached.
    pub async fn run_get(&self, id: &str, payloads: bool) -> Result<Arc<RunState>, HubError> {
        let running = self.running().await?;
        let id = self.run_id(running, id).await?;
        let live = self.inner.workflows.read().run(&id).cloned();
        match live {
            Some(state) if !payloads => Ok(state),
            _ => match read(running.store.run_read(&id, payloads).await)? {
                Some(state) => Ok(Arc::new(state)),
                None => Err(HubError::NotFound { entity: "run", id: id.to_string(), nearest: Vec::new() }),
            },
        }
    }

    /// The whole id of a run that goes on or has ended.
    async fn run_id(&self, running: &Running, id: &str) -> Result<RunId, HubError> {
        let found = self.inner.workflows.read().resolve_run(id);
        let (mut candidates, nearest) = match found {
            Found::One(state) if state.run.id.as_str() == id => return Ok(state.run.id.clone()),
            Found::One(state) => (vec![state.run.id.to_string()], Vec::new()),
            Found::Several(candidates) => (candidates, Vec::new()),
            Found::None { nearest } => (Vec::new(), nearest),
        };
        if let Ok(id) = RunId::parse(id) {
            for stored in read(running.store.run_ids(&id, 4).await)? {
                if stored == id {
                    return Ok(stored);
                }
                if !candidates.contains(&stored.to_string()) {
                    candidates.push(stored.to_string());
                }
            }
        }
        match (candidates.pop(), candidates.is_empty()) {
            (Some(only), true) => Ok(RunId::from_stored(only)),
            (Some(last), false) => {
                candidates.push(last);
                Err(HubError::Ambiguous { entity: "run", id: shown(id), candidates })
            }
            (None, _) => Err(HubError::NotFound { entity: "run", id: shown(id), nearest }),
        }
    }

    /// Waits until a run has ended or something of it has changed since `seen`, but not longer than `wait`.
    ///
    /// # Errors
    /// As [`Hub::run_get`].
    pub async fn run_wait(&self, id: &RunId, wait: Duration) -> Result<Arc<RunState>, HubError> {
        let until = Instant::now() + wait;
        let mut changed = self.inner.workflows.changed();
        loop {
            changed.mark_unchanged();
            let live = self.inner.workflows.read().run(id).cloned();
            let Some(state) = live else { return self.run_get(id.as_str(), false).await };
            if tokio::time::timeout_at(until, changed.changed()).await.is_err() {
                return Ok(state);
            }
        }
    }

    /// Ends, pauses, resumes or retries a run.
    ///
    /// # Errors
    /// When there is no such run, it is not in a state in which this can be done, or the database did not take it.
    pub async fn run_control(&self, id: &str, control: RunControl, actor: &Actor) -> Result<Arc<RunState>, HubError> {
        let running = self.running().await?;
        let id = self.run_id(running, id).await?;
        let (event, verb) = match control {
            RunControl::Cancel { reason } => (Event::Cancel { reason: reason.into() }, "cancelled"),
            RunControl::Pause => (Event::Pause, "paused"),
            RunControl::Resume => (Event::Resume, "resumed"),
            RunControl::Retry => {
                self.refuse_retry_without_room(&id).await?;
                (Event::Retry, "retried")
            }
        };
        match self.run_event(running, &id, event, actor).await? {
            WorkflowOutcome::Applied { state, .. } => Ok(state),
            WorkflowOutcome::Refused(refusal) => Err(refused(&id, &refusal, verb)),
            WorkflowOutcome::NotFound => {
                Err(HubError::NotFound { entity: "run", id: id.to_string(), nearest: Vec::new() })
            }
            other => Err(unexpected(other)),
        }
    }

    /// A run that is retried goes on beside the others, as a new one does.
    async fn refuse_retry_without_room(&self, id: &RunId) -> Result<(), HubError> {
        let state = self.run_get(id.as_str(), false).await?;
        if state.run.status != RunStatus::Failed {
            return Ok(());
        }
        let is_open = |order: &usize| state.steps.get(*order).is_some_and(|step| step.status != StepStatus::Completed);
        self.refuse_full_queues(&state.run.namespace, &state.run.definition, is_open)
    }

    /// Answers the question of a step, or refuses it. Without `step` the run must have one question only; `question` is
    /// the number of the one that is meant, without it that of now.
    ///
    /// # Errors
    /// When nothing is asked, or something else than what is meant, the answer does not fit the schema of the question, or the database did not take it.
    pub async fn run_signal(
        &self,
        id: &str,
        step: Option<&str>,
        question: Option<Revision>,
        answer: &Value,
        refuse: bool,
        actor: &Actor,
    ) -> Result<Arc<RunState>, HubError> {
        let running = self.running().await?;
        let state = self.run_get(id, false).await?;
        let order = match step {
            Some(name) => step_order(&state, name)?,
            None => only_question(&state)?,
        };
        let Some(asked) = state.steps.get(order).and_then(Step::question) else {
            let status = state.steps.get(order).map_or(StepStatus::Pending, |step| step.status);
            let reason = format!("the step is {status} and asks nothing; workflow_status shows which step waits");
            return Err(HubError::Refused { reason });
        };
        if question.is_some_and(|meant| meant != asked.number) {
            return Err(other_question(&state, order));
        }
        if let (Some(schema), false) = (asked.schema, refuse) {
            json_schema::check(&JsonText::from_stored(schema.to_string()), answer, "answer")?;
        }
        let question = asked.number;
        let answer = JsonText::new(answer);
        if answer.as_str().len() > limits::STEP_OUTPUT_BYTES_MAX {
            let message = format!(
                "has {} bytes; at most {} are taken; pass a reference to what is larger",
                answer.as_str().len(),
                limits::STEP_OUTPUT_BYTES_MAX
            );
            return Err(Problems::one("answer", message).into());
        }
        let event = Event::Answer { order, question, answer, refuse };
        match self.run_event(running, &state.run.id, event, actor).await? {
            WorkflowOutcome::Applied { state, .. } => Ok(state),
            WorkflowOutcome::Refused(Refusal::OtherQuestion { .. }) => {
                // What this process has seen of the run is not the newest.
                let state = read(running.store.run_read(&state.run.id, false).await)?;
                Err(state.map_or(HubError::Unavailable, |state| other_question(&state, order)))
            }
            WorkflowOutcome::Refused(refusal) => Err(refused(&state.run.id, &refusal, "answered")),
            other => Err(unexpected(other)),
        }
    }

    pub(super) async fn run_event(
        &self,
        running: &Running,
        run: &RunId,
        event: Event,
        actor: &Actor,
    ) -> Result<WorkflowOutcome, HubError> {
        let command = WorkflowCommand::RunEvent { run: run.clone(), event, actor: actor.clone() };
        self.workflow_command(running, command).await
    }
}

/// The run that was started with the key before. Looked for first: what has started may be found whatever has become of
/// its agents, and however full the queues are.
async fn run_of_key(
    running: &Running,
    namespace: &Namespace,
    key: Option<&str>,
) -> Result<Option<StartedRun>, HubError> {
    let Some(key) = key else { return Ok(None) };
    let found = read(running.store.run_of_key(namespace, key).await)?;
    Ok(found.map(|id| StartedRun { id, existing: true }))
}

/// Why there is no room for one more run beside `live` ones: for each of its agents comes how many steps that has to do
/// already, and how many the run adds.
fn room_for<'a>(live: usize, agents: impl Iterator<Item = (&'a AgentId, usize, usize)>) -> Result<(), String> {
    if live >= limits::LIVE_RUNS_MAX {
        return Err(format!(
            "{live} runs are going on, which is the limit; wait for some to end, or cancel some with workflow_control"
        ));
    }
    for (agent, waiting, own) in agents {
        if waiting + own > limits::AGENT_STEPS_MAX {
            return Err(format!(
                "agent {agent:?} has {waiting} steps to do and this run has {own} more for it, but at most {} may wait; \
                 let it catch up (work_next), or cancel some runs with workflow_control",
                limits::AGENT_STEPS_MAX
            ));
        }
    }
    Ok(())
}

fn inline_spec(document: &Value, namespace: &Namespace) -> Result<WorkflowSpec, Problems> {
    let mut document = document.clone();
    if let Some(fields) = document.as_object_mut() {
        fields.entry("id").or_insert_with(|| INLINE_WORKFLOW.into());
    }
    WorkflowSpec::from_document(&document, "", namespace)
}

/// The position of a step by its name.
pub(super) fn step_order(state: &RunState, name: &str) -> Result<usize, HubError> {
    let names = || state.run.definition.spec.steps.iter().map(|step| step.name.as_str());
    names().position(|known| known == name).ok_or_else(|| HubError::NotFound {
        entity: "step",
        id: shown(name),
        nearest: names().take(8).map(str::to_owned).collect(),
    })
}

fn other_question(state: &RunState, order: usize) -> HubError {
    const SHOWN: usize = 500;
    let step = state.step(order).map_or_else(String::new, |(spec, _)| spec.name.to_string());
    let asked = state.steps.get(order).and_then(Step::question);
    HubError::OtherQuestion { step, asked: asked.map(|asked| (asked.number, asked.text.chars().take(SHOWN).collect())) }
}

fn only_question(state: &RunState) -> Result<usize, HubError> {
    let asking: Vec<(usize, &StepName)> = state
        .steps
        .iter()
        .zip(state.run.definition.spec.steps.iter())
        .filter(|(step, _)| step.question().is_some())
        .map(|(step, spec)| (step.order, &spec.name))
        .collect();
    match asking.as_slice() {
        [(order, _)] => Ok(*order),
        [] => {
            let reason = format!("the run is {} and no step of it asks anything", state.run.status);
            Err(HubError::Refused { reason })
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(_, name)| name.as_str()).collect();
            Err(Problems::one("step", format!("is required, since several steps ask: {}", names.join(", "))).into())
        }
    }
}

fn refused(id: &RunId, refusal: &Refusal, verb: &str) -> HubError {
    let hint = match refusal {
        Refusal::Run { status: RunStatus::Completed | RunStatus::Cancelled } => {
            "; start it again with workflow_run, or fork it from a step"
        }
        Refusal::Run { status: RunStatus::Failed } => "; retry it, or fork it from a step",
        Refusal::Run { .. } => "; only a FAILED run can be retried",
        Refusal::Compensated => {
            "; fork it (workflow_control action=fork) from the first step whose effect was undone, or start it anew with \
             workflow_run"
        }
        _ => "",
    };
    HubError::Refused { reason: format!("run {id} cannot be {verb}: {refusal}{hint}") }
}

/// The workflow of a run in words.
#[must_use]
pub fn workflow_name(workflow: Option<&WorkflowId>) -> &str {
    workflow.map_or(INLINE_WORKFLOW, WorkflowId::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queues_are_limited_exactly_with_the_steps_of_the_new_run() {
        let agent = AgentId::from_stored("writer");
        let room = |live, waiting, own| room_for(live, [(&agent, waiting, own)].into_iter());
        assert_eq!(room(limits::LIVE_RUNS_MAX - 1, 0, 1), Ok(()));
        assert!(room(limits::LIVE_RUNS_MAX, 0, 1).unwrap_err().contains("runs are going on"));
        assert_eq!(room(0, limits::AGENT_STEPS_MAX - 3, 3), Ok(()));
        let full = room(0, limits::AGENT_STEPS_MAX - 2, 3).unwrap_err();
        assert!(full.contains("has 9998 steps to do and this run has 3 more"), "{full}");
    }
}
