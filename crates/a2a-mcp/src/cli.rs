//! The command line: the same operations as the tools, for people and scripts, and what an operator needs besides.
//!
//! Results go to standard output, everything else to standard error, so that results can be piped. Each command ends
//! with one of the exit codes that its help names.

mod agent_card;
mod agents;
mod argument;
mod backup;
mod bench;
mod claude_agent;
mod demo;
mod doctor;
mod documents;
mod error;
mod export;
mod import;
mod init;
mod log;
mod mcp_client;
mod memory;
mod migrate;
#[cfg(feature = "local-model")]
mod model;
mod output;
mod runs;
mod seed;
mod settings;
mod shipped;
mod table;
mod worker;
mod workflows;
mod yaml;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use a2a_engine::config::{Config, StorageMode};
use a2a_engine::hub::Hub;
use a2a_engine::maintenance;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::error::{CliError, Exit};
use self::log::Log;
use self::settings::{Environment, Sources};
use crate::server::{self, ServeError, ServeOptions};

/// A command on the terminal may wait longer for a large registry than a tool call, whose client gives up.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The server works on a few calls at once and mostly waits; more threads would only cost memory in every client.
const WORKER_THREADS: usize = 2;

const ABOUT_MORE: &str = "\
One durable registry of agents, their workflows and their memory, shared by every MCP client.

MCP clients start this program and talk to it over standard input and output. All the processes that use the same \
database see the same: what one client deploys, every other client finds, and what one is told, every other recalls. \
Without any setting that is an embedded SQLite file in your data directory; set DATABASE_URL to share it through \
Postgres.";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something failed, for instance one of several agents
  2  the command or a setting is wrong
  3  the database can't be reached or used (see `a2a-mcp doctor`)";

/// Examples, and what is the same for every command.
fn more_help(examples: &str) -> String {
    format!("Examples:\n{examples}\n\n{EXIT_CODES}")
}

