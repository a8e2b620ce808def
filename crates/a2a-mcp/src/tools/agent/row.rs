//! Agents as lists and replies show them.

use std::time::Duration;

use a2a_core::agent::Agent;
use a2a_core::agent_check::{AgentContact, AgentStatus, ago};
use a2a_core::time::Timestamp;
use a2a_engine::hub::Hub;
use schemars::JsonSchema;
use serde::Serialize;

pub(super) use crate::text::{one_line, shortened};

/// Longest description in a row.
const DESCRIPTION_CHARS: usize = 160;

/// An agent in a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline, description = "")]
pub(super) struct AgentRow {
    pub(super) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    description: String,
    category: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    capabilities: Vec<String>,
    revision: i64,
    /// Only when false.
    #[serde(skip_serializing_if = "is_true")]
    enabled: bool,
    /// What to use instead, or "yes".
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecated: Option<String>,
    /// Absent: declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_checked: Option<String>,
    /// The last two in words.
    #[serde(skip)]
    contact: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

impl AgentRow {
    pub(super) fn of(agent: &Agent, contact: &AgentContact) -> Self {
        let spec = &agent.spec;
        let last_checked = contact.last_checked();
        Self {
            id: spec.id.to_string(),
            name: (*spec.name != *spec.id.as_str()).then(|| spec.name.to_string()),
            description: shortened(&spec.description, DESCRIPTION_CHARS),
            category: spec.category.to_string(),
            tags: spec.tags.iter().map(ToString::to_string).collect(),
            capabilities: spec.capabilities.iter().map(|c| c.name.to_string()).collect(),
            revision: agent.revision,
            enabled: spec.enabled,
            deprecated: spec
                .deprecated
                .as_ref()
                .map(|d| d.successor.as_ref().map_or_else(|| "yes".to_owned(), |s| format!("use {s}"))),
            status: (contact.status != AgentStatus::Declared).then(|| contact.status.as_str()),
            last_checked: last_checked.map(|at| at.to_string()),
            contact: last_checked.map(|at| format!("{} {}", contact.status, ago(at, now()))),
        }
    }

    /// One line. Line breaks in stored text become spaces, so that no stored text can look like a row of its own.
    pub(super) fn line(&self) -> String {
        let mut line = format!("{} [{}] {}", self.id, one_line(&self.category), one_line(&self.description));
        if !self.enabled {
            line.push_str(" (disabled)");
        }
        if let Some(successor) = &self.deprecated {
            line.push_str(&format!(" (deprecated: {successor})"));
        }
        if let Some(contact) = &self.contact {
            line.push_str(&format!(" ({contact})"));
        }
        line
    }
}

fn now() -> Timestamp {
    Timestamp::from_system_time(std::time::SystemTime::now())
}

/// How old an answer may be, in milliseconds, when that is worth telling.
pub(super) fn stale_ms(hub: &Hub) -> Option<u64> {
    hub.stale().map(|age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}
