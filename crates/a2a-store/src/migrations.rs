//! The migrations of both backends, embedded in the binary.

use std::collections::BTreeSet;

use diesel::backend::Backend;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use crate::error::StoreError;
use crate::store::MigrationStep;

pub(crate) const POSTGRES: EmbeddedMigrations = embed_migrations!("../../migrations/postgres");
pub(crate) const SQLITE: EmbeddedMigrations = embed_migrations!("../../migrations/sqlite");

/// What diesel_migrations says went wrong.
pub(crate) fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Migration(error.to_string())
}

/// The steps in `source` as (version, name), oldest first. The version is the name without its dashes and its noun.
fn known<DB: Backend>(source: &EmbeddedMigrations) -> Result<Vec<(String, String)>, StoreError> {
    let mut steps: Vec<(String, String)> = MigrationSource::<DB>::migrations(source)
        .map_err(failed)?
        .iter()
        .map(|step| (step.name().version().to_string(), step.name().to_string()))
        .collect();
    steps.sort_unstable();
    Ok(steps)
}

/// The name of the step with this version.
pub(crate) fn name<DB: Backend>(
    source: &EmbeddedMigrations,
    version: &MigrationVersion<'_>,
) -> Result<String, StoreError> {
    let version = version.to_string();
    let found = known::<DB>(source)?.into_iter().find(|(known, _)| *known == version);
    Ok(found.map_or(version, |(_, name)| name))
}

/// All steps, with what the database has. A step that this program does not know has its version as name.
pub(crate) fn status<DB: Backend>(
    source: &EmbeddedMigrations,
    applied: &BTreeSet<String>,
) -> Result<Vec<MigrationStep>, StoreError> {
    let known = known::<DB>(source)?;
    let unknown = applied.iter().filter(|version| !known.iter().any(|(k, _)| k == *version));
    let mut steps: Vec<(String, MigrationStep)> = known
        .iter()
        .map(|(version, name)| {
            (version.clone(), MigrationStep { name: name.clone(), applied: applied.contains(version) })
        })
        .chain(unknown.map(|version| (version.clone(), MigrationStep { name: version.clone(), applied: true })))
        .collect();
    steps.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(steps.into_iter().map(|(_, step)| step).collect())
}

/// Whether steps are missing in the database.
///
/// # Errors
/// When the database has steps that this program does not know.
pub(crate) fn is_pending<DB: Backend>(
    source: &EmbeddedMigrations,
    applied: &BTreeSet<String>,
) -> Result<bool, StoreError> {
    let known = known::<DB>(source)?;
    if let Some(newest) = applied.iter().rfind(|version| !known.iter().any(|(k, _)| k == *version)) {
        return Err(StoreError::SchemaNewer {
            database: newest.clone(),
            program: known.last().map(|(version, _)| version.clone()).unwrap_or_default(),
        });
    }
    Ok(known.iter().any(|(version, _)| !applied.contains(version)))
}
