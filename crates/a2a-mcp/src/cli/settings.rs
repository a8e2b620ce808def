//! The settings: flags, the environment, and the `.env` file.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use a2a_core::error::{Problem, Problems};
use a2a_core::ids::Actor;
use a2a_engine::config::{Config, Settings};
use a2a_engine::maintenance;
use a2a_engine::operator::Secret;
use clap::ArgMatches;
use clap::parser::ValueSource;
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::error::CliError;
use super::log::Log;

/// The file in the working directory that settings are read from.
pub(crate) const DOTENV: &str = ".env";
/// More than any file of settings has.
const DOTENV_BYTES_MAX: u64 = 1024 * 1024;
/// What is logged when no setting says otherwise.
pub(crate) const LOG_DEFAULT: &str = "warn";
/// A worker has no client that shows what it does.
pub(crate) const LOG_DEFAULT_WORKER: &str = "info";

/// What is shown instead of a URL, which may have a password.
const URL_SHOWN: &str = "(set; the password is not shown)";

/// The settings that a `.env` file cannot make.
const OPERATOR_FILE: &str = "A2A_CONFIG";
const EMBEDDINGS_URL: &str = "A2A_EMBEDDINGS_URL";
const EMBEDDINGS_DIR: &str = "A2A_EMBEDDINGS_DIR";

/// Each setting with the name of its flag's value.
pub(crate) const VARIABLES: [(&str, &str); 25] = [
    ("DATABASE_URL", "database_url"),
    ("DATABASE_REPLICA_URL", "database_replica_url"),
    ("A2A_STORAGE", "storage"),
    ("A2A_BACKUP_INTERVAL", "backup_interval"),
    ("USE_PERSISTED_REGISTRY", "use_persisted_registry"),
    ("A2A_DATA_DIR", "data_dir"),
    ("A2A_NAMESPACE", "namespace"),
    ("A2A_WRITE_TIMEOUT_MS", "write_timeout_ms"),
    (OPERATOR_FILE, "operator_file"),
    ("A2A_STEPS_MAX", "steps_max"),
    ("A2A_LEASE_MS", "lease_ms"),
    ("A2A_MEMORIES_MAX", "memories_max"),
    ("A2A_AGENT_MEMORIES_MAX", "agent_memories_max"),
    ("A2A_LEARN", "learn"),
    ("A2A_SLOW_QUERY_MS", "slow_query_ms"),
    (EMBEDDINGS_URL, "embeddings_url"),
    ("A2A_EMBEDDINGS_MODEL", "embeddings_model"),
    ("A2A_EMBEDDINGS_KEY", "embeddings_key"),
    ("A2A_EMBEDDINGS_DIMENSIONS", "embeddings_dimensions"),
    (EMBEDDINGS_DIR, "embeddings_dir"),
    ("A2A_EMBEDDINGS_QUERY_PREFIX", "embeddings_query_prefix"),
    ("A2A_EMBEDDINGS_DOCUMENT_PREFIX", "embeddings_document_prefix"),
    ("A2A_TOOLS", "tools"),
    ("A2A_ACTOR", "actor"),
    ("A2A_LOG", "log"),
];

