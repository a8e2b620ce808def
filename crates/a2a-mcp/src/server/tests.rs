//! The server over streams in memory, with tools that misbehave.

use std::sync::atomic::{AtomicBool, Ordering};

use a2a_core::input::ObjectReader;
use a2a_engine::config::{Config, Settings};
use futures_util::FutureExt as _;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, ReadHalf, WriteHalf, split};

use super::*;
use crate::tools::{Answer, Arguments, Call, Definition, Effect, Reply, route};
use crate::transport::LineTransport;

/// Says where the tool is to panic.
#[derive(JsonSchema)]
struct Where {
    place: String,
}

impl Arguments for Where {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let place = r.text("place")?.to_owned();
        assert_ne!(place, "reading", "told to");
        Some(Self { place })
    }
}

#[derive(JsonSchema)]
struct Fragile {
    #[allow(dead_code, reason = "for the schema")]
    place: String,
    breaks: bool,
}

impl Serialize for Fragile {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!self.breaks, "told to");
        json!({"place": "none"}).serialize(serializer)
    }
}

static WENT_ON: AtomicBool = AtomicBool::new(false);

fn fragile<'s>(_: Call<'s>, at: Where) -> Answer<'s, Fragile> {
    assert_ne!(at.place, "before", "told to");
    async move {
        tokio::task::yield_now().await;
        assert_ne!(at.place, "during", "told to");
        WENT_ON.store(true, Ordering::SeqCst);
        Ok(Reply::new(Fragile { breaks: at.place == "writing", place: at.place }, "whole".to_owned()))
    }
    .boxed()
}

/// A client of a server in memory.
struct Client {
    answers: tokio::io::Lines<BufReader<ReadHalf<DuplexStream>>>,
    requests: WriteHalf<DuplexStream>,
}

impl Client {
    async fn ask(&mut self, message: Value) -> Value {
        self.requests.write_all(format!("{message}\n").as_bytes()).await.unwrap();
        let line = self.answers.next_line();
        let line = tokio::time::timeout(Duration::from_secs(10), line).await.expect("an answer").unwrap();
        serde_json::from_str(&line.expect("the server is there")).unwrap()
    }
}

fn server_with_a_fragile_tool() -> Server {
    let settings = Settings { storage: Some("memory".to_owned()), ..Settings::default() };
    let mut server = Server::new(Hub::open(Config::new(&settings).unwrap()), &ServeOptions::default()).unwrap();
    let definition =
        Definition { name: "fragile", title: "Fragile", description: "Breaks when told to.", effect: Effect::Reads };
    let mut router = ToolRouter::new();
    router.add_route(route(definition, fragile));
    server.list = Arc::new(router.list_all());
    server.router = Arc::new(router);
    server
}

#[tokio::test]
async fn a_tool_that_panics_is_answered_and_the_session_goes_on() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (source, sink) = split(far);
    let transport = LineTransport::new(source, sink, TransportLimits::default(), CancellationToken::new());
    let served =
        tokio::spawn(async move { server_with_a_fragile_tool().serve(transport).await.unwrap().waiting().await });
    let (answers, requests) = split(near);
    let mut client = Client { answers: BufReader::new(answers).lines(), requests };
    let hello = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"},
    });
    client.ask(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})).await;
    client.requests.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n").await.unwrap();
    for (id, place) in ["reading", "before", "during", "writing", "nowhere"].into_iter().enumerate() {
        let params = json!({"name": "fragile", "arguments": {"place": place}});
        let answer =
            client.ask(json!({"jsonrpc": "2.0", "id": id + 1, "method": "tools/call", "params": params})).await;
        assert_eq!(answer["id"], id + 1, "{place}: {answer}");
        let result = &answer["result"];
        if place == "nowhere" {
            assert_eq!(result["structuredContent"], json!({"place": "none"}), "{answer}");
            continue;
        }
        assert_eq!(result["isError"], true, "{place}: {answer}");
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(
            text.contains("\"code\":\"internal\"") && text.contains("other calls are not affected"),
            "{place}: {text}"
        );
        // The text of a panic is for the log.
        assert!(!text.contains("told to"), "{place}: {text}");
    }
    assert!(WENT_ON.load(Ordering::SeqCst));
    drop(client);
    served.await.unwrap().unwrap();
}
