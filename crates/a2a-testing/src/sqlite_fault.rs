//! The death of a process at a chosen row that it writes to a SQLite database.
//!
//! A trigger counts the rows that `change_log` gets of runs and their steps. With the chosen one it adds more bytes than
//! the process may have in a file ([`FILE_LIMIT`]), so that the system kills it in the middle of the transaction.

use std::path::Path;

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::BigInt;
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection};

use crate::sqlite_wal;

/// How large a file of a process may get that is to die; more than a small database and its log ever have.
pub const FILE_LIMIT: u64 = 8 << 20;

/// Rows in `change_log` that tell of a run.
const OF_RUNS: &str = "entity IN ('run', 'step')";

/// Lets whoever writes the given row of runs and steps, counted from 1, die at it.
///
/// The process has to be limited to [`FILE_LIMIT`] too.
///
/// # Panics
/// When the database cannot be written.
pub fn arm(database: &Path, row: u64) {
    assert!(std::fs::metadata(database).is_ok_and(|file| file.len() < FILE_LIMIT / 2), "the database is too large");
    let trap = format!(
        "BEGIN IMMEDIATE; \
         CREATE TABLE fault (written INTEGER NOT NULL, dies_at INTEGER NOT NULL, ballast BLOB); \
         INSERT INTO fault SELECT count(*), {row}, NULL FROM change_log WHERE {OF_RUNS}; \
         CREATE TRIGGER fault AFTER INSERT ON change_log WHEN NEW.{OF_RUNS} BEGIN \
         UPDATE fault SET written = written + 1; \
         UPDATE fault SET ballast = zeroblob(2 * {FILE_LIMIT}) WHERE written = dies_at; \
         END; COMMIT"
    );
    connect(database).batch_execute(&trap).unwrap_or_else(|error| panic!("{}: {error}", database.display()));
}

/// Takes it back.
///
/// # Panics
/// When the database cannot be written.
pub fn disarm(database: &Path) {
    let take_back = "BEGIN IMMEDIATE; DROP TRIGGER fault; DROP TABLE fault; COMMIT";
    connect(database).batch_execute(take_back).unwrap_or_else(|error| panic!("{}: {error}", database.display()));
}

/// How many rows `change_log` has of runs and their steps.
///
/// # Panics
/// When the database cannot be read.
#[must_use]
pub fn rows(database: &Path) -> u64 {
    #[derive(QueryableByName)]
    struct Rows {
        #[diesel(sql_type = BigInt)]
        rows: i64,
    }
    let Rows { rows } = diesel::sql_query(format!("SELECT count(*) AS rows FROM change_log WHERE {OF_RUNS}"))
        .get_result(&mut connect(database))
        .unwrap_or_else(|error| panic!("{}: {error}", database.display()));
    u64::try_from(rows).expect("a count")
}

/// How many rows there are after each transaction that wrote some, in the order of the transactions.
///
/// All of them have to be in the log still: nobody may have closed the database as the last one.
///
/// # Panics
/// When the files cannot be read.
#[must_use]
pub fn transactions(database: &Path) -> Vec<u64> {
    let log = std::fs::read(sqlite_wal::path(database)).expect("the log of a database");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("copy.db");
    let mut after = Vec::new();
    for end in sqlite_wal::commits(&log) {
        // A copy that has only the transactions up to this one. What is opened moves its log into itself.
        std::fs::copy(database, &copy).expect("a copy of the database");
        std::fs::write(sqlite_wal::path(&copy), &log[..end]).expect("a copy of the log");
        after.push(rows(&copy));
    }
    after.retain(|rows| *rows > 0);
    after.dedup();
    after
}

fn connect(database: &Path) -> SqliteConnection {
    let path = database.to_str().expect("a path in UTF-8");
    let mut conn = SqliteConnection::establish(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    conn.batch_execute("PRAGMA busy_timeout = 20000").unwrap_or_else(|error| panic!("{path}: {error}"));
    conn
}
