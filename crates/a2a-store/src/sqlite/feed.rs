//! Following a SQLite file: `PRAGMA data_version` tells cheaply whether any other connection has committed, and
//! `change_log` tells what.

use std::time::Duration;

use a2a_core::agent::Agent;
use a2a_core::ids::AgentKey;
use a2a_core::time::Timestamp;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{SharedConnection, rows, with};
use crate::agent_row::stored_key;
use crate::error::StoreError;
use crate::feed::{CHUNK_AGENTS, FeedRow, POLL_ROWS_MAX, Poll, StoredRevision};
use crate::sqlite::schema::{agents, change_log, store_meta, tombstones};
use crate::store::AgentVersion;

/// How often the file is looked at. One look costs a microsecond or two.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// One follower of a SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteFeed {
    connection: DebugConnection,
    data_version: i64,
    seq: i64,
    epoch: String,
    tick: Interval,
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

impl SqliteFeed {
    pub(super) fn new(connection: SharedConnection) -> Self {
        let mut tick = interval(POLL_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { connection: DebugConnection(connection), data_version: 0, seq: 0, epoch: String::new(), tick }
    }

    pub(crate) async fn load(&mut self, agents: mpsc::Sender<Vec<Agent>>) -> Result<(), StoreError> {
        let position = with(&self.connection.0, move |conn| {
            // One read transaction: position and rows are of the same moment.
            conn.transaction(|conn| {
                let position = position(conn)?;
                let mut chunk = Vec::with_capacity(CHUNK_AGENTS);
                let gone = |_| StoreError::Task("the reader of the load went away".to_owned());
                rows::live(conn, |row| {
                    chunk.push(row.into_agent()?);
                    if chunk.len() == CHUNK_AGENTS {
                        agents.blocking_send(std::mem::take(&mut chunk)).map_err(gone)?;
                    }
                    Ok(())
                })?;
                agents.blocking_send(chunk).map_err(gone)?;
                Ok::<_, StoreError>(position)
            })
        })
        .await?;
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
        let polled = with(&self.connection.0, move |conn| {
            let version: DataVersion = diesel::sql_query("PRAGMA data_version").get_result(conn)?;
            if version.data_version == known_version {
                return Ok(None);
            }
            conn.transaction(|conn| {
                let position = position(conn)?;
                let rows: Vec<(String, String, i64)> = change_log::table
                    .filter(change_log::seq.gt(seq))
                    .order(change_log::seq)
                    .limit(i64::try_from(POLL_ROWS_MAX).unwrap_or(i64::MAX))
                    .select((change_log::namespace, change_log::id, change_log::revision))
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
        Ok(Poll::Changes(
            rows.into_iter()
                .map(|(namespace, id, revision)| FeedRow { key: stored_key(namespace, id), revision })
                .collect(),
        ))
    }

    pub(crate) async fn fetch(&mut self, keys: &[AgentKey]) -> Result<Vec<AgentVersion>, StoreError> {
        let keys = rows::keys_json(keys.iter())?;
        with(&self.connection.0, move |conn| rows::by_keys(conn, &keys)).await
    }

    pub(crate) async fn revisions(&mut self) -> Result<Vec<StoredRevision>, StoreError> {
        let (position, known) = with(&self.connection.0, move |conn| {
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
                Ok::<_, StoreError>((position, current.chain(purged).collect()))
            })
        })
        .await?;
        self.stand_at(position);
        Ok(known)
    }

    pub(crate) async fn wait(&mut self) {
        self.tick.tick().await;
    }
}
