//! The operator's file: what this process may reach and start on behalf of agents and workflows.
//!
//! It is the only place that says so. Without a file nothing is allowed. A file that others could change is refused,
//! because whoever writes it decides which programs run here.
//!
//! ```yaml
//! egress:
//!   allow:
//!     - https://hooks.example.com            # the short form
//!     - origin: https://*.example.org        # every host below example.org, but not example.org itself
//!       headers:
//!         Authorization: Bearer ${EXAMPLE_TOKEN}
//!     - origin: http://127.0.0.1:9000
//!       private: true                        # loopback and private networks need this
//! http:
//!   signing_keys:
//!     https://hooks.example.com: ${HOOKS_SIGNING_KEY}
//! mcp:
//!   servers:
//!     files:
//!       argv: [/usr/local/bin/files-server, --root, /srv/files]
//!       env: {LOG_LEVEL: warn}
//!       cwd: /srv/files
//!       tools: [read_file, list_directory]
//!     search:
//!       url: https://hooks.example.com/mcp
//!       headers: {Authorization: "Bearer ${SEARCH_TOKEN}"}
//!       tools: [search]
//! commands:
//!   render:
//!     argv: [/usr/local/bin/render, --json]
//!     env: {LANG: C.UTF-8}
//!     cwd: /srv/render
//!     timeout_s: 60
//!     output_bytes_max: 65536
//! ```
//!
//! `${NAME}` stands for a variable of the environment in headers, signing keys and `env`; `$${` means `${` itself.
//!
//! The values of headers, signing keys and `env` are taken for secrets, which are taken out of everything that programs
//! and servers say ([`Redaction`]); not so variables such as `PATH` and headers such as `Accept`.

mod access;
mod read;
pub(crate) mod redaction;
mod secret;
mod substitute;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use a2a_core::error::Problems;
use reqwest::header::HeaderMap;

pub(crate) use redaction::CUT;
pub use redaction::Redaction;
pub use secret::Secret;

use crate::egress::OriginPattern;

/// The variable that names the file.
pub const CONFIG_VARIABLE: &str = "A2A_CONFIG";
/// The file in the user's configuration folder.
const FILE_NAME: &str = "config.yaml";
/// Nobody writes more by hand, and a wrong path is refused before it is read whole.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What the operator allows.
#[derive(Debug, Clone, Default)]
pub struct OperatorFile {
    /// Where it was read, or where it would be.
    place: Option<PathBuf>,
    /// Whether there is a file.
    exists: bool,
    /// Origins that may be reached.
    pub egress: Vec<AllowedOrigin>,
    /// MCP servers by name.
    pub mcp_servers: BTreeMap<Box<str>, McpServer>,
    /// Commands by name.
    pub commands: BTreeMap<Box<str>, CommandEntry>,
    /// Takes the secrets of the file out of texts.
    redaction: Redaction,
}

/// Hosts that may be reached.
#[derive(Debug, Clone)]
pub struct AllowedOrigin {
    /// Which.
    pub origin: OriginPattern,
    /// Whether their addresses may be of this machine or of a private network.
    pub private: bool,
    /// Sent with every request; the values are marked as sensitive.
    pub headers: HeaderMap,
    /// Signs the bodies of webhooks.
    pub signing_key: Option<Secret>,
}

/// An MCP server whose tools agents may use.
#[derive(Debug, Clone, PartialEq)]
pub struct McpServer {
    /// How it is reached.
    pub connection: McpConnection,
    /// The tools that may be called.
    pub tools: BTreeSet<Box<str>>,
}

/// How an MCP server is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum McpConnection {
    /// A program with the protocol on its standard streams.
    Stdio {
        /// The program, as an absolute path, and its arguments; never empty.
        argv: Vec<String>,
        /// Its whole environment.
        env: BTreeMap<String, Secret>,
        /// Its working directory.
        cwd: Option<PathBuf>,
    },
    /// Streamable HTTP.
    Http {
        /// Its origin is among those that may be reached.
        url: String,
        /// Sent with every request besides those of the origin; the values are marked as sensitive.
        headers: HeaderMap,
    },
}

/// A command that agents may run.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandEntry {
    /// The program, as an absolute path, and its arguments; never empty.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, Secret>,
    /// Its working directory; absent means the root directory.
    pub cwd: Option<PathBuf>,
    /// It is killed after this long.
    pub timeout: Duration,
    /// It is killed when it writes more than this.
    pub output_bytes_max: usize,
}

impl OperatorFile {
    /// Nothing is allowed.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the file that was named, or that in the user's configuration folder if there is one.
    ///
    /// # Errors
    /// All problems, those of the content with their path in it.
    pub fn find(named: Option<&Path>) -> Result<Self, Problems> {
        if let Some(path) = named.filter(|path| !path.as_os_str().is_empty()) {
            if !path.is_absolute() {
                // A relative path would be looked up in whatever folder a client happens to start this process.
                let message = format!("is {path:?}; use an absolute path");
                return Err(Problems::one(CONFIG_VARIABLE, message));
            }
            return Self::read(path);
        }
        let Some(folders) = directories::ProjectDirs::from("", "", "a2a-mcp") else { return Ok(Self::none()) };
        let path = folders.config_dir().join(FILE_NAME);
        match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { place: Some(path), ..Self::default() })
            }
            _ => Self::read(&path),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// All problems: that it can't be read, that others could change it, or what is wrong in it.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let bytes = access::read_own_file(path, FILE_BYTES_MAX)
            .map_err(|message| Problems::one(path.display().to_string(), message))?;
        Self::parse(&bytes, &|name| std::env::var(name).ok())
            .map(|file| Self { place: Some(path.to_owned()), exists: true, ..file })
            .map_err(|problems| read::in_file(path, problems))
    }

    /// Reads the text of a file; `variable` looks up the environment.
    ///
    /// # Errors
    /// All problems, each with its path in the document.
    pub fn parse(yaml: &[u8], variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        read::parse(yaml, variable).map(|file| Self { exists: true, ..file })
    }

    /// Takes the secrets of the file out of texts.
    #[must_use]
    pub fn redaction(&self) -> &Redaction {
        &self.redaction
    }

    /// Names the file in messages.
    #[must_use]
    pub fn place(&self) -> impl fmt::Display + '_ {
        Place(self)
    }
}

struct Place<'a>(&'a OperatorFile);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.place, self.0.exists) {
            (Some(path), true) => write!(f, "the operator's file {}", path.display()),
            (Some(path), false) => write!(f, "the operator's file, which is not there yet ({})", path.display()),
            (None, true) => f.write_str("the operator's file"),
            (None, false) => write!(f, "the operator's file, of which there is none ({CONFIG_VARIABLE} names it)"),
        }
    }
}
