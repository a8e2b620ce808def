use std::path::Path;
use std::time::Duration;

use a2a_testing::stdio::{MODERN_VERSION, RpcError, ServerOptions, ServerProcess, Stderr, Wire};
use a2a_testing::wait::wait_until;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(10);

async fn peer(fault: &str, wire: Wire) -> ServerProcess {
    let options = ServerOptions::new(&[fault], &[]).wire(wire);
    ServerProcess::spawn_with(Path::new(env!("CARGO_BIN_EXE_stdio-peer")), options).await
}

#[tokio::test]
async fn a_clean_server_finishes_over_both_wires() {
    for wire in [Wire::Pipes, Wire::SocketPairs] {
        let server = peer("", wire).await;
        let result = server.initialize("a client").await.unwrap();
        assert_eq!(result["clientInfo"]["name"], "a client");
        let reply = server.call_tool("t", json!({"a": 1})).await.unwrap();
        assert_eq!(reply.text, "done");
        assert_eq!(reply.structured["arguments"], json!({"a": 1}));
        assert!(!reply.is_error);
        assert!(server.finish().await.success());
        assert!(server.stderr_tail().contains("peer started"));
    }
}

#[tokio::test]
async fn each_request_of_the_modern_era_carries_its_context() {
    let server = peer("", Wire::Pipes).await;
    server.discover("modern").await.unwrap();
    let echoed = server.request("tools/list", json!({"_meta": {"progressToken": 5}})).await.unwrap();
    assert_eq!(
        echoed["_meta"],
        json!({
            "progressToken": 5,
            "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
            "io.modelcontextprotocol/clientInfo": {"name": "modern", "version": "1.0.0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        })
    );
    server.finish().await;
}

#[tokio::test]
async fn answers_are_matched_by_id_and_not_by_order() {
    let server = peer("", Wire::SocketPairs).await;
    let (first, second) =
        tokio::join!(server.request("swap", json!({"n": 1})), server.request("swap", json!({"n": 2})));
    assert_eq!((first.unwrap(), second.unwrap()), (json!({"n": 1}), json!({"n": 2})));
    server.finish().await;
}

#[tokio::test]
async fn errors_timeouts_and_closed_connections_are_told_apart() {
    let options = ServerOptions::new(&[], &[]).request_limit(Duration::from_millis(100));
    let server = ServerProcess::spawn_with(Path::new(env!("CARGO_BIN_EXE_stdio-peer")), options).await;
    assert_eq!(server.request("fail", json!({})).await.unwrap_err().code(), Some(-32601));
    assert_eq!(server.request("silence", json!({})).await, Err(RpcError::Timeout));
    let open = server.request_start("silence", json!({})).await.unwrap();
    server.kill();
    assert_eq!(open.wait(LIMIT).await, Err(RpcError::Closed));
    assert!(!server.wait_exit(LIMIT).await.unwrap().success());
    assert_eq!(server.request("echo", json!({})).await, Err(RpcError::Closed));
    server.finish().await;
}

#[tokio::test]
async fn every_kind_of_dirt_on_stdout_is_found() {
    for (fault, expected) in [
        ("banner", "is not JSON"),
        ("version", "not JSON-RPC 2.0"),
        ("twice", "nothing that was asked"),
        ("both", "neither request nor response"),
        ("half", "without a line break"),
    ] {
        let server = peer(fault, Wire::Pipes).await;
        server.request("echo", json!({})).await.unwrap();
        server.close_stdin().await;
        server.wait_exit(LIMIT).await.unwrap();
        wait_until(LIMIT, fault, async || server.violations().iter().any(|text| text.contains(expected))).await;
    }
}

#[tokio::test]
#[should_panic(expected = "stdout is not clean")]
async fn finish_panics_about_a_dirty_stdout() {
    let server = peer("banner", Wire::Pipes).await;
    server.request("echo", json!({})).await.unwrap();
    server.finish().await;
}

#[tokio::test]
async fn raw_lines_get_their_answers_with_and_without_an_id() {
    let server = peer("", Wire::Pipes).await;
    let reply = server.expect_reply(&json!("mine"));
    server.send_raw(b"{\"jsonrpc\":\"2.0\",\"id\":\"mi").await.unwrap();
    server.send_raw(b"ne\",\"method\":\"echo\",\"params\":[1]}\n{oops\n").await.unwrap();
    assert_eq!(reply.wait(LIMIT).await.unwrap(), json!([1]));
    assert_eq!(server.next_error_without_id(LIMIT).await.unwrap().code(), Some(-32700));
    server.finish().await;
}

#[tokio::test]
async fn notifications_are_kept_and_pings_answered() {
    let server = peer("", Wire::Pipes).await;
    server.request("notify", json!({"n": 1})).await.unwrap();
    let params = server.next_notification("notifications/message", LIMIT).await.unwrap();
    assert_eq!(params, json!({"n": 1}));
    assert_eq!(server.unasked()[0]["method"], "ping");
    server.finish().await;
}

#[tokio::test]
async fn an_unread_stdout_blocks_the_server_until_it_is_read_again() {
    let server = peer("", Wire::Pipes).await;
    server.stop_reading_stdout();
    // The answer is larger than a pipe and one read together, so it cannot arrive before the reading goes on.
    let big = json!({"text": "x".repeat(300_000)});
    let request = server.request_start("echo", big.clone()).await.unwrap();
    let late = server.request_start("echo", json!([])).await.unwrap();
    assert_eq!((server.answers(), server.open_requests()), (0, 2));
    server.resume_reading_stdout();
    assert_eq!(request.wait(LIMIT).await.unwrap(), big);
    assert_eq!(late.wait(LIMIT).await.unwrap(), json!([]));
    assert!(server.rss_bytes().is_none_or(|bytes| bytes > 100_000));
    server.finish().await;
}

#[tokio::test]
async fn a_line_whose_caller_gave_up_is_still_sent_whole() {
    let server = peer("", Wire::Pipes).await;
    server.pause();
    let big = json!({"text": "x".repeat(1_000_000)});
    let given_up = tokio::time::timeout(Duration::from_millis(50), server.request_start("echo", big)).await;
    assert!(given_up.is_err(), "a stopped server reads no input");
    server.resume();
    assert_eq!(server.request("echo", json!([2])).await.unwrap(), json!([2]));
    server.finish().await;
}

#[tokio::test]
async fn the_server_sees_none_of_the_developers_settings() {
    let options = ServerOptions::new(&[], &[("A2A_STORAGE", "memory")]).stderr(Stderr::Unread);
    let server = ServerProcess::spawn_with(Path::new(env!("CARGO_BIN_EXE_stdio-peer")), options).await;
    let seen = server.request("env", json!({})).await.unwrap();
    let seen = seen.as_object().unwrap();
    let own: Vec<_> = seen.keys().filter(|name| name.starts_with("A2A_") || name.starts_with("XDG_")).collect();
    assert_eq!(own, ["A2A_STORAGE"]);
    assert_eq!(seen["HOME"], json!(server.home()));
    server.finish().await;
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let server = peer("", Wire::Pipes).await;
    let pid = server.pid();
    drop(server);
    let process = format!("/proc/{pid}");
    wait_until(LIMIT, "the end of the process", async || !Path::new(&process).exists()).await;
}
