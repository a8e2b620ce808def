//! Reading and naming rows.

use std::sync::Arc;

use a2a_core::agent::Agent;
use a2a_core::ids::{AgentKey, Revision};
use diesel::prelude::*;
use diesel::sql_types::Text;
use serde::Serialize;
use serde_json::json;

use super::schema::{agent_history, agents};
use crate::agent_row::{AgentRow, Common, agent_columns};
use crate::error::StoreError;
use crate::store::{AgentVersion, ToolUsage};

pub(super) fn version(row: AgentRow) -> Result<AgentVersion, StoreError> {
    let removed_at = row.removed_at.map(|time| time.0);
    Ok(AgentVersion { agent: Arc::new(row.into_agent()?), removed_at })
}

/// Every agent that is not removed.
pub(super) fn live(
    conn: &mut SqliteConnection,
    mut each: impl FnMut(Agent) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let rows = agents::table
        .filter(agents::removed_at.is_null())
        .select(agent_columns!(agents))
        .load_iter::<AgentRow, diesel::connection::DefaultLoadingMode>(conn)?;
    let mut common = Common::default();
    for row in rows {
        each(row?.into_agent_with(&mut common)?)?;
    }
    Ok(())
}

/// The agents with these keys, removed ones too.
pub(super) fn by_keys(conn: &mut SqliteConnection, keys: &str) -> Result<Vec<AgentVersion>, StoreError> {
    let wanted = diesel::dsl::sql::<diesel::sql_types::Bool>(
        "(namespace, id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(",
    )
    .bind::<Text, _>(keys)
    .sql("))");
    let rows: Vec<AgentRow> = agents::table.filter(wanted).select(agent_columns!(agents)).load(conn)?;
    rows.into_iter().map(version).collect()
}

pub(super) fn history(
    conn: &mut SqliteConnection,
    key: &AgentKey,
    before: Revision,
    limit: i64,
) -> Result<Vec<AgentVersion>, StoreError> {
    let (namespace, id) = (key.namespace.as_str(), key.id.as_str());
    let current: Vec<AgentRow> = agents::table
        .filter(agents::namespace.eq(namespace).and(agents::id.eq(id)).and(agents::revision.lt(before)))
        .select(agent_columns!(agents))
        .load(conn)?;
    let replaced: Vec<AgentRow> = agent_history::table
        .filter(
            agent_history::namespace
                .eq(namespace)
                .and(agent_history::id.eq(id))
                .and(agent_history::revision.lt(before)),
        )
        .order(agent_history::revision.desc())
        .limit(limit)
        .select(agent_columns!(agent_history))
        .load(conn)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    current.into_iter().chain(replaced).take(limit).map(version).collect()
}

/// `[[namespace, id], ...]` for `json_each` and `jsonb_each`.
pub(super) fn keys_json<'k>(keys: impl Iterator<Item = &'k AgentKey>) -> Result<String, StoreError> {
    json_text(&keys.map(|key| (&key.namespace, &key.id)).collect::<Vec<_>>())
}

/// The JSON text of what a statement takes rows from.
pub(super) fn json_text(rows: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(|error| StoreError::Task(error.to_string()))
}

pub(super) fn tool_usage_json(usage: &[ToolUsage]) -> String {
    let rows = usage.iter().map(|u| {
        json!({
            "at": u.at.0,
            "tool": u.tool,
            "agent": u.agent,
            "actor": u.actor,
            "duration_us": u64::try_from(u.duration.as_micros()).unwrap_or(u64::MAX),
            "request_bytes": u.request_bytes,
            "response_bytes": u.response_bytes,
            "error_code": u.error_code,
        })
    });
    serde_json::Value::from_iter(rows).to_string()
}
