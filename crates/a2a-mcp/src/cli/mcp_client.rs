//! An MCP client with a server process of its own, as Claude Desktop or Cursor would have.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rmcp::model::{CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation};
use rmcp::service::{Peer, RunningService};
use rmcp::{RoleClient, ServiceExt as _};
use serde_json::Value;
use tokio::process::{Child, Command};

/// A healthy server ends by itself far sooner.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// What did not work.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ClientError(String);

fn failed(what: impl Into<String>) -> ClientError {
    ClientError(what.into())
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// A client and its server process.
pub(super) struct Client {
    child: Child,
    service: RunningService<RoleClient, ClientConfig>,
}

impl Client {
    /// Launches a server, whose standard error the command may redirect, and opens the session.
    pub(super) async fn launch(name: &str, mut command: Command) -> Result<Self, ClientError> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let (Some(output), Some(input)) = (child.stdout.take(), child.stdin.take()) else {
            return Err(failed("the server process has no standard streams"));
        };
        let config =
            ClientConfig::new(ClientCapabilities::default(), Implementation::new(name, env!("CARGO_PKG_VERSION")));
        let service = config
            .serve((output, input))
            .await
            .map_err(|error| failed(format!("the server of {name} does not answer: {error}")))?;
        Ok(Self { child, service })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    pub(super) fn peer(&self) -> Peer<RoleClient> {
        self.service.peer().clone()
    }

    /// How many tools the server offers.
    pub(super) async fn tools(&self) -> Result<usize, ClientError> {
        let tools = self.service.peer().list_all_tools().await;
        tools.map(|tools| tools.len()).map_err(|error| failed(format!("tools/list: {error}")))
    }

    pub(super) async fn call(&self, tool: &'static str, arguments: Value) -> Result<Value, ClientError> {
        call(self.service.peer(), tool, arguments).await
    }

    /// Kills the server process with SIGKILL.
    pub(super) async fn kill(&mut self) -> Result<(), ClientError> {
        Ok(self.child.kill().await?)
    }

    /// Closes the stream, as a client does that ends, and returns how long the server took to end.
    pub(super) async fn leave(mut self) -> Result<Duration, ClientError> {
        let started = Instant::now();
        self.service.cancel().await.map_err(|error| failed(format!("the session could not be closed: {error}")))?;
        let status = tokio::time::timeout(LEAVE_LIMIT, self.child.wait())
            .await
            .map_err(|_| failed("a server process did not end after its client had left"))??;
        if !status.success() {
            return Err(failed(format!("a server process ended with {status}")));
        }
        Ok(started.elapsed())
    }
}

/// Calls a tool and returns its structured result.
pub(super) async fn call(peer: &Peer<RoleClient>, tool: &'static str, arguments: Value) -> Result<Value, ClientError> {
    let Value::Object(arguments) = arguments else {
        return Err(failed("arguments are an object"));
    };
    let result = peer
        .call_tool(CallToolRequestParams::new(tool).with_arguments(arguments))
        .await
        .map_err(|error| failed(format!("{tool}: {error}")))?;
    match (result.is_error, result.structured_content) {
        (Some(true), _) => {
            let text = result.content.first().and_then(|block| block.as_text()).map(|text| text.text.clone());
            Err(failed(format!("{tool}: {}", text.unwrap_or_default())))
        }
        (_, Some(value)) => Ok(value),
        (_, None) => Err(failed(format!("{tool} gave no structured result"))),
    }
}
