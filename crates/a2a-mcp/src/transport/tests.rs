//! The transport by itself, over in-memory streams; `tests/server.rs` puts rmcp on top of it.

mod server;
mod standard_streams;

use std::pin::pin;

use futures_util::poll;
use rmcp::model::{
    ErrorData, NotificationMetaObject, ResourceUpdatedNotification, ResourceUpdatedNotificationParam, ServerResult,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, duplex};

use super::*;

type TestTransport = LineTransport<DuplexStream, DuplexStream>;

/// Plenty for every test that is not about a full stream.
const STREAM_BYTES: usize = 1 << 20;

/// The other end of a transport.
struct Client {
    output: Option<DuplexStream>,
    input: Lines<BufReader<DuplexStream>>,
}

impl Client {
    async fn write(&mut self, text: &str) {
        self.output.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
    }

    async fn say(&mut self, message: Value) {
        self.write(&format!("{message}\n")).await;
    }

    async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.input.next_line().await.unwrap().unwrap()).unwrap()
    }

    fn hang_up(&mut self) {
        self.output = None;
    }
}

fn connected(limits: TransportLimits, answer_bytes: usize) -> (TestTransport, Client, CancellationToken) {
    let (client_output, source) = duplex(STREAM_BYTES);
    let (sink, client_input) = duplex(answer_bytes);
    let peer_gone = CancellationToken::new();
    let transport = LineTransport::new(source, sink, limits, peer_gone.clone());
    let client = Client { output: Some(client_output), input: BufReader::new(client_input).lines() };
    (transport, client, peer_gone)
}

fn calls(calls: usize) -> TransportLimits {
    TransportLimits { calls, ..TransportLimits::default() }
}

fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "modern", "version": "2"},
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

fn initialize(id: u32) -> Value {
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "classic", "version": "1"}});
    json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": params})
}

fn request(id: u32, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn modern(id: u32, method: &str) -> Value {
    request(id, method, json!({"_meta": meta()}))
}

fn cancelled(id: u32) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}})
}

fn response(id: i64) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::response(ServerResult::empty(()), RequestId::Number(id))
}

/// What a received message is, in short.
fn brief(message: Option<ClientJsonRpcMessage>) -> String {
    match message {
        None => "end".into(),
        Some(JsonRpcMessage::Request(request)) => format!("{} {}", request.request.method(), request.id),
        Some(JsonRpcMessage::Notification(notification)) => match notification.notification {
            ClientNotification::CancelledNotification(cancelled) => {
                format!("cancelled {}", cancelled.params.request_id.unwrap())
            }
            ClientNotification::InitializedNotification(_) => "initialized".into(),
            other => format!("{other:?}"),
        },
        Some(other) => format!("{other:?}"),
    }
}

async fn received(transport: &mut TestTransport) -> String {
    brief(transport.receive().await)
}

/// Opens a session and answers the opening.
async fn opened(transport: &mut TestTransport, client: &mut Client) {
    client.say(initialize(1000)).await;
    assert_eq!(received(transport).await, "initialize 1000");
    transport.send(response(1000)).await.unwrap();
    client.hear().await;
}

async fn is_waiting(transport: &mut TestTransport) -> bool {
    poll!(pin!(transport.receive())).is_pending()
}

#[tokio::test]
async fn what_comes_before_the_opening_request_is_dropped() {
    let (mut transport, mut client, _) = connected(calls(8), STREAM_BYTES);
    client.say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    client.say(json!({"jsonrpc": "2.0", "id": 3, "result": {}})).await;
    client.say(request(1, "ping", json!({}))).await;
    client.say(cancelled(1)).await;
    client.say(modern(2, "server/discover")).await;
    client.say(cancelled(2)).await;
    // Without its meta, or with a version that is not known, a request opens nothing.
    client.say(request(3, "tools/list", json!({}))).await;
    client.say(cancelled(3)).await;
    let mut unknown_version = modern(4, "tools/list");
    unknown_version["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2999-01-01");
    client.say(unknown_version).await;
    client.say(cancelled(4)).await;
    client.say(modern(5, "tools/list")).await;
    client.say(cancelled(5)).await;
    for expected in ["ping 1", "server/discover 2", "tools/list 3", "tools/list 4", "tools/list 5", "cancelled 5"] {
        assert_eq!(received(&mut transport).await, expected);
    }
    assert_eq!(transport.era, Era::Stateless);
}

