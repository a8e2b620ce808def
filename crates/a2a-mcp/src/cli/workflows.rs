//! `a2a-mcp workflows`: saving workflows from files, and reading them.

mod list;
mod remove;
pub(super) mod save;
mod show;

use a2a_engine::config::Config;
use clap::Subcommand;

use super::error::{CliError, Exit};
use super::{more_help, settings};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Save workflows from files, folders or standard input
    #[command(
        long_about = "Save workflows from files, folders (with what is in them) or standard input.\n\nA file is JSON or \
            YAML and holds one workflow or a list; only id and steps are required. Saving again what is there unchanged \
            does nothing. All problems of all documents are reported at once; agents that are missing are warnings, \
            because they can be deployed later.",
        after_help = more_help(
            "  a2a-mcp workflows save examples/workflows
  a2a-mcp workflows save review-release.yaml --dry-run
  echo '{\"id\": \"hello\", \"steps\": [{\"name\": \"greet\", \"agent\": \"builtin:echo\"}]}' | a2a-mcp workflows save -"
        )
    )]
    Save(save::Args),
    /// List saved workflows by id
    #[command(after_help = more_help(
        "  a2a-mcp workflows list
  a2a-mcp workflows list --json | jq -r '.workflows[].id'"
    ))]
    List(list::Args),
    /// Show one workflow as a document that can be saved again, one of its revisions, or all of them
    #[command(after_help = more_help(
        "  a2a-mcp workflows show review-release
  a2a-mcp workflows show review-release --mermaid
  a2a-mcp workflows show review-release --history
  a2a-mcp workflows show review-release --revision 3 | a2a-mcp workflows save -
  a2a-mcp workflows show review-release --json | jq .steps"
    ))]
    Show(show::Args),
    /// Remove workflows; runs of them go on
    #[command(after_help = more_help("  a2a-mcp workflows remove old-workflow"))]
    Remove(remove::Args),
}

pub(super) async fn run(command: Command, config: Config, settings: &settings::Args) -> Result<Exit, CliError> {
    match command {
        Command::Save(args) => save::run(args, config, &settings.actor()).await,
        Command::List(args) => list::run(args, config).await,
        Command::Show(args) => show::run(args, config).await,
        Command::Remove(args) => remove::run(args, config, &settings.actor()).await,
    }
}
