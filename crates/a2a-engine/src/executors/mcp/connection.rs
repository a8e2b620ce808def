//! A connection to an MCP server, of either era of the protocol.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use parking_lot::RwLock;
use rmcp::model::{ProtocolVersion, Tool};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, ClientServiceExt as _, Peer, RoleClient, RunningService,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError};

use super::handler::Handler;
#[cfg(unix)]
use super::process::Process;
use crate::egress::{Egress, transport_error};
use crate::executors::{excerpt, seconds};
use crate::operator::McpConnection;

/// A server that has not begun by then is not there. Some download themselves when they are started first.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// A result may be somewhat longer than what is kept of it as output.
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// More calls than steps that a process can be set to work on at once.
const CALLS_MAX: usize = 512;
const ERROR_CHARS_MAX: usize = 500;

/// Why a server can't be used.
pub(super) struct ConnectError {
    pub(super) message: String,
    pub(super) retryable: bool,
    /// Whether the server was reached; nothing when the operator's file does not allow to try.
    pub(super) reached: Option<bool>,
}

/// A live connection. Dropping it ends it, and the server with it if this process has started it.
pub(super) struct Connection {
    service: RunningService<RoleClient, Handler>,
    /// Whether each tool may be called again, by name.
    tools: RwLock<HashMap<String, bool>>,
    #[cfg(unix)]
    process: Option<Process>,
}

impl Connection {
    pub(super) fn is_alive(&self) -> bool {
        !self.service.peer().is_transport_closed()
    }

    pub(super) fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    pub(super) fn handler(&self) -> &Handler {
        self.service.service()
    }

    /// What a program has complained of last.
    pub(super) async fn last_words(&self) -> String {
        #[cfg(unix)]
        if let Some(process) = &self.process {
            return process.last_words().await;
        }
        String::new()
    }

    /// Whether a tool says that calling it again does no harm; nothing when the server does not have it.
    ///
    /// # Errors
    /// When the server does not say which tools it has.
    pub(super) async fn is_repeatable(&self, tool: &str) -> Result<Option<bool>, String> {
        let known = self.tools.read().get(tool).copied();
        if known.is_some() {
            return Ok(known);
        }
        // It may be newer than the connection.
        self.has(tool).await?;
        Ok(self.tools.read().get(tool).copied())
    }

    /// Asks the server which tools it has, and whether this one is among them.
    ///
    /// # Errors
    /// When it does not say.
    pub(super) async fn has(&self, tool: &str) -> Result<bool, String> {
        let failed = |why: String| format!("it does not say which tools it has: {why}");
        let tools = match tokio::time::timeout(LIST_TIMEOUT, self.peer().list_all_tools()).await {
            Ok(tools) => tools.map_err(|error| failed(explain(&error).0))?,
            Err(_) => return Err(failed(format!("no answer within {}", seconds(LIST_TIMEOUT)))),
        };
        *self.tools.write() = repeatable(&tools);
        Ok(tools.iter().any(|listed| listed.name == tool))
    }
}

fn repeatable(tools: &[Tool]) -> HashMap<String, bool> {
    let says = |tool: &Tool| {
        tool.annotations
            .as_ref()
            .is_some_and(|hints| hints.read_only_hint == Some(true) || hints.idempotent_hint == Some(true))
    };
    tools.iter().map(|tool| (tool.name.to_string(), says(tool))).collect()
}

/// Connects, and asks for the tools.
pub(super) async fn connect(to: &McpConnection, egress: &Egress) -> Result<Connection, ConnectError> {
    let connecting = async {
        match to {
            McpConnection::Stdio { .. } => connect_stdio(to).await,
            McpConnection::Http { url, headers } => connect_http(url, headers, egress).await,
        }
    };
    let connection = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected?,
        Err(_) => return Err(retryable("it does not begin in time")),
    };
    // The answer is kept; whether the one tool is there is asked when it is called.
    connection.has("").await.map_err(retryable)?;
    Ok(connection)
}

fn retryable(message: impl Into<String>) -> ConnectError {
    ConnectError { message: message.into(), retryable: true, reached: Some(false) }
}

