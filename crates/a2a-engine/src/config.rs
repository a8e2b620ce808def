//! The settings of a process, validated together.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use a2a_core::embedding::MODEL_DIMENSIONS_MAX;
use a2a_core::error::{Problem, Problems};
use a2a_core::ids::Namespace;
use a2a_core::limits;
use a2a_store::database_url::DatabaseUrl;
use a2a_store::store::Location;
use serde::Serialize;

use crate::embedder::{EmbedderSettings, ExternalSettings, ModelPlace, Prefixes};
#[cfg(feature = "local-model")]
use crate::embedder::{ModelFolder, pull};
use crate::operator::{OperatorFile, Secret};
use crate::runner::RunnerSettings;

/// How agents are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageMode {
    /// In the database; a reply to a write comes after its commit.
    Persisted,
    /// In memory only; nothing is written anywhere.
    Memory,
    /// In memory, which is brought together with the database from time to time and at the end.
    Backup,
    /// In a database that this process follows and never writes to, which may be a standby.
    Replica,
}

impl fmt::Display for StorageMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Persisted => "persisted",
            Self::Memory => "memory",
            Self::Backup => "backup",
            Self::Replica => "replica",
        })
    }
}

/// Settings as they come from flags and the environment, not yet looked at. Empty texts count as not set.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `DATABASE_URL`
    pub database_url: Option<String>,
    /// `DATABASE_REPLICA_URL`
    pub database_replica_url: Option<String>,
    /// `A2A_STORAGE`
    pub storage: Option<String>,
    /// `A2A_BACKUP_INTERVAL`
    pub backup_interval: Option<String>,
    /// `USE_PERSISTED_REGISTRY`
    pub use_persisted_registry: Option<String>,
    /// `A2A_DATA_DIR`
    pub data_dir: Option<PathBuf>,
    /// `A2A_NAMESPACE`
    pub namespace: Option<String>,
    /// `A2A_WRITE_TIMEOUT_MS`
    pub write_timeout_ms: Option<String>,
    /// `A2A_CONFIG`
    pub operator_file: Option<PathBuf>,
    /// `A2A_STEPS_MAX`
    pub steps_max: Option<String>,
    /// `A2A_LEASE_MS`
    pub lease_ms: Option<String>,
    /// `A2A_MEMORIES_MAX`
    pub memories_max: Option<String>,
    /// `A2A_AGENT_MEMORIES_MAX`
    pub agent_memories_max: Option<String>,
    /// `A2A_LEARN`
    pub learn: Option<String>,
    /// `A2A_SLOW_QUERY_MS`
    pub slow_query_ms: Option<String>,
    /// `A2A_EMBEDDINGS_URL`
    pub embeddings_url: Option<String>,
    /// `A2A_EMBEDDINGS_MODEL`
    pub embeddings_model: Option<String>,
    /// `A2A_EMBEDDINGS_KEY`
    pub embeddings_key: Option<Secret>,
    /// `A2A_EMBEDDINGS_DIMENSIONS`
    pub embeddings_dimensions: Option<String>,
    /// `A2A_EMBEDDINGS_DIR`
    pub embeddings_dir: Option<PathBuf>,
    /// `A2A_EMBEDDINGS_QUERY_PREFIX`
    pub embeddings_query_prefix: Option<String>,
    /// `A2A_EMBEDDINGS_DOCUMENT_PREFIX`
    pub embeddings_document_prefix: Option<String>,
}

/// How much is remembered. When a limit is reached, what is worth least is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Most memories of one namespace.
    pub memories_max: usize,
    /// Most memories of one agent.
    pub agent_memories_max: usize,
}

