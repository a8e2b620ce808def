//! A database in memory that is brought together with another one from time to time.
//!
//! A sync locks the other database against writers, reads both sides, decides as `reconcile` says, commits what memory
//! lacks, then what the other one lacks. Killed or failed in between, nothing is lost: the other database is as it was,
//! and the next sync finds in memory what it had from there. Processes that follow either side see a new epoch and
//! compare all they have.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::SnapshotError;
use super::reconcile::{Base, Changes, Rows};
use crate::error::StoreError;
use crate::sqlite::Sqlite;
use crate::store::{Backend, Location, Store};

/// Memory, and what both sides had at the last sync.
#[derive(Debug)]
pub(crate) struct InMemory {
    sqlite: Arc<Sqlite>,
    base: Mutex<Base>,
    /// The last change that the other database has.
    seq: Mutex<i64>,
}

/// What the database in memory has done for a sync.
#[derive(Debug, Default)]
pub(crate) struct Exchanged {
    pub(crate) taken: usize,
    pub(crate) to_theirs: Rows,
    pub(crate) replaced: Vec<String>,
    pub(crate) seq: i64,
}

/// What a sync did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    /// Rows that were written into the database or taken away there.
    pub written: usize,
    /// The same of memory.
    pub taken: usize,
    /// Runs that were advanced on both sides, of which one state has given way.
    pub replaced: Vec<String>,
}

impl InMemory {
    pub(crate) fn base(&self) -> MutexGuard<'_, Base> {
        self.base.lock()
    }

    pub(crate) fn exchange(&self, base: &mut Base, theirs: Changes) -> Result<Exchanged, SnapshotError> {
        self.sqlite.exchange(base, theirs)
    }

    /// Notes that the other database has committed.
    pub(crate) fn done(&self, base: &mut Base, exchanged: Exchanged) -> Synced {
        base.absorb(&exchanged.to_theirs);
        *self.seq.lock() = exchanged.seq;
        Synced { written: exchanged.to_theirs.len(), taken: exchanged.taken, replaced: exchanged.replaced }
    }
}

/// A database in memory with the one behind it.
#[derive(Debug, Clone)]
pub struct Mirror {
    memory: Store,
    in_memory: Arc<InMemory>,
    target: Store,
}

impl Mirror {
    /// Loads everything from `target` into memory.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn open(target: Store) -> Result<Self, SnapshotError> {
        let memory = Store::open(&Location::Memory).await?;
        let Backend::Sqlite(sqlite) = memory.backend() else {
            return Err(StoreError::Task("memory is no SQLite".to_owned()).into());
        };
        let in_memory = InMemory { sqlite: sqlite.clone(), base: Mutex::default(), seq: Mutex::default() };
        let mirror = Self { in_memory: Arc::new(in_memory), memory, target };
        mirror.sync().await?;
        Ok(mirror)
    }

    /// The database in memory.
    #[must_use]
    pub fn memory(&self) -> &Store {
        &self.memory
    }

    /// The one behind it.
    #[must_use]
    pub fn target(&self) -> &Store {
        &self.target
    }

    /// Makes both equal.
    ///
    /// # Errors
    /// Then the database behind is as it was, unless it is not known whether it has committed; the next sync finds out.
    pub async fn sync(&self) -> Result<Synced, SnapshotError> {
        match self.target.backend() {
            Backend::Postgres(postgres) => postgres.sync(self.in_memory.clone()).await,
            Backend::Sqlite(sqlite) => sqlite.sync(self.in_memory.clone()).await,
        }
    }

    /// How many changes the database behind does not have yet.
    ///
    /// # Errors
    /// When memory can't be read.
    pub async fn waiting(&self) -> Result<u64, SnapshotError> {
        let synced = *self.in_memory.seq.lock();
        let seq = self.in_memory.sqlite.change_seq().await?;
        Ok(u64::try_from(seq - synced).unwrap_or(0))
    }
}
