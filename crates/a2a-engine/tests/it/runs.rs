//! Runs from start to end, with the built-in executors and with work that is pulled.

use std::sync::Arc;
use std::time::Duration;

use a2a_core::ids::{Actor, RunId};
use a2a_core::workflow::command::{Claimer, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::run::{RunState, RunStatus, StepStatus};
use a2a_engine::config::{Config, Settings};
use a2a_engine::error::HubError;
use a2a_engine::hub::{
    DeployOptions, Hub, InvokeRequest, RunControl, RunRequest, SaveOptions, WorkOutcome, WorkUpdate, WriteStatus,
};
use a2a_store::store::Store;
use a2a_testing::postgres::{TestDatabase, postgres_or_skip};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

/// A database and how to open it.
enum World {
    Postgres(TestDatabase),
    Sqlite(tempfile::TempDir),
}

impl World {
    fn settings(&self) -> Settings {
        match self {
            Self::Postgres(database) => Settings { database_url: Some(database.url()), ..Settings::default() },
            Self::Sqlite(folder) => Settings { data_dir: Some(folder.path().to_owned()), ..Settings::default() },
        }
    }

    fn hub(&self) -> Hub {
        Hub::open(Config::new(&self.settings()).unwrap())
    }

    /// A process that looks on and does no step by itself.
    fn onlooker(&self) -> Hub {
        Hub::open(Config::new(&Settings { steps_max: Some("0".to_owned()), ..self.settings() }).unwrap())
    }
}

macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(server) = super::postgres_or_skip().await {
                        super::$case(super::World::Postgres(super::TestDatabase::create(&server).await)).await;
                    }
                }
            )*
        }
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(super::World::Sqlite(tempfile::tempdir().unwrap())).await;
                }
            )*
        }
    };
}

on_both!(
    a_chain_of_builtin_steps_runs_to_its_end,
    steps_run_in_parallel_and_conditions_skip,
    a_pulled_step_is_done_by_another_process,
    a_gate_waits_for_its_answer,
    a_run_is_cancelled_paused_retried_and_forked,
    what_does_not_fit_is_refused_and_the_claim_stays,
    a_session_takes_what_others_leave_although_they_are_quicker,
    the_same_idempotency_key_finds_the_same_run,
    a_timer_goes_on_in_another_process_after_the_first_has_ended,
    timers_that_follow_each_other_are_each_looked_at_in_time,
    an_answer_over_the_limit_is_refused_and_the_question_stays,
    a_run_is_found_by_its_key_when_its_agent_is_gone,
);

fn actor() -> Actor {
    Actor::new("test")
}

async fn ended(hub: &Hub, id: &RunId) -> Arc<RunState> {
    let until = tokio::time::Instant::now() + LIMIT;
    loop {
        let state = hub.run_wait(id, Duration::from_secs(1)).await.unwrap();
        if state.run.status.is_finished() {
            return hub.run_get(id.as_str(), true).await.unwrap();
        }
        assert!(tokio::time::Instant::now() < until, "{:#?}", state.steps);
    }
}

async fn start(hub: &Hub, document: Value, input: Value) -> RunId {
    let request = RunRequest { inline: Some(document), input: Some(input), ..RunRequest::default() };
    hub.run_start(request, &actor()).await.unwrap().id
}

async fn deploy(hub: &Hub, document: Value) {
    let deployed = hub.agent_deploy(&[document], "agents", &DeployOptions::default(), &actor()).await.unwrap();
    assert!(deployed[0].is_ok(), "{deployed:?}");
}

fn result(state: &RunState) -> Value {
    state.run.result.as_ref().map_or(Value::Null, |text| text.value().unwrap())
}

fn statuses(state: &RunState) -> Vec<StepStatus> {
    state.steps.iter().map(|step| step.status).collect()
}

