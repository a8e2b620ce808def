//! Several processes at the same steps.

use std::collections::HashMap;
use std::time::Duration;

use a2a_core::ids::RunId;
use a2a_core::workflow::command::{Claimer, Event, Refusal, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::run::{RunStatus, StepStatus};
use a2a_store::store::Store;
use a2a_testing::figure::figure;
use futures_util::future::join_all;
use rand::seq::SliceRandom as _;
use serde_json::json;

use crate::process::LIMIT;
use crate::workflow_document::{
    all, applied, cancel, chain, claim, claimed, claimer, event, finish, new_run, one, start, started, wide,
};
use crate::world::{World, on_both};

on_both!(
    sixteen_workers_take_each_of_a_thousand_steps_once,
    of_cancel_and_finish_one_wins,
    no_control_undoes_a_claim,
    a_worker_that_was_given_up_is_refused,
    starts_with_one_key_begin_one_run,
    writers_of_one_workflow_make_every_revision_once,
    commands_that_cross_do_not_stop_each_other,
);

const STEPS: usize = 500;

/// Takes what it can get, finishes it, and returns what it took.
async fn work(store: Store, owner: String) -> Vec<(usize, usize)> {
    let mut left: Vec<(usize, usize)> = (0..2).flat_map(|run| (0..STEPS).map(move |step| (run, step))).collect();
    left.shuffle(&mut rand::rng());
    let mut taken = Vec::new();
    while !left.is_empty() {
        let some: Vec<(usize, usize)> = left.drain(..left.len().min(40)).collect();
        let claims = some.iter().map(|(run, step)| claim(&format!("r{run}"), *step, &format!("{owner}/{run}/{step}")));
        let mut finishes = Vec::new();
        for (key, outcome) in some.iter().zip(all(&store, claims.collect()).await) {
            match outcome {
                WorkflowOutcome::Claimed { step, .. } => {
                    taken.push(*key);
                    let output = json!({"by": owner, "step": key.1});
                    finishes.push(finish(&format!("r{}", key.0), key.1, step.attempt, &output));
                }
                // Somebody has locked it, and may yet leave it.
                WorkflowOutcome::Refused(Refusal::Step { status: StepStatus::Ready }) => left.push(*key),
                WorkflowOutcome::Refused(Refusal::Step { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        for outcome in all(&store, finishes).await {
            applied(outcome);
        }
    }
    taken
}

async fn sixteen_workers_take_each_of_a_thousand_steps_once(world: World) {
    let store = world.store().await;
    for run in ["r0", "r1"] {
        started(one(&store, start(new_run(run, &wide(STEPS)))).await);
    }
    let workers = (0..16).map(async |n| {
        let store = world.store().await;
        tokio::spawn(work(store, format!("w{n}"))).await.unwrap()
    });
    let mut times: HashMap<(usize, usize), (usize, usize)> = HashMap::new();
    for (worker, taken) in join_all(workers).await.into_iter().enumerate() {
        for key in taken {
            let entry = times.entry(key).or_insert((0, worker));
            *entry = (entry.0 + 1, worker);
        }
    }
    assert_eq!(times.len(), 2 * STEPS);
    assert!(times.values().all(|(times, _)| *times == 1), "a step was taken twice");
    for run in 0..2 {
        let state = store.run_read(&RunId::from_stored(format!("r{run}")), true).await.unwrap().unwrap();
        assert_eq!(state.run.status, RunStatus::Completed);
        for step in &state.steps {
            assert_eq!((step.status, step.attempt), (StepStatus::Completed, 1));
            let (_, worker) = times[&(run, step.order)];
            let expected = json!({"by": format!("w{worker}"), "step": step.order}).to_string();
            assert!(format!("{:?}", step.output).contains(&expected), "{:?}", step.output);
        }
    }
}

async fn of_cancel_and_finish_one_wins(world: World) {
    let (a, b) = (world.store().await, world.store().await);
    let rounds = figure(1_000, 10_000);
    let definition = chain(1);
    let (mut cancelled, mut finished) = (0, 0);
    for round in 0..rounds {
        let run = format!("r{round}");
        let mut new = new_run(&run, &definition);
        new.claim_next = Some(crate::workflow_document::claim_next("p", 1));
        let (_, claimed) = started(one(&a, start(new)).await);
        assert_eq!(claimed, [0]);
        // Now this one, now that one comes a little later.
        let later = async |turn: usize| {
            if round % 3 == turn {
                tokio::task::yield_now().await;
            }
        };
        let cancelling = async {
            later(1).await;
            one(&a, cancel(&run)).await
        };
        let finishing = async {
            later(2).await;
            one(&b, finish(&run, 0, 1, &json!("done"))).await
        };
        let outcomes = if round % 2 == 0 {
            tokio::join!(cancelling, finishing)
        } else {
            let (second, first) = tokio::join!(finishing, cancelling);
            (first, second)
        };
        let state = b.run_read(&RunId::from_stored(run.as_str()), true).await.unwrap().unwrap();
        match outcomes {
            (
                WorkflowOutcome::Applied { repeated: false, .. },
                WorkflowOutcome::Refused(Refusal::Stale { status, .. }),
            ) => {
                assert_eq!((status, state.run.status), (StepStatus::Cancelled, RunStatus::Cancelled));
                assert_eq!(state.steps[0].output, a2a_core::workflow::run::Payload::None);
                cancelled += 1;
            }
            (WorkflowOutcome::Refused(Refusal::Run { status }), WorkflowOutcome::Applied { repeated: false, .. }) => {
                assert_eq!((status, state.run.status), (RunStatus::Completed, RunStatus::Completed));
                finished += 1;
            }
            other => panic!("both or none: {other:?}"),
        }
    }
    eprintln!("{cancelled} were cancelled, {finished} finished");
    assert_eq!(cancelled + finished, rounds);
}

/// Claims lock steps and not their run: whoever changes the run must not write over one that came in between.
async fn no_control_undoes_a_claim(world: World) {
    let (a, b) = (world.store().await, world.store().await);
    let definition = wide(6);
    let mut taken = 0;
    for round in 0..figure(200, 1_000) {
        let run = format!("r{round}");
        started(one(&a, start(new_run(&run, &definition))).await);
        let control = if round % 2 == 0 { cancel(&run) } else { event(&run, Event::Pause) };
        let claims = (0..6).map(|order| claim(&run, order, &format!("p/{order}"))).collect();
        let (controlled, outcomes) = tokio::join!(one(&a, control), async {
            if round % 3 == 0 {
                tokio::task::yield_now().await;
            }
            all(&b, claims).await
        });
        applied(controlled);
        let state = b.run_read(&RunId::from_stored(run.as_str()), false).await.unwrap().unwrap();
        for (order, outcome) in outcomes.into_iter().enumerate() {
            let step = &state.steps[order];
            match outcome {
                WorkflowOutcome::Claimed { .. } => {
                    taken += 1;
                    let expected = if round % 2 == 0 { StepStatus::Cancelled } else { StepStatus::Running };
                    assert_eq!((step.status, step.attempt), (expected, 1), "a claim that was told is kept");
                }
                WorkflowOutcome::Refused(Refusal::Step { .. }) => assert_eq!(step.attempt, 0),
                other => panic!("{other:?}"),
            }
        }
    }
    eprintln!("{taken} claims came first");
}

async fn a_worker_that_was_given_up_is_refused(world: World) {
    let (a, b) = (world.store().await, world.store().await);
    for round in 0..figure(20, 500) {
        let run = format!("r{round}");
        started(one(&a, start(new_run(&run, &chain(1)))).await);
        let short = Claimer { lease: Duration::from_millis(1), ..claimer("slow") };
        let taking = WorkflowCommand::StepClaim { run: RunId::from_stored(run.as_str()), order: 0, claimer: short };
        let (_, step) = claimed(one(&a, taking).await);
        a2a_testing::wait::wait_until(LIMIT, "the lease to run out", async || {
            let state = applied(one(&b, event(&run, Event::Tick)).await);
            state.steps[0].status == StepStatus::Ready
        })
        .await;
        let (taken, late) =
            tokio::join!(one(&b, claim(&run, 0, "next")), one(&a, finish(&run, 0, step.attempt, &json!("too late"))),);
        assert!(matches!(late, WorkflowOutcome::Refused(Refusal::Stale { .. })), "{late:?}");
        let (_, next) = match taken {
            // The late one has locked the row for a moment.
            WorkflowOutcome::Refused(Refusal::Step { status: StepStatus::Ready }) => {
                claimed(one(&b, claim(&run, 0, "next")).await)
            }
            taken => claimed(taken),
        };
        assert_eq!(next.attempt, 2);
        let renew = WorkflowCommand::StepRenew {
            claim: crate::workflow_document::claim_ref(&run, 0, 1),
            lease: Duration::from_secs(60),
        };
        assert!(matches!(one(&a, renew).await, WorkflowOutcome::Refused(Refusal::Stale { attempt: 2, .. })));
        applied(one(&b, finish(&run, 0, 2, &json!("done"))).await);
        let state = a.run_read(&RunId::from_stored(run.as_str()), true).await.unwrap().unwrap();
        assert_eq!(state.run.result.unwrap().as_str(), "\"done\"");
    }
}

async fn starts_with_one_key_begin_one_run(world: World) {
    let stores = join_all((0..6).map(|_| world.store())).await;
    let definition = chain(1);
    for round in 0..20 {
        let starts = stores.iter().enumerate().map(async |(n, store)| {
            let mut new = new_run(&format!("r{round}-{n}"), &definition);
            new.idempotency_key = Some(format!("key {round}").into());
            loop {
                // The loser of a race is told to try again, as the writer does.
                match store.workflow_commit(vec![start(new.clone())]).await {
                    Ok(mut outcomes) => return outcomes.remove(0),
                    Err(error) => assert!(error.is_transient(), "{error:?}"),
                }
            }
        });
        let runs: Vec<RunId> = join_all(starts)
            .await
            .into_iter()
            .map(|outcome| match outcome {
                WorkflowOutcome::Started { state, .. } => state.run.id.clone(),
                WorkflowOutcome::AlreadyStarted { run } => run,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(runs.iter().all(|run| *run == runs[0]), "{runs:?}");
    }
    assert_eq!(world.count("SELECT count(*) FROM runs").await, 20);
}

async fn writers_of_one_workflow_make_every_revision_once(world: World) {
    let stores = join_all((0..4).map(|_| world.store())).await;
    let writers = stores.iter().enumerate().map(async |(writer, store)| {
        let mut made = Vec::new();
        for n in 0..15 {
            let command = if n % 5 == 4 {
                crate::workflow_document::remove("w", None)
            } else {
                crate::workflow_document::put("w", &format!("{writer} {n}"), None)
            };
            let outcome = loop {
                match store.workflow_commit(vec![command.clone()]).await {
                    Ok(mut outcomes) => break outcomes.remove(0),
                    Err(error) => assert!(error.is_transient(), "{error:?}"),
                }
            };
            match outcome {
                WorkflowOutcome::WorkflowPut { workflow, .. } => made.push(workflow.revision),
                // Another writer may have removed it before.
                WorkflowOutcome::WorkflowRemoved { .. } | WorkflowOutcome::NotFound => {}
                other => panic!("{other:?}"),
            }
        }
        made
    });
    let mut made: Vec<i64> = join_all(writers).await.concat();
    made.sort_unstable();
    let doubles = made.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!((made.len(), doubles), (48, 0));
    let key = crate::workflow_document::workflow_key("w");
    let history = stores[0].workflow_history(&key, None, 1_000).await.unwrap();
    let revisions: Vec<i64> = history.iter().rev().map(|version| version.workflow.revision).collect();
    let expected: Vec<i64> = (1..=i64::try_from(revisions.len()).unwrap()).collect();
    assert_eq!(revisions, expected);
}

/// Batches that name the same runs and steps in different orders: nobody waits for ever, nothing is lost.
async fn commands_that_cross_do_not_stop_each_other(world: World) {
    let stores = join_all((0..6).map(|_| world.store())).await;
    let definition = wide(4);
    let ids: Vec<String> = (0..12).map(|n| format!("r{n}")).collect();
    all(&stores[0], ids.iter().map(|id| start(new_run(id, &definition))).collect()).await;
    let workers = stores.iter().enumerate().map(async |(worker, store)| {
        for round in 0..12 {
            let mut ids = ids.clone();
            ids.shuffle(&mut rand::rng());
            let mut batch: Vec<WorkflowCommand> = Vec::new();
            for id in &ids {
                batch.push(event(id, Event::Tick));
                batch.push(claim(id, (worker + round) % 4, &format!("w{worker}/{id}/{round}")));
                batch.push(WorkflowCommand::StepRenew {
                    claim: crate::workflow_document::claim_ref(id, round % 4, 1),
                    lease: Duration::from_secs(45),
                });
                if round % 4 == 3 {
                    batch.push(event(id, Event::Pause));
                    batch.push(event(id, Event::Resume));
                }
            }
            batch.shuffle(&mut rand::rng());
            let outcomes = store.workflow_commit(batch).await.unwrap();
            assert!(!outcomes.iter().any(|outcome| matches!(outcome, WorkflowOutcome::Rejected { .. })));
        }
    });
    tokio::time::timeout(LIMIT, join_all(workers)).await.unwrap();
    let ids: Vec<RunId> = ids.into_iter().map(RunId::from_stored).collect();
    for state in stores[0].runs_read(&ids, false).await.unwrap() {
        assert!(state.steps.iter().all(|step| step.attempt <= 1), "no claim was given twice");
    }
}
