//! Tools on the registry as a whole.

use std::time::Duration;

use a2a_core::ids::Namespace;
use a2a_core::input::ObjectReader;
use a2a_engine::hub::{DatabaseStats, HubStats, OperationTiming};
use a2a_engine::sync::SyncStats;
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;

use crate::server::Server;
use crate::tools::{Answer, Arguments, Call, Definition, Effect, Reply, read_namespace};

/// Names and counts shown of each list.
const COUNTS_SHOWN: usize = 20;

/// Operations shown, those that took most time.
const OPERATIONS_SHOWN: usize = 8;

/// All tools on the registry.
pub(crate) fn routes() -> Vec<ToolRoute<Server>> {
    vec![crate::tools::route(
        Definition {
            name: "registry_stats",
            title: "Registry statistics",
            description: "How many agents there are, by category and tag, how many runs and memories; where all is stored, \
                          and whether database, feed and writer are healthy.",
            effect: Effect::Reads,
        },
        run,
    )]
}

#[derive(Debug, JsonSchema)]
#[allow(missing_docs, reason = "the schema is what a model reads; every word costs")]
struct StatsArgs {
    /// Count only this one.
    #[schemars(with = "Option<String>")]
    namespace: Option<Namespace>,
}

impl Arguments for StatsArgs {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        Some(Self { namespace: read_namespace(r) })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct StatsResult {
    agents: AgentCounts,
    storage: StorageState,
    database: DatabaseState,
    feed: FeedState,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<WriterState>,
    /// In mode `backup`. Left out of the schema, where every word costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    sync: Option<SyncStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    embeddings: Option<EmbeddingState>,
    /// Last 24 hours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    usage: Vec<UsageRow>,
    /// What this process did with the database. Left out of the schema, where every word costs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    operations: Vec<OperationRow>,
    server: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct AgentCounts {
    total: usize,
    enabled: usize,
    disabled: usize,
    deprecated: usize,
    reachable: usize,
    unreachable: usize,
    categories: Vec<(String, usize)>,
    tags: Vec<(String, usize)>,
    namespaces: Vec<(String, usize)>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct StorageState {
    /// persisted, memory, backup or replica
    mode: String,
    location: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct DatabaseState {
    reachable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<f64>,
    /// Rows of each kind.
    #[serde(flatten)]
    #[schemars(skip)]
    rows: Option<Rows>,
}

#[derive(Debug, Serialize)]
struct Rows {
    agents: i64,
    agent_history: i64,
    workflows: i64,
    runs_live: i64,
    runs_ended: i64,
    memories: i64,
    change_log: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct FeedState {
    connected: bool,
    /// Since memory last equalled the database.
    age_ms: u64,
    reconciled: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct WriterState {
    queued: usize,
    commits: u64,
    changes: u64,
    retries: u64,
    last_commit_ms: f64,
    telemetry_lost: u64,
}

/// The model that reads memories and agents.
#[derive(Debug, Serialize)]
struct EmbeddingState {
    model: String,
    memories_read: usize,
    memories_waiting: usize,
    /// It does not take these.
    #[serde(skip_serializing_if = "is_zero")]
    memories_refused: usize,
    agents_read: usize,
    agents_waiting: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct UsageRow {
    tool: String,
    calls: i64,
    errors: i64,
    mean_ms: f64,
    max_ms: f64,
}

#[derive(Debug, Serialize)]
struct OperationRow {
    operation: &'static str,
    calls: u64,
    errors: u64,
    mean_ms: f64,
    max_ms: f64,
}

impl From<OperationTiming> for OperationRow {
    fn from(timing: OperationTiming) -> Self {
        let OperationTiming { operation, calls, errors, total, longest } = timing;
        let mean = total / u32::try_from(calls.max(1)).unwrap_or(u32::MAX);
        Self { operation, calls, errors, mean_ms: millis(mean), max_ms: millis(longest) }
    }
}

fn millis(duration: Duration) -> f64 {
    millis_of_micros(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

/// Milliseconds with two digits, which is what anybody reads.
#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
fn millis_of_micros(micros: i64) -> f64 {
    (micros as f64 / 10.0).round() / 100.0
}

fn run<'s>(call: Call<'s>, args: StatsArgs) -> Answer<'s, StatsResult> {
    async move {
        let stats = call.hub.registry_stats(args.namespace.as_ref()).await?;
        let result = result(stats);
        let text = text(&result);
        Ok(Reply::new(result, text))
    }
    .boxed()
}

fn result(stats: HubStats) -> StatsResult {
    let shown = |counts: Vec<(String, usize)>| counts.into_iter().take(COUNTS_SHOWN).collect::<Vec<_>>();
    let database = match stats.database {
        DatabaseStats::Reachable(health) => DatabaseState {
            reachable: true,
            version: Some(health.version),
            schema: Some(health.schema),
            round_trip_ms: Some(millis(health.round_trip)),
            rows: Some(Rows {
                agents: health.agents,
                agent_history: health.agent_history,
                workflows: health.workflows,
                runs_live: health.runs_live,
                runs_ended: health.runs_ended,
                memories: health.memories,
                change_log: health.change_log,
            }),
        },
        DatabaseStats::Unreachable => {
            DatabaseState { reachable: false, version: None, schema: None, round_trip_ms: None, rows: None }
        }
    };
    StatsResult {
        agents: AgentCounts {
            total: stats.registry.total,
            enabled: stats.registry.enabled,
            disabled: stats.registry.disabled,
            deprecated: stats.registry.deprecated,
            reachable: stats.registry.reachable,
            unreachable: stats.registry.unreachable,
            categories: shown(stats.registry.categories),
            tags: shown(stats.registry.tags),
            namespaces: shown(stats.registry.namespaces),
        },
        storage: StorageState { mode: stats.storage.to_string(), location: stats.location },
        database,
        feed: FeedState {
            connected: stats.feed.connected,
            age_ms: u64::try_from(stats.feed.age.as_millis()).unwrap_or(u64::MAX),
            reconciled: stats.feed.reconciled,
        },
        writer: stats.writer.map(|writer| WriterState {
            queued: writer.queued,
            commits: writer.commits,
            changes: writer.changes,
            retries: writer.retries,
            last_commit_ms: millis(writer.last_commit),
            telemetry_lost: writer.telemetry_lost,
        }),
        sync: stats.sync,
        embeddings: stats.embeddings.map(|stats| EmbeddingState {
            model: stats.model,
            memories_read: stats.read,
            memories_waiting: stats.waiting,
            memories_refused: stats.refused,
            agents_read: stats.agents_read,
            agents_waiting: stats.agents_waiting,
            last_error: stats.last_error,
        }),
        usage: stats
            .usage
            .into_iter()
            .map(|row| UsageRow {
                tool: row.tool,
                calls: row.calls,
                errors: row.errors,
                mean_ms: millis_of_micros(row.mean_us),
                max_ms: millis_of_micros(row.max_us),
            })
            .collect(),
        operations: stats.operations.into_iter().take(OPERATIONS_SHOWN).map(OperationRow::from).collect(),
        server: concat!("a2a-mcp ", env!("CARGO_PKG_VERSION")),
    }
}

fn text(result: &StatsResult) -> String {
    let StatsResult { agents, storage, database, feed, .. } = result;
    let health = match (database.reachable, &database.version) {
        (true, Some(version)) => format!("{version}, round trip {} ms", database.round_trip_ms.unwrap_or_default()),
        _ => "not reachable; reads go on from memory, writes fail until it is back (run a2a-mcp doctor)".to_owned(),
    };
    let rows = database.rows.as_ref().map_or_else(String::new, |rows| {
        format!("\n{} workflows, {} runs that go on, {} memories", rows.workflows, rows.runs_live, rows.memories)
    });
    let embeddings = result.embeddings.as_ref().map_or_else(String::new, |embeddings| {
        let EmbeddingState { model, memories_read, memories_waiting, agents_read, agents_waiting, last_error, .. } =
            embeddings;
        let error = last_error.as_ref().map_or_else(String::new, |error| format!("; {error}"));
        format!(
            "\nembeddings: {model}, {memories_read} memories read, {memories_waiting} waiting, {agents_read} agents read, \
             {agents_waiting} waiting{error}"
        )
    });
    let sync = result.sync.as_ref().map_or_else(String::new, |sync| {
        let SyncStats { synced_at, next_at, waiting, failures, .. } = sync;
        let failed = match failures {
            0 => String::new(),
            count => format!("; {count} syncs have failed since, and it is tried again (run a2a-mcp doctor)"),
        };
        format!("\nsync: last at {synced_at}, next at {next_at}, {waiting} changes not yet in the database{failed}")
    });
    format!(
        "{} agents ({} enabled, {} disabled, {} deprecated, {} reachable, {} unreachable){rows}\nstorage: {} at {}{sync}\ndatabase: {health}\nfeed: {}, {} ms old{embeddings}",
        agents.total,
        agents.enabled,
        agents.disabled,
        agents.deprecated,
        agents.reachable,
        agents.unreachable,
        storage.mode,
        storage.location,
        if feed.connected { "connected" } else { "not connected" },
        feed.age_ms,
    )
}