async fn a_chain_of_builtin_steps_runs_to_its_end(world: World) {
    let hub = world.hub();
    let document = json!({"steps": [
        {"name": "first", "agent": "builtin:echo", "input": {"n": "{{ input.n + 1 }}"}},
        {"name": "second", "agent": "builtin:echo", "input": {"n": "{{ steps.first.output.n + 1 }}"},
         "depends_on": ["first"]},
        {"name": "third", "agent": "builtin:transform", "depends_on": ["second"],
         "input": {"expression": "input.n * 10", "n": "{{ steps.second.output.n }}"}},
    ]});
    let id = start(&hub, document, json!({"n": 1})).await;
    let state = ended(&hub, &id).await;
    assert_eq!(state.run.status, RunStatus::Completed, "{:?} {:#?}", state.run.error, state.steps);
    assert_eq!(result(&state), json!(30));
    assert!(state.steps.iter().all(|step| step.attempt == 0), "nobody has claimed them");
    hub.close().await;
}

async fn steps_run_in_parallel_and_conditions_skip(world: World) {
    let hub = world.hub();
    let document = json!({"steps": [
        {"name": "left", "agent": "builtin:echo", "input": 1},
        {"name": "right", "agent": "builtin:echo", "input": 2},
        {"name": "never", "agent": "builtin:echo", "run_if": "input.go", "depends_on": ["left"]},
        {"name": "also_never", "agent": "builtin:echo", "depends_on": [{"step": "never", "required": true}]},
        {"name": "join", "agent": "builtin:echo", "depends_on": ["left", "right", "never"],
         "input": {"sum": "{{ steps.left.output + steps.right.output }}", "never": "{{ steps.never.status }}"}},
    ], "result": "{{ steps.join.output }}"});
    let id = start(&hub, document, json!({"go": false})).await;
    let state = ended(&hub, &id).await;
    assert_eq!(result(&state), json!({"sum": 3, "never": "SKIPPED"}), "{:?}", state.run.error);
    use StepStatus::{Completed, Skipped};
    assert_eq!(statuses(&state), [Completed, Completed, Skipped, Skipped, Completed]);
    hub.close().await;
}

async fn a_pulled_step_is_done_by_another_process(world: World) {
    let [here, there] = [world.hub(), world.hub()];
    deploy(&here, json!({"id": "reviewer", "description": "reviews", "instructions": "Look twice."})).await;
    let document = json!({"steps": [
        {"name": "review", "agent": "reviewer", "input": {"text": "{{ input }}"}},
        {"name": "after", "agent": "builtin:echo", "depends_on": ["review"], "input": "{{ steps.review.output }}"},
    ]});
    let waiting = tokio::spawn({
        let there = there.clone();
        async move { there.work_next(None, &[], LIMIT, &actor()).await.unwrap().unwrap() }
    });
    let id = start(&here, document, json!("hello")).await;
    let item = waiting.await.unwrap();
    assert_eq!(item.run.id, id);
    assert_eq!(&*item.agent.unwrap().spec.instructions, "Look twice.");
    there
        .work_update(&item.claim, WorkUpdate { progress: Some("half".into()), ..WorkUpdate::default() }, &actor())
        .await
        .unwrap();
    there.work_finish(&item.claim, WorkOutcome::Done(json!({"ok": true})), None, &actor()).await.unwrap();
    let state = ended(&here, &id).await;
    assert_eq!(result(&state), json!({"ok": true}));
    // The claim is over: whatever comes now changes nothing.
    let late = there.work_finish(&item.claim, WorkOutcome::Done(json!({"ok": false})), None, &actor()).await;
    assert!(matches!(late, Err(HubError::ClaimOver { .. } | HubError::Refused { .. })), "{late:?}");
    here.close().await;
    there.close().await;
}

async fn a_gate_waits_for_its_answer(world: World) {
    let [here, there] = [world.hub(), world.hub()];
    let schema = json!({"type": "object", "required": ["approved"], "properties": {"approved": {"type": "boolean"}}});
    let document = json!({"steps": [
        {"name": "approve", "agent": "builtin:gate", "input": {"question": "Ship {{ input }}?", "schema": schema}},
        {"name": "ship", "agent": "builtin:echo", "depends_on": ["approve"],
         "run_if": "steps.approve.output.approved", "input": "shipped"},
    ]});
    let id = start(&here, document, json!("1.0")).await;
    let state = here.run_get(id.as_str(), false).await.unwrap();
    assert_eq!(state.run.status, RunStatus::Waiting);
    let wrong = here.run_signal(id.as_str(), None, None, &json!({"approved": "yes"}), false, &actor()).await;
    assert!(matches!(wrong, Err(HubError::Invalid(_))), "{wrong:?}");
    a2a_testing::wait::wait_until(LIMIT, "the other process sees the run", async || {
        there.run_get(id.as_str(), false).await.is_ok_and(|state| state.run.status == RunStatus::Waiting)
    })
    .await;
    there.run_signal(id.as_str(), Some("approve"), None, &json!({"approved": true}), false, &actor()).await.unwrap();
    let state = ended(&here, &id).await;
    assert_eq!(result(&state), json!("shipped"), "{:#?}", state.steps);
    let again = here.run_signal(id.as_str(), Some("approve"), None, &json!({"approved": false}), false, &actor()).await;
    assert!(again.is_err());
    here.close().await;
    there.close().await;
}

