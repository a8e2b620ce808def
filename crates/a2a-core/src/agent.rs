//! The agent: what a client deploys, and what the registry keeps.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::ids::{Actor, AgentId, AgentKey, Namespace, Revision};
use crate::json_text::JsonText;
use crate::time::Timestamp;

/// The document of an agent: everything that its author decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentSpec {
    /// The namespace it lives in.
    pub namespace: Namespace,
    /// Unique in the namespace.
    pub id: AgentId,
    /// Shown to people.
    pub name: Box<str>,
    /// Semantic version.
    pub version: Box<str>,
    /// When to use it.
    pub description: Box<str>,
    /// The brief it works by.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub instructions: Box<str>,
    /// One word that groups agents.
    pub category: Arc<str>,
    /// Sorted, without doubles.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub tags: Box<[Arc<str>]>,
    /// A disabled agent stays in the registry and gets no work.
    pub enabled: bool,
    /// What it can do, with unique names.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub capabilities: Box<[Capability]>,
    /// How its work is done.
    pub executor: Executor,
    /// Free settings, an object.
    pub config: JsonText,
    /// Set when it should no longer be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<Deprecation>,
}

/// One thing that an agent can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// Unique in the agent.
    pub name: Box<str>,
    /// What it does.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub description: Box<str>,
    /// JSON Schema 2020-12 of the input; absent means any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<JsonText>,
    /// JSON Schema 2020-12 of the output; absent means any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<JsonText>,
    /// Questions that it answers; search reads them.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub example_queries: Box<[Box<str>]>,
}

/// How the work of an agent is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Executor {
    /// Which kind.
    pub kind: ExecutorKind,
    /// Settings of that kind, an object.
    pub settings: JsonText,
}

impl Default for Executor {
    fn default() -> Self {
        Self { kind: ExecutorKind::Pull, settings: JsonText::empty_object() }
    }
}

/// The kinds of executors there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorKind {
    /// A client session takes the work.
    Pull,
    /// This server does it: echo, transform, wait or gate.
    Builtin,
    /// An agent of the A2A protocol over HTTP.
    A2a,
    /// A tool of an MCP server that the operator lists.
    Mcp,
    /// A webhook.
    Http,
    /// A command that the operator's file names.
    Command,
}

impl ExecutorKind {
    /// Every kind with its name in documents.
    pub const ALL: [(&str, Self); 6] = [
        ("pull", Self::Pull),
        ("builtin", Self::Builtin),
        ("a2a", Self::A2a),
        ("mcp", Self::Mcp),
        ("http", Self::Http),
        ("command", Self::Command),
    ];

    /// The name in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Builtin => "builtin",
            Self::A2a => "a2a",
            Self::Mcp => "mcp",
            Self::Http => "http",
            Self::Command => "command",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, kind)| *kind)
    }
}

impl fmt::Display for ExecutorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an agent should no longer be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deprecation {
    /// The agent to use instead, in the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub successor: Option<AgentId>,
    /// Why.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: Box<str>,
}

/// SHA-256 of a document: two documents are the same when their hashes are.
pub type ContentHash = [u8; 32];

impl AgentSpec {
    /// What names this agent.
    #[must_use]
    pub fn key(&self) -> AgentKey {
        AgentKey { namespace: self.namespace.clone(), id: self.id.clone() }
    }

    /// The document as compact JSON; its length is what the document limit counts.
    ///
    /// # Errors
    /// When a stored JSON text is not JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// Hashes the compact JSON of a document.
#[must_use]
pub fn content_hash(document: &str) -> ContentHash {
    Sha256::digest(document.as_bytes()).into()
}

/// An agent as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Agent {
    /// The document.
    #[serde(flatten)]
    pub spec: AgentSpec,
    /// Raised by the database at each change.
    pub revision: Revision,
    /// When the id was first deployed.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was last deployed; an update, a restart or an unchanged deploy leave it.
    pub deployed_at: Timestamp,
    /// Who made the last change, as declared.
    pub updated_by: Actor,
}

impl Agent {
    /// What names this agent.
    #[must_use]
    pub fn key(&self) -> AgentKey {
        self.spec.key()
    }
}
