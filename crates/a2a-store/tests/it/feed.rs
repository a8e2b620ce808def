//! Caches that follow one database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use a2a_core::agent::Agent;
use a2a_store::store::{Retention, Store};
use a2a_testing::figure::figure;
use a2a_testing::wait::wait_until;
use futures_util::future::join_all;

use crate::document::{key, purge, put, remove, written};
use crate::process::{LIMIT, Process, finish};
use crate::world::{World, commit_one, newest, on_both};

on_both!(
    two_caches_follow_each_other,
    what_was_written_before_the_start_is_loaded,
    a_log_that_was_pruned_is_made_up_for,
    a_cache_takes_over_a_database_that_went_back,
    revisions_in_a_cache_never_go_back,
);

/// How soon every other process shows a change.
const SOON: Duration = Duration::from_secs(1);

async fn two(world: &World) -> [Process; 2] {
    let location = world.location();
    let (a, b) = tokio::join!(Process::start(&location), Process::start(&location));
    [a, b]
}

async fn two_caches_follow_each_other(world: World) {
    let [a, b] = two(&world).await;
    let mut slowest = Duration::ZERO;
    for round in 0..10_i64 {
        let (from, to) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        for change in [put("x", round), put("x", round + 100), remove("x"), put("x", round), purge("x")] {
            let outcome = from.write(change).await;
            let expected = from.get("x");
            assert_eq!(expected.is_some(), matches!(outcome, a2a_core::change::Outcome::Put { .. }));
            let waited = wait_until(SOON, "the other process", async || to.get("x") == expected).await;
            slowest = slowest.max(waited);
        }
    }
    eprintln!("slowest of 50 changes to be seen: {slowest:?}");
    assert_eq!((a.status.reconciled(), b.status.reconciled()), (0, 0), "followed, not compared");
    assert!(a.status.is_connected() && a.status.stale().is_none());
    assert!(finish(&world, vec![a, b]).await.is_empty());
}

async fn what_was_written_before_the_start_is_loaded(world: World) {
    let store = world.store().await;
    for n in 0..600 {
        commit_one(&store, put(&format!("old-{n}"), n)).await;
        if n % 10 == 0 {
            commit_one(&store, remove(&format!("old-{n}"))).await;
        }
    }
    // Others go on writing while processes start.
    let writing = Arc::new(AtomicBool::new(true));
    let writer = {
        let (store, writing) = (store.clone(), writing.clone());
        tokio::spawn(async move {
            let mut n = 0;
            while writing.load(Ordering::Relaxed) {
                commit_one(&store, put(&format!("old-{}", n % 700), format!("new {n}"))).await;
                n += 1;
            }
        })
    };
    let processes = join_all((0..4).map(|_| async { Process::start(&world.location()).await })).await;
    writing.store(false, Ordering::Relaxed);
    writer.await.unwrap();
    finish(&world, processes).await;
}

async fn a_log_that_was_pruned_is_made_up_for(world: World) {
    let [a, b] = two(&world).await;
    let now = Retention {
        change_log: Duration::ZERO,
        applied_ops: Duration::ZERO,
        tool_usage: Duration::ZERO,
        runs: Duration::ZERO,
        ..Retention::default()
    };
    for n in 0..20 {
        a.write(put("x", n)).await;
        a.write(put(&format!("y{n}"), n)).await;
        // Whether or not the other one has read the log before it goes.
        a.store.prune(&now).await.unwrap();
        let revision = a.revision("x");
        wait_until(SOON, "the other process", async || {
            b.revision("x") == revision && b.revision(&format!("y{n}")) == 1
        })
        .await;
    }
    wait_until(LIMIT, "an empty log", async || {
        a.store.prune(&now).await.unwrap();
        world.count("SELECT count(*) FROM change_log").await == 0
    })
    .await;
    assert_eq!(world.count("SELECT count(*) FROM applied_ops").await, 0);
    // A new process starts with an empty log.
    let c = Process::start(&world.location()).await;
    assert_eq!(c.agents(), a.agents());
    b.write(remove("x")).await;
    wait_until(SOON, "the removal", async || a.get("x").is_none() && c.get("x").is_none()).await;
    finish(&world, vec![a, b, c]).await;
}

