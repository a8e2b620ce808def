//! `memory show`.

use std::sync::Arc;

use a2a_core::memory::Memory;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use serde_json::Value;

use super::super::error::{CliError, Exit, exit_of};
use super::super::{open, output, table, yaml};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ids of memories, or the unique beginnings of them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Print JSON instead of YAML
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let mut found: Vec<Result<Arc<Memory>, HubError>> = Vec::with_capacity(args.ids.len());
    for id in &args.ids {
        found.push(hub.memory_get(None, id).await);
    }
    hub.close().await;
    let mut exit = Exit::Done;
    let mut shown = 0;
    for result in found {
        match result {
            Ok(memory) if args.json => output::json(&*memory)?,
            Ok(memory) => {
                let between = if shown > 0 { "---\n" } else { "" };
                output::text(&format!("{between}{}", document(&memory)?))?;
                shown += 1;
            }
            Err(error) => {
                output::note(&format!("error: {error}"));
                if exit != Exit::Database {
                    exit = exit_of(&error);
                }
            }
        }
    }
    Ok(exit)
}

/// The document that its author wrote, as YAML, with the rest above it.
fn document(memory: &Memory) -> Result<String, CliError> {
    let failed = |error: serde_json::Error| CliError::Failed(format!("{} can't be shown: {error}", memory.id));
    // By way of the text, where 0.6 is 0.6: a value would have the digits of double precision.
    let text = memory.spec.to_json().map_err(failed)?;
    let Value::Object(fields) = serde_json::from_str(&text).map_err(failed)? else { return Ok(String::new()) };
    let Memory { id, provenance, frequency, accesses, revision, .. } = memory;
    let author = table::one_line(provenance.author.as_str());
    let mut head = format!("# {id}, revision {revision}, told {} by {author}\n", memory.created_at);
    head.push_str(&format!("# trust: {}; told {frequency} times, recalled {accesses} times\n", provenance.trust));
    if !provenance.derived_from.is_empty() {
        let from: Vec<&str> = provenance.derived_from.iter().map(|id| id.as_str()).collect();
        head.push_str(&format!("# made from {}\n", from.join(", ")));
    }
    if let Some(successor) = &memory.superseded_by {
        head.push_str(&format!("# superseded by {successor}\n"));
    }
    Ok(head + &yaml::memory(&fields))
}
