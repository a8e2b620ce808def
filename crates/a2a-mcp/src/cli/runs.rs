//! `a2a-mcp runs`: looking at runs of workflows, and doing something about them.

mod control;
mod list;
mod show;
mod start;
mod watch;

use a2a_engine::config::Config;
use clap::Subcommand;

use super::error::{CliError, Exit};
use super::{more_help, settings};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List runs, the newest first
    #[command(after_help = more_help(
        "  a2a-mcp runs list
  a2a-mcp runs list --status waiting
  a2a-mcp runs list --workflow review-release --json | jq -r '.runs[].run'"
    ))]
    List(list::Args),
    /// Show where a run stands, and what keeps each step that does not go on
    #[command(
        long_about = "Show where a run stands: a table of its steps, and for each that does not go on the reason and \
            what to do about it.\n\n--outputs adds what each step got and gave; --mermaid prints the graph with the \
            state of each step, for anything that draws Mermaid.",
        after_help = more_help(
            "  a2a-mcp runs show run-k3v
  a2a-mcp runs show run-k3v --outputs
  a2a-mcp runs show run-k3v --step review --json | jq .output
  a2a-mcp runs show run-k3v --mermaid > run.mmd"
        )
    )]
    Show(show::Args),
    /// Start a run of a saved workflow
    #[command(
        long_about = "Start a run of a saved workflow, or of a file with one that is not saved, and print its id.\n\nThis \
            command does no step itself: servers that MCP clients have started and `a2a-mcp worker` do.",
        after_help = more_help(
            "  a2a-mcp runs start review-release --input '{\"version\": \"2.1.0\"}'
  a2a-mcp runs start review-release --input @release.json --watch
  a2a-mcp runs start --file draft.yaml --context '{\"team\": \"web\"}'
  a2a-mcp runs start nightly --key nightly-2026-11-23    the same key never starts a second run"
        )
    )]
    Start(start::Args),
    /// Print what happens to a run until it ends
    #[command(
        long_about = "Print what happens to a run until it ends.\n\nThe command ends with 0 when the run has completed, \
            and with 1 when it has failed, was cancelled, or --timeout has passed.",
        after_help = more_help(
            "  a2a-mcp runs watch run-k3v
  a2a-mcp runs watch run-k3v --timeout 600 && ./deploy"
        )
    )]
    Watch(watch::Args),
    /// Cancel runs; what is not done is given up
    #[command(after_help = more_help("  a2a-mcp runs cancel run-k3v --reason \"wrong branch\""))]
    Cancel(control::CancelArgs),
    /// Let runs begin nothing new; what is being done goes on
    #[command(after_help = more_help("  a2a-mcp runs pause run-k3v"))]
    Pause(control::RunsArgs),
    /// Let paused runs go on
    #[command(after_help = more_help("  a2a-mcp runs resume run-k3v"))]
    Resume(control::RunsArgs),
    /// Do what has failed in runs again, and keep what is done
    #[command(after_help = more_help("  a2a-mcp runs retry run-k3v"))]
    Retry(control::RunsArgs),
    /// Start a new run that keeps results of another one up to a step
    #[command(after_help = more_help("  a2a-mcp runs fork run-k3v --from review"))]
    Fork(control::ForkArgs),
    /// Answer the question of a step that waits for a person
    #[command(
        long_about = "Answer the question of a step that waits for a person; `runs show` prints it.\n\nThe answer is JSON; \
            what is not JSON is taken as a text. --refuse fails the step.",
        after_help = more_help(
            "  a2a-mcp runs answer run-k3v '{\"approved\": true}'
  a2a-mcp runs answer run-k3v --step approve yes
  a2a-mcp runs answer run-k3v --refuse \"not before Monday\""
        )
    )]
    Answer(control::AnswerArgs),
}

pub(super) async fn run(command: Command, config: Config, settings: &settings::Args) -> Result<Exit, CliError> {
    let actor = settings.actor();
    match command {
        Command::List(args) => list::run(args, config).await,
        Command::Show(args) => show::run(args, config).await,
        Command::Start(args) => start::run(args, config, &actor).await,
        Command::Watch(args) => watch::run(args, config).await,
        Command::Cancel(args) => control::cancel(args, config, &actor).await,
        Command::Pause(args) => control::pause(args, config, &actor).await,
        Command::Resume(args) => control::resume(args, config, &actor).await,
        Command::Retry(args) => control::retry(args, config, &actor).await,
        Command::Fork(args) => control::fork(args, config, &actor).await,
        Command::Answer(args) => control::answer(args, config, &actor).await,
    }
}