/// The whole state, as a backup would have it.
async fn take_back(world: &World, statements: &str) {
    let epoch = if world.is_postgres() { "gen_random_uuid()" } else { "lower(hex(randomblob(16)))" };
    world.execute(&format!("{statements}; UPDATE store_meta SET epoch = {epoch}")).await;
    if world.is_postgres() {
        world.kill_listeners().await;
    }
}

async fn a_cache_takes_over_a_database_that_went_back(world: World) {
    let a = Process::start(&world.location()).await;
    for id in ["stays", "older", "unborn", "undead", "removed", "diverged"] {
        a.write(put(id, 1)).await;
    }
    let backup =
        ["CREATE TABLE b_agents AS SELECT * FROM agents", "CREATE TABLE b_history AS SELECT * FROM agent_history"];
    world.execute(&backup.join("; ")).await;
    for change in
        [put("older", 2), put("older", 3), remove("undead"), put("removed", 2), put("diverged", 2), put("late", 1)]
    {
        a.write(change).await;
    }
    let b = Process::start(&world.location()).await;
    assert_eq!(a.agents(), b.agents());
    take_back(
        &world,
        "DELETE FROM agents; INSERT INTO agents SELECT * FROM b_agents; \
         DELETE FROM agent_history; INSERT INTO agent_history SELECT * FROM b_history; \
         DELETE FROM change_log; DELETE FROM agents WHERE id = 'unborn'; \
         UPDATE agents SET revision = 2, removed_at = updated_at WHERE id = 'removed'; \
         UPDATE agents SET revision = 2, description = 'theirs', updated_by = 'them', updated_at = created_at \
         WHERE id = 'diverged'",
    )
    .await;
    let expected =
        [("diverged", 2), ("late", 0), ("older", 1), ("removed", 0), ("stays", 1), ("unborn", 0), ("undead", 1)];
    for process in [&a, &b] {
        for (id, revision) in expected {
            wait_until(Duration::from_secs(3), &format!("{id} at {revision}"), async || {
                process.revision(id) == revision
            })
            .await;
        }
        wait_until(LIMIT, "their text", async || {
            process.get("diverged").is_some_and(|agent| &*agent.spec.description == "theirs")
        })
        .await;
    }
    // Life goes on from there.
    for (id, _) in expected {
        b.write(put(id, "after")).await;
    }
    finish(&world, vec![a, b]).await;
}

async fn revisions_in_a_cache_never_go_back(world: World) {
    let [a, b] = two(&world).await;
    let watching = Arc::new(AtomicBool::new(true));
    let watch = {
        let (cache, watching) = (b.cache.clone(), watching.clone());
        std::thread::spawn(move || {
            let (mut last, mut seen) = (0, 0_u64);
            while watching.load(Ordering::Relaxed) {
                let revision = cache.read().known_revision(&key("x")).unwrap_or(0);
                assert!(revision >= last, "{revision} after {last}");
                seen += u64::from(revision > last);
                last = revision;
            }
            seen
        })
    };
    let writers = [&a, &b].map(|process| async move {
        for n in 0..150 {
            process.write(put("x", format!("{n} {}", rand::random::<u32>()))).await;
        }
    });
    join_all(writers).await;
    watching.store(false, Ordering::Relaxed);
    assert!(watch.join().unwrap() > 10);
    finish(&world, vec![a, b]).await;
}

