//! Following Postgres: woken by `NOTIFY`, polled in any case.
//!
//! The cursor is the snapshot of the last poll. The next one takes the rows whose transaction that snapshot could not
//! see, so that each committed row is read exactly once, in whatever order transactions commit. A sequence number
//! would not do: a lower one may commit later.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use a2a_core::agent::Agent;
use a2a_core::ids::{AgentKey, MemoryId};
use a2a_core::memory::experience::AgentExperience;
use a2a_core::time::Timestamp;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, TryFutureExt as _};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{PgStatement, agent_checks, memories, on_one_server, rows, workflow_rows};
use crate::agent_check::StoredCheck;
use crate::clock::{self, Told};
use crate::database_url::PostgresUrl;
use crate::error::StoreError;
use crate::feed::{FeedRow, POLL_ROWS_MAX, Poll, StoredRevision};
use crate::postgres::connect;
use crate::store::{AgentVersion, MemoryVersion};
use crate::workflow_definition::Definitions;
use crate::workflow_feed::{Fetched, Snapshot, Wanted};

/// The log is read at least this often, so that a lost wake-up, or a pooler that passes none on, costs this much.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The same where nothing wakes: on a standby, which takes no LISTEN, and behind a pooler, which forgets it.
const POLL_INTERVAL_UNWOKEN: Duration = Duration::from_millis(25);
/// Wake-ups are sent at most this often: each one makes every other process poll.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(5);
/// A poll that takes longer means that the connection is dead.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
/// Loading or comparing everything may take longer.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// One follower of a Postgres database.
pub(crate) struct PostgresFeed {
    conn: AsyncPgConnection,
    driver: tokio::task::JoinHandle<()>,
    kind: Kind,
    pooled: bool,
    woken: Arc<Notify>,
    /// `pg_snapshot` of the last poll, as text.
    snapshot: String,
    epoch: Uuid,
    last_announced: Option<Instant>,
    definitions: Arc<Definitions>,
    /// What the last load or comparison has read of all that is not an agent.
    others: Snapshot,
    /// The time that the last poll has told.
    told: Option<Told>,
    /// Some only to prove that the tests would see lost changes: the highest `seq` that was read.
    sequence: Option<i64>,
}

/// What the feed speaks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A server that takes writes, through a session of its own.
    Primary,
    /// A standby that replays them. Its snapshots do not name the transactions that were going on (it keeps those where
    /// `pg_current_snapshot` does not look), so that a cursor counts as seen only what is older than all of them.
    Standby,
    /// A server behind a pooler, whose session is another one for each transaction.
    Pooled,
}

impl std::fmt::Debug for PostgresFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresFeed").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

impl Drop for PostgresFeed {
    fn drop(&mut self) {
        // The driver ends with its client; a connection that is stuck must not outlive the feed.
        self.driver.abort();
    }
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(limit, work).await.map_err(|_| StoreError::Timeout(limit))?
}

impl PostgresFeed {
    pub(super) async fn open(
        url: &PostgresUrl,
        by_sequence: bool,
        definitions: Arc<Definitions>,
    ) -> Result<Self, StoreError> {
        let woken = Arc::new(Notify::new());
        let own_pid = Arc::new(AtomicI32::new(0));
        let (wake, ignored) = (woken.clone(), own_pid.clone());
        let (client, driver, _transport) = connect::open(url, move |notification| {
            // This connection hears its own wake-ups too; what it announced is in the cache already.
            if notification.process_id() != ignored.load(Ordering::Relaxed) {
                wake.notify_one();
            }
        })
        .await?;
        in_time(POLL_TIMEOUT, async {
            let mut conn = super::session(url, client).await?;
            let pooled = url.pooled();
            let (standby, pid): (bool, i32) = on_one_server(pooled, &mut conn, async |conn| {
                let sql = "SELECT pg_is_in_recovery(), pg_backend_pid()";
                Ok(PgStatement::<(Bool, Integer)>::new(sql).row(conn).await?)
            })
            .await?;
            let kind = match standby {
                true => Kind::Standby,
                false if pooled => Kind::Pooled,
                false => Kind::Primary,
            };
            if kind == Kind::Primary {
                // A wake-up is worth nothing after a crash, so that its commit need not wait for the disk.
                conn.batch_execute("SET synchronous_commit = off; LISTEN a2a_change").await?;
            }
            own_pid.store(pid, Ordering::Relaxed);
            Ok(Self {
                conn,
                driver,
                kind,
                pooled,
                woken,
                snapshot: String::new(),
                epoch: Uuid::nil(),
                last_announced: None,
                definitions,
                others: Snapshot::default(),
                told: None,
                sequence: by_sequence.then_some(0),
            })
        })
        .await
    }