/// The newer era where the server has it, else the older one.
fn either_era() -> ClientLifecycleMode {
    ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::LATEST],
        legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
    }
}

#[cfg(unix)]
async fn connect_stdio(to: &McpConnection) -> Result<Connection, ConnectError> {
    use rmcp::transport::async_rw::AsyncRwTransport;

    let McpConnection::Stdio { argv, env, cwd } = to else { return Err(retryable("internal error: it is no program")) };
    let started = Process::start(argv, env, cwd.as_deref());
    let (process, stdout, stdin) = started.map_err(|error| {
        use std::io::ErrorKind::{InvalidInput, NotADirectory, NotFound, PermissionDenied};
        let lasting = matches!(error.kind(), NotFound | PermissionDenied | NotADirectory | InvalidInput);
        ConnectError { message: format!("it could not be started: {error}"), retryable: !lasting, reached: Some(false) }
    })?;
    match Handler::default().serve_with_lifecycle(AsyncRwTransport::new_client(stdout, stdin), either_era()).await {
        Ok(service) => Ok(Connection { service, tools: RwLock::default(), process: Some(process) }),
        Err(error) => {
            let said = process.last_words().await;
            let said = if said.is_empty() { String::new() } else { format!("; it wrote: {said}") };
            Err(retryable(format!("{}{said}", explain_start(&error).0)))
        }
    }
}

#[cfg(not(unix))]
async fn connect_stdio(_to: &McpConnection) -> Result<Connection, ConnectError> {
    let message = "it is not started on this operating system".to_owned();
    Err(ConnectError { message, retryable: false, reached: None })
}

async fn connect_http(
    url: &str,
    headers: &reqwest::header::HeaderMap,
    egress: &Egress,
) -> Result<Connection, ConnectError> {
    let (client, target) = egress.client(url).await.map_err(|error| {
        let retryable = error.is_transient();
        ConnectError { message: error.to_string(), retryable, reached: retryable.then_some(false) }
    })?;
    let headers: HashMap<_, _> = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let transport = || {
        let config = StreamableHttpClientTransportConfig::with_uri(target.as_str())
            .custom_headers(headers.clone())
            .max_concurrent_requests(CALLS_MAX)
            .max_sse_event_size(RESPONSE_BYTES_MAX)
            .max_json_response_size(RESPONSE_BYTES_MAX);
        StreamableHttpClientTransport::with_client(client.clone(), config)
    };
    let newer = Handler::default().serve_with_lifecycle(transport(), either_era()).await;
    let connected = match newer {
        Err(error) if may_be_older(&error) => {
            // Some servers of the older era refuse the first request in ways that don't look like it.
            Handler::older().serve_with_lifecycle(transport(), ClientLifecycleMode::Initialize).await
        }
        connected => connected,
    };
    match connected {
        Ok(service) => Ok(Connection {
            service,
            tools: RwLock::default(),
            #[cfg(unix)]
            process: None,
        }),
        Err(error) if error.is_authorization_required() => Err(ConnectError {
            message: "it wants credentials, which belong into its headers in the operator's file".to_owned(),
            retryable: false,
            reached: Some(true),
        }),
        Err(error) => Err(retryable(explain_start(&error).0)),
    }
}

fn may_be_older(error: &ClientInitializeError) -> bool {
    !error.is_authorization_required() && !explain_start(error).1
}

/// What an error of the transport says, without the URL in it, and whether it means that nothing was sent.
pub(super) fn explain(error: &(dyn Error + 'static)) -> (String, bool) {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(StreamableHttpError::Client(client)) = inner.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
            return (transport_error(client), client.is_connect());
        }
        cause = inner.source();
    }
    (excerpt(error.to_string().as_bytes(), ERROR_CHARS_MAX), false)
}

/// The same of a connection that could not be made.
fn explain_start(error: &ClientInitializeError) -> (String, bool) {
    match error {
        // It does not name its cause as such.
        ClientInitializeError::TransportError { error, .. } => explain(error),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => explain_start(fallback),
        error => explain(error),
    }
}
