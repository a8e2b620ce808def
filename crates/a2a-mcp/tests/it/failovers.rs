//! The primary dies and its standby is promoted: what the standby had is there, and writes go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use a2a_testing::postgres::{Cluster, TestDatabase, skipped};
use a2a_testing::stdio::{ServerOptions, ServerProcess};
use a2a_testing::wait::wait_until;
use serde_json::json;

use crate::world::{call, deploy, machine, open, rows};

const PROCESSES: usize = 2;
const LIMIT: Duration = Duration::from_secs(30);
/// From the promotion on.
const HEALTHY_WITHIN: Duration = Duration::from_secs(3);

/// Writes until it is told to stop, and returns what was acknowledged.
async fn write(
    server: Arc<ServerProcess>,
    process: usize,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("agent-{process}-{n}");
        let agents = json!({"agents": [{"id": id, "description": "d"}]});
        let reply = server.call_tool("agent_deploy", agents).await.unwrap();
        if !reply.is_error && reply.structured["durability"] == "committed" {
            acknowledged.push(id);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_promoted_has_every_acknowledged_write() {
    if skipped() {
        return;
    }
    let _machine = machine().await;
    let primary = Cluster::start().await;
    let database = TestDatabase::create(&primary).await;
    let standby = primary.standby().await;
    // From now on nothing is acknowledged that the standby has not.
    database.execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    database.execute("SELECT pg_reload_conf()").await;
    let url = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/{}?sslmode=disable&target_session_attrs=read-write",
        primary.port(),
        standby.port(),
        database.name()
    );
    let options = || ServerOptions::new(&["serve"], &[("DATABASE_URL", &url), ("A2A_WRITE_TIMEOUT_MS", "2000")]);
    let mut servers = Vec::new();
    for _ in 0..PROCESSES {
        servers.push(Arc::new(open(options()).await));
    }
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let writers: Vec<_> = (0..PROCESSES)
        .map(|process| tokio::spawn(write(servers[process].clone(), process, stop.clone(), count.clone())))
        .collect();
    wait_until(LIMIT, "writes are acknowledged", async || count.load(Ordering::Relaxed) > 200).await;
    primary.kill().await;
    // Reads go on all the while.
    assert!(call(&servers[0], "agent_list", json!({"limit": 1})).await["total"].as_u64() > Some(100));
    standby.promote().await;
    // The new primary has no standby of its own that it could wait for.
    let client = standby.server().client("postgres").await;
    client.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let promoted = Instant::now();
    let before = count.load(Ordering::Relaxed);
    wait_until(LIMIT, "writes are acknowledged again", async || count.load(Ordering::Relaxed) > before).await;
    let healthy = promoted.elapsed();
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert!(healthy < HEALTHY_WITHIN, "writes go on {healthy:?} after the promotion");
    deploy(&servers[0], json!({"id": "last", "description": "d"})).await;
    let fresh = open(options()).await;
    let expected = rows(&fresh).await.unwrap();
    for id in &acknowledged {
        assert!(expected.contains_key(id), "{id} was acknowledged and is lost");
    }
    for server in &servers {
        wait_until(Duration::from_secs(1), "the caches equal the database", async || {
            rows(server).await.unwrap() == expected
        })
        .await;
    }
    println!("{} writes, none lost, the first {healthy:?} after the promotion", acknowledged.len());
    fresh.finish().await;
    for server in servers {
        Arc::try_unwrap(server).unwrap_or_else(|_| panic!("nobody writes any more")).finish().await;
    }
}