/// Flags that every command takes. Values are texts here, so that all that are wrong can be named at once.
#[derive(clap::Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Args {
    /// Postgres or SQLite database [default: an embedded SQLite file]
    ///
    /// postgres://USER:PASSWORD@HOST/DATABASE, with ?schema=NAME and ?sslmode=MODE if wanted, or sqlite:PATH. Other
    /// users of this machine can see the flags of a process, so that a password belongs into the variable.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", global = true, hide_env_values = true)]
    database_url: Option<String>,
    /// Database that a replica follows, such as a streaming standby [default: that of DATABASE_URL]
    #[arg(long, env = "DATABASE_REPLICA_URL", value_name = "URL", global = true, hide_env_values = true)]
    database_replica_url: Option<String>,
    /// How agents are kept: persisted, memory, backup (serve works in memory and syncs to the database), or replica, which follows a database and only reads [default: persisted]
    #[arg(long, env = "A2A_STORAGE", value_name = "MODE", global = true, hide_env_values = true)]
    storage: Option<String>,
    /// Time between two syncs in mode backup, 1s to 7days; serve syncs at its end, too [default: 1h]
    #[arg(long, env = "A2A_BACKUP_INTERVAL", value_name = "TIME", global = true, hide_env_values = true)]
    backup_interval: Option<String>,
    /// The same: true means persisted, false means memory
    #[arg(long, env = "USE_PERSISTED_REGISTRY", value_name = "BOOL", global = true, hide_env_values = true)]
    use_persisted_registry: Option<String>,
    /// Folder of the embedded SQLite file [default: in the user's data directory]
    #[arg(long, env = "A2A_DATA_DIR", value_name = "DIR", global = true, hide_env_values = true)]
    data_dir: Option<OsString>,
    /// Namespace of calls and documents that name none [default: default]
    #[arg(long, env = "A2A_NAMESPACE", value_name = "NAME", global = true, hide_env_values = true)]
    namespace: Option<String>,
    /// Milliseconds a write may wait for the database, 100 to 55000 [default: 10000]
    #[arg(long, env = "A2A_WRITE_TIMEOUT_MS", value_name = "MS", global = true, hide_env_values = true)]
    write_timeout_ms: Option<String>,
    /// File of the operator: what steps may reach, MCP servers, commands [default: config.yaml in the user's configuration directory]
    #[arg(long = "config", env = "A2A_CONFIG", value_name = "FILE", global = true, hide_env_values = true)]
    operator_file: Option<OsString>,
    /// Steps of workflows that serve and worker do at once, 0 to 256; tasks of A2A agents that are only waited for come on top, up to 8 times as many [default: 16]
    #[arg(long, env = "A2A_STEPS_MAX", value_name = "N", global = true, hide_env_values = true)]
    steps_max: Option<String>,
    /// Milliseconds after which a step without a sign of its process goes to another [default: 15000, pulled ones 45000]
    #[arg(long, env = "A2A_LEASE_MS", value_name = "MS", global = true, hide_env_values = true)]
    lease_ms: Option<String>,
    /// Memories kept in one namespace; beyond, what is worth least is forgotten [default: 1000000]
    #[arg(long, env = "A2A_MEMORIES_MAX", value_name = "N", global = true, hide_env_values = true)]
    memories_max: Option<String>,
    /// Memories kept of one agent [default: 100000]
    #[arg(long, env = "A2A_AGENT_MEMORIES_MAX", value_name = "N", global = true, hide_env_values = true)]
    agent_memories_max: Option<String>,
    /// Whether agents learn from how their steps end: true or false [default: true]
    #[arg(long, env = "A2A_LEARN", value_name = "BOOL", global = true, hide_env_values = true)]
    learn: Option<String>,
    /// Milliseconds from which a statement of the database is logged as slow, 1 to 600000 [default: 1000]
    #[arg(long, env = "A2A_SLOW_QUERY_MS", value_name = "MS", global = true, hide_env_values = true)]
    slow_query_ms: Option<String>,
    /// Endpoint whose embedding model reads memories and questions, such as http://127.0.0.1:11434/v1 [default: the built-in table]
    #[arg(long, env = "A2A_EMBEDDINGS_URL", value_name = "URL", global = true, hide_env_values = true)]
    embeddings_url: Option<String>,
    /// The model there
    #[arg(long, env = "A2A_EMBEDDINGS_MODEL", value_name = "NAME", global = true, hide_env_values = true)]
    embeddings_model: Option<String>,
    /// Its key; other users of this machine can see flags, so set the variable
    #[arg(long, env = "A2A_EMBEDDINGS_KEY", value_name = "KEY", global = true, hide_env_values = true)]
    embeddings_key: Option<String>,
    /// Dimensions to ask it for, if it has a choice
    #[arg(long, env = "A2A_EMBEDDINGS_DIMENSIONS", value_name = "N", global = true, hide_env_values = true)]
    embeddings_dimensions: Option<String>,
    /// Folder of an embedding model that is run in this process [default: the one that `model pull` has fetched]
    #[arg(long, env = "A2A_EMBEDDINGS_DIR", value_name = "DIR", global = true, hide_env_values = true)]
    embeddings_dir: Option<OsString>,
    /// What the model wants before questions, such as `query: ` [default: what a model in this process says of itself]
    #[arg(long, env = "A2A_EMBEDDINGS_QUERY_PREFIX", value_name = "TEXT", global = true, hide_env_values = true)]
    embeddings_query_prefix: Option<String>,
    /// The same before memories and agents, such as `passage: `; with another one everything is read anew
    #[arg(long, env = "A2A_EMBEDDINGS_DOCUMENT_PREFIX", value_name = "TEXT", global = true, hide_env_values = true)]
    embeddings_document_prefix: Option<String>,
    /// Toolsets to offer to clients, separated by commas; for serve only [default: all]
    #[arg(long, env = "A2A_TOOLS", value_name = "LIST", global = true, hide_env_values = true)]
    tools: Option<String>,
    /// Name that changes are recorded under [default: who makes them]
    #[arg(long, env = "A2A_ACTOR", value_name = "NAME", global = true, hide_env_values = true)]
    actor: Option<String>,
    /// What is logged to standard error: error, warn, info, debug, trace or a filter [default: warn, for worker info]
    #[arg(long, env = "A2A_LOG", value_name = "FILTER", global = true, hide_env_values = true)]
    log: Option<String>,
}

