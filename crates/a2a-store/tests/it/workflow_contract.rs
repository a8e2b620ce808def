//! What each command about workflows comes to.

use std::sync::Arc;
use std::time::Duration;

use a2a_core::ids::{Actor, RunId};
use a2a_core::json_text::JsonText;
use a2a_core::time::Timestamp;
use a2a_core::workflow::command::{Event, StepResult, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::run::{Payload, Progress, RunStatus, StepStatus, Wait};
use a2a_store::store::{Location, Retention, RunFilter, Store};
use a2a_testing::wait::wait_until;
use serde_json::{Value, json};

use crate::process::LIMIT;
use crate::workflow_document::{
    all, applied, cancel, chain, claim, claim_next, claim_ref, claimed, definition, diamond, event, finish,
    finish_event, new_run, one, put, put_spec, remove, start, started, statuses, wide, workflow_key, workflow_spec,
};
use crate::world::{World, on_both};

on_both!(
    a_workflow_keeps_its_revisions,
    a_write_of_a_workflow_can_be_repeated,
    a_write_whose_answer_was_lost_does_not_undo_a_later_one,
    several_writes_of_one_workflow_in_one_batch_keep_their_order,
    a_run_is_started_once,
    a_run_goes_from_step_to_step,
    claims_are_fenced,
    what_becomes_ready_is_claimed_with_what_made_it_so,
    the_end_of_a_claim_can_be_told_again,
    a_question_is_answered,
    a_run_is_paused_cancelled_and_retried,
    events_of_one_batch_come_one_after_the_other,
    a_command_that_the_database_rejects_fails_alone,
    hostile_texts_come_back,
    runs_are_listed_in_pages,
    what_is_not_there_is_not_found,
    runs_that_ended_are_pruned,
    every_change_is_in_the_log,
);

/// The same in memory, where there is only one store.
#[tokio::test]
async fn memory_keeps_the_contract_of_workflows_too() {
    let store = Store::open(&Location::Memory).await.unwrap();
    goes_from_step_to_step(&store).await;
}

fn put_revision(outcome: &WorkflowOutcome) -> (i64, Option<i64>) {
    match outcome {
        WorkflowOutcome::WorkflowPut { workflow, replaced_revision } => (workflow.revision, *replaced_revision),
        other => panic!("not written: {other:?}"),
    }
}

#[track_caller]
fn is(outcome: &WorkflowOutcome, expected: &str) {
    let text = format!("{outcome:?}");
    assert_eq!(text, expected);
}

async fn a_workflow_keeps_its_revisions(world: World) {
    let store = world.store().await;
    assert_eq!(put_revision(&one(&store, put("w", "one", None)).await), (1, None));
    is(&one(&store, put("w", "one", None)).await, "WorkflowUnchanged { revision: 1 }");
    assert_eq!(put_revision(&one(&store, put("w", "two", Some(1))).await), (2, Some(1)));
    is(&one(&store, put("w", "three", Some(1))).await, "Conflict { current: 2 }");
    is(&one(&store, put("w", "three", Some(0))).await, "Conflict { current: 2 }");
    is(&one(&store, remove("w", Some(1))).await, "Conflict { current: 2 }");
    is(&one(&store, remove("w", Some(2))).await, "WorkflowRemoved { revision: 3 }");
    is(&one(&store, put("w", "four", Some(2))).await, "Conflict { current: 0 }");
    assert_eq!(put_revision(&one(&store, put("w", "two", Some(0))).await), (4, None));
    let history = store.workflow_history(&workflow_key("w"), None, 10).await.unwrap();
    let found: Vec<(i64, bool, &str)> =
        history.iter().map(|v| (v.workflow.revision, v.removed_at.is_some(), &*v.workflow.spec.name)).collect();
    assert_eq!(found, [(4, false, "two"), (3, true, "two"), (2, false, "two"), (1, false, "one")]);
    assert!(history.iter().all(|v| v.workflow.created_at == history[3].workflow.created_at));
    let page = store.workflow_history(&workflow_key("w"), Some(3), 1).await.unwrap();
    assert_eq!(page[0].workflow.revision, 2);
    let version = store.workflow_version(&workflow_key("w"), 1).await.unwrap().unwrap();
    assert_eq!(version, history[3]);
    assert!(store.workflow_version(&workflow_key("w"), 9).await.unwrap().is_none());
    assert_eq!(store.health().await.unwrap().workflows, 1);
}

async fn a_write_of_a_workflow_can_be_repeated(world: World) {
    let store = world.store().await;
    for (write, made) in [
        (put("w", "one", Some(0)), (1, None)),
        (put("w", "two", Some(1)), (2, Some(1))),
        (put("w", "three", None), (3, Some(2))),
    ] {
        for _ in 0..2 {
            assert_eq!(put_revision(&one(&store, write.clone()).await), made);
        }
    }
    for expected in [Some(3), None] {
        let removal = remove("w", expected);
        let WorkflowOutcome::WorkflowRemoved { revision } = one(&store, removal.clone()).await else { panic!() };
        is(&one(&store, removal.clone()).await, &format!("WorkflowRemoved {{ revision: {revision} }}"));
        is(&one(&store, remove("w", None)).await, "NotFound");
        // A new one after a removal.
        let again = put("w", "again", Some(0));
        for _ in 0..2 {
            assert_eq!(put_revision(&one(&store, again.clone()).await), (revision + 1, None));
        }
        is(&one(&store, removal).await, &format!("WorkflowRemoved {{ revision: {revision} }}"));
    }
    let twice = put("w", "twice", None);
    let both = all(&store, vec![twice.clone(), twice]).await;
    assert_eq!(put_revision(&both[0]), put_revision(&both[1]));
    let revisions = store.workflow_history(&workflow_key("w"), None, 100).await.unwrap();
    assert_eq!(revisions.len(), 8, "nothing was done twice");
    assert_eq!(world.count("SELECT count(*) FROM applied_ops WHERE entity = 'workflow'").await, 8);
}

/// The caller was not told that its write was committed, and sends it again after somebody else has written.
async fn a_write_whose_answer_was_lost_does_not_undo_a_later_one(world: World) {
    let (store, other) = (world.store().await, world.store().await);
    let mine = put("w", "mine", None);
    one(&store, mine.clone()).await;
    assert_eq!(put_revision(&one(&other, put("w", "theirs", None)).await), (2, Some(1)));
    let WorkflowOutcome::WorkflowPut { workflow, replaced_revision: None } = one(&store, mine).await else { panic!() };
    let first = store.workflow_version(&workflow_key("w"), 1).await.unwrap().unwrap();
    assert_eq!(workflow, first.workflow, "it is told what it has made");
    let current = store.workflow_history(&workflow_key("w"), None, 1).await.unwrap().remove(0);
    assert_eq!((current.workflow.revision, &*current.workflow.spec.name), (2, "theirs"));

    let removal = remove("w", None);
    one(&store, removal.clone()).await;
    assert_eq!(put_revision(&one(&other, put("w", "theirs", None)).await), (4, None));
    is(&one(&store, removal).await, "WorkflowRemoved { revision: 3 }");
    let current = store.workflow_history(&workflow_key("w"), None, 1).await.unwrap().remove(0);
    assert_eq!((current.workflow.revision, current.removed_at), (4, None));
}

async fn several_writes_of_one_workflow_in_one_batch_keep_their_order(world: World) {
    let store = world.store().await;
    let batch = vec![
        put("w", "one", None),
        put("v", "one", None),
        put("w", "two", None),
        remove("w", None),
        put("w", "three", None),
    ];
    let outcomes = all(&store, batch).await;
    assert_eq!(put_revision(&outcomes[0]), (1, None));
    assert_eq!(put_revision(&outcomes[1]), (1, None));
    assert_eq!(put_revision(&outcomes[2]), (2, Some(1)));
    is(&outcomes[3], "WorkflowRemoved { revision: 3 }");
    assert_eq!(put_revision(&outcomes[4]), (4, None));
    assert_eq!(store.workflow_history(&workflow_key("w"), None, 10).await.unwrap().len(), 4);
}

async fn a_run_is_started_once(world: World) {
    let store = world.store().await;
    let mut new = new_run("run-a", &diamond());
    new.idempotency_key = Some("key".into());
    let (state, _) = started(one(&store, start(new.clone())).await);
    assert_eq!(statuses(&state), [StepStatus::Ready, StepStatus::Ready, StepStatus::Pending]);
    assert!(matches!(state.steps[0].input, Payload::Loaded(_)));
    let (again, _) = started(one(&store, start(new.clone())).await);
    assert_eq!((again.run.revision, again.run.created_at), (state.run.revision, state.run.created_at));
    new.id = RunId::from_stored("run-b");
    is(&one(&store, start(new.clone())).await, "AlreadyStarted { run: \"run-a\" }");
    // In one batch.
    new.idempotency_key = Some("other".into());
    let mut second = new.clone();
    second.id = RunId::from_stored("run-c");
    let outcomes = all(&store, vec![start(new.clone()), start(second), start(new)]).await;
    assert_eq!(started(outcomes[0].clone()).0.run.id.as_str(), "run-b");
    is(&outcomes[1], "AlreadyStarted { run: \"run-b\" }");
    assert_eq!(started(outcomes[2].clone()).0.run.id.as_str(), "run-b");
    // The key of another namespace is another key.
    let mut elsewhere = new_run("run-d", &diamond());
    elsewhere.namespace = a2a_core::ids::Namespace::from_stored("elsewhere");
    elsewhere.idempotency_key = Some("key".into());
    started(one(&store, start(elsewhere)).await);
    assert_eq!(world.count("SELECT count(*) FROM runs").await, 3);
    assert_eq!(world.count("SELECT count(*) FROM steps").await, 9);
}

async fn a_run_goes_from_step_to_step(world: World) {
    goes_from_step_to_step(&world.store().await).await;
    // Another process goes on with what it has never seen.
    let (a, b) = (world.store().await, world.store().await);
    started(one(&a, start(new_run("two", &diamond()))).await);
    for (order, store) in [(0, &b), (1, &a)] {
        let (_, step) = claimed(one(store, claim("two", order, "p")).await);
        applied(one(store, finish("two", order, step.attempt, &json!({"from": order}))).await);
    }
    let (_, step) = claimed(one(&b, claim("two", 2, "p")).await);
    assert_eq!(step.input, Payload::Loaded(JsonText::new(&json!({"left": {"from": 0}, "right": {"from": 1}}))));
}

async fn goes_from_step_to_step(store: &Store) {
    started(one(store, start(new_run("run", &diamond()))).await);
    let (run, left) = claimed(one(store, claim("run", 0, "p/1")).await);
    assert_eq!((run.id.as_str(), left.attempt, left.status), ("run", 1, StepStatus::Running));
    assert_eq!(left.input, Payload::Loaded(JsonText::new(&json!({"side": "left", "n": 1}))));
    let (_, right) = claimed(one(store, claim("run", 1, "p/2")).await);
    let state = applied(one(store, finish("run", 0, left.attempt, &json!("of left"))).await);
    assert_eq!(statuses(&state), [StepStatus::Completed, StepStatus::Running, StepStatus::Pending]);
    assert!(state.steps.iter().all(|step| !matches!(step.output, Payload::Loaded(_))), "payloads stay where they are");
    // The output of the first one is in the database only.
    let state = applied(one(store, finish("run", 1, right.attempt, &json!({"of": "right"}))).await);
    assert_eq!(state.steps[2].status, StepStatus::Ready);
    let (_, both) = claimed(one(store, claim("run", 2, "p/3")).await);
    assert_eq!(both.input, Payload::Loaded(JsonText::new(&json!({"left": "of left", "right": {"of": "right"}}))));
    let state = applied(one(store, finish("run", 2, both.attempt, &json!({"end": true}))).await);
    assert_eq!(state.run.status, RunStatus::Completed);
    assert_eq!(state.run.result, Some(JsonText::new(&json!({"end": true}))));
    let whole = store.run_read(&RunId::from_stored("run"), true).await.unwrap().unwrap();
    assert_eq!(whole.steps[0].output, Payload::Loaded(JsonText::new(&json!("of left"))));
    let light = store.run_read(&RunId::from_stored("run"), false).await.unwrap().unwrap();
    assert_eq!(light.steps, state.steps);
    assert_eq!((light.run.revision, light.run.finished_at), (state.run.revision, state.run.finished_at));
    let payloads = store.step_payloads(&RunId::from_stored("run"), 1).await.unwrap().unwrap();
    assert_eq!(payloads.output, Some(JsonText::new(&json!({"of": "right"}))));
    assert!(store.step_payloads(&RunId::from_stored("run"), 3).await.unwrap().is_none());
}

async fn claims_are_fenced(world: World) {
    let store = world.store().await;
    started(one(&store, start(new_run("r", &diamond()))).await);
    let outcomes = all(&store, vec![claim("r", 0, "p/1"), claim("r", 0, "q/1"), claim("r", 0, "p/1")]).await;
    assert_eq!(claimed(outcomes[0].clone()).1.attempt, 1);
    is(&outcomes[1], "Refused(Step { status: Running })");
    assert_eq!(claimed(outcomes[2].clone()).1, claimed(outcomes[0].clone()).1);
    // Again, as after an unknown outcome.
    let (_, again) = claimed(one(&store, claim("r", 0, "p/1")).await);
    assert_eq!(again, claimed(outcomes[0].clone()).1);
    is(&one(&store, claim("r", 0, "q/1")).await, "Refused(Step { status: Running })");
    is(&one(&store, claim("r", 2, "q/1")).await, "Refused(Step { status: Pending })");
    is(&one(&store, claim("r", 9, "q/1")).await, "Refused(NoSuchStep)");
    let renew =
        |attempt| WorkflowCommand::StepRenew { claim: claim_ref("r", 0, attempt), lease: Duration::from_secs(90) };
    let note = |attempt, text: &str| WorkflowCommand::StepNote {
        claim: claim_ref("r", 0, attempt),
        progress: Some(Progress { message: text.into(), percent: Some(50), at: Timestamp(5) }),
        checkpoint: Some(JsonText::new(&json!({"at": text}))),
        lease: Duration::from_secs(45),
        progress_within: Some(Duration::from_secs(60)),
    };
    let outcomes = all(&store, vec![note(1, "half"), renew(1), renew(2), note(0, "late")]).await;
    is(&outcomes[0], "Noted");
    is(&outcomes[1], "Noted");
    is(&outcomes[2], "Refused(Stale { status: Running, attempt: 1 })");
    is(&outcomes[3], "Refused(Stale { status: Running, attempt: 1 })");
    let state = store.run_read(&RunId::from_stored("r"), false).await.unwrap().unwrap();
    let step = &state.steps[0];
    assert_eq!(step.progress, Some(Progress { message: "half".into(), percent: Some(50), at: Timestamp(5) }));
    assert_eq!(step.checkpoint, Some(JsonText::new(&json!({"at": "half"}))));
    assert!(step.lease_until.unwrap().0 > again.lease_until.unwrap().0 + 40_000, "the renewal came last");
    is(&one(&store, finish("r", 0, 2, &json!(1))).await, "Refused(Stale { status: Running, attempt: 1 })");
    let release = Event::Finish { order: 0, attempt: 1, result: StepResult::Released, claim_next: None };
    let state = applied(one(&store, event("r", release)).await);
    assert_eq!((state.steps[0].status, state.steps[0].attempt), (StepStatus::Ready, 1));
    let (_, second) = claimed(one(&store, claim("r", 0, "q/1")).await);
    assert_eq!(second.attempt, 2);
    is(&one(&store, finish("r", 0, 1, &json!("late"))).await, "Refused(Stale { status: Running, attempt: 2 })");
    applied(one(&store, finish("r", 0, 2, &json!("done"))).await);
    let repeated = one(&store, finish("r", 0, 2, &json!("done"))).await;
    assert!(matches!(repeated, WorkflowOutcome::Applied { repeated: true, .. }), "{repeated:?}");
    is(&one(&store, finish("r", 0, 1, &json!("late"))).await, "Refused(Stale { status: Completed, attempt: 2 })");
    is(&one(&store, renew(2)).await, "Refused(Stale { status: Completed, attempt: 2 })");
}

/// A worker that was not told that its step was given back, or has failed, says so again after another has taken it.
async fn the_end_of_a_claim_can_be_told_again(world: World) {
    let store = world.store().await;
    let flow = definition(&json!({"steps": [
        {"name": "a", "agent": "worker", "retry": {"max_attempts": 3, "backoff_ms": 0}}]}));
    started(one(&store, start(new_run("r", &flow))).await);
    let failed = StepResult::Failed { error: "broken".into(), retryable: true };
    for (attempt, result) in [(1, StepResult::Released), (3, failed)] {
        let told = |result: &StepResult| {
            event("r", Event::Finish { order: 0, attempt, result: result.clone(), claim_next: None })
        };
        claimed(one(&store, claim("r", 0, &format!("worker {attempt}"))).await);
        applied(one(&store, told(&result)).await);
        let (_, step) = claimed(one(&store, claim("r", 0, &format!("worker {}", attempt + 1))).await);
        for again in [one(&store, told(&result)).await, all(&store, vec![told(&result); 2]).await.remove(1)] {
            let WorkflowOutcome::Applied { state, repeated: true, .. } = again else { panic!("{again:?}") };
            assert_eq!(state.steps[0].revision, step.revision, "the other worker keeps it");
        }
        // What it has not said is refused as ever.
        let other = StepResult::Failed { error: "something else".into(), retryable: true };
        is(
            &one(&store, told(&other)).await,
            &format!("Refused(Stale {{ status: Running, attempt: {} }})", attempt + 1),
        );
        let done = StepResult::Released;
        applied(
            one(&store, event("r", Event::Finish { order: 0, attempt: attempt + 1, result: done, claim_next: None }))
                .await,
        );
    }
}

async fn what_becomes_ready_is_claimed_with_what_made_it_so(world: World) {
    let store = world.store().await;
    let mut new = new_run("r", &chain(3));
    new.claim_next = Some(claim_next("p/start", 3));
    let (state, first) = started(one(&store, start(new.clone())).await);
    assert_eq!((first.as_slice(), state.steps[0].status), ([0].as_slice(), StepStatus::Running));
    let (_, again) = started(one(&store, start(new)).await);
    assert_eq!(again, [0], "a repeated command tells the same");
    let finish = |order: usize| {
        let result = StepResult::Completed { output: JsonText::new(&json!(order)) };
        let next = Some(claim_next(&format!("p/{order}"), 3));
        event("r", Event::Finish { order, attempt: 1, result, claim_next: next })
    };
    for order in 0..2 {
        for repeat in [false, true] {
            let outcome = one(&store, finish(order)).await;
            let WorkflowOutcome::Applied { state, claimed, repeated } = outcome else { panic!("{outcome:?}") };
            assert_eq!((claimed.as_slice(), repeated), ([order + 1].as_slice(), repeat));
            let step = &state.steps[order + 1];
            assert_eq!(step.input, Payload::Loaded(JsonText::new(&json!({"n": order + 1}))));
            assert_eq!((step.status, step.attempt), (StepStatus::Running, 1));
        }
    }
    let state = applied(one(&store, finish(2)).await);
    assert_eq!(state.run.status, RunStatus::Completed);
}

async fn a_question_is_answered(world: World) {
    let store = world.store().await;
    started(one(&store, start(new_run("r", &chain(1)))).await);
    claimed(one(&store, claim("r", 0, "p")).await);
    let ask = Event::Ask {
        order: 0,
        attempt: 1,
        question: "May I?".into(),
        schema: Some(r#"{"type":"boolean"}"#.into()),
        checkpoint: Some(JsonText::new(&json!({"asked": 1}))),
    };
    applied(one(&store, event("r", ask)).await);
    let stored = store.run_read(&RunId::from_stored("r"), false).await.unwrap().unwrap();
    let question = stored.steps[0].question().unwrap().number;
    let other = Event::Answer { order: 0, question: question - 1, answer: JsonText::new(&json!(true)), refuse: false };
    is(&one(&store, event("r", other)).await, &format!("Refused(OtherQuestion {{ current: {question} }})"));
    let schema = Some(r#"{"type":"boolean"}"#.into());
    assert_eq!(stored.steps[0].wait, Some(Wait::Answer { question: "May I?".into(), schema, completes: false }));
    applied(
        one(
            &store,
            event("r", Event::Answer { order: 0, question, answer: JsonText::new(&json!(true)), refuse: false }),
        )
        .await,
    );
    let (_, step) = claimed(one(&store, claim("r", 0, "q")).await);
    assert_eq!(step.answer, Some(JsonText::new(&json!(true))));
    assert_eq!(step.checkpoint, Some(JsonText::new(&json!({"asked": 1}))));
}

async fn a_run_is_paused_cancelled_and_retried(world: World) {
    let store = world.store().await;
    started(one(&store, start(new_run("r", &diamond()))).await);
    let state = applied(one(&store, event("r", Event::Pause)).await);
    assert!(state.run.paused);
    is(&one(&store, claim("r", 0, "p")).await, "Refused(Step { status: Pending })");
    applied(one(&store, event("r", Event::Resume)).await);
    claimed(one(&store, claim("r", 0, "p")).await);
    let fail = Event::Finish {
        order: 0,
        attempt: 1,
        result: StepResult::Failed { error: "broken".into(), retryable: false },
        claim_next: None,
    };
    let state = applied(one(&store, event("r", fail)).await);
    assert_eq!(state.run.status, RunStatus::Failed);
    assert_eq!(store.health().await.unwrap().runs_ended, 1);
    let state = applied(one(&store, event("r", Event::Retry)).await);
    assert_eq!(state.steps[0].status, StepStatus::Ready);
    assert_eq!(store.health().await.unwrap().runs_live, 1);
    applied(one(&store, cancel("r")).await);
    let again = one(&store, cancel("r")).await;
    assert!(matches!(again, WorkflowOutcome::Applied { repeated: true, .. }), "{again:?}");
    is(&one(&store, event("r", Event::Retry)).await, "Refused(Run { status: Cancelled })");
    is(&one(&store, claim("r", 0, "p")).await, "Refused(Step { status: Cancelled })");
}

async fn events_of_one_batch_come_one_after_the_other(world: World) {
    let store = world.store().await;
    let mut batch: Vec<WorkflowCommand> = vec![start(new_run("r", &diamond())), start(new_run("s", &wide(20)))];
    all(&store, batch.split_off(0)).await;
    let mut claims: Vec<WorkflowCommand> = (0..20).map(|n| claim("s", n, &format!("p/{n}"))).collect();
    claims.extend((0..2).map(|n| claim("r", n, "p")));
    for outcome in all(&store, claims).await {
        claimed(outcome);
    }
    let mut batch: Vec<WorkflowCommand> = (0..20).map(|n| finish("s", n, 1, &json!(n))).collect();
    // The second of these reads the output of the first, which is not written yet.
    batch.insert(3, finish("r", 0, 1, &json!("l")));
    batch.insert(9, finish("r", 1, 1, &json!("r")));
    batch.push(finish("s", 3, 1, &json!(3)));
    batch.push(cancel("r"));
    batch.push(start(new_run("t", &chain(2))));
    batch.push(event("t", Event::Pause));
    let outcomes = all(&store, batch).await;
    let state = applied(outcomes[3].clone());
    assert_eq!(state.run.status, RunStatus::Cancelled, "told as the whole batch has left it");
    assert!(matches!(outcomes[22], WorkflowOutcome::Applied { repeated: true, .. }));
    let state = applied(outcomes[0].clone());
    assert_eq!(state.run.status, RunStatus::Completed);
    assert!(applied(outcomes[25].clone()).run.paused);
    for id in ["r", "s", "t"] {
        let stored = store.run_read(&RunId::from_stored(id), false).await.unwrap().unwrap();
        let told = outcomes.iter().find_map(|outcome| match outcome {
            WorkflowOutcome::Applied { state, .. } if state.run.id.as_str() == id => Some(state.clone()),
            _ => None,
        });
        let told = told.unwrap();
        assert_eq!((stored.run.revision, statuses(&stored)), (told.run.revision, statuses(&told)), "{id}");
    }
}

async fn a_command_that_the_database_rejects_fails_alone(world: World) {
    let store = world.store().await;
    all(&store, (0..8).map(|n| start(new_run(&format!("r{n}"), &chain(1)))).collect()).await;
    let mut poison = new_run("poison", &chain(1));
    poison.idempotency_key = Some("x".repeat(300).into());
    let mut batch: Vec<WorkflowCommand> = (0..8).map(|n| claim(&format!("r{n}"), 0, "p")).collect();
    batch.extend((0..8).map(|n| put(&format!("w{n}"), "one", None)));
    batch.insert(5, start(poison));
    let mut bad_put = match put("bad", "one", None) {
        WorkflowCommand::WorkflowPut(put) => put,
        other => panic!("{other:?}"),
    };
    Arc::make_mut(&mut bad_put.spec).id = a2a_core::ids::WorkflowId::from_stored("x".repeat(129));
    batch.insert(11, WorkflowCommand::WorkflowPut(bad_put));
    let outcomes = all(&store, batch).await;
    for (index, outcome) in outcomes.iter().enumerate() {
        match index {
            5 | 11 => assert!(matches!(outcome, WorkflowOutcome::Rejected { .. }), "{index}: {outcome:?}"),
            0..=8 => assert_eq!(claimed(outcome.clone()).1.attempt, 1, "{index}"),
            _ => assert_eq!(put_revision(outcome), (1, None), "{index}"),
        }
    }
    assert_eq!(world.count("SELECT count(*) FROM runs").await, 8);
    assert_eq!(world.count("SELECT count(*) FROM workflows").await, 8);
}

async fn hostile_texts_come_back(world: World) {
    let store = world.store().await;
    let controls: String = (1..0x20_u8).chain(0x7f..=0x9f).map(char::from).collect();
    let texts = [
        "'; DROP TABLE runs; --".to_owned(),
        "$$ $1 ? ?1 :name @p \\' \\\\ %s %".to_owned(),
        "{\"a\": [1, null], \"b\": \"\\u0000\"}".to_owned(),
        "null".to_owned(),
        "{a,\"b\",NULL}".to_owned(),
        "12345678901234567890".to_owned(),
        "\u{feff}\u{202e}\u{1f469}\u{200d}\u{1f4bb} e\u{301} \u{10ffff} \u{2028}".to_owned(),
        controls,
    ];
    for (n, text) in texts.iter().enumerate() {
        let id = format!("r{n}");
        let json = json!({text: [text, {text: text}]});
        let document = json!({"id": format!("w{n}"), "name": "n", "description": text, "context": {"c": text},
            "steps": [{"name": "a", "agent": "worker", "input": {"fixed": "x"}}]});
        let spec = workflow_spec(&document);
        one(&store, put_spec(spec.clone(), None)).await;
        let stored = store.workflow_history(&workflow_key(&format!("w{n}")), None, 1).await.unwrap();
        assert_eq!(stored[0].workflow.spec, spec);
        let mut new = new_run(&id, &definition(&document));
        new.input = JsonText::new(&json);
        new.context = JsonText::new(&json!({"c": json}));
        new.idempotency_key = Some(text.as_str().into());
        new.actor = Actor::new(text);
        started(one(&store, start(new.clone())).await);
        claimed(one(&store, claim(&id, 0, text)).await);
        let note = WorkflowCommand::StepNote {
            claim: claim_ref(&id, 0, 1),
            progress: Some(Progress { message: text.as_str().into(), percent: None, at: Timestamp(1) }),
            checkpoint: Some(JsonText::new(&json)),
            lease: Duration::from_secs(1),
            progress_within: None,
        };
        is(&one(&store, note).await, "Noted");
        let ask = Event::Ask { order: 0, attempt: 1, question: text.as_str().into(), schema: None, checkpoint: None };
        applied(one(&store, event(&id, ask)).await);
        let state = store.run_read(&new.id, true).await.unwrap().unwrap();
        assert_eq!((&state.run.input, &state.run.context), (&new.input, &new.context));
        assert_eq!(state.run.idempotency_key.as_deref(), Some(text.as_str()));
        let number = state.steps[0].question().map(|asked| {
            assert_eq!(asked.text, text);
            asked.number
        });
        let number = number.unwrap();
        assert_eq!(state.steps[0].checkpoint, Some(JsonText::new(&json)));
        applied(
            one(
                &store,
                event(&id, Event::Answer { order: 0, question: number, answer: JsonText::new(&json), refuse: false }),
            )
            .await,
        );
        let (_, step) = claimed(one(&store, claim(&id, 0, "again")).await);
        assert_eq!(step.answer, Some(JsonText::new(&json)));
        applied(one(&store, finish(&id, 0, step.attempt, &json)).await);
        let state = store.run_read(&new.id, true).await.unwrap().unwrap();
        assert_eq!(state.steps[0].output, Payload::Loaded(JsonText::new(&json)));
        assert_eq!(state.run.result, Some(JsonText::new(&json)));
    }
    // Text that a worker fails with.
    for (n, text) in texts.iter().enumerate() {
        let id = format!("f{n}");
        started(one(&store, start(new_run(&id, &chain(1)))).await);
        claimed(one(&store, claim(&id, 0, "p")).await);
        let result = StepResult::Failed { error: text.as_str().into(), retryable: false };
        let told =
            applied(one(&store, event(&id, Event::Finish { order: 0, attempt: 1, result, claim_next: None })).await);
        let state = store.run_read(&RunId::from_stored(id.as_str()), true).await.unwrap().unwrap();
        assert_eq!((&state.steps[0].error, &state.run.error), (&told.steps[0].error, &told.run.error));
        assert!(state.steps[0].error.as_deref().unwrap().contains(text.trim()), "{:?}", state.steps[0].error);
    }
}

async fn runs_are_listed_in_pages(world: World) {
    let store = world.store().await;
    for n in 0..25 {
        let mut new = new_run(&format!("run-{n:02}"), &chain(2));
        if n % 5 == 0 {
            new.workflow = None;
        }
        one(&store, start(new)).await;
        if n % 2 == 0 {
            one(&store, cancel(&format!("run-{n:02}"))).await;
        }
    }
    let list = async |filter: &RunFilter| {
        let (mut ids, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = store.runs_page(filter, after.as_ref(), 4).await.unwrap();
            assert!(page.runs.iter().all(|run| run.steps == 2));
            ids.extend(page.runs.iter().map(|run| run.id.to_string()));
            pages += 1;
            let Some(next) = page.next else {
                assert_eq!((ids.len() as i64, ids.len().div_ceil(4).max(1)), (page.total, pages));
                return ids;
            };
            after = Some(next);
        }
    };
    let every = list(&RunFilter::default()).await;
    let mut newest_first: Vec<String> = (0..25).rev().map(|n| format!("run-{n:02}")).collect();
    assert_eq!(every.len(), 25);
    // Two may have been made in the same millisecond; their ids then tell.
    assert_eq!(every, newest_first);
    newest_first.retain(|id| id[4..].parse::<u32>().unwrap() % 2 == 0);
    let cancelled = RunFilter { status: Some(RunStatus::Cancelled), ..RunFilter::default() };
    assert_eq!(list(&cancelled).await, newest_first);
    let of_flow = RunFilter { workflow: Some(workflow_key("flow").id), ..RunFilter::default() };
    assert_eq!(list(&of_flow).await.len(), 20);
    let both = RunFilter { status: Some(RunStatus::Cancelled), ..of_flow.clone() };
    assert!(list(&both).await.len() < 20 && list(&both).await.iter().all(|id| newest_first.contains(id)));
    let nowhere = RunFilter { namespace: a2a_core::ids::Namespace::from_stored("nowhere"), ..RunFilter::default() };
    assert!(list(&nowhere).await.is_empty());
    let page = store.runs_page(&cancelled, None, 1).await.unwrap();
    assert_eq!((page.runs[0].steps_ended, page.runs[0].status), (2, RunStatus::Cancelled));
    let ids = async |prefix: &str, limit| {
        let found = store.run_ids(&RunId::from_stored(prefix), limit).await.unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(ids("run-1", 3).await, ["run-10", "run-11", "run-12"]);
    assert_eq!(ids("run-24", 3).await, ["run-24"]);
    assert!(ids("run_", 3).await.is_empty(), "an id is no pattern");
    let wanted = ["run-03", "x", "run-01"].map(RunId::from_stored);
    let read: Vec<String> =
        store.runs_read(&wanted, false).await.unwrap().iter().map(|state| state.run.id.to_string()).collect();
    assert_eq!(read, ["run-03", "run-01"]);
}

async fn what_is_not_there_is_not_found(world: World) {
    let store = world.store().await;
    let renew = WorkflowCommand::StepRenew { claim: claim_ref("r", 0, 1), lease: Duration::from_secs(1) };
    let batch =
        vec![remove("w", None), cancel("r"), claim("r", 0, "p"), renew, event("r", finish_event(0, 1, &Value::Null))];
    for outcome in all(&store, batch).await {
        is(&outcome, "NotFound");
    }
    assert!(store.run_read(&RunId::from_stored("r"), true).await.unwrap().is_none());
    assert!(store.workflow_history(&workflow_key("w"), None, 5).await.unwrap().is_empty());
    assert_eq!(world.count("SELECT count(*) FROM change_log").await, 0);
    assert!(store.workflow_commit(Vec::new()).await.unwrap().is_empty());
}

async fn runs_that_ended_are_pruned(world: World) {
    let store = world.store().await;
    for n in 0..6 {
        one(&store, start(new_run(&format!("r{n}"), &chain(3)))).await;
        if n % 2 == 0 {
            one(&store, cancel(&format!("r{n}"))).await;
        }
    }
    let keep = Retention { runs: Duration::from_secs(3600), ..Retention::default() };
    store.prune(&keep).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM runs").await, 6);
    wait_until(LIMIT, "the ended runs to go", async || {
        store.prune(&Retention { runs: Duration::ZERO, ..Retention::default() }).await.unwrap();
        world.count("SELECT count(*) FROM runs").await == 3
    })
    .await;
    let left = world.texts("SELECT id FROM runs ORDER BY id").await;
    assert_eq!(left, ["r1", "r3", "r5"]);
    assert_eq!(world.count("SELECT count(*) FROM steps").await, 9);
}

async fn every_change_is_in_the_log(world: World) {
    let store = world.store().await;
    one(&store, put("w", "one", None)).await;
    one(&store, remove("w", None)).await;
    one(&store, start(new_run("r", &chain(1)))).await;
    one(&store, claim("r", 0, "p")).await;
    one(&store, finish("r", 0, 1, &json!(1))).await;
    let log =
        world.texts("SELECT entity || ' ' || namespace || ' ' || id || ' ' || op FROM change_log ORDER BY seq").await;
    let expected = [
        "workflow default w put",
        "workflow default w remove",
        "run default r put",
        "step default r/0 put",
        "run default r remove",
        "step default r/0 put",
    ];
    assert_eq!(log, expected);
}
