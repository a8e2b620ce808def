//! Workflows, runs and commands for tests.

use std::sync::Arc;
use std::time::Duration;

use a2a_core::agent::{Executor, ExecutorKind, content_hash};
use a2a_core::ids::{Actor, Namespace, OpId, Revision, RunId, WorkflowId, WorkflowKey};
use a2a_core::json_text::JsonText;
use a2a_core::workflow::command::{
    ClaimNext, ClaimRef, Claimer, Event, NewRun, StepResult, WorkflowCommand, WorkflowOutcome, WorkflowPut,
};
use a2a_core::workflow::definition::{Definition, WorkflowSpec};
use a2a_core::workflow::document::builtin;
use a2a_core::workflow::run::{Run, RunState, Step, StepStatus};
use a2a_store::store::Store;
use serde_json::{Value, json};

pub(crate) fn actor() -> Actor {
    Actor::new("tester")
}

pub(crate) fn workflow_key(id: &str) -> WorkflowKey {
    WorkflowKey { namespace: Namespace::default(), id: WorkflowId::from_stored(id) }
}

pub(crate) fn workflow_spec(document: &Value) -> WorkflowSpec {
    let mut document = document.clone();
    document.as_object_mut().unwrap().entry("id").or_insert_with(|| json!("flow"));
    WorkflowSpec::from_document(&document, "", &Namespace::default()).unwrap()
}

pub(crate) fn definition(document: &Value) -> Arc<Definition> {
    Arc::new(Definition::compile(workflow_spec(document), "").unwrap_or_else(|problems| panic!("{problems}")))
}

/// Two steps side by side, and one that needs the outputs of both.
pub(crate) fn diamond() -> Arc<Definition> {
    definition(&json!({"steps": [
        {"name": "left", "agent": "worker", "input": {"side": "left", "n": "{{ input.n }}"}},
        {"name": "right", "agent": "worker", "input": {"side": "right"}},
        {"name": "both", "agent": "worker", "depends_on": ["left", "right"],
            "input": {"left": "{{ steps.left.output }}", "right": "{{ steps.right.output }}"}},
    ]}))
}

/// So many steps that are ready at once.
pub(crate) fn wide(steps: usize) -> Arc<Definition> {
    let steps: Vec<Value> =
        (0..steps).map(|n| json!({"name": format!("s{n}"), "agent": "worker", "input": {"n": n}})).collect();
    definition(&json!({ "steps": steps }))
}

/// One step after the other.
pub(crate) fn chain(steps: usize) -> Arc<Definition> {
    let steps: Vec<Value> = (0..steps)
        .map(|n| {
            let before = if n == 0 { vec![] } else { vec![format!("s{}", n - 1)] };
            json!({"name": format!("s{n}"), "agent": "worker", "depends_on": before, "input": {"n": n}})
        })
        .collect();
    definition(&json!({ "steps": steps }))
}

pub(crate) fn new_run(id: &str, definition: &Arc<Definition>) -> NewRun {
    let executors = definition.spec.steps.iter().map(|step| {
        let settings = JsonText::empty_object();
        builtin(&step.agent).unwrap_or(Executor { kind: ExecutorKind::Pull, settings })
    });
    NewRun {
        id: RunId::from_stored(id),
        namespace: Namespace::default(),
        workflow: Some(definition.spec.id.clone()),
        workflow_revision: Some(1),
        executors: executors.collect(),
        definition: definition.clone(),
        context: definition.spec.context.clone(),
        input: JsonText::new(&json!({"n": 1})),
        priority: 5,
        idempotency_key: None,
        forked_from: None,
        kept: Vec::new(),
        claim_next: None,
        actor: actor(),
    }
}

pub(crate) fn start(new: NewRun) -> WorkflowCommand {
    WorkflowCommand::RunStart(Box::new(new))
}

pub(crate) fn claimer(owner: &str) -> Claimer {
    Claimer { owner: owner.into(), lease: Duration::from_secs(45), progress_within: Some(Duration::from_secs(1_800)) }
}

