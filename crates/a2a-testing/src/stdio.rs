//! A client that drives the real server binary over pipes or socket pairs and checks every byte of its stdout.
//!
//! Any number of requests may be open at once. Whatever the server writes to stdout that is not one JSON-RPC 2.0
//! message per line, or answers nothing that was asked, is recorded; [`ServerProcess::finish`] asserts that there
//! was none. Every wait has a limit. A server under test gets a home folder of its own and none of the developer's
//! `DATABASE_URL` and `A2A_*` variables.
//!
//! ```no_run
//! # async fn example() {
//! use a2a_testing::{binary::server_binary, stdio::ServerProcess};
//! use serde_json::json;
//!
//! let server = ServerProcess::spawn(&server_binary(), &["serve"], &[("A2A_STORAGE", "memory")]).await;
//! server.initialize("some-client").await.expect("the server answers");
//! let reply = server.call_tool("agent_list", json!({})).await.expect("the server answers");
//! assert!(!reply.is_error, "{}", reply.text);
//! server.finish().await;
//! # }
//! ```

mod incoming;
mod process;
mod rpc;

use std::path::PathBuf;
use std::time::Duration;

pub use self::incoming::PendingReply;
pub use self::process::ServerProcess;
pub use self::rpc::{Era, RpcError, ToolReply};

/// How long a request may take before its caller gets [`RpcError::Timeout`], unless the options say otherwise.
/// Longer than every deadline that the server promises.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The protocol version of the stateless era.
pub const MODERN_VERSION: &str = "2026-07-28";
/// The protocol version of the era with a handshake.
pub const LEGACY_VERSION: &str = "2025-11-25";

/// What connects the client to the server's stdin and stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wire {
    /// Two pipes (FIFOs), as shells and most clients use.
    #[default]
    Pipes,
    /// Two UNIX socket pairs, as clients built on Node use.
    SocketPairs,
}

/// What happens to the server's stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stderr {
    /// It is read, and its end kept for [`ServerProcess::stderr_tail`].
    #[default]
    Captured,
    /// It is a pipe that nobody reads, as some clients leave it.
    Unread,
}

/// How to start a server.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Arguments of the binary.
    pub args: Vec<String>,
    /// Environment variables on top of the cleaned environment.
    pub envs: Vec<(String, String)>,
    /// What stdin and stdout are.
    pub wire: Wire,
    /// What happens to stderr.
    pub stderr: Stderr,
    /// The working directory; a temporary folder unless set.
    pub folder: Option<PathBuf>,
    /// The home folder, for servers that are to share one; a temporary folder unless set.
    pub home: Option<PathBuf>,
    /// The limit of one request; [`REQUEST_LIMIT`] unless set.
    pub request_limit: Option<Duration>,
}

impl ServerOptions {
    /// Takes arguments and variables, and the defaults for the rest.
    #[must_use]
    pub fn new(args: &[&str], envs: &[(&str, &str)]) -> Self {
        Self {
            args: args.iter().map(|text| (*text).to_owned()).collect(),
            envs: envs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Self::default()
        }
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets what stdin and stdout are.
    #[must_use]
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = wire;
        self
    }

    /// Sets what happens to stderr.
    #[must_use]
    pub fn stderr(mut self, stderr: Stderr) -> Self {
        self.stderr = stderr;
        self
    }

    /// Sets the home folder.
    #[must_use]
    pub fn home(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets the limit of one request.
    #[must_use]
    pub fn request_limit(mut self, limit: Duration) -> Self {
        self.request_limit = Some(limit);
        self
    }
}
