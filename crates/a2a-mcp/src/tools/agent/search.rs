//! `agent_search`

use a2a_core::ids::Namespace;
use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_core::registry::{Hit, SearchQuery};
use a2a_engine::hub::Hub;
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;

use super::list::read_filters;
use super::row::{AgentRow, one_line, stale_ms};
use crate::server::Server;
use crate::tools::{Answer, Arguments, Call, Definition, Effect, Reply, read_cursor, read_limit, read_namespace};

const LIMIT_DEFAULT: usize = 8;

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "agent_search",
            title: "Search agents",
            description: "Find agents for a task: say in plain words what is needed, or give an id or name. Best first, \
                          with the reason for each. Example: {\"query\":\"why is this query slow\"}",
            effect: Effect::Reads,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct SearchArgs {
    query: String,
    category: Option<String>,
    /// Any of these.
    tags: Option<Vec<String>>,
    tags_all: Option<Vec<String>>,
    tags_none: Option<Vec<String>>,
    capability: Option<String>,
    include_disabled: Option<bool>,
    /// Default 8
    limit: Option<usize>,
    cursor: Option<String>,
    namespace: Option<String>,
}

struct Parsed {
    query: SearchQuery,
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
        let text = r.text_chars("query", limits::QUERY_CHARS_MAX);
        if !r.has("query") {
            r.problem("query", "is required: what is needed, in plain words");
        }
        // Every argument is read before the first one that may be missing ends the reading: one that was not read
        // would be called unknown.
        let namespace = read_namespace(r);
        let query = SearchQuery {
            filters: read_filters(r),
            include_disabled: r.boolean("include_disabled").unwrap_or(false),
            limit: read_limit(r).unwrap_or(LIMIT_DEFAULT),
            cursor: read_cursor(r),
            query: text?.to_owned(),
            ..SearchQuery::default()
        };
        Some(Self { query, namespace })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct SearchResult {
    /// Agents that match.
    total: usize,
    agents: Vec<FoundAgent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_ms: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct FoundAgent {
    #[serde(flatten)]
    row: AgentRow,
    /// 0 to 1
    score: f64,
    why: String,
}

impl FoundAgent {
    fn of(hit: &Hit, hub: &Hub) -> Self {
        // Two digits tell enough and cost few tokens.
        let score = (f64::from(hit.score) * 100.0).round() / 100.0;
        Self { row: AgentRow::of(&hit.agent, &hub.agent_contact(&hit.agent)), score, why: hit.reason.clone() }
    }
}

fn run<'s>(call: Call<'s>, args: Parsed) -> Answer<'s, SearchResult> {
    async move {
        let Parsed { mut query, namespace } = args;
        query.namespace = namespace.unwrap_or_else(|| call.hub.default_namespace().clone());
        let page = call.hub.agent_search(&query).await?;
        let agents: Vec<FoundAgent> = page.hits.iter().map(|hit| FoundAgent::of(hit, call.hub)).collect();
        let mut text = match agents.first() {
            Some(best) => format!("{} of {} agents, best first: {}", agents.len(), page.total, best.row.id),
            None => "no agent fits".to_owned(),
        };
        for agent in &agents {
            text.push_str(&format!("\n{} ({})", agent.row.line(), one_line(&agent.why)));
        }
        let hint = agents
            .is_empty()
            .then_some("try other words, or agent_list with facets to see which categories and tags there are");
        if let Some(cursor) = &page.next_cursor {
            text.push_str(&format!("\nnext_cursor: {cursor}"));
        }
        if let Some(hint) = hint {
            text.push_str(&format!("\n{hint}"));
        }
        let result = SearchResult {
            total: page.total,
            agents,
            next_cursor: page.next_cursor,
            hint,
            stale_ms: stale_ms(call.hub),
        };
        Ok(Reply::new(result, text))
    }
    .boxed()
}