/// Writes one change after another until told to stop, and returns how many.
fn keep_writing(world: &World, ids: usize) -> (Arc<AtomicBool>, tokio::task::JoinHandle<BTreeMap<String, Arc<Agent>>>) {
    let going = Arc::new(AtomicBool::new(true));
    let (location, still) = (world.location(), going.clone());
    let task = tokio::spawn(async move {
        let store = Store::open(&location).await.unwrap();
        let mut last = BTreeMap::new();
        let mut n = 0;
        while still.load(Ordering::Relaxed) {
            let id = format!("w{}", n % ids);
            let agent = written(&commit_one(&store, put(&id, rand::random::<u64>())).await);
            last.insert(id, agent);
            n += 1;
        }
        last
    });
    (going, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_listener_misses_nothing() {
    let Some(world) = World::postgres().await else { return };
    let [a, b] = two(&world).await;
    let (going, writing) = keep_writing(&world, 50);
    for kill in 0..figure(20, 200) {
        wait_until(LIMIT, "a listener to kill", async || world.kill_listeners().await > 0).await;
        // One change at the very moment, by a process whose own feed was killed as well.
        let from = if kill % 2 == 0 { &a } else { &b };
        from.write(put("marked", kill)).await;
        let revision = from.revision("marked");
        let start = Instant::now();
        for process in [&a, &b] {
            wait_until(SOON, "the marked change", async || process.revision("marked") >= revision).await;
        }
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    }
    going.store(false, Ordering::Relaxed);
    let last = writing.await.unwrap();
    assert!(a.status.reconciled() + b.status.reconciled() >= 20);
    for process in [&a, &b] {
        for (id, agent) in &last {
            wait_until(SOON, id, async || process.get(id).as_ref() == Some(agent)).await;
        }
    }
    finish(&world, vec![a, b]).await;
}

/// A change that was made first and is committed last.
async fn commit_late(world: &World, process: &Process) -> i64 {
    process.write(put("late", 1)).await;
    let late = world.database().client().await;
    let change = "BEGIN; INSERT INTO agent_history SELECT * FROM agents WHERE id = 'late'; \
         UPDATE agents SET revision = revision + 1, description = 'late' WHERE id = 'late'; \
         INSERT INTO change_log (entity, namespace, id, revision, op) \
         SELECT 'agent', namespace, id, revision, 'put' FROM agents WHERE id = 'late'";
    late.batch_execute(change).await.unwrap();
    // Others write, and are seen, while that transaction is open.
    let store = world.store().await;
    for n in 0..30 {
        commit_one(&store, put("quick", n)).await;
        let revision = newest(&store, &key("quick")).await.unwrap().0.revision;
        wait_until(SOON, "what was committed", async || process.revision("quick") == revision).await;
    }
    assert_eq!(process.revision("late"), 1);
    late.batch_execute("COMMIT").await.unwrap();
    commit_one(&store, put("quick", "last")).await;
    wait_until(SOON, "what came after", async || process.revision("quick") == 31).await;
    process.revision("late")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_commits_late_is_seen() {
    let Some(world) = World::postgres().await else { return };
    let process = Process::start(&world.location()).await;
    commit_late(&world, &process).await;
    wait_until(SOON, "the late change", async || process.revision("late") == 2).await;
    assert_eq!(process.status.reconciled(), 0, "followed, not compared");
    finish(&world, vec![process]).await;
}

/// Shows that the test above can fail: the order of sequence numbers is not that of commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_goes_by_sequence_loses_what_commits_late() {
    let Some(world) = World::postgres().await else { return };
    let store = world.store().await;
    store.tail_by_sequence();
    let process = Process::with_store(store.clone()).await;
    assert_eq!(commit_late(&world, &process).await, 1);
    // What is written after has been seen, so that the lost change will never be.
    for n in 0..3 {
        commit_one(&store, put("after", n)).await;
        wait_until(SOON, "what came after", async || process.revision("after") == n + 1).await;
    }
    assert_eq!(process.revision("late"), 1, "the loss is there to be found");
    let fresh = Process::start(&world.location()).await;
    assert_eq!(fresh.revision("late"), 2);
    fresh.stop().await;
    process.stop().await;
}

/// Several writers whose transactions overlap in every way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_commits_of_many_writers_are_all_seen() {
    let Some(world) = World::postgres().await else { return };
    let process = Process::start(&world.location()).await;
    let writers: Vec<_> = (0..6).map(|_| keep_writing(&world, 8)).collect();
    wait_until(LIMIT, "a thousand changes", async || world.count("SELECT count(*) FROM change_log").await > 1_000)
        .await;
    for (going, _) in &writers {
        going.store(false, Ordering::Relaxed);
    }
    for (_, writing) in writers {
        writing.await.unwrap();
    }
    assert_eq!(process.status.reconciled(), 0, "followed, not compared");
    finish(&world, vec![process]).await;
}
