//! The database behind the cache: one interface, two backends.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use a2a_core::agent::Agent;
use a2a_core::change::Outcome;
use a2a_core::ids::{AgentKey, Revision};
use a2a_core::time::Timestamp;
use serde::Serialize;

use crate::agent_check::{NotedCheck, StoredCheck};
use crate::database_url::{DatabaseUrl, PostgresUrl, SqliteLocation};
use crate::error::StoreError;
use crate::feed::FeedSession;
use crate::postgres::Postgres;
pub use crate::process::{ProcessInfo, ProcessSeen};
use crate::round::Unit;
use crate::sqlite::Sqlite;
pub use crate::timing::OperationTiming;
use crate::timing::{Operation, Timings};

/// Where the store is.
#[derive(Debug, Clone)]
pub enum Location {
    /// A Postgres database.
    Postgres(Arc<PostgresUrl>),
    /// A SQLite file, made when it is missing.
    SqliteFile(PathBuf),
    /// A SQLite database in memory: nothing is written anywhere, and everything else works as it does on disk.
    Memory,
}

impl From<DatabaseUrl> for Location {
    fn from(url: DatabaseUrl) -> Self {
        match url {
            DatabaseUrl::Postgres(url) => Self::Postgres(Arc::new(url)),
            DatabaseUrl::Sqlite(SqliteLocation::File(path)) => Self::SqliteFile(path),
            DatabaseUrl::Sqlite(SqliteLocation::Memory) => Self::Memory,
        }
    }
}

impl std::fmt::Display for Location {
    /// For people: no user, no password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Postgres(url) => f.write_str(&url.display_safe()),
            Self::SqliteFile(path) => write!(f, "sqlite:{}", path.display()),
            Self::Memory => f.write_str("memory"),
        }
    }
}

impl Location {
    /// The name that people give the database: that of a Postgres database, or of the file.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Postgres(url) => url.database().to_owned(),
            Self::SqliteFile(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Memory => "memory".to_owned(),
        }
    }

    /// Whether nobody else has the SQLite file open; true of anything else.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub async fn is_alone(&self) -> Result<bool, StoreError> {
        match self {
            Self::SqliteFile(path) => crate::sqlite::is_alone(path.clone()).await,
            Self::Postgres(_) | Self::Memory => Ok(true),
        }
    }
}

/// An open, migrated database.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Backend,
    access: Access,
    timings: Arc<Timings>,
}

/// What a process does with a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It reads and writes.
    Write,
    /// It only reads: the database may be a standby.
    Read,
}

#[derive(Debug, Clone)]
pub(crate) enum Backend {
    Postgres(Arc<Postgres>),
    Sqlite(Arc<Sqlite>),
}

/// One tool call, for analytics.
#[derive(Debug, Clone)]
pub struct ToolUsage {
    /// When the call came in.
    pub at: Timestamp,
    /// Name of the tool.
    pub tool: &'static str,
    /// The one agent that it was about, if it was about one.
    pub agent: Option<String>,
    /// Who called, as declared.
    pub actor: Arc<str>,
    /// Time until the answer.
    pub duration: Duration,
    /// Size of the arguments as JSON.
    pub request_bytes: usize,
    /// Size of the structured result as JSON.
    pub response_bytes: usize,
    /// Code of the error, `None` for success.
    pub error_code: Option<String>,
}

/// Calls of one tool within a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolUsageSummary {
    /// Name of the tool.
    pub tool: String,
    /// How many calls.
    pub calls: i64,
    /// How many of them failed.
    pub errors: i64,
    /// Mean time until the answer, in microseconds.
    pub mean_us: i64,
    /// Longest time until the answer, in microseconds.
    pub max_us: i64,
}

/// What the database says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// Product and version.
    pub version: String,
    /// Time of one empty round trip.
    pub round_trip: Duration,
    /// Rows of `agents`, removed ones not counted.
    pub agents: i64,
    /// Rows of `change_log`.
    pub change_log: i64,
    /// Rows of `agent_history`.
    pub agent_history: i64,
    /// Rows of `workflows`, removed ones not counted.
    pub workflows: i64,
    /// Rows of `runs` that have not ended.
    pub runs_live: i64,
    /// Rows of `runs` that have ended.
    pub runs_ended: i64,
    /// Rows of `memories`, forgotten ones not counted.
    pub memories: i64,
    /// The newest migration that was run.
    pub schema: String,
}

