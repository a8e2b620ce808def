//! `a2a-mcp agents`: what the tools for agents do, for people and scripts.

mod check;
pub(super) mod deploy;
mod list;
mod remove;
mod show;

use a2a_core::agent_check::AgentStatus;
use a2a_core::registry::Filters;
use a2a_engine::config::Config;
use clap::Subcommand;

use super::error::{CliError, Exit};
use super::{more_help, settings};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Deploy agents from files, folders or standard input
    #[command(
        long_about = "Deploy agents from files, folders (with what is in them) or standard input.\n\nA file is JSON or \
            YAML and holds one agent document or a list; only id and description are required. Deploying again what is \
            there unchanged does nothing, so that the command is safe to repeat. All problems of all documents are \
            reported at once.",
        after_help = more_help(
            "  a2a-mcp agents deploy examples/agents
  a2a-mcp agents deploy examples/agents/data.yaml more.json --dry-run
  a2a-mcp agents deploy team/ --atomic
  echo '{\"id\": \"hello\", \"description\": \"Greets.\"}' | a2a-mcp agents deploy -"
        )
    )]
    Deploy(deploy::Args),
    /// List agents by id
    #[command(after_help = more_help(
        "  a2a-mcp agents list
  a2a-mcp agents list --category data --tag postgres
  a2a-mcp agents list --text invoice --disabled
  a2a-mcp agents list --status unreachable
  a2a-mcp agents list --all --json | jq -r '.agents[].id'"
    ))]
    List(list::ListArgs),
    /// Find agents for a need, the best first
    #[command(
        long_about = "Find agents for a need, the best first.\n\nThe query is an id, a name, or words that say what is \
            needed; words may be inflected, unfinished or slightly misspelled. Each hit tells why it was found. \
            Disabled agents are left out unless --disabled or --any-state is given.",
        after_help = more_help(
            "  a2a-mcp agents search \"why is this query slow\"
  a2a-mcp agents search contract --category business --limit 3
  a2a-mcp agents search \"flaky tests\" --json | jq -r '.hits[0].id'"
        )
    )]
    Search(list::SearchArgs),
    /// Show one agent as a document that can be deployed again
    #[command(after_help = more_help(
        "  a2a-mcp agents show postgres-tuner
  a2a-mcp agents show postgres-tuner --history
  a2a-mcp agents show postgres-tuner --revision 2 > earlier.yaml
  a2a-mcp agents show postgres-tuner --json | jq .capabilities"
    ))]
    Show(show::Args),
    /// Contact agents without giving them work, and note which ones can be reached
    #[command(
        long_about = "Contact agents without giving them work, and note which ones can be reached.\n\nThe card of an A2A \
            agent is read, an MCP server is asked for its tools, the URL of a webhook for its head (any response counts), \
            and the file of a command is looked at: within 10 s each, and only as far as the operator's file allows. \
            What is found out is shown by lists as status and last_checked, until the agent is changed. Steps of runs \
            note the same. Pull agents are reached when a session asks for their work.",
        after_help = "Examples:
  a2a-mcp agents check
  a2a-mcp agents check slack-webhook nightly-report
  a2a-mcp agents check --json | jq -r '.agents[] | select(.status == \"unreachable\") | .id'

Exit codes:
  0  none of them is unreachable; some may not have been checked
  1  an agent is unreachable, or there is none with an id
  2  the command or a setting is wrong
  3  the database can't be reached or used (see `a2a-mcp doctor`)"
    )]
    Check(check::Args),
    /// Remove agents; their history stays unless they are purged
    #[command(
        long_about = "Remove agents. Their history stays, and deploying one again goes on with its revisions.\n\n\
            --purge erases the history too, which can't be undone and therefore asks for --yes. Ids are given whole.",
        after_help = more_help(
            "  a2a-mcp agents remove old-agent
  a2a-mcp agents remove old-agent older-agent --purge --yes"
        )
    )]
    Remove(remove::Args),
}

pub(super) async fn run(command: Command, config: Config, settings: &settings::Args) -> Result<Exit, CliError> {
    match command {
        Command::Deploy(args) => deploy::run(args, config, &settings.actor()).await,
        Command::List(args) => list::list(args, config).await,
        Command::Search(args) => list::search(args, config).await,
        Command::Show(args) => show::run(args, config).await,
        Command::Check(args) => check::run(args, config, &settings.actor()).await,
        Command::Remove(args) => remove::run(args, config, &settings.actor()).await,
    }
}

/// Conditions on agents; all that are given must hold.
#[derive(clap::Args)]
struct FilterArgs {
    /// Only agents of this category
    #[arg(long)]
    category: Option<String>,
    /// Only agents with this tag; given several times, with all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Only agents with a capability of this name
    #[arg(long)]
    capability: Option<String>,
    /// Only agents that are enabled
    #[arg(long, conflicts_with = "disabled")]
    enabled: bool,
    /// Only agents that are disabled
    #[arg(long)]
    disabled: bool,
    /// Only agents that are deprecated
    #[arg(long)]
    deprecated: bool,
    /// Only agents of which this is known: declared, reachable or unreachable
    #[arg(long, value_parser = status)]
    status: Option<AgentStatus>,
}

fn status(text: &str) -> Result<AgentStatus, String> {
    let found = AgentStatus::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, status)| *status).ok_or_else(|| "use declared, reachable or unreachable".to_owned())
}

impl From<FilterArgs> for Filters {
    fn from(args: FilterArgs) -> Self {
        Self {
            enabled: match (args.enabled, args.disabled) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
            category: args.category,
            tags_all: args.tags,
            capability: args.capability,
            deprecated: args.deprecated.then_some(true),
            status: args.status,
            ..Self::default()
        }
    }
}
