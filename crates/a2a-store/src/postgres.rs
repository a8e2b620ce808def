//! The Postgres backend: a small pool for the writers and for reads of history, and one connection for the feed.

mod agent_checks;
mod commit;
pub mod connect;
mod embeddings;
mod feed;
mod memories;
mod processes;
mod rows;
pub(crate) mod schema;
mod snapshot;
mod workflow_commit;
mod workflow_rows;
mod workflow_write;
mod workflows;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use a2a_core::change::Outcome;
use a2a_core::ids::{AgentKey, Revision};
use a2a_core::time::Timestamp;
use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use diesel::connection::{CacheSize, SimpleConnection as _};
use diesel::sql_types::{Array, BigInt, Nullable, Text};
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
use diesel_async::{AnsiTransactionManager, AsyncConnection as _, AsyncPgConnection, TransactionManager as _};
use diesel_migrations::MigrationHarness as _;

use crate::database_url::PostgresUrl;
use crate::error::StoreError;
use crate::migrations;
use crate::round::Unit;
use crate::statement::Statement;
use crate::store::{
    AgentVersion, Base, Health, MigrationStep, PRUNE_LOG_MAX, PRUNE_ROUNDS_MAX, Pruned, Retention, ToolUsage,
    ToolUsageSummary,
};
use crate::workflow_definition::Definitions;

pub(crate) use feed::PostgresFeed;

type PgStatement<'a, Returned> = Statement<'a, diesel::pg::Pg, Returned>;
type Pool = managed::Pool<Manager>;

/// One for each writer and a few for reads of history and health, which are rare.
const POOL_SIZE_MAX: usize = 5;
/// How long a caller waits for one of them.
const POOL_WAIT: Duration = Duration::from_secs(2);
/// No read waits longer for its answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection of the pool that was not used for so long is closed, the writer's last one excepted.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// A commit that takes longer is given up and tried again on a new connection. Short enough that service is normal
/// soon after the network is.
const COMMIT_LIMIT_MS: u64 = 2_000;
const COMMIT_LIMIT_MAX_MS: u64 = 60_000;
/// Held while migrating, so that one of several processes does it. The number is arbitrary and must never change.
const MIGRATION_LOCK: i64 = 0x6132_615f_6d63_7001;

pub(crate) struct Postgres {
    url: Arc<PostgresUrl>,
    pool: Pool,
    /// Makes the feed lose changes, to prove that the tests would see it.
    tail_by_sequence: AtomicBool,
    /// How long the next attempt to commit may take, in milliseconds.
    commit_limit: AtomicU64,
    /// The same for commands about workflows.
    workflow_limit: AtomicU64,
    /// The same for memories.
    memory_limit: AtomicU64,
    /// Shared with the feed.
    definitions: Arc<Definitions>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Opens connections for the pool.
#[derive(Debug)]
pub(crate) struct Manager {
    url: Arc<PostgresUrl>,
}

impl managed::Manager for Manager {
    type Type = AsyncPgConnection;
    type Error = StoreError;

    async fn create(&self) -> Result<AsyncPgConnection, StoreError> {
        // The pool's connections listen to nothing.
        let (client, _driver, _transport) = connect::open(&self.url, |_| {}).await?;
        session(&self.url, client).await
    }

