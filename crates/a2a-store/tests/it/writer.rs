//! The writer task: groups, order, deadlines, and what callers are told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::change::Outcome;
use a2a_core::limits;
use a2a_store::Unit;
use a2a_store::writer::WriteError;
use a2a_testing::postgres::{Cluster, skipped};
use a2a_testing::wait::wait_until;
use futures_util::future::join_all;

use crate::document::{expecting, put, remove, revisions, written};
use crate::process::{LIMIT, Process, finish, in_secs};
use crate::world::{World, on_both};

on_both!(
    writes_that_come_together_are_committed_together,
    of_parallel_updates_with_one_revision_one_wins,
    a_caller_reads_its_own_write,
    a_full_queue_refuses_and_then_takes_again,
    what_was_accepted_is_committed_at_the_end,
    caches_equal_the_database_after_random_work,
    an_answer_that_nobody_waits_for_is_still_applied,
    large_batches_are_answered_in_order_and_read_at_once,
    closing_waits_for_a_large_batch_that_is_being_answered,
);

async fn writes_that_come_together_are_committed_together(world: World) {
    const WRITES: u64 = 500;
    let process = Process::start(&world.location()).await;
    let outcomes = join_all((0..WRITES).map(|n| process.submit(put(&format!("a{n}"), n)))).await;
    for outcome in outcomes {
        assert_eq!(revisions(&outcome.unwrap()), (1, None));
    }
    let counts = process.writer.counts();
    assert_eq!(counts.changes, WRITES);
    assert!(counts.commits < WRITES / 5, "{} commits", counts.commits);
    assert_eq!((counts.queued, counts.retries, counts.last_error), (0, 0, None));
    assert_eq!(finish(&world, vec![process]).await.len() as u64, WRITES);
}

async fn of_parallel_updates_with_one_revision_one_wins(world: World) {
    let processes = join_all((0..4).map(|_| async { Process::start(&world.location()).await })).await;
    processes[0].write(put("prize", "none")).await;
    for process in &processes {
        wait_until(LIMIT, "the prize", async || process.revision("prize") == 1).await;
    }
    for round in 1..=5_i64 {
        let start = Instant::now();
        let updates = (0..100).map(|n| {
            let change = expecting(round, put("prize", format!("{round} {n}")));
            processes[n % processes.len()].submit(change)
        });
        let outcomes: Vec<Outcome> = join_all(updates).await.into_iter().map(Result::unwrap).collect();
        let won: Vec<usize> = (0..100).filter(|n| outcomes[*n].is_success()).collect();
        assert_eq!(won.len(), 1, "{won:?}");
        for (n, outcome) in outcomes.iter().enumerate().filter(|(n, _)| *n != won[0]) {
            assert_eq!(*outcome, Outcome::Conflict { current: round + 1 }, "{n}");
        }
        // A deadlock is found after a second, and then by luck.
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        let winner = written(&outcomes[won[0]]);
        assert_eq!(*winner.spec.description, *format!("Says {round} {}", won[0]));
        for process in &processes {
            wait_until(LIMIT, "the winner", async || process.get("prize").is_some_and(|a| a == winner)).await;
        }
    }
    let retries: u64 = processes.iter().map(|process| process.writer.counts().retries).sum();
    assert_eq!(retries, 0);
    finish(&world, processes).await;
}

async fn a_caller_reads_its_own_write(world: World) {
    let process = Arc::new(Process::start(&world.location()).await);
    let callers = (0..8).map(|caller| {
        let process = process.clone();
        tokio::spawn(async move {
            let id = format!("own-{caller}");
            for n in 0..30 {
                let agent = written(&process.write(put(&id, n)).await);
                assert_eq!(process.get(&id), Some(agent));
                if n % 10 == 9 {
                    process.write(remove(&id)).await;
                    assert_eq!(process.get(&id), None);
                }
            }
        })
    });
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    finish(&world, vec![Arc::into_inner(process).unwrap()]).await;
}