/// Valid settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// How agents are kept.
    pub storage: StorageMode,
    /// Where.
    pub location: Location,
    /// The time between two syncs in mode `backup`.
    pub backup_interval: Duration,
    /// The namespace of calls that name none.
    pub namespace: Namespace,
    /// A write that is not committed after this long is answered with an error.
    pub write_timeout: Duration,
    /// A call that comes while agents are still being loaded waits this long.
    pub ready_timeout: Duration,
    /// How this process takes part in runs.
    pub runner: RunnerSettings,
    /// How much is remembered.
    pub memory: MemoryLimits,
    /// Whether agents learn from how their steps end.
    pub learn: bool,
    /// The model that reads memories; without one it is the built-in table.
    pub embedder: Option<EmbedderSettings>,
    /// Where a model is kept that was fetched, unless this user has no home directory.
    pub model_folder: Option<PathBuf>,
    /// Whether this process takes its turn in having it read them.
    pub reads_memories: bool,
    /// What its executors may do.
    pub operator: Arc<OperatorFile>,
    /// A statement that takes as long is logged as a warning.
    pub slow_query: Duration,
    /// `serve` or `worker`; such a process gives signs of life to those who look after the database.
    pub process_kind: Option<&'static str>,
}

/// The name of the embedded database in the data directory.
const SQLITE_FILE: &str = "a2a.db";
const BACKUP_INTERVAL_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// A sync reads everything: more often than each second, mode `persisted` is the better choice.
const BACKUP_INTERVAL_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 60 * 60);
const WRITE_TIMEOUT_DEFAULT_MS: u64 = 10_000;
/// Below this a healthy disk may miss the deadline; above it every client has given up.
const WRITE_TIMEOUT_RANGE_MS: std::ops::RangeInclusive<u64> = 100..=55_000;
const STEPS_MAX_DEFAULT: usize = 16;
const STEPS_MAX_RANGE: std::ops::RangeInclusive<usize> = 0..=256;
/// Steps that a process works on by itself go to another within seconds of its death.
const LEASE_DEFAULT: Duration = Duration::from_secs(15);
/// A client that is started again has this long to go on with a step that it has pulled.
const PULL_LEASE_DEFAULT: Duration = Duration::from_secs(45);
/// Below this a busy machine loses steps that it works on; above it a dead process holds them for too long.
const LEASE_RANGE_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;
/// What people begin to feel.
const SLOW_QUERY_DEFAULT: Duration = Duration::from_secs(1);
const SLOW_QUERY_RANGE_MS: std::ops::RangeInclusive<u64> = 1..=600_000;
/// Fewer would forget what a single session stores.
const MEMORIES_MAX_LEAST: usize = 100;
/// Some clients give up after a second and a half, most wait a minute: enough for the largest registry to load.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