#[tokio::test]
async fn bad_lines_are_answered_and_the_next_request_passes() {
    let limits = TransportLimits { line_bytes: 200, calls: 8 };
    let (mut transport, mut client, _) = connected(limits, STREAM_BYTES);
    client.write("{\n\r\n  \n").await;
    client.write(&format!("{}\n", request(7, "x", json!({"text": "x".repeat(1000)})))).await;
    client.write("{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"x\",\"params\":{\"a\":1,\"a\":2}}\r\n").await;
    client.write("[]\n").await;
    client.say(initialize(9)).await;
    assert_eq!(received(&mut transport).await, "initialize 9");
    for (code, id, reason) in [
        (-32700, Value::Null, "not JSON"),
        (-32600, json!(7), "limit of 200 bytes"),
        (-32600, json!(8), "params.a: the key stands twice"),
        (-32600, Value::Null, "batches"),
    ] {
        let answer = client.hear().await;
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(reason), "{answer}");
    }
}

#[tokio::test]
async fn a_line_passes_at_its_limit_and_not_past_it() {
    let exact = initialize(1).to_string();
    let (mut transport, mut client, _) = connected(TransportLimits { line_bytes: exact.len(), calls: 8 }, STREAM_BYTES);
    client.write(&format!("{exact} \n{exact}\n{}\n", request(2, "ping", json!({})))).await;
    assert_eq!(received(&mut transport).await, "initialize 1");
    assert_eq!(received(&mut transport).await, "ping 2");
    assert_eq!(client.hear().await["id"], 1);
}

#[tokio::test]
async fn a_full_house_reads_no_more_until_an_answer_is_written() {
    // The stream takes one answer and a part of the next.
    let (mut transport, mut client, _) = connected(calls(2), 60);
    opened(&mut transport, &mut client).await;
    for id in 1..=4 {
        client.say(request(id, "x", json!({}))).await;
    }
    assert_eq!(received(&mut transport).await, "x 1");
    assert_eq!(received(&mut transport).await, "x 2");
    assert!(is_waiting(&mut transport).await);
    let first = tokio::spawn(transport.send(response(1)));
    assert_eq!(received(&mut transport).await, "x 3");
    first.await.unwrap().unwrap();
    // This answer finds no room in the stream, so that its request still counts.
    let mut second = pin!(transport.send(response(2)));
    assert!(poll!(&mut second).is_pending());
    assert!(is_waiting(&mut transport).await);
    assert_eq!(client.hear().await["id"], 1);
    second.await.unwrap();
    assert_eq!(received(&mut transport).await, "x 4");
    assert_eq!(client.hear().await["id"], 2);
}

#[tokio::test]
async fn cancellations_are_seen_behind_a_full_house() {
    let (mut transport, mut client, _) = connected(calls(2), STREAM_BYTES);
    opened(&mut transport, &mut client).await;
    for id in 1..=5 {
        client.say(request(id, "x", json!({}))).await;
    }
    // The first is in work, the fourth waits, the last is unknown.
    for id in [1, 4, 99] {
        client.say(cancelled(id)).await;
    }
    for expected in ["x 1", "x 2", "cancelled 1", "x 3"] {
        assert_eq!(received(&mut transport).await, expected);
    }
    assert!(is_waiting(&mut transport).await);
    transport.send(response(2)).await.unwrap();
    assert_eq!(received(&mut transport).await, "x 5");
}