/// The settings in the environment that are not UTF-8, which the parser of flags refuses without naming them.
pub(crate) fn not_utf8() -> Option<CliError> {
    let is_broken =
        |(variable, _): &&(&str, &str)| std::env::var_os(variable).is_some_and(|value| value.to_str().is_none());
    let problems: Vec<Problem> = VARIABLES
        .iter()
        .filter(is_broken)
        .map(|(variable, _)| Problem {
            path: (*variable).to_owned(),
            message: "is not UTF-8; write it in UTF-8".to_owned(),
        })
        .collect();
    (!problems.is_empty()).then_some(CliError::Settings(Problems(problems)))
}

fn set(text: &Option<String>) -> Option<String> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

impl Args {
    /// Validates all settings and starts the log, at `level` unless a setting says otherwise.
    ///
    /// # Errors
    /// All problems, each naming its variable.
    pub(crate) fn check(&self, log: &Log, level: &str) -> Result<Config, CliError> {
        let settings = Settings {
            database_url: self.database_url.clone(),
            database_replica_url: self.database_replica_url.clone(),
            storage: self.storage.clone(),
            backup_interval: self.backup_interval.clone(),
            use_persisted_registry: self.use_persisted_registry.clone(),
            data_dir: self.data_dir.clone().map(PathBuf::from),
            namespace: self.namespace.clone(),
            write_timeout_ms: self.write_timeout_ms.clone(),
            operator_file: self.operator_file.clone().map(PathBuf::from),
            steps_max: self.steps_max.clone(),
            lease_ms: self.lease_ms.clone(),
            memories_max: self.memories_max.clone(),
            agent_memories_max: self.agent_memories_max.clone(),
            learn: self.learn.clone(),
            slow_query_ms: self.slow_query_ms.clone(),
            embeddings_url: self.embeddings_url.clone(),
            embeddings_model: self.embeddings_model.clone(),
            embeddings_key: self.embeddings_key.as_deref().map(Secret::new),
            embeddings_dimensions: self.embeddings_dimensions.clone(),
            embeddings_dir: self.embeddings_dir.clone().map(PathBuf::from),
            embeddings_query_prefix: self.embeddings_query_prefix.clone(),
            embeddings_document_prefix: self.embeddings_document_prefix.clone(),
        };
        match (Config::new(&settings), self.filter(level)) {
            (Ok(config), Ok(filter)) => {
                // Ordering: before anything that logs. Standard output belongs to results and to the protocol.
                log.install(filter, config.operator.redaction());
                // Ordering: before the first connection is made.
                maintenance::watch(config.slow_query).map_err(CliError::Failed)?;
                Ok(config)
            }
            (config, filter) => {
                let mut problems = config.err().map_or_else(Vec::new, |problems| problems.0);
                problems.extend(filter.err());
                Err(CliError::Settings(Problems(problems)))
            }
        }
    }

    fn filter(&self, level: &str) -> Result<EnvFilter, Problem> {
        let text = set(&self.log).unwrap_or_else(|| level.to_owned());
        let parse = |text: &str| {
            EnvFilter::builder().parse(text).map_err(|error| Problem {
                path: "A2A_LOG".to_owned(),
                message: format!(
                    "is {text:?} ({error}); use error, warn, info, debug, trace, or a filter such as \
                     warn,a2a_sql=debug (every statement)"
                ),
            })
        };
        let filter = parse(&text)?;
        // The protocol library logs whole requests at debug, whose texts do not belong into a log. Who names it wants it.
        let is_verbose = filter.max_level_hint().is_none_or(|level| level > LevelFilter::WARN);
        if is_verbose && !text.contains("rmcp") { parse(&format!("{text},rmcp=warn")) } else { Ok(filter) }
    }

    pub(crate) fn tools(&self) -> Option<String> {
        set(&self.tools)
    }

    pub(crate) fn database_url(&self) -> Option<String> {
        self.database_url.clone().filter(|url| !url.trim().is_empty())
    }

