//! A call of `agent_list` by one id against a tool that does nothing. Run it with `cargo xtask bench mcp`.
//!
//! Both servers speak over socket pairs through the same transport, first inside this process, then each as a process
//! of its own. The client writes and reads raw lines and blocks, so that it is not what is measured.
// The futures of the tools, one within another, are deeper than the compiler looks by default.
#![recursion_limit = "256"]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and ends when something does not hold"
)]

#[path = "../../a2a-core/benches/bench/roster.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod roster;
#[path = "../../a2a-core/benches/bench/table.rs"]
mod table;

use std::future::Future;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::ids::Actor;
use a2a_engine::config::{Config, Settings};
use a2a_engine::hub::{DeployOptions, Hub};
use a2a_mcp::server::{ServeOptions, Server};
use a2a_mcp::transport::{LineTransport, StdioTransport, TransportLimits};
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::{ToolRoute, ToolRouter};
use rmcp::handler::server::tool::ToolCallContext;
use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, ServerCapabilities, ServerConfig, Tool};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt as _};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use table::{Aim, Asked, Figure, Table, median, percentile};

const RATIO_MOST: f64 = 1.15;
const AGENTS: usize = 1_000;
/// Calls to one server before it is the other one's turn.
const BLOCK: usize = 200;
/// As many threads as the server has.
const WORKER_THREADS: usize = 2;
/// Makes this program a server whose only tool does nothing.
const NO_OP_SERVER: &str = "--no-op-server";

fn main() {
    if std::env::args().any(|arg| arg == NO_OP_SERVER) {
        return no_op_process();
    }
    let Some(asked) = Asked::from_args() else { return };
    let blocks = if asked.quick { 10 } else { 100 };
    let mut table = Table::new(
        "mcp",
        format!(
            "round trip of agent_list by one id among {AGENTS} agents over socket pairs; floor: a no-op rmcp tool on the \
             same transport; {} calls each, alternating every {BLOCK}",
            blocks * BLOCK
        ),
    );
    let runtime = runtime();
    let (no_op, ours) = in_process(&runtime);
    compare(&mut table, "in process", no_op, ours, blocks);
    let (no_op, mut ours) = (Client::of_process(no_op_command()), Client::of_process(server_command()));
    ours.deploy();
    compare(&mut table, "as processes", no_op, ours, blocks);
    table.finish();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build().unwrap()
}

fn compare(table: &mut Table, what: &str, mut no_op: Client, mut ours: Client, blocks: usize) {
    let mut random = roster::Random::new(3);
    let nothing: Vec<String> = vec![json!({"ids": [roster::id(0)]}).to_string()];
    let picks: Vec<String> =
        (0..BLOCK).map(|_| json!({"ids": [roster::id(random.below(AGENTS))]}).to_string()).collect();
    // Caches, branch predictors and the allocator see each server before the clock runs.
    for _ in 0..3 {
        no_op.block("no_op", &nothing);
        ours.block("agent_list", &picks);
    }
    let (mut floors, mut samples) = (Vec::new(), Vec::new());
    for _ in 0..blocks {
        floors.extend(no_op.block("no_op", &nothing));
        samples.extend(ours.block("agent_list", &picks));
    }
    let (floor, p50) = (Figure::Time(median(&floors)), Figure::Time(median(&samples)));
    table.row(format!("agent_list by one id, {what}, p50"), Some(floor), p50, Aim::RatioMost(RATIO_MOST));
    let (floor, p99) = (Figure::Time(percentile(&floors, 99)), Figure::Time(percentile(&samples, 99)));
    table.row(format!("agent_list by one id, {what}, p99"), Some(floor), p99, Aim::None);
    no_op.end();
    ours.end();
}

/// The client's side of one connection.
struct Client {
    requests: UnixStream,
    answers: BufReader<UnixStream>,
    child: Option<Child>,
    next_id: u64,
    line: Vec<u8>,
}

impl Client {
    fn new(requests: UnixStream, answers: UnixStream, child: Option<Child>) -> Self {
        let answers = BufReader::with_capacity(64 << 10, answers);
        let mut client = Self { requests, answers, child, next_id: 0, line: Vec::new() };
        let params = json!({
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"},
        });
        let hello = client.ask("initialize", &params.to_string());
        assert!(hello["result"]["protocolVersion"].is_string(), "{hello}");
        client.requests.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n").unwrap();
        client
    }

    /// Starts a server whose standard streams are socket pairs, as clients on Node do.
    fn of_process(mut command: Command) -> Self {
        let (requests, stdin) = UnixStream::pair().unwrap();
        let (answers, stdout) = UnixStream::pair().unwrap();
        let child = command.stdin(OwnedFd::from(stdin)).stdout(OwnedFd::from(stdout)).spawn().unwrap();
        // Else the server's ends stay open here.
        drop(command);
        Self::new(requests, answers, Some(child))
    }

