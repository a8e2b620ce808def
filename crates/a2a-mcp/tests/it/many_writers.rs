//! Eight processes that write to one database at once.

use std::time::Instant;

use futures_util::future::join_all;
use serde_json::json;

use crate::world::{World, machine, on_both, rows};

const PROCESSES: usize = 8;
const WRITES_PER_PROCESS: usize = 1_000;
/// Calls that one client has open at a time.
const CALLS_OPEN: usize = 10;

on_both!(eight_processes_with_a_thousand_writes_each_lose_nothing_and_see_no_lock);

async fn eight_processes_with_a_thousand_writes_each_lose_nothing_and_see_no_lock(world: World) {
    let _machine = machine().await;
    let servers = world.servers(PROCESSES).await;
    let started = Instant::now();
    let lanes = (0..PROCESSES).flat_map(|process| (0..CALLS_OPEN).map(move |lane| (process, lane)));
    let written = lanes.map(|(process, lane)| {
        let server = &servers[process];
        async move {
            for n in 0..WRITES_PER_PROCESS / CALLS_OPEN {
                let id = format!("p{process}-{lane}-{n}");
                let document = json!({"id": id, "description": format!("written by {id}")});
                let reply = server.call_tool("agent_deploy", json!({"agents": [document]})).await.unwrap();
                assert!(!reply.is_error, "{id}: {}", reply.text);
                assert_eq!(reply.structured["agents"][0]["status"], "created", "{id}: {}", reply.raw);
            }
        }
    });
    join_all(written).await;
    let took = started.elapsed();
    let fresh = world.server().await;
    let shown = rows(&fresh).await.unwrap();
    assert_eq!(shown.len(), PROCESSES * WRITES_PER_PROCESS);
    for (id, row) in &shown {
        assert_eq!(row["description"], format!("written by {id}"));
        assert_eq!(row["revision"], 1);
    }
    let writes = PROCESSES * WRITES_PER_PROCESS;
    println!("{}: {writes} writes by {PROCESSES} processes in {took:?}", world.name());
    for server in servers.iter().chain([&fresh]) {
        let stderr = server.stderr_tail();
        assert!(!stderr.to_lowercase().contains("locked"), "{stderr}");
        server.finish().await;
    }
}
