//! `a2a-mcp bench`: what persistence costs on this machine and with this database.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use a2a_core::ids::{Actor, Namespace};
use a2a_core::limits::{BATCH_ITEMS_MAX, PAGE_ROWS_MAX};
use a2a_core::registry::{ListQuery, SearchQuery};
use a2a_engine::config::{Config, StorageMode};
use a2a_engine::hub::{DeployOptions, Hub, RemoveOptions};
use a2a_engine::maintenance::{self, Location};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::{CliError, Exit};
use super::{READY_TIMEOUT, only_looking, output, settings, shipped, table};

/// Fewer say nothing about a registry; more take minutes.
const AGENTS_RANGE: std::ops::RangeInclusive<u64> = 10..=100_000;
/// How often an operation is done when everything is in memory; the middle one counts.
const WARM_ROUNDS: usize = 200;
/// How often a process is started to measure its first answer; the middle one counts.
const COLD_ROUNDS: usize = 3;

#[derive(clap::Args)]
pub(super) struct Args {
    /// How many agents there are while it measures, 10 to 100000
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(AGENTS_RANGE))]
    agents: u64,
    /// Print one JSON document, with times in milliseconds
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Get,
    List,
    Deploy,
    Search,
}

impl Operation {
    const ALL: [Self; 4] = [Self::Get, Self::List, Self::Deploy, Self::Search];

    fn name(self) -> &'static str {
        match self {
            Self::Get => "get by id",
            Self::List => "list all",
            Self::Deploy => "deploy",
            Self::Search => "search",
        }
    }
}

/// The figures of one operation.
#[derive(Debug, Serialize)]
struct Row {
    operation: &'static str,
    memory_ms: f64,
    persisted_cold_ms: f64,
    persisted_warm_ms: f64,
}

#[derive(Debug, Serialize)]
struct Summary {
    agents: u64,
    database: String,
    /// From the start of a process until all agents are loaded.
    load_ms: f64,
    operations: Vec<Row>,
}

pub(super) async fn run(args: &Args, config: Config, settings: &settings::Args) -> Result<Exit, CliError> {
    let namespace = format!("bench-{}", uuid::Uuid::new_v4().simple());
    let mut config = only_looking(config);
    config.namespace = Namespace::parse(&namespace).map_err(|error| CliError::Failed(error.to_string()))?;
    config.ready_timeout = READY_TIMEOUT;
    let memory = Config { storage: StorageMode::Memory, location: Location::Memory, ..config.clone() };
    // Without a database that was asked for it leaves that of the user alone.
    let folder: Option<Folder> = match settings.database_url() {
        Some(_) if config.storage == StorageMode::Persisted => None,
        _ => {
            let folder = Folder(std::env::temp_dir().join(format!("a2a-mcp-{namespace}")));
            config.storage = StorageMode::Persisted;
            config.location = Location::SqliteFile(folder.0.join("a2a.db"));
            Some(folder)
        }
    };
    maintenance::database_check(&config).await?;
    let bench =
        Bench { agents: usize::try_from(args.agents).unwrap_or(usize::MAX), actor: Actor::new("a2a-mcp bench") };
    note(args, "measuring in memory");
    let in_memory = bench.warm(&memory).await?;
    note(args, &format!("measuring {}", config.location));
    let measured = bench.persisted(&config).await;
    // Whatever happened: nothing of it stays in somebody's database.
    let removed = if folder.is_none() { bench.remove(&config).await } else { Ok(()) };
    drop(folder);
    let (load, cold, warm) = measured?;
    removed?;
    let times = in_memory.into_iter().zip(cold).zip(warm);
    let operations = Operation::ALL
        .iter()
        .zip(times)
        .map(|(operation, ((memory, cold), warm))| Row {
            operation: operation.name(),
            memory_ms: millis(memory),
            persisted_cold_ms: millis(cold),
            persisted_warm_ms: millis(warm),
        })
        .collect();
    let summary =
        Summary { agents: args.agents, database: config.location.to_string(), load_ms: millis(load), operations };
    if args.json {
        output::json(&summary)?
    } else {
        output::text(&text(&summary))?
    }
    Ok(Exit::Done)
}

fn note(args: &Args, text: &str) {
    if !args.json {
        output::note(text);
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// A folder that goes away.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            output::note(&format!("warning: {} can't be removed: {error}", self.0.display()));
        }
    }
}

struct Bench {
    agents: usize,
    actor: Actor,
}

impl Bench {
    fn id(&self, round: usize) -> String {
        // Any step that shares no factor with round numbers leads through all of them.
        format!("generated-{:06}", 1 + round.wrapping_mul(7_919) % self.agents)
    }

    async fn fill(&self, hub: &Hub) -> Result<(), CliError> {
        for first in (1..=self.agents).step_by(BATCH_ITEMS_MAX) {
            let last = self.agents.min(first + BATCH_ITEMS_MAX - 1);
            let documents: Vec<Value> = (first..=last).map(shipped::generated).collect();
            for deployed in hub.agent_deploy(&documents, "agents", &DeployOptions::default(), &self.actor).await? {
                deployed?;
            }
        }
        Ok(())
    }

