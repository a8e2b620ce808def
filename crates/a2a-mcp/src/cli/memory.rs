//! `a2a-mcp memory`: what the tools for memories do, for people and scripts, and moving memories in and out.

pub(super) mod export;
mod forget;
pub(super) mod import;
mod list;
mod server_memory;
mod show;
mod store;
mod suggest;
mod update;

use std::io::IsTerminal as _;
use std::time::SystemTime;

use a2a_core::memory::recall::MemoryFilters;
use a2a_core::memory::{Memory, MemoryType, Trust};
use a2a_core::time::Timestamp;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use clap::{Subcommand, ValueEnum};

use super::error::{CliError, Exit};
use super::{more_help, settings};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Store a memory, or those of a file
    #[command(
        long_about = "Store a memory, or those of a file.\n\nEach is one fact, decision, preference or event, \
            understandable alone. What is known is kept once; with --key or --supersedes it takes the place of an older \
            one. What looks like a secret is refused, or cut out with --redact. A file is JSON or YAML and holds one \
            memory document or a list; only content is required.\n\nWho types the command at a terminal (standard input \
            and standard error are one) is trusted as a user; what a script stores is trusted as an agent's.",
        after_help = more_help(
            "  a2a-mcp memory store We deploy only on Tuesdays --key deploy-day --tag release
  a2a-mcp memory store \"Ann prefers short answers\" --type preference --user ann
  a2a-mcp memory store --file facts.yaml
  echo '{\"content\": \"The staging host is stage-2\"}' | a2a-mcp memory store --file -"
        )
    )]
    Store(store::Args),
    /// Recall what fits a question best
    #[command(
        long_about = "Recall what fits a question best, by its words and its meaning.\n\nThe query is a question, words, \
            an exact phrase, an id or a key. Each hit tells why it was found.",
        after_help = more_help(
            "  a2a-mcp memory search when do we deploy
  a2a-mcp memory search \"short answers\" --type preference --user ann
  a2a-mcp memory search deploy --since 2026-01-01 --json | jq -r '.hits[0].content'"
        )
    )]
    Search(list::SearchArgs),
    /// List memories, the newest first
    #[command(after_help = more_help(
        "  a2a-mcp memory list
  a2a-mcp memory list --type procedural --agent postgres-tuner
  a2a-mcp memory list --tag release --superseded
  a2a-mcp memory list --all --json | jq -r '.memories[].id'"
    ))]
    List(list::ListArgs),
    /// Show the latest turns of a conversation in their order
    #[command(after_help = more_help(
        "  a2a-mcp memory turns support-4711
  a2a-mcp memory turns support-4711 --limit 5 --json"
    ))]
    Turns(list::TurnsArgs),
    /// Show whole memories
    #[command(
        long_about = "Show whole memories, as YAML with what the server keeps of them above.\n\nWith --json each one is a \
            JSON document, one after the other.",
        after_help = more_help(
            "  a2a-mcp memory show mem-k3vq
  a2a-mcp memory show mem-k3vq mem-a7b2 --json | jq -r .content"
        )
    )]
    Show(show::Args),
    /// Tell what is known of a capability: who does it well, what worked, what failed, with which tools
    #[command(after_help = more_help(
        "  a2a-mcp memory suggest tune_query
  a2a-mcp memory suggest tune_query --json | jq '.agents[0]'"
    ))]
    Suggest(suggest::Args),
    /// Change importance, decay, tags, expiry or relations of a memory; new content takes its place
    #[command(after_help = more_help(
        "  a2a-mcp memory update mem-k3vq --set '{\"importance\": 0.9, \"tags\": [\"release\"]}'
  a2a-mcp memory update mem-k3vq --set '{\"content\": \"We deploy on Thursdays\"}'
  a2a-mcp memory update mem-k3vq --set @changes.json --expected-revision 3"
    ))]
    Update(update::Args),
    /// Say how useful a memory or the work of an agent was; agents learn by it
    #[command(after_help = more_help(
        "  a2a-mcp memory feedback --memory mem-k3vq --score 1
  a2a-mcp memory feedback --agent postgres-tuner --score -0.5 --comment \"Too many indexes\""
    ))]
    Feedback(update::FeedbackArgs),
    /// Forget memories, by ids or by conditions
    #[command(
        long_about = "Forget memories, by ids or by conditions.\n\nIt takes them out of recall for every client. With \
            conditions it only shows what would go, until --yes is given. --purge erases them for good, which can't be \
            undone and therefore asks for --yes.",
        after_help = more_help(
            "  a2a-mcp memory forget mem-k3vq
  a2a-mcp memory forget --session support-4711
  a2a-mcp memory forget --session support-4711 --yes
  a2a-mcp memory forget --until 2025-01-01 --type conversation --purge --yes"
        )
    )]
    Forget(forget::Args),
    /// Import memories from a file of JSON lines
    #[command(
        long_about = "Import memories from a file of JSON lines, into the namespace of the command.\n\nFormats:\n  \
            jsonl          a memory document on each line, as `memory export` writes it\n  \
            server-memory  the file of the MCP memory server: entities with observations, and relations\n\nImported text \
            has the trust external, whoever imports it. What is known is not stored again, so that the command can be \
            repeated, also after an error. Bad lines are told and left out, lines with what looks like a secret too unless \
            --redact is given, and what has expired is skipped. References between memories are kept when the file holds \
            both. A line that does not say when it was told is dated within the last 20 minutes, so that the lines keep their \
            order. An observation that stands twice in one entity is kept once.",
        after_help = more_help(
            "  a2a-mcp memory import memory.jsonl --dry-run
  a2a-mcp memory import ~/.local/share/memory.jsonl --format server-memory
  a2a-mcp memory export --namespace old | a2a-mcp memory import - --namespace new"
        )
    )]
    Import(import::Args),
    /// Write memories as JSON lines, the oldest first
    #[command(
        long_about = "Write memories as JSON lines, the oldest first.\n\nThe format server-memory is the file of the MCP \
            memory server: what was imported from such a file comes out as the same entities, observations and relations, \
            and every other memory as an entity that is named by its key or id, with its content as the observation.",
        after_help = more_help(
            "  a2a-mcp memory export > memories.jsonl
  a2a-mcp memory export --superseded --expired > everything.jsonl
  a2a-mcp memory export --format server-memory --tag release > memory.jsonl"
        )
    )]
    Export(export::Args),
}

