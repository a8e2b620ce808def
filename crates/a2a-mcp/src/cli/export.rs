//! `a2a-mcp export`: writing what is kept here for other programs, and as documents of our own.

mod a2a_card;
mod claude_agents;
pub(super) mod documents;

use std::sync::Arc;

use a2a_core::agent::Agent;
use a2a_core::limits::PAGE_ROWS_MAX;
use a2a_core::registry::ListQuery;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use a2a_engine::hub::Hub;
use clap::Subcommand;

use super::error::{CliError, Exit};
use super::memory::{self, FilterArgs, Format};
use super::more_help;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Write agents as subagent files of Claude Code
    #[command(
        long_about = "Write agents as subagent files of Claude Code into a folder.\n\nWhat came from such a file comes out \
            as the same file, byte for byte unless it was changed here. Of other agents a file holds name, description \
            and instructions; those whose work is done by an executor other than pull are skipped. A file that is there \
            and differs is left as it is, unless --force is given.",
        after_help = more_help(
            "  a2a-mcp export claude-agents .claude/agents
  a2a-mcp export claude-agents .claude/agents code-reviewer --force"
        )
    )]
    ClaudeAgents(claude_agents::Args),
    /// Write agent cards of the A2A protocol
    #[command(
        long_about = "Write agent cards of the A2A protocol to standard output: one, or a list.\n\nAn agent has one if its \
            executor is a2a. What came from a card comes out as it was, with what was changed here; other agents get a \
            card of version 1.0.",
        after_help = more_help(
            "  a2a-mcp export a2a-card route-planner > agent-card.json
  a2a-mcp export a2a-card > cards.json"
        )
    )]
    A2aCard(a2a_card::Args),
    /// Write agents, workflows and memories of a namespace as one JSON document
    #[command(
        long_about = DOCUMENTS,
        after_help = more_help(
            "  a2a-mcp export json > everything.json
  a2a-mcp export json --only agents --namespace old | a2a-mcp import json - --namespace new"
        )
    )]
    Json(documents::Args),
    /// Write agents, workflows and memories of a namespace as YAML documents
    #[command(
        long_about = DOCUMENTS,
        after_help = more_help(
            "  a2a-mcp export yaml > everything.yaml
  a2a-mcp export yaml --only agents --only workflows > team.yaml"
        )
    )]
    Yaml(documents::Args),
    /// Write memories as the file of the MCP memory server
    #[command(
        long_about = "Write memories as the file of the MCP memory server: JSON lines with entities, observations and \
            relations.\n\nThe same as `a2a-mcp memory export --format server-memory`.",
        after_help = more_help("  a2a-mcp export server-memory > memory.jsonl
  a2a-mcp export server-memory --tag release > memory.jsonl")
    )]
    ServerMemory(Box<FilterArgs>),
}

const DOCUMENTS: &str = "\
Write agents, workflows and memories of one namespace (--namespace) to standard output, as `a2a-mcp import` reads them.

These are the current documents without their history: superseded and expired memories, runs, and what agents have \
experienced are left out. `a2a-mcp backup` keeps everything.";

pub(super) async fn run(command: Command, config: Config) -> Result<Exit, CliError> {
    match command {
        Command::ClaudeAgents(args) => claude_agents::run(args, config).await,
        Command::A2aCard(args) => a2a_card::run(args, config).await,
        Command::Json(args) => documents::run(args, documents::Format::Json, config).await,
        Command::Yaml(args) => documents::run(args, documents::Format::Yaml, config).await,
        Command::ServerMemory(filters) => memory::export::write(Format::ServerMemory, *filters, config).await,
    }
}

/// All agents of the namespace, by id; of `ids` only, when there are some.
async fn agents(hub: &Hub, ids: &[String]) -> Result<Vec<Arc<Agent>>, HubError> {
    let mut query =
        ListQuery { namespace: hub.default_namespace().clone(), limit: PAGE_ROWS_MAX, ..ListQuery::default() };
    if !ids.is_empty() {
        let mut agents = Vec::with_capacity(ids.len());
        for id in ids {
            agents.push(hub.agent_get(None, id).await?);
        }
        return Ok(agents);
    }
    let mut agents = Vec::new();
    loop {
        let page = hub.agent_list(&query).await?;
        agents.extend(page.agents);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return Ok(agents);
        }
    }
}