/// The whole command line.
#[derive(Parser)]
#[command(
    name = "a2a-mcp",
    version,
    about = "One durable registry of agents, their workflows and their memory, shared by every MCP client.",
    long_about = ABOUT_MORE,
    after_help = more_help(
        "  a2a-mcp init                               set up the clients that this user has
  a2a-mcp seed                               begin with a roster of useful agents
  a2a-mcp agents deploy team/                load a folder of agents
  a2a-mcp agents search \"slow query\"         find the agent for a need
  a2a-mcp workflows save team/workflows      save workflows over agents
  a2a-mcp runs start first-run --watch       start one, and see what happens
  a2a-mcp memory search when do we deploy    recall what was learned
  a2a-mcp doctor                             check everything from the settings to a second process
  DATABASE_URL=postgres://USER:PASSWORD@HOST/DATABASE a2a-mcp migrate status

Without a command it serves when standard input is not a terminal, and prints this help otherwise.
Settings come from flags, then from the environment, then from a file named .env in the working directory."
    ),
    disable_help_subcommand = true
)]
struct Cli {
    #[command(flatten)]
    settings: settings::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve one MCP client on standard input and output
    #[command(
        long_about = "Serve one MCP client on standard input and output.\n\nThis is what the configuration of a client \
            starts. Standard output carries the protocol and nothing else; logs go to standard error. It ends when \
            standard input does, on SIGTERM, and when its parent is gone; what was accepted is committed first.",
        after_help = more_help(
            "  a2a-mcp serve                       as a client's configuration has it
  a2a-mcp serve --tools agents        offer only the tools for agents
  A2A_LOG=info a2a-mcp serve          log more, to standard error"
        )
    )]
    Serve,
    /// Write the configuration of Claude Desktop, Claude Code, Cursor or VS Code
    #[command(
        long_about = "Write the configuration of MCP clients, so that they start this program.\n\nOnly the entry of this \
            program is added or changed; everything else in the file stays as it is, comments too. The file as it was is \
            kept beside it, and it is replaced in one step. DATABASE_URL and the other settings of where agents are kept \
            go into the entry, from flags, the environment or .env, and passwords are not printed. A configuration of a \
            project is shared, so that it refers to DATABASE_URL instead. Afterwards the program is started as the client \
            will start it, and asked for its tools. Repeating the command changes nothing.",
        after_help = more_help(
            "  a2a-mcp init                              all clients that are found here
  a2a-mcp init claude-code --dry-run        show what would change
  DATABASE_URL=postgres://USER:PASSWORD@HOST/DATABASE a2a-mcp init all
  a2a-mcp init vscode --scope project       write .vscode/mcp.json
  a2a-mcp init claude-code --scope local    for you alone, in the project of this folder
  a2a-mcp init cursor --remove              take it out again"
        )
    )]
    Init(init::Args),
    /// Fill a new installation: useful agents, workflows over them, first memories
    #[command(
        long_about = "Fill a new installation: an echo agent, a roster of useful agents in several categories, workflows \
            over them, and memories of how to use this program.\n\nIt may be repeated: what is there as it ships is left, \
            what a newer version ships is updated, and what anybody has changed or removed is kept that way (a memory that \
            was forgotten comes back). It deletes nothing. Personalities are not made up: every agent starts neutral, and \
            its work and what people say of it change that.",
        after_help = more_help(
            "  a2a-mcp seed --dry-run              tell what it would create, update and keep
  a2a-mcp seed
  a2a-mcp seed --scale 10000          and 10,000 generated agents (tag generated)
  A2A_NAMESPACE=trial a2a-mcp seed    in a namespace of its own"
        )
    )]
    Seed(seed::Args),
    /// Deploy, find, show and remove agents
    #[command(subcommand, after_help = more_help(
        "  a2a-mcp agents deploy agents/ --dry-run
  a2a-mcp agents list --category data
  a2a-mcp agents show postgres-tuner"
    ))]
    Agents(agents::Command),
    /// Save, show and remove workflows
    #[command(subcommand, after_help = more_help(
        "  a2a-mcp workflows save examples/workflows --dry-run
  a2a-mcp workflows list
  a2a-mcp workflows show review-release --mermaid"
    ))]
    Workflows(workflows::Command),
    /// Start, watch and control runs of workflows
    #[command(subcommand, after_help = more_help(
        "  a2a-mcp runs start review-release --input @release.json
  a2a-mcp runs list --status waiting
  a2a-mcp runs show run-k3v
  a2a-mcp runs answer run-k3v '{\"release\": true}'"
    ))]
    Runs(runs::Command),
    /// Store, recall, import and export what agents and people remember
    #[command(subcommand, after_help = more_help(
        "  a2a-mcp memory store We deploy only on Tuesdays --key deploy-day
  a2a-mcp memory search when do we deploy
  a2a-mcp memory import memory.jsonl --dry-run"
    ))]
    Memory(memory::Command),
    /// Import agents, workflows and memories from other programs and from documents
    #[command(subcommand, after_help = more_help(
        "  a2a-mcp import claude-agents .claude/agents --dry-run
  a2a-mcp import json everything.json
  a2a-mcp import server-memory memory.jsonl"
    ))]
    Import(import::Command),
    /// Export agents, workflows and memories for other programs and as documents
    #[command(subcommand, after_help = more_help(
        "  a2a-mcp export claude-agents .claude/agents
  a2a-mcp export yaml > everything.yaml
  a2a-mcp export server-memory > memory.jsonl"
    ))]
    Export(export::Command),
    /// Carry runs on without a client, until told to end
    #[command(
        long_about = "Carry runs on without a client, until told to end.\n\nServers that clients have started carry runs \
            on as well; a worker does it while no client runs. It takes every step that a server can do by itself: \
            built-in ones, and those that call other agents, tools, webhooks or commands as the operator's file \
            (A2A_CONFIG) allows. Steps of pull agents wait for a client session.\n\nOn SIGTERM or SIGINT it gives back \
            what it works on and ends with 0. What it does it logs to standard error. Several workers may run.",
        after_help = more_help(
            "  a2a-mcp worker
  DATABASE_URL=postgres://USER:PASSWORD@HOST/DATABASE a2a-mcp worker --steps-max 64
  a2a-mcp worker --config /etc/a2a-mcp/config.yaml"
        )
    )]
    Worker,
    /// Write everything into one file
    #[command(
        long_about = "Write everything into one file: agents, workflows, runs, memories, their history, what was removed, \
            what agents have experienced, and the statistics of tools.\n\nIt is one consistent state of the database, \
            while clients go on working. The file appears when it is whole; only you can read it. It is gzip over lines \
            of JSON, so that `gzip -dc FILE | less` shows it, and holds the count and the SHA-256 of each table.",
        after_help = more_help(
            "  a2a-mcp backup a2a.backup.gz
  DATABASE_URL=postgres://USER:PASSWORD@HOST/DATABASE a2a-mcp backup --force nightly.backup.gz"
        )
    )]
    Backup(backup::BackupArgs),
    /// Write the content of a backup into the database
    #[command(
        long_about = "Write the content of a backup into the database, which may be of the other kind than the one that \
            it comes from.\n\nThe file is read whole and checked first; one that was cut or altered is refused. Then all of \
            it is written in one transaction, read back and compared: a restore that fails or is killed leaves nothing. \
            Running clients see the restored state at once; while it is written they can read, and their writes wait.\n\n\
            The database must be empty, unless --merge is given: then of two states of the same agent, workflow, run or \
            memory the one with the higher revision stays, here or from the file; equal ones stay as they are here.",
        after_help = more_help(
            "  a2a-mcp restore a2a.backup.gz
  DATABASE_URL=sqlite:copy.db a2a-mcp restore a2a.backup.gz
  a2a-mcp restore a2a.backup.gz --merge"
        )
    )]
    Restore(backup::RestoreArgs),
    /// Carry everything into another database, from SQLite to Postgres or back
    #[command(
        long_about = "Carry everything into another database, from SQLite to Postgres or back.\n\nOne consistent state is \
            read here and written there in one transaction, whose content is read back and compared by counts and SHA-256 \
            before it commits. The database here stays as it is. Close the clients first, or what they write meanwhile \
            stays behind; afterwards point them to the new database.",
        after_help = more_help(
            "  a2a-mcp move --to postgres://USER:PASSWORD@HOST/DATABASE
  DATABASE_URL=postgres://USER:PASSWORD@HOST/DATABASE a2a-mcp move --to sqlite:local.db"
        )
    )]
    Move(backup::MoveArgs),
    /// Bring the schema of the database up to date, look at it, undo a step, or begin anew
    #[command(subcommand, after_help = more_help(
        "  a2a-mcp migrate status
  a2a-mcp migrate run"
    ))]
    Migrate(migrate::Command),
    /// Fetch a model that reads memories in this process, and show which one does
    #[cfg(feature = "local-model")]
    #[command(subcommand, after_help = more_help(
        "  a2a-mcp model pull
  a2a-mcp model show"
    ))]
    Model(model::Command),
    /// Check each link from the settings to an agent that a second process sees
    #[command(
        long_about = "Check each link from the settings to an agent that a second process sees, and say what to do \
            about each one that is broken.\n\nIt really connects, commits a row, loads all agents and measures how \
            soon a write is seen through a second connection; what it writes it removes, except for one row of tool \
            usage. A schema that exists is not changed.\n\nIf agents do not appear in a client, compare what it says of \
            the processes that run, of the configurations of the clients, and of other namespaces and schemas.",
        after_help = format!(
            "Examples:
  a2a-mcp doctor
  a2a-mcp doctor --json | jq -r '.checks[] | select(.status != \"ok\") | .next'
  DATABASE_URL=postgres://USER:PASSWORD@HOST/DATABASE a2a-mcp doctor

Exit codes:
  0  nothing failed; there may be warnings (with --strict they end with 1)
  1  a check failed, but agents can be kept and read
  2  the command or a setting is wrong
  3  the database can't be reached or used"
        )
    )]
    Doctor(doctor::Args),
    /// Measure what persistence costs here: reads and writes in memory and in the database
    #[command(
        long_about = "Measure what persistence costs here: get, list, deploy and search, in memory, and in the database as \
            the first thing that a process does (cold) and later (warm).\n\nIt measures a temporary SQLite file, or the \
            database of DATABASE_URL, where it uses a namespace of its own and purges it afterwards. Loading reads whatever \
            else is in that database, too.",
        after_help = more_help(
            "  a2a-mcp bench
  a2a-mcp bench --agents 10000
  DATABASE_URL=postgres://USER:PASSWORD@HOST/DATABASE a2a-mcp bench --json"
        )
    )]
    Bench(bench::Args),
    /// Show the main job on two real server processes, one of which is killed
    #[command(
        long_about = "Show the main job on two real server processes over stdio, as two MCP clients launch them: deploy \
            a roster of agents in one, find them in the other, kill the first in the middle of a stream of writes, and \
            check that every acknowledged write is there.\n\nIt works in a temporary SQLite file, or in the database of \
            DATABASE_URL, where it uses a namespace of its own and purges it afterwards.",
        after_help = more_help("  a2a-mcp demo
  DATABASE_URL=postgres://USER:PASSWORD@HOST/DATABASE a2a-mcp demo")
    )]
    Demo,
    /// Print the completions for a shell
    #[command(after_help = more_help(
        "  a2a-mcp completions bash > ~/.local/share/bash-completion/completions/a2a-mcp
  a2a-mcp completions zsh > ~/.zfunc/_a2a-mcp
  a2a-mcp completions fish > ~/.config/fish/completions/a2a-mcp.fish"
    ))]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(exit) => exit.into(),
        Err(error) => error.tell().into(),
    }
}

