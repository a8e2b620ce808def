//! PgBouncer in transaction mode is in between: each transaction may come to another session of the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_testing::postgres::{Cluster, Pooler, TestDatabase, skipped};
use a2a_testing::stdio::{ServerOptions, ServerProcess};
use a2a_testing::wait::wait_until;
use serde_json::json;

use crate::world::{call, deploy, document, machine, open, rows};

const PROCESSES: usize = 3;
const LANES: usize = 4;
const WRITES_PER_LANE: usize = 50;
/// Fewer than the processes have connections, so that they share.
const SESSIONS: usize = 3;
const LIMIT: Duration = Duration::from_secs(20);
const SEEN_WITHIN: Duration = Duration::from_secs(1);

async fn lane(server: Arc<ServerProcess>, name: String) {
    for n in 0..WRITES_PER_LANE {
        let agents = json!({"agents": [{"id": format!("{name}-{n}"), "description": "d"}]});
        call(&server, "agent_deploy", agents).await;
        call(&server, "memory_store", json!({"memories": [{"content": format!("{name} says fact {n}")}]})).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_through_a_pooler_in_transaction_mode() {
    if skipped() {
        return;
    }
    let _machine = machine().await;
    let cluster = Cluster::start().await;
    let Some(pooler) = Pooler::start(&cluster, SESSIONS).await else { return };
    let database = TestDatabase::create(&cluster).await;
    let url = pooler.url(database.name());
    let mut servers = Vec::new();
    // The first of them makes the tables.
    for _ in 0..PROCESSES {
        servers.push(Arc::new(open(ServerOptions::new(&["serve"], &[("DATABASE_URL", &url)])).await));
    }
    let direct = open(ServerOptions::new(&["serve"], &[("DATABASE_URL", &database.url())])).await;

    let lanes: Vec<_> = (0..PROCESSES * LANES)
        .map(|number| tokio::spawn(lane(servers[number % PROCESSES].clone(), format!("lane-{number}"))))
        .collect();
    for ended in lanes {
        ended.await.unwrap();
    }
    let expected = PROCESSES * LANES * WRITES_PER_LANE;
    for server in servers.iter().map(Arc::as_ref).chain([&direct]) {
        wait_until(SEEN_WITHIN, "everybody sees every agent", async || rows(server).await.unwrap().len() == expected)
            .await;
        let known = async || call(server, "registry_stats", json!({})).await["database"]["memories"] == expected;
        wait_until(SEEN_WITHIN, "everybody sees every memory", known).await;
    }
    // Runs go on in any of the processes, with what they pass on to each other.
    let steps = json!([
        {"name": "one", "agent": "builtin:echo", "input": {"n": "{{ input.n + 1 }}"}},
        {"name": "two", "agent": "builtin:echo", "input": {"n": "{{ steps.one.output.n + 1 }}"}, "depends_on": ["one"]},
    ]);
    call(&servers[0], "workflow_save", json!({"id": "count", "steps": steps})).await;
    for n in 0..10 {
        let run = call(&servers[0], "workflow_run", json!({"workflow": "count", "input": {"n": n}})).await;
        let status = json!({"run": run["run"]});
        let ended = async || {
            let shown = call(&servers[(n + 1) % PROCESSES], "workflow_status", status.clone()).await;
            shown["run"]["status"] == "COMPLETED"
        };
        wait_until(LIMIT, "the run has ended, as another process sees it", ended).await;
    }
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        let id = format!("seen-{n}");
        deploy(&direct, json!({"id": id, "description": "d"})).await;
        let started = Instant::now();
        for server in &servers {
            wait_until(SEEN_WITHIN, "it is seen through the pooler", async || document(server, &id).await.is_some())
                .await;
        }
        slowest = slowest.max(started.elapsed());
    }
    // Nothing that one session was set to, or listens to, has leaked into those that others get.
    for _ in 0..SESSIONS * 4 {
        let sql = "SELECT current_setting('synchronous_commit'), count(*) FROM pg_listening_channels()";
        assert_eq!(pooler.first_row(database.name(), sql).await, ["on", "0"]);
    }
    println!("{expected} agents and memories through {SESSIONS} sessions; a write is seen {slowest:?} later at most");
    direct.finish().await;
    for server in servers {
        Arc::try_unwrap(server).unwrap_or_else(|_| panic!("nobody uses it any more")).finish().await;
    }
}
