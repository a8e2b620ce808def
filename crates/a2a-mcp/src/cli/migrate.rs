//! `a2a-mcp migrate`.

use a2a_engine::config::Config;
use a2a_engine::maintenance::{self, MigrationStep};
use clap::Subcommand;
use serde_json::json;

use super::error::{CliError, Exit};
use super::{more_help, output};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run the steps that the database lacks
    #[command(
        long_about = "Run the steps that the database lacks.\n\nA server does the same when it starts. Several processes \
            may do it at once; one of them does it. A step that fails leaves nothing behind.",
        after_help = more_help("  a2a-mcp migrate run")
    )]
    Run,
    /// Show which steps the database has
    #[command(after_help = more_help(
        "  a2a-mcp migrate status
  a2a-mcp migrate status --json | jq '[.steps[] | select(.applied | not)] | length'"
    ))]
    Status {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Undo the newest step, with everything that is stored in what it made
    #[command(
        long_about = "Undo the newest step, with everything that is stored in what it made.\n\nClose all clients first: a \
            running server does not expect it, and the next one that starts runs the step again.",
        after_help = more_help("  a2a-mcp migrate revert --yes")
    )]
    Revert {
        /// Really do it
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(command: &Command, config: &Config) -> Result<Exit, CliError> {
    match command {
        Command::Run => {
            let done = maintenance::migrate_run(config).await?;
            if done.is_empty() {
                output::text(&format!("{} is up to date\n", config.location))?;
            }
            for step in done {
                output::text(&format!("ran {step}\n"))?;
            }
        }
        Command::Status { json } => {
            let steps = maintenance::migrate_status(config).await?;
            if *json {
                output::json(&json!({"database": config.location.to_string(), "steps": steps}))?;
            } else {
                output::text(&status(&steps, config))?;
            }
        }
        Command::Revert { yes } => {
            let steps = maintenance::migrate_status(config).await?;
            let Some(newest) = steps.iter().rfind(|step| step.applied) else {
                return Err(CliError::Failed(format!("{} has no step that could be undone", config.location)));
            };
            if !yes {
                return Err(CliError::Usage(format!(
                    "this would undo {} of {} and erase what is stored in it; add --yes to do it",
                    newest.name, config.location
                )));
            }
            let reverted = maintenance::migrate_revert(config).await?;
            output::text(&format!("undid {reverted}\n"))?;
        }
    }
    Ok(Exit::Done)
}

fn status(steps: &[MigrationStep], config: &Config) -> String {
    let mut text = String::new();
    for step in steps {
        text.push_str(&format!("{}  {}\n", if step.applied { "done   " } else { "pending" }, step.name));
    }
    let pending = steps.iter().filter(|step| !step.applied).count();
    text.push_str(&match pending {
        0 => format!("{} is up to date\n", config.location),
        _ => format!(
            "{} lacks {pending}; `a2a-mcp migrate run` runs them, and so does a server when it starts\n",
            config.location
        ),
    });
    text
}