async fn a_run_is_cancelled_paused_retried_and_forked(world: World) {
    let hub = world.hub();
    deploy(&hub, json!({"id": "worker", "description": "works"})).await;
    let document = json!({"steps": [
        {"name": "one", "agent": "builtin:echo", "input": "kept"},
        {"name": "two", "agent": "worker", "depends_on": ["one"], "retry": {"max_attempts": 1}},
        {"name": "three", "agent": "builtin:echo", "depends_on": ["two"],
         "input": "{{ steps.one.output ~ steps.two.output }}"},
    ]});
    // Cancelled while somebody works on it: the result comes too late.
    let id = start(&hub, document.clone(), Value::Null).await;
    let item = hub.work_next(None, &["worker".to_owned()], LIMIT, &actor()).await.unwrap().unwrap();
    let cancel = RunControl::Cancel { reason: "changed my mind".to_owned() };
    hub.run_control(id.as_str(), cancel.clone(), &actor()).await.unwrap();
    assert!(hub.work_finish(&item.claim, WorkOutcome::Done(json!("late")), None, &actor()).await.is_err());
    assert_eq!(ended(&hub, &id).await.run.status, RunStatus::Cancelled);

    // Paused: nobody is given its steps.
    let id = start(&hub, document, Value::Null).await;
    a2a_testing::wait::wait_until(LIMIT, "a step to pull", async || hub.work_waiting(None).0 == 1).await;
    hub.run_control(id.as_str(), RunControl::Pause, &actor()).await.unwrap();
    assert!(hub.work_next(None, &[], Duration::from_millis(50), &actor()).await.unwrap().is_none());
    hub.run_control(id.as_str(), RunControl::Resume, &actor()).await.unwrap();
    let item = hub.work_next(None, &[], LIMIT, &actor()).await.unwrap().unwrap();
    let failed = WorkOutcome::Failed { error: "no".to_owned(), retryable: true };
    hub.work_finish(&item.claim, failed, None, &actor()).await.unwrap();
    assert_eq!(ended(&hub, &id).await.run.status, RunStatus::Failed);

    // Retried: the same run goes on from what has failed.
    hub.run_control(id.as_str(), RunControl::Retry, &actor()).await.unwrap();
    let item = hub.work_next(None, &[], LIMIT, &actor()).await.unwrap().unwrap();
    assert_eq!(item.step.attempt, 2);
    hub.work_finish(&item.claim, WorkOutcome::Done(json!("-done")), None, &actor()).await.unwrap();
    let state = ended(&hub, &id).await;
    assert_eq!(result(&state), json!("kept-done"), "{:?}", state.run.error);

    // Forked: another run with the results up to there.
    let fork = hub.run_fork(id.as_str(), "two", &actor()).await.unwrap().id;
    let item = hub.work_next(None, &[], LIMIT, &actor()).await.unwrap().unwrap();
    assert_eq!(item.run.id, fork);
    hub.work_finish(&item.claim, WorkOutcome::Done(json!("-again")), None, &actor()).await.unwrap();
    let state = ended(&hub, &fork).await;
    assert_eq!(result(&state), json!("kept-again"), "{:?}", state.run.error);
    assert_eq!(state.run.forked_from, Some(id.clone()));
    let refused = hub.run_control(id.as_str(), cancel, &actor()).await;
    assert!(matches!(refused, Err(HubError::Refused { .. })), "{refused:?}");
    hub.close().await;
}

