//! `memory_search`

use std::time::SystemTime;

use a2a_core::ids::Namespace;
use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_core::memory::Memory;
use a2a_core::memory::recall::{MemoryFilters, MemoryListQuery, Ranking, RecallQuery, TurnQuery};
use a2a_core::time::Timestamp;
use a2a_engine::error::HubError;
use a2a_engine::hub::{MemoryMatches, Suggestions};
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::filters::{FilterArgs, read_filters};
use super::row::{MemoryRow, document, document_text};
use crate::server::Server;
use crate::text::one_line;
use crate::tool_error::ToolError;
use crate::tools::{
    Answer, Arguments, Call, Definition, Effect, NOTICE, RESULT_BYTES_MAX, Reply, json_bytes, read_cursor, read_limit,
    read_namespace, texts,
};

const LIMIT_DEFAULT: usize = 8;
/// What memories may take of a result; the rest is for what is around them.
const MEMORIES_BYTES_MAX: usize = RESULT_BYTES_MAX - 4 * 1024;
/// Agents shown in suggestions.
const AGENTS_SHOWN: usize = 10;

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "memory_search",
            title: "Recall",
            description: "Recall what was learned, by anyone: ask in plain words (query). Or read some by ids, the \
                          turns of a session (turns), what is known of a capability (suggest: who does it well, what \
                          worked, what failed), or list by filters. Filters must all hold. \
                          Example: {\"query\":\"when do we deploy\"}",
            effect: Effect::Reads,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct SearchArgs {
    query: Option<String>,
    ids: Option<Vec<String>>,
    /// A session.
    turns: Option<String>,
    /// A capability.
    suggest: Option<String>,
    #[schemars(flatten)]
    filters: FilterArgs,
    /// Default 8
    limit: Option<usize>,
    cursor: Option<String>,
    namespace: Option<String>,
}

enum What {
    Query(String),
    Ids(Vec<String>),
    Turns(String),
    Suggest(String),
    List,
}

struct Parsed {
    what: What,
    filters: MemoryFilters,
    limit: usize,
    cursor: Option<String>,
    namespace: Option<Namespace>,
}

impl JsonSchema for Parsed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        SearchArgs::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        SearchArgs::json_schema(generator)
    }
}

impl Arguments for Parsed {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let query = r.text_chars("query", limits::QUERY_CHARS_MAX).map(str::to_owned);
        let ids = texts(r, "ids", limits::PAGE_ROWS_MAX, limits::ID_CHARS_MAX);
        let turns = r.text_chars("turns", limits::MEMORY_KEY_CHARS_MAX).map(str::to_owned);
        let suggest = r.text_chars("suggest", limits::NAME_CHARS_MAX).map(str::to_owned);
        let given: Vec<&'static str> =
            ["query", "ids", "turns", "suggest"].into_iter().filter(|name| r.has(name)).collect();
        if let [first, second, ..] = given.as_slice() {
            r.problem(second, format!("is given beside {first}; ask for one thing at a time"));
        }
        let what = match (query, turns, suggest) {
            (Some(query), _, _) => What::Query(query),
            (_, Some(session), _) => What::Turns(session),
            (_, _, Some(capability)) => What::Suggest(capability),
            _ if !ids.is_empty() => What::Ids(ids),
            _ => What::List,
        };
        Some(Self {
            what,
            filters: read_filters(r),
            limit: read_limit(r).unwrap_or(LIMIT_DEFAULT),
            cursor: read_cursor(r),
            namespace: read_namespace(r),
        })
    }
}

#[derive(Debug, Default, Serialize, JsonSchema)]
struct SearchResult {
    /// Matches on all pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Option<Vec<Map<String, Value>>>")]
    memories: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    suggestions: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// Ids that are not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Option<Vec<String>>")]
    missing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_ms: Option<u64>,
}

/// A memory at the detail that was asked for.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Shown {
    Row(Box<MemoryRow>),
    Whole(Map<String, Value>),
}

