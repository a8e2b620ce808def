//! The embedded backend: one SQLite file that many processes open, or a database in memory.
//!
//! Each call runs on a blocking thread with one of three connections: the writer's, the readers', the feed's. A call
//! whose caller went away runs to its end, so that no transaction is left open.

mod agent_checks;
mod commit;
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
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::change::Outcome;
use a2a_core::ids::{AgentKey, Revision};
use a2a_core::time::Timestamp;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel_migrations::MigrationHarness as _;
use parking_lot::Mutex;

use crate::error::StoreError;
use crate::migrations;
use crate::round::Unit;
use crate::statement::Statement;
use crate::store::{
    Access, AgentVersion, Health, MigrationStep, PRUNE_ROUNDS_MAX, Pruned, Retention, ToolUsage, ToolUsageSummary,
};
use crate::workflow_definition::Definitions;

pub(crate) use feed::SqliteFeed;

type SqliteStatement<'a, Returned> = Statement<'a, diesel::sqlite::Sqlite, Returned>;
type SharedConnection = Arc<Mutex<SqliteConnection>>;

// SQLite from 3.7.0 to 3.51.2 can corrupt a file with several writers. The library is linked in, so that this is known
// when the program is built.
const _: () = assert!(libsqlite3_sys::SQLITE_VERSION_NUMBER >= 3_051_003, "this SQLite can corrupt files");

/// How long a statement waits for another process before it gives up; the writer then tries again until its deadline.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Sqlite {
    path: Option<PathBuf>,
    access: Access,
    writer: SharedConnection,
    reader: SharedConnection,
    /// Shared with the feed.
    definitions: Arc<Definitions>,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Runs `work` with a connection on a thread that may block.
async fn with<T: Send + 'static>(
    connection: &SharedConnection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let connection = connection.clone();
    tokio::task::spawn_blocking(move || work(&mut connection.lock()))
        .await
        .map_err(|error| StoreError::Task(error.to_string()))?
}

/// The clock of this machine, which is also that of every other process that opens the file.
fn now() -> Timestamp {
    Timestamp::from_system_time(std::time::SystemTime::now())
}

impl Sqlite {
    /// Opens or makes the file, or a database in memory. For reading the file has to be there.
    pub(crate) async fn open(path: Option<PathBuf>, access: Access) -> Result<Self, StoreError> {
        tokio::task::spawn_blocking(move || Self::open_blocking(path, access))
            .await
            .map_err(|error| StoreError::Task(error.to_string()))?
    }

    fn open_blocking(path: Option<PathBuf>, access: Access) -> Result<Self, StoreError> {
        match &path {
            Some(path) if access == Access::Read && !path.exists() => {
                return Err(open_error(path, &"there is no such file; a process in mode persisted makes it"));
            }
            Some(path) if access == Access::Write => make_private(path).map_err(|error| open_error(path, &error))?,
            _ => {}
        }
        let writer = Arc::new(Mutex::new(establish(path.as_deref(), access)?));
        let reader = match &path {
            Some(path) => Arc::new(Mutex::new(establish(Some(path), access)?)),
            // Another connection would be another, empty database.
            None => writer.clone(),
        };
        Ok(Self { path, access, writer, reader, definitions: Arc::default() })
    }

    /// Whether the database lacks migrations.
    pub(crate) async fn is_older(&self) -> Result<bool, StoreError> {
        with(&self.reader, |conn| {
            migrations::is_pending::<diesel::sqlite::Sqlite>(&migrations::SQLITE, &applied(conn)?)
        })
        .await
    }