    async fn recycle(&self, conn: &mut AsyncPgConnection, _: &Metrics) -> RecycleResult<StoreError> {
        // No round trip: a dead connection is found by the next statement, which is tried again.
        if diesel_async::pooled_connection::PoolableConnection::is_broken(conn) {
            return Err(RecycleError::message("the connection is closed or was left in a transaction"));
        }
        Ok(())
    }
}

/// Makes a session of a client.
async fn session(url: &PostgresUrl, client: tokio_postgres::Client) -> Result<AsyncPgConnection, StoreError> {
    if !url.pooled() {
        return Ok(AsyncPgConnection::try_from(client).await?);
    }
    // What diesel prepares here has to come to one server, and what it sets there must not reach others.
    client.batch_execute("BEGIN").await.map_err(|error| StoreError::Task(error.to_string()))?;
    let mut conn = AsyncPgConnection::try_from(client).await?;
    diesel_async::SimpleAsyncConnection::batch_execute(&mut conn, "ROLLBACK").await?;
    // What one server has prepared the next one does not know.
    conn.set_prepared_statement_cache_size(CacheSize::Disabled);
    Ok(conn)
}

/// Runs statements that need one server. Behind a pooler that is one transaction: even preparing a statement and running
/// it may otherwise come to two servers.
async fn on_one_server<T>(
    pooled: bool,
    conn: &mut AsyncPgConnection,
    work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    if pooled { in_transaction("BEGIN", conn, work).await } else { work(conn).await }
}

/// What diesel's `transaction` does, for closures of which only the caller knows that they can go to another thread.
async fn in_transaction<T>(
    begin: &str,
    conn: &mut AsyncPgConnection,
    work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    AnsiTransactionManager::begin_transaction_sql(conn, begin).await?;
    match work(conn).await {
        Ok(value) => {
            AnsiTransactionManager::commit_transaction(conn).await?;
            Ok(value)
        }
        Err(error) => {
            AnsiTransactionManager::rollback_transaction(conn).await?;
            Err(error)
        }
    }
}

impl Postgres {
    pub(crate) async fn connect(url: Arc<PostgresUrl>) -> Result<Self, StoreError> {
        let pool = Pool::builder(Manager { url: url.clone() })
            .max_size(POOL_SIZE_MAX)
            .wait_timeout(Some(POOL_WAIT))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Task(error.to_string()))?;
        let postgres = Self {
            url,
            pool,
            tail_by_sequence: AtomicBool::new(false),
            commit_limit: AtomicU64::new(COMMIT_LIMIT_MS),
            workflow_limit: AtomicU64::new(COMMIT_LIMIT_MS),
            memory_limit: AtomicU64::new(COMMIT_LIMIT_MS),
            definitions: Arc::default(),
        };
        // The first connection tells whether the server is there at all.
        drop(postgres.connection().await?);
        if postgres.url.pooled() {
            let sql = "SELECT current_setting('synchronous_commit') <> 'off'";
            let safe = PgStatement::<diesel::sql_types::Bool>::new(sql);
            if !postgres.read(async |conn| Ok(safe.row::<bool>(conn).await?)).await? {
                return Err(StoreError::CommitsUnsafe);
            }
        }
        Ok(postgres)
    }

    async fn connection(&self) -> Result<managed::Object<Manager>, StoreError> {
        self.pool.get().await.map_err(|error| match error {
            managed::PoolError::Backend(error) => error,
            managed::PoolError::Timeout(_) => StoreError::Timeout(POOL_WAIT),
            other => StoreError::Task(other.to_string()),
        })
    }

    /// Runs a read with a connection of the pool. One that did not answer in time is not used again.
    async fn read<T>(
        &self,
        work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let pooled = self.url.pooled();
        self.in_time(async |conn| on_one_server(pooled, conn, work).await).await
    }

    /// The same in one snapshot.
    async fn read_snapshot<T>(
        &self,
        work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        const BEGIN: &str = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.in_time(async |conn| in_transaction(BEGIN, conn, work).await).await
    }

    async fn in_time<T>(
        &self,
        work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut conn = self.connection().await?;
        match tokio::time::timeout(READ_TIMEOUT, work(&mut conn)).await {
            Ok(result) => result,
            Err(_) => {
                drop(managed::Object::take(conn));
                Err(StoreError::Timeout(READ_TIMEOUT))
            }
        }
    }

    pub(crate) fn tail_by_sequence(&self) {
        self.tail_by_sequence.store(true, Ordering::Relaxed);
    }