    async fn once(&self, hub: &Hub, operation: Operation, round: usize) -> Result<Duration, CliError> {
        let namespace = hub.default_namespace().clone();
        // Ordering: what is not part of the operation comes before the clock starts.
        let id = self.id(round);
        let document = json!({"id": id, "description": format!("Deployed in round {round}."), "tags": ["generated"]});
        let query = SearchQuery {
            namespace: namespace.clone(),
            query: "who can reconcile our invoices".to_owned(),
            limit: 10,
            ..SearchQuery::default()
        };
        let started = Instant::now();
        match operation {
            Operation::Get => drop(hub.agent_get(None, &id).await?),
            Operation::Search => drop(hub.agent_search(&query).await?),
            Operation::Deploy => {
                let documents = std::slice::from_ref(&document);
                for deployed in hub.agent_deploy(documents, "agents", &DeployOptions::default(), &self.actor).await? {
                    deployed?;
                }
            }
            Operation::List => {
                let mut query = ListQuery { namespace, limit: PAGE_ROWS_MAX, ..ListQuery::default() };
                loop {
                    query.cursor = hub.agent_list(&query).await?.next_cursor;
                    if query.cursor.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(started.elapsed())
    }

    /// The operations with everything in memory.
    async fn warm(&self, config: &Config) -> Result<Vec<Duration>, CliError> {
        let hub = Hub::open(config.clone());
        let measured = self.warm_with(&hub).await;
        hub.close().await;
        measured
    }

    async fn warm_with(&self, hub: &Hub) -> Result<Vec<Duration>, CliError> {
        self.fill(hub).await?;
        let mut times = Vec::new();
        for operation in Operation::ALL {
            let mut rounds = Vec::with_capacity(WARM_ROUNDS);
            for round in 0..WARM_ROUNDS {
                rounds.push(self.once(hub, operation, round).await?);
            }
            times.push(middle(rounds));
        }
        Ok(times)
    }

    /// How long loading takes, and the operations as the first thing that a process does and later.
    async fn persisted(&self, config: &Config) -> Result<(Duration, Vec<Duration>, Vec<Duration>), CliError> {
        let warm = self.warm(config).await?;
        let mut loads = Vec::new();
        let mut cold = Vec::new();
        for operation in Operation::ALL {
            let mut rounds = Vec::new();
            for round in 0..COLD_ROUNDS {
                let started = Instant::now();
                let hub = Hub::open(config.clone());
                let ready = hub.ready().await;
                loads.push(started.elapsed());
                let done = match ready {
                    Ok(()) => self.once(&hub, operation, WARM_ROUNDS + round).await,
                    Err(error) => Err(error.into()),
                };
                rounds.push(started.elapsed());
                hub.close().await;
                done?;
            }
            cold.push(middle(rounds));
        }
        Ok((middle(loads), cold, warm))
    }

    /// Purges everything that it has deployed.
    async fn remove(&self, config: &Config) -> Result<(), CliError> {
        let hub = Hub::open(config.clone());
        let removed = async {
            hub.ready().await?;
            let query =
                ListQuery { namespace: hub.default_namespace().clone(), limit: PAGE_ROWS_MAX, ..ListQuery::default() };
            let options = RemoveOptions { purge: true, ..RemoveOptions::default() };
            loop {
                let page = hub.agent_list(&query).await?;
                let ids: Vec<String> = page.agents.iter().map(|agent| agent.spec.id.to_string()).collect();
                if ids.is_empty() {
                    return Ok(());
                }
                for removed in hub.agent_remove(&ids, &options, &self.actor).await? {
                    removed?;
                }
            }
        };
        let removed = removed.await;
        hub.close().await;
        removed
    }
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn text(summary: &Summary) -> String {
    let shown = |ms: f64| match ms {
        ms if ms < 0.01 => format!("{:.4} ms", ms),
        ms if ms < 1.0 => format!("{ms:.3} ms"),
        ms => format!("{ms:.1} ms"),
    };
    let rows: Vec<Vec<String>> = summary
        .operations
        .iter()
        .map(|row| {
            let times = [row.memory_ms, row.persisted_cold_ms, row.persisted_warm_ms].map(shown);
            std::iter::once(row.operation.to_owned()).chain(times).collect()
        })
        .collect();
    let table = table::render(&["OPERATION", "MEMORY", "PERSISTED, COLD", "PERSISTED, WARM"], &rows, None);
    format!(
        "{table}\n{} agents, persisted in {}\n\
         cold: the first thing that a process does, with opening the database and loading all agents ({})\n\
         warm: the middle of {WARM_ROUNDS}; a deploy answers when it is committed\n",
        summary.agents,
        summary.database,
        shown(summary.load_ms),
    )
}