impl Config {
    /// Validates settings.
    ///
    /// # Errors
    /// All problems, each with the name of the variable as path.
    pub fn new(settings: &Settings) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut problem = |path: &str, message: String| {
            problems.push(Problem { path: path.to_owned(), message });
        };
        let set = |text: &Option<String>| text.as_deref().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);

        let storage = match set(&settings.storage).as_deref() {
            None => None,
            Some("persisted") => Some(StorageMode::Persisted),
            Some("memory") => Some(StorageMode::Memory),
            Some("backup") => Some(StorageMode::Backup),
            Some("replica") => Some(StorageMode::Replica),
            Some(other) => {
                problem("A2A_STORAGE", format!("is {other:?}; use persisted, memory, backup or replica"));
                None
            }
        };
        let legacy = flag("USE_PERSISTED_REGISTRY", settings.use_persisted_registry.as_deref(), &mut problem)
            .map(|persisted| if persisted { StorageMode::Persisted } else { StorageMode::Memory });
        if let (Some(storage), Some(legacy)) = (storage, legacy)
            && storage != legacy
        {
            problem(
                "USE_PERSISTED_REGISTRY",
                format!("means {legacy}, but A2A_STORAGE is {storage}; set only one of them"),
            );
        }
        let storage = storage.or(legacy).unwrap_or(StorageMode::Persisted);
        let backup_interval = set(&settings.backup_interval).map(|text| match humantime::parse_duration(&text) {
            Ok(interval) if BACKUP_INTERVAL_RANGE.contains(&interval) => interval,
            _ => {
                problem(
                    "A2A_BACKUP_INTERVAL",
                    format!("is {text:?}; use a time from 1s to 7days, such as 15min or 1h"),
                );
                BACKUP_INTERVAL_DEFAULT
            }
        });

        // A mistyped URL is an error in every mode: it would surprise when the mode is switched.
        let mut url = |name: &str, text: &Option<String>| match DatabaseUrl::parse(&set(text)?) {
            Ok(url) => Some(url),
            Err(error) => {
                problem(name, error.to_string());
                None
            }
        };
        let primary = url("DATABASE_URL", &settings.database_url);
        let replica = url("DATABASE_REPLICA_URL", &settings.database_replica_url);
        let url = match storage {
            StorageMode::Replica => replica.or(primary),
            StorageMode::Persisted | StorageMode::Memory | StorageMode::Backup => primary,
        };
        let location = match (storage, url) {
            (StorageMode::Memory, _) => Some(Location::Memory),
            (_, Some(url)) => Some(Location::from(url)),
            (_, None) => match data_dir(settings.data_dir.as_deref()) {
                Some(folder) => Some(Location::SqliteFile(folder.join(SQLITE_FILE))),
                None => {
                    problem(
                        "A2A_DATA_DIR",
                        "is not set and this user has no home directory; set it to a folder for the database"
                            .to_owned(),
                    );
                    None
                }
            },
        };
        let namespace = match set(&settings.namespace).map(|text| Namespace::parse(&text)) {
            None => Namespace::default(),
            Some(Ok(namespace)) => namespace,
            Some(Err(error)) => {
                problem("A2A_NAMESPACE", error.to_string());
                Namespace::default()
            }
        };
        let write_timeout_ms = number(
            "A2A_WRITE_TIMEOUT_MS",
            "milliseconds",
            settings.write_timeout_ms.as_deref(),
            &WRITE_TIMEOUT_RANGE_MS,
            &mut problem,
        );
        let steps_max =
            number("A2A_STEPS_MAX", "a number", settings.steps_max.as_deref(), &STEPS_MAX_RANGE, &mut problem);
        let lease_ms =
            number("A2A_LEASE_MS", "milliseconds", settings.lease_ms.as_deref(), &LEASE_RANGE_MS, &mut problem);
        let lease = lease_ms.map(Duration::from_millis);
        let runner = RunnerSettings {
            steps_max: match storage {
                // What it would do could not be noted.
                StorageMode::Replica => 0,
                StorageMode::Persisted | StorageMode::Memory | StorageMode::Backup => {
                    steps_max.unwrap_or(STEPS_MAX_DEFAULT)
                }
            },
            lease: lease.unwrap_or(LEASE_DEFAULT),
            pull_lease: lease.unwrap_or(PULL_LEASE_DEFAULT),
        };
        let mut memories = |name: &str, text: &Option<String>, most: usize| {
            let range = MEMORIES_MAX_LEAST..=most;
            number(name, "a number", text.as_deref(), &range, &mut problem).unwrap_or(most)
        };
        let memory = MemoryLimits {
            memories_max: memories("A2A_MEMORIES_MAX", &settings.memories_max, limits::MEMORIES_MAX),
            agent_memories_max: memories(
                "A2A_AGENT_MEMORIES_MAX",
                &settings.agent_memories_max,
                limits::AGENT_MEMORIES_MAX,
            ),
        };
        let learn = flag("A2A_LEARN", settings.learn.as_deref(), &mut problem).unwrap_or(true);
        let slow_query_ms = number(
            "A2A_SLOW_QUERY_MS",
            "milliseconds",
            settings.slow_query_ms.as_deref(),
            &SLOW_QUERY_RANGE_MS,
            &mut problem,
        );
        let dimensions = number(
            "A2A_EMBEDDINGS_DIMENSIONS",
            "a number",
            settings.embeddings_dimensions.as_deref(),
            &(1..=MODEL_DIMENSIONS_MAX),
            &mut problem,
        );
        let model_folder = data_dir(settings.data_dir.as_deref()).map(|folder| model_folder(&folder));
        let prefixes = [
            prefix("A2A_EMBEDDINGS_QUERY_PREFIX", settings.embeddings_query_prefix.as_deref(), &mut problem),
            prefix("A2A_EMBEDDINGS_DOCUMENT_PREFIX", settings.embeddings_document_prefix.as_deref(), &mut problem),
        ];
        let embedder = match embedder(settings, dimensions, prefixes, model_folder.as_deref()) {
            Ok(embedder) => embedder,
            Err(found) => {
                problems.extend(found);
                None
            }
        };
        let operator = match OperatorFile::find(settings.operator_file.as_deref()) {
            Ok(operator) => Arc::new(operator),
            Err(found) => {
                problems.extend(found.0);
                Arc::new(OperatorFile::none())
            }
        };
        match location {
            Some(location) if problems.is_empty() => Ok(Self {
                storage,
                location,
                backup_interval: backup_interval.unwrap_or(BACKUP_INTERVAL_DEFAULT),
                namespace,
                write_timeout: Duration::from_millis(write_timeout_ms.unwrap_or(WRITE_TIMEOUT_DEFAULT_MS)),
                ready_timeout: READY_TIMEOUT,
                runner,
                memory,
                learn,
                embedder,
                model_folder,
                reads_memories: storage != StorageMode::Replica,
                operator,
                slow_query: slow_query_ms.map_or(SLOW_QUERY_DEFAULT, Duration::from_millis),
                process_kind: None,
            }),
            _ => Err(Problems(problems)),
        }
    }
}

