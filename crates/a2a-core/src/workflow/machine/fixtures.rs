//! Runs for tests: a document, a clock that is moved by hand, and workers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{OutputsNeeded, Transition, Verdict, apply, claim, start};
use crate::agent::{Executor, ExecutorKind};
use crate::ids::{Actor, Namespace, RunId};
use crate::json_text::JsonText;
use crate::time::Timestamp;
use crate::workflow::command::{Claimer, Event, NewRun, Refusal, StepResult};
use crate::workflow::definition::{Definition, WorkflowSpec};
use crate::workflow::document::builtin;
use crate::workflow::run::{Payload, RunState, RunStatus, Step, StepStatus};

pub(in crate::workflow) const BEGIN: Timestamp = Timestamp(1_700_000_000_000);

pub(in crate::workflow) fn spec(document: &Value) -> WorkflowSpec {
    let mut document = document.clone();
    document.as_object_mut().unwrap().entry("id").or_insert_with(|| json!("flow"));
    WorkflowSpec::from_document(&document, "", &Namespace::default()).unwrap()
}

pub(in crate::workflow) fn definition(document: &Value) -> Arc<Definition> {
    Arc::new(Definition::compile(spec(document), "").unwrap_or_else(|problems| panic!("{problems}")))
}

/// Agents whose names begin with `push` are webhooks, other ones are pulled.
pub(in crate::workflow) fn new_run(definition: &Arc<Definition>) -> NewRun {
    let executors = definition.spec.steps.iter().map(|step| {
        let kind = if step.agent.as_str().starts_with("push") { ExecutorKind::Http } else { ExecutorKind::Pull };
        builtin(&step.agent).unwrap_or(Executor { kind, settings: JsonText::empty_object() })
    });
    NewRun {
        id: RunId::from_stored("run-a"),
        namespace: Namespace::default(),
        workflow: Some(definition.spec.id.clone()),
        workflow_revision: Some(1),
        executors: executors.collect(),
        definition: Arc::clone(definition),
        context: definition.spec.context.clone(),
        input: JsonText::new(&json!({"n": 1})),
        priority: 5,
        idempotency_key: None,
        forked_from: None,
        kept: Vec::new(),
        claim_next: None,
        actor: Actor::new("tester"),
    }
}

pub(in crate::workflow) fn claimer(owner: &str) -> Claimer {
    Claimer { owner: owner.into(), lease: Duration::from_secs(45), progress_within: Some(Duration::from_secs(1_800)) }
}

/// One run under test.
#[derive(Debug, Clone)]
pub(in crate::workflow) struct Sim {
    pub(in crate::workflow) state: RunState,
    pub(in crate::workflow) now: Timestamp,
    claims: usize,
}

impl Sim {
    pub(in crate::workflow) fn new(document: &Value) -> Self {
        Self::of(&new_run(&definition(document)))
    }

    pub(in crate::workflow) fn of(new: &NewRun) -> Self {
        Self { state: start(new, BEGIN).state, now: BEGIN, claims: 0 }
    }

    pub(in crate::workflow) fn order(&self, name: &str) -> usize {
        self.state.run.definition.spec.steps.iter().position(|step| step.name.as_str() == name).unwrap()
    }

    pub(in crate::workflow) fn step(&self, name: &str) -> &Step {
        &self.state.steps[self.order(name)]
    }

    pub(in crate::workflow) fn status(&self, name: &str) -> StepStatus {
        self.step(name).status
    }

    pub(in crate::workflow) fn run_status(&self) -> RunStatus {
        self.state.run.status
    }

    pub(in crate::workflow) fn try_apply(&self, event: &Event) -> Result<Transition, OutputsNeeded> {
        apply(&self.state, event, &Actor::new("tester"), self.now)
    }

    pub(in crate::workflow) fn event(&mut self, event: &Event) -> Verdict {
        let transition = self.try_apply(event).unwrap();
        self.state = transition.state;
        transition.verdict
    }

    pub(in crate::workflow) fn happens(&mut self, event: &Event) {
        assert_eq!(self.event(event), Verdict::Applied, "{event:?}");
    }

    pub(in crate::workflow) fn claim(&mut self, name: &str) -> Result<i32, Refusal> {
        self.claims += 1;
        let owner = format!("worker-{}", self.claims);
        let order = self.order(name);
        let spec = &self.state.run.definition.spec.steps[order];
        let step = claim(&self.state.steps[order], spec, &claimer(&owner), self.now)?;
        let attempt = step.attempt;
        self.state.steps[order] = step;
        Ok(attempt)
    }

    pub(in crate::workflow) fn finish_event(&self, name: &str, attempt: i32, result: StepResult) -> Event {
        Event::Finish { order: self.order(name), attempt, result, claim_next: None }
    }

    pub(in crate::workflow) fn finish(&mut self, name: &str, attempt: i32, result: StepResult) -> Verdict {
        let event = self.finish_event(name, attempt, result);
        self.event(&event)
    }

    /// Claims a step and completes it.
    pub(in crate::workflow) fn done(&mut self, name: &str, output: &Value) {
        let attempt = self.claim(name).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!(self.finish(name, attempt, completed(output)), Verdict::Applied);
    }

    /// Claims a step and lets the attempt fail.
    pub(in crate::workflow) fn fails(&mut self, name: &str, retryable: bool) {
        let attempt = self.claim(name).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!(self.finish(name, attempt, failed("boom", retryable)), Verdict::Applied);
    }

    pub(in crate::workflow) fn passes(&mut self, seconds: i64) {
        self.now = Timestamp(self.now.0 + seconds * 1_000);
        self.happens(&Event::Tick);
    }

    pub(in crate::workflow) fn result(&self) -> Value {
        self.state.run.result.as_ref().unwrap().value().unwrap()
    }

    pub(in crate::workflow) fn input(&self, name: &str) -> Value {
        value(&self.step(name).input)
    }

    pub(in crate::workflow) fn output(&self, name: &str) -> Value {
        value(&self.step(name).output)
    }

    pub(in crate::workflow) fn error(&self) -> &str {
        self.state.run.error.as_deref().unwrap()
    }

    pub(in crate::workflow) fn answer_event(&self, name: &str, answer: &Value, refuse: bool) -> Event {
        let order = self.order(name);
        let question = self.state.steps[order].revision;
        Event::Answer { order, question, answer: JsonText::new(answer), refuse }
    }
}

pub(in crate::workflow) fn value(payload: &Payload) -> Value {
    match payload {
        Payload::Loaded(text) => text.value().unwrap(),
        other => panic!("{other:?}"),
    }
}

pub(in crate::workflow) fn completed(output: &Value) -> StepResult {
    StepResult::Completed { output: JsonText::new(output) }
}

pub(in crate::workflow) fn failed(error: &str, retryable: bool) -> StepResult {
    StepResult::Failed { error: error.into(), retryable }
}
