//! Processes that follow a database and only read: the same database, a SQLite file, or a streaming standby.

use std::time::{Duration, Instant};

use a2a_testing::postgres::{Cluster, TestDatabase, skipped};
use a2a_testing::stdio::{ServerOptions, ServerProcess};
use a2a_testing::wait::wait_until;
use serde_json::{Value, json};

use crate::world::{World, call, deploy, document, machine, on_both, open, refused};

const LIMIT: Duration = Duration::from_secs(10);
/// A replica polls, so that it is a little behind.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

on_both!(a_replica_follows_and_refuses_every_write, a_replica_waits_for_a_database_that_is_not_there_yet);

fn replica(options: ServerOptions) -> ServerOptions {
    options.env("A2A_STORAGE", "replica")
}

/// Waits until a process shows an agent at a revision, or later.
async fn seen(server: &ServerProcess, id: &str, revision: u64) -> Duration {
    let started = Instant::now();
    let there = async || document(server, id).await.is_some_and(|agent| agent["revision"].as_u64() >= Some(revision));
    wait_until(SEEN_WITHIN, "the replica shows the agent", there).await;
    started.elapsed()
}

/// Something of everything, and how each tool would change it.
async fn fill(server: &ServerProcess) -> Vec<(&'static str, Value)> {
    let agent = json!({"id": "reviewer", "description": "Reviews code.", "capabilities": [{"name": "review"}]});
    deploy(server, agent.clone()).await;
    let step = json!({"name": "check", "agent": "reviewer", "capability": "review", "input": {}});
    let saved = json!({"id": "flow", "steps": [step]});
    call(server, "workflow_save", saved).await;
    let run = call(server, "workflow_run", json!({"workflow": "flow"})).await["run"].clone();
    let taken = call(server, "work_next", json!({"agents": ["reviewer"], "wait_s": 10})).await;
    let fact = "We deploy only on Tuesdays";
    let stored = call(server, "memory_store", json!({"memories": [{"content": fact}]})).await;
    let (claim, memory) = (&taken["claim"], &stored["memories"][0]["id"]);
    vec![
        ("agent_deploy", json!({"agents": [{"id": "other", "description": "d"}]})),
        ("agent_update", json!({"id": "reviewer", "expected_revision": 1, "set": {"enabled": false}})),
        ("agent_remove", json!({"ids": ["reviewer"]})),
        ("agent_invoke", json!({"agent": "reviewer", "capability": "review"})),
        ("workflow_save", json!({"id": "flow", "steps": [{"name": "s", "agent": "builtin:echo"}]})),
        ("workflow_run", json!({"workflow": "flow"})),
        ("workflow_control", json!({"run": run, "action": "cancel"})),
        ("work_next", json!({"agents": ["reviewer"], "wait_s": 25})),
        ("work_update", json!({"claim": claim, "progress": "half"})),
        ("work_finish", json!({"claim": claim, "status": "done", "output": 1})),
        ("memory_store", json!({"memories": [{"content": "another fact"}]})),
        ("memory_update", json!({"id": memory, "set": {"importance": 0.9}})),
        ("memory_forget", json!({"ids": [memory]})),
    ]
}

async fn a_replica_follows_and_refuses_every_write(world: World) {
    let writer = world.server().await;
    let writes = fill(&writer).await;
    let reader = open(replica(world.options())).await;
    let before = document(&reader, "reviewer").await.unwrap();
    let asked = Instant::now();
    for (tool, arguments) in writes {
        let refusal = refused(&reader, tool, arguments).await;
        assert_eq!((refusal.code.as_str(), refusal.retryable), ("read_only", false), "{tool}: {refusal:?}");
        assert!(refusal.text.contains("A2A_STORAGE=replica"), "{tool}: {refusal:?}");
    }
    assert!(asked.elapsed() < LIMIT, "work_next does not wait for what it may not take");
    assert_eq!(document(&reader, "reviewer").await.unwrap(), before);
    let found = call(&reader, "memory_search", json!({"query": "when do we deploy?"})).await;
    assert_eq!(found["memories"][0]["content"], "We deploy only on Tuesdays");
    let runs = call(&reader, "workflow_status", json!({})).await;
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "{runs}");
    let stats = call(&reader, "registry_stats", json!({})).await;
    assert_eq!(stats["storage"]["mode"], "replica");
    deploy(&writer, json!({"id": "news", "description": "Writes news."})).await;
    seen(&reader, "news", 1).await;
    // What it was asked is not noted, and what it has recalled is not counted.
    reader.finish().await;
    let stats = call(&writer, "registry_stats", json!({})).await;
    let searched = stats["usage"].as_array().into_iter().flatten().any(|row| row["tool"] == "memory_search");
    assert!(!searched, "{stats}");
    writer.finish().await;
}

