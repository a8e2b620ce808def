//! `memory_forget`

use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_engine::hub::{ForgetQuery, Forgotten};
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::filters::read_filters;
use super::row::MemoryRow;
use crate::server::Server;
use crate::text::shortened;
use crate::tool_error::{ToolError, item_text};
use crate::tools::{Answer, Arguments, Call, Definition, Effect, NOTICE, Reply, read_namespace, texts};

/// Memories shown of those that go.
const SHOWN: usize = 20;

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "memory_forget",
            title: "Forget",
            description: "Take memories out of recall, for every client: by ids, or by filters, which only show what \
                          would go until dry_run=false. purge=true erases them for good. To correct a fact, supersede \
                          it instead.",
            effect: Effect::Destroys,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct ForgetArgs {
    ids: Option<Vec<String>>,
    /// As in memory_search.
    filters: Option<Map<String, Value>>,
    /// Default: true with filters
    dry_run: Option<bool>,
    purge: Option<bool>,
    namespace: Option<String>,
}

struct Parsed(ForgetQuery);

impl JsonSchema for Parsed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        ForgetArgs::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        ForgetArgs::json_schema(generator)
    }
}

impl Arguments for Parsed {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let ids = texts(r, "ids", limits::BATCH_ITEMS_MAX, limits::ID_CHARS_MAX);
        let filters = r.value("filters").and_then(|value| {
            let path = r.path_of("filters");
            let mut inner = ObjectReader::open(value, path, r.problems())?;
            let filters = read_filters(&mut inner);
            inner.finish();
            if !filters.is_narrow() {
                r.problem("filters", "are empty, which would forget everything; give at least one");
            }
            Some(filters)
        });
        match (r.has("filters"), ids.is_empty()) {
            (true, false) => r.problem("filters", "are given beside ids; use one of both"),
            (false, true) => r.problem("ids", "is required: the ids of memories; or filters"),
            _ => {}
        }
        let dry_run = r.boolean("dry_run").unwrap_or(filters.is_some());
        Some(Self(ForgetQuery {
            namespace: read_namespace(r),
            ids,
            filters,
            purge: r.boolean("purge").unwrap_or(false),
            dry_run,
        }))
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct ForgetResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<&'static str>,
    /// Or would be, in a dry run.
    forgotten: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Option<Vec<String>>")]
    failed: Vec<String>,
    #[schemars(with = "Vec<Map<String, Value>>")]
    memories: Vec<MemoryRow>,
    /// Pass the filters and need another call.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

fn run<'s>(call: Call<'s>, Parsed(query): Parsed) -> Answer<'s, ForgetResult> {
    async move {
        let found = call.hub.memory_forget(&query, &call.actor).await?;
        let by_ids = !query.ids.is_empty();
        let Forgotten { memories, failed, more } = found;
        if memories.is_empty() && by_ids {
            return Err(match <[_; 1]>::try_from(failed) {
                Ok([(_, error)]) => error.into(),
                Err(failed) => ToolError::nothing_done(&failed),
            });
        }
        let rows: Vec<MemoryRow> = memories.iter().take(SHOWN).map(|memory| MemoryRow::of(memory)).collect();
        let count = memories.len();
        let durability = (!query.dry_run).then(|| call.hub.durability().as_str());
        let verb = if query.purge { "purged" } else { "forgotten" };
        let mut text = match durability {
            Some(durability) => format!("{count} {verb} ({durability})"),
            None => format!("{} would be {verb}; nothing was changed", count + more),
        };
        let hint = (query.dry_run && count > 0).then(|| "call again with dry_run=false to do it".to_owned());
        if let Some(hint) = &hint {
            text.push_str(&format!("; {hint}"));
        }
        if more > 0 && !query.dry_run {
            text.push_str(&format!("; {more} more pass the filters: call again"));
        }
        if query.dry_run {
            text.push_str(&format!(". {NOTICE}"));
            for row in &rows {
                text.push('\n');
                text.push_str(&row.text());
            }
        }
        let failed: Vec<String> = failed.iter().map(|(id, error)| shortened(&item_text(id, error), 400)).collect();
        for line in &failed {
            text.push_str(&format!("\nfailed: {line}"));
        }
        let result = ForgetResult {
            durability,
            forgotten: count,
            failed,
            memories: if query.dry_run { rows } else { Vec::new() },
            more: (more > 0).then_some(more),
            hint,
        };
        Ok(Reply::new(result, text))
    }
    .boxed()
}
