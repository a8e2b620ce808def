//! Agents that don't do what the protocol says, or only half of it.

use serde_json::json;
use tokio::net::TcpListener;

use super::client::TASK_NOT_FOUND;
use super::*;
use crate::egress::tests::{Request, Server, operator, response};
use crate::executors::tests::{Watched, execute, work};

/// A server that answers the n-th request with the n-th of these bodies, and the last one from then on. In each, `{o}`
/// stands for its own origin.
async fn agent(bodies: Vec<(&'static str, Value)>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let answer = move |number| {
        let (status, body): &(&str, Value) = bodies.get(number).or(bodies.last())?;
        response(status, "Content-Type: application/json\r\n", &body.to_string().replace("{o}", &origin))
    };
    Server::listen(listener, Arc::new(answer))
}

fn card() -> (&'static str, Value) {
    ("200 OK", card_at("{o}/rpc"))
}

fn card_at(url: &str) -> Value {
    json!({"supportedInterfaces": [
        {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0", "tenant": "green"}]})
}

fn result(result: Value) -> (&'static str, Value) {
    ("200 OK", json!({"jsonrpc": "2.0", "id": 1, "result": result}))
}

fn error(code: i64) -> (&'static str, Value) {
    ("200 OK", json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "because"}}))
}

fn task(state: &str) -> Value {
    json!({"id": "t-1", "contextId": "c-1", "status": {"state": state}})
}

async fn step(server: &Server) -> (Done, Arc<Watched>) {
    let file = operator(&format!("egress: {{allow: [{{origin: '{}', private: true}}]}}", server.url("")));
    let context = Watched::new();
    let step = work("a2a", json!({"url": server.url("")}), json!("hello"));
    (execute(file, step, context.clone()).await, context)
}

fn failure(done: Done, expected_retryable: bool) -> String {
    let Done::Failed { error, retryable } = done else { panic!("{done:?}") };
    assert_eq!(retryable, expected_retryable, "{error}");
    error
}

fn sent(server: &Server) -> Vec<Value> {
    let requests = server.requests.lock();
    let rpc = |request: &&Request| request.head.starts_with("POST ");
    requests.iter().filter(rpc).map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

fn count(server: &Server, method: &str) -> usize {
    sent(server).iter().filter(|call| call["method"] == method).count()
}

#[tokio::test]
async fn a_message_goes_to_the_interface_of_the_card_and_the_notes_come_first() {
    let server = agent(vec![card(), result(json!({"task": task("TASK_STATE_COMPLETED")}))]).await;
    let (done, context) = step(&server).await;
    assert_eq!(done, Done::Completed(json!({"task_id": "t-1"})));
    let call = sent(&server).remove(0);
    assert_eq!(call["method"], "SendMessage");
    let params = &call["params"];
    assert_eq!((&params["tenant"], &params["configuration"]["returnImmediately"]), (&json!("green"), &json!(true)));
    assert_eq!(
        params["message"],
        json!({"messageId": "run-1:draw:2", "role": "ROLE_USER", "parts": [{"text": "hello"}],
            "metadata": {"idempotency_key": "run-1:draw", "capability": "paint"}})
    );
    assert_eq!(server.requests.lock()[1].header("a2a-version"), Some("1.0"));
    let notes = context.checkpoints.lock().clone();
    let interface = json!({"url": server.url("/rpc"), "tenant": "green"});
    let noted = |rest: Value| {
        let mut note = json!({"message_id": "run-1:draw:2", "interface": interface});
        note.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        note
    };
    assert_eq!(
        notes,
        [noted(json!({"phase": "sending"})), noted(json!({"phase": "waiting", "task_id": "t-1", "context_id": "c-1"}))]
    );
}

#[tokio::test]
async fn a_card_does_not_lead_to_an_origin_that_is_not_allowed() {
    let canary = Server::start(|_| response("200 OK", "", "{}")).await;
    let server = agent(vec![("200 OK", card_at(&canary.url("/rpc")))]).await;
    let (done, _) = step(&server).await;
    assert!(failure(done, false).contains("is not allowed"));
    assert_eq!(canary.visits(), 0);
}

#[tokio::test]
async fn what_stands_before_the_message_may_be_tried_again() {
    let server = agent(vec![("503 Service Unavailable", json!("busy"))]).await;
    let (done, context) = step(&server).await;
    assert!(failure(done, true).contains("503"));
    assert!(context.checkpoints.lock().is_empty());
    for status in ["404 Not Found", "301 Moved Permanently"] {
        let server = agent(vec![(status, json!("no"))]).await;
        failure(step(&server).await.0, false);
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_says_why() {
    let unauthorised = ("401 Unauthorized", json!("who are you?"));
    for (answer, said) in [
        (error(-32_602), "error -32602: because"),
        (error(-32_009), "error -32009"),
        (unauthorised, "it wants credentials"),
        (("302 Found", json!("")), "redirects are not followed"),
    ] {
        let server = agent(vec![card(), answer]).await;
        let error = failure(step(&server).await.0, false);
        assert!(error.contains(said), "{error}");
        assert_eq!((count(&server, "SendMessage"), sent(&server).len()), (1, 1));
    }
    // Nothing was done, and later it may be.
    let server = agent(vec![card(), ("429 Too Many Requests", json!("later"))]).await;
    failure(step(&server).await.0, true);
}

#[tokio::test]
async fn an_agent_that_can_not_be_searched_leaves_a_clear_failure() {
    for answer in [
        error(-32_603),
        ("502 Bad Gateway", json!("lost")),
        ("200 OK", json!("what?")),
        ("200 OK", json!({"jsonrpc": "2.0", "id": 2, "result": {}})),
    ] {
        let server = agent(vec![card(), answer, error(-32_601)]).await;
        let error = failure(step(&server).await.0, false);
        assert!(error.contains("may or may not have received the message run-1:draw:2"), "{error}");
        assert_eq!(count(&server, "SendMessage"), 1, "{error}");
    }
}

#[tokio::test]
async fn a_message_is_found_on_a_later_page() {
    let mut found = task("TASK_STATE_WORKING");
    found["history"] = json!([{"messageId": "run-1:draw:2"}]);
    let server = agent(vec![
        card(),
        ("500 Internal Server Error", json!("oops")),
        result(json!({"tasks": [task("TASK_STATE_WORKING")], "nextPageToken": "more"})),
        result(json!({"tasks": [found], "nextPageToken": ""})),
        result(task("TASK_STATE_COMPLETED")),
    ])
    .await;
    let (done, _) = step(&server).await;
    assert_eq!(done, Done::Completed(json!({"task_id": "t-1"})));
    assert_eq!((count(&server, "SendMessage"), count(&server, "ListTasks")), (1, 2));
    assert_eq!(sent(&server)[2]["params"]["pageToken"], "more");
}

#[tokio::test]
async fn a_task_that_the_agent_forgets_is_a_failure() {
    let server = agent(vec![card(), result(json!({"task": task("TASK_STATE_WORKING")})), error(TASK_NOT_FOUND)]).await;
    assert!(failure(step(&server).await.0, false).contains("no longer knows its task t-1"));
}

#[tokio::test]
async fn a_response_without_end_is_not_read() {
    let long = json!({"text": "x".repeat(5 * 1024 * 1024)});
    let server = agent(vec![card(), result(json!({"task": task("TASK_STATE_WORKING")})), result(long)]).await;
    assert!(failure(step(&server).await.0, false).contains("more than"));
}

#[tokio::test]
async fn a_note_that_can_not_be_read_sends_nothing() {
    let server = agent(vec![card()]).await;
    let file = operator(&format!("egress: {{allow: [{{origin: '{}', private: true}}]}}", server.url("")));
    let mut step = work("a2a", json!({"url": server.url("")}), json!("hello"));
    step.checkpoint = Some(json!({"something": "else"}));
    assert!(failure(execute(file, step, Watched::new()).await, false).contains("can't be read"));
    assert_eq!(server.visits(), 0);
}
