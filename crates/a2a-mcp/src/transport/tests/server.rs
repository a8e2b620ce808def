//! rmcp on top of the transport.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities, ServerConfig,
    SubscriptionFilter,
};
use rmcp::service::{RequestContext, ServerInitializeError, SubscriptionContext};
use rmcp::{ServerHandler, ServiceExt as _};
use tokio::sync::Semaphore;

use super::*;

/// A server whose tool names its client, after it was let.
struct Echo {
    peer_gone: CancellationToken,
    gate: Arc<Semaphore>,
    in_work: Arc<AtomicUsize>,
    in_work_most: Arc<AtomicUsize>,
}

impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build())
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let now = self.in_work.fetch_add(1, Ordering::SeqCst) + 1;
        self.in_work_most.fetch_max(now, Ordering::SeqCst);
        let _gate = tokio::select! {
            permit = self.gate.acquire() => permit.ok(),
            () = context.ct.cancelled() => None,
        };
        self.in_work.fetch_sub(1, Ordering::SeqCst);
        let client = context.client_info().map(|client| client.name).unwrap_or_default();
        Ok(CallToolResult::success(vec![ContentBlock::text(client)]).into())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        tokio::select! {
            () = context.cancelled() => {}
            () = self.peer_gone.cancelled() => {}
        }
        Ok(())
    }
}

struct Running {
    client: Client,
    gate: Arc<Semaphore>,
    in_work_most: Arc<AtomicUsize>,
    /// How the service ended: the reason, or why it never started.
    ended: tokio::task::JoinHandle<Result<String, ServerInitializeError>>,
}

fn serving(limits: TransportLimits, answer_bytes: usize, gate: usize) -> Running {
    let (transport, client, peer_gone) = connected(limits, answer_bytes);
    let gate = Arc::new(Semaphore::new(gate));
    let in_work_most = Arc::new(AtomicUsize::new(0));
    let echo =
        Echo { peer_gone, gate: Arc::clone(&gate), in_work: Arc::default(), in_work_most: Arc::clone(&in_work_most) };
    let ended = tokio::spawn(async move {
        let running = echo.serve(transport).await?;
        Ok(format!("{:?}", running.waiting().await.unwrap()))
    });
    Running { client, gate, in_work_most, ended }
}

fn call(id: u32) -> Value {
    request(id, "tools/call", json!({"name": "echo", "arguments": {}}))
}

#[tokio::test]
async fn both_eras_are_answered() {
    let mut classic = serving(calls(8), STREAM_BYTES, 8);
    classic.client.say(initialize(1)).await;
    assert_eq!(classic.client.hear().await["result"]["protocolVersion"], "2025-11-25");
    classic.client.say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    classic.client.say(call(2)).await;
    assert_eq!(classic.client.hear().await["result"]["content"][0]["text"], "classic");
    classic.client.hang_up();
    assert_eq!(classic.ended.await.unwrap().unwrap(), "Closed");

    let mut stateless = serving(calls(8), STREAM_BYTES, 8);
    stateless.client.say(modern(1, "server/discover")).await;
    assert!(stateless.client.hear().await["result"]["supportedVersions"].is_array());
    stateless.client.say(cancelled(1)).await;
    let mut modern_call = call(2);
    modern_call["params"]["_meta"] = meta();
    stateless.client.say(modern_call).await;
    assert_eq!(stateless.client.hear().await["result"]["content"][0]["text"], "modern");
    stateless.client.hang_up();
    assert_eq!(stateless.ended.await.unwrap().unwrap(), "Closed");
}

#[tokio::test]
async fn a_peer_that_only_probes_ends_the_service_before_it_starts() {
    let mut probed = serving(calls(8), STREAM_BYTES, 8);
    probed.client.say(modern(1, "server/discover")).await;
    probed.client.hear().await;
    probed.client.hang_up();
    assert!(matches!(probed.ended.await.unwrap(), Err(ServerInitializeError::ConnectionClosed(_))));
}

#[tokio::test]
async fn an_open_subscription_does_not_delay_the_end() {
    let mut running = serving(calls(8), STREAM_BYTES, 8);
    let mut listen = modern(1, "subscriptions/listen");
    listen["params"]["notifications"] = json!({"toolsListChanged": true});
    running.client.say(listen).await;
    assert_eq!(running.client.hear().await["method"], "notifications/subscriptions/acknowledged");
    let asked = Instant::now();
    running.client.hang_up();
    assert_eq!(running.client.hear().await["id"], 1);
    assert_eq!(running.ended.await.unwrap().unwrap(), "Closed");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_cancelled_call_makes_room_and_gets_no_answer() {
    let mut running = serving(calls(1), STREAM_BYTES, 0);
    running.client.say(initialize(1)).await;
    running.client.hear().await;
    running.client.say(call(2)).await;
    running.client.say(call(3)).await;
    running.client.say(cancelled(2)).await;
    running.client.say(request(4, "ping", json!({}))).await;
    running.client.say(cancelled(3)).await;
    assert_eq!(running.client.hear().await["id"], 4);
    running.client.hang_up();
    assert_eq!(running.ended.await.unwrap().unwrap(), "Closed");
    assert_eq!(running.client.input.next_line().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_calls_against_an_unread_output_are_all_answered_later() {
    const CALLS: u32 = 20_000;
    let mut running = serving(calls(64), 4096, Semaphore::MAX_PERMITS);
    running.client.say(initialize(0)).await;
    running.client.hear().await;
    let mut output = running.client.output.take().unwrap();
    let writer = tokio::spawn(async move {
        for id in 1..=CALLS {
            output.write_all(format!("{}\n", call(id)).as_bytes()).await.unwrap();
        }
    });
    // The writer gets stuck when both streams and the house are full: the rest waits on its side.
    let mut answered = vec![false; CALLS as usize + 1];
    for _ in 0..CALLS {
        let answer = running.client.hear().await;
        let id = answer["id"].as_u64().unwrap() as usize;
        assert!(!std::mem::replace(&mut answered[id], true), "{id} was answered twice");
    }
    writer.await.unwrap();
    assert_eq!(running.ended.await.unwrap().unwrap(), "Closed");
    assert!(running.in_work_most.load(Ordering::SeqCst) <= 64);
}

#[tokio::test]
async fn no_more_calls_are_in_work_than_the_limit() {
    let mut running = serving(calls(3), STREAM_BYTES, 0);
    running.client.say(initialize(0)).await;
    running.client.hear().await;
    for id in 1..=50 {
        running.client.say(call(id)).await;
    }
    while running.in_work_most.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    running.gate.add_permits(1);
    for _ in 1..=50 {
        running.client.hear().await;
    }
    assert_eq!(running.in_work_most.load(Ordering::SeqCst), 3);
    running.client.hang_up();
    running.ended.await.unwrap().unwrap();
}
