//! What one process writes, the others see soon, and it itself sees at once.

use std::time::{Duration, Instant};

use a2a_testing::stdio::ServerProcess;
use serde_json::{Value, json};

use crate::world::{World, call, deploy, document, figure, machine, on_both, refused};

/// What is promised always.
const BOUND: Duration = Duration::from_secs(1);

on_both!(a_write_is_seen_by_another_process_within_a_second, each_process_sees_its_own_writes_at_once);

/// Looks again and again, without a pause, so that the lag is measured and not rounded up.
async fn lag_until_seen(server: &ServerProcess, id: &str, revision: &Value) -> Duration {
    let started = Instant::now();
    loop {
        // What is not there yet is an error of this call, and no reason to end.
        let reply = server.call_tool("agent_list", json!({"ids": [id]})).await.unwrap();
        if !reply.is_error && reply.structured["agents"][0]["revision"] == *revision {
            return started.elapsed();
        }
        assert!(started.elapsed() < BOUND, "{id} at {revision} is not seen after {BOUND:?}: {}", reply.raw);
    }
}

async fn a_write_is_seen_by_another_process_within_a_second(world: World) {
    let _machine = machine().await;
    let (a, b) = (world.server().await, world.server().await);
    call(&b, "agent_list", json!({})).await;
    let mut lags = Vec::new();
    for n in 0..figure(200, 5_000) {
        let (writer, reader) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        // New agents and new revisions of known ones.
        let id = format!("agent-{}", n % 100);
        let done = deploy(writer, json!({"id": id, "description": format!("write {n}")})).await;
        lags.push(lag_until_seen(reader, &id, &done["revision"]).await);
    }
    lags.sort_unstable();
    let at = |percent: usize| lags[(lags.len() - 1) * percent / 100];
    println!("{}: seen elsewhere after p50 {:?}, p99 {:?}, at most {:?}", world.name(), at(50), at(99), at(100));
    call(&a, "agent_remove", json!({"ids": ["agent-0"]})).await;
    let removed = Instant::now();
    while document(&b, "agent-0").await.is_some() {
        assert!(removed.elapsed() < BOUND, "a removal is not seen after {BOUND:?}");
    }
    a.finish().await;
    b.finish().await;
}

async fn each_process_sees_its_own_writes_at_once(world: World) {
    let servers = world.servers(2).await;
    for n in 0..20 {
        for server in &servers {
            let id = format!("own-{}-{n}", server.pid());
            let mut revision = deploy(server, json!({"id": id, "description": "first"})).await["revision"].clone();
            assert_eq!(document(server, &id).await.unwrap()["description"], "first");
            let set = json!({"description": "second", "category": format!("c{n}")});
            let update = json!({"id": id, "expected_revision": revision, "set": set});
            revision = call(server, "agent_update", update).await["revision"].clone();
            assert_eq!(document(server, &id).await.unwrap()["revision"], revision);
            let found = call(server, "agent_list", json!({"category": format!("c{n}"), "text": id})).await;
            assert_eq!(found["agents"][0]["description"], "second");
            call(server, "agent_remove", json!({"ids": [id]})).await;
            let refusal = refused(server, "agent_list", json!({"ids": [id]})).await;
            assert!(refusal.text.contains("there is no agent"), "{refusal:?}");
        }
    }
    for server in servers {
        server.finish().await;
    }
}