fn run() -> Result<Exit, CliError> {
    // Ordering: settings of the file enter the environment before any thread exists and before the flags are read,
    // whose defaults they are.
    let environment = Environment::read(std::path::Path::new(settings::DOTENV));
    let (cli, sources) = match parse(&environment) {
        Ok(parsed) => parsed,
        Err(error) => return error::usage(&error),
    };
    // Completions need no settings, so that a broken one is no reason to withhold them.
    if let Some(Command::Completions { shell }) = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "a2a-mcp", &mut script);
        output::bytes(&script)?;
        return Ok(Exit::Done);
    }
    let command = match cli.command {
        Some(command) => command,
        None if std::io::stdin().is_terminal() => {
            output::text(&Cli::command().render_help().to_string())?;
            return Ok(Exit::Done);
        }
        None => Command::Serve,
    };
    let log = Log::start();
    let level = if matches!(command, Command::Worker) { settings::LOG_DEFAULT_WORKER } else { settings::LOG_DEFAULT };
    let checked = environment.result().and_then(|()| cli.settings.check(&log, level));
    if let Command::Doctor(args) = &command {
        // A wrong setting is a finding like any other.
        // It looks at the database and takes no step of a run.
        let checked = checked.map(only_looking);
        return runtime()?.block_on(doctor::run(args, &cli.settings, &sources, checked));
    }
    let mut config = checked?;
    if config.storage == StorageMode::Backup && !matches!(command, Command::Serve | Command::Worker) {
        // A command ends in a moment: it writes straight through, and servers see it at their next sync.
        config.storage = StorageMode::Persisted;
    }
    let runtime = runtime()?;
    let result = runtime.block_on(execute(command, config, &cli.settings));
    // A thread that reads standard input can't be interrupted; everything accepted was committed above.
    runtime.shutdown_background();
    result
}

