//! Many writers that all expect the same revision.

use futures_util::future::join_all;
use serde_json::json;

use crate::world::{World, call, deploy, document, figure, on_both, refusal};

const PROCESSES: usize = 4;
const UPDATES: usize = 100;

on_both!(one_of_a_hundred_updates_with_the_same_expected_revision_wins);

async fn one_of_a_hundred_updates_with_the_same_expected_revision_wins(world: World) {
    let servers = world.servers(PROCESSES).await;
    let mut revision =
        deploy(&servers[0], json!({"id": "disputed", "description": "at first"})).await["revision"].clone();
    for round in 0..figure(5, 100) {
        let updates = (0..UPDATES).map(|n| {
            let set = json!({"description": format!("round {round} update {n}")});
            let arguments = json!({"id": "disputed", "expected_revision": revision, "set": set});
            servers[n % PROCESSES].call_tool("agent_update", arguments)
        });
        let replies: Vec<_> = join_all(updates).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<usize> = (0..UPDATES).filter(|n| !replies[*n].is_error).collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        let won = &replies[winners[0]].structured;
        assert_eq!(won["replaced_revision"], revision);
        for (n, reply) in replies.iter().enumerate().filter(|(n, _)| *n != winners[0]) {
            let refusal = refusal(reply);
            assert_eq!(refusal.code, "conflict", "{n}: {refusal:?}");
            assert_eq!(refusal.details["current_revision"], won["revision"], "{n}: {refusal:?}");
            let advice = format!("repeat with expected_revision {}", won["revision"]);
            assert!(refusal.text.contains(&advice) && !refusal.retryable, "{n}: {refusal:?}");
        }
        let stored = document(&servers[winners[0] % PROCESSES], "disputed").await.unwrap();
        assert_eq!(stored["description"], format!("round {round} update {}", winners[0]));
        revision = won["revision"].clone();
    }
    // A reader that has not seen the winner yet may still change it, when the client knows its revision.
    for server in &servers {
        let arguments =
            json!({"id": "disputed", "expected_revision": revision, "set": {"tags": [server.pid().to_string()]}});
        revision = call(server, "agent_update", arguments).await["revision"].clone();
    }
    for server in servers {
        server.finish().await;
    }
}