/// One revision of an agent, current or replaced.
#[derive(Debug, Clone)]
pub struct AgentVersion {
    /// The agent as it was.
    pub agent: Arc<Agent>,
    /// When this revision was a removal, the time of it.
    pub removed_at: Option<Timestamp>,
}

/// A step of the migrations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrationStep {
    /// Its name, which starts with its date.
    pub name: String,
    /// Whether the database has it.
    pub applied: bool,
}

/// Calls the same method of either backend, and counts it under the name of an operation.
macro_rules! on_backend {
    ($self:ident, $operation:ident, $backend:ident => $call:expr) => {{
        let operation = $crate::timing::Operation::$operation;
        let started = std::time::Instant::now();
        let result = match &$self.backend {
            Backend::Postgres($backend) => $call.await,
            Backend::Sqlite($backend) => $call.await,
        };
        $self.timings.note(operation, started, result.is_err());
        result
    }};
}

impl Store {
    /// Connects, and brings the database up to date when it is older than this program.
    ///
    /// # Errors
    /// When the database can't be reached, or is newer than this program.
    pub async fn open(location: &Location) -> Result<Self, StoreError> {
        let store = Self::connect(location).await?;
        store.migrate().await?;
        Ok(store)
    }

    /// Connects for reading only, to a primary or to a standby of it. Its schema has to be up to date.
    ///
    /// # Errors
    /// When the database can't be reached, or is older or newer than this program.
    pub async fn open_replica(location: &Location) -> Result<Self, StoreError> {
        let store = Self::connect_for(location, Access::Read).await?;
        if on_backend!(store, MigrateStatus, backend => backend.is_older())? {
            return Err(StoreError::SchemaOlder);
        }
        Ok(store)
    }

    /// Connects and looks at nothing.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn connect(location: &Location) -> Result<Self, StoreError> {
        Self::connect_for(location, Access::Write).await
    }

    async fn connect_for(location: &Location, access: Access) -> Result<Self, StoreError> {
        let backend = match location {
            Location::Postgres(url) => {
                let url = match access {
                    Access::Write => url.clone(),
                    Access::Read => Arc::new(PostgresUrl::clone(url).for_reading()),
                };
                Backend::Postgres(Arc::new(Postgres::connect(url).await?))
            }
            Location::SqliteFile(path) => Backend::Sqlite(Arc::new(Sqlite::open(Some(path.clone()), access).await?)),
            Location::Memory => Backend::Sqlite(Arc::new(Sqlite::open(None, access).await?)),
        };
        Ok(Self { backend, access, timings: Arc::default() })
    }

    /// Whether it was opened for reading only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.access == Access::Read
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }
}

pub(crate) mod embeddings;
pub(crate) mod memories;
pub(crate) mod workflows;

pub use memories::{MemoryTouch, MemoryVersion};
pub use workflows::{RunCursor, RunFilter, RunPage, RunSummary, StepPayloads, WorkflowVersion};