    pub(crate) async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        with(&self.writer, |conn| {
            if !migrations::is_pending::<diesel::sqlite::Sqlite>(&migrations::SQLITE, &applied(conn)?)? {
                return Ok(Vec::new());
            }
            // The lock is taken first and the version looked at again: another process may have been quicker.
            conn.immediate_transaction(|conn| {
                migrations::is_pending::<diesel::sqlite::Sqlite>(&migrations::SQLITE, &applied(conn)?)?;
                let done = conn.run_pending_migrations(migrations::SQLITE).map_err(migrations::failed)?;
                done.iter().map(|step| migrations::name::<diesel::sqlite::Sqlite>(&migrations::SQLITE, step)).collect()
            })
        })
        .await
    }

    pub(crate) async fn migrate_revert(&self) -> Result<String, StoreError> {
        with(&self.writer, |conn| {
            conn.immediate_transaction(|conn| {
                let reverted = conn.revert_last_migration(migrations::SQLITE).map_err(migrations::failed)?;
                migrations::name::<diesel::sqlite::Sqlite>(&migrations::SQLITE, &reverted)
            })
        })
        .await
    }

    pub(crate) async fn migrate_reset(&self) -> Result<Vec<String>, StoreError> {
        with(&self.writer, |conn| {
            conn.immediate_transaction(|conn| {
                conn.revert_all_migrations(migrations::SQLITE).map_err(migrations::failed)?;
                let done = conn.run_pending_migrations(migrations::SQLITE).map_err(migrations::failed)?;
                done.iter().map(|step| migrations::name::<diesel::sqlite::Sqlite>(&migrations::SQLITE, step)).collect()
            })
        })
        .await
    }

    pub(crate) async fn migrate_status(&self) -> Result<Vec<MigrationStep>, StoreError> {
        with(&self.reader, |conn| migrations::status::<diesel::sqlite::Sqlite>(&migrations::SQLITE, &applied(conn)?))
            .await
    }

    pub(crate) async fn commit(&self, units: Arc<[Unit]>, recheck: bool) -> Result<Vec<Vec<Outcome>>, StoreError> {
        with(&self.writer, move |conn| commit::commit(conn, &units, recheck)).await
    }

    pub(crate) async fn feed(&self) -> Result<SqliteFeed, StoreError> {
        match self.path.clone() {
            // Its own connection: data_version tells of commits by other connections only.
            Some(path) => {
                let access = self.access;
                let open = move || establish(Some(&path), access);
                let connection =
                    tokio::task::spawn_blocking(open).await.map_err(|error| StoreError::Task(error.to_string()))??;
                Ok(SqliteFeed::new(Arc::new(Mutex::new(connection)), false, self.definitions.clone()))
            }
            None => Ok(SqliteFeed::new(self.writer.clone(), true, self.definitions.clone())),
        }
    }

    pub(crate) async fn agent_history(
        &self,
        key: &AgentKey,
        before: Revision,
        limit: i64,
    ) -> Result<Vec<AgentVersion>, StoreError> {
        let key = key.clone();
        with(&self.reader, move |conn| rows::history(conn, &key, before, limit)).await
    }

    pub(crate) async fn tool_usage_append(&self, usage: &[ToolUsage]) -> Result<(), StoreError> {
        let text = rows::tool_usage_json(usage);
        with(&self.writer, move |conn| {
            diesel::sql_query(
                "INSERT INTO tool_usage (at, tool, agent, actor, duration_us, request_bytes, response_bytes, error_code) \
                 SELECT value ->> 'at', value ->> 'tool', value ->> 'agent', value ->> 'actor', \
                 value ->> 'duration_us', value ->> 'request_bytes', value ->> 'response_bytes', \
                 value ->> 'error_code' FROM json_each(?)",
            )
            .bind::<Text, _>(text)
            .execute(conn)?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn tool_usage_summary(&self, since: Timestamp) -> Result<Vec<ToolUsageSummary>, StoreError> {
        with(&self.reader, move |conn| {
            let rows: Vec<SummaryRow> = diesel::sql_query(
                "SELECT tool, count(*) AS calls, count(error_code) AS errors, \
                 CAST(avg(duration_us) AS INTEGER) AS mean_us, max(duration_us) AS max_us \
                 FROM tool_usage WHERE at >= ? GROUP BY tool ORDER BY calls DESC, tool",
            )
            .bind::<BigInt, _>(since.0)
            .load(conn)?;
            Ok(rows.into_iter().map(SummaryRow::into).collect())
        })
        .await
    }

    pub(crate) async fn health(&self) -> Result<Health, StoreError> {
        with(&self.reader, |conn| {
            let start = Instant::now();
            diesel::sql_query("SELECT 1").execute(conn)?;
            let round_trip = start.elapsed();
            Ok(Health {
                version: format!("SQLite {}", scalar_text(conn, "SELECT sqlite_version() AS value")?),
                round_trip,
                agents: schema::agents::table.filter(schema::agents::removed_at.is_null()).count().get_result(conn)?,
                change_log: schema::change_log::table.count().get_result(conn)?,
                agent_history: schema::agent_history::table.count().get_result(conn)?,
                workflows: schema::workflows::table
                    .filter(schema::workflows::removed_at.is_null())
                    .count()
                    .get_result(conn)?,
                runs_live: schema::runs::table.filter(schema::runs::finished_at.is_null()).count().get_result(conn)?,
                runs_ended: schema::runs::table
                    .filter(schema::runs::finished_at.is_not_null())
                    .count()
                    .get_result(conn)?,
                memories: schema::memories::table
                    .filter(schema::memories::removed_at.is_null())
                    .count()
                    .get_result(conn)?,
                schema: applied(conn)?.last().cloned().unwrap_or_default(),
            })
        })
        .await
    }

    pub(crate) async fn prune(&self, keep: &Retention) -> Result<(), StoreError> {
        let keep = *keep;
        let before = |age: Duration| now().0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        with(&self.writer, move |conn| {
            conn.immediate_transaction(|conn| {
                use schema::{applied_ops, change_log, store_meta, tool_usage};
                let last: Option<i64> = change_log::table
                    .filter(change_log::at.lt(before(keep.change_log)))
                    .select(diesel::dsl::max(change_log::seq))
                    .get_result(conn)?;
                if let Some(last) = last {
                    diesel::delete(change_log::table.filter(change_log::seq.le(last))).execute(conn)?;
                    diesel::update(store_meta::table).set(store_meta::change_log_pruned.eq(last)).execute(conn)?;
                }
                diesel::delete(applied_ops::table.filter(applied_ops::at.lt(before(keep.applied_ops))))
                    .execute(conn)?;
                diesel::delete(tool_usage::table.filter(tool_usage::at.lt(before(keep.tool_usage)))).execute(conn)?;
                agent_checks::prune_in_txn(conn)?;
                embeddings::prune_in_txn(conn)?;
                Ok::<_, StoreError>(())
            })?;
            for _ in 0..PRUNE_ROUNDS_MAX {
                // Each for itself, so that others may write in between.
                let pruned =
                    conn.immediate_transaction(|conn| workflows::prune_runs_in_txn(conn, before(keep.runs)))?;
                if pruned == Pruned::All {
                    break;
                }
            }
            for _ in 0..PRUNE_ROUNDS_MAX {
                let (expired, forgotten) = (before(keep.expired_memories), before(keep.forgotten_memories));
                let pruned = conn.immediate_transaction(|conn| memories::prune_in_txn(conn, expired, forgotten))?;
                if pruned == Pruned::All {
                    break;
                }
            }
            Ok(())
        })
        .await
    }
}

#[derive(QueryableByName)]
struct SummaryRow {
    #[diesel(sql_type = Text)]
    tool: String,
    #[diesel(sql_type = BigInt)]
    calls: i64,
    #[diesel(sql_type = BigInt)]
    errors: i64,
    #[diesel(sql_type = BigInt)]
    mean_us: i64,
    #[diesel(sql_type = BigInt)]
    max_us: i64,
}

impl From<SummaryRow> for ToolUsageSummary {
    fn from(row: SummaryRow) -> Self {
        Self { tool: row.tool, calls: row.calls, errors: row.errors, mean_us: row.mean_us, max_us: row.max_us }
    }
}

/// Whether nobody else has the file open, which SQLite finds out when it leaves the write-ahead log: for that it needs
/// the file for itself. Whoever opens it next goes back to the log.
pub(crate) async fn is_alone(path: PathBuf) -> Result<bool, StoreError> {
    let look = move || {
        let name = path.to_str().ok_or_else(|| open_error(&path, &"the path is not UTF-8"))?;
        let mut conn = SqliteConnection::establish(name).map_err(|error| open_error(&path, &error))?;
        match conn.batch_execute("PRAGMA busy_timeout = 0; PRAGMA journal_mode = DELETE") {
            Ok(()) => Ok(scalar_text(&mut conn, "SELECT journal_mode AS value FROM pragma_journal_mode")? == "delete"),
            Err(error) if crate::error::is_transient(&error) => Ok(false),
            Err(error) => Err(open_error(&path, &error)),
        }
    };
    tokio::task::spawn_blocking(look).await.map_err(|error| StoreError::Task(error.to_string()))?
}

fn open_error(path: &Path, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::SqliteOpen { path: path.display().to_string(), reason: reason.to_string() }
}

/// Makes the folder (0700) and the file (0600) before SQLite does, whose own files take the mode of the database file.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn establish(path: Option<&Path>, access: Access) -> Result<SqliteConnection, StoreError> {
    let shown = path.unwrap_or(Path::new(":memory:"));
    let name = shown.to_str().ok_or_else(|| open_error(shown, &"the path is not UTF-8"))?;
    let mut conn = SqliteConnection::establish(name).map_err(|error| open_error(shown, &error))?;
    // Ordering: the busy timeout comes first, since switching to the write-ahead log needs a lock.
    let pragmas = format!(
        "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA journal_size_limit = 67108864; PRAGMA query_only = {};",
        BUSY_TIMEOUT.as_millis(),
        if access == Access::Read { "ON" } else { "OFF" }
    );
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        match conn.batch_execute(&pragmas) {
            Ok(()) => return Ok(conn),
            // While another process recovers the log, SQLite does not ask the busy handler.
            Err(error) if Instant::now() < deadline && crate::error::is_transient(&error) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(open_error(shown, &error)),
        }
    }
}

#[derive(QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct IntegerRow {
    #[diesel(sql_type = Integer)]
    value: i32,
}

fn scalar_text(conn: &mut SqliteConnection, sql: &str) -> QueryResult<String> {
    diesel::sql_query(sql).get_result::<TextRow>(conn).map(|row| row.value)
}

/// The versions of the migrations that the database has.
fn applied(conn: &mut SqliteConnection) -> Result<BTreeSet<String>, StoreError> {
    let exists: IntegerRow =
        diesel::sql_query("SELECT count(*) AS value FROM sqlite_master WHERE name = '__diesel_schema_migrations'")
            .get_result(conn)?;
    if exists.value == 0 {
        return Ok(BTreeSet::new());
    }
    let rows: Vec<TextRow> = diesel::sql_query("SELECT version AS value FROM __diesel_schema_migrations").load(conn)?;
    Ok(rows.into_iter().map(|row| row.value).collect())
}