/// Holds a lock so that nothing can be committed until the guard goes.
async fn hold_the_writers(world: &World) -> Box<dyn std::any::Any> {
    match world {
        World::Postgres(database) => {
            let client = database.client().await;
            client.batch_execute("BEGIN; LOCK TABLE agents IN ACCESS EXCLUSIVE MODE").await.unwrap();
            Box::new(client)
        }
        World::Sqlite { path, .. } => {
            use diesel::Connection as _;
            use diesel::connection::SimpleConnection as _;
            let mut conn = diesel::SqliteConnection::establish(path.to_str().unwrap()).unwrap();
            conn.batch_execute("PRAGMA busy_timeout = 20000; BEGIN IMMEDIATE").unwrap();
            Box::new(conn)
        }
    }
}

async fn a_full_queue_refuses_and_then_takes_again(world: World) {
    let process = Process::start(&world.location()).await;
    let held = hold_the_writers(&world).await;
    let writer = process.writer.clone();
    let units: Vec<Unit> = (0..limits::QUEUE_CHANGES_MAX).map(|n| Unit::one(put(&format!("full-{n}"), n))).collect();
    let filling = tokio::spawn(async move { writer.submit(units, false, in_secs(60)).await });
    wait_until(LIMIT, "the full queue", async || process.writer.counts().queued == limits::QUEUE_CHANGES_MAX).await;
    let start = Instant::now();
    let refused = process.submit(put("late", 1)).await;
    let waited = start.elapsed();
    assert!(matches!(refused, Err(WriteError::Overloaded { retry_after }) if !retry_after.is_zero()), "{refused:?}");
    assert!(waited >= Duration::from_millis(1_900) && waited < Duration::from_secs(3), "{waited:?}");
    // A shorter deadline is kept too.
    let start = Instant::now();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(100);
    let refused = process.writer.submit(vec![Unit::one(put("late", 2))], false, deadline).await;
    assert!(matches!(refused, Err(WriteError::Overloaded { .. })), "{refused:?}");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    drop(held);
    let outcomes = tokio::time::timeout(LIMIT, filling).await.unwrap().unwrap().unwrap();
    assert!(outcomes.concat().iter().all(Outcome::is_success));
    assert_eq!(revisions(&process.write(put("late", 3)).await), (1, None));
    assert_eq!(finish(&world, vec![process]).await.len(), limits::QUEUE_CHANGES_MAX + 1);
}

async fn what_was_accepted_is_committed_at_the_end(world: World) {
    let process = Arc::new(Process::start(&world.location()).await);
    let submits: Vec<_> = (0..300)
        .map(|n| {
            let process = process.clone();
            tokio::spawn(async move { process.submit(put(&format!("end-{n}"), n)).await })
        })
        .collect();
    wait_until(LIMIT, "the first writes", async || process.writer.counts().queued > 0).await;
    process.writer.close(LIMIT).await;
    assert_eq!(process.submit(put("after", 1)).await, Err(WriteError::Closed));
    let mut committed = Vec::new();
    for (n, submit) in submits.into_iter().enumerate() {
        match submit.await.unwrap() {
            Ok(outcome) => {
                assert!(outcome.is_success());
                committed.push(format!("end-{n}"));
            }
            // It came when the writer was closing already.
            Err(error) => assert_eq!(error, WriteError::Closed),
        }
    }
    assert!(!committed.is_empty());
    let stored = finish(&world, vec![Arc::into_inner(process).unwrap()]).await;
    let mut ids: Vec<String> = stored.keys().map(|key| key.id.to_string()).collect();
    ids.sort();
    committed.sort();
    assert_eq!(ids, committed, "neither less nor more than what was told");
}

async fn caches_equal_the_database_after_random_work(world: World) {
    let processes: Vec<Arc<Process>> =
        join_all((0..3).map(|_| async { Arc::new(Process::start(&world.location()).await) })).await;
    let work = processes.iter().flat_map(|process| (0..4).map(move |_| process.clone())).map(|process| {
        tokio::spawn(async move {
            for n in 0..60_u32 {
                let id = format!("shared-{}", rand::random_range(0..12));
                let expected = rand::random_bool(0.3).then(|| process.revision(&id));
                let mut change = match rand::random_range(0..10) {
                    0 | 1 => remove(&id),
                    2 => crate::document::purge(&id),
                    _ => put(&id, n),
                };
                change.expected_revision = expected;
                process.submit(change).await.unwrap();
            }
        })
    });
    for worker in join_all(work).await {
        worker.unwrap();
    }
    let processes = processes.into_iter().map(|process| Arc::into_inner(process).unwrap()).collect();
    finish(&world, processes).await;
}