fn parse(environment: &Environment) -> Result<(Cli, Sources), clap::Error> {
    let matches = Cli::command().try_get_matches()?;
    let cli = Cli::from_arg_matches(&matches)?;
    Ok((cli, Sources::new(&matches, environment)))
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("the system gives no threads: {error}; close some programs")))
}

async fn execute(command: Command, config: Config, settings: &settings::Args) -> Result<Exit, CliError> {
    match command {
        Command::Serve => serve(config, settings).await,
        Command::Init(args) => init::run(&args, &config, settings).await,
        Command::Bench(args) => bench::run(&args, config, settings).await,
        Command::Seed(args) => seed::run(&args, config).await,
        Command::Agents(command) => agents::run(command, config, settings).await,
        Command::Workflows(command) => workflows::run(command, config, settings).await,
        Command::Runs(command) => runs::run(command, config, settings).await,
        Command::Memory(command) => memory::run(command, config, settings).await,
        Command::Import(command) => import::run(command, config, settings).await,
        Command::Export(command) => export::run(command, config).await,
        Command::Backup(args) => backup::backup(args, &config).await,
        Command::Restore(args) => backup::restore(args, &config).await,
        Command::Move(args) => backup::move_to(args, &config).await,
        Command::Worker => worker::run(config).await,
        Command::Migrate(command) => migrate::run(&command, &config).await,
        #[cfg(feature = "local-model")]
        Command::Model(command) => model::run(&command, &config).await,
        Command::Demo => demo(settings).await,
        Command::Doctor(_) | Command::Completions { .. } => Ok(Exit::Done),
    }
}

async fn demo(settings: &settings::Args) -> Result<Exit, CliError> {
    match demo::run(settings.database_url(), &mut std::io::stdout()).await {
        Ok(()) => Ok(Exit::Done),
        Err(demo::DemoError::Output(error)) => Err(CliError::Output(error)),
        Err(error) => Err(CliError::Failed(format!("this did not hold: {error}"))),
    }
}

async fn serve(config: Config, settings: &settings::Args) -> Result<Exit, CliError> {
    if std::io::stdin().is_terminal() {
        output::note("waiting for an MCP client on standard input; end with Ctrl-D (see `a2a-mcp --help`)");
    }
    let hub = Hub::open(Config { process_kind: Some("serve"), ..config });
    let options = ServeOptions { tools: settings.tools(), actor: settings.actor_set() };
    let served = server::serve(hub.clone(), options).await;
    hub.close().await;
    hub.sync_at_end().await;
    served.map(|()| Exit::Done).map_err(|error| match error {
        ServeError::Toolset(_) => CliError::Usage(error.to_string()),
        _ => CliError::Failed(error.to_string()),
    })
}

/// Opens the database for one command. Unlike a server, which goes on trying, it says at once what is wrong.
async fn open(mut config: Config) -> Result<Hub, CliError> {
    maintenance::database_check(&config).await?;
    if config.storage == StorageMode::Memory {
        output::note("warning: A2A_STORAGE is memory, so nothing of this command is kept when it ends");
    }
    config.ready_timeout = READY_TIMEOUT;
    let hub = Hub::open(only_looking(config));
    hub.ready().await?;
    Ok(hub)
}

/// A command that ends in a moment takes no step of a run and has no model read memories: it would give it back half done.
fn only_looking(mut config: Config) -> Config {
    config.runner.steps_max = 0;
    config.reads_memories = false;
    config
}
