//! The memory: what an agent or a person lets others recall.
//!
//! Invariants:
//! - The trust of a memory never rises: not by an update, not by being told again, not by being derived from others.
//! - A superseded memory stays for history and is out of recall.
//! - Nothing here reads a secret without noticing: [`secrets`] is asked before a memory is made.

pub mod command;
pub mod document;
pub mod experience;
pub mod learning;
pub mod recall;
pub mod retention;
pub mod secrets;
pub mod write;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::agent::ContentHash;
use crate::ids::{Actor, AgentId, MemoryId, Namespace, Revision, RunId, StepName};
use crate::json_text::JsonText;
use crate::time::Timestamp;

/// What kind of thing is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryType {
    /// A turn of a conversation.
    Conversation,
    /// How something is done.
    Procedural,
    /// What happened.
    Episodic,
    /// What is so.
    Semantic,
    /// How a tool was used and what came of it.
    ToolUsage,
    /// What somebody likes or wants.
    Preference,
}

impl MemoryType {
    /// Every type with its name in documents.
    pub const ALL: [(&str, Self); 6] = [
        ("conversation", Self::Conversation),
        ("procedural", Self::Procedural),
        ("episodic", Self::Episodic),
        ("semantic", Self::Semantic),
        ("tool_usage", Self::ToolUsage),
        ("preference", Self::Preference),
    ];

    /// The name in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::Procedural => "procedural",
            Self::Episodic => "episodic",
            Self::Semantic => "semantic",
            Self::ToolUsage => "tool_usage",
            Self::Preference => "preference",
        }
    }

    /// The type with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, kind)| *kind)
    }

    /// The importance of a memory that names none, 0 to 1.
    #[must_use]
    pub fn default_importance(self) -> f32 {
        match self {
            Self::Conversation | Self::ToolUsage => 0.3,
            Self::Episodic => 0.5,
            Self::Semantic => 0.6,
            Self::Procedural => 0.7,
            Self::Preference => 0.8,
        }
    }

    /// The decay of a memory that names none: the part of its strength that it loses in a day. A turn of a conversation
    /// has half its strength after a week, what a tool did after two, what happened after a month, how something is done
    /// after half a year, a fact after a year and a preference after two.
    #[must_use]
    pub fn default_decay(self) -> f32 {
        match self {
            Self::Conversation => 0.1,
            Self::ToolUsage => 0.05,
            Self::Episodic => 0.02,
            Self::Procedural => 0.004,
            Self::Semantic => 0.002,
            Self::Preference => 0.001,
        }
    }
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far the words of a memory may be relied on. Ordered: the lowest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Text from outside: a page, a message, the output of a tool, an imported file.
    External,
    /// What an agent concluded or did.
    Agent,
    /// What a person said.
    User,
    /// What the operator of this installation wrote.
    Operator,
}

impl Trust {
    /// Every level with its name, the lowest first.
    pub const ALL: [(&str, Self); 4] =
        [("external", Self::External), ("agent", Self::Agent), ("user", Self::User), ("operator", Self::Operator)];

    /// The name in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Agent => "agent",
            Self::User => "user",
            Self::Operator => "operator",
        }
    }

    /// The level with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, trust)| *trust)
    }

    /// The trust of a text that was made from others: the lowest of all.
    #[must_use]
    pub fn derived(self, from: impl IntoIterator<Item = Self>) -> Self {
        from.into_iter().fold(self, Self::min)
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a memory comes from. The server stamps it; no caller can choose its trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// Who stored it first, as declared.
    pub author: Actor,
    /// How far it may be relied on.
    pub trust: Trust,
    /// The memories that it was made from.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub derived_from: Box<[MemoryId]>,
}

/// That a memory has to do with another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Relation {
    /// In a word or two, such as `caused_by`.
    pub kind: Arc<str>,
    /// The other memory, which may be gone by now.
    pub to: MemoryId,
}

/// The document of a memory: everything that its author decides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemorySpec {
    /// The namespace it lives in.
    pub namespace: Namespace,
    /// What kind of thing it is.
    #[serde(rename = "type")]
    pub kind: MemoryType,
    /// What is remembered, in words.
    pub content: Arc<str>,
    /// The same in a form for programs, an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<JsonText>,
    /// Sorted, without doubles.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub tags: Box<[Arc<str>]>,
    /// 0 to 1.
    pub importance: f32,
    /// The part of its strength that it loses in a day, 0 to 1.
    pub decay: f32,
    /// From then on it is out of recall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Names the fact: a newer memory of the same key, agent and user supersedes the older one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// Whose it is; kept when the agent goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The conversation or work session that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
    /// Whom it is about or who said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// The run that it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The step of that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// The memories that it takes the place of.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub supersedes: Box<[MemoryId]>,
    /// The memories that it has to do with.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub relations: Box<[Relation]>,
}

impl MemorySpec {
    /// The document as compact JSON; its length is what the document limit counts.
    ///
    /// # Errors
    /// When the stored data is not JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Two memories with the same hash say the same: same type, agent, user and key, same data, and the same words with
    /// any white space between them. For turns of a conversation the session counts too.
    #[must_use]
    pub fn content_hash(&self) -> ContentHash {
        let mut hasher = Sha256::new();
        let session = self.session.as_deref().filter(|_| self.kind == MemoryType::Conversation);
        let parts = [
            Some(self.namespace.as_str()),
            Some(self.kind.as_str()),
            self.agent.as_ref().map(AgentId::as_str),
            self.user.as_deref(),
            self.key.as_deref(),
            session,
            self.data.as_ref().map(JsonText::as_str),
        ];
        for part in parts {
            // No part holds a NUL, so that the parts can't run into each other; absent differs from empty.
            hasher.update([u8::from(part.is_some())]);
            hasher.update(part.unwrap_or_default().as_bytes());
            hasher.update([0]);
        }
        for word in self.content.split_whitespace() {
            hasher.update(word.as_bytes());
            hasher.update([b' ']);
        }
        hasher.finalize().into()
    }
}

/// A memory as the database holds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Memory {
    /// Unique everywhere.
    pub id: MemoryId,
    /// The document.
    #[serde(flatten)]
    pub spec: MemorySpec,
    /// Where it comes from.
    pub provenance: Provenance,
    /// The hash of what it says.
    #[serde(skip)]
    pub content_hash: ContentHash,
    /// How often it was told: 1 at first.
    pub frequency: u32,
    /// How often it was recalled.
    pub accesses: u32,
    /// When it was last told or recalled.
    pub last_accessed: Timestamp,
    /// The memory that took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<MemoryId>,
    /// Raised by the database at each change.
    pub revision: Revision,
    /// When it was first told.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Who made the last change, as declared.
    pub updated_by: Actor,
}

impl Memory {
    /// Whether it is out of recall because its time has passed.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.spec.expires_at.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests;
