//! Contacts with agents: what is sent to the database, and the rows of `agent_checks`.

use std::time::Instant;

use a2a_core::agent_check::AgentCheck;
use a2a_core::ids::{Actor, AgentKey, Revision};
use diesel::deserialize::Queryable;

use crate::agent_row::{StoredTime, stored_key};

/// A contact that somebody has just had.
#[derive(Debug, Clone)]
pub struct NotedCheck {
    /// With whom.
    pub key: AgentKey,
    /// The revision of the agent that the contact was with. It is not written when the agent has changed since.
    pub agent_revision: Revision,
    /// Whether the agent was reached.
    pub reachable: bool,
    /// Why it was not, or what is remarkable about its answer; see [`a2a_core::agent_check::check_detail`].
    pub detail: Option<Box<str>>,
    /// When. The database is told how long ago that was, so that its clock counts.
    pub at: Instant,
    /// Who has had the contact.
    pub checked_by: Actor,
}

impl NotedCheck {
    pub(crate) fn age_ms(&self) -> i64 {
        i64::try_from(self.at.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// A contact in the database, with whose it is.
pub type StoredCheck = (AgentKey, AgentCheck);

/// The columns of an [`AgentCheckRow`].
macro_rules! check_columns {
    () => {
        "namespace, id, reachable, detail, checked_at, checked_by, revision"
    };
}
pub(crate) use check_columns;

/// One row, in the order of [`check_columns`].
#[derive(Debug, Queryable)]
pub(crate) struct AgentCheckRow {
    namespace: String,
    id: String,
    reachable: bool,
    detail: Option<String>,
    checked_at: StoredTime,
    checked_by: String,
    revision: i64,
}

impl From<AgentCheckRow> for StoredCheck {
    fn from(row: AgentCheckRow) -> Self {
        let check = AgentCheck {
            reachable: row.reachable,
            detail: row.detail.map(Into::into),
            checked_at: row.checked_at.0,
            checked_by: Actor::new(&row.checked_by),
            revision: row.revision,
        };
        (stored_key(row.namespace, row.id), check)
    }
}
