//! A small MCP server over streamable HTTP whose calls are counted, and whose connections can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, InputRequiredResult, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the tools have done.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) calls: AtomicUsize,
    pub(crate) cancelled: AtomicUsize,
    /// Lets one call of `steps` end.
    pub(crate) end: Notify,
}

#[derive(Clone, Default)]
struct Tools {
    counts: Arc<Counts>,
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tool = |name: &'static str, hints: ToolAnnotations| {
            let schema = json!({"type": "object"}).as_object().unwrap().clone();
            Tool::new(name, name, schema).with_annotations(hints)
        };
        let (plain, read) = (ToolAnnotations::new(), ToolAnnotations::new().read_only(true));
        let again = ToolAnnotations::new().idempotent(true);
        Ok(ListToolsResult::with_all_items(vec![
            tool("sum", read.clone()),
            tool("fail", plain.clone()),
            tool("fail_reading", read.clone()),
            tool("hang", plain.clone()),
            tool("hang_again", again),
            tool("ask", plain.clone()),
            tool("steps", plain),
            tool("secret", read),
        ]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.counts.calls.fetch_add(1, Ordering::SeqCst);
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let done = |result: CallToolResult| Ok(CallToolResponse::Complete(result));
        match &*request.name {
            "sum" => {
                let sum = arguments["a"].as_i64().unwrap_or(0) + arguments["b"].as_i64().unwrap_or(0);
                done(CallToolResult::structured(json!({"sum": sum})))
            }
            "fail" | "fail_reading" => done(CallToolResult::error(vec![ContentBlock::text("it is broken")])),
            "hang" | "hang_again" => {
                context.ct.cancelled().await;
                self.counts.cancelled.fetch_add(1, Ordering::SeqCst);
                done(CallToolResult::success(vec![]))
            }
            "ask" => Ok(CallToolResponse::InputRequired(InputRequiredResult::from_request_state("which?"))),
            "steps" => {
                let token = context.meta.get_progress_token().expect("the client wants to know");
                for step in 1..=4 {
                    let progress = ProgressNotificationParam::new(token.clone(), f64::from(step)).with_total(4.0);
                    context.peer.notify_progress(progress).await.unwrap();
                }
                self.counts.end.notified().await;
                done(CallToolResult::success(vec![ContentBlock::text("four steps")]))
            }
            _ => Err(ErrorData::invalid_params("no such tool", None)),
        }
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) counts: Arc<Counts>,
    running: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0", Arc::default()).await
    }

    /// The same server after it was stopped.
    pub(crate) async fn restart(self) -> Self {
        let Self { address, counts, running } = self;
        drop(running);
        Self::start_at(&address.to_string(), counts).await
    }

    async fn start_at(address: &str, counts: Arc<Counts>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tools = Tools { counts: counts.clone() };
        let sessions = Arc::new(LocalSessionManager::default());
        let mut config = StreamableHttpServerConfig::default();
        config.cancellation_token = CancellationToken::new();
        let service = StreamableHttpService::new(move || Ok(tools.clone()), sessions, config);
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(service.clone());
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move {
                    // A client that goes away is no concern of the server.
                    let _gone = serving.await;
                });
            }
        });
        Self { address, counts, running }
    }

    /// Cuts all connections and accepts no more.
    pub(crate) fn stop(&mut self) {
        self.running.abort_all();
    }

    pub(crate) fn calls(&self) -> usize {
        self.counts.calls.load(Ordering::SeqCst)
    }
}