impl Store {
    /// Runs the migrations that the database lacks, and returns their names. Several processes may call this at once.
    ///
    /// # Errors
    /// When the database is newer than this program, or a step fails; a failed step leaves nothing behind.
    pub async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        on_backend!(self, Migrate, backend => backend.migrate())
    }

    /// Undoes the newest migration and returns its name.
    ///
    /// # Errors
    /// When there is none or it fails.
    pub async fn migrate_revert(&self) -> Result<String, StoreError> {
        on_backend!(self, MigrateRevert, backend => backend.migrate_revert())
    }

    /// Undoes all migrations, with everything that is stored, and runs them anew, in one transaction. Returns their names.
    ///
    /// # Errors
    /// When the database has steps that this program does not know, or something of others depends on a table; then
    /// everything is as it was.
    pub async fn migrate_reset(&self) -> Result<Vec<String>, StoreError> {
        on_backend!(self, MigrateReset, backend => backend.migrate_reset())
    }

    /// Whom a server tells to be connected to this database besides; a SQLite file knows of nobody.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn connected(&self) -> Result<Vec<String>, StoreError> {
        match &self.backend {
            Backend::Postgres(backend) => backend.connected().await,
            Backend::Sqlite(_) => Ok(Vec::new()),
        }
    }

    /// All steps that this program or the database knows, oldest first.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn migrate_status(&self) -> Result<Vec<MigrationStep>, StoreError> {
        on_backend!(self, MigrateStatus, backend => backend.migrate_status())
    }

    /// Waits until the database can be written to, at least as far as a connection tells.
    ///
    /// # Errors
    /// When it can't be reached.
    pub async fn ready(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Postgres(backend) => backend.ready().await,
            Backend::Sqlite(_) => Ok(()),
        }
    }

    /// Commits units as one transaction and returns an outcome for each change of each unit. What the database itself
    /// rejects is isolated and fails alone. With `recheck`, writes that an earlier attempt has committed are found and
    /// not applied again.
    ///
    /// `base` may tell what the caller believes an agent to be: a right guess saves round trips, a wrong one costs one.
    ///
    /// # Errors
    /// When nothing of it was committed, or it is not known whether it was ([`StoreError::is_ambiguous`]).
    pub async fn commit(
        &self,
        units: Arc<[Unit]>,
        recheck: bool,
        base: Base<'_>,
    ) -> Result<Vec<Vec<Outcome>>, StoreError> {
        let started = std::time::Instant::now();
        let result = match &self.backend {
            Backend::Postgres(backend) => backend.commit(units, recheck, base).await,
            Backend::Sqlite(backend) => backend.commit(units, recheck).await,
        };
        self.timings.note(Operation::AgentCommit, started, result.is_err());
        result
    }

    /// Starts following the database. The session's first step is the load of everything.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub(crate) async fn feed(&self) -> Result<FeedSession, StoreError> {
        match &self.backend {
            Backend::Postgres(backend) => backend.feed().await.map(|f| FeedSession::Postgres(Box::new(f))),
            Backend::Sqlite(backend) => backend.feed().await.map(FeedSession::Sqlite),
        }
    }

    /// The revisions of an agent, newest first, starting below `before` when it is given.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn agent_history(
        &self,
        key: &AgentKey,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<AgentVersion>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        on_backend!(self, AgentHistory, backend => backend.agent_history(key, before.unwrap_or(i64::MAX), limit))
    }

    /// One revision of an agent.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn agent_version(&self, key: &AgentKey, revision: Revision) -> Result<Option<AgentVersion>, StoreError> {
        let found = self.agent_history(key, Some(revision.saturating_add(1)), 1).await?;
        Ok(found.into_iter().next().filter(|version| version.agent.revision == revision))
    }

    /// Appends tool calls.
    ///
    /// # Errors
    /// When nothing was committed.
    pub async fn tool_usage_append(&self, rows: &[ToolUsage]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        on_backend!(self, ToolUsageAppend, backend => backend.tool_usage_append(rows))
    }

    /// Calls by tool since a time, most used first.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn tool_usage_summary(&self, since: Timestamp) -> Result<Vec<ToolUsageSummary>, StoreError> {
        on_backend!(self, ToolUsageSummary, backend => backend.tool_usage_summary(since))
    }

    /// Writes contacts with agents, as far as they are news and the agents are still as they were, and returns what the
    /// database has of those that it took.
    ///
    /// # Errors
    /// When nothing was committed, or it is not known whether it was. They may be sent again.
    pub async fn agent_checks_note(&self, noted: &[NotedCheck]) -> Result<Vec<StoredCheck>, StoreError> {
        if noted.is_empty() {
            return Ok(Vec::new());
        }
        on_backend!(self, AgentChecksNote, backend => backend.agent_checks_note(noted))
    }

    /// One empty round trip.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Postgres(backend) => backend.ping().await,
            Backend::Sqlite(_) => Ok(()),
        }
    }

    /// Asks the database how it is.
    ///
    /// # Errors
    /// When it can't be reached.
    pub async fn health(&self) -> Result<Health, StoreError> {
        on_backend!(self, Health, backend => backend.health())
    }

    /// Deletes what is kept for a time only: the change log, applied operations, tool usage, runs that have ended, and
    /// memories that have expired or were forgotten; and the contacts with agents that were purged.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn prune(&self, keep: &Retention) -> Result<(), StoreError> {
        on_backend!(self, Prune, backend => backend.prune(keep))
    }

    /// Tells that a process is alive. Those that were silent for long are taken away.
    ///
    /// # Errors
    /// When nothing was committed, or it is not known whether it was.
    pub async fn process_beat(&self, info: &ProcessInfo) -> Result<(), StoreError> {
        on_backend!(self, ProcessBeat, backend => backend.process_beat(info))
    }

    /// Takes a process away that ends.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn process_leave(&self, id: &str) -> Result<(), StoreError> {
        on_backend!(self, ProcessLeave, backend => backend.process_leave(id))
    }

    /// The processes that were alive lately, oldest first.
    ///
    /// # Errors
    /// When the database can't be reached, or lacks the table.
    pub async fn process_list(&self) -> Result<Vec<ProcessSeen>, StoreError> {
        on_backend!(self, ProcessList, backend => backend.process_list())
    }

    /// Other schemas of a Postgres database in which this program has tables, with about how many agents.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn other_schemas(&self) -> Result<Vec<(String, i64)>, StoreError> {
        match &self.backend {
            Backend::Postgres(backend) => backend.other_schemas().await,
            Backend::Sqlite(_) => Ok(Vec::new()),
        }
    }

    /// How often each operation was done since the store was opened, and how long it took; what took most time first.
    #[must_use]
    pub fn operation_timings(&self) -> Vec<OperationTiming> {
        self.timings.all()
    }

    pub(crate) fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Makes the feed of Postgres read by sequence number, which loses changes: proves that the tests would see it.
    #[doc(hidden)]
    pub fn tail_by_sequence(&self) {
        if let Backend::Postgres(backend) = &self.backend {
            backend.tail_by_sequence();
        }
    }

    /// Closes connections that are idle and more than what the writer needs.
    pub fn release_idle(&self) {
        if let Backend::Postgres(backend) = &self.backend {
            backend.release_idle();
        }
    }
}

