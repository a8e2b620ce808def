//! `agent_list`

#[cfg(test)]
mod tests;

use std::sync::Arc;

use a2a_core::agent::{Agent, ExecutorKind};
use a2a_core::agent_check::{AgentContact, AgentStatus};
use a2a_core::ids::Namespace;
use a2a_core::input::{ObjectReader, quoted};
use a2a_core::limits;
use a2a_core::registry::{Filters, ListPage, ListQuery};
use a2a_engine::error::HubError;
use a2a_engine::hub::Hub;
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::row::{AgentRow, one_line, stale_ms};
use crate::server::Server;
use crate::text::fenced;
use crate::tool_error::ToolError;
use crate::tools::{
    Answer, Arguments, Call, Definition, Effect, NOTICE, RESULT_BYTES_MAX, Reply, json_bytes, read_cursor, read_limit,
    read_namespace, texts,
};

const LIMIT_DEFAULT: usize = 20;
/// Whole documents of a page may take this much of a result; the rest is for what is around them.
const DOCUMENTS_BYTES_MAX: usize = RESULT_BYTES_MAX - 6 * 1024;
/// Missing ids whose nearest ones are told.
const EXPLAINED_MAX: usize = 20;
/// Names and counts shown of each facet.
const FACETS_SHOWN: usize = 40;

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "agent_list",
            title: "List agents",
            description: "List agents by filters (all must hold), or read some by ids. detail=full gives whole \
                          documents, instructions included, and the revision that agent_update needs. To find an agent \
                          for a task use agent_search.",
            effect: Effect::Reads,
        },
        run,
    )
}

#[derive(Debug, Default, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct ListArgs {
    /// Ids, or unique starts of ids.
    #[schemars(with = "Option<Vec<String>>")]
    ids: Vec<String>,
    category: Option<String>,
    /// Any of these.
    #[schemars(with = "Option<Vec<String>>")]
    tags: Vec<String>,
    #[schemars(with = "Option<Vec<String>>")]
    tags_all: Vec<String>,
    #[schemars(with = "Option<Vec<String>>")]
    tags_none: Vec<String>,
    capability: Option<String>,
    enabled: Option<bool>,
    deprecated: Option<bool>,
    /// Kind, such as pull.
    #[schemars(with = "Option<String>")]
    executor: Option<ExecutorKind>,
    /// declared, reachable or unreachable
    #[schemars(with = "Option<String>")]
    status: Option<AgentStatus>,
    /// Words that must all occur.
    text: Option<String>,
    /// Count categories and tags of all matches.
    #[schemars(with = "Option<bool>")]
    facets: bool,
    /// row (default) or full
    #[schemars(with = "Option<String>")]
    detail: Detail,
    /// 0 to 200, default 20
    limit: Option<usize>,
    cursor: Option<String>,
    #[schemars(with = "Option<String>")]
    namespace: Option<Namespace>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Detail {
    #[default]
    Row,
    Full,
}

/// Reads the filters that list and search share.
pub(super) fn read_filters(r: &mut ObjectReader<'_, '_>) -> Filters {
    Filters {
        category: r.text_chars("category", limits::CATEGORY_CHARS_MAX).map(str::to_owned),
        tags_any: texts(r, "tags", limits::TAGS_MAX, limits::TAG_CHARS_MAX),
        tags_all: texts(r, "tags_all", limits::TAGS_MAX, limits::TAG_CHARS_MAX),
        tags_none: texts(r, "tags_none", limits::TAGS_MAX, limits::TAG_CHARS_MAX),
        capability: r.text_chars("capability", limits::NAME_CHARS_MAX).map(str::to_owned),
        ..Filters::default()
    }
}

struct ListCall {
    query: ListQuery,
    detail: Detail,
    namespace: Option<Namespace>,
}

/// The query is made while reading; the argument type above is its schema.
struct Parsed(ListCall);

impl JsonSchema for Parsed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        ListArgs::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        ListArgs::json_schema(generator)
    }
}

impl Arguments for Parsed {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let filters = read_filters(r);
        let query = ListQuery {
            ids: texts(r, "ids", limits::PAGE_ROWS_MAX, limits::ID_CHARS_MAX),
            filters: Filters {
                enabled: r.boolean("enabled"),
                deprecated: r.boolean("deprecated"),
                executor: r.choice("executor", &ExecutorKind::ALL),
                status: r.choice("status", &AgentStatus::ALL),
                ..filters
            },
            text: r.text_chars("text", limits::QUERY_CHARS_MAX).map(str::to_owned),
            facets: r.boolean("facets").unwrap_or(false),
            limit: read_limit(r).unwrap_or(LIMIT_DEFAULT),
            cursor: read_cursor(r),
            namespace: Namespace::default(),
        };
        let detail = r.choice("detail", &[("row", Detail::Row), ("full", Detail::Full)]).unwrap_or_default();
        Some(Self(ListCall { query, detail, namespace: read_namespace(r) }))
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct ListResult {
    /// Matches on all pages.
    total: usize,
    #[schemars(with = "Vec<Map<String, Value>>")]
    agents: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// Ids that are not there, with the nearest ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    facets: Option<FacetCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_ms: Option<u64>,
}

/// An agent at the detail that was asked for.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Shown {
    Row(Box<AgentRow>),
    Full(Value),
}

