//! Input that no client should send, and clients that do not read what is sent to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use a2a_testing::stdio::{RpcError, ServerOptions, ServerProcess, Stderr, Wire};
use a2a_testing::wait::wait_until;
use serde_json::{Value, json};

use crate::world::{World, call, figure, machine, open, refused};

const LIMIT: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;
/// How much more memory than at rest a server may ever have taken.
const GROWTH_MAX: u64 = 64 * MIB;

fn memory() -> ServerOptions {
    ServerOptions::new(&["serve"], &[("A2A_STORAGE", "memory")])
}

/// The most memory that a process ever had.
fn memory_peak(server: &ServerProcess) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the process is alive");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

/// The memory of a server that has done ordinary work.
async fn memory_at_rest(server: &ServerProcess) -> u64 {
    for n in 0..20 {
        call(server, "agent_deploy", json!({"agents": [{"id": format!("rest-{n}"), "description": "x".repeat(150)}]}))
            .await;
        call(server, "agent_list", json!({})).await;
    }
    memory_peak(server)
}

#[track_caller]
fn assert_growth(server: &ServerProcess, before: u64, what: &str) {
    let growth = memory_peak(server).saturating_sub(before);
    println!("{what}: {} KiB at rest, {} KiB more at the peak", before / 1024, growth / 1024);
    assert!(growth < GROWTH_MAX, "{what}: {growth} bytes");
}

#[tokio::test]
async fn each_malformed_line_is_answered_and_the_next_request_too() {
    for wire in [Wire::Pipes, Wire::SocketPairs] {
        let server = open(memory().wire(wire)).await;
        let before = memory_at_rest(&server).await;
        let mut lines: Vec<(Vec<u8>, i64)> = [
            ("not json", -32700),
            ("{", -32700),
            ("[1,2", -32700),
            ("}{", -32700),
            ("\"open", -32700),
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}}", -32700),
            ("{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":01}", -32700),
            ("{'id': 1}", -32700),
            ("NaN", -32700),
            ("42", -32600),
            ("null", -32600),
            ("true", -32600),
            ("\"text\"", -32600),
            ("{}", -32600),
            ("[]", -32600),
            ("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]", -32600),
            ("{\"jsonrpc\":\"2.0\",\"id\":{\"a\":1},\"method\":\"ping\"}", -32600),
            ("{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}", -32600),
            ("{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"ping\"}", -32600),
            ("{\"jsonrpc\":\"2.0\"}", -32600),
            ("{\"id\":[],\"id\":2}", -32600),
            ("{\"jsonrpc\":\"1.0\",\"method\":\"ping\"}", -32600),
        ]
        .map(|(line, code)| (line.as_bytes().to_vec(), code))
        .into();
        lines.push((b"\xff\xfe\x00\x01binary".to_vec(), -32700));
        lines.push((b"\"\xc3\x28\"".to_vec(), -32700));
        lines.push((b"\x00".to_vec(), -32700));
        lines.push(("[".repeat(100_000).into_bytes(), -32600));
        lines.push(("{\"a\":".repeat(100_000).into_bytes(), -32600));
        for (mut line, code) in lines {
            let shown = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
            line.push(b'\n');
            server.send_raw(&line).await.unwrap();
            let answer = server.next_error_without_id(LIMIT).await;
            let answer = answer.unwrap_or_else(|| panic!("no answer to {shown:?}\n{}", server.stderr_tail()));
            assert_eq!(answer.code(), Some(code), "{shown:?}: {answer}");
            call(&server, "agent_list", json!({})).await;
        }
        // Nothing is said about nothing.
        server.send_raw(b"\n\r\n   \n\t\n").await.unwrap();
        call(&server, "agent_list", json!({})).await;
        assert!(server.unasked().is_empty(), "{:?}", server.unasked());
        assert_growth(&server, before, "malformed lines");
        server.finish().await;
    }
}

/// A call of `agent_deploy` whose document is given as it stands on the wire.
fn deploy_line(id: i64, document: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"agent_deploy","arguments":{{"agents":[{document}]}}}}}}"#
    ) + "\n"
}

