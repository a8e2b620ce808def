//! Calls that come while thousands of agents are still being loaded.

use std::time::{Duration, Instant};

use a2a_testing::stdio::ServerProcess;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::world::{World, binary, call, figure, machine, on_both};

const AGENTS: usize = 10_000;
/// Starts under way at the same time, so that some are slow.
const STARTS_AT_ONCE: usize = 5;

on_both!(no_call_during_a_cold_start_is_told_that_an_agent_is_not_there);

fn id(n: usize) -> String {
    format!("agent-{n:05}")
}

async fn fill(world: &World) {
    let server = world.server().await;
    let batches = (0..AGENTS).step_by(1_000).map(|start| {
        let agents: Vec<Value> = (start..start + 1_000)
            .map(
                |n| json!({"id": id(n), "description": format!("Agent number{n}."), "tags": [format!("t{}", n % 100)]}),
            )
            .collect();
        call(&server, "agent_deploy", json!({"agents": agents}))
    });
    for done in join_all(batches).await {
        assert_eq!(done["created"], 1_000);
    }
    server.finish().await;
}

/// Starts a server, calls it at once in every way that names an agent, and returns how long the first answer took.
async fn start(world: &World, n: usize) -> Duration {
    let agent = n * 7_919 % AGENTS;
    let started = Instant::now();
    let server = ServerProcess::spawn_with(binary(), world.options()).await;
    if n.is_multiple_of(2) {
        server.initialize("cold").await.unwrap();
    } else {
        server.discover("cold").await.unwrap();
    }
    let by_id = async {
        let shown = call(&server, "agent_list", json!({"ids": [id(agent)]})).await;
        assert_eq!(shown["agents"][0]["id"], id(agent));
        started.elapsed()
    };
    let listed = async {
        let page = call(&server, "agent_list", json!({"tags": [format!("t{}", agent % 100)]})).await;
        assert_eq!(page["total"], AGENTS / 100, "a part of the agents is not all of them");
    };
    let searched = async {
        let hits = call(&server, "agent_search", json!({"query": format!("number{agent}")})).await;
        assert_eq!(hits["agents"][0]["id"], id(agent));
    };
    let updated = async {
        // The revision is wrong on purpose: the answer has to tell the right one, not that there is no agent.
        let arguments = json!({"id": id(agent), "expected_revision": 999, "set": {"name": "n"}});
        let refusal = crate::world::refused(&server, "agent_update", arguments).await;
        assert_eq!((&*refusal.code, &refusal.details["current_revision"]), ("conflict", &json!(1)), "{refusal:?}");
    };
    let (first, ..) = tokio::join!(by_id, listed, searched, updated);
    server.finish().await;
    first
}

async fn no_call_during_a_cold_start_is_told_that_an_agent_is_not_there(world: World) {
    let _machine = machine().await;
    fill(&world).await;
    let starts = figure(50, 200);
    let mut times = Vec::new();
    for first in (0..starts).step_by(STARTS_AT_ONCE) {
        times.extend(join_all((first..first + STARTS_AT_ONCE).map(|n| start(&world, n))).await);
    }
    times.sort_unstable();
    println!(
        "{}: {starts} cold starts, {STARTS_AT_ONCE} at a time: agent found after p50 {:?}, at most {:?}",
        world.name(),
        times[times.len() / 2],
        times[times.len() - 1]
    );
}