    /// Runs statements that need one server, within a limit.
    async fn ask<T>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        in_time(limit, on_one_server(self.pooled, &mut self.conn, work)).await
    }

    /// Reads the position in the transaction that reads the rows, so that both are of one snapshot.
    fn position_in_txn(conn: &mut AsyncPgConnection) -> BoxFuture<'_, Result<(String, Uuid, i64), StoreError>> {
        PgStatement::<(Text, SqlUuid, BigInt)>::new(
            "SELECT pg_current_snapshot()::text, epoch, \
             coalesce((SELECT max(seq) FROM change_log), 0) FROM store_meta",
        )
        .row(conn)
        .err_into()
        .boxed()
    }

    fn stand_at(&mut self, (snapshot, epoch, seq): (String, Uuid, i64)) {
        self.snapshot = self.cursor(snapshot);
        self.epoch = epoch;
        self.sequence = self.sequence.map(|_| seq);
    }

    /// The snapshot that the next poll compares with. What was not seen for certain is read again, which does no harm.
    fn cursor(&self, snapshot: String) -> String {
        match (self.kind, snapshot.split(':').next()) {
            (Kind::Standby, Some(oldest)) => format!("{oldest}:{oldest}:"),
            _ => snapshot,
        }
    }

    /// Reads all contacts with agents, all workflows and the runs that go on.
    fn snapshot_in_txn<'c>(
        conn: &'c mut AsyncPgConnection,
        definitions: &'c Definitions,
    ) -> BoxFuture<'c, Result<Snapshot, StoreError>> {
        async move {
            let checks = agent_checks::all(conn).await?;
            let workflows = workflow_rows::live_workflows(conn).await?;
            Ok(Snapshot { checks, workflows, runs: workflow_rows::live_runs(conn, definitions).await? })
        }
        .boxed()
    }

    /// The time that the last poll has told.
    pub(crate) fn take_told(&mut self) -> Option<Told> {
        self.told.take()
    }

    pub(crate) fn take_snapshot(&mut self) -> Snapshot {
        std::mem::take(&mut self.others)
    }

    pub(crate) async fn fetch_workflows(&mut self, wanted: Wanted) -> Result<Fetched, StoreError> {
        let definitions = self.definitions.clone();
        in_time(LOAD_TIMEOUT, async {
            let mut fetched = Fetched::default();
            if !wanted.whole.is_empty() {
                // In one snapshot, so that steps and run belong together.
                let read = async |conn: &mut AsyncPgConnection| {
                    workflow_rows::runs_by_id(conn, &definitions, &wanted.whole, false).await
                };
                fetched.whole = self.conn.build_transaction().repeatable_read().read_only().run(read).await?;
            }
            on_one_server(self.pooled, &mut self.conn, async |conn| {
                let (workflows, runs, steps) = futures_util::join!(
                    workflow_rows::workflows_by_key(conn, &wanted.workflows),
                    workflow_rows::run_rows(conn, &wanted.runs),
                    workflow_rows::step_rows(conn, &wanted.steps),
                );
                (fetched.workflows, fetched.runs, fetched.steps) = (workflows?, runs?, steps?);
                Ok(fetched)
            })
            .await
        })
        .await
    }

    pub(crate) async fn load(&mut self, agents: mpsc::Sender<Vec<Agent>>) -> Result<(), StoreError> {
        let (position, others) = in_time(LOAD_TIMEOUT, async {
            self.conn
                .build_transaction()
                .repeatable_read()
                .read_only()
                .run(async |conn| {
                    let position = Self::position_in_txn(conn).await?;
                    rows::live(conn, &agents).await?;
                    Ok::<_, StoreError>((position, Self::snapshot_in_txn(conn, &self.definitions).await?))
                })
                .await
        })
        .await?;
        self.others = others;
        self.stand_at(position);
        Ok(())
    }

    pub(crate) async fn revisions(&mut self) -> Result<Vec<StoredRevision>, StoreError> {
        let (position, known, others) = in_time(LOAD_TIMEOUT, async {
            self.conn
                .build_transaction()
                .repeatable_read()
                .read_only()
                .run(async |conn| {
                    let position = Self::position_in_txn(conn).await?;
                    let known = rows::revisions(conn).await?;
                    Ok::<_, StoreError>((position, known, Self::snapshot_in_txn(conn, &self.definitions).await?))
                })
                .await
        })
        .await?;
        self.others = others;
        self.stand_at(position);
        Ok(known)
    }

    pub(crate) async fn poll(&mut self) -> Result<Poll, StoreError> {
        if let Some(seq) = self.sequence {
            return self.poll_by_sequence(seq).await;
        }
        type Row =
            (String, Uuid, bool, i64, (Option<String>, Option<String>, Option<String>, Option<i64>, Option<String>));
        type Logged = (Nullable<Text>, Nullable<Text>, Nullable<Text>, Nullable<BigInt>, Nullable<Text>);
        let limit = i64::try_from(POLL_ROWS_MAX).unwrap_or(i64::MAX);
        let asked = clock::own();
        let cursor = self.snapshot.clone();
        let read = async |conn: &mut AsyncPgConnection| {
            // One statement, so that the rows and the snapshot that becomes the next cursor belong together.
            Ok(PgStatement::<(Text, SqlUuid, Bool, BigInt, Logged)>::new(
                "SELECT pg_current_snapshot()::text, m.epoch, \
                 m.change_log_pruned >= pg_snapshot_xmin(last.seen), \
                 floor(extract(epoch FROM now()) * 1000)::bigint, c.entity, c.namespace, c.id, c.revision, c.op \
                 FROM store_meta m CROSS JOIN (SELECT ?::pg_snapshot AS seen) last \
                 LEFT JOIN LATERAL (SELECT entity, namespace, id, revision, op FROM change_log \
                 WHERE xid >= pg_snapshot_xmin(last.seen) AND NOT pg_visible_in_snapshot(xid, last.seen) \
                 LIMIT ?) c ON true",
            )
            .bind::<Text, _>(cursor.as_str())
            .bind::<BigInt, _>(limit)
            .rows(conn)
            .await?)
        };
        let found: Vec<Row> = self.ask(POLL_TIMEOUT, read).await?;
        let Some((snapshot, epoch, pruned, told, _)) = found.first() else {
            return Ok(Poll::Reconcile);
        };
        let cursor = self.cursor(snapshot.clone());
        self.told = Some(Told::now(asked, Timestamp(*told)));
        if *pruned || *epoch != self.epoch || found.len() >= POLL_ROWS_MAX {
            return Ok(Poll::Reconcile);
        }
        self.snapshot = cursor;
        Ok(Poll::Changes(
            found
                .into_iter()
                .filter_map(|(.., (entity, namespace, id, revision, op))| {
                    FeedRow::stored(&entity?, namespace?, id?, revision?, &op?)
                })
                .collect(),
        ))
    }

    /// The way that loses changes, see [`PostgresFeed::sequence`].
    async fn poll_by_sequence(&mut self, seq: i64) -> Result<Poll, StoreError> {
        type Row = (i64, String, String, String, i64, String);
        let found: Vec<Row> = PgStatement::<(BigInt, Text, Text, Text, BigInt, Text)>::new(
            "SELECT seq, entity, namespace, id, revision, op FROM change_log WHERE seq > ? ORDER BY seq",
        )
        .bind::<BigInt, _>(seq)
        .rows(&mut self.conn)
        .await?;
        self.sequence = found.last().map(|row| row.0).or(self.sequence);
        Ok(Poll::Changes(
            found
                .into_iter()
                .filter_map(|(_, entity, namespace, id, revision, op)| {
                    FeedRow::stored(&entity, namespace, id, revision, &op)
                })
                .collect(),
        ))
    }

    pub(crate) async fn fetch(&mut self, keys: &[AgentKey]) -> Result<Vec<AgentVersion>, StoreError> {
        self.ask(LOAD_TIMEOUT, async |conn| rows::by_keys(conn, keys).await).await
    }

    pub(crate) async fn fetch_checks(&mut self, keys: &[AgentKey]) -> Result<Vec<StoredCheck>, StoreError> {
        self.ask(LOAD_TIMEOUT, async |conn| Ok(agent_checks::by_keys(conn, keys).await?)).await
    }

    pub(crate) async fn fetch_memories(
        &mut self,
        ids: &[MemoryId],
        agents: &[AgentKey],
    ) -> Result<(Vec<MemoryVersion>, Vec<AgentExperience>), StoreError> {
        self.ask(LOAD_TIMEOUT, async |conn| memories::fetch(conn, ids, agents).await).await
    }

    /// Until somebody has committed or it is time to look anyway. Announces what this process commits meanwhile.
    pub(crate) async fn wait(&mut self, committed: &Notify) -> Result<(), StoreError> {
        let interval = if self.kind == Kind::Primary { POLL_INTERVAL } else { POLL_INTERVAL_UNWOKEN };
        let poll_at = Instant::now() + interval;
        loop {
            tokio::select! {
                () = self.woken.notified() => return Ok(()),
                () = tokio::time::sleep_until(poll_at) => return Ok(()),
                () = committed.notified() => {
                    if let Some(last) = self.last_announced {
                        tokio::time::sleep_until(last + ANNOUNCE_INTERVAL).await;
                    }
                    self.last_announced = Some(Instant::now());
                    in_time(POLL_TIMEOUT, async {
                        // On this connection and never inside of a write: NOTIFY makes commits wait for each other.
                        Ok(self.conn.batch_execute("NOTIFY a2a_change").await?)
                    })
                    .await?;
                }
            }
        }
    }
}