async fn a_replica_waits_for_a_database_that_is_not_there_yet(world: World) {
    let reader = open(replica(world.options())).await;
    let refusal = refused(&reader, "agent_list", json!({})).await;
    assert!(["not_ready", "unusable"].contains(&refusal.code.as_str()), "{refusal:?}");
    if let World::Sqlite(folder) = &world {
        assert!(!folder.path().join("a2a.db").exists(), "a replica makes no file");
    }
    let writer = world.server().await;
    deploy(&writer, json!({"id": "first", "description": "d"})).await;
    let there = async || {
        let reply = reader.call_tool("agent_list", json!({})).await.unwrap();
        !reply.is_error && reply.structured["total"] == 1
    };
    wait_until(LIMIT, "the replica has found the database", there).await;
    reader.finish().await;
    writer.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_follows_a_streaming_standby() {
    if skipped() {
        return;
    }
    let _machine = machine().await;
    let primary = Cluster::start().await;
    let database = TestDatabase::create(&primary).await;
    let writer = open(ServerOptions::new(&["serve"], &[("DATABASE_URL", &database.url())])).await;
    deploy(&writer, json!({"id": "held", "description": "d"})).await;
    let standby = primary.standby().await;
    let urls = [("DATABASE_URL", database.url()), ("DATABASE_REPLICA_URL", standby.url(database.name()))];
    let both = urls.each_ref().map(|(name, url)| (*name, url.as_str()));
    let reader = open(replica(ServerOptions::new(&["serve"], &both))).await;
    let other = open(ServerOptions::new(&["serve"], &both)).await;

    let mut slowest = Duration::ZERO;
    for n in 0..50 {
        let id = format!("agent-{n}");
        deploy(&writer, json!({"id": id, "description": "d"})).await;
        slowest = slowest.max(seen(&reader, &id, 1).await);
    }
    // A transaction that was open while later ones were committed and seen: the snapshots of a standby do not name it.
    let mut client = database.client().await;
    let held = client.transaction().await.unwrap();
    let statement = "WITH new AS (UPDATE agents SET revision = 2, enabled = false WHERE id = 'held' RETURNING id) \
                     INSERT INTO change_log (entity, namespace, id, revision, op) \
                     SELECT 'agent', 'default', id, 2, 'update' FROM new";
    held.execute(statement, &[]).await.unwrap();
    for n in 0..5 {
        let id = format!("later-{n}");
        deploy(&writer, json!({"id": id, "description": "d"})).await;
        seen(&reader, &id, 1).await;
    }
    held.commit().await.unwrap();
    seen(&reader, "held", 2).await;

    // Who writes needs no standby, and who follows one needs no primary.
    standby.pause().await;
    deploy(&other, json!({"id": "without-the-standby", "description": "d"})).await;
    assert!(document(&other, "without-the-standby").await.is_some());
    standby.resume().await;
    seen(&reader, "without-the-standby", 1).await;
    primary.kill().await;
    let known = call(&reader, "agent_list", json!({})).await["total"].clone();
    assert_eq!(known, json!(57));
    println!("a standby shows a write {slowest:?} later at most");
    for server in [reader, other, writer] {
        server.finish().await;
    }
    primary.start_again().await;
}