/// Names the database of a `DATABASE_URL` for people, without user and password; `None` when it is no valid URL.
#[must_use]
pub fn database_url_shown(url: &str) -> Option<String> {
    DatabaseUrl::parse(url.trim()).ok().map(|url| url.display_safe())
}

/// Longer ones are instructions, and would be most of a short memory.
const PREFIX_BYTES_MAX: usize = 200;

/// The model that the settings name.
fn embedder(
    settings: &Settings,
    dimensions: Option<usize>,
    [query, document]: [Option<String>; 2],
    fetched: Option<&Path>,
) -> Result<Option<EmbedderSettings>, Vec<Problem>> {
    let set =
        |text: &'_ Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let (model, key) = (set(&settings.embeddings_model), &settings.embeddings_key);
    let key = key.as_ref().map(|key| Secret::new(key.expose().trim())).filter(|key| !key.expose().is_empty());
    let problem = |path: &str, message: String| Err(vec![Problem { path: path.to_owned(), message }]);
    let folder = settings.embeddings_dir.as_deref().filter(|folder| !folder.as_os_str().is_empty());
    let place = match set(&settings.embeddings_url) {
        Some(_) if folder.is_some() => {
            problem("A2A_EMBEDDINGS_DIR", "is set and A2A_EMBEDDINGS_URL too; set only one of them".to_owned())
        }
        Some(url) => {
            let external = ExternalSettings::new(&url, model.as_deref(), key.as_ref(), dimensions)?;
            Ok(Some(ModelPlace::External(external)))
        }
        // A key alone does nothing and does no harm.
        None if model.is_some() => {
            problem("A2A_EMBEDDINGS_MODEL", "is set, but A2A_EMBEDDINGS_URL is not; set both or none".to_owned())
        }
        None => local_model(folder, fetched)
            .or_else(|message| problem("A2A_EMBEDDINGS_DIR", format!("can't be used: {message}"))),
    };
    let Some(place) = place? else { return Ok(None) };
    let own = own_prefixes(&place);
    let prefixes = Prefixes { query: query.unwrap_or(own.query), document: document.unwrap_or(own.document) };
    if prefixes.document.len() > PREFIX_BYTES_MAX {
        let message = format!(
            "is a model that wants more than {PREFIX_BYTES_MAX} bytes before each text; set \
             A2A_EMBEDDINGS_DOCUMENT_PREFIX to a shorter one"
        );
        return problem("A2A_EMBEDDINGS_DIR", message).map(|_| None);
    }
    Ok(Some(EmbedderSettings { place, prefixes }))
}

/// What a setting puts before texts. A space at its end counts.
fn prefix(path: &str, text: Option<&str>, problem: &mut impl FnMut(&str, String)) -> Option<String> {
    let text = text.filter(|text| !text.trim().is_empty())?;
    if text.len() > PREFIX_BYTES_MAX || text.chars().any(char::is_control) {
        problem(path, format!("must have at most {PREFIX_BYTES_MAX} bytes on one line, such as `query: `"));
    }
    Some(text.to_owned())
}

