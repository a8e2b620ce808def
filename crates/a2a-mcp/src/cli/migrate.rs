//! `a2a-mcp migrate`.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use a2a_engine::config::Config;
use a2a_engine::maintenance::{self, Location, MigrationStep, ResetPreview};
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
    /// Erase everything that is stored, and begin with an empty schema
    #[command(
        long_about = "Erase everything that is stored, and begin with an empty schema.\n\nOnly the tables of this program are \
            touched, in one transaction; if anything of others depends on one of them, nothing is done. It asks for --yes and \
            for the name of the database, as a flag or typed at the terminal. It is refused while other processes are \
            connected: close the clients first. There is no way back.",
        after_help = more_help(
            "  a2a-mcp migrate reset                            tell what would be erased
  a2a-mcp migrate reset --yes --database a2a.db
  DATABASE_URL=postgres://USER:PASSWORD@HOST/trial a2a-mcp migrate reset --yes --database trial"
        )
    )]
    Reset {
        /// Really do it
        #[arg(long)]
        yes: bool,
        /// The name of the database, or of its SQLite file
        #[arg(long, value_name = "NAME")]
        database: Option<String>,
        /// Also while other processes are connected; they go on with what is empty then
        #[arg(long)]
        while_connected: bool,
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
        Command::Reset { yes, database, while_connected } => {
            return reset(*yes, database.as_deref(), *while_connected, config).await;
        }
    }
    Ok(Exit::Done)
}

async fn reset(yes: bool, database: Option<&str>, while_connected: bool, config: &Config) -> Result<Exit, CliError> {
    let (place, name) = (&config.location, config.location.name());
    if matches!(place, Location::Memory) {
        return Err(CliError::Usage("A2A_STORAGE is memory, where nothing is kept that could be erased".to_owned()));
    }
    let Some(ResetPreview { health, connected }) = maintenance::migrate_reset_preview(config).await? else {
        return Err(CliError::Failed(format!("{place} has no tables of this program; nothing was changed")));
    };
    let erased = format!(
        "{} agents, {} workflows, {} runs and {} memories of {place}, with their history",
        health.agents,
        health.workflows,
        health.runs_live + health.runs_ended,
        health.memories
    );
    if !yes {
        return Err(CliError::Usage(format!(
            "this would erase {erased}; there is no way back. To do it: a2a-mcp migrate reset --yes --database {name}"
        )));
    }
    if !connected.is_empty() && !while_connected {
        return Err(CliError::Failed(format!(
            "others are connected, so nothing was changed:\n  {}\nclose them first, or add --while-connected",
            connected.join("\n  ")
        )));
    }
    let typed = match database {
        Some(database) => database.to_owned(),
        None if std::io::stdin().is_terminal() => {
            output::note(&format!(
                "this erases {erased}; there is no way back\ntype the name of the database to do it:"
            ));
            let mut line = String::new();
            // Nobody types a longer name.
            std::io::stdin()
                .lock()
                .take(1024)
                .read_line(&mut line)
                .map_err(|error| CliError::Failed(format!("nothing can be read from the terminal: {error}")))?;
            line.trim().to_owned()
        }
        None => String::new(),
    };
    if typed != name {
        return Err(CliError::Usage(format!(
            "the name of the database has to be given, so that it is not the wrong one: --database {name} for {place}"
        )));
    }
    let steps = maintenance::migrate_reset(config).await?;
    output::text(&format!("erased {erased}\nran {} steps; {place} is empty\n", steps.len()))?;
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
