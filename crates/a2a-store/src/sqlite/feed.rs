//! Following a SQLite file: `PRAGMA data_version` tells cheaply whether any other connection has committed, and
//! `change_log` tells what.

use std::sync::Arc;
use std::time::Duration;

use a2a_core::agent::Agent;
use a2a_core::ids::{AgentKey, MemoryId};
use a2a_core::memory::experience::AgentExperience;
use a2a_core::time::Timestamp;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::{SharedConnection, agent_checks, memories, rows, with, workflow_rows};
use crate::agent_check::StoredCheck;
use crate::agent_row::stored_key;
use crate::error::StoreError;
use crate::feed::{CHUNK_AGENTS, FeedRow, POLL_ROWS_MAX, Poll, StoredRevision};
use crate::sqlite::schema::{agents, change_log, store_meta, tombstones};
use crate::store::{AgentVersion, MemoryVersion};
use crate::workflow_definition::Definitions;
use crate::workflow_feed::{Fetched, Snapshot, Wanted};

/// How often the file is looked at. One look costs a microsecond or two.
const POLL_INTERVAL: Duration = Duration::from_millis(25);
/// The same for a while after something has changed: where one process hands work to another, more soon follows.
const QUICK_INTERVAL: Duration = Duration::from_millis(5);
const QUICK_FOR: Duration = Duration::from_secs(2);

/// One follower of a SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteFeed {
    connection: DebugConnection,
    /// Whether the connection is that of the writer, as it is in memory.
    is_shared: bool,
    data_version: i64,
    seq: i64,
    epoch: String,
    /// Until then the file is looked at more often.
    quick_until: Instant,
    definitions: Arc<Definitions>,
    /// What the last load or comparison has read of all that is not an agent.
    others: Snapshot,
}

struct DebugConnection(SharedConnection);

impl std::fmt::Debug for DebugConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedConnection")
    }
}

#[derive(QueryableByName)]
struct DataVersion {
    #[diesel(sql_type = BigInt)]
    data_version: i64,
}

/// Where the log ends, what was pruned of it, and which store this is.
struct Position {
    seq: i64,
    pruned: i64,
    epoch: String,
}

fn position(conn: &mut SqliteConnection) -> Result<Position, StoreError> {
    let (pruned, epoch): (i64, String) =
        store_meta::table.select((store_meta::change_log_pruned, store_meta::epoch)).first(conn)?;
    let last: Option<i64> = change_log::table.select(diesel::dsl::max(change_log::seq)).get_result(conn)?;
    // An empty log has ended where it was pruned.
    Ok(Position { seq: last.unwrap_or(0).max(pruned), pruned, epoch })
}

/// Reads all contacts with agents, all workflows and the runs that go on.
fn snapshot_in_txn(conn: &mut SqliteConnection, definitions: &Definitions) -> Result<Snapshot, StoreError> {
    Ok(Snapshot {
        checks: agent_checks::all(conn)?,
        workflows: workflow_rows::live_workflows(conn)?,
        runs: workflow_rows::live_runs(conn, definitions)?,
    })
}

impl SqliteFeed {
    pub(super) fn new(connection: SharedConnection, is_shared: bool, definitions: Arc<Definitions>) -> Self {
        Self {
            connection: DebugConnection(connection),
            is_shared,
            data_version: 0,
            seq: 0,
            epoch: String::new(),
            quick_until: Instant::now(),
            definitions,
            others: Snapshot::default(),
        }
    }

    pub(crate) fn take_snapshot(&mut self) -> Snapshot {
        std::mem::take(&mut self.others)
    }

    pub(crate) async fn fetch_workflows(&mut self, wanted: Wanted) -> Result<Fetched, StoreError> {
        let definitions = self.definitions.clone();
        with(&self.connection.0, move |conn| {
            conn.transaction(|conn| {
                Ok(Fetched {
                    workflows: workflow_rows::workflows_by_key(conn, &wanted.workflows)?,
                    whole: workflow_rows::runs_by_id(conn, &definitions, &wanted.whole, false)?,
                    runs: workflow_rows::run_rows(conn, &workflow_rows::ids_json(&wanted.runs)?)?,
                    steps: workflow_rows::step_rows(conn, &wanted.steps, false)?,
                })
            })
        })
        .await
    }

    pub(crate) async fn load(&mut self, agents: mpsc::Sender<Vec<Agent>>) -> Result<(), StoreError> {
        let definitions = self.definitions.clone();
        let (position, others) = with(&self.connection.0, move |conn| {
            // One read transaction: position and rows are of the same moment.
            conn.transaction(|conn| {
                let position = position(conn)?;
                let mut chunk = Vec::with_capacity(CHUNK_AGENTS);
                let gone = |_| StoreError::Task("the reader of the load went away".to_owned());
                rows::live(conn, |agent| {
                    chunk.push(agent);
                    if chunk.len() == CHUNK_AGENTS {
                        agents.blocking_send(std::mem::take(&mut chunk)).map_err(gone)?;
                    }
                    Ok(())
                })?;
                agents.blocking_send(chunk).map_err(gone)?;
                Ok::<_, StoreError>((position, snapshot_in_txn(conn, &definitions)?))
            })
        })
        .await?;
        self.others = others;
        self.stand_at(position);
        Ok(())
    }

