//! Whether an agent can be reached: what the last real contact with it has shown.
//!
//! Nothing here is a guess. A status other than [`AgentStatus::Declared`] was written by somebody who has spoken with
//! the agent, or tried to, since it was last changed.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::agent::{Agent, ExecutorKind};
use crate::ids::{Actor, Revision};
use crate::limits::CHECK_DETAIL_CHARS_MAX;
use crate::time::Timestamp;

/// What is known of whether an agent can be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// Nobody has had contact since it was last changed.
    #[default]
    Declared,
    /// The last contact was answered. The built-in ones are part of every process and always so.
    Reachable,
    /// The last attempt to reach it has failed.
    Unreachable,
}

impl AgentStatus {
    /// Every status with its name.
    pub const ALL: [(&str, Self); 3] =
        [("declared", Self::Declared), ("reachable", Self::Reachable), ("unreachable", Self::Unreachable)];

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Reachable => "reachable",
            Self::Unreachable => "unreachable",
        }
    }

    /// The status of an agent whose last contact since its change is `check`.
    #[must_use]
    pub fn of(agent: &Agent, check: Option<&AgentCheck>) -> Self {
        match check {
            _ if agent.spec.executor.kind == ExecutorKind::Builtin => Self::Reachable,
            None => Self::Declared,
            Some(check) if check.reachable => Self::Reachable,
            Some(_) => Self::Unreachable,
        }
    }
}

impl fmt::Display for AgentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One contact with an agent, as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCheck {
    /// Whether it was reached.
    pub reachable: bool,
    /// Why it was not, or what is remarkable about its answer.
    pub detail: Option<Box<str>>,
    /// When, by the clock of the database.
    pub checked_at: Timestamp,
    /// Who has had the contact.
    pub checked_by: Actor,
    /// Raised by the database at each contact that is noted.
    pub revision: Revision,
}

impl AgentCheck {
    /// Whether it says something of the agent as it is now: what was seen before a change may not hold after it.
    #[must_use]
    pub fn is_about(&self, agent: &Agent) -> bool {
        self.checked_at >= agent.updated_at
    }
}

/// Whether an agent can be reached, and since when that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentContact {
    /// In one word.
    pub status: AgentStatus,
    /// The last contact since the agent was changed. The built-in ones have none.
    pub check: Option<Arc<AgentCheck>>,
}

impl AgentContact {
    /// When the agent was last spoken with, or tried to.
    #[must_use]
    pub fn last_checked(&self) -> Option<Timestamp> {
        self.check.as_ref().map(|check| check.checked_at)
    }

    /// Why it was not reached, or what is remarkable about its answer.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.check.as_ref()?.detail.as_deref()
    }
}

/// What is kept of a reason: one line of printable text, cut where it gets long. Nothing is left of blank text.
#[must_use]
pub fn check_detail(text: &str) -> Option<Box<str>> {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let detail = match line.char_indices().nth(CHECK_DETAIL_CHARS_MAX) {
        // The mark that it was cut counts as well.
        Some(_) => line.chars().take(CHECK_DETAIL_CHARS_MAX - 1).chain(['…']).collect(),
        None => line,
    };
    (!detail.is_empty()).then(|| detail.into())
}

/// How long ago something was, in the unit that people would take.
#[must_use]
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(at).as_secs();
    match seconds {
        0 => "just now".to_owned(),
        1..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_one_line_of_limited_length() {
        assert_eq!(check_detail(" a\0b\n\tc ").as_deref(), Some("a b c"));
        assert_eq!(check_detail(" \n "), None);
        for n in [CHECK_DETAIL_CHARS_MAX - 1, CHECK_DETAIL_CHARS_MAX] {
            assert_eq!(check_detail(&"ä".repeat(n)).unwrap().chars().count(), n);
        }
        let cut = check_detail(&"ä".repeat(CHECK_DETAIL_CHARS_MAX + 1)).unwrap();
        assert_eq!(cut.chars().count(), CHECK_DETAIL_CHARS_MAX);
        assert!(cut.ends_with("ä…"), "{cut}");
    }

    #[test]
    fn ages_are_told_in_one_unit() {
        for (seconds, text) in [
            (-5, "just now"),
            (0, "just now"),
            (59, "59 s ago"),
            (119, "1 min ago"),
            (7_199, "1 h ago"),
            (172_800, "2 d ago"),
        ] {
            assert_eq!(ago(Timestamp(1_000_000), Timestamp(1_000_000 + seconds * 1_000)), text);
        }
    }
}
