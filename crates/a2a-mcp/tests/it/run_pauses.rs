//! SIGSTOP of a process that holds claims until its leases have run out: what it hands in afterwards is refused.

use std::time::Duration;

use a2a_testing::stdio::{PendingReply, ServerProcess};
use serde_json::{Value, json};

use crate::world::{World, call, deploy, figure, machine, on_both, open};

/// Claims that one pause takes away.
const CLAIMS: usize = 10;
const LEASE_MS: &str = "1000";
const LIMIT: Duration = Duration::from_secs(30);

/// Until it gives a write up, the other process waits for the one that is paused in the middle of a write.
const WRITE_TIMEOUT_MS: &str = "2000";

/// Pauses a process, but not inside a transaction: there it keeps all others from writing to a file, whatever it has
/// claimed, until it goes on.
async fn pause_between_writes(holder: &ServerProcess, other: &ServerProcess) {
    loop {
        holder.pause();
        let probe = json!({"agents": [{"id": "probe", "description": uuid::Uuid::new_v4().to_string()}]});
        if !other.call_tool("agent_deploy", probe).await.unwrap().is_error {
            return;
        }
        holder.resume();
    }
}

on_both!(a_paused_holder_finds_its_claims_over);

async fn a_paused_holder_finds_its_claims_over(world: World) {
    let _machine = machine().await;
    let rounds = figure(5, 50);
    let options = world.options().env("A2A_LEASE_MS", LEASE_MS);
    let holder = open(options.clone()).await;
    let other = open(options.env("A2A_WRITE_TIMEOUT_MS", WRITE_TIMEOUT_MS)).await;
    deploy(&holder, json!({"id": "worker", "description": "d"})).await;
    let step = json!({"name": "work", "agent": "worker", "retry": {"max_attempts": 5}});
    for round in 0..rounds {
        for _ in 0..CLAIMS {
            call(&holder, "workflow_run", json!({"steps": [step]})).await;
        }
        let mut held = Vec::new();
        for _ in 0..CLAIMS {
            held.push(call(&holder, "work_next", json!({"wait_s": 5})).await);
        }
        pause_between_writes(&holder, &other).await;
        // It was just about to hand in: the calls are in its input when it goes on.
        let mut late: Vec<(Value, PendingReply)> = Vec::new();
        for item in &held {
            let arguments = json!({"claim": item["claim"], "status": "done", "output": {"by": "the paused one"}});
            let params = json!({"name": "work_finish", "arguments": arguments});
            late.push((item["claim"].clone(), holder.request_start("tools/call", params).await.unwrap()));
        }
        let mut taken = Vec::new();
        while taken.len() < CLAIMS {
            let item = call(&other, "work_next", json!({"wait_s": 10})).await;
            assert!(item["claim"].is_string(), "the steps of a paused process are given to others: {item}");
            taken.push(item);
        }
        holder.resume();
        for (claim, reply) in late {
            let reply = reply.wait(LIMIT).await.unwrap();
            assert_eq!(reply["isError"], true, "{claim} in round {round}: a late result was taken: {reply}");
            let text = reply["content"][0]["text"].as_str().unwrap();
            assert!(text.contains("claim is over"), "{text}");
        }
        for item in taken {
            let finish = json!({"claim": item["claim"], "status": "done", "output": {"by": "the other"}});
            assert_eq!(call(&other, "work_finish", finish).await["status"], "COMPLETED");
            let (run, _) = item["claim"].as_str().unwrap().split_once(':').unwrap();
            let state = call(&other, "workflow_status", json!({"run": run, "detail": "full"})).await;
            assert_eq!(state["run"]["result"], json!({"by": "the other"}), "{state}");
        }
    }
    println!("{}: {} claims of a paused process, no late result was taken", world.name(), rounds * CLAIMS);
    holder.finish().await;
    other.finish().await;
}