/// What a model says of itself.
fn own_prefixes(place: &ModelPlace) -> Prefixes {
    match place {
        ModelPlace::External(_) => Prefixes::default(),
        #[cfg(feature = "local-model")]
        ModelPlace::Local(folder) => {
            let prompts = folder.prompts();
            Prefixes { query: prompts.query.clone(), document: prompts.document.clone() }
        }
    }
}

/// The model of a folder, or the one that was fetched, if there is one.
#[cfg(feature = "local-model")]
fn local_model(folder: Option<&Path>, fetched: Option<&Path>) -> Result<Option<ModelPlace>, String> {
    let folder = folder.or_else(|| fetched.filter(|fetched| pull::is_there(fetched)));
    folder.map(|folder| ModelFolder::open(folder).map(ModelPlace::Local)).transpose()
}

#[cfg(not(feature = "local-model"))]
fn local_model(folder: Option<&Path>, _: Option<&Path>) -> Result<Option<ModelPlace>, String> {
    match folder {
        Some(_) => Err("this program was built without the feature local-model".to_owned()),
        None => Ok(None),
    }
}

/// Where a fetched model is, below the data folder.
fn model_folder(data_folder: &Path) -> PathBuf {
    data_folder.join("models").join("all-MiniLM-L6-v2")
}

/// A number within a range, `None` when it is not set.
fn number<T: std::str::FromStr + PartialOrd + fmt::Display>(
    name: &str,
    unit: &str,
    text: Option<&str>,
    range: &std::ops::RangeInclusive<T>,
    problem: &mut impl FnMut(&str, String),
) -> Option<T> {
    let text = text.map(str::trim).filter(|text| !text.is_empty())?;
    match text.parse() {
        Ok(number) if range.contains(&number) => Some(number),
        _ => {
            problem(name, format!("is {text:?}; use {unit} from {} to {}", range.start(), range.end()));
            None
        }
    }
}

/// A yes or no, `None` when it is not set.
fn flag(name: &str, text: Option<&str>, problem: &mut impl FnMut(&str, String)) -> Option<bool> {
    match text.map(str::trim).filter(|text| !text.is_empty())? {
        "true" => Some(true),
        "false" => Some(false),
        other => {
            problem(name, format!("is {other:?}; use true or false"));
            None
        }
    }
}

