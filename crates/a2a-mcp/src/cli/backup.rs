//! `a2a-mcp backup`, `restore` and `move`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_engine::backup::{self, BackupError, Progress, RestoreMode, SnapshotError, Taken};
use a2a_engine::config::Config;
use a2a_engine::maintenance;
use parking_lot::Mutex;
use serde_json::json;

use super::error::{CliError, Exit};
use super::output;

/// How often work that takes long says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(super) struct BackupArgs {
    /// The file to write, such as a2a.backup.gz
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct RestoreArgs {
    /// A file of `a2a-mcp backup`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Into a database that holds something: of two states of the same thing the higher revision stays
    #[arg(long)]
    merge: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct MoveArgs {
    /// The database to carry everything to: postgres://... or sqlite:PATH
    #[arg(long, value_name = "URL")]
    to: String,
    /// Into a database that holds something: of two states of the same thing the higher revision stays
    #[arg(long)]
    merge: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn backup(args: BackupArgs, config: &Config) -> Result<Exit, CliError> {
    let started = Instant::now();
    let made = backup::backup(config, &args.file, args.force, progress()).await.map_err(failed)?;
    if args.json {
        output::json(&made)?;
        return Ok(Exit::Done);
    }
    let counts = made.tables.iter().map(|table| (table.table.as_str(), table.rows));
    let seconds = started.elapsed().as_secs_f64();
    output::text(&format!("{}; written to {} in {seconds:.1} s\n", counted(counts), args.file.display()))?;
    Ok(Exit::Done)
}

pub(super) async fn restore(args: RestoreArgs, config: &Config) -> Result<Exit, CliError> {
    let started = Instant::now();
    let taken = backup::restore(config, &args.file, mode(args.merge), progress()).await.map_err(failed)?;
    tell(&taken, args.json, &config.location.to_string(), started)
}

pub(super) async fn move_to(args: MoveArgs, config: &Config) -> Result<Exit, CliError> {
    let started = Instant::now();
    let target = maintenance::location(&args.to).map_err(|error| CliError::Usage(format!("--to: {error}")))?;
    let taken = backup::move_to(config, &target, mode(args.merge), progress()).await.map_err(failed)?;
    if !args.json {
        output::note(&format!(
            "{} is left as it is; to work on {target}, set DATABASE_URL in your clients",
            config.location
        ));
    }
    tell(&taken, args.json, &target.to_string(), started)
}

fn mode(merge: bool) -> RestoreMode {
    if merge { RestoreMode::Merge } else { RestoreMode::Empty }
}

fn tell(taken: &[Taken], as_json: bool, place: &str, started: Instant) -> Result<Exit, CliError> {
    if as_json {
        output::json(&json!({"database": place, "tables": taken}))?;
        return Ok(Exit::Done);
    }
    let counts = taken.iter().map(|taken| (taken.table, taken.rows));
    let seconds = started.elapsed().as_secs_f64();
    output::text(&format!("{}; committed to {place} in {seconds:.1} s\n", counted(counts)))?;
    Ok(Exit::Done)
}

/// `3 agents, 12 memories`: what there is of each table.
fn counted<'t>(tables: impl Iterator<Item = (&'t str, u64)>) -> String {
    let some: Vec<String> = tables
        .filter(|(_, rows)| *rows > 0)
        .map(|(table, rows)| format!("{rows} {}", table.replace('_', " ")))
        .collect();
    if some.is_empty() { "nothing".to_owned() } else { some.join(", ") }
}

fn progress() -> Progress {
    let last = Mutex::new(Instant::now());
    Arc::new(move |rows| {
        let mut last = last.lock();
        if last.elapsed() > PROGRESS_INTERVAL {
            *last = Instant::now();
            output::note(&format!("{rows} rows"));
        }
    })
}

fn failed(error: BackupError) -> CliError {
    match error {
        BackupError::Usage(reason) => CliError::Usage(reason),
        BackupError::Snapshot(SnapshotError::Store(error)) => CliError::Store(error),
        BackupError::Snapshot(error @ SnapshotError::NotEmpty { .. }) => {
            CliError::Usage(format!("{error}; restore into an empty one, or add --merge"))
        }
        other => CliError::Failed(other.to_string()),
    }
}