    fn exchange(&mut self, request: &[u8]) -> Duration {
        self.line.clear();
        let start = Instant::now();
        self.requests.write_all(request).unwrap();
        self.answers.read_until(b'\n', &mut self.line).unwrap();
        start.elapsed()
    }

    fn request(&mut self, method: &str, params: &str) -> String {
        self.next_id += 1;
        format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"{method}\",\"params\":{params}}}\n", self.next_id)
    }

    fn ask(&mut self, method: &str, params: &str) -> Value {
        let request = self.request(method, params);
        self.exchange(request.as_bytes());
        serde_json::from_slice(&self.line).unwrap()
    }

    /// The times of one call with each of the arguments.
    fn block(&mut self, tool: &str, arguments: &[String]) -> Vec<Duration> {
        let took = (0..BLOCK)
            .map(|i| {
                let arguments = &arguments[i % arguments.len()];
                let request = self.request("tools/call", &format!("{{\"name\":\"{tool}\",\"arguments\":{arguments}}}"));
                self.exchange(request.as_bytes())
            })
            .collect();
        let last: Value = serde_json::from_slice(&self.line).unwrap();
        let result = &last["result"];
        assert!(result["isError"] != true && result["structuredContent"].is_object(), "{last}");
        took
    }

    fn deploy(&mut self) {
        let agents: Vec<Value> = documents();
        for part in agents.chunks(500) {
            let answer =
                self.ask("tools/call", &json!({"name": "agent_deploy", "arguments": {"agents": part}}).to_string());
            assert!(answer["result"]["isError"] != true, "{answer}");
        }
    }

    fn end(self) {
        let Self { requests, answers, child, .. } = self;
        drop((requests, answers));
        if let Some(mut child) = child {
            child.wait().unwrap();
        }
    }
}

fn documents() -> Vec<Value> {
    (0..AGENTS).map(|number| serde_json::to_value(roster::spec(number, 0)).unwrap()).collect()
}

fn in_process(runtime: &Runtime) -> (Client, Client) {
    let settings = Settings { storage: Some("memory".to_owned()), ..Settings::default() };
    let hub = runtime.block_on(async {
        let hub = Hub::open(Config::new(&settings).unwrap());
        let deployed = hub.agent_deploy(&documents(), "agents", &DeployOptions::default(), &Actor::new("bench")).await;
        assert!(deployed.unwrap().iter().all(Result::is_ok));
        hub
    });
    let server = Server::new(hub, &ServeOptions::default()).unwrap();
    (connected(runtime, NoOp::new()), connected(runtime, server))
}

/// Serves one client on the runtime.
fn connected(runtime: &Runtime, server: impl ServerHandler) -> Client {
    let (requests, input) = UnixStream::pair().unwrap();
    let (answers, output) = UnixStream::pair().unwrap();
    let _in_runtime = runtime.enter();
    let wrapped = |stream: UnixStream| {
        stream.set_nonblocking(true).unwrap();
        tokio::net::UnixStream::from_std(stream).unwrap()
    };
    let transport =
        LineTransport::new(wrapped(input), wrapped(output), TransportLimits::default(), CancellationToken::new());
    runtime.spawn(async move { server.serve(transport).await.unwrap().waiting().await });
    Client::new(requests, answers, None)
}

fn server_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_a2a-mcp"));
    // Settings of whoever runs this must not decide what is measured.
    command.env_clear().env("A2A_STORAGE", "memory").args(["serve"]);
    command
}

fn no_op_command() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env_clear().arg(NO_OP_SERVER);
    command
}

fn no_op_process() {
    runtime().block_on(async {
        let transport = StdioTransport::open(TransportLimits::default(), CancellationToken::new()).unwrap();
        NoOp::new().serve(transport).await.unwrap().waiting().await.unwrap();
    });
}

/// A server with one tool, which does nothing, made as rmcp means it.
#[derive(Clone)]
struct NoOp {
    router: Arc<ToolRouter<Self>>,
}

impl NoOp {
    fn new() -> Self {
        let schema = json!({"type": "object", "properties": {"ids": {"type": "array"}}});
        let Value::Object(schema) = schema else { unreachable!("it is written as an object") };
        let tool = Tool::new("no_op", "Does nothing.", Arc::new(schema));
        let route = ToolRoute::new_dyn(tool, |_: ToolCallContext<'_, Self>| {
            async { Ok(CallToolResult::structured(json!({"done": true})).into()) }.boxed()
        });
        let mut router = ToolRouter::new();
        router.add_route(route);
        Self { router: Arc::new(router) }
    }
}

impl ServerHandler for NoOp {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<CallToolResponse, ErrorData>> + Send {
        self.router.call(ToolCallContext::new(self, request, context))
    }
}
