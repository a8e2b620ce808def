//! One consistent copy of all that is truth: read in one transaction, written in one transaction, on either backend.
//!
//! A row travels as a JSON array in the order of [`Table::columns`]: times in milliseconds since 1970, bytes in
//! hexadecimal, stored JSON as the text that it is. Both backends write the same row in the same way, so that the hash of
//! a table says whether it is the same in both. What can be made anew is left out: the change log, applied operations, and
//! the vectors of memories.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::error::StoreError;
use crate::store::{Backend, Store};

mod merge;
pub(crate) mod reconcile;
pub mod sync;
mod tables;

pub(crate) use merge::MERGE;
pub use tables::{Column, Kind, TABLES, Table};

/// Rows that travel together at most.
const PART_ROWS_MAX: usize = 500;
/// Bytes after which a part is full.
const PART_BYTES_MAX: usize = 1024 * 1024;
/// Parts that wait at most: enough to keep both sides busy.
const PARTS_MAX: usize = 4;

/// A part of a copy.
#[derive(Debug, Clone)]
pub enum Part {
    /// Rows of a table. Tables come in the order of [`TABLES`], rows in that of their keys.
    Rows {
        /// The position of the table in [`TABLES`].
        table: usize,
        /// Each as JSON.
        rows: Vec<String>,
    },
    /// That was everything: what each table holds.
    End(Vec<TableDigest>),
}

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TableDigest {
    /// Its name.
    pub table: String,
    /// How many rows.
    pub rows: u64,
    /// SHA-256 of the rows, each with a line end, in hexadecimal.
    pub sha256: String,
}

/// Counts and hashes rows as they pass by.
#[derive(Debug, Clone)]
pub struct Digests {
    tables: Vec<(u64, Sha256)>,
}

impl Default for Digests {
    fn default() -> Self {
        Self { tables: TABLES.iter().map(|_| (0, Sha256::new())).collect() }
    }
}

impl Digests {
    /// Takes a row of a table.
    pub fn add(&mut self, table: usize, row: &str) {
        if let Some((rows, hash)) = self.tables.get_mut(table) {
            *rows += 1;
            hash.update(row.as_bytes());
            hash.update(b"\n");
        }
    }

    /// How many rows there were.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|(rows, _)| rows).sum()
    }

    /// What came of it.
    #[must_use]
    pub fn finish(self) -> Vec<TableDigest> {
        let named = TABLES.iter().zip(self.tables);
        named
            .map(|(table, (rows, hash))| TableDigest {
                table: table.name.to_owned(),
                rows,
                sha256: hex(&hash.finalize()),
            })
            .collect()
    }
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a copy was not made or not taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A statement of Postgres failed.
    #[error("database error: {0}")]
    Postgres(String),
    /// There is something already.
    #[error("the database is not empty: {table} has {rows} rows")]
    NotEmpty {
        /// The first table with rows.
        table: &'static str,
        /// How many.
        rows: i64,
    },
    /// What was to be written ended before its end.
    #[error("the data ended early, so that nothing was written")]
    Incomplete,
    /// A row is not one of its table.
    #[error("a row of {table} is not valid: {reason}")]
    Row {
        /// The table.
        table: &'static str,
        /// Why.
        reason: String,
    },
    /// What was read back is not what was to be written.
    #[error("{table} holds something else than what was to be written, so that nothing was kept")]
    Differs {
        /// The table.
        table: String,
    },
}

impl From<diesel::result::Error> for SnapshotError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(StoreError::Database(error))
    }
}

impl From<tokio_postgres::Error> for SnapshotError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned()))
    }
}

/// How a copy is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreMode {
    /// Into a database without agents, workflows, runs and memories.
    Empty,
    /// Into one that has some: of two states of the same thing the one with the higher revision stays.
    Merge,
}

/// Puts rows together to parts.
pub(crate) struct Parts {
    to: mpsc::Sender<Result<Part, SnapshotError>>,
    table: usize,
    rows: Vec<String>,
    bytes: usize,
    digests: Digests,
}

impl Parts {
    fn new(to: mpsc::Sender<Result<Part, SnapshotError>>) -> Self {
        Self { to, table: 0, rows: Vec::new(), bytes: 0, digests: Digests::default() }
    }

    /// Takes a row as the database writes it, and returns the part that is full with it.
    pub(crate) fn add(&mut self, table: usize, row: &str) -> Result<Option<Part>, SnapshotError> {
        let before = (table != self.table).then(|| self.take()).flatten();
        self.table = table;
        let row = canonical(table, row)?;
        self.digests.add(table, &row);
        self.bytes += row.len();
        self.rows.push(row);
        if before.is_some() || (self.rows.len() < PART_ROWS_MAX && self.bytes < PART_BYTES_MAX) {
            return Ok(before);
        }
        Ok(self.take())
    }

    fn take(&mut self) -> Option<Part> {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        (!rows.is_empty()).then_some(Part::Rows { table: self.table, rows })
    }

    /// Sends a part; waits while nobody takes the earlier ones.
    pub(crate) async fn send(&self, part: Option<Part>) -> Result<(), SnapshotError> {
        let Some(part) = part else { return Ok(()) };
        self.to.send(Ok(part)).await.map_err(|_| SnapshotError::Incomplete)
    }

    /// The same on a thread that may block.
    pub(crate) fn send_blocking(&self, part: Option<Part>) -> Result<(), SnapshotError> {
        let Some(part) = part else { return Ok(()) };
        self.to.blocking_send(Ok(part)).map_err(|_| SnapshotError::Incomplete)
    }

    /// What is left, and the end.
    pub(crate) fn finish(&mut self) -> (Option<Part>, Part) {
        (self.take(), Part::End(std::mem::take(&mut self.digests).finish()))
    }
}

