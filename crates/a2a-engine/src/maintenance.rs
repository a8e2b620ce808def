//! Looking after the database from outside of a running system: is it there, which schema has it.
//!
//! Errors of this module are for operators. They name hosts, paths and tables, which callers of tools never see, but no
//! credentials.

use a2a_store::database_url::DatabaseUrl;
use a2a_store::store::Store;

use tokio::time::{Duration, Instant};

use crate::config::{Config, StorageMode};

pub use a2a_store::error::StoreError;
pub use a2a_store::query_log::watch;
pub use a2a_store::store::{Health, Location, MigrationStep};

/// How long connections of processes that have just ended may be seen.
const LEAVING: Duration = Duration::from_secs(2);
const LEAVING_POLL: Duration = Duration::from_millis(50);

/// The database that a URL names, as in `DATABASE_URL`.
///
/// # Errors
/// When it names none.
pub fn location(url: &str) -> Result<Location, StoreError> {
    Ok(Location::from(DatabaseUrl::parse(url)?))
}

/// Opens the database as a server would at its start, which makes or updates it when needed, and closes it again.
///
/// # Errors
/// Why a server could not use it. Nothing is tried again.
pub async fn database_check(config: &Config) -> Result<(), StoreError> {
    open(config).await.map(drop)
}

/// Opens the database in the way of the mode.
pub(crate) async fn open(config: &Config) -> Result<Store, StoreError> {
    match config.storage {
        // In mode `backup` it is the database behind memory.
        StorageMode::Persisted | StorageMode::Memory | StorageMode::Backup => Store::open(&config.location).await,
        StorageMode::Replica => Store::open_replica(&config.location).await,
    }
}

/// Runs the migrations that the database lacks and returns their names.
///
/// # Errors
/// When the database can't be reached or is newer than this program, or a step fails; a failed step leaves nothing.
pub async fn migrate_run(config: &Config) -> Result<Vec<String>, StoreError> {
    Store::connect(&config.location).await?.migrate().await
}

/// Undoes the newest migration, with all that is stored in what it made, and returns its name.
///
/// # Errors
/// When there is none or it fails.
pub async fn migrate_revert(config: &Config) -> Result<String, StoreError> {
    Store::connect(&config.location).await?.migrate_revert().await
}

/// What a reset would erase, and who might mind.
#[derive(Debug, Clone)]
pub struct ResetPreview {
    /// What is stored.
    pub health: Health,
    /// Others that are connected, in words.
    pub connected: Vec<String>,
}

/// Looks at what [`migrate_reset`] would erase, `None` when the database has no table of this program.
///
/// # Errors
/// When the database can't be reached, or has a schema that this program does not know.
pub async fn migrate_reset_preview(config: &Config) -> Result<Option<ResetPreview>, StoreError> {
    if !exists(&config.location) {
        return Ok(None);
    }
    // Ordering: before this process itself opens the file.
    let is_alone = config.location.is_alone().await?;
    let store = Store::connect(&config.location).await?;
    if !store.migrate_status().await?.iter().any(|step| step.applied) {
        return Ok(None);
    }
    let until = Instant::now() + LEAVING;
    let mut connected = store.connected().await?;
    // A server learns a moment later that a process has ended.
    while !connected.is_empty() && Instant::now() < until {
        tokio::time::sleep(LEAVING_POLL).await;
        connected = store.connected().await?;
    }
    if !is_alone {
        connected.push("another process has the file open".to_owned());
    }
    // What was made by an older version is brought up to date first, so that it can be counted; a newer one is refused.
    store.migrate().await?;
    Ok(Some(ResetPreview { health: store.health().await?, connected }))
}

/// Erases everything that is stored and makes the schema anew, in one transaction. Returns the names of its steps.
///
/// # Errors
/// Then everything is as it was.
pub async fn migrate_reset(config: &Config) -> Result<Vec<String>, StoreError> {
    Store::connect(&config.location).await?.migrate_reset().await
}

/// All steps that this program or the database knows, oldest first. A SQLite file that is missing is not made.
///
/// # Errors
/// When the database can't be reached.
pub async fn migrate_status(config: &Config) -> Result<Vec<MigrationStep>, StoreError> {
    if !exists(&config.location) {
        return migrate_known().await;
    }
    Store::connect(&config.location).await?.migrate_status().await
}

/// All steps that this program knows, none of them applied.
///
/// # Errors
/// When the steps inside the program can't be read.
pub async fn migrate_known() -> Result<Vec<MigrationStep>, StoreError> {
    // An empty database in memory: both backends have the same steps under the same names.
    Store::connect(&Location::Memory).await?.migrate_status().await
}

/// Whether there is something to open. What a server holds is known only to the server.
pub(crate) fn exists(location: &Location) -> bool {
    match location {
        // An empty file is what a process leaves that was killed right after it began.
        Location::SqliteFile(path) => std::fs::metadata(path).is_ok_and(|file| file.len() > 0),
        Location::Postgres(_) | Location::Memory => true,
    }
}