async fn an_answer_that_nobody_waits_for_is_still_applied(world: World) {
    let process = Process::start(&world.location()).await;
    let held = hold_the_writers(&world).await;
    let writer = process.writer.clone();
    let caller =
        tokio::spawn(async move { writer.submit(vec![Unit::one(put("orphan", 1))], false, in_secs(60)).await });
    wait_until(LIMIT, "the write", async || process.writer.counts().queued == 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    drop(held);
    // Whether it was taken before its caller went or not: cache and database agree.
    wait_until(LIMIT, "an empty queue", async || process.writer.counts().queued == 0).await;
    process.write(put("next", 1)).await;
    finish(&world, vec![process]).await;
}

/// Enough for the answer to be given on another thread.
const LARGE: usize = 400;

async fn large_batches_are_answered_in_order_and_read_at_once(world: World) {
    let process = Arc::new(Process::start(&world.location()).await);
    let callers = (0..3).map(|caller| {
        let process = process.clone();
        tokio::spawn(async move {
            let id = |n: usize| format!("large-{caller}-{n}");
            for round in 0..4_i64 {
                let answered = std::sync::Mutex::new(Vec::new());
                let large = async {
                    let units = (0..LARGE).map(|n| Unit::one(put(&id(n), round))).collect();
                    let outcomes = process.writer.submit(units, false, in_secs(20)).await.unwrap().concat();
                    for (n, outcome) in outcomes.iter().enumerate().skip(1) {
                        assert_eq!(process.get(&id(n)), Some(written(outcome)));
                    }
                    answered.lock().unwrap().push("large");
                    outcomes
                };
                // Sent while the large one is on its way, to one of its agents.
                let small = async {
                    let outcome = process.submit(put(&id(0), format!("{round} again"))).await.unwrap();
                    assert_eq!(process.get(&id(0)), Some(written(&outcome)));
                    answered.lock().unwrap().push("small");
                    outcome
                };
                let (large, small) = tokio::join!(biased; large, small);
                assert_eq!(*answered.lock().unwrap(), ["large", "small"]);
                let before = (round > 0).then_some(2 * round);
                assert_eq!(revisions(&large[0]), (2 * round + 1, before));
                assert_eq!(revisions(&small), (2 * round + 2, Some(2 * round + 1)));
                let one_less = (round > 0).then_some(round);
                assert!(large.iter().skip(1).all(|outcome| revisions(outcome) == (round + 1, one_less)));
            }
        })
    });
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    assert_eq!(finish(&world, vec![Arc::into_inner(process).unwrap()]).await.len(), 3 * LARGE);
}

async fn closing_waits_for_a_large_batch_that_is_being_answered(world: World) {
    let mut process = Process::start(&world.location()).await;
    // It would wait for the cache too, on a thread that the timers of this test may need.
    process.stop_feed().await;
    let process = Arc::new(process);
    // Nothing can be put into the cache as long as somebody reads it.
    let (reading, started) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
    let cache = process.cache.clone();
    let reader = tokio::task::spawn_blocking(move || {
        let _guard = cache.read();
        reading.send(()).unwrap();
        stopped.recv().unwrap();
    });
    started.recv().unwrap();
    let submitting = {
        let process = process.clone();
        tokio::spawn(async move {
            let units = (0..LARGE).map(|n| Unit::one(put(&format!("large-{n}"), n))).collect();
            process.writer.submit(units, false, in_secs(20)).await
        })
    };
    wait_until(LIMIT, "the commit", async || world.count("SELECT count(*) FROM agents").await > 0).await;
    let writer = process.writer.clone();
    let mut closing = std::pin::pin!(writer.close(LIMIT));
    assert!(futures_util::poll!(closing.as_mut()).is_pending());
    assert_eq!(process.submit(put("late", 1)).await, Err(WriteError::Closed));
    assert!(!submitting.is_finished());
    stop.send(()).unwrap();
    reader.await.unwrap();
    closing.await;
    assert_eq!(process.writer.counts().queued, 0, "the end comes after the answer");
    let outcomes = submitting.await.unwrap().unwrap().concat();
    assert_eq!(outcomes.len(), LARGE);
    for outcome in &outcomes {
        let agent = written(outcome);
        assert_eq!(process.get(agent.spec.id.as_str()), Some(agent));
    }
    finish(&world, vec![Arc::into_inner(process).unwrap()]).await;
}

/// A database that is away: told in time and truthfully.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_database_means_not_done_by_the_deadline() {
    if skipped() {
        return;
    }
    let cluster = Cluster::start().await;
    let world = World::on_server(cluster.server()).await;
    let process = Process::start(&world.location()).await;
    process.write(put("there", 1)).await;
    cluster.stop_immediate().await;
    let start = Instant::now();
    let deadline = Duration::from_millis(1_500);
    let refused = join_all((0..20).map(|n| {
        let units = vec![Unit::one(put(&format!("away-{n}"), n))];
        process.writer.submit(units, false, tokio::time::Instant::now() + deadline)
    }))
    .await;
    let elapsed = start.elapsed();
    assert!(elapsed >= deadline && elapsed < deadline + Duration::from_millis(500), "{elapsed:?}");
    for refused in refused {
        // The first attempt may have been sent to a server that was going away.
        let told = matches!(&refused, Err(WriteError::NotDone { cause: Some(_) } | WriteError::Unknown { .. }));
        assert!(told, "{refused:?}");
    }
    let deadline = tokio::time::Instant::now() + Duration::from_millis(500);
    let refused = process.writer.submit(vec![Unit::one(put("away", 1))], false, deadline).await;
    assert!(matches!(refused, Err(WriteError::NotDone { cause: Some(_) })), "{refused:?}");
    // What is sent again may have been done the first time.
    let deadline = tokio::time::Instant::now() + Duration::from_millis(200);
    let refused = process.writer.submit(vec![Unit::one(put("again", 1))], true, deadline).await;
    assert!(matches!(refused, Err(WriteError::Unknown { .. })), "{refused:?}");
    assert_eq!(process.revision("there"), 1, "reads go on");
    // Closing does not wait for a server that may never return.
    let writer = process.writer.clone();
    let hanging =
        tokio::spawn(async move { writer.submit(vec![Unit::one(put("never", 1))], false, in_secs(60)).await });
    wait_until(LIMIT, "the write", async || process.writer.counts().queued == 1).await;
    let start = Instant::now();
    process.writer.close(Duration::from_secs(10)).await;
    assert!(start.elapsed() < Duration::from_millis(1_500), "{:?}", start.elapsed());
    assert_eq!(hanging.await.unwrap(), Err(WriteError::Closed));
    cluster.start_again().await;
    let stored = finish(&world, vec![process]).await;
    assert_eq!(stored.len(), 1, "nothing of what was told not to be done");
}

/// The same with a server that neither answers nor refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_ends_in_time_when_the_database_does_not_answer() {
    if skipped() {
        return;
    }
    let cluster = Cluster::start().await;
    let world = World::on_server(cluster.server()).await;
    let process = Process::start(&world.location()).await;
    process.write(put("there", 1)).await;
    cluster.pause().await;
    let writer = process.writer.clone();
    let hanging =
        tokio::spawn(async move { writer.submit(vec![Unit::one(put("maybe", 1))], false, in_secs(60)).await });
    wait_until(LIMIT, "the write", async || process.writer.counts().queued == 1).await;
    let start = Instant::now();
    process.writer.close(Duration::from_secs(10)).await;
    assert!(start.elapsed() < Duration::from_millis(1_500), "{:?}", start.elapsed());
    let told = hanging.await.unwrap();
    assert!(matches!(told, Err(WriteError::Unknown { .. } | WriteError::Closed)), "{told:?}");
    cluster.resume().await;
    finish(&world, vec![process]).await;
}
