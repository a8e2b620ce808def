//! `a2a-mcp import`: bringing in what other programs keep, and documents of our own.

mod a2a_card;
mod claude_agents;
mod documents;
mod prisma;
mod report;

use clap::Subcommand;

use a2a_engine::config::Config;

use super::error::{CliError, Exit};
use super::memory::import::FileArgs;
use super::memory::{self, Format};
use super::{more_help, settings};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Import subagent files of Claude Code (.claude/agents/*.md)
    #[command(
        long_about = "Import subagent files of Claude Code: Markdown with front matter, from files or folders with what is \
            in them.\n\nThe name becomes the id, the body the instructions, the folder of a file the category. The front \
            matter is kept as it is written, with tools, model, color and keys that are not known here, so that \
            `a2a-mcp export claude-agents` writes back the same file. Markdown without front matter is skipped.\n\n\
            With --watch it goes on until it is ended and imports again what changes in the folders. An agent whose file \
            is deleted meanwhile stays, unless --remove is given; removed agents keep their history.",
        after_help = more_help(
            "  a2a-mcp import claude-agents ~/.claude/agents --dry-run
  a2a-mcp import claude-agents .claude/agents reviewer.md
  a2a-mcp import claude-agents .claude/agents --watch --remove"
        )
    )]
    ClaudeAgents(claude_agents::Args),
    /// Import agent cards of the A2A protocol, from files or URLs
    #[command(
        long_about = "Import agent cards of the A2A protocol, versions 0.3 and 1.0, from files, folders or URLs.\n\nSkills \
            become capabilities, and the agent is spoken to by the executor a2a. A URL names a card (*.json) or the agent \
            below which the card is at its well-known place, and becomes the URL of the executor; the operator's file \
            (A2A_CONFIG) must allow the host. An agent of a file is looked for at the root of the host that its card \
            names. Cards of version 0.3 are kept and can be found, but steps speak version 1.0 only.",
        after_help = more_help(
            "  a2a-mcp import a2a-card agent-card.json --dry-run
  a2a-mcp import a2a-card https://agents.example/route-planner"
        )
    )]
    A2aCard(a2a_card::Args),
    /// Import our own documents from JSON: agents, workflows and memories
    #[command(
        long_about = documents_help("JSON", "*.json"),
        after_help = more_help(
            "  a2a-mcp import json everything.json --dry-run
  a2a-mcp export json --namespace old | a2a-mcp import json - --namespace new"
        )
    )]
    Json(documents::Args),
    /// Import our own documents from YAML: agents, workflows and memories
    #[command(
        long_about = documents_help("YAML", "*.yaml and *.yml"),
        after_help = more_help(
            "  a2a-mcp import yaml examples --dry-run
  a2a-mcp export yaml > everything.yaml; a2a-mcp import yaml everything.yaml"
        )
    )]
    Yaml(documents::Args),
    /// Import the memories of the MCP memory server
    #[command(
        long_about = "Import the memories of the MCP memory server: the file of JSON lines with its entities, \
            observations and relations.\n\nThe same as `a2a-mcp memory import --format server-memory`: each observation \
            and relation becomes a memory of trust external; what is known is not stored again.",
        after_help = more_help(
            "  a2a-mcp import server-memory ~/.local/share/memory.jsonl --dry-run
  a2a-mcp import server-memory memory.jsonl --redact"
        )
    )]
    ServerMemory(FileArgs),
    /// Move over from the older TypeScript system: its Postgres database, or files of its memories
    #[command(
        long_about = "Move over from the older TypeScript system, which kept agents, workflows and memories in Postgres by \
            Prisma.\n\nIts database is only read, in one transaction; name the schema in the URL if it is not public. \
            Agents keep their ids, workflows become definitions that can be started, the usage of each tool becomes a \
            memory, and personalities go to agents without experiences here. What has no place here is counted and told. \
            Bad rows are told, each with its place, and the others are imported; what is here unchanged is skipped, so \
            that the command can be repeated.\n\nWhat looks like a secret in a memory is refused. A file or folder \
            stands for the files AGENT-memories.json in which that system kept memories without a database.",
        after_help = more_help(
            "  a2a-mcp import prisma postgres://USER:PASSWORD@HOST/a2a?schema=public --dry-run
  a2a-mcp import prisma \"$OLD_DATABASE_URL\" --namespace old
  a2a-mcp import prisma data/agent-memory"
        )
    )]
    Prisma(prisma::Args),
}

fn documents_help(format: &str, files: &str) -> String {
    format!(
        "Import our own documents from {format}: files, folders (their {files} files, also of folders in them) or standard \
         input.\n\nA file holds one document, a list of them, or an object with the lists agents, workflows and memories, \
         as `a2a-mcp export` writes it. A document with steps is a workflow, one with content a memory, any other an \
         agent. Documents that name no namespace go into that of the command (--namespace). What is there unchanged is \
         skipped, so that the command can be repeated; bad documents are told, each with its place, and the others are \
         imported."
    )
}

pub(super) async fn run(command: Command, config: Config, settings: &settings::Args) -> Result<Exit, CliError> {
    let actor = settings.actor();
    match command {
        Command::ClaudeAgents(args) => claude_agents::run(args, config, &actor).await,
        Command::A2aCard(args) => a2a_card::run(args, config, &actor).await,
        Command::Json(args) => documents::run(args, documents::Format::Json, config, &actor).await,
        Command::Yaml(args) => documents::run(args, documents::Format::Yaml, config, &actor).await,
        Command::Prisma(args) => prisma::run(args, config, &actor).await,
        Command::ServerMemory(args) => memory::import::file(args, Some(Format::ServerMemory), config, &actor).await,
    }
}

/// What every import takes.
#[derive(clap::Args, Clone, Copy)]
struct Options {
    /// Check everything and tell what would happen, without writing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}