fn run<'s>(call: Call<'s>, args: Parsed) -> Answer<'s, SearchResult> {
    async move {
        let namespace = args.namespace.unwrap_or_else(|| call.hub.default_namespace().clone());
        let now = Timestamp::from_system_time(SystemTime::now());
        let Parsed { what, filters, limit, cursor, .. } = args;
        let mut reply = match what {
            What::Query(query) => {
                let ranking = Ranking::default();
                let mut query = RecallQuery { namespace, query, filters, limit, cursor, now, ranking, meaning: None };
                let mut page = call.hub.memory_recall(&query).await?;
                let mut rows: Vec<MemoryRow> = page.hits.iter().map(MemoryRow::hit).collect();
                let fitting = how_many_fit(&rows);
                if fitting < rows.len() {
                    // The cursor belongs to a page of another length.
                    query.limit = fitting;
                    page = call.hub.memory_recall(&query).await?;
                    rows.truncate(fitting);
                }
                let none = "nothing fits; try other words, or list with filters";
                rows_reply(rows, page.total, page.next_cursor, "best first", none)
            }
            What::List => {
                let mut query = MemoryListQuery { namespace, filters, limit, cursor, now };
                let mut page = call.hub.memory_list(&query).await?;
                let mut rows: Vec<MemoryRow> = page.memories.iter().map(|memory| MemoryRow::of(memory)).collect();
                let fitting = how_many_fit(&rows);
                if fitting < rows.len() {
                    query.limit = fitting;
                    page = call.hub.memory_list(&query).await?;
                    rows.truncate(fitting);
                }
                rows_reply(rows, page.total, page.next_cursor, "newest first", "nothing passes these filters")
            }
            What::Turns(session) => {
                let mut query = TurnQuery { namespace, session, limit, cursor, now };
                let mut page = call.hub.memory_turns(&query).await?;
                let mut rows: Vec<MemoryRow> = page.turns.iter().map(|memory| MemoryRow::of(memory)).collect();
                let fitting = how_many_fit(&rows);
                if fitting < rows.len() {
                    query.limit = fitting;
                    page = call.hub.memory_turns(&query).await?;
                    rows = page.turns.iter().map(|memory| MemoryRow::of(memory)).collect();
                }
                let none = "this session has no turns; store them with type conversation and this session";
                rows_reply(rows, page.total, page.next_cursor, "latest turns, in their order", none)
            }
            What::Ids(ids) => by_ids(&call, &namespace, &ids).await?,
            What::Suggest(capability) => {
                suggestions_reply(&capability, &call.hub.memory_suggestions(Some(&namespace), &capability).await?)
            }
        };
        reply.result.stale_ms = call.hub.stale().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        Ok(reply)
    }
    .boxed()
}

/// How many rows fit into a result; the first one in any case.
fn how_many_fit(rows: &[MemoryRow]) -> usize {
    let mut left = MEMORIES_BYTES_MAX;
    let mut count = 0;
    for row in rows {
        let bytes = json_bytes(row) + 1;
        if bytes > left && count > 0 {
            break;
        }
        left = left.saturating_sub(bytes);
        count += 1;
    }
    count
}

fn rows_reply(
    rows: Vec<MemoryRow>,
    total: usize,
    next_cursor: Option<String>,
    order: &str,
    none: &'static str,
) -> Reply<SearchResult> {
    let mut text = match rows.len() {
        0 => none.to_owned(),
        shown => format!("{shown} of {total} memories, {order}. {NOTICE}"),
    };
    for row in &rows {
        text.push('\n');
        text.push_str(&row.text());
    }
    if let Some(cursor) = &next_cursor {
        text.push_str(&format!("\nnext_cursor: {cursor}"));
    }
    let is_empty = rows.is_empty();
    let result = SearchResult {
        total: Some(total),
        memories: rows.into_iter().map(|row| Shown::Row(Box::new(row))).collect(),
        next_cursor,
        notice: (!is_empty).then_some(NOTICE),
        hint: is_empty.then_some(none),
        ..SearchResult::default()
    };
    Reply::new(result, text)
}

