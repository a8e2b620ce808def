//! Two processes that store memories at once and are killed while they do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use a2a_testing::stdio::{RpcError, ServerProcess};
use a2a_testing::wait::wait_until;
use serde_json::{Value, json};

use crate::world::{World, call, figure, machine, on_both};

const PROCESSES: usize = 2;
const MEMORIES_PER_PROCESS: usize = 1_000;
/// Calls that one client has open at a time.
const CALLS_OPEN: usize = 8;
/// For some memories to be acknowledged, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

on_both!(two_processes_that_are_killed_lose_no_acknowledged_memory);

/// The ids that were acknowledged, by what they say.
type Acknowledged = BTreeMap<String, String>;

/// Stores until everything is acknowledged or the process is killed.
async fn lane(server: Arc<ServerProcess>, contents: Vec<String>, count: Arc<AtomicUsize>) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    for content in contents {
        match server.call_tool("memory_store", json!({"memories": [{"content": content}]})).await {
            Ok(reply) => {
                assert!(!reply.is_error, "{}", reply.text);
                let id = reply.structured["memories"][0]["id"].as_str().unwrap().to_owned();
                acknowledged.insert(content, id);
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(RpcError::Closed) => return acknowledged,
            Err(error) => panic!("{error}\n{}", server.stderr_tail()),
        }
    }
    acknowledged
}

async fn all(server: &ServerProcess) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let mut cursor = Value::Null;
    loop {
        let page = call(server, "memory_search", json!({"limit": 100, "cursor": cursor})).await;
        for memory in page["memories"].as_array().cloned().unwrap_or_default() {
            let content = memory["content"].as_str().unwrap().to_owned();
            assert!(all.insert(content, memory).is_none(), "the same memory is there twice");
        }
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            return all;
        }
    }
}

async fn two_processes_that_are_killed_lose_no_acknowledged_memory(world: World) {
    let _machine = machine().await;
    let witness = world.server().await;
    let mut acknowledged = Acknowledged::new();
    let count = Arc::new(AtomicUsize::new(0));
    let kills = figure(6, 60);
    for round in 0..=kills {
        let servers: Vec<Arc<ServerProcess>> = world.servers(PROCESSES).await.into_iter().map(Arc::new).collect();
        let lanes: Vec<_> = (0..PROCESSES * CALLS_OPEN)
            .map(|lane_number| {
                let process = lane_number % PROCESSES;
                // The same things again in each round: what was acknowledged before is known, the rest is told anew.
                let contents = (lane_number / PROCESSES..MEMORIES_PER_PROCESS)
                    .step_by(CALLS_OPEN)
                    .map(|n| format!("process {process} says fact {n}"))
                    .filter(|content| !acknowledged.contains_key(content))
                    .collect();
                tokio::spawn(lane(servers[process].clone(), contents, count.clone()))
            })
            .collect();
        if round < kills {
            // In the middle of it, one a little before the other.
            for (victim, share) in [(round % PROCESSES, 1), ((round + 1) % PROCESSES, 2)] {
                let enough = acknowledged.len() + share * MEMORIES_PER_PROCESS / (2 * kills);
                wait_until(LIMIT, "more is acknowledged", async || count.load(Ordering::Relaxed) >= enough).await;
                servers[victim].kill();
            }
        }
        for ended in lanes {
            for (content, id) in ended.await.expect("a client saw what must not be") {
                let other = acknowledged.insert(content, id.clone()).filter(|before| *before != id);
                assert_eq!(other, None, "what is told again keeps its id");
            }
        }
    }
    assert_eq!(acknowledged.len(), PROCESSES * MEMORIES_PER_PROCESS);
    let fresh = world.server().await;
    let started = Instant::now();
    for server in [&witness, &fresh] {
        let mut known = all(server).await;
        while known.len() < acknowledged.len() {
            assert!(started.elapsed() < Duration::from_secs(1), "{} of {}", known.len(), acknowledged.len());
            known = all(server).await;
        }
        assert_eq!(known.len(), acknowledged.len(), "nobody said the others");
        for (content, id) in &acknowledged {
            assert_eq!(known[content]["id"], **id, "{content}");
        }
        let hit = call(server, "memory_search", json!({"query": "process 1 says fact 777"})).await;
        assert_eq!(hit["memories"][0]["content"], "process 1 says fact 777");
    }
    println!("{}: {} memories, {} kills", world.name(), acknowledged.len(), 2 * kills);
    witness.finish().await;
    fresh.finish().await;
}
