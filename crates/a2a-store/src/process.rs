//! The processes that use a database, as each one tells of itself.

use std::time::Duration;

use a2a_core::time::Timestamp;
use serde::Serialize;

/// A process that has been silent for so long is taken away by the others: far more than a slow moment, less than anybody
/// would look at for long.
pub(crate) const SILENT_MAX: Duration = Duration::from_secs(10 * 60);

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessInfo {
    /// Chosen at its start.
    #[serde(skip)]
    pub id: String,
    /// `serve` or `worker`.
    pub kind: String,
    /// The machine that it runs on.
    pub host: String,
    /// Its number there.
    pub pid: i64,
    /// The version of the program.
    pub version: String,
    /// The newest migration that the program knows.
    pub schema: String,
    /// How it keeps agents.
    pub mode: String,
    /// The namespace of its calls that name none.
    pub namespace: String,
    /// What its client calls itself.
    pub client: Option<String>,
}

/// A process, and when it was last alive by the clock of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessSeen {
    /// What it says of itself.
    #[serde(flatten)]
    pub info: ProcessInfo,
    /// When it started.
    pub started_at: Timestamp,
    /// How long ago it was alive.
    pub silent_ms: i64,
}

/// The columns in the order of [`ProcessInfo`].
macro_rules! process_columns {
    () => {
        "id, kind, host, pid, version, schema, mode, namespace, client"
    };
}
pub(crate) use process_columns;

pub(crate) type ProcessRow = (String, String, String, i64, String, String, String, String, Option<String>);

impl ProcessSeen {
    pub(crate) fn from_row(row: ProcessRow, started_at: i64, silent_ms: i64) -> Self {
        let (id, kind, host, pid, version, schema, mode, namespace, client) = row;
        let info = ProcessInfo { id, kind, host, pid, version, schema, mode, namespace, client };
        Self { info, started_at: Timestamp(started_at), silent_ms }
    }
}
