//! Runs as tasks of the protocol's extension.

use std::time::Duration;

use a2a_testing::stdio::{Era, ServerProcess};
use a2a_testing::wait::wait_for;
use serde_json::{Value, json};

use crate::world::{World, binary, call, deploy, on_both};

on_both!(a_task_is_a_run_that_any_process_tells_of, a_task_asks_its_client_and_can_be_cancelled);

const EXTENSION: &str = "io.modelcontextprotocol/tasks";
const SOON: Duration = Duration::from_secs(20);

/// A session of a client that takes tasks and can ask its person.
async fn session(world: &World) -> ServerProcess {
    let server = ServerProcess::spawn_with(binary(), world.options()).await;
    let hello = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {"extensions": {EXTENSION: {}}, "elicitation": {}},
        "clientInfo": {"name": "tasks", "version": "1"},
    });
    let answer = server.request("initialize", hello).await.unwrap();
    assert!(answer["capabilities"]["extensions"].get(EXTENSION).is_some(), "{answer}");
    server.notify("notifications/initialized", Value::Null).await.unwrap();
    server.set_era(Era::Legacy);
    server
}

async fn task(server: &ServerProcess, id: &Value) -> Value {
    server.request("tasks/get", json!({"taskId": id})).await.unwrap()
}

async fn until(server: &ServerProcess, id: &Value, status: &str) -> Value {
    let look = async || {
        let task = task(server, id).await;
        (task["status"] == status).then_some(task)
    };
    wait_for(SOON, &format!("task {id} is {status}"), look).await
}

async fn a_task_is_a_run_that_any_process_tells_of(world: World) {
    let (a, b) = (session(&world).await, session(&world).await);
    deploy(&a, json!({"id": "writer", "description": "Writes."})).await;
    let invoke = json!({"name": "agent_invoke", "arguments": {"agent": "writer", "input": {"topic": "owls"}}});
    let created = a.request("tools/call", invoke).await.unwrap();
    assert_eq!((&created["resultType"], &created["status"]), (&json!("task"), &json!("working")), "{created}");
    assert!(created["statusMessage"].as_str().unwrap().contains("work_next"), "{created}");
    let id = &created["taskId"];
    a.kill();
    let taken = call(&b, "work_next", json!({"wait_s": 20})).await;
    assert_eq!(taken["step"]["run"], *id);
    call(&b, "work_finish", json!({"claim": taken["claim"], "status": "done", "output": "Owls see."})).await;
    let done = until(&b, id, "completed").await;
    assert_eq!(done["result"]["structuredContent"]["output"], "Owls see.", "{done}");
    // A failed run is the result of a call that failed.
    let run = json!({"name": "workflow_run", "arguments": {"steps": [
        {"name": "a", "agent": "writer", "retry": {"max_attempts": 1}}]}});
    let created = b.request("tools/call", run).await.unwrap();
    let taken = call(&b, "work_next", json!({"wait_s": 20})).await;
    let failed = json!({"claim": taken["claim"], "status": "failed", "error": "no ink", "retryable": false});
    call(&b, "work_finish", failed).await;
    let done = until(&b, &created["taskId"], "completed").await;
    assert_eq!(done["result"]["isError"], true, "{done}");
    assert!(done["result"]["content"][0]["text"].as_str().unwrap().contains("no ink"), "{done}");
    let error = b.request("tasks/get", json!({"taskId": "run-none"})).await.unwrap_err();
    assert_eq!(error.code(), Some(-32602), "{error}");
    b.finish().await;
    // A client that does not say that it takes tasks gets none.
    let plain = world.server().await;
    let invoked = call(&plain, "agent_invoke", json!({"agent": "writer", "input": {}})).await;
    assert!(invoked["run"].is_string());
    assert!(plain.request("tasks/get", json!({"taskId": id})).await.is_err());
    plain.finish().await;
}

async fn a_task_asks_its_client_and_can_be_cancelled(world: World) {
    let server = session(&world).await;
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]});
    let steps = json!([
        {"name": "form", "agent": "builtin:gate", "input": {"question": "Good?", "schema": schema}},
        {"name": "text", "agent": "builtin:gate", "input": {"question": "Why?"}, "depends_on": ["form"]},
        {"name": "wait", "agent": "builtin:wait", "input": {"seconds": 3600}, "depends_on": ["text"]},
    ]);
    let created = server.request("tools/call", json!({"name": "workflow_run", "arguments": {"steps": steps}})).await;
    let id = created.unwrap()["taskId"].clone();
    let answers = [("Good?", json!({"ok": true})), ("Why?", json!({"answer": "It is short."}))];
    for (question, content) in answers {
        let asked = wait_for(SOON, question, async || {
            let task = task(&server, &id).await;
            let requests = task["inputRequests"].as_object()?;
            let (key, request) = requests.iter().next()?;
            (request["params"]["message"] == question).then(|| (key.clone(), request.clone()))
        });
        let (key, request) = asked.await;
        assert_eq!(request["method"], "elicitation/create");
        let responses = json!({key: {"action": "accept", "content": content}, "old:1": {"action": "decline"}});
        server.request("tasks/update", json!({"taskId": id, "inputResponses": responses})).await.unwrap();
    }
    until(&server, &id, "working").await;
    let shown = call(&server, "workflow_status", json!({"run": id, "detail": "full"})).await;
    assert_eq!(shown["run"]["outputs"], json!({"form": {"ok": true}, "text": "It is short."}));
    server.request("tasks/cancel", json!({"taskId": id})).await.unwrap();
    until(&server, &id, "cancelled").await;
    server.request("tasks/cancel", json!({"taskId": id})).await.unwrap();
    server.finish().await;
}
