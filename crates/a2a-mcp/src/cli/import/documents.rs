//! `import json` and `import yaml`.

use std::path::PathBuf;
use std::time::Instant;

use a2a_core::ids::Actor;
use a2a_engine::config::Config;
use serde_json::Value;

use super::super::documents::{self, Source};
use super::super::error::{CliError, Exit};
use super::super::open;
use super::Options;
use super::report::{self, Found};

/// The lists of an object that holds documents of several kinds.
const LISTS: [&str; 3] = ["agents", "workflows", "memories"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files or folders; - reads standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Copy)]
pub(super) enum Format {
    Json,
    Yaml,
}

pub(super) async fn run(args: Args, format: Format, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let started = Instant::now();
    let (name, sources) = match format {
        Format::Json => ("json", documents::read_json(&args.paths)),
        Format::Yaml => ("yaml", documents::read_yaml(&args.paths)),
    };
    let found = sorted(sources);
    let hub = open(config).await?;
    let loaded = report::load(&hub, name, found, args.options, actor).await;
    let place = hub.config().location.to_string();
    hub.close().await;
    let (summary, exit) = loaded?;
    report::tell(&summary, args.options, &place, started)?;
    Ok(exit)
}

/// Sorts documents by what they are.
fn sorted(sources: Vec<Source>) -> Found {
    let mut found = Found::default();
    for source in sources {
        match source.document {
            Ok(Value::Object(mut lists)) if is_lists(&lists) => {
                for name in LISTS {
                    let Some(Value::Array(documents)) = lists.remove(name) else { continue };
                    let place = |index| format!("{}.{name}[{index}]", source.place);
                    let named = documents.into_iter().enumerate();
                    let sources = named.map(|(index, document)| Source { place: place(index), document: Ok(document) });
                    match name {
                        "agents" => found.agents.extend(sources),
                        "workflows" => found.workflows.extend(sources),
                        _ => found.memories.extend(sources),
                    }
                }
            }
            Ok(document) if document.get("steps").is_some() => {
                found.workflows.push(Source { place: source.place, document: Ok(document) });
            }
            Ok(document) if document.get("content").is_some() => {
                found.memories.push(Source { place: source.place, document: Ok(document) });
            }
            document => found.agents.push(Source { place: source.place, document }),
        }
    }
    found
}

/// Whether an object holds nothing but lists of documents.
fn is_lists(object: &serde_json::Map<String, Value>) -> bool {
    !object.is_empty() && object.iter().all(|(key, value)| LISTS.contains(&key.as_str()) && value.is_array())
}