    /// Runs blocking work of diesel_migrations with a connection of its own.
    async fn migrating<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut AsyncConnectionWrapper<AsyncPgConnection>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (client, _driver, _transport) = connect::open(&self.url, |_| {}).await?;
        let conn = session(&self.url, client).await?;
        tokio::task::spawn_blocking(move || {
            let mut conn = AsyncConnectionWrapper::from(conn);
            diesel::Connection::transaction(&mut conn, |conn| {
                // The lock goes with the transaction, also when this process dies in the middle.
                // Whoever waits here waits for a migration of another process, however long it takes.
                conn.batch_execute(&format!(
                    "SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"
                ))?;
                work(conn)
            })
        })
        .await
        .map_err(|error| StoreError::Task(error.to_string()))?
    }

    async fn applied(&self) -> Result<BTreeSet<String>, StoreError> {
        self.read(async |conn| {
            let exists: bool = PgStatement::<diesel::sql_types::Bool>::new(
                "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL",
            )
            .row(conn)
            .await?;
            if !exists {
                return Ok(BTreeSet::new());
            }
            let versions: Vec<String> =
                PgStatement::<Text>::new("SELECT version::text FROM __diesel_schema_migrations").rows(conn).await?;
            Ok(versions.into_iter().collect())
        })
        .await
    }

    /// Whether the database lacks migrations.
    pub(crate) async fn is_older(&self) -> Result<bool, StoreError> {
        migrations::is_pending::<diesel::pg::Pg>(&migrations::POSTGRES, &self.applied().await?)
    }

    pub(crate) async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        if !self.is_older().await? {
            return Ok(Vec::new());
        }
        let schema = self.url.schema().map(ToOwned::to_owned);
        self.migrating(move |conn| {
            if let Some(schema) = schema {
                let quoted = schema.replace('"', "\"\"");
                conn.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS \"{quoted}\""))?;
            }
            // Another process may have been quicker, so that this looks at the versions again, under the lock.
            let done = conn.run_pending_migrations(migrations::POSTGRES).map_err(migrations::failed)?;
            done.iter().map(|step| migrations::name::<diesel::pg::Pg>(&migrations::POSTGRES, step)).collect()
        })
        .await
    }

    pub(crate) async fn migrate_revert(&self) -> Result<String, StoreError> {
        self.migrating(|conn| {
            let reverted = conn.revert_last_migration(migrations::POSTGRES).map_err(migrations::failed)?;
            migrations::name::<diesel::pg::Pg>(&migrations::POSTGRES, &reverted)
        })
        .await
    }

    pub(crate) async fn migrate_reset(&self) -> Result<Vec<String>, StoreError> {
        self.migrating(|conn| {
            conn.revert_all_migrations(migrations::POSTGRES).map_err(migrations::failed)?;
            let done = conn.run_pending_migrations(migrations::POSTGRES).map_err(migrations::failed)?;
            done.iter().map(|step| migrations::name::<diesel::pg::Pg>(&migrations::POSTGRES, step)).collect()
        })
        .await
    }

    pub(crate) async fn connected(&self) -> Result<Vec<String>, StoreError> {
        self.read(async |conn| {
            // Connections of this pool have ended by now, or are this one: nobody else uses it yet.
            Ok(PgStatement::<Text>::new(
                "SELECT 'process ' || pid || coalesce(' of ' || nullif(application_name, ''), '') || ' at ' || \
                 coalesce(host(client_addr), 'this machine') FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid() \
                 AND backend_type IN ('client backend', 'walsender') ORDER BY pid LIMIT 20",
            )
            .rows(conn)
            .await?)
        })
        .await
    }

    pub(crate) async fn migrate_status(&self) -> Result<Vec<MigrationStep>, StoreError> {
        migrations::status::<diesel::pg::Pg>(&migrations::POSTGRES, &self.applied().await?)
    }

    pub(crate) async fn commit(
        &self,
        units: Arc<[Unit]>,
        recheck: bool,
        base: Base<'_>,
    ) -> Result<Vec<Vec<Outcome>>, StoreError> {
        // The short cut is one statement outside of a transaction.
        let base = (!self.url.pooled()).then_some(base);
        self.commit_in_time(&self.commit_limit, async |conn| commit::commit(conn, &units, recheck, base).await).await
    }

    /// Commits with a connection of the pool, within `limit`, which is in milliseconds and follows how slow the server is.
    async fn commit_in_time<T>(
        &self,
        limit: &AtomicU64,
        work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut conn = self.connection().await?;
        let millis = limit.load(Ordering::Relaxed);
        match tokio::time::timeout(Duration::from_millis(millis), work(&mut conn)).await {
            Ok(Ok(done)) => {
                limit.store(COMMIT_LIMIT_MS, Ordering::Relaxed);
                Ok(done)
            }
            Ok(Err(error)) => {
                // It may be a connection to a server that is going away; the next one is cheap.
                drop(managed::Object::take(conn));
                Err(error)
            }
            Err(_) => {
                drop(managed::Object::take(conn));
                // A server that is only slow gets more time at the next attempt.
                limit.store((millis * 2).min(COMMIT_LIMIT_MAX_MS), Ordering::Relaxed);
                Err(StoreError::Timeout(Duration::from_millis(millis)))
            }
        }
    }

    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        self.read(async |conn| {
            PgStatement::<()>::new("SELECT 1").run(conn).await?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn ready(&self) -> Result<(), StoreError> {
        self.connection().await.map(drop)
    }

    pub(crate) async fn feed(&self) -> Result<PostgresFeed, StoreError> {
        let by_sequence = self.tail_by_sequence.load(Ordering::Relaxed);
        PostgresFeed::open(&self.url, by_sequence, self.definitions.clone()).await
    }

    pub(crate) async fn agent_history(
        &self,
        key: &AgentKey,
        before: Revision,
        limit: i64,
    ) -> Result<Vec<AgentVersion>, StoreError> {
        self.read(async |conn| rows::history(conn, key, before, limit).await).await
    }

    pub(crate) async fn tool_usage_append(&self, usage: &[ToolUsage]) -> Result<(), StoreError> {
        let text = |pick: &dyn Fn(&ToolUsage) -> String| usage.iter().map(pick).collect::<Vec<String>>();
        let number = |pick: &dyn Fn(&ToolUsage) -> u128| {
            usage.iter().map(|u| i64::try_from(pick(u)).unwrap_or(i64::MAX)).collect::<Vec<i64>>()
        };
        let (tools, actors) = (text(&|u| u.tool.to_owned()), text(&|u| u.actor.to_string()));
        let at: Vec<i64> = usage.iter().map(|u| u.at.0).collect();
        let agents: Vec<Option<String>> = usage.iter().map(|u| u.agent.clone()).collect();
        let errors: Vec<Option<String>> = usage.iter().map(|u| u.error_code.clone()).collect();
        let durations = number(&|u| u.duration.as_micros());
        let requests = number(&|u| u.request_bytes as u128);
        let responses = number(&|u| u.response_bytes as u128);
        self.read(async |conn| {
            PgStatement::<()>::new(
                "INSERT INTO tool_usage \
                 (at, tool, agent, actor, duration_us, request_bytes, response_bytes, error_code) \
                 SELECT to_timestamp(at / 1000.0), tool, agent, actor, duration_us, request_bytes, response_bytes, \
                 error_code FROM UNNEST(?, ?, ?, ?, ?, ?, ?, ?) \
                 AS u(at, tool, agent, actor, duration_us, request_bytes, response_bytes, error_code)",
            )
            .bind::<Array<BigInt>, _>(at)
            .bind::<Array<Text>, _>(tools)
            .bind::<Array<Nullable<Text>>, _>(agents)
            .bind::<Array<Text>, _>(actors)
            .bind::<Array<BigInt>, _>(durations)
            .bind::<Array<BigInt>, _>(requests)
            .bind::<Array<BigInt>, _>(responses)
            .bind::<Array<Nullable<Text>>, _>(errors)
            .run(conn)
            .await?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn tool_usage_summary(&self, since: Timestamp) -> Result<Vec<ToolUsageSummary>, StoreError> {
        self.read(async |conn| {
            let rows: Vec<(String, i64, i64, i64, i64)> = PgStatement::<(Text, BigInt, BigInt, BigInt, BigInt)>::new(
                "SELECT tool, count(*), count(error_code), avg(duration_us)::bigint, max(duration_us) \
                 FROM tool_usage WHERE at >= to_timestamp(?::bigint / 1000.0) GROUP BY tool ORDER BY 2 DESC, 1",
            )
            .bind::<BigInt, _>(since.0)
            .rows(conn)
            .await?;
            Ok(rows
                .into_iter()
                .map(|(tool, calls, errors, mean_us, max_us)| ToolUsageSummary { tool, calls, errors, mean_us, max_us })
                .collect())
        })
        .await
    }

    pub(crate) async fn health(&self) -> Result<Health, StoreError> {
        let schema = self.applied().await?.last().cloned().unwrap_or_default();
        self.read(async |conn| {
            let start = Instant::now();
            PgStatement::<()>::new("SELECT 1").run(conn).await?;
            let round_trip = start.elapsed();
            type Counts = (BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, BigInt);
            let (version, counts) = PgStatement::<(Text, Counts)>::new(
                "SELECT current_setting('server_version'), \
                     (SELECT count(*) FROM agents WHERE removed_at IS NULL), \
                     (SELECT count(*) FROM change_log), (SELECT count(*) FROM agent_history), \
                     (SELECT count(*) FROM workflows WHERE removed_at IS NULL), \
                     (SELECT count(*) FROM runs WHERE finished_at IS NULL), \
                     (SELECT count(*) FROM runs WHERE finished_at IS NOT NULL), \
                     (SELECT count(*) FROM memories WHERE removed_at IS NULL)",
            )
            .row::<(String, (i64, i64, i64, i64, i64, i64, i64))>(conn)
            .await?;
            let (agents, change_log, agent_history, workflows, runs_live, runs_ended, memories) = counts;
            Ok(Health {
                version: format!("Postgres {version}"),
                round_trip,
                agents,
                change_log,
                agent_history,
                workflows,
                runs_live,
                runs_ended,
                memories,
                schema,
            })
        })
        .await
    }

    pub(crate) async fn prune(&self, keep: &Retention) -> Result<(), StoreError> {
        let millis = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let keep = *keep;
        self.read(async |conn| {
            for _ in 0..PRUNE_ROUNDS_MAX {
                // The oldest rows come first in the key, so that this reads what it deletes and no more.
                let deleted: i64 = PgStatement::<BigInt>::new(
                    "WITH old AS (DELETE FROM change_log WHERE (xid, seq) IN \
                     (SELECT xid, seq FROM (SELECT xid, seq, at FROM change_log ORDER BY xid, seq LIMIT ?) c \
                     WHERE c.at < now() - ?::bigint * interval '1 ms') RETURNING xid), \
                     noted AS (UPDATE store_meta \
                     SET change_log_pruned = (SELECT xid FROM old ORDER BY xid DESC LIMIT 1) \
                     WHERE EXISTS (SELECT 1 FROM old)) SELECT count(*) FROM old",
                )
                .bind::<BigInt, _>(PRUNE_LOG_MAX)
                .bind::<BigInt, _>(millis(keep.change_log))
                .row(conn)
                .await?;
                if Pruned::of(deleted, PRUNE_LOG_MAX) == Pruned::All {
                    break;
                }
            }
            for (sql, age) in [
                ("DELETE FROM applied_ops WHERE at < now() - ?::bigint * interval '1 ms'", keep.applied_ops),
                ("DELETE FROM tool_usage WHERE at < now() - ?::bigint * interval '1 ms'", keep.tool_usage),
            ] {
                PgStatement::<()>::new(sql).bind::<BigInt, _>(millis(age)).run(conn).await?;
            }
            agent_checks::prune(conn).await?;
            embeddings::prune(conn).await?;
            for _ in 0..PRUNE_ROUNDS_MAX {
                if workflows::prune_runs(conn, millis(keep.runs)).await? == Pruned::All {
                    break;
                }
            }
            let (expired, forgotten) = (millis(keep.expired_memories), millis(keep.forgotten_memories));
            for _ in 0..PRUNE_ROUNDS_MAX {
                if memories::prune(conn, expired, forgotten).await? == Pruned::All {
                    break;
                }
            }
            Ok(())
        })
        .await
    }

    pub(crate) fn release_idle(&self) {
        let mut kept = 0;
        self.pool.retain(|_, metrics| {
            let keep = kept == 0 || metrics.last_used() < IDLE_MAX;
            kept += usize::from(keep);
            keep
        });
    }
}