async fn what_does_not_fit_is_refused_and_the_claim_stays(world: World) {
    let hub = world.hub();
    let number = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
    deploy(
        &hub,
        json!({"id": "counter", "description": "counts",
               "capabilities": [{"name": "count", "input_schema": number, "output_schema": number}]}),
    )
    .await;
    let invoke = |input: Value| InvokeRequest { agent: "counter".to_owned(), input, ..InvokeRequest::default() };
    let wrong = hub.agent_invoke(invoke(json!({"n": "x"})), &actor()).await;
    assert!(
        matches!(&wrong, Err(HubError::Invalid(problems)) if problems.to_string().contains("input.n")),
        "{wrong:?}"
    );
    // What looks like an expression in the input of an agent is data.
    let hostile = json!({"n": 1, "text": "{{ context.secret }} {% for x in y %}"});
    let id = hub.agent_invoke(invoke(hostile.clone()), &actor()).await.unwrap().id;
    let item = hub.work_next(None, &["counter".to_owned()], LIMIT, &actor()).await.unwrap().unwrap();
    let a2a_core::workflow::run::Payload::Loaded(input) = &item.step.input else { panic!("{:?}", item.step.input) };
    assert_eq!(input.value().unwrap(), hostile);
    let before = hub.run_get(id.as_str(), true).await.unwrap().steps[0].progress_until.unwrap();
    let wrong = hub.work_finish(&item.claim, WorkOutcome::Done(json!({"n": 1.5})), None, &actor()).await;
    let after = hub.run_get(id.as_str(), true).await.unwrap().steps[0].progress_until.unwrap();
    assert!(after > before, "whoever mends an output is at work");
    assert!(
        matches!(&wrong, Err(HubError::Invalid(problems)) if problems.to_string().contains("output.n")),
        "{wrong:?}"
    );
    hub.work_finish(&item.claim, WorkOutcome::Done(json!({"n": 2})), None, &actor()).await.unwrap();
    assert_eq!(result(&*ended(&hub, &id).await), json!({"n": 2}));
    hub.close().await;
}

/// Others have taken the steps that this process sees as the most urgent ones.
async fn a_session_takes_what_others_leave_although_they_are_quicker(world: World) {
    const TAKEN: usize = 12;
    let hub = world.hub();
    deploy(&hub, json!({"id": "writer", "description": "writes"})).await;
    let store = Store::open(&hub.config().location).await.unwrap();
    for _ in 0..3 {
        let mut runs = Vec::new();
        for n in 0..=TAKEN {
            let steps = json!({"steps": [{"name": "only", "agent": "writer", "input": n}]});
            runs.push(start(&hub, steps, json!(n)).await);
        }
        let last = runs.pop().unwrap();
        let claims = runs.iter().map(|run| {
            let claimer = Claimer { owner: run.as_str().into(), lease: LIMIT, progress_within: None };
            WorkflowCommand::StepClaim { run: run.clone(), order: 0, claimer }
        });
        // Straight to the database: this process hears of it later.
        for outcome in store.workflow_commit(claims.collect()).await.unwrap() {
            assert!(matches!(outcome, WorkflowOutcome::Claimed { .. }), "{outcome:?}");
        }
        let item = hub.work_next(None, &[], Duration::ZERO, &actor()).await.unwrap().expect("a step waits");
        assert_eq!(item.run.id, last);
        assert!(hub.work_next(None, &[], Duration::ZERO, &actor()).await.unwrap().is_none());
    }
    hub.close().await;
}

async fn the_same_idempotency_key_finds_the_same_run(world: World) {
    let [here, there] = [world.hub(), world.hub()];
    let document = json!({"id": "saved", "description": "d", "context": {"greeting": "hi", "name": "nobody"}, "steps": [
        {"name": "say", "agent": "builtin:echo", "input": "{{ context.greeting ~ ' ' ~ context.name }}"}
    ]});
    let saved = here.workflow_save(&document, "", &SaveOptions::default(), &actor()).await.unwrap();
    assert_eq!((saved.status, saved.revision), (WriteStatus::Created, 1));
    let again = here.workflow_save(&document, "", &SaveOptions::default(), &actor()).await.unwrap();
    assert_eq!((again.status, again.revision), (WriteStatus::Unchanged, 1));
    a2a_testing::wait::wait_until(LIMIT, "the workflow", async || there.workflow_get(None, "saved").await.is_ok())
        .await;
    let request = RunRequest {
        workflow: Some("saved".to_owned()),
        context: json!({"name": "you"}).as_object().cloned(),
        idempotency_key: Some("once".to_owned()),
        ..RunRequest::default()
    };
    let first = here.run_start(request.clone(), &actor()).await.unwrap();
    let second = there.run_start(request, &actor()).await.unwrap();
    assert_eq!((first.existing, second.existing), (false, true));
    assert_eq!(first.id, second.id);
    assert_eq!(result(&*ended(&there, &first.id).await), json!("hi you"));
    here.close().await;
    there.close().await;
}

