//! Webhooks against a real server.

use std::time::Instant;

use serde_json::json;

use super::*;
use crate::egress::tests::{Server, operator, response};
use crate::executors::tests::{Watched, execute, work};

/// Runs one step against a server that gives this answer to everything.
async fn step(status: &'static str, headers: &'static str, body: impl Into<String>) -> Done {
    let body = body.into();
    let server = Server::start(move |_| response(status, headers, &body)).await;
    let file = allowing(&server, "");
    execute(file, work("http", json!({"url": server.url("/hook")}), json!({"n": 1})), Watched::new()).await
}

fn allowing(server: &Server, rest: &str) -> Arc<crate::operator::OperatorFile> {
    operator(&format!("egress: {{allow: [{{origin: '{}', private: true}}]}}\n{rest}", server.url("")))
}

#[tokio::test]
async fn the_step_is_posted_with_its_key_and_signature() {
    let server = Server::start(|_| response("200 OK", "Content-Type: application/json\r\n", r#"{"ok":[1,2.5]}"#)).await;
    let file = allowing(&server, &format!("http: {{signing_keys: {{'{}': k3y}}}}", server.url("")));
    let mut step = work("http", json!({"url": server.url("/hook?x=1")}), json!({"n": 1}));
    step.answer = Some(json!("yes"));
    let done = execute(file, step, Watched::new()).await;
    assert_eq!(done, Done::Completed(json!({"ok": [1, 2.5]})));

    let request = server.requests.lock()[0].clone();
    assert!(request.head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.header("idempotency-key"), Some("run-1:draw"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let expected = json!({"run": "run-1", "step": "draw", "attempt": 2, "idempotency_key": "run-1:draw",
        "namespace": "default", "agent": "artist", "capability": "paint", "input": {"n": 1}, "answer": "yes"});
    assert_eq!(body, expected);
    let sent = request.header("a2a-signature").unwrap();
    let seconds = sent.strip_prefix("t=").and_then(|rest| rest.split_once(',')).unwrap().0.parse().unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(sent, signature::header(&crate::operator::Secret::new("k3y"), at, &request.body));
}

#[tokio::test]
async fn responses_mean_what_the_table_says() {
    let null = Done::Completed(Value::Null);
    assert_eq!(step("202 Accepted", "", "").await, null);
    assert_eq!(step("204 No Content", "", "").await, null);
    assert_eq!(step("201 Created", "", " 5\n").await, Done::Completed(json!(5)));
    for (status, headers, body, retryable, said) in [
        ("200 OK", "", "<html>", false, "not with JSON"),
        ("200 OK", "", r#"{"a":1,"a":2}"#, false, "not with JSON that can be kept: a"),
        ("301 Moved Permanently", "Location: /x\r\n", "", false, "redirects are not followed"),
        ("400 Bad Request", "", "no such\n\u{7} field", false, "400 Bad Request: no such field"),
        ("404 Not Found", "", "", false, "404 Not Found"),
        ("408 Request Timeout", "", "", true, "408"),
        ("409 Conflict", "", "", true, "409"),
        ("425 Too Early", "", "", true, "425"),
        ("429 Too Many Requests", "Retry-After: 17\r\n", "slow down", true, "(Retry-After: 17): slow down"),
        ("500 Internal Server Error", "", "", true, "500"),
        ("503 Service Unavailable", "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n", "", true, "21 Oct 2026"),
    ] {
        let done = step(status, headers, body).await;
        let Done::Failed { error, retryable: found } = done else { panic!("{status}: {done:?}") };
        assert_eq!(found, retryable, "{status}: {error}");
        assert!(error.contains(said) && !error.contains("127.0.0.1"), "{status}: {error}");
    }
}

#[tokio::test]
async fn an_output_may_have_exactly_as_much_as_the_limit() {
    for (bytes, fits) in [(STEP_OUTPUT_BYTES_MAX, true), (STEP_OUTPUT_BYTES_MAX + 1, false)] {
        let done = step("200 OK", "", format!("\"{}\"", "x".repeat(bytes - 2))).await;
        match done {
            Done::Completed(_) => assert!(fits),
            Done::Failed { error, retryable } => {
                assert!(!fits && !retryable && error.contains("more than 1048576 bytes"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_long_error_is_cut() {
    let Done::Failed { error, .. } = step("500 Internal Server Error", "", "x ".repeat(100_000)).await else {
        panic!()
    };
    assert!(error.chars().count() < 2 * ERROR_CHARS_MAX, "{}", error.len());
}

#[tokio::test]
async fn broken_connections_are_tried_again() {
    let server = Server::start(|number| match number {
        0 => Some(Vec::new()),
        1 => Some(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"a\":".to_vec()),
        _ => Some(b"SSH-2.0-x\r\n".to_vec()),
    })
    .await;
    let file = allowing(&server, "");
    for _ in 0..3 {
        let done =
            execute(file.clone(), work("http", json!({"url": server.url("/secret-path")}), json!(1)), Watched::new());
        let done = done.await;
        let Done::Failed { error, retryable: true } = &done else { panic!("{done:?}") };
        assert!(!error.contains("secret-path"), "{error}");
    }
    assert_eq!(server.visits(), 3);
    // Nobody listens any more.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let file = operator(&format!("egress: {{allow: [{{origin: '{url}', private: true}}]}}"));
    let done = execute(file, work("http", json!({"url": url}), json!(1)), Watched::new()).await;
    assert!(matches!(done, Done::Failed { retryable: true, .. }), "{done:?}");
}

#[tokio::test]
async fn a_webhook_that_says_nothing_is_given_up_in_time() {
    let server = Server::start(|_| None).await;
    let mut step = work("http", json!({"url": server.url("/")}), json!(1));
    step.timeout = Some(Duration::from_millis(200));
    let done = execute(allowing(&server, ""), step, Watched::new()).await;
    assert_eq!(done, Done::retryable("the webhook took longer than 0.2 s"));
}

#[tokio::test]
async fn cancelling_the_step_ends_the_request() {
    let server = Server::start(|_| None).await;
    let context = Watched::new();
    let step = execute(allowing(&server, ""), work("http", json!({"url": server.url("/")}), json!(1)), context.clone());
    let cancel = async {
        let begun = Instant::now();
        while server.requests.lock().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::task::yield_now().await;
        }
        context.cancelled.cancel();
    };
    let (done, ()) = tokio::join!(step, cancel);
    assert!(matches!(done, Done::Failed { .. }), "{done:?}");
}

#[tokio::test]
async fn what_is_not_allowed_is_neither_claimed_nor_sent() {
    let server = Server::start(|_| response("200 OK", "", "{}")).await;
    let step = work("http", json!({"url": server.url("/")}), json!(1));
    for file in [operator(""), operator(&format!("egress: {{allow: ['{}']}}", server.url("")))] {
        let executors = crate::executors::Executors::new(file);
        let missing = executors.can_run(&step.executor).unwrap_err().to_string();
        assert!(missing.contains("egress.allow"), "{missing}");
        let done = executors.execute(step.clone(), Watched::new()).await;
        assert_eq!(done, Done::failed(missing));
    }
    assert_eq!(server.visits(), 0);
    assert!(crate::executors::Executors::new(allowing(&server, "")).can_run(&step.executor).is_ok());
}