    /// The settings that decide where agents are kept, as far as they are set.
    pub(crate) fn place(&self) -> Vec<(&'static str, String)> {
        // Whoever takes these over has another working directory.
        let absolute = |dir: &OsString| {
            std::path::absolute(dir).ok().and_then(|dir| dir.to_str().map(str::to_owned)).filter(|_| !dir.is_empty())
        };
        let all = [
            ("DATABASE_URL", set(&self.database_url)),
            ("A2A_STORAGE", set(&self.storage)),
            ("A2A_BACKUP_INTERVAL", set(&self.backup_interval)),
            ("USE_PERSISTED_REGISTRY", set(&self.use_persisted_registry)),
            ("A2A_DATA_DIR", self.data_dir.as_ref().and_then(absolute)),
            ("A2A_NAMESPACE", set(&self.namespace)),
        ];
        all.into_iter().filter_map(|(variable, value)| Some((variable, value?))).collect()
    }

    pub(crate) fn actor_set(&self) -> Option<String> {
        set(&self.actor)
    }

    /// Who makes the changes of a command.
    pub(crate) fn actor(&self) -> Actor {
        match set(&self.actor) {
            Some(actor) => Actor::new(&actor),
            None => {
                let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
                let at = if user.is_empty() { String::new() } else { format!(" of {user}") };
                Actor::new(&format!("a2a-mcp command line{at} ({})", std::process::id()))
            }
        }
    }

    /// Settings and where each came from, without secrets.
    pub(crate) fn shown(&self, sources: &Sources) -> Vec<ShownSetting> {
        let value = |id: &str| match id {
            "database_url" => set(&self.database_url).map(|_| URL_SHOWN.to_owned()),
            "database_replica_url" => set(&self.database_replica_url).map(|_| URL_SHOWN.to_owned()),
            "storage" => set(&self.storage),
            "use_persisted_registry" => set(&self.use_persisted_registry),
            "data_dir" => self.data_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
            "namespace" => set(&self.namespace),
            "write_timeout_ms" => set(&self.write_timeout_ms),
            "operator_file" => self.operator_file.as_ref().map(|file| file.to_string_lossy().into_owned()),
            "steps_max" => set(&self.steps_max),
            "lease_ms" => set(&self.lease_ms),
            "memories_max" => set(&self.memories_max),
            "agent_memories_max" => set(&self.agent_memories_max),
            "learn" => set(&self.learn),
            "slow_query_ms" => set(&self.slow_query_ms),
            "embeddings_url" => set(&self.embeddings_url),
            "embeddings_model" => set(&self.embeddings_model),
            "embeddings_key" => set(&self.embeddings_key).map(|_| "(set; not shown)".to_owned()),
            "embeddings_dimensions" => set(&self.embeddings_dimensions),
            "embeddings_dir" => self.embeddings_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
            "embeddings_query_prefix" => set(&self.embeddings_query_prefix),
            "embeddings_document_prefix" => set(&self.embeddings_document_prefix),
            "tools" => set(&self.tools),
            "actor" => set(&self.actor),
            _ => set(&self.log),
        };
        VARIABLES
            .iter()
            .map(|(variable, id)| ShownSetting {
                variable,
                source: sources.of(variable, id),
                value: value(id).filter(|value| !value.is_empty()),
            })
            .collect()
    }
}

/// One setting for `doctor`.
#[derive(Debug, Serialize)]
pub(crate) struct ShownSetting {
    pub(crate) variable: &'static str,
    /// `flag`, `environment`, `.env` or `default`.
    pub(crate) source: &'static str,
    pub(crate) value: Option<String>,
}

/// Where settings came from.
#[derive(Debug)]
pub(crate) struct Sources {
    flags: BTreeSet<&'static str>,
    variables: BTreeSet<&'static str>,
    file: BTreeSet<String>,
}

impl Sources {
    pub(crate) fn new(matches: &ArgMatches, environment: &Environment) -> Self {
        let from = |wanted: ValueSource| {
            let is_wanted = |(_, id): &&(&str, &'static str)| matches.value_source(id) == Some(wanted);
            VARIABLES.iter().filter(is_wanted).map(|(_, id)| *id).collect()
        };
        Self {
            flags: from(ValueSource::CommandLine),
            variables: from(ValueSource::EnvVariable),
            file: environment.loaded.clone(),
        }
    }

    fn of(&self, variable: &str, id: &str) -> &'static str {
        if self.flags.contains(id) {
            "flag"
        } else if self.variables.contains(id) && self.file.contains(variable) {
            DOTENV
        } else if self.variables.contains(id) {
            "environment"
        } else {
            "default"
        }
    }
}