/// Writes a row in the one way that both backends share.
///
/// # Errors
/// When it is no row of the table.
pub fn canonical(table: usize, row: &str) -> Result<String, SnapshotError> {
    let Some(table) = TABLES.get(table) else {
        return Err(SnapshotError::Row { table: "no table", reason: "there is no such table".to_owned() });
    };
    let wrong = |reason: String| SnapshotError::Row { table: table.name, reason };
    let mut values: Vec<Value> = serde_json::from_str(row).map_err(|error| wrong(error.to_string()))?;
    if values.len() != table.columns.len() {
        return Err(wrong(format!("it has {} columns instead of {}", values.len(), table.columns.len())));
    }
    for (value, column) in values.iter_mut().zip(table.columns) {
        let is_right = match (column.kind, &*value) {
            (_, Value::Null) => true,
            (Kind::Text | Kind::Json | Kind::Bytes, value) => value.is_string(),
            (Kind::Integer | Kind::Time, value) => value.is_i64(),
            (Kind::Boolean, Value::Bool(_)) => true,
            // SQLite has no truth values.
            (Kind::Boolean, number) => {
                let truth = number.as_i64().filter(|number| (0..=1).contains(number)).map(|number| number == 1);
                truth.inspect(|truth| *value = Value::Bool(*truth)).is_some()
            }
            (Kind::Real, number) => match number.as_f64() {
                // Postgres keeps four bytes, and so does the program.
                #[allow(clippy::cast_possible_truncation, reason = "the column has this precision")]
                Some(number) => {
                    *value = Value::from(f64::from(number as f32));
                    true
                }
                None => false,
            },
        };
        if !is_right {
            return Err(wrong(format!("{} is not a {:?}", column.name, column.kind)));
        }
    }
    Ok(Value::from(values).to_string())
}

impl Store {
    /// Reads everything in one transaction. The last part is [`Part::End`]; without it something went wrong, and the
    /// last message says what.
    #[must_use]
    pub fn snapshot(&self) -> mpsc::Receiver<Result<Part, SnapshotError>> {
        let (to, parts) = mpsc::channel(PARTS_MAX);
        let backend = self.backend().clone();
        tokio::spawn(async move {
            let made = match &backend {
                Backend::Postgres(postgres) => postgres.snapshot(Parts::new(to.clone())).await,
                Backend::Sqlite(sqlite) => sqlite.snapshot(Parts::new(to.clone())).await,
            };
            if let Err(error) = made {
                // Whoever has gone away needs no error.
                let _gone = to.send(Err(error)).await;
            }
        });
        parts
    }

    /// Writes a copy in one transaction and returns how many rows of each table were taken. A copy for an empty database
    /// is read back and compared before the transaction commits. Every process that follows the database compares all it
    /// has afterwards.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn restore(
        &self,
        parts: mpsc::Receiver<Part>,
        mode: RestoreMode,
    ) -> Result<Vec<(&'static str, u64)>, SnapshotError> {
        match self.backend() {
            Backend::Postgres(postgres) => postgres.restore(parts, mode).await,
            Backend::Sqlite(sqlite) => sqlite.restore(parts, mode).await,
        }
    }
}

/// A channel for what [`Store::restore`] takes.
#[must_use]
pub fn parts() -> (mpsc::Sender<Part>, mpsc::Receiver<Part>) {
    mpsc::channel(PARTS_MAX)
}

/// Compares what was written with what was to be written. `kept` rows of tool usage were there before.
pub(crate) fn compare(expected: &[TableDigest], found: &[TableDigest], kept: u64) -> Result<(), SnapshotError> {
    for (expected, found) in expected.iter().zip(found) {
        let is_same = if kept > 0 && expected.table == "tool_usage" {
            found.rows == expected.rows + kept
        } else {
            found == expected
        };
        if !is_same {
            return Err(SnapshotError::Differs { table: found.table.clone() });
        }
    }
    Ok(())
}

/// The end of a statement that inserts rows: those that are there get the new values.
pub(crate) fn on_conflict(table: &Table) -> String {
    if table.key == "id" && !table.is_content {
        // What happened has no identity.
        return String::new();
    }
    let set: Vec<String> = table.columns.iter().map(|column| format!("{0} = excluded.{0}", column.name)).collect();
    format!("ON CONFLICT ({}) DO UPDATE SET {}", table.key, set.join(", "))
}

/// Rows of one table as they are written at once.
pub(crate) fn batches(rows: &reconcile::Rows, table: usize) -> Vec<Vec<&str>> {
    let mut batches: Vec<Vec<&str>> = Vec::new();
    let mut bytes = PART_BYTES_MAX;
    for row in rows.iter().filter(|(key, _)| key.0 == table).filter_map(|(_, row)| row.as_deref()) {
        if bytes >= PART_BYTES_MAX || batches.last().is_none_or(|batch| batch.len() >= PART_ROWS_MAX) {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += row.len();
        if let Some(batch) = batches.last_mut() {
            batch.push(row);
        }
    }
    batches
}

/// The keys of the rows of a table that are to go, as a JSON array, unless there are none.
pub(crate) fn gone(rows: &reconcile::Rows, table: usize) -> Option<String> {
    let keys: Vec<&str> =
        rows.iter().filter(|(key, row)| key.0 == table && row.is_none()).map(|(key, _)| key.1.as_str()).collect();
    (!keys.is_empty()).then(|| format!("[{}]", keys.join(",")))
}

/// The name of the table that holds incoming rows while they are merged.
pub(crate) fn incoming(table: &Table) -> String {
    format!("in_{}", table.name)
}
