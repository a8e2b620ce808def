//! A consistency checker: logs of operations in, anomalies out.
//!
//! The workload it understands: each key holds a list of unique texts, and every write appends one text with a
//! compare-and-set on the key's revision. The list then *is* the history of the key, so that what was lost, doubled,
//! reordered or seen too late can be told from any read. Processes log what they did with the times of start and
//! end; [`check`] compares the logs with each other and with the final state of the database.
//!
//! ```
//! use a2a_testing::history::{FinalState, History, Outcome};
//! use std::time::Duration;
//!
//! let history = History::new();
//! let started = history.now();
//! // ... the write is done here ...
//! history.write("process 1", "key", started, "text 1", 1, Outcome::Committed { revision: 2 });
//! let state = FinalState::from([("key".to_owned(), (2, vec!["text 1".to_owned()]).into())]);
//! assert_eq!(history.check(&state, Duration::from_secs(1)), []);
//! ```

mod anomaly;
mod check;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use self::anomaly::Anomaly;
pub use self::check::check;

/// How soon a committed write must be seen by every process.
pub const STALENESS_BOUND: Duration = Duration::from_secs(1);

/// One operation of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// The process that did it. A process that is started again is another one: it has another memory.
    pub process: String,
    /// When it was called, in nanoseconds of a clock that all logs share.
    pub start_ns: u64,
    /// When it returned.
    pub end_ns: u64,
    /// The key it was done on.
    pub key: String,
    /// What it did.
    pub kind: OpKind,
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpKind {
    /// Appended a value.
    Write {
        /// The value, unique over the whole history.
        value: String,
        /// The revision that the key was expected to have.
        expected_revision: u64,
        /// What the process was told.
        outcome: Outcome,
    },
    /// Read the whole list. A key that is not there has revision 0 and no values.
    Read {
        /// The revision that was shown.
        revision: u64,
        /// The list.
        values: Vec<String>,
    },
}

/// What a process was told about its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done and durable.
    Committed {
        /// The revision that it made.
        revision: u64,
    },
    /// It was not done, because the key had another revision.
    Conflict {
        /// The revision that the key had.
        current: u64,
    },
    /// Nothing is known: no answer, or one that says so.
    Unknown,
    /// It was not done.
    Failed,
}

/// A key in the final state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FinalValue {
    /// Its revision.
    pub revision: u64,
    /// Its list.
    pub values: Vec<String>,
}

impl From<(u64, Vec<String>)> for FinalValue {
    fn from((revision, values): (u64, Vec<String>)) -> Self {
        Self { revision, values }
    }
}

/// What the database holds after everything has ended. A key that is not in it was never written.
pub type FinalState = BTreeMap<String, FinalValue>;

/// A log that many tasks write to, with the clock they share.
#[derive(Debug)]
pub struct History {
    start: Instant,
    ops: Mutex<Vec<Op>>,
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    /// Starts an empty log and its clock.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now(), ops: Mutex::new(Vec::new()) }
    }

    /// Returns the nanoseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a test ends within centuries")
    }

    /// Logs a write that ends now.
    pub fn write(
        &self,
        process: &str,
        key: &str,
        start_ns: u64,
        value: &str,
        expected_revision: u64,
        outcome: Outcome,
    ) {
        let kind = OpKind::Write { value: value.to_owned(), expected_revision, outcome };
        self.push(process, key, start_ns, kind);
    }

    /// Logs a read that ends now.
    pub fn read(&self, process: &str, key: &str, start_ns: u64, revision: u64, values: Vec<String>) {
        self.push(process, key, start_ns, OpKind::Read { revision, values });
    }

    fn push(&self, process: &str, key: &str, start_ns: u64, kind: OpKind) {
        let op = Op { process: process.to_owned(), start_ns, end_ns: self.now(), key: key.to_owned(), kind };
        self.log().push(op);
    }

    fn log(&self) -> MutexGuard<'_, Vec<Op>> {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many operations have been logged.
    #[must_use]
    pub fn len(&self) -> usize {
        self.log().len()
    }

    /// Returns whether nothing has been logged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.log().is_empty()
    }

    /// Returns a copy of the log.
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        self.log().clone()
    }

    /// Checks the log; see [`check`].
    #[must_use]
    pub fn check(&self, final_state: &FinalState, bound: Duration) -> Vec<Anomaly> {
        check(&self.log(), final_state, bound)
    }
}