/// What the `.env` file brought into the environment.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    loaded: BTreeSet<String>,
    problem: Option<String>,
}

impl Environment {
    /// Reads the file if there is one. Variables of the real environment win, and variables that are not ours are left
    /// out: a file of some other program must not change how this one finds certificates or libraries.
    pub(crate) fn read(path: &Path) -> Self {
        match Self::load(path) {
            Ok(loaded) => Self { loaded, problem: None },
            Err(problem) => Self { loaded: BTreeSet::new(), problem: Some(problem) },
        }
    }

    /// # Errors
    /// When the file is there and can't be read. Nothing of it is used then.
    pub(crate) fn result(&self) -> Result<(), CliError> {
        match &self.problem {
            None => Ok(()),
            Some(problem) => Err(CliError::Settings(Problems::one(DOTENV, problem.clone()))),
        }
    }

    fn load(path: &Path) -> Result<BTreeSet<String>, String> {
        let text = match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            // Some programs keep a virtual environment in a folder of this name.
            Ok(file) if file.is_dir() => return Ok(BTreeSet::new()),
            Ok(file) if file.len() > DOTENV_BYTES_MAX => {
                return Err("has more than 1 MiB; this does not look like a file of settings".to_owned());
            }
            Ok(_) => std::fs::read(path).map_err(|error| format!("can't be read: {error}"))?,
            Err(error) => return Err(format!("can't be read: {error}")),
        };
        let text = String::from_utf8(text).map_err(|error| {
            let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            format!("line {} is not UTF-8", 1 + before.iter().filter(|byte| **byte == b'\n').count())
        })?;
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
        let mut loaded = BTreeSet::new();
        let mut ours = String::new();
        for entry in dotenvy::from_read_iter(text.as_bytes()) {
            let (key, value) = entry.map_err(|error| problem(&error, text))?;
            if key == OPERATOR_FILE {
                return Err(format!(
                    "sets {OPERATOR_FILE}, which decides what programs this one may start; a file in whatever folder a \
                     client works in must not: set it in the environment or with --config, and take it out here"
                ));
            }
            if [EMBEDDINGS_URL, EMBEDDINGS_DIR].contains(&key.as_str()) {
                return Err(format!(
                    "sets {key}, which decides what reads memories and where they are sent; a file in whatever folder a \
                     client works in must not: set it in the environment or with a flag, and take it out here"
                ));
            }
            let is_ours = VARIABLES.iter().any(|(variable, _)| *variable == key);
            if is_ours && std::env::var_os(&key).is_none() && loaded.insert(key.clone()) {
                ours.push_str(&assignment(&key, &value));
            }
        }
        dotenvy::from_read(ours.as_bytes()).map_err(|_| "has a value that can't be passed on".to_owned())?;
        Ok(loaded)
    }
}

/// Says where the file is wrong. The line itself is not repeated, because it may hold a password.
fn problem(error: &dotenvy::Error, text: &str) -> String {
    match error {
        dotenvy::Error::LineParse(line, _) => {
            let first = line.lines().next().unwrap_or_default();
            let number = text.lines().position(|candidate| candidate == first || candidate.trim() == first.trim());
            let place = number.map_or_else(|| "a line".to_owned(), |number| format!("line {}", number + 1));
            format!("{place} is not valid; write NAME=value, and quote a value with spaces, # or $ in it: NAME='value'")
        }
        other => format!("can't be read: {other}"),
    }
}

/// One line of a `.env` file that means exactly this value.
fn assignment(key: &str, value: &str) -> String {
    let mut line = format!("{key}=\"");
    for c in value.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\\' | '"' | '$' => line.extend(['\\', c]),
            _ => line.push(c),
        }
    }
    line.push_str("\"\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_pass_the_file_unchanged() {
        for value in ["", "plain", "a b", "p$w\"'\\n#x", "two\nlines", "postgres://u:%24p@h/d?a=b&c=d"] {
            let read: Vec<(String, String)> =
                dotenvy::from_read_iter(assignment("A2A_ACTOR", value).as_bytes()).collect::<Result<_, _>>().unwrap();
            assert_eq!(read, [("A2A_ACTOR".to_owned(), value.to_owned())]);
        }
    }

    #[test]
    fn a_broken_line_is_named_and_not_repeated() {
        let text = "A2A_ACTOR=me\n\nDATABASE_URL='secret\n";
        let error = dotenvy::from_read_iter(text.as_bytes()).find_map(Result::err).unwrap();
        let problem = problem(&error, text);
        assert!(problem.contains("line 3") && !problem.contains("secret"), "{problem}");
    }
}
