//! Caches of workflows and runs that follow one database.

use std::collections::BTreeMap;
use std::time::Duration;

use a2a_core::ids::{Namespace, RunId};
use a2a_core::json_text::JsonText;
use a2a_core::time::Timestamp;
use a2a_core::workflow::command::{Event, StepResult, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::run::{Progress, StepStatus};
use a2a_store::store::Retention;
use a2a_testing::wait::wait_until;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use serde_json::json;

use crate::process::{LIMIT, Process, in_secs};
use crate::workflow_document::{
    cancel, chain, claim, claim_next, claim_ref, definition, diamond, event, new_run, put, remove, shape, start, wide,
    workflow_key,
};
use crate::world::{World, on_both};

on_both!(
    what_goes_on_is_loaded,
    two_processes_show_the_same,
    the_next_step_is_seen_soon,
    a_pruned_log_is_made_up_for,
    a_database_that_went_back_is_taken_over,
);

const SOON: Duration = Duration::from_secs(1);

/// What a cache holds: workflows and live runs.
fn content(process: &Process) -> BTreeMap<String, String> {
    let cache = process.workflows.read();
    let workflows = cache.workflows(&Namespace::default());
    let workflows =
        workflows.iter().map(|workflow| (format!("workflow {}", workflow.spec.id), format!("{workflow:?}")));
    let runs = (0..200).filter_map(|n| cache.run(&RunId::from_stored(format!("r{n}"))).cloned());
    let runs: Vec<_> = runs.collect();
    assert_eq!(runs.len(), cache.live_runs());
    workflows.chain(runs.iter().map(|state| (format!("run {}", state.run.id), shape(state)))).collect()
}

async fn submit(process: &Process, commands: Vec<WorkflowCommand>) -> Vec<WorkflowOutcome> {
    process.workflow_writer.submit(commands, in_secs(20)).await.unwrap()
}

/// Waits until all caches show what a new process loads, and ends the processes.
async fn finish(world: &World, processes: Vec<Process>) -> BTreeMap<String, String> {
    for process in &processes {
        process.workflow_writer.close(LIMIT).await;
    }
    let fresh = Process::start(&world.location()).await;
    let stored = content(&fresh);
    let live = world.count("SELECT count(*) FROM runs WHERE finished_at IS NULL").await;
    assert_eq!(i64::try_from(fresh.workflows.read().live_runs()).unwrap(), live);
    for (number, process) in processes.iter().enumerate() {
        let what = format!("cache {number} to equal the database");
        let equal = wait_until(Duration::from_secs(5), &what, async || content(process) == stored);
        if tokio::time::timeout(Duration::from_secs(4), equal).await.is_err() {
            let own = content(process);
            for (key, value) in &stored {
                assert_eq!(own.get(key), Some(value), "cache {number}");
            }
            assert_eq!(own.keys().collect::<Vec<_>>(), stored.keys().collect::<Vec<_>>());
        }
    }
    for process in processes {
        process.stop().await;
    }
    fresh.stop().await;
    stored
}

async fn what_goes_on_is_loaded(world: World) {
    let a = Process::start(&world.location()).await;
    submit(&a, vec![put("w", "one", None), put("gone", "one", None), remove("gone", None)]).await;
    submit(&a, (0..30).map(|n| start(new_run(&format!("r{n}"), &diamond()))).collect()).await;
    submit(&a, (0..30).map(|n| claim(&format!("r{n}"), n % 2, "p")).collect()).await;
    submit(&a, (0..10).map(|n| cancel(&format!("r{n}"))).collect()).await;
    let finished = (10..20).map(|n| crate::workflow_document::finish(&format!("r{n}"), n % 2, 1, &json!("out")));
    submit(&a, finished.collect()).await;
    let stored = finish(&world, vec![a]).await;
    assert_eq!(stored.len(), 21);
    // And again, with nobody there meanwhile.
    assert_eq!(finish(&world, Vec::new()).await, stored);
}

/// Something that a client could do now, as this process sees it.
fn anything(process: &Process, made: &mut usize) -> WorkflowCommand {
    let mut rng = rand::rng();
    let cache = process.workflows.read();
    let run = format!("r{}", rng.random_range(0..(*made).max(1)));
    let state = cache.run(&RunId::from_stored(run.as_str()));
    let (order, attempt, status) = match state {
        Some(state) => {
            let step = &state.steps.choose(&mut rng).unwrap();
            (step.order, step.attempt, step.status)
        }
        None => (0, 1, StepStatus::Pending),
    };
    let result = match rng.random_range(0..6) {
        0 => StepResult::Failed { error: "no".into(), retryable: rng.random() },
        1 => StepResult::Released,
        n => StepResult::Completed { output: JsonText::new(&json!({"n": n})) },
    };
    match rng.random_range(0..100) {
        0..3 => put(&format!("w{}", rng.random_range(0..3)), &rng.random::<u8>().to_string(), None),
        3 => remove(&format!("w{}", rng.random_range(0..3)), None),
        4..14 if *made < 150 => {
            *made += 1;
            let definition = match *made % 4 {
                0 => diamond(),
                1 => chain(3),
                2 => wide(5),
                _ => definition(&json!({"max_parallel": 1, "steps": [
                    {"name": "a", "agent": "builtin:gate", "input": {"question": "well?"}},
                    {"name": "b", "agent": "worker", "retry": {"max_attempts": 5, "backoff_ms": 1}},
                    {"name": "c", "agent": "worker", "depends_on": ["a", "b"], "on_failure": "continue"},
                ]})),
            };
            let mut new = new_run(&format!("r{}", *made - 1), &definition);
            if rng.random() {
                new.claim_next = Some(claim_next("mine", 5));
            }
            start(new)
        }
        14..16 => cancel(&run),
        16..20 => event(&run, if rng.random() { Event::Pause } else { Event::Resume }),
        20..24 => event(&run, Event::Retry),
        24..34 => event(&run, Event::Tick),
        34..40 => {
            let asked = state.and_then(|state| state.steps[order].question()).map_or(0, |asked| asked.number);
            let question = if rng.random() { asked } else { 0 };
            event(&run, Event::Answer { order, question, answer: JsonText::new(&json!("yes")), refuse: false })
        }
        40..46 => event(&run, Event::Ask { order, attempt, question: "which?".into(), schema: None, checkpoint: None }),
        46..56 => WorkflowCommand::StepNote {
            claim: claim_ref(&run, order, attempt),
            progress: Some(Progress { message: "on it".into(), percent: Some(7), at: Timestamp(7) }),
            checkpoint: None,
            lease: Duration::from_millis(rng.random_range(1..60_000)),
            progress_within: None,
        },
        _ if status == StepStatus::Ready => claim(&run, order, &format!("p{}", rng.random::<u32>())),
        _ => {
            let claim_next = rng.random::<bool>().then(|| claim_next("next", 5));
            event(&run, Event::Finish { order, attempt, result, claim_next })
        }
    }
}

async fn two_processes_show_the_same(world: World) {
    let location = world.location();
    let (a, b) = tokio::join!(Process::start(&location), Process::start(&location));
    let mut made = 0;
    let (mut refused, mut done) = (0, 0);
    for round in 0..250 {
        let mut batches = Vec::new();
        for process in [&a, &b] {
            batches.push((0..1 + round % 7).map(|_| anything(process, &mut made)).collect::<Vec<_>>());
        }
        let second = batches.pop().unwrap();
        let first = batches.pop().unwrap();
        let (first, second) = tokio::join!(submit(&a, first), submit(&b, second));
        for outcome in first.into_iter().chain(second) {
            match outcome {
                WorkflowOutcome::Rejected { reason } => panic!("{reason}"),
                WorkflowOutcome::Refused(_) | WorkflowOutcome::NotFound => refused += 1,
                _ => done += 1,
            }
        }
    }
    eprintln!("{done} commands done, {refused} refused, {made} runs");
    assert!(done > 500, "{done}");
    assert_eq!((a.status.reconciled(), b.status.reconciled()), (0, 0), "followed, not compared");
    assert!(!finish(&world, vec![a, b]).await.is_empty());
}

async fn the_next_step_is_seen_soon(world: World) {
    let location = world.location();
    let (a, b) = tokio::join!(Process::start(&location), Process::start(&location));
    submit(&a, vec![start(new_run("r0", &chain(40)))]).await;
    let mut slowest = Duration::ZERO;
    for order in 0..40 {
        let (from, to) = if order % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let mut changed = to.workflows.changed();
        let waited = wait_until(SOON, "the next step", async || {
            changed.borrow_and_update();
            let cache = to.workflows.read();
            let state = cache.run(&RunId::from_stored("r0"));
            state.is_some_and(|state| state.steps[order].status == StepStatus::Ready)
        });
        slowest = slowest.max(waited.await);
        submit(to, vec![claim("r0", order, "p")]).await;
        submit(from, vec![crate::workflow_document::finish("r0", order, 1, &json!(order))]).await;
    }
    eprintln!("slowest of 40 steps to be seen: {slowest:?}");
    finish(&world, vec![a, b]).await;
}

async fn a_pruned_log_is_made_up_for(world: World) {
    let location = world.location();
    let (a, b) = tokio::join!(Process::start(&location), Process::start(&location));
    let now = Retention { change_log: Duration::ZERO, ..Retention::default() };
    for n in 0..20 {
        let run = format!("r{n}");
        submit(&a, vec![start(new_run(&run, &chain(2))), put("w", &run, None)]).await;
        a.store.prune(&now).await.unwrap();
        submit(&b, vec![claim(&run, 0, "p")]).await;
        b.store.prune(&now).await.unwrap();
        let end = if n % 2 == 0 { cancel(&run) } else { put(&run, "x", None) };
        submit(&a, vec![end]).await;
        a.store.prune(&now).await.unwrap();
    }
    finish(&world, vec![a, b]).await;
}

/// The whole state, as a backup would have it.
async fn a_database_that_went_back_is_taken_over(world: World) {
    let a = Process::start(&world.location()).await;
    submit(&a, (0..4).map(|n| start(new_run(&format!("r{n}"), &chain(2)))).collect()).await;
    submit(&a, vec![put("older", "1", None), put("undead", "1", None)]).await;
    let tables = ["workflows", "workflow_history", "runs", "steps"];
    let copies: Vec<String> = tables.iter().map(|t| format!("CREATE TABLE b_{t} AS SELECT * FROM {t}")).collect();
    world.execute(&copies.join("; ")).await;
    let before = content(&a);
    submit(&a, vec![put("older", "2", None), remove("undead", None), put("late", "1", None)]).await;
    submit(&a, vec![cancel("r0"), claim("r1", 0, "p"), event("r2", Event::Pause), start(new_run("r9", &chain(1)))])
        .await;
    let back: Vec<String> =
        tables.iter().map(|t| format!("DELETE FROM {t}; INSERT INTO {t} SELECT * FROM b_{t}")).collect();
    let epoch = if world.is_postgres() { "gen_random_uuid()" } else { "lower(hex(randomblob(16)))" };
    let back = format!("{}; DELETE FROM change_log; UPDATE store_meta SET epoch = {epoch}", back.join("; "));
    world.execute(&back).await;
    wait_until(LIMIT, "the older state", async || content(&a) == before).await;
    // Life goes on from there.
    submit(&a, vec![claim("r1", 0, "q"), cancel("r0"), put("undead", "2", None)]).await;
    assert!(a.workflows.read().workflow(&workflow_key("late")).is_none());
    finish(&world, vec![a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_learns_the_clock_of_postgres_from_the_feed() {
    let Some(world) = World::postgres().await else { return };
    let process = Process::start(&world.location()).await;
    let clock = process.workflows.clock();
    for wrong in [11_000, -11_000] {
        clock.set_ahead_ms(wrong);
        // Both clocks are that of this machine.
        wait_until(LIMIT, "the clock to be right again", async || clock.ahead_ms().abs() < 1_000).await;
    }
    process.stop().await;
}