/// How long rows are kept that are kept for a time only.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Of the change log: a process that slept longer reconciles everything.
    pub change_log: Duration,
    /// Of applied operations: far longer than any write is retried.
    pub applied_ops: Duration,
    /// Of tool usage.
    pub tool_usage: Duration,
    /// Of runs that have ended, counted from their end.
    pub runs: Duration,
    /// Of memories that have expired, counted from then.
    pub expired_memories: Duration,
    /// Of memories that were forgotten, counted from then.
    pub forgotten_memories: Duration,
}

/// Rows of the change log that one statement prunes.
pub(crate) const PRUNE_LOG_MAX: i64 = 10_000;
/// How often a bounded pruning is repeated at most, so that other work comes in between.
pub(crate) const PRUNE_ROUNDS_MAX: usize = 100;

/// Whether a bounded pruning has found everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pruned {
    All,
    /// There may be more.
    Some,
}

impl Pruned {
    pub(crate) fn of(deleted: i64, limit: i64) -> Self {
        if deleted < limit { Self::All } else { Self::Some }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            change_log: Duration::from_secs(60 * 60),
            applied_ops: Duration::from_secs(24 * 60 * 60),
            tool_usage: Duration::from_secs(90 * 24 * 60 * 60),
            runs: Duration::from_secs(30 * 24 * 60 * 60),
            expired_memories: Duration::from_secs(7 * 24 * 60 * 60),
            forgotten_memories: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }
}

/// What the caller believes to be the current state of an agent.
pub type Base<'b> = &'b (dyn Fn(&AgentKey) -> Option<Arc<Agent>> + Send + Sync);

/// Rows by key, as backends return them.
pub(crate) type ByKey<T> = HashMap<AgentKey, T>;
