//! `import claude-agents`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use a2a_core::ids::Actor;
use a2a_core::limits::BATCH_ITEMS_MAX;
use a2a_engine::config::Config;
use a2a_engine::hub::{Hub, RemoveOptions};
use notify::{Event, RecursiveMode, Watcher as _};
use serde_json::Value;
use tokio::sync::mpsc;

use super::super::documents::{self, Source, Wanted};
use super::super::error::{CliError, Exit};
use super::super::worker::Signals;
use super::super::{claude_agent, open, output};
use super::Options;
use super::report::{self, Found};

const FILES: Wanted = Wanted { extensions: &["md"], named: "*.md" };
/// An editor that saves makes several changes; they are waited for until none has come for so long.
const QUIET: Duration = Duration::from_millis(200);
/// Whoever changes files all the time is served at least so often.
const QUIET_MAX: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files or folders; - reads standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Go on until ended, and import what changes
    #[arg(long, conflicts_with = "dry_run")]
    watch: bool,
    /// With --watch: remove the agent of a file that is deleted meanwhile
    #[arg(long, requires = "watch")]
    remove: bool,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    if args.watch {
        return watch(&args, config, actor).await;
    }
    let started = Instant::now();
    let found = read(&args.paths);
    let hub = open(config).await?;
    let loaded = report::load(&hub, "claude-agents", found, args.options, actor).await;
    let place = hub.config().location.to_string();
    hub.close().await;
    let (summary, exit) = loaded?;
    report::tell(&summary, args.options, &place, started)?;
    Ok(exit)
}

fn read(paths: &[PathBuf]) -> Found {
    let mut found = Found::default();
    documents::inputs(paths, FILES, &mut |input| {
        let text = input.bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned()));
        match text.and_then(|text| claude_agent::read(&text, &input.path)) {
            Ok(Some(document)) => found.agents.push(Source { place: input.place, document: Ok(document) }),
            Ok(None) => found.skipped.push((input.place, "has no front matter, so that it is no agent".to_owned())),
            Err(reason) => found.agents.push(Source { place: input.place, document: Err(reason) }),
        }
    });
    found
}

async fn watch(args: &Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    if args.paths.iter().any(|path| path.as_os_str() == "-") {
        return Err(CliError::Usage("--watch follows files and folders, not standard input".to_owned()));
    }
    let mut signals = Signals::listen()?;
    let (changed, mut changes) = mpsc::channel(1);
    // Ordering: it listens before the files are read for the first time, so that no change falls in between.
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Reading the files is no change of them. An error may hide one.
        if event.as_ref().map_or(true, |event| !event.kind.is_access()) {
            // One that waits to be seen stands for all.
            let _full = changed.try_send(());
        }
    })
    .map_err(unwatched)?;
    for path in &args.paths {
        watcher.watch(path, RecursiveMode::Recursive).map_err(unwatched)?;
    }
    let hub = open(config).await?;
    let followed = tokio::select! {
        followed = follow(args, &hub, &mut changes, actor) => followed,
        _told = signals.any() => Ok(()),
    };
    hub.close().await;
    followed.map(|()| Exit::Done)
}

fn unwatched(error: notify::Error) -> CliError {
    CliError::Failed(format!("changes can't be followed: {error}"))
}

async fn follow(args: &Args, hub: &Hub, changes: &mut mpsc::Receiver<()>, actor: &Actor) -> Result<(), CliError> {
    let place = hub.config().location.to_string();
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut is_first = true;
    loop {
        let started = Instant::now();
        let found = read(&args.paths);
        let there: BTreeSet<String> = places(&found).collect();
        let ids = ids(&found);
        match report::load(hub, "claude-agents", found, args.options, actor).await {
            Ok((summary, _)) => {
                if is_first || summary.is_news() {
                    report::tell(&summary, args.options, &place, started)?;
                }
                is_first = false;
            }
            // It is tried again with the next change.
            Err(error) => output::note(&format!("error: {error}")),
        }
        // A file that is there and can't be read is not deleted: somebody is working on it.
        known.retain(|_, id| !ids.values().any(|there| there == id));
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut known).into_iter().partition(|(place, _)| there.contains(place));
        let gone: Vec<String> = gone.into_values().collect();
        if args.remove {
            remove(hub, &gone, actor).await;
        } else if !gone.is_empty() {
            output::note(&format!("the files of {} are gone; the agents stay (see --remove)", gone.join(", ")));
        }
        known = kept;
        known.extend(ids);
        if changes.recv().await.is_none() {
            return Err(CliError::Failed("changes can't be followed any more".to_owned()));
        }
        let first = Instant::now();
        while first.elapsed() < QUIET_MAX && matches!(tokio::time::timeout(QUIET, changes.recv()).await, Ok(Some(()))) {
        }
    }
}

fn places(found: &Found) -> impl Iterator<Item = String> {
    let agents = found.agents.iter().map(|source| source.place.clone());
    agents.chain(found.skipped.iter().map(|(place, _)| place.clone()))
}

/// The ids of the files that could be read, by their places.
fn ids(found: &Found) -> BTreeMap<String, String> {
    let id = |source: &Source| {
        let id = source.document.as_ref().ok()?.get("id").and_then(Value::as_str)?;
        Some((source.place.clone(), id.to_owned()))
    };
    found.agents.iter().filter_map(id).collect()
}

async fn remove(hub: &Hub, ids: &[String], actor: &Actor) {
    for batch in ids.chunks(BATCH_ITEMS_MAX) {
        match hub.agent_remove(batch, &RemoveOptions::default(), actor).await {
            Ok(results) => {
                for (id, result) in batch.iter().zip(results) {
                    match result {
                        Ok(_) => output::note(&format!("removed agent {id}, whose file is gone")),
                        Err(error) => output::note(&format!("error: {id}: {error}")),
                    }
                }
            }
            Err(error) => output::note(&format!("error: {}: {error}", batch.join(", "))),
        }
    }
}