pub(crate) fn claim(run: &str, order: usize, owner: &str) -> WorkflowCommand {
    WorkflowCommand::StepClaim { run: RunId::from_stored(run), order, claimer: claimer(owner) }
}

pub(crate) fn claim_next(owner: &str, steps: usize) -> ClaimNext {
    ClaimNext { claimer: claimer(owner), can_do: vec![true; steps].into(), limit: steps }
}

pub(crate) fn claim_ref(run: &str, order: usize, attempt: i32) -> ClaimRef {
    ClaimRef { run: RunId::from_stored(run), order, attempt }
}

pub(crate) fn event(run: &str, event: Event) -> WorkflowCommand {
    WorkflowCommand::RunEvent { run: RunId::from_stored(run), event, actor: actor() }
}

pub(crate) fn finish_event(order: usize, attempt: i32, output: &Value) -> Event {
    let result = StepResult::Completed { output: JsonText::new(output) };
    Event::Finish { order, attempt, result, claim_next: None }
}

pub(crate) fn finish(run: &str, order: usize, attempt: i32, output: &Value) -> WorkflowCommand {
    event(run, finish_event(order, attempt, output))
}

pub(crate) fn cancel(run: &str) -> WorkflowCommand {
    event(run, Event::Cancel { reason: "enough".into() })
}

pub(crate) fn put(id: &str, content: &str, expected: Option<Revision>) -> WorkflowCommand {
    let spec = workflow_spec(&json!({"id": id, "name": content, "steps": [{"name": "a", "agent": "worker"}]}));
    put_spec(spec, expected)
}

pub(crate) fn put_spec(spec: WorkflowSpec, expected_revision: Option<Revision>) -> WorkflowCommand {
    let document: Arc<str> = spec.to_json().unwrap().into();
    let content_hash = content_hash(&document);
    let (op_id, spec, actor) = (OpId::new(), Arc::new(spec), actor());
    let put = WorkflowPut { op_id, spec, document, content_hash, expected_revision, actor };
    WorkflowCommand::WorkflowPut(Box::new(put))
}

pub(crate) fn remove(id: &str, expected_revision: Option<Revision>) -> WorkflowCommand {
    let (op_id, key) = (OpId::new(), workflow_key(id));
    WorkflowCommand::WorkflowRemove { op_id, key, expected_revision, actor: actor() }
}

pub(crate) async fn all(store: &Store, commands: Vec<WorkflowCommand>) -> Vec<WorkflowOutcome> {
    store.workflow_commit(commands).await.unwrap()
}

pub(crate) async fn one(store: &Store, command: WorkflowCommand) -> WorkflowOutcome {
    all(store, vec![command]).await.remove(0)
}

/// The state that an event has left.
#[track_caller]
pub(crate) fn applied(outcome: WorkflowOutcome) -> Arc<RunState> {
    match outcome {
        WorkflowOutcome::Applied { state, repeated: false, .. } => state,
        other => panic!("not applied: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn claimed(outcome: WorkflowOutcome) -> (Arc<Run>, Step) {
    match outcome {
        WorkflowOutcome::Claimed { run, step } => (run, *step),
        other => panic!("not claimed: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn started(outcome: WorkflowOutcome) -> (Arc<RunState>, Vec<usize>) {
    match outcome {
        WorkflowOutcome::Started { state, claimed } => (state, claimed),
        other => panic!("not started: {other:?}"),
    }
}

pub(crate) fn statuses(state: &RunState) -> Vec<StepStatus> {
    state.steps.iter().map(|step| step.status).collect()
}

/// What a run is, but for its definition and what derives from it.
pub(crate) fn shape(state: &RunState) -> String {
    let run = &state.run;
    format!(
        "{:?} {:?} {:?} {:?} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        run.id,
        run.workflow,
        run.revision,
        run.paused,
        run.definition.spec.steps.len(),
        run.context,
        run.input,
        run.result,
        run.error,
        run.created_at,
        run.started_at,
        run.timeout_at,
        run.updated_at,
        state.steps
    )
}
