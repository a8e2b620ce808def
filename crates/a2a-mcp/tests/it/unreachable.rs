//! A database that is not there when the server starts, and comes later.

use std::time::{Duration, Instant};

use a2a_testing::fault_proxy::FaultProxy;
use a2a_testing::stdio::ServerProcess;
use a2a_testing::wait::wait_until;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::world::{World, binary, call, machine, refused, rows};

/// The first answer must come this soon after the start.
const FIRST_ANSWER_LIMIT: Duration = Duration::from_millis(300);
/// A call on agents waits for them for 5 s, and then says that they are not loaded.
const NOT_READY: std::ops::Range<Duration> = Duration::from_millis(4_500)..Duration::from_millis(6_500);
/// The server tries again in short intervals; a held connection may have to time out first.
const RECOVERY_LIMIT: Duration = Duration::from_secs(15);

const CALLS: [&str; 5] = ["agent_list", "agent_search", "agent_deploy", "agent_update", "agent_remove"];

fn arguments(tool: &str) -> Value {
    match tool {
        "agent_deploy" => json!({"agents": [{"id": "a", "description": "d"}]}),
        "agent_search" => json!({"query": "d"}),
        "agent_update" => json!({"id": "a", "expected_revision": 1, "set": {"name": "n"}}),
        "agent_remove" => json!({"ids": ["a"]}),
        _ => json!({}),
    }
}

/// Starts a server in either era and returns it with the time until its first answer.
async fn first_answer(url: &str, modern: bool) -> (ServerProcess, Duration) {
    let started = Instant::now();
    let server = ServerProcess::spawn(binary(), &["serve"], &[("DATABASE_URL", url)]).await;
    let answer = if modern { server.discover("early").await } else { server.initialize("early").await };
    let took = started.elapsed();
    answer.unwrap_or_else(|error| panic!("{error}\n{}", server.stderr_tail()));
    (server, took)
}

async fn calls_say_not_ready(server: &ServerProcess) {
    let started = Instant::now();
    let refusals = join_all(CALLS.map(|tool| refused(server, tool, arguments(tool)))).await;
    let took = started.elapsed();
    for (tool, refusal) in CALLS.iter().zip(refusals) {
        assert_eq!(refusal.code, "not_ready", "{tool}: {refusal:?}");
        assert!(refusal.retryable && refusal.text.contains("try again"), "{tool}: {refusal:?}");
        for secret in ["127.0.0.1", "postgres:", "password", "SELECT", "nobody"] {
            assert!(!refusal.text.contains(secret), "{tool}: {refusal:?}");
        }
    }
    assert!(NOT_READY.contains(&took), "{took:?}");
    // What needs no agents is served meanwhile.
    server.request("tools/list", json!({})).await.unwrap();
}

async fn serves(server: &ServerProcess) {
    let loaded = async || server.call_tool("agent_list", json!({})).await.is_ok_and(|reply| !reply.is_error);
    let took = wait_until(RECOVERY_LIMIT, "the same process serves", loaded).await;
    println!("service {took:?} after the return of the database");
    let done = call(server, "agent_deploy", arguments("agent_deploy")).await;
    assert_eq!(done["durability"], "committed");
}

async fn the_database_comes_late(obstruct: fn(&FaultProxy, bool)) {
    let Some(world) = World::postgres().await else { return };
    let World::Postgres(database) = &world else { unreachable!("this world is on Postgres") };
    let machine_lock = machine().await;
    let proxy = FaultProxy::start_for(&database.url()).await;
    let url = proxy.url(&database.url());
    obstruct(&proxy, true);
    let mut servers = Vec::new();
    for modern in [false, true] {
        let (server, took) = first_answer(&url, modern).await;
        println!("first answer after {took:?}");
        assert!(took < FIRST_ANSWER_LIMIT, "modern: {modern}: {took:?}");
        servers.push(server);
    }
    // From here on everything waits, and others may work.
    drop(machine_lock);
    join_all(servers.iter().map(calls_say_not_ready)).await;
    obstruct(&proxy, false);
    for server in &servers {
        serves(server).await;
    }
    let fresh = world.server().await;
    assert!(rows(&fresh).await.unwrap().contains_key("a"));
    fresh.finish().await;
    for server in servers {
        server.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_refuses_connections_at_the_start_is_used_when_it_comes() {
    the_database_comes_late(FaultProxy::refuse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_a_black_hole_at_the_start_is_used_when_it_comes() {
    the_database_comes_late(FaultProxy::black_hole).await;
}

#[tokio::test]
async fn a_closed_port_does_not_delay_the_first_answer() {
    let machine_lock = machine().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://nobody@127.0.0.1:{port}/none?sslmode=disable");
    let mut servers = Vec::new();
    for modern in [false, true] {
        let (server, took) = first_answer(&url, modern).await;
        assert!(took < FIRST_ANSWER_LIMIT, "modern: {modern}: {took:?}");
        servers.push(server);
    }
    drop(machine_lock);
    join_all(servers.iter().map(calls_say_not_ready)).await;
    for server in servers {
        server.finish().await;
    }
}

#[tokio::test]
async fn a_data_directory_that_is_a_file_is_named_as_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let envs = [("A2A_DATA_DIR", file.to_str().unwrap())];
    let server = ServerProcess::spawn(binary(), &["serve"], &envs).await;
    server.initialize("early").await.unwrap();
    let refusal = refused(&server, "agent_list", json!({})).await;
    assert!(["not_ready", "unusable"].contains(&&*refusal.code), "{refusal:?}");
    assert!(refusal.text.contains("can't be opened") && refusal.text.contains("doctor"), "{refusal:?}");
    server.finish().await;
}