/// Names and counts, most frequent first.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline, description = "")]
struct FacetCounts {
    categories: Vec<(String, usize)>,
    tags: Vec<(String, usize)>,
}

fn run<'s>(call: Call<'s>, Parsed(args): Parsed) -> Answer<'s, ListResult> {
    list(call.hub, args).boxed()
}

async fn list(hub: &Hub, args: ListCall) -> Result<Reply<ListResult>, ToolError> {
    let ListCall { mut query, detail, namespace } = args;
    query.namespace = namespace.unwrap_or_else(|| hub.default_namespace().clone());
    let asked = query.ids.len();
    let mut found = Vec::with_capacity(asked);
    let mut missing = Vec::new();
    for id in &mut query.ids {
        match hub.agent_get(Some(&query.namespace), id).await {
            Ok(agent) => {
                if agent.spec.id.as_str() != id {
                    *id = agent.spec.id.to_string();
                }
                found.push(agent);
            }
            Err(error @ (HubError::NotFound { .. } | HubError::Ambiguous { .. })) => missing.push((id.clone(), error)),
            Err(error) => return Err(error.into()),
        }
    }
    if found.is_empty() && asked > 0 {
        return Err(none_found(missing));
    }
    let missing = missing_lines(&missing);
    if asked > 0 {
        query.limit = query.limit.max(asked.min(limits::PAGE_ROWS_MAX));
    }
    let mut page = if query.asks_for_ids_alone() { page_of(found) } else { hub.agent_list(&query).await? };
    let bytes_max = DOCUMENTS_BYTES_MAX.saturating_sub(missing.iter().map(String::len).sum());
    let contacts = hub.agent_contacts(&page.agents);
    let shown = match detail {
        Detail::Row => rows_that_fit(&page.agents, &contacts, bytes_max),
        Detail::Full => documents_that_fit(&page.agents, &contacts, bytes_max)?,
    };
    if shown.len() < page.agents.len() {
        query.limit = shown.len();
        page = hub.agent_list(&query).await?;
    }
    let about = (asked == 1).then(|| query.ids.first().cloned()).flatten();
    let mut reply = reply(&query, page, shown, missing);
    reply.result.stale_ms = stale_ms(hub);
    reply.about = about;
    Ok(reply)
}

/// The page of agents that were asked for by id, and have been found already.
fn page_of(mut agents: Vec<Arc<Agent>>) -> ListPage {
    agents.sort_unstable_by(|a, b| a.spec.id.cmp(&b.spec.id));
    agents.dedup_by(|a, b| a.spec.id == b.spec.id);
    ListPage { total: agents.len(), agents, ..ListPage::default() }
}

fn to_value(value: &impl Serialize) -> Result<Value, ToolError> {
    serde_json::to_value(value).map_err(|error| {
        tracing::error!(%error, "an agent could not be written as JSON");
        ToolError::internal()
    })
}

/// None of the ids that were asked for is there.
fn none_found(missing: Vec<(String, HubError)>) -> ToolError {
    match <[(String, HubError); 1]>::try_from(missing) {
        Ok([(_, error)]) => error.into(),
        Err(mut missing) => {
            // The errors themselves name the ids.
            missing.iter_mut().for_each(|(id, _)| id.clear());
            ToolError::nothing_done(&missing)
        }
    }
}

/// Ids that are not there in one line each: the nearest ones are told of the first few.
fn missing_lines(missing: &[(String, HubError)]) -> Vec<String> {
    let (explained, named) = missing.split_at(missing.len().min(EXPLAINED_MAX));
    let explained = explained.iter().map(|(_, error)| error.to_string());
    explained.chain(named.iter().map(|(id, _)| quoted(id))).collect()
}

