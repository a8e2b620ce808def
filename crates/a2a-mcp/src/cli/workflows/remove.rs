//! `workflows remove`.

use a2a_core::ids::Actor;
use a2a_engine::config::Config;
use serde_json::{Value, json};

use super::super::error::{CliError, Exit, exit_of};
use super::super::{open, output};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Whole ids of the workflows
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let mut exit = Exit::Done;
    let mut rows: Vec<Value> = Vec::new();
    let mut text = String::new();
    for id in &args.ids {
        match hub.workflow_remove(None, id, None, actor).await {
            Ok(revision) => {
                text.push_str(&format!("removed {id} at revision {revision}\n"));
                rows.push(json!({"id": id, "status": "removed", "revision": revision}));
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
    hub.close().await;
    if args.json {
        output::json(&json!({ "workflows": rows }))?;
    } else {
        output::text(&text)?;
    }
    Ok(exit)
}
