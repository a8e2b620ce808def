//! `export json` and `export yaml`.

use a2a_core::limits::PAGE_ROWS_MAX;
use a2a_engine::config::Config;
use a2a_engine::hub::Hub;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::error::{CliError, Exit};
use super::super::memory::FilterArgs;
use super::super::memory::export;
use super::super::{open, output, yaml};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these; may be given several times [default: all]
    #[arg(long, value_enum)]
    only: Vec<Kind>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    Agents,
    Workflows,
    Memories,
}

#[derive(Clone, Copy)]
pub(super) enum Format {
    Json,
    Yaml,
}

/// Everything, in the order in which it is written.
#[derive(Default, Serialize)]
struct Documents {
    agents: Vec<Map<String, Value>>,
    workflows: Vec<Map<String, Value>>,
    memories: Vec<Map<String, Value>>,
}

pub(super) async fn run(args: Args, format: Format, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let documents = read(&hub, &args.only).await;
    hub.close().await;
    let documents = documents?;
    match format {
        Format::Json => output::json(&documents)?,
        Format::Yaml => {
            let agents = documents.agents.iter().map(yaml::agent);
            let workflows = documents.workflows.iter().map(yaml::workflow);
            let memories = documents.memories.iter().map(yaml::memory);
            for (index, text) in agents.chain(workflows).chain(memories).enumerate() {
                output::text(if index == 0 { "" } else { "---\n" })?;
                output::text(&text)?;
            }
        }
    }
    let Documents { agents, workflows, memories } = documents;
    let counts = format!("{} agents, {} workflows, {} memories", agents.len(), workflows.len(), memories.len());
    output::note(&counts);
    Ok(Exit::Done)
}

async fn read(hub: &Hub, only: &[Kind]) -> Result<Documents, CliError> {
    let wanted = |kind| only.is_empty() || only.contains(&kind);
    let mut documents = Documents::default();
    if wanted(Kind::Agents) {
        for agent in super::agents(hub, &[]).await? {
            documents.agents.push(document(&agent.spec)?);
        }
    }
    if wanted(Kind::Workflows) {
        let mut skip = 0;
        loop {
            let page = hub.workflow_list(None, skip, PAGE_ROWS_MAX).await?;
            skip += page.workflows.len();
            for workflow in &page.workflows {
                documents.workflows.push(document(&workflow.spec)?);
            }
            if page.workflows.is_empty() || skip >= page.total {
                break;
            }
        }
    }
    if wanted(Kind::Memories) {
        for memory in export::all(hub, FilterArgs::default()).await? {
            documents.memories.push(document(&*memory)?);
        }
    }
    Ok(documents)
}

/// A document without its namespace, which is that of the command that imports it.
pub(in crate::cli) fn document(value: &impl Serialize) -> Result<Map<String, Value>, CliError> {
    match serde_json::to_value(value) {
        Ok(Value::Object(mut document)) => {
            document.remove("namespace");
            Ok(document)
        }
        Ok(_) => Err(CliError::Failed("a document is not an object".to_owned())),
        Err(error) => Err(CliError::Failed(format!("a document can't be written: {error}"))),
    }
}
