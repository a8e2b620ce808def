//! `agents remove`.

use a2a_core::ids::Actor;
use a2a_core::limits::BATCH_ITEMS_MAX;
use a2a_engine::config::Config;
use a2a_engine::hub::{RemoveOptions, RemovedAgent};
use serde_json::{Value, json};

use super::super::error::{CliError, Exit, exit_of};
use super::super::{open, output};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Whole ids of the agents
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Erase the history too, also of agents that are removed already
    #[arg(long)]
    purge: bool,
    /// Answer yes to the question whether to purge
    #[arg(long)]
    yes: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    if args.purge && !args.yes {
        let text = "--purge erases agents with their history, which can't be undone; add --yes to do it";
        return Err(CliError::Usage(text.to_owned()));
    }
    let mut ids = args.ids;
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    let hub = open(config).await?;
    let options = RemoveOptions { purge: args.purge, ..RemoveOptions::default() };
    let mut exit = Exit::Done;
    let mut items = Vec::with_capacity(ids.len());
    for batch in ids.chunks(BATCH_ITEMS_MAX) {
        match hub.agent_remove(batch, &options, actor).await {
            Ok(results) => items.extend(batch.iter().zip(results)),
            Err(error) => items.extend(batch.iter().map(|id| (id, Err(error.clone())))),
        }
    }
    hub.close().await;
    let mut rows: Vec<Value> = Vec::new();
    let mut text = String::new();
    for (id, result) in items {
        match result {
            Ok(RemovedAgent { key, revision, purged }) => {
                let status = if purged { "purged" } else { "removed" };
                text.push_str(&format!("{status} {key} at revision {revision}\n"));
                rows.push(json!({"id": id, "status": status, "revision": revision}));
            }
            Err(error) => {
                if exit == Exit::Done || exit_of(&error) == Exit::Database {
                    exit = exit_of(&error);
                }
                if !args.json {
                    output::note(&format!("error: {id}: {error}"));
                }
                rows.push(json!({"id": id, "status": "failed", "code": error.code(), "message": error.to_string()}));
            }
        }
    }
    if args.json {
        output::json(&json!({"agents": rows}))?;
    } else {
        output::text(&text)?;
    }
    Ok(exit)
}