async fn a_timer_goes_on_in_another_process_after_the_first_has_ended(world: World) {
    let [here, there] = [world.hub(), world.hub()];
    let document = json!({"steps": [
        {"name": "nap", "agent": "builtin:wait", "input": {"seconds": 1}},
        {"name": "after", "agent": "builtin:echo", "depends_on": ["nap"], "input": "awake"},
    ]});
    there.ready().await.unwrap();
    let id = start(&here, document, Value::Null).await;
    here.close().await;
    assert_eq!(result(&*ended(&there, &id).await), json!("awake"));
    there.close().await;
    // Nobody works here: the run is seen and not gone on with.
    let onlooker = world.onlooker();
    let nap = json!({"steps": [{"name": "x", "agent": "builtin:wait", "input": {"seconds": 0.05}}]});
    let id = start(&onlooker, nap, Value::Null).await;
    let state = onlooker.run_wait(&id, Duration::from_millis(300)).await.unwrap();
    assert_eq!(statuses(&state), [StepStatus::Waiting]);
    onlooker.close().await;
}

async fn timers_that_follow_each_other_are_each_looked_at_in_time(world: World) {
    const TIMERS: usize = 24;
    let hub = world.hub();
    let steps: Vec<Value> = (0..TIMERS)
        .map(|n| {
            let before = if n > 0 { vec![format!("w{}", n - 1)] } else { Vec::new() };
            json!({"name": format!("w{n}"), "agent": "builtin:wait", "input": {"seconds": 0.01}, "depends_on": before})
        })
        .collect();
    let begin = tokio::time::Instant::now();
    let id = start(&hub, json!({"steps": steps, "result": "done"}), json!({})).await;
    assert_eq!(ended(&hub, &id).await.run.status, RunStatus::Completed);
    // Looking at a run again too late takes half a second for each.
    assert!(begin.elapsed() < Duration::from_millis(500) * TIMERS as u32 / 2, "{:?}", begin.elapsed());
    hub.close().await;
}

async fn an_answer_over_the_limit_is_refused_and_the_question_stays(world: World) {
    const MAX: usize = a2a_core::limits::STEP_OUTPUT_BYTES_MAX;
    let hub = world.hub();
    let gate = json!({"steps": [{"name": "ask", "agent": "builtin:gate", "input": {"question": "What?"}}]});
    let id = start(&hub, gate, json!({})).await;
    // With its two quotes.
    let answer = |bytes: usize| json!("x".repeat(bytes - 2));
    let refused = hub.run_signal(id.as_str(), None, None, &answer(MAX + 1), false, &actor()).await.unwrap_err();
    assert!(refused.to_string().contains("pass a reference"), "{refused}");
    hub.run_signal(id.as_str(), None, None, &answer(MAX), false, &actor()).await.unwrap();
    assert_eq!(ended(&hub, &id).await.run.status, RunStatus::Completed);
    hub.close().await;
}

async fn a_run_is_found_by_its_key_when_its_agent_is_gone(world: World) {
    let hub = world.hub();
    deploy(&hub, json!({"id": "worker", "description": "Works."})).await;
    let start = async || {
        let inline = Some(json!({"steps": [{"name": "a", "agent": "worker"}]}));
        let idempotency_key = Some("once".to_owned());
        hub.run_start(RunRequest { inline, idempotency_key, ..RunRequest::default() }, &actor()).await.unwrap()
    };
    let first = start().await;
    let disabled = json!({"id": "worker", "description": "Works.", "enabled": false});
    deploy(&hub, disabled).await;
    let again = start().await;
    assert_eq!((again.id, first.existing, again.existing), (first.id, false, true));
    hub.close().await;
}
