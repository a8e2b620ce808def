//! `agent_remove`

use a2a_core::ids::Namespace;
use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_engine::hub::RemoveOptions;
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;

use super::row::shortened;
use crate::server::Server;
use crate::tool_error::{ToolError, item_text};
use crate::tools::{Answer, Arguments, Call, Definition, Effect, Reply, read_namespace, read_revision, texts};

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "agent_remove",
            title: "Remove agents",
            description: "Take agents out of the registry, for every client. Their history stays and deploying an id \
                          again continues it; purge=true erases history too and can't be undone. To pause an agent, \
                          disable it with agent_update.",
            effect: Effect::Destroys,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(missing_docs, reason = "the schema is what a model reads; every word costs")]
struct RemoveArgs {
    /// Whole ids.
    ids: Vec<String>,
    #[schemars(with = "Option<bool>")]
    purge: bool,
    /// Only if at this revision. One id only.
    expected_revision: Option<i64>,
    #[schemars(with = "Option<String>")]
    namespace: Option<Namespace>,
}

impl Arguments for RemoveArgs {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let ids = texts(r, "ids", limits::BATCH_ITEMS_MAX, limits::ID_CHARS_MAX);
        if !r.has("ids") {
            r.problem("ids", "is required: a list of agent ids");
        } else if r.value("ids").and_then(|v| v.as_array()).is_some_and(Vec::is_empty) {
            r.problem("ids", "is empty; name at least one agent");
        }
        Some(Self {
            ids,
            purge: r.boolean("purge").unwrap_or(false),
            expected_revision: read_revision(r, "expected_revision"),
            namespace: read_namespace(r),
        })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct RemoveResult {
    durability: &'static str,
    removed: usize,
    failed: usize,
    agents: Vec<RemoveItem>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct RemoveItem {
    id: String,
    /// removed, purged or failed
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Items shown; of larger calls the failed ones first.
const ITEMS_SHOWN: usize = 50;

fn run<'s>(call: Call<'s>, args: RemoveArgs) -> Answer<'s, RemoveResult> {
    async move {
        let options =
            RemoveOptions { namespace: args.namespace, purge: args.purge, expected_revision: args.expected_revision };
        let results = call.hub.agent_remove(&args.ids, &options, &call.actor).await?;
        let failed = results.iter().filter(|result| result.is_err()).count();
        if failed == results.len() {
            let mut errors: Vec<_> =
                args.ids.iter().zip(results).filter_map(|(id, result)| Some((id.clone(), result.err()?))).collect();
            return Err(match (errors.len(), errors.pop()) {
                (1, Some((_, error))) => error.into(),
                (_, last) => {
                    errors.extend(last);
                    ToolError::nothing_done(&errors)
                }
            });
        }
        let removed = results.len() - failed;
        let mut agents: Vec<RemoveItem> = args
            .ids
            .iter()
            .zip(&results)
            .map(|(id, result)| match result {
                Ok(done) => RemoveItem {
                    id: done.key.id.to_string(),
                    status: if done.purged { "purged" } else { "removed" },
                    revision: Some(done.revision),
                    error: None,
                },
                Err(error) => RemoveItem {
                    id: shortened(id, limits::ID_CHARS_MAX),
                    status: "failed",
                    revision: None,
                    error: Some(shortened(&item_text("", error), 400)),
                },
            })
            .collect();
        agents.sort_by_key(|item| item.error.is_none());
        agents.truncate(ITEMS_SHOWN);
        let durability = call.hub.durability().as_str();
        let verb = if args.purge { "purged" } else { "removed" };
        let mut text = format!("{removed} {verb}, {failed} failed ({durability})");
        for item in agents.iter().filter(|item| item.error.is_some()) {
            text.push_str(&format!("\n{}: {}", item.id, item.error.as_deref().unwrap_or_default()));
        }
        let about = (args.ids.len() == 1).then(|| args.ids.first().cloned()).flatten();
        Ok(Reply { about, ..Reply::new(RemoveResult { durability, removed, failed, agents }, text) })
    }
    .boxed()
}