#[tokio::test]
async fn what_no_database_can_hold_is_refused_with_its_path_and_id() {
    let world = World::sqlite();
    let server = world.server().await;
    let before = memory_at_rest(&server).await;
    let config = |value: &str| format!(r#"{{"id":"bad","description":"d","config":{{"v":{value}}}}}"#);
    let path = "params.arguments.agents[0].config.v";
    let cases = [
        (config(r#""\u0000""#), path, "NUL"),
        (config(r#""\ud800""#), path, "surrogate"),
        (config(r#""\udc00x""#), path, "surrogate"),
        (config("1e400000"), path, "range of a double"),
        (config("-1e309"), path, "range of a double"),
        (config(r#"{"k":1,"k":2}"#), "params.arguments.agents[0].config.v", "twice"),
        (r#"{"id":"bad","id":"worse","description":"d"}"#.to_owned(), "params.arguments.agents[0]", "twice"),
        (r#"{"id":"bad","description":"a\u0000b"}"#.to_owned(), "params.arguments.agents[0].description", "NUL"),
        (config(&format!("{}{}", "[".repeat(100), "]".repeat(100))), path, "deeper than"),
        (config(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))), path, "deeper than"),
    ];
    for (n, (document, path, reason)) in cases.iter().enumerate() {
        let id = 1_000_000 + i64::try_from(n).unwrap();
        let reply = server.expect_reply(&json!(id));
        server.send_raw(deploy_line(id, document).as_bytes()).await.unwrap();
        let shown: String = document.chars().take(80).collect();
        let Err(RpcError::Error { code, message, .. }) = reply.wait(LIMIT).await else {
            panic!("{shown} was not refused");
        };
        assert_eq!(code, -32600, "{shown}: {message}");
        assert!(message.starts_with(path) && message.contains(reason), "{shown}: {message}");
        assert!(message.len() < 1_000, "{shown}: {message}");
        call(&server, "agent_list", json!({})).await;
    }
    // Close to what is refused, but right.
    for (n, value) in
        [r#""\ud83d\ude00""#, "1e308", "-0.0", "123456789012345678", r#""\u0001\u001f\u007f""#].iter().enumerate()
    {
        let reply = server.expect_reply(&json!(2_000_000 + n));
        let line =
            deploy_line(2_000_000 + i64::try_from(n).unwrap(), &config(value).replace("bad", &format!("good-{n}")));
        server.send_raw(line.as_bytes()).await.unwrap();
        let result = reply.wait(LIMIT).await.unwrap();
        assert_eq!(result["isError"], false, "{value}: {result}");
        let stored = crate::world::document(&server, &format!("good-{n}")).await.unwrap();
        assert_eq!(stored["config"]["v"], serde_json::from_str::<Value>(value).unwrap(), "{value}");
    }
    assert!(refused(&server, "agent_list", json!({"ids": ["bad"]})).await.text.contains("there is no agent"));
    assert_growth(&server, before, "refused documents");
    server.finish().await;
}

#[tokio::test]
async fn a_line_over_the_limit_is_refused_by_its_id_and_one_below_it_is_served() {
    let server = open(memory()).await;
    let limit = 4 << 20;
    // Only the length of the line differs: the padding is white space around the message.
    let message = r#"{"jsonrpc":"2.0","id":77,"method":"tools/list","params":{}}"#;
    for (length, is_served) in [(limit - 1, true), (limit, true), (limit + 1, false)] {
        let reply = server.expect_reply(&json!(77));
        let line = format!("{}{message}\n", " ".repeat(length - message.len()));
        server.send_raw(line.as_bytes()).await.unwrap();
        match reply.wait(LIMIT).await {
            Ok(result) => assert!(is_served && result["tools"].is_array(), "{length}"),
            Err(RpcError::Error { code: -32600, message, .. }) => {
                assert!(
                    !is_served && message.contains("4194304") && message.contains("split it"),
                    "{length}: {message}"
                );
            }
            Err(error) => panic!("{length}: {error}"),
        }
    }
    server.finish().await;
}

#[tokio::test]
async fn a_line_of_a_hundred_megabytes_passes_in_constant_memory() {
    let _machine = machine().await;
    for wire in [Wire::Pipes, Wire::SocketPairs] {
        let server = open(memory().wire(wire)).await;
        let before = memory_at_rest(&server).await;
        // Some clients write the id first and some last.
        for id_first in [true, false] {
            let reply = server.expect_reply(&json!(555));
            let id = r#""id":555,"method":"tools/call""#;
            let (start, end) =
                if id_first { (format!("{id},"), String::new()) } else { (String::new(), format!(",{id}")) };
            server.send_raw(format!(r#"{{"jsonrpc":"2.0",{start}"params":{{"x":""#).as_bytes()).await.unwrap();
            let megabyte = vec![b'x'; 1_000_000];
            for _ in 0..100 {
                server.send_raw(&megabyte).await.unwrap();
            }
            server.send_raw(format!("\"}}{end}}}\n").as_bytes()).await.unwrap();
            let error = reply.wait(LIMIT).await.unwrap_err();
            assert_eq!(error.code(), Some(-32600), "{error}");
            call(&server, "agent_list", json!({})).await;
        }
        assert_growth(&server, before, "lines of 100 MB");
        server.finish().await;
    }
}

/// A client that sends and sends, and reads nothing until the server has stopped reading too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_answers_to_twenty_thousand_requests_stay_bounded() {
    let _machine = machine().await;
    let requests = figure(20_000, 100_000);
    let mut options = memory().request_limit(Duration::from_secs(120));
    options.wire = Wire::SocketPairs;
    for wire in [Wire::Pipes, Wire::SocketPairs] {
        options.wire = wire;
        let server = Arc::new(open(options.clone()).await);
        let before = memory_at_rest(&server).await;
        server.stop_reading_stdout();
        let sent = Arc::new(AtomicUsize::new(0));
        let sending = tokio::spawn({
            let (server, sent) = (server.clone(), sent.clone());
            async move {
                let mut replies = Vec::with_capacity(requests);
                for _ in 0..requests {
                    let call = json!({"name": "agent_list", "arguments": {"limit": 10}});
                    replies.push(server.request_start("tools/call", call).await.unwrap());
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                replies
            }
        });
        // A full pipe is known by its standing still: nothing is taken for half a second.
        let mut stands_since = (0, Instant::now());
        wait_until(Duration::from_secs(60), "the server stops taking requests", async || {
            let now = sent.load(Ordering::Relaxed);
            if now != stands_since.0 {
                stands_since = (now, Instant::now());
            }
            now == requests || stands_since.1.elapsed() > Duration::from_millis(500)
        })
        .await;
        let taken = sent.load(Ordering::Relaxed);
        assert!(taken < requests, "the server took all {requests} requests of a client that reads nothing");
        println!("{wire:?}: {taken} of {requests} requests sent before the server stopped reading");
        server.resume_reading_stdout();
        for reply in sending.await.unwrap() {
            let result = reply.wait(Duration::from_secs(120)).await.unwrap();
            assert_eq!(result["structuredContent"]["total"], 20);
        }
        call(&server, "agent_list", json!({})).await;
        assert_growth(&server, before, "unread answers");
        server.finish().await;
    }
}

/// A client that takes the server's log for nothing that has to be read.
#[tokio::test]
async fn an_unread_stderr_holds_nothing_up() {
    let world = World::sqlite();
    let mut options = world.options().stderr(Stderr::Unread).request_limit(Duration::from_secs(10));
    // Far more than a pipe holds.
    options.envs.push(("A2A_LOG".into(), "trace".into()));
    let server = open(options).await;
    let before = memory_at_rest(&server).await;
    for n in 0..500 {
        call(&server, "agent_deploy", json!({"agents": [{"id": format!("e-{n}"), "description": "d"}]})).await;
        server.send_raw(b"not json\n").await.unwrap();
        assert!(server.next_error_without_id(LIMIT).await.is_some());
    }
    assert_eq!(call(&server, "agent_list", json!({})).await["total"], 520);
    assert_growth(&server, before, "unread stderr");
    server.finish().await;
}

#[tokio::test]
async fn notifications_before_the_opening_and_unknown_ones_end_nothing() {
    let server = ServerProcess::spawn_with(crate::world::binary(), memory()).await;
    for method in ["notifications/initialized", "notifications/cancelled", "notifications/made-up"] {
        server.notify(method, json!({"requestId": 7})).await.unwrap();
    }
    server.initialize("late").await.unwrap();
    for method in ["notifications/cancelled", "notifications/made-up", "notifications/roots/list_changed"] {
        server.notify(method, json!({"requestId": 12345})).await.unwrap();
    }
    call(&server, "agent_list", json!({})).await;
    server.finish().await;

    let modern = ServerProcess::spawn_with(crate::world::binary(), memory()).await;
    modern.discover("modern").await.unwrap();
    modern.notify("notifications/cancelled", json!({"requestId": 1})).await.unwrap();
    call(&modern, "agent_list", json!({})).await;
    modern.finish().await;
}