async fn by_ids(call: &Call<'_>, namespace: &Namespace, ids: &[String]) -> Result<Reply<SearchResult>, ToolError> {
    let mut found = Vec::with_capacity(ids.len());
    let mut missing = Vec::new();
    for id in ids {
        match call.hub.memory_get(Some(namespace), id).await {
            Ok(memory) => found.push(memory),
            Err(error @ (HubError::NotFound { .. } | HubError::Ambiguous { .. })) => missing.push((id.clone(), error)),
            Err(error) => return Err(error.into()),
        }
    }
    if found.is_empty() {
        return Err(match <[(String, HubError); 1]>::try_from(missing) {
            Ok([(_, error)]) => error.into(),
            Err(missing) => ToolError::nothing_done(&missing),
        });
    }
    let mut left = MEMORIES_BYTES_MAX;
    let mut memories = Vec::with_capacity(found.len());
    let mut text = String::new();
    let mut left_out = 0;
    for memory in &found {
        let document = whole_or_cut(memory, left)?;
        let bytes = json_bytes(&document) + 1;
        if bytes > left && !memories.is_empty() {
            left_out += 1;
            continue;
        }
        left = left.saturating_sub(bytes);
        text.push('\n');
        text.push_str(&document_text(memory, &document));
        memories.push(Shown::Whole(document));
    }
    let hint = (left_out > 0).then_some("the rest does not fit into one reply; read the other ids in another call");
    let mut head = format!("{} of {} memories. {NOTICE}", memories.len(), ids.len());
    for (_, error) in &missing {
        head.push_str(&format!("\nmissing: {error}"));
    }
    if let Some(hint) = hint {
        head.push_str(&format!("\n{hint}"));
    }
    let result = SearchResult {
        total: Some(found.len()),
        memories,
        missing: missing.iter().map(|(_, error)| error.to_string()).collect(),
        notice: Some(NOTICE),
        hint,
        ..SearchResult::default()
    };
    Ok(Reply::new(result, head + &text))
}

/// The whole memory; without its data when it would not fit alone.
fn whole_or_cut(memory: &Memory, left: usize) -> Result<Map<String, Value>, ToolError> {
    let mut document = document(memory)?;
    if json_bytes(&document) > left.max(MEMORIES_BYTES_MAX)
        && let Some(data) = document.remove("data")
    {
        document.insert("left_out".to_owned(), json!({"data_bytes": json_bytes(&data)}));
    }
    if json_bytes(&document) > MEMORIES_BYTES_MAX
        && let Some(Value::String(content)) = document.get_mut("content")
    {
        let (start, _) = crate::text::part_of(content, 0, MEMORIES_BYTES_MAX / 2);
        let start = start.to_owned();
        let bytes = content.len();
        *content = start;
        document.insert("cut".to_owned(), json!({"content_bytes": bytes}));
    }
    Ok(document)
}

fn suggestions_reply(capability: &str, known: &Suggestions) -> Reply<SearchResult> {
    let rows = |matches: &MemoryMatches| -> Vec<MemoryRow> {
        matches.memories.iter().map(|memory| MemoryRow::of(memory)).collect()
    };
    let (worked, failed) = (rows(&known.worked), rows(&known.failed));
    let nothing = known.agents.is_empty() && worked.is_empty() && failed.is_empty() && known.tools.is_empty();
    if nothing {
        let hint = "nothing is known of this capability yet; runs and memory_update with feedback teach it";
        return Reply::new(SearchResult { hint: Some(hint), ..SearchResult::default() }, hint.to_owned());
    }
    let agents: Vec<Value> = known
        .agents
        .iter()
        .take(AGENTS_SHOWN)
        .map(|(agent, record, reliability)| {
            let reliability = (f64::from(*reliability) * 100.0).round() / 100.0;
            json!({"agent": agent.as_str(), "worked": record.worked, "failed": record.failed, "reliability": reliability})
        })
        .collect();
    let mut text = format!("{} agents have worked on {}. {NOTICE}", known.agents.len(), one_line(capability));
    for agent in &agents {
        text.push_str(&format!("\n{agent}"));
    }
    if !known.tools.is_empty() {
        let tools: Vec<String> = known.tools.iter().map(|(tool, n)| format!("{} {n}", one_line(tool))).collect();
        text.push_str(&format!("\ntools: {}", tools.join(", ")));
    }
    for (what, matches, rows) in [("worked", &known.worked, &worked), ("failed", &known.failed, &failed)] {
        if !rows.is_empty() {
            text.push_str(&format!("\n{what}: {} memories, the newest:", matches.total));
            rows.iter().for_each(|row| {
                text.push('\n');
                text.push_str(&row.text());
            });
        }
    }
    let suggestions = json!({
        "agents": agents,
        "tools": known.tools,
        "worked": {"total": known.worked.total, "memories": worked},
        "failed": {"total": known.failed.total, "memories": failed},
    });
    let result = SearchResult { suggestions: Some(suggestions), notice: Some(NOTICE), ..SearchResult::default() };
    Reply::new(result, text)
}
