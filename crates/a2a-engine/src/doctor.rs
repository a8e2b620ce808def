//! Checks each link from the settings to an agent that another process sees, and says what to do about a broken one.
//!
//! The checks really connect, commit, load and follow; nothing is inferred. They run in the order in which one needs
//! the other, and what needs a broken one is reported as skipped.

mod postgres;
mod processes;
mod sqlite;

use std::time::{Duration, Instant};

use a2a_core::ids::{Actor, Namespace};
use a2a_core::time::Timestamp;
use a2a_store::error::StoreError;
use a2a_store::store::{Location, Store, ToolUsage};
use serde::Serialize;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::{Config, StorageMode};
use crate::error::HubError;
use crate::hub::{DeployOptions, Hub, RemoveOptions};
use crate::maintenance;

/// A commit that takes longer than this is felt by callers.
const COMMIT_SLOW: Duration = Duration::from_millis(100);
/// A change that takes longer than this to be seen elsewhere breaks a promise of the design.
const FRESH_LIMIT: Duration = Duration::from_secs(1);
/// A change that takes longer than this is later than it is on a healthy database.
const FRESH_SLOW: Duration = Duration::from_millis(100);
/// How often freshness is measured; the slowest counts.
const FRESH_ROUNDS: u32 = 5;
/// How long loading may take before the check gives up.
const LOAD_LIMIT: Duration = Duration::from_secs(60);
/// No client waits longer for the first answer.
const LOAD_SLOW: Duration = Duration::from_secs(5);
/// Where the agent lives that is deployed to measure freshness. Nobody looks there.
const NAMESPACE: &str = "a2a-doctor";

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// It works, but something should be changed.
    Warn,
    /// It does not work.
    Fail,
    /// Not looked at, because it needs a check that failed.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which link.
    pub name: &'static str,
    /// How it ended.
    pub status: CheckStatus,
    /// What was found, for programs.
    pub code: &'static str,
    /// What was found, with figures.
    pub detail: String,
    /// What to do: a command that can be copied, or a change to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// More of what was found, one thing a line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl Check {
    /// A check with nothing to do about it.
    pub fn new(name: &'static str, status: CheckStatus, code: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status, code, detail: detail.into(), next: None, lines: Vec::new() }
    }

    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, CheckStatus::Ok, "ok", detail)
    }

    fn warn(name: &'static str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, CheckStatus::Warn, code, detail)
    }

    fn fail(name: &'static str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, CheckStatus::Fail, code, detail)
    }

    /// Adds what to do.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Whether agents can't be kept or read as long as this is so.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.status == CheckStatus::Fail && ["connect", "schema", "write", "load"].contains(&self.name)
    }
}

/// Collects checks and tells each one as soon as it is done.
struct Findings<F> {
    checks: Vec<Check>,
    told: F,
}

impl<F: FnMut(&Check)> Findings<F> {
    fn add(&mut self, check: Check) -> bool {
        (self.told)(&check);
        let goes_on = check.status != CheckStatus::Fail;
        self.checks.push(check);
        goes_on
    }