/// As many rows as fit into a result; the first one in any case.
fn rows_that_fit(agents: &[Arc<Agent>], contacts: &[AgentContact], bytes_max: usize) -> Vec<Shown> {
    let mut rows = Vec::with_capacity(agents.len());
    let mut left = bytes_max;
    for (agent, contact) in agents.iter().zip(contacts) {
        let row = AgentRow::of(agent, contact);
        // A row alone is shown however long it is, so that it need not be measured.
        if agents.len() > 1 {
            let bytes = json_bytes(&row) + 1;
            if bytes > left && !rows.is_empty() {
                break;
            }
            left = left.saturating_sub(bytes);
        }
        rows.push(Shown::Row(Box::new(row)));
    }
    rows
}

/// As many whole documents as fit into a result; the first one in any case, cut if it must be.
fn documents_that_fit(
    agents: &[Arc<Agent>],
    contacts: &[AgentContact],
    bytes_max: usize,
) -> Result<Vec<Shown>, ToolError> {
    let mut documents = Vec::new();
    let mut left = bytes_max;
    for (agent, contact) in agents.iter().zip(contacts) {
        let mut document = to_value(agent)?;
        add_contact(&mut document, contact);
        let mut bytes = json_bytes(&document);
        if bytes > left {
            if !documents.is_empty() {
                break;
            }
            cut(&mut document, bytes - left);
            bytes = json_bytes(&document);
        }
        left = left.saturating_sub(bytes);
        documents.push(Shown::Full(document));
    }
    Ok(documents)
}

/// Adds what is known of whether an agent can be reached.
fn add_contact(document: &mut Value, contact: &AgentContact) {
    let Some(fields) = document.as_object_mut() else { return };
    fields.insert("status".to_owned(), contact.status.as_str().into());
    if let Some(at) = contact.last_checked() {
        fields.insert("last_checked".to_owned(), at.to_string().into());
    }
    if let Some(detail) = contact.detail() {
        fields.insert("status_detail".to_owned(), detail.into());
    }
}

/// Takes away what is large and seldom needed until the document is smaller by `excess` bytes.
fn cut(document: &mut Value, excess: usize) {
    let Some(object) = document.as_object_mut() else { return };
    let mut left_out = Vec::new();
    let mut freed = 0;
    if let Some(Value::String(text)) = object.get_mut("instructions") {
        // A character may take six bytes as JSON, so that half of the text is the least that is left of a long one.
        let keep = text.len().saturating_sub(excess + 512).max(2_000);
        if keep < text.len() {
            let end = (0..=keep).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            freed += text.len() - end;
            text.truncate(end);
            left_out.push(Value::from("instructions (cut)"));
        }
    }
    for field in ["config", "capabilities", "description"] {
        if freed >= excess + 512 {
            break;
        }
        if let Some(value) = object.remove(field) {
            freed += json_bytes(&value);
            left_out.push(Value::from(field));
        }
    }
    object.insert("left_out".to_owned(), Value::Array(left_out));
}

fn reply(query: &ListQuery, page: ListPage, shown: Vec<Shown>, missing: Vec<String>) -> Reply<ListResult> {
    let mut text = format!("{} of {} agents", shown.len(), page.total);
    for (agent, shown) in page.agents.iter().zip(&shown) {
        match shown {
            Shown::Row(row) => {
                text.push('\n');
                text.push_str(&row.line());
            }
            Shown::Full(document) => {
                // Fenced with the author, since what is inside was written by somebody else.
                let of = [("id", agent.spec.id.as_str()), ("author", agent.updated_by.as_str())];
                text.push('\n');
                text.push_str(&fenced("stored-agent", &of, document));
            }
        }
    }
    let is_full = matches!(shown.first(), Some(Shown::Full(_)));
    for line in &missing {
        text.push_str(&format!("\nmissing: {line}"));
    }
    let hint =
        (page.next_cursor.is_some() && query.cursor.is_none() && page.total > 2 * shown.len().max(1)).then(|| {
            "narrow with category, tags, capability or text, or use agent_search; cursor gives the next page".to_owned()
        });
    if let Some(cursor) = &page.next_cursor {
        text.push_str(&format!("\nnext_cursor: {cursor}"));
    }
    let facets = page.facets.map(|facets| FacetCounts {
        categories: facets.categories.into_iter().take(FACETS_SHOWN).collect(),
        tags: facets.tags.into_iter().take(FACETS_SHOWN).collect(),
    });
    if let Some(facets) = &facets {
        let counts = |list: &[(String, usize)]| {
            list.iter().map(|(name, n)| format!("{} {n}", one_line(name))).collect::<Vec<_>>().join(", ")
        };
        text.push_str(&format!("\ncategories: {}\ntags: {}", counts(&facets.categories), counts(&facets.tags)));
    }
    let result = ListResult {
        total: page.total,
        agents: shown,
        next_cursor: page.next_cursor,
        missing,
        facets,
        notice: is_full.then_some(NOTICE),
        hint,
        stale_ms: None,
    };
    Reply::new(result, text)
}
