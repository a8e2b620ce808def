//! What can go wrong with the database, and whether trying again can help.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::database_url::DatabaseUrlError;
use crate::postgres::connect::ConnectError;

/// An error of the store. Its text is for logs and operators: it may name tables, never credentials.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The setting does not name a database.
    #[error(transparent)]
    Url(#[from] DatabaseUrlError),
    /// Postgres could not be reached or did not let us in.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The SQLite file could not be opened.
    #[error("can't open the SQLite file {path}: {reason}")]
    SqliteOpen {
        /// The file.
        path: String,
        /// What the system or SQLite says.
        reason: String,
    },
    /// The database was made by a newer version of this program.
    #[error(
        "the database has schema {database}, but this program knows only up to {program}; \
         update a2a-mcp, or revert the database with the newer program (a2a-mcp migrate revert)"
    )]
    SchemaNewer {
        /// The newest step that the database has.
        database: String,
        /// The newest step that this program has.
        program: String,
    },
    /// The database lacks migrations, and this process may only read it.
    #[error(
        "the database lacks tables that this program reads, and a replica can't make them; start a process in mode \
         persisted, or run a2a-mcp migrate run on the primary"
    )]
    SchemaOlder,
    /// Commits behind a pooler would not be safe.
    #[error(
        "synchronous_commit is off for this role, and behind a pooler it can't be set for the session, so that what is \
         reported as committed could be lost; run ALTER ROLE name SET synchronous_commit TO on"
    )]
    CommitsUnsafe,
    /// A migration failed.
    #[error("migration failed: {0}")]
    Migration(String),
    /// A statement failed.
    #[error("database error: {0}")]
    Database(#[source] DieselError),
    /// The database did not answer in time; whether the write was committed is not known.
    #[error("the database did not answer within {0:?}")]
    Timeout(std::time::Duration),
    /// Another process wrote the same new key at the same moment; the transaction was rolled back.
    #[error("another process wrote the same key at the same moment")]
    Raced,
    /// A part of the batch was committed, and the rest was not.
    #[error("a part of the batch was committed; the rest failed: {0}")]
    Partial(#[source] Box<StoreError>),
    /// A row of the database is not what this program writes.
    #[error("row {key} of {table} can't be read: {reason}")]
    Row {
        /// The table.
        table: &'static str,
        /// Which row.
        key: String,
        /// Why.
        reason: String,
    },
    /// A background thread ended.
    #[error("a task of the store ended: {0}")]
    Task(String),
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        Self::Database(error)
    }
}

impl From<diesel::ConnectionError> for StoreError {
    fn from(error: diesel::ConnectionError) -> Self {
        Self::Task(error.to_string())
    }
}

impl StoreError {
    /// Whether the same call can succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_transient(),
            // With a part committed, trying again is what tells each caller its own outcome.
            Self::Timeout(_) | Self::Raced | Self::Task(_) | Self::Partial(_) => true,
            Self::Database(error) => is_transient(error),
            Self::Url(_)
            | Self::SqliteOpen { .. }
            | Self::SchemaNewer { .. }
            | Self::SchemaOlder
            | Self::CommitsUnsafe
            | Self::Migration(_)
            | Self::Row { .. } => false,
        }
    }

    /// Whether the write may have been committed although this error came back.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Task(_) | Self::Partial(_) => true,
            Self::Database(error) => {
                is_transient(error)
                    && !matches!(error, DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, _))
                    && !is_rolled_back(error)
            }
            _ => false,
        }
    }
}

/// Errors after which the server has certainly rolled back: a deadlock, a lock that was not had, a busy file.
fn is_rolled_back(error: &DieselError) -> bool {
    let DieselError::DatabaseError(_, info) = error else { return false };
    let message = info.message();
    ["deadlock detected", "database is locked", "lock timeout"].iter().any(|known| message.contains(known))
}

pub(crate) fn is_transient(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(kind, info) => match kind {
            DatabaseErrorKind::SerializationFailure | DatabaseErrorKind::ClosedConnection => true,
            DatabaseErrorKind::Unknown | DatabaseErrorKind::UnableToSendCommand => is_transient_message(info.message()),
            _ => false,
        },
        DieselError::BrokenTransactionManager
        | DieselError::RollbackTransaction
        | DieselError::AlreadyInTransaction
        | DieselError::NotInTransaction => true,
        DieselError::RollbackErrorOnCommit { rollback_error, commit_error } => {
            is_transient(rollback_error) || is_transient(commit_error)
        }
        _ => false,
    }
}

/// diesel keeps only the text of many errors, so that the text has to tell. The list holds what Postgres, its client
/// library, its pooler and SQLite say when a connection is lost, the server stops or starts, or a lock is not had in time.
fn is_transient_message(message: &str) -> bool {
    const TRANSIENT: [&str; 24] = [
        "connection closed",
        "closed the connection",
        "connection reset",
        "broken pipe",
        "terminating connection",
        "the database system is",
        "deadlock detected",
        "lock timeout",
        "canceling statement",
        "database is locked",
        "database table is locked",
        "error communicating with the server",
        "unexpected message from server",
        "cannot execute",
        "read-only transaction",
        "idle-in-transaction",
        "too many connections",
        "remaining connection slots",
        "could not serialize",
        "unexpected EOF",
        // Of PgBouncer, when its server has gone, is not there yet, or another client has left a statement on it.
        "server conn crashed",
        "cannot connect to server",
        "query_wait_timeout",
        "prepared statement",
    ];
    let lower = message.to_lowercase();
    TRANSIENT.iter().any(|known| lower.contains(&known.to_lowercase()))
}