    fn stand_at(&mut self, position: Position) {
        self.seq = position.seq;
        self.epoch = position.epoch;
        // No version is negative, so that the next poll looks into the log.
        self.data_version = -1;
    }

    pub(crate) async fn poll(&mut self) -> Result<Poll, StoreError> {
        let (known_version, seq) = (self.data_version, self.seq);
        let is_shared = self.is_shared;
        let shared_epoch = is_shared.then(|| self.epoch.clone());
        let polled = with(&self.connection.0, move |conn| {
            // What this connection does itself has no new version. A sync of all changes the epoch.
            if let Some(epoch) = shared_epoch.filter(|_| known_version != -1)
                && position(conn)?.epoch == epoch
            {
                return Ok(None);
            }
            let version: DataVersion = diesel::sql_query("PRAGMA data_version").get_result(conn)?;
            if version.data_version == known_version && !is_shared {
                return Ok(None);
            }
            conn.transaction(|conn| {
                let position = position(conn)?;
                let rows: Vec<(String, String, String, i64, String)> = change_log::table
                    .filter(change_log::seq.gt(seq))
                    .order(change_log::seq)
                    .limit(i64::try_from(POLL_ROWS_MAX).unwrap_or(i64::MAX))
                    .select((
                        change_log::entity,
                        change_log::namespace,
                        change_log::id,
                        change_log::revision,
                        change_log::op,
                    ))
                    .load(conn)?;
                Ok(Some((version.data_version, position, rows)))
            })
        })
        .await?;
        let Some((version, position, rows)) = polled else { return Ok(Poll::Changes(Vec::new())) };
        if position.epoch != self.epoch || position.pruned > self.seq || rows.len() >= POLL_ROWS_MAX {
            return Ok(Poll::Reconcile);
        }
        self.data_version = version;
        self.seq = position.seq;
        self.quick_until = Instant::now() + QUICK_FOR;
        Ok(Poll::Changes(
            rows.into_iter()
                .filter_map(|(entity, namespace, id, revision, op)| {
                    FeedRow::stored(&entity, namespace, id, revision, &op)
                })
                .collect(),
        ))
    }

    pub(crate) async fn fetch(&mut self, keys: &[AgentKey]) -> Result<Vec<AgentVersion>, StoreError> {
        let keys = rows::keys_json(keys.iter())?;
        with(&self.connection.0, move |conn| rows::by_keys(conn, &keys)).await
    }

    pub(crate) async fn fetch_checks(&mut self, keys: &[AgentKey]) -> Result<Vec<StoredCheck>, StoreError> {
        let keys = rows::keys_json(keys.iter())?;
        with(&self.connection.0, move |conn| Ok(agent_checks::by_keys(conn, &keys)?)).await
    }

    pub(crate) async fn fetch_memories(
        &mut self,
        ids: &[MemoryId],
        agents: &[AgentKey],
    ) -> Result<(Vec<MemoryVersion>, Vec<AgentExperience>), StoreError> {
        let (ids, agents) = (ids.to_vec(), agents.to_vec());
        with(&self.connection.0, move |conn| memories::fetch(conn, &ids, &agents)).await
    }

    pub(crate) async fn revisions(&mut self) -> Result<Vec<StoredRevision>, StoreError> {
        let definitions = self.definitions.clone();
        let (position, known, others) = with(&self.connection.0, move |conn| {
            conn.transaction(|conn| {
                let position = position(conn)?;
                let current: Vec<(String, String, i64, i64, bool)> = agents::table
                    .select((
                        agents::namespace,
                        agents::id,
                        agents::revision,
                        agents::updated_at,
                        agents::removed_at.is_not_null(),
                    ))
                    .load(conn)?;
                let purged: Vec<(String, String, i64)> = tombstones::table
                    .filter(tombstones::entity.eq("agent"))
                    .select((tombstones::namespace, tombstones::id, tombstones::revision))
                    .load(conn)?;
                let current = current.into_iter().map(|(namespace, id, revision, at, removed)| StoredRevision {
                    key: stored_key(namespace, id),
                    revision,
                    updated_at: Some(Timestamp(at)),
                    removed,
                });
                let purged = purged.into_iter().map(|(namespace, id, revision)| StoredRevision {
                    key: stored_key(namespace, id),
                    revision,
                    updated_at: None,
                    removed: true,
                });
                let known = current.chain(purged).collect();
                Ok::<_, StoreError>((position, known, snapshot_in_txn(conn, &definitions)?))
            })
        })
        .await?;
        self.others = others;
        self.stand_at(position);
        Ok(known)
    }

    pub(crate) async fn wait(&mut self) {
        let is_quick = Instant::now() < self.quick_until;
        sleep(if is_quick { QUICK_INTERVAL } else { POLL_INTERVAL }).await;
    }
}
