//! Reading and naming rows.

use std::sync::Arc;

use a2a_core::agent::Agent;
use a2a_core::ids::{AgentKey, Revision};
use diesel::sql_types::{Array, Bool, Text};
use diesel::{BoolExpressionMethods as _, ExpressionMethods as _, QueryDsl as _};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, TryStreamExt as _};
use tokio::sync::mpsc;

use super::schema::{agent_history, agents, tombstones};
use crate::agent_row::{AgentRow, Common, StoredTime, agent_columns, stored_key};
use crate::error::StoreError;
use crate::feed::{CHUNK_AGENTS, StoredRevision};
use crate::store::AgentVersion;

fn version(row: AgentRow) -> Result<AgentVersion, StoreError> {
    let removed_at = row.removed_at.map(|time| time.0);
    Ok(AgentVersion { agent: Arc::new(row.into_agent()?), removed_at })
}

/// Hands over every agent that is not removed.
pub(super) fn live<'c>(
    conn: &'c mut AsyncPgConnection,
    agents: &'c mpsc::Sender<Vec<Agent>>,
) -> BoxFuture<'c, Result<(), StoreError>> {
    async move {
        let gone = |_| StoreError::Task("the reader of the load went away".to_owned());
        let rows = agents::table
            .filter(agents::removed_at.is_null())
            .select(agent_columns!(agents))
            .load_stream::<AgentRow>(conn)
            .await?;
        let mut chunks = std::pin::pin!(rows.map_err(StoreError::from).try_chunks(CHUNK_AGENTS));
        let mut common = Common::default();
        while let Some(rows) = chunks.try_next().await.map_err(|error| error.1)? {
            let agents_of = |row: AgentRow| row.into_agent_with(&mut common);
            let chunk = rows.into_iter().map(agents_of).collect::<Result<Vec<Agent>, _>>()?;
            agents.send(chunk).await.map_err(gone)?;
        }
        Ok(())
    }
    .boxed()
}

/// The agents with these keys, removed ones too.
pub(super) fn by_keys<'c>(
    conn: &'c mut AsyncPgConnection,
    keys: &'c [AgentKey],
) -> BoxFuture<'c, Result<Vec<AgentVersion>, StoreError>> {
    async move {
        let namespaces: Vec<&str> = keys.iter().map(|key| key.namespace.as_str()).collect();
        let ids: Vec<&str> = keys.iter().map(|key| key.id.as_str()).collect();
        let wanted = diesel::dsl::sql::<Bool>("(namespace, id) IN (SELECT * FROM UNNEST(")
            .bind::<Array<Text>, _>(namespaces)
            .sql(", ")
            .bind::<Array<Text>, _>(ids)
            .sql("))");
        let rows: Vec<AgentRow> = agents::table.filter(wanted).select(agent_columns!(agents)).load(conn).await?;
        rows.into_iter().map(version).collect()
    }
    .boxed()
}

pub(super) fn history<'c>(
    conn: &'c mut AsyncPgConnection,
    key: &'c AgentKey,
    before: Revision,
    limit: i64,
) -> BoxFuture<'c, Result<Vec<AgentVersion>, StoreError>> {
    async move {
        let (namespace, id) = (key.namespace.as_str(), key.id.as_str());
        let current: Vec<AgentRow> = agents::table
            .filter(agents::namespace.eq(namespace).and(agents::id.eq(id)).and(agents::revision.lt(before)))
            .select(agent_columns!(agents))
            .load(conn)
            .await?;
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
            .load(conn)
            .await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        current.into_iter().chain(replaced).take(limit).map(version).collect()
    }
    .boxed()
}

/// The revision of every agent, removed and purged ones too.
pub(super) fn revisions(conn: &mut AsyncPgConnection) -> BoxFuture<'_, Result<Vec<StoredRevision>, StoreError>> {
    async move {
        let current: Vec<(String, String, i64, StoredTime, bool)> = agents::table
            .select((
                agents::namespace,
                agents::id,
                agents::revision,
                agents::updated_at,
                agents::removed_at.is_not_null(),
            ))
            .load(conn)
            .await?;
        let purged: Vec<(String, String, i64)> = tombstones::table
            .filter(tombstones::entity.eq("agent"))
            .select((tombstones::namespace, tombstones::id, tombstones::revision))
            .load(conn)
            .await?;
        let current = current.into_iter().map(|(namespace, id, revision, at, removed)| StoredRevision {
            key: stored_key(namespace, id),
            revision,
            updated_at: Some(at.0),
            removed,
        });
        let purged = purged.into_iter().map(|(namespace, id, revision)| StoredRevision {
            key: stored_key(namespace, id),
            revision,
            updated_at: None,
            removed: true,
        });
        Ok(current.chain(purged).collect())
    }
    .boxed()
}
