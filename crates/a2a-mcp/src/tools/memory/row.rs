//! Memories as replies show them.

use a2a_core::memory::Memory;
use a2a_core::memory::recall::RecallHit;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::text::{fenced, one_line, shortened};
use crate::tool_error::ToolError;

/// Longest content in a row.
const CONTENT_CHARS: usize = 280;

/// A memory in a list.
#[derive(Debug, Serialize)]
pub(in crate::tools) struct MemoryRow {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    content: String,
    /// Bytes of the content when it is cut; read it whole by ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    trust: &'static str,
    author: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl MemoryRow {
    pub(in crate::tools) fn of(memory: &Memory) -> Self {
        let spec = &memory.spec;
        let content = shortened(&spec.content, CONTENT_CHARS);
        Self {
            id: memory.id.to_string(),
            kind: spec.kind.as_str(),
            bytes: (content.len() < spec.content.len()).then_some(spec.content.len()),
            content,
            tags: spec.tags.iter().map(ToString::to_string).collect(),
            agent: spec.agent.as_ref().map(ToString::to_string),
            key: spec.key.as_ref().map(ToString::to_string),
            trust: memory.provenance.trust.as_str(),
            author: memory.provenance.author.to_string(),
            created_at: memory.created_at.to_string(),
            superseded_by: memory.superseded_by.as_ref().map(ToString::to_string),
            score: None,
            why: None,
        }
    }

    pub(super) fn hit(hit: &RecallHit) -> Self {
        // Two digits tell enough and cost few tokens.
        let score = (f64::from(hit.score) * 100.0).round() / 100.0;
        Self { score: Some(score), why: Some(hit.reason.clone()), ..Self::of(&hit.memory) }
    }

    /// The memory as a text: fenced with its author and trust, since what is inside was written by somebody else.
    pub(in crate::tools) fn text(&self) -> String {
        let mut attributes = vec![
            ("id", self.id.as_str()),
            ("type", self.kind),
            ("author", self.author.as_str()),
            ("trust", self.trust),
            ("at", self.created_at.as_str()),
        ];
        let why = self.why.as_deref().map(one_line);
        attributes.extend(why.as_deref().map(|why| ("why", why)));
        attributes.extend(self.superseded_by.as_deref().map(|id| ("superseded_by", id)));
        fenced("memory", &attributes, &Value::from(self.content.as_str()))
    }
}

/// The whole of a memory.
pub(super) fn document(memory: &Memory) -> Result<Map<String, Value>, ToolError> {
    match serde_json::to_value(memory) {
        Ok(Value::Object(document)) => Ok(document),
        other => {
            tracing::error!(?other, "a memory could not be written as JSON");
            Err(ToolError::internal())
        }
    }
}

/// The whole of a memory as a text.
pub(super) fn document_text(memory: &Memory, document: &Map<String, Value>) -> String {
    let author = memory.provenance.author.to_string();
    let attributes =
        [("id", memory.id.as_str()), ("author", author.as_str()), ("trust", memory.provenance.trust.as_str())];
    fenced("memory", &attributes, &Value::Object(document.clone()))
}