    fn skip(&mut self, names: &[&'static str], because: &str) {
        for name in names {
            self.add(Check::new(name, CheckStatus::Skipped, "skipped", because));
        }
    }
}

const AFTER_CONNECT: &[&str] = &["schema", "processes", "write", "load", "agents", "freshness"];
const AFTER_SCHEMA: &[&str] = &["processes", "write", "load", "agents", "freshness"];

/// Runs all checks. `told` is called with each one when it is done, because some take seconds.
///
/// A SQLite file that is missing is made, as any other command would. The schema of a database that exists is never
/// changed. The write is a row of tool usage and an agent of a namespace of its own, which is purged again.
pub async fn doctor(config: &Config, told: impl FnMut(&Check)) -> Vec<Check> {
    let mut findings = Findings { checks: Vec::new(), told };
    let only_reads = config.storage == StorageMode::Replica;
    if config.storage == StorageMode::Backup {
        // What follows is of the database; the servers are listed among the processes, each with its last sync.
        let interval = humantime::format_duration(config.backup_interval);
        findings.add(Check::ok(
            "storage",
            format!("backup: a server works in memory and syncs to the database every {interval} and at its end"),
        ));
    }
    let in_database = persisted(config);
    let config = &in_database;
    match &config.location {
        Location::Postgres(url) => {
            if !postgres::check(url, only_reads, &mut findings).await {
                findings.skip(AFTER_CONNECT, "needs a connection");
                return findings.checks;
            }
        }
        Location::SqliteFile(path) => {
            let is_new = !maintenance::exists(&config.location);
            let opened = match (is_new, only_reads) {
                (_, true) => Store::open_replica(&config.location).await,
                (true, false) => Store::open(&config.location).await,
                (false, false) => Store::connect(&config.location).await,
            };
            let goes_on = findings.add(sqlite::connect(path, is_new, opened.as_ref().err()));
            sqlite::surroundings(path, &mut findings);
            if !goes_on {
                findings.skip(AFTER_CONNECT, "needs the file");
                return findings.checks;
            }
        }
        Location::Memory => {
            let check =
                Check::warn("connect", "memory", "agents are kept in memory only and are gone when the process ends");
            findings.add(check.next("unset A2A_STORAGE and USE_PERSISTED_REGISTRY to keep agents"));
        }
    }
    if !matches!(config.location, Location::Memory) {
        let schema = schema(config).await;
        let usable = schema.code == "ok";
        findings.add(schema);
        if !usable {
            findings.skip(AFTER_SCHEMA, "needs the schema of this program");
            return findings.checks;
        }
        findings.add(processes::running(config).await);
        if let Some(pool) = processes::pool(config).await {
            findings.add(pool);
        }
        if only_reads {
            findings.skip(&["write"], "a replica only reads");
        } else if !findings.add(write(config).await) {
            findings.skip(&["load", "agents", "freshness"], "needs a database that takes writes");
            return findings.checks;
        }
    }
    let (load, hub) = load(config).await;
    findings.add(load);
    match hub {
        Some(hub) => {
            if !matches!(config.location, Location::Memory) {
                if let Ok(stats) = hub.registry_stats(None).await {
                    findings.add(processes::elsewhere(config, &stats.registry).await);
                }
                if only_reads {
                    findings.skip(&["freshness"], "a replica writes nothing that another process could see");
                } else {
                    findings.add(freshness(config, &hub).await);
                }
            }
            if let Some(check) = embeddings(&hub).await {
                findings.add(check);
            }
            hub.close().await;
        }
        None => findings.skip(&["agents", "freshness"], "needs the agents"),
    }
    findings.checks
}

/// Looks at the database itself in mode `backup`.
fn persisted(config: &Config) -> Config {
    let storage = match config.storage {
        StorageMode::Backup => StorageMode::Persisted,
        other => other,
    };
    Config { storage, ..config.clone() }
}

async fn schema(config: &Config) -> Check {
    const NAME: &str = "schema";
    let looked = async {
        let store = Store::connect(&config.location).await?;
        Ok::<_, StoreError>((store.migrate_status().await?, maintenance::migrate_known().await?))
    };
    let (steps, known) = match looked.await {
        Ok(found) => found,
        Err(error) => return Check::fail(NAME, "unreadable", error.to_string()),
    };
    let newest = |steps: &[&str]| steps.last().map_or_else(|| "none".to_owned(), |name| (*name).to_owned());
    let applied: Vec<&str> = steps.iter().filter(|s| s.applied).map(|s| s.name.as_str()).collect();
    let unknown: Vec<&str> = applied.iter().filter(|name| !known.iter().any(|k| k.name == **name)).copied().collect();
    let pending = steps.iter().filter(|s| !s.applied).count();
    if !unknown.is_empty() {
        let known: Vec<&str> = known.iter().map(|k| k.name.as_str()).collect();
        let detail =
            format!("the database has {}, which is newer than {} of this program", newest(&unknown), newest(&known));
        return Check::fail(NAME, "newer", detail)
            .next("install the newer a2a-mcp here, or run `a2a-mcp migrate revert --yes` with the newer one");
    }
    let run = "a2a-mcp migrate run    (a server does it by itself when it starts)";
    if applied.is_empty() {
        return Check::warn(NAME, "missing", "there are no tables of a2a-mcp yet").next(run);
    }
    if pending > 0 {
        let detail = format!("the database is at {} and lacks {pending} newer steps", newest(&applied));
        return Check::warn(NAME, "older", detail).next(run);
    }
    Check::ok(NAME, format!("{}, all {} steps", newest(&applied), applied.len()))
}

/// A real commit: the same kind of row that any tool call leaves.
async fn write(config: &Config) -> Check {
    const NAME: &str = "write";
    let store = match Store::connect(&config.location).await {
        Ok(store) => store,
        Err(error) => return Check::fail(NAME, "connection_lost", error.to_string()),
    };
    let usage = ToolUsage {
        at: Timestamp::from_system_time(std::time::SystemTime::now()),
        tool: "doctor",
        agent: None,
        actor: "a2a-mcp doctor".into(),
        duration: Duration::ZERO,
        request_bytes: 0,
        response_bytes: 0,
        error_code: None,
    };
    let start = Instant::now();
    let written = timeout(config.write_timeout, store.tool_usage_append(&[usage])).await;
    let took = start.elapsed();
    match written {
        Ok(Ok(())) if took > COMMIT_SLOW => Check::warn(
            NAME,
            "slow",
            format!("one row committed in {}, which callers feel; under 20 ms is normal", shown(took)),
        )
        .next("look at the disk (or network) of the database: each write waits for one flush of it"),
        Ok(Ok(())) => Check::ok(NAME, format!("one row committed in {}", shown(took))),
        Ok(Err(error)) => Check::fail(NAME, "refused", format!("a write fails: {error}"))
            .next("give the user of the database the right to write, or point DATABASE_URL at the primary server"),
        Err(_) => Check::fail(NAME, "timeout", format!("no commit within {}", shown(took)))
            .next("look for a stuck transaction that holds locks, a full disk, or a suspended server"),
    }
}

/// Starts a whole system, as a server does.
async fn load(config: &Config) -> (Check, Option<Hub>) {
    const NAME: &str = "load";
    let start = Instant::now();
    let hub = Hub::open(Config { ready_timeout: LOAD_LIMIT, ..config.clone() });
    if let Err(error) = hub.ready().await {
        return (Check::fail(NAME, error.code(), error.to_string()), None);
    }
    let took = start.elapsed();
    let check = match hub.registry_stats(None).await {
        Err(error) => Check::fail(NAME, error.code(), error.to_string()),
        Ok(stats) => {
            let detail = format!("{} agents ready {} after the start", stats.registry.total, shown(took));
            if took > LOAD_SLOW {
                Check::warn(NAME, "slow", format!("{detail}; 100,000 agents take less than a second nearby")).next(
                    "calls that come earlier are answered with not_ready; bring the database nearer, or remove agents",
                )
            } else {
                Check::ok(NAME, detail)
            }
        }
    };
    (check, Some(hub))
}

/// Whether the model that the operator has chosen reads.
async fn embeddings(hub: &Hub) -> Option<Check> {
    const NAME: &str = "embeddings";
    let start = Instant::now();
    let read = hub.embedding_probe().await?;
    let (took, stats) = (start.elapsed(), hub.embedding_stats()?);
    let counts = format!(
        "{}; {} memories read, {} waiting; {} agents read, {} waiting",
        stats.model, stats.read, stats.waiting, stats.agents_read, stats.agents_waiting
    );
    Some(match read {
        Ok(dimensions) => Check::ok(NAME, format!("{counts}; {dimensions} dimensions, a question in {}", shown(took))),
        Err(error) => Check::warn(NAME, "failed", format!("{counts}; {error}"))
            .next("look at A2A_EMBEDDINGS_URL, _MODEL and _KEY; until it works the built-in table is used"),
    })
}

/// How long it takes until a second system, with connections of its own, sees a write of the first.
async fn freshness(config: &Config, writer: &Hub) -> Check {
    const NAME: &str = "freshness";
    let reader = Hub::open(Config { ready_timeout: LOAD_LIMIT, ..config.clone() });
    let measured = measure(writer, &reader).await;
    reader.close().await;
    match measured {
        Err(error) => Check::fail(NAME, error.code(), error.to_string()),
        Ok(None) => {
            let detail = format!("a write was not seen by a second cache within {}", shown(FRESH_LIMIT));
            Check::fail(NAME, "stale", detail)
                .next("A2A_LOG=a2a_store=debug,a2a_sql=debug a2a-mcp doctor    (and see why the feed does not follow)")
        }
        Ok(Some(took)) if took > FRESH_SLOW => {
            let detail = format!(
                "{FRESH_ROUNDS} writes seen by a second cache, the slowest after {}; under 50 ms is normal",
                shown(took)
            );
            Check::warn(NAME, "slow", detail).next(
                "with a pooler in transaction mode this is the polling interval; give the direct address of the \
                 server in DATABASE_URL",
            )
        }
        Ok(Some(took)) => {
            Check::ok(NAME, format!("{FRESH_ROUNDS} writes seen by a second cache, the slowest after {}", shown(took)))
        }
    }
}

async fn measure(writer: &Hub, reader: &Hub) -> Result<Option<Duration>, HubError> {
    reader.ready().await?;
    let namespace = Namespace::from_stored(NAMESPACE);
    let actor = Actor::new("a2a-mcp doctor");
    // Few names, because each leaves its last revision number behind, and more than one, because two may run at once.
    let id = format!("probe-{}", std::process::id() % 64);
    let mut slowest = Duration::ZERO;
    let mut seen = true;
    for round in 0..FRESH_ROUNDS {
        let document = json!({
            "id": id,
            "namespace": NAMESPACE,
            "description": "Measures how soon a change is seen; removed at once.",
            "config": {"round": round, "nonce": uuid::Uuid::now_v7()},
        });
        let deployed = writer.agent_deploy(&[document], "probe", &DeployOptions::default(), &actor).await?;
        let revision = deployed.into_iter().next().ok_or(HubError::Aborted)??.revision;
        match seen_after(reader, &namespace, &id, revision).await {
            Some(took) => slowest = slowest.max(took),
            None => {
                seen = false;
                break;
            }
        }
    }
    let options = RemoveOptions { namespace: Some(namespace), purge: true, expected_revision: None };
    for removed in writer.agent_remove(&[id], &options, &actor).await? {
        removed?;
    }
    Ok(seen.then_some(slowest))
}

async fn seen_after(reader: &Hub, namespace: &Namespace, id: &str, revision: i64) -> Option<Duration> {
    let start = Instant::now();
    let mut looks = interval(Duration::from_millis(1));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timeout(FRESH_LIMIT, async {
        loop {
            if reader.agent_get(Some(namespace), id).await.is_ok_and(|agent| agent.revision >= revision) {
                return start.elapsed();
            }
            looks.tick().await;
        }
    })
    .await
    .ok()
}

/// A time as people read it.
fn shown(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
