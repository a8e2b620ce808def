//! Everything in one file, and from one database to another.
//!
//! A backup is gzip over lines of JSON: a head, for each table a line that names it and a line for each row, and an end
//! with the count and the hash of each table and of the file. It is read whole and checked before anything is written.

mod file;

use std::path::Path;
use std::sync::Arc;

use a2a_store::snapshot::{Digests, Part, TableDigest, parts};
use a2a_store::store::{Location, Store};
use serde::Serialize;

use crate::config::{Config, StorageMode};
use crate::maintenance;

pub use a2a_store::snapshot::{RestoreMode, SnapshotError};
pub use file::Head;

/// Tells how many rows have passed.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// Why there is no backup, or nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The file could not be read or written.
    #[error("{path} can't be {what}: {error}")]
    File {
        /// Which file.
        path: String,
        /// read or written.
        what: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is not a whole backup.
    #[error("{path} is not a whole backup: {reason}; nothing was written")]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file comes from a program with tables or columns that this one does not know.
    #[error(
        "{path} was made with schema {schema}, which this program does not know; update a2a-mcp; nothing was written"
    )]
    Newer {
        /// Which file.
        path: String,
        /// The newest step of its database.
        schema: String,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A background thread ended.
    #[error("a task ended: {0}")]
    Task(String),
}

impl From<maintenance::StoreError> for BackupError {
    fn from(error: maintenance::StoreError) -> Self {
        Self::Snapshot(error.into())
    }
}

/// What a backup holds.
#[derive(Debug, Serialize)]
pub struct Backup {
    /// Where it comes from and when.
    pub head: Head,
    /// What each table holds.
    pub tables: Vec<TableDigest>,
}

/// How many rows of a table were taken.
#[derive(Debug, Serialize)]
pub struct Taken {
    /// The table.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
}

/// Writes one consistent state of everything into a file, which appears when it is whole.
///
/// # Errors
/// When there is no database, or the file is there and may not be replaced, or either fails.
pub async fn backup(config: &Config, path: &Path, replace: bool, progress: Progress) -> Result<Backup, BackupError> {
    if path.exists() && !replace {
        return Err(BackupError::Usage(format!("{} is there; choose another name, or add --force", path.display())));
    }
    let store = source(config).await?;
    let head = Head::new(&config.location, schema(&store).await?);
    let parts = store.snapshot();
    let path = path.to_owned();
    blocking(move || file::write(&path, head, parts, &progress)).await
}

/// Writes what a file holds into the database, which is made when it is missing, in one transaction.
///
/// # Errors
/// When nothing was written.
pub async fn restore(
    config: &Config,
    path: &Path,
    mode: RestoreMode,
    progress: Progress,
) -> Result<Vec<Taken>, BackupError> {
    not_in_memory(&config.location)?;
    let checked = path.to_owned();
    // Ordering: the file is read whole and checked before the database is as much as made.
    let backup = blocking(move || file::read(&checked, &|_| {}, &mut |_| true)).await?;
    let known = maintenance::migrate_known().await?;
    if !known.iter().any(|step| step.name == backup.head.schema) {
        return Err(BackupError::Newer { path: path.display().to_string(), schema: backup.head.schema });
    }
    let store = Store::open(&config.location).await?;
    let (to, parts) = parts();
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        // A reader that has gone away had its reason, which it tells itself.
        let backup = file::read(&path, &*progress, &mut |part| to.blocking_send(part).is_ok())?;
        let _gone = to.blocking_send(Part::End(backup.tables));
        Ok::<_, BackupError>(())
    });
    let restored = store.restore(parts, mode).await;
    let read = reading.await.map_err(|error| BackupError::Task(error.to_string()))?;
    // What is wrong with the file is the reason why the restore found no end.
    match (read, restored) {
        (Err(error), Err(SnapshotError::Incomplete)) => Err(error),
        (_, restored) => Ok(taken(restored?)),
    }
}

/// Carries everything into another database, in one transaction there, and leaves the source as it is.
///
/// # Errors
/// When nothing was written.
pub async fn move_to(
    config: &Config,
    target: &Location,
    mode: RestoreMode,
    progress: Progress,
) -> Result<Vec<Taken>, BackupError> {
    not_in_memory(target)?;
    if config.location.to_string() == target.to_string() {
        return Err(BackupError::Usage("the target is the database itself".to_owned()));
    }
    let from = source(config).await?;
    let into = Store::open(target).await?;
    let mut read = from.snapshot();
    let (to, parts) = parts();
    let carrying = async move {
        let mut digests = Digests::default();
        while let Some(part) = read.recv().await {
            let part = part?;
            if let Part::Rows { table, rows } = &part {
                rows.iter().for_each(|row| digests.add(*table, row));
                progress(digests.rows());
            }
            if to.send(part).await.is_err() {
                break;
            }
        }
        Ok::<_, SnapshotError>(())
    };
    match tokio::join!(carrying, into.restore(parts, mode)) {
        (Err(error), Err(SnapshotError::Incomplete)) => Err(error.into()),
        (_, restored) => Ok(taken(restored?)),
    }
}

fn taken(tables: Vec<(&'static str, u64)>) -> Vec<Taken> {
    tables.into_iter().map(|(table, rows)| Taken { table, rows }).collect()
}

/// Opens the database that is there.
async fn source(config: &Config) -> Result<Store, BackupError> {
    if config.storage == StorageMode::Memory {
        return Err(BackupError::Usage("A2A_STORAGE is memory, where there is nothing to read".to_owned()));
    }
    if !maintenance::exists(&config.location) {
        return Err(BackupError::Usage(format!("there is no database at {}", config.location)));
    }
    Ok(Store::open(&config.location).await?)
}

fn not_in_memory(location: &Location) -> Result<(), BackupError> {
    match location {
        Location::Memory => Err(BackupError::Usage("what is written into memory is gone at once".to_owned())),
        Location::Postgres(_) | Location::SqliteFile(_) => Ok(()),
    }
}

async fn schema(store: &Store) -> Result<String, BackupError> {
    let steps = store.migrate_status().await?;
    Ok(steps.into_iter().rfind(|step| step.applied).map(|step| step.name).unwrap_or_default())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BackupError::Task(error.to_string()))?
}
