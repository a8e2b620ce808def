//! Postgres is restarted, paused or out of reach while processes work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use a2a_store::Unit;
use a2a_store::writer::WriteError;
use a2a_testing::fault_proxy::FaultProxy;
use a2a_testing::figure::figure;
use a2a_testing::postgres::{Cluster, skipped};
use a2a_testing::wait::wait_until;
use futures_util::future::join_all;

use crate::cuts::{append, check_list};
use crate::document::{key, put};
use crate::process::{LIMIT, Process, finish, in_secs};
use crate::world::{World, on_both, postgres_location};

/// How soon writes succeed after the database is back.
const BACK: Duration = Duration::from_secs(3);

/// Appends to a list of its own until told to stop, and returns what was acknowledged.
async fn write_list(
    process: Arc<Process>,
    id: String,
    going: Arc<AtomicBool>,
    last_success: Arc<AtomicU64>,
    start: Instant,
) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    let mut value = 0;
    while going.load(Ordering::Relaxed) {
        value += 1;
        let change = append(&process, &id, value);
        let mut result = process.writer.submit(vec![Unit::one(change.clone())], false, in_secs(5)).await;
        while let Err(WriteError::Unknown { .. }) = result {
            // A client that wants to know sends it again under its name.
            result = process.writer.submit(vec![Unit::one(change.clone())], true, in_secs(5)).await;
        }
        match result {
            Ok(outcomes) => {
                assert!(outcomes[0][0].is_success(), "nobody else writes this agent: {:?}", outcomes[0]);
                acknowledged.push(value);
                let at = u64::try_from(start.elapsed().as_micros()).unwrap();
                last_success.fetch_max(at, Ordering::Relaxed);
            }
            Err(WriteError::NotDone { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_loses_and_doubles_nothing() {
    if skipped() {
        return;
    }
    let cluster = Cluster::start().await;
    let world = World::on_server(cluster.server()).await;
    let start = Instant::now();
    let going = Arc::new(AtomicBool::new(true));
    let mut processes = Vec::new();
    let mut tasks = Vec::new();
    for p in 0..2 {
        let process = Arc::new(Process::start(&world.location()).await);
        let last_success = Arc::new(AtomicU64::new(0));
        for t in 0..2 {
            let id = format!("list-{p}-{t}");
            let writing = write_list(process.clone(), id.clone(), going.clone(), last_success.clone(), start);
            tasks.push((id, tokio::spawn(writing)));
        }
        processes.push((process, last_success));
    }
    let mut slowest = Duration::ZERO;
    for round in 0..figure(10, 100) {
        // Something is being written when the server goes.
        wait_until(LIMIT, "writes", async || processes.iter().all(|(_, at)| at.load(Ordering::Relaxed) > 0)).await;
        if round % 2 == 0 {
            cluster.stop_immediate().await;
        } else {
            cluster.kill().await;
        }
        for (process, _) in &processes {
            let began = Instant::now();
            assert!(!process.agents().is_empty(), "reads go on");
            assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
        }
        cluster.start_again().await;
        let back = u64::try_from(start.elapsed().as_micros()).unwrap();
        let returned = Instant::now();
        wait_until(BACK, "writes of both processes after the return", async || {
            processes.iter().all(|(_, at)| at.load(Ordering::Relaxed) > back)
        })
        .await;
        slowest = slowest.max(returned.elapsed());
    }
    eprintln!("writes succeeded again {slowest:?} after the return at the latest");
    going.store(false, Ordering::Relaxed);
    let store = world.store().await;
    let mut writes = 0;
    for (id, task) in tasks {
        let acknowledged = task.await.unwrap();
        check_list(&store, &key(&id), &acknowledged).await;
        writes += acknowledged.len();
    }
    assert!(writes > 100, "{writes} writes");
    let processes = processes.into_iter().map(|(process, _)| Arc::into_inner(process).unwrap()).collect();
    finish(&world, processes).await;
}

/// Neither answer nor refusal: every call has its answer by its deadline.
async fn silence(world: &World, begin: impl AsyncFnOnce(), end: impl AsyncFnOnce(), through: Option<&FaultProxy>) {
    let location = match through {
        Some(proxy) => postgres_location(&proxy.url(&world.database().url())),
        None => world.location(),
    };
    let process = Process::start(&location).await;
    process.write(put("there", 1)).await;
    begin().await;
    let submits = (0..30_u64).map(|n| {
        let process = &process;
        async move {
            let deadline = Duration::from_millis(200 + n * 100);
            let start = Instant::now();
            let units = vec![Unit::one(put(&format!("silent-{n}"), n))];
            let told = process.writer.submit(units, false, tokio::time::Instant::now() + deadline).await;
            (n, deadline, start.elapsed(), told)
        }
    });
    let mut committed_or_unknown = BTreeSet::new();
    for (n, deadline, elapsed, told) in join_all(submits).await {
        assert!(elapsed < deadline + Duration::from_millis(300), "{n}: {elapsed:?} for {deadline:?}");
        match told {
            Err(WriteError::Unknown { .. }) => drop(committed_or_unknown.insert(format!("silent-{n}"))),
            Err(WriteError::NotDone { .. }) => {}
            other => panic!("{n}: {other:?}"),
        }
    }
    assert_eq!(process.revision("there"), 1, "reads go on");
    wait_until(LIMIT, "the feed to say how old it is", async || process.status.stale().is_some()).await;
    end().await;
    let returned = Instant::now();
    process.write(put("after", 1)).await;
    assert!(returned.elapsed() < BACK, "{:?}", returned.elapsed());
    wait_until(BACK, "the feed to be fresh", async || process.status.stale().is_none()).await;
    for key in finish(world, vec![process]).await.keys() {
        let id = key.id.as_str();
        assert!(["there", "after"].contains(&id) || committed_or_unknown.contains(id), "{id} was told not to be done");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_keeps_nobody_beyond_its_deadline() {
    if skipped() {
        return;
    }
    let cluster = Cluster::start().await;
    let world = World::on_server(cluster.server()).await;
    silence(&world, async || cluster.pause().await, async || cluster.resume().await, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_keeps_nobody_beyond_its_deadline() {
    let Some(world) = World::postgres().await else { return };
    let proxy = FaultProxy::start_for(&world.database().url()).await;
    silence(&world, async || proxy.black_hole(true), async || proxy.heal(), Some(&proxy)).await;
}

on_both!(eight_processes_write_without_losing_anything);

/// Many processes on one database, none of which may see a lock of another.
async fn eight_processes_write_without_losing_anything(world: World) {
    const EACH: u64 = 100;
    let processes = join_all((0..8).map(|_| async { Arc::new(Process::start(&world.location()).await) })).await;
    let writers = processes.iter().enumerate().map(|(p, process)| {
        let process = process.clone();
        tokio::spawn(async move {
            let writes = (0..EACH).map(|n| process.write(put(&format!("p{p}-{}", n % 10), n)));
            join_all(writes).await.len()
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    assert_eq!(world.count("SELECT sum(revision) FROM agents").await, 8 * EACH as i64);
    let processes = processes.into_iter().map(|process| Arc::into_inner(process).unwrap()).collect();
    finish(&world, processes).await;
}