#[tokio::test]
async fn a_response_overtakes_what_waits() {
    let (mut transport, mut client, _) = connected(calls(1), STREAM_BYTES);
    opened(&mut transport, &mut client).await;
    client.say(request(1, "x", json!({}))).await;
    client.say(request(2, "x", json!({}))).await;
    client.say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    client.say(json!({"jsonrpc": "2.0", "id": 1, "result": {}})).await;
    assert_eq!(received(&mut transport).await, "x 1");
    assert!(received(&mut transport).await.contains("Response"));
    transport.send(response(1)).await.unwrap();
    assert_eq!(received(&mut transport).await, "x 2");
    assert_eq!(received(&mut transport).await, "initialized");
}

#[tokio::test]
async fn the_look_ahead_is_bounded() {
    let (mut transport, mut client, _) = connected(calls(1), STREAM_BYTES);
    opened(&mut transport, &mut client).await;
    client.say(request(0, "x", json!({}))).await;
    assert_eq!(received(&mut transport).await, "x 0");
    for id in 1..200 {
        client.say(request(id, "x", json!({}))).await;
    }
    client.say(cancelled(0)).await;
    assert!(is_waiting(&mut transport).await);
    assert_eq!(transport.waiting.len(), LOOK_AHEAD_MESSAGES_MAX);
    for id in 0..199 {
        transport.send(response(id)).await.unwrap();
        assert_eq!(received(&mut transport).await, format!("x {}", id + 1));
    }
}

#[tokio::test]
async fn an_id_that_is_in_work_or_was_cancelled_is_refused() {
    let (mut transport, mut client, _) = connected(calls(8), STREAM_BYTES);
    opened(&mut transport, &mut client).await;
    client.say(request(1, "x", json!({}))).await;
    client.say(request(1, "x", json!({}))).await;
    client.say(cancelled(1)).await;
    client.say(request(1, "x", json!({}))).await;
    client.say(request(2, "x", json!({}))).await;
    for expected in ["x 1", "cancelled 1", "x 2"] {
        assert_eq!(received(&mut transport).await, expected);
    }
    let answer = client.hear().await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(-32600)), "{answer}");
    let answer = client.hear().await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!(-32600)), "{answer}");
    // An id whose request was answered may be used again: some scripts always send the same.
    transport.send(response(2)).await.unwrap();
    client.say(request(2, "x", json!({}))).await;
    assert_eq!(received(&mut transport).await, "x 2");
}

#[tokio::test]
async fn the_end_of_the_input_is_told_and_answers_still_go_out() {
    let (mut transport, mut client, peer_gone) = connected(calls(1), STREAM_BYTES);
    opened(&mut transport, &mut client).await;
    client.say(request(1, "x", json!({}))).await;
    client.write(&request(2, "x", json!({})).to_string()).await;
    client.hang_up();
    assert_eq!(received(&mut transport).await, "x 1");
    assert!(is_waiting(&mut transport).await);
    assert!(peer_gone.is_cancelled());
    transport.send(response(1)).await.unwrap();
    assert_eq!(received(&mut transport).await, "x 2");
    assert_eq!(received(&mut transport).await, "end");
    transport.send(response(2)).await.unwrap();
    transport.close().await.unwrap();
    for id in 1..=2 {
        assert_eq!(client.hear().await["id"], id);
    }
    assert_eq!(client.input.next_line().await.unwrap(), None);
    assert!(transport.send(response(3)).await.is_err());
}

#[tokio::test]
async fn an_output_that_nobody_reads_ends_the_input() {
    let (mut transport, mut client, peer_gone) = connected(calls(8), STREAM_BYTES);
    opened(&mut transport, &mut client).await;
    client.say(request(1, "x", json!({}))).await;
    assert_eq!(received(&mut transport).await, "x 1");
    let Client { output, input } = client;
    drop(input);
    let send = transport.send(response(1));
    let end = tokio::spawn(async move { brief(transport.receive().await) });
    assert!(send.await.is_err());
    assert_eq!(end.await.unwrap(), "end");
    assert!(peer_gone.is_cancelled());
    drop(output);
}