fn data_dir(set: Option<&Path>) -> Option<PathBuf> {
    match set.filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => Some(path.to_owned()),
        None => directories::ProjectDirs::from("", "", "a2a-mcp").map(|dirs| dirs.data_dir().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn all_wrong_settings_are_named_at_once() {
        let settings = Settings {
            database_url: text("postgress://localhost/a2a"),
            database_replica_url: text("localhost"),
            storage: text("disk"),
            backup_interval: text("now and then"),
            use_persisted_registry: text("yes"),
            namespace: text("a b"),
            write_timeout_ms: text("soon"),
            data_dir: None,
            operator_file: Some("here.yaml".into()),
            steps_max: text("257"),
            lease_ms: text("999"),
            memories_max: text("99"),
            agent_memories_max: text("many"),
            learn: text("no"),
            slow_query_ms: text("0"),
            embeddings_url: text("http://example.org/v1"),
            embeddings_model: None,
            embeddings_key: Some(Secret::new("two\nlines")),
            embeddings_dimensions: text("0"),
            embeddings_dir: None,
            embeddings_query_prefix: Some("query: ".repeat(40)),
            embeddings_document_prefix: None,
        };
        let problems = Config::new(&settings).unwrap_err();
        let named: Vec<&str> = problems.0.iter().map(|p| p.path.as_str()).collect();
        for name in [
            "DATABASE_URL",
            "DATABASE_REPLICA_URL",
            "A2A_STORAGE",
            "A2A_BACKUP_INTERVAL",
            "USE_PERSISTED_REGISTRY",
            "A2A_NAMESPACE",
            "A2A_WRITE_TIMEOUT_MS",
            "A2A_CONFIG",
            "A2A_STEPS_MAX",
            "A2A_LEASE_MS",
            "A2A_MEMORIES_MAX",
            "A2A_AGENT_MEMORIES_MAX",
            "A2A_LEARN",
            "A2A_SLOW_QUERY_MS",
            "A2A_EMBEDDINGS_URL",
            "A2A_EMBEDDINGS_MODEL",
            "A2A_EMBEDDINGS_KEY",
            "A2A_EMBEDDINGS_DIMENSIONS",
            "A2A_EMBEDDINGS_QUERY_PREFIX",
        ] {
            assert!(named.contains(&name), "{name} not in {named:?}");
        }
    }

    #[test]
    fn nothing_set_means_the_embedded_file() {
        let settings = Settings { data_dir: Some("/tmp/x".into()), ..Settings::default() };
        let config = Config::new(&settings).unwrap();
        assert_eq!(config.storage, StorageMode::Persisted);
        assert!(matches!(config.location, Location::SqliteFile(path) if path == Path::new("/tmp/x/a2a.db")));
    }

    #[test]
    fn the_interval_of_syncs_is_a_time_within_bounds() {
        let interval = |value: &str| {
            let settings = Settings { storage: text("backup"), backup_interval: text(value), ..Settings::default() };
            Config::new(&settings).map(|config| config.backup_interval.as_secs())
        };
        assert_eq!((interval("").unwrap(), interval("15min").unwrap()), (3_600, 900));
        assert_eq!((interval("1s").unwrap(), interval("7days").unwrap()), (1, 604_800));
        for wrong in ["999ms", "8days", "5", "-1h", "hour"] {
            assert_eq!(interval(wrong).unwrap_err().0[0].path, "A2A_BACKUP_INTERVAL", "{wrong}");
        }
    }

    #[test]
    fn only_a_replica_follows_the_replica() {
        let location = |storage: &str, replica: Option<&str>| {
            let settings = Settings {
                database_url: text("postgres://one/a2a"),
                database_replica_url: replica.map(str::to_owned),
                storage: text(storage),
                ..Settings::default()
            };
            Config::new(&settings).unwrap().location.to_string()
        };
        assert_eq!(location("replica", Some("postgres://two/a2a")), "two:5432/a2a");
        assert_eq!(location("replica", None), "one:5432/a2a");
        assert_eq!(location("persisted", Some("postgres://two/a2a")), "one:5432/a2a");
    }

    #[test]
    fn a_folder_without_a_model_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { embeddings_dir: Some(folder.path().to_owned()), ..Settings::default() };
        let problems = Config::new(&settings).unwrap_err();
        assert_eq!(problems.0[0].path, "A2A_EMBEDDINGS_DIR");
        let url = Some("http://127.0.0.1:1/v1".to_owned());
        let both = Settings { embeddings_url: url, embeddings_model: text("m"), ..settings };
        assert!(Config::new(&both).unwrap_err().to_string().contains("set only one"));
    }

    #[test]
    fn a_prefix_before_documents_makes_another_model() {
        let named = |query: Option<&str>, document: Option<&str>| {
            let settings = Settings {
                embeddings_url: text("http://127.0.0.1:1/v1"),
                embeddings_model: text("m"),
                embeddings_query_prefix: query.map(str::to_owned),
                embeddings_document_prefix: document.map(str::to_owned),
                ..Settings::default()
            };
            Config::new(&settings).unwrap().embedder.unwrap()
        };
        let plain = named(None, Some(" ")).name();
        assert_eq!(plain, "http://127.0.0.1:1/v1 m");
        assert_eq!(named(Some("query: "), None).name(), plain, "questions are read anew anyway");
        let prefixed = named(Some("query: "), Some("passage: "));
        assert_eq!(prefixed.name(), format!("{plain} \"passage: \""));
        assert_eq!(prefixed.prefixes, Prefixes { query: "query: ".to_owned(), document: "passage: ".to_owned() });
    }

    #[test]
    fn the_older_switch_still_works() {
        let settings = Settings { use_persisted_registry: text("false"), ..Settings::default() };
        assert_eq!(Config::new(&settings).unwrap().storage, StorageMode::Memory);
        let both = Settings { storage: text("persisted"), ..settings };
        assert!(Config::new(&both).unwrap_err().to_string().contains("set only one"));
    }
}