pub(super) async fn run(command: Command, config: Config, settings: &settings::Args) -> Result<Exit, CliError> {
    match command {
        Command::Store(args) => store::run(args, config, &settings.actor()).await,
        Command::Search(args) => list::search(args, config).await,
        Command::List(args) => list::list(args, config).await,
        Command::Turns(args) => list::turns(args, config).await,
        Command::Show(args) => show::run(args, config).await,
        Command::Suggest(args) => suggest::run(args, config).await,
        Command::Update(args) => update::update(args, config, &settings.actor()).await,
        Command::Feedback(args) => update::feedback(args, config, &settings.actor()).await,
        Command::Forget(args) => forget::run(args, config, &settings.actor()).await,
        Command::Import(args) => import::run(args, config, &settings.actor()).await,
        Command::Export(args) => export::run(args, config).await,
    }
}

/// A format of files with memories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A memory document on each line
    Jsonl,
    /// Entities and relations of the MCP memory server
    ServerMemory,
}

impl Format {
    fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::ServerMemory => "server-memory",
        }
    }
}

/// Conditions on memories; all that are given must hold.
#[derive(clap::Args, Default)]
pub(super) struct FilterArgs {
    /// Only memories of this type; given several times, of any of them
    #[arg(long = "type", value_name = "TYPE", value_parser = memory_type)]
    types: Vec<MemoryType>,
    /// Only memories with this tag; given several times, with all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags_all: Vec<String>,
    /// Only memories with this tag; given several times, with any of them
    #[arg(long = "any-tag", value_name = "TAG")]
    tags_any: Vec<String>,
    /// Only memories without this tag
    #[arg(long = "no-tag", value_name = "TAG")]
    tags_none: Vec<String>,
    /// Only memories of this agent
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Only memories of this session
    #[arg(long)]
    session: Option<String>,
    /// Only memories of this user
    #[arg(long)]
    user: Option<String>,
    /// Only memories of this run
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Only memories with this key
    #[arg(long)]
    key: Option<String>,
    /// Only memories made at this time or later: a day, or RFC 3339 in UTC
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only memories made before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Only memories that are at least so important, 0 to 1
    #[arg(long, value_name = "N", value_parser = share)]
    importance_min: Option<f32>,
    /// Only memories that are trusted at least so far: external, agent, user or operator
    #[arg(long, value_name = "TRUST", value_parser = trust)]
    trust_min: Option<Trust>,
    /// Superseded memories too
    #[arg(long)]
    superseded: bool,
    /// Expired memories too
    #[arg(long)]
    expired: bool,
}

impl From<FilterArgs> for MemoryFilters {
    fn from(args: FilterArgs) -> Self {
        Self {
            types: args.types,
            tags_any: args.tags_any,
            tags_all: args.tags_all,
            tags_none: args.tags_none,
            agent: args.agent,
            session: args.session,
            user: args.user,
            run: args.run,
            key: args.key,
            since: args.since,
            until: args.until,
            importance_min: args.importance_min,
            trust_min: args.trust_min,
            include_superseded: args.superseded,
            include_expired: args.expired,
        }
    }
}

fn memory_type(text: &str) -> Result<MemoryType, String> {
    MemoryType::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = MemoryType::ALL.iter().map(|(name, _)| *name).collect();
        format!("use one of: {}", names.join(", "))
    })
}

fn trust(text: &str) -> Result<Trust, String> {
    Trust::from_name(text).ok_or_else(|| "use external, agent, user or operator".to_owned())
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "use a day such as 2027-01-31, or RFC 3339 in UTC".to_owned())
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f32, String> {
    number(text, 0.0)
}

/// A number from -1 to 1.
fn score(text: &str) -> Result<f32, String> {
    number(text, -1.0)
}

fn number(text: &str, min: f32) -> Result<f32, String> {
    let number = text.parse().ok().filter(|number| (min..=1.0).contains(number));
    number.ok_or_else(|| format!("use a number from {min} to 1"))
}

/// How far what this command says may be relied on: a person types it, or a script sends it.
fn teller() -> Trust {
    let is_person = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if is_person { Trust::User } else { Trust::Agent }
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

/// A cursor or a condition that is not valid is a matter of the command line.
fn usage(error: HubError) -> CliError {
    match error {
        HubError::Invalid(problems) => CliError::Usage(problems.to_string()),
        other => other.into(),
    }
}

const HEADS: [&str; 6] = ["ID", "TYPE", "TRUST", "CREATED", "TAGS", "CONTENT"];

/// A memory in a table under [`HEADS`].
fn cells(memory: &Memory) -> Vec<String> {
    let tags: Vec<&str> = memory.spec.tags.iter().map(|tag| &**tag).collect();
    vec![
        memory.id.to_string(),
        memory.spec.kind.to_string(),
        memory.provenance.trust.to_string(),
        memory.created_at.to_string(),
        tags.join(","),
        memory.spec.content.to_string(),
    ]
}
