//! `memory suggest`.

use a2a_core::memory::Memory;
use a2a_engine::config::Config;
use a2a_engine::hub::{MemoryMatches, Suggestions};
use serde::Serialize;

use super::super::error::{CliError, Exit};
use super::super::{open, output, table};
use super::{HEADS, cells};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The name of a capability
    capability: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let known = hub.memory_suggestions(None, &args.capability).await;
    hub.close().await;
    let known = known?;
    if args.json {
        output::json(&Shown::of(&known))?;
        return Ok(Exit::Done);
    }
    let text = for_people(&known);
    if text.is_empty() {
        output::note("nothing is known of this capability yet; runs and `a2a-mcp memory feedback` teach it");
    }
    output::text(&text)?;
    Ok(Exit::Done)
}

/// Suggestions for programs.
#[derive(Serialize)]
struct Shown<'a> {
    agents: Vec<ShownAgent<'a>>,
    tools: Vec<ShownTool<'a>>,
    worked: ShownMatches<'a>,
    failed: ShownMatches<'a>,
}

#[derive(Serialize)]
struct ShownAgent<'a> {
    agent: &'a str,
    reliability: f32,
    worked: u32,
    failed: u32,
}

#[derive(Serialize)]
struct ShownTool<'a> {
    tool: &'a str,
    count: u64,
}

#[derive(Serialize)]
struct ShownMatches<'a> {
    total: usize,
    memories: Vec<&'a Memory>,
}

impl<'a> Shown<'a> {
    fn of(known: &'a Suggestions) -> Self {
        let matches = |matches: &'a MemoryMatches| ShownMatches {
            total: matches.total,
            memories: matches.memories.iter().map(|memory| &**memory).collect(),
        };
        let agents = known.agents.iter().map(|(agent, record, reliability)| ShownAgent {
            agent: agent.as_str(),
            reliability: *reliability,
            worked: record.worked,
            failed: record.failed,
        });
        Self {
            agents: agents.collect(),
            tools: known.tools.iter().map(|(tool, count)| ShownTool { tool, count: *count }).collect(),
            worked: matches(&known.worked),
            failed: matches(&known.failed),
        }
    }
}

fn for_people(known: &Suggestions) -> String {
    let width = table::width();
    let mut parts = Vec::new();
    if !known.agents.is_empty() {
        let rows: Vec<Vec<String>> = known
            .agents
            .iter()
            .map(|(agent, record, reliability)| {
                let counts = [record.worked.to_string(), record.failed.to_string()];
                [vec![agent.to_string(), format!("{reliability:.2}")], counts.to_vec()].concat()
            })
            .collect();
        parts.push(table::render(&["AGENT", "RELIABILITY", "WORKED", "FAILED"], &rows, width));
    }
    if !known.tools.is_empty() {
        let rows: Vec<Vec<String>> =
            known.tools.iter().map(|(tool, count)| vec![count.to_string(), tool.clone()]).collect();
        parts.push(table::render(&["USED", "TOOL"], &rows, width));
    }
    for (what, matches) in [("worked", &known.worked), ("failed", &known.failed)] {
        if matches.total > 0 {
            let rows: Vec<Vec<String>> = matches.memories.iter().map(|memory| cells(memory)).collect();
            let table = table::render(&HEADS, &rows, width);
            parts.push(format!("What {what}, {} of {}:\n{table}", rows.len(), matches.total));
        }
    }
    parts.join("\n")
}