#[tokio::test]
async fn closing_does_not_wait_for_a_peer_that_does_not_read() {
    let (mut transport, mut client, _) = connected(calls(8), 60);
    opened(&mut transport, &mut client).await;
    client.say(request(1, "x", json!({"a": "b"}))).await;
    assert_eq!(received(&mut transport).await, "x 1");
    let error =
        ServerJsonRpcMessage::error(ErrorData::internal_error("x".repeat(1000), None), Some(RequestId::Number(1)));
    let mut stuck = pin!(transport.send(error));
    assert!(poll!(&mut stuck).is_pending());
    transport.close().await.unwrap();
    assert_eq!(received(&mut transport).await, "end");
}

#[tokio::test]
async fn an_abandoned_receive_loses_nothing_and_breaks_no_line() {
    let (mut transport, mut client, _) = connected(calls(8), 30);
    client.write("{\n").await;
    let text = initialize(1).to_string();
    let (head, tail) = text.split_at(40);
    client.write(head).await;
    // The answer does not fit into the stream: it is abandoned in the middle, several times.
    for _ in 0..3 {
        assert!(is_waiting(&mut transport).await);
    }
    client.write(&format!("{tail}\n")).await;
    let mut answer = pin!(transport.send(response(5)));
    assert!(poll!(&mut answer).is_pending());
    let heard = async { (client.hear().await, client.hear().await) };
    let (heard, message, sent) = tokio::join!(heard, received(&mut transport), answer);
    sent.unwrap();
    assert_eq!(message, "initialize 1");
    assert_eq!((&heard.0["error"]["code"], &heard.1["id"]), (&json!(-32700), &json!(5)));
}

#[tokio::test]
async fn a_stateless_peer_gets_only_notifications_that_it_asked_for() {
    fn update(subscription: Option<i64>) -> ServerJsonRpcMessage {
        let mut notification = ResourceUpdatedNotification::new(ResourceUpdatedNotificationParam::new("a://b"));
        if let Some(id) = subscription {
            let mut meta = NotificationMetaObject::new();
            meta.set_subscription_id(RequestId::Number(id));
            notification.extensions.insert(meta);
        }
        ServerJsonRpcMessage::notification(ServerNotification::ResourceUpdatedNotification(notification))
    }
    for (opening, heard) in [(initialize(1), vec![Value::Null, json!(7)]), (modern(1, "tools/list"), vec![json!(7)])] {
        let (mut transport, mut client, _) = connected(calls(8), STREAM_BYTES);
        client.say(opening).await;
        received(&mut transport).await;
        transport.send(update(None)).await.unwrap();
        transport.send(update(Some(7))).await.unwrap();
        for subscription in heard {
            let message = client.hear().await;
            assert_eq!(message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], subscription, "{message}");
        }
        transport.send(response(1)).await.unwrap();
        assert_eq!(client.hear().await["id"], 1);
    }
}

#[tokio::test]
async fn an_abandoned_answer_is_finished_by_the_next_receive() {
    let (mut transport, mut client, _) = connected(calls(8), 30);
    client.write("{\n").await;
    assert!(is_waiting(&mut transport).await);
    client.say(initialize(1)).await;
    let (answer, message) = tokio::join!(client.hear(), received(&mut transport));
    assert_eq!(answer["error"]["code"], -32700);
    assert_eq!(message, "initialize 1");
}

#[tokio::test]
async fn a_receive_that_waits_for_room_is_woken_by_an_answer_and_by_a_closed_output() {
    let (mut transport, mut client, _) = connected(calls(1), STREAM_BYTES);
    opened(&mut transport, &mut client).await;
    for id in 1..=3 {
        client.say(request(id, "x", json!({}))).await;
    }
    assert_eq!(received(&mut transport).await, "x 1");
    let answer = transport.send(response(1));
    {
        let mut receive = pin!(transport.receive());
        assert!(poll!(&mut receive).is_pending());
        answer.await.unwrap();
        assert!(poll!(&mut receive).is_ready());
    }
    let answer = transport.send(response(2));
    drop(client);
    let mut receive = pin!(transport.receive());
    assert!(poll!(&mut receive).is_pending());
    assert!(answer.await.is_err());
    assert!(poll!(&mut receive).is_ready());
}
