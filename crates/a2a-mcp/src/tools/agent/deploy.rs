//! `agent_deploy`

use a2a_core::agent_document::AgentDocument;
use a2a_core::ids::{Namespace, OpId};
use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_engine::hub::{DeployOptions, DeployedAgent, Durability, WriteStatus};
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::row::shortened;
use crate::server::Server;
use crate::tool_error::{ToolError, item_text};
use crate::tools::{Answer, Arguments, Call, Definition, Effect, Reply, read_namespace, read_op_id, read_revision};

/// Items shown one by one; of larger batches the failed ones and then the first others.
const ITEMS_SHOWN: usize = 50;

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "agent_deploy",
            title: "Deploy agents",
            description: "Create or replace agents in the shared registry; every client sees them at once. A document \
                          replaces the whole agent. An unchanged one makes no new revision. \
                          Example: {\"agents\":[{\"id\":\"sql-tuner\",\"description\":\"Use for slow SQL.\"}]}",
            effect: Effect::Writes,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct DeployArgs {
    /// 1 to 1000
    #[schemars(with = "Vec<AgentDocument>")]
    agents: Vec<Value>,
    /// All or none. Default: each on its own.
    #[schemars(with = "bool", default)]
    atomic: bool,
    /// Only if the agent is at this revision, 0 if new. One agent only.
    expected_revision: Option<i64>,
    /// Default: default
    #[schemars(with = "Option<String>")]
    namespace: Option<Namespace>,
    /// To repeat a call whose outcome was unknown.
    #[schemars(with = "Option<String>")]
    op_id: Option<OpId>,
}

impl Arguments for DeployArgs {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let agents = r.list("agents", limits::BATCH_ITEMS_MAX);
        if !r.has("agents") {
            r.problem("agents", "is required: a list of agent documents, each with an id and a description");
        }
        Some(Self {
            atomic: r.boolean("atomic").unwrap_or(false),
            expected_revision: read_revision(r, "expected_revision"),
            namespace: read_namespace(r),
            op_id: read_op_id(r),
            agents: agents?.to_vec(),
        })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct DeployResult {
    durability: &'static str,
    created: usize,
    updated: usize,
    unchanged: usize,
    failed: usize,
    agents: Vec<DeployItem>,
    /// Items left out of this reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct DeployItem {
    id: String,
    /// created, updated, unchanged or failed
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) fn status_name(status: WriteStatus) -> &'static str {
    match status {
        WriteStatus::Created => "created",
        WriteStatus::Updated => "updated",
        WriteStatus::Unchanged => "unchanged",
    }
}

impl DeployItem {
    fn done(agent: &DeployedAgent) -> Self {
        Self {
            id: agent.key.id.to_string(),
            status: status_name(agent.status),
            revision: Some(agent.revision),
            replaced_revision: agent.replaced_revision,
            error: None,
        }
    }
}

fn run<'s>(call: Call<'s>, args: DeployArgs) -> Answer<'s, DeployResult> {
    async move {
        let options = DeployOptions {
            atomic: args.atomic,
            namespace: args.namespace,
            expected_revision: args.expected_revision,
            op_id: args.op_id,
        };
        let results = call.hub.agent_deploy(&args.agents, "agents", &options, &call.actor).await?;
        let only = (args.agents.len() == 1).then(|| id_of(args.agents.first()));
        if results.iter().all(Result::is_err) {
            let mut errors: Vec<_> = args
                .agents
                .iter()
                .zip(results)
                .filter_map(|(document, result)| Some((id_of(Some(document)), result.err()?)))
                .collect();
            return Err(match (errors.len(), errors.pop()) {
                // One error has more to say alone: its code and its details.
                (1, Some((_, error))) => error.into(),
                (_, last) => {
                    errors.extend(last);
                    ToolError::nothing_done(&errors)
                }
            });
        }
        let mut reply = reply(&args.agents, &results, call.hub.durability());
        reply.about = only;
        Ok(reply)
    }
    .boxed()
}

fn id_of(document: Option<&Value>) -> String {
    let id = document.and_then(|d| d.get("id")).and_then(Value::as_str).unwrap_or("?");
    shortened(id, limits::ID_CHARS_MAX)
}

fn reply(
    documents: &[Value],
    results: &[Result<DeployedAgent, a2a_engine::error::HubError>],
    durability: Durability,
) -> Reply<DeployResult> {
    let count = |status| results.iter().flatten().filter(|agent| agent.status == status).count();
    let failed = results.iter().filter(|result| result.is_err()).count();
    let (created, updated, unchanged) =
        (count(WriteStatus::Created), count(WriteStatus::Updated), count(WriteStatus::Unchanged));
    let mut items: Vec<DeployItem> = documents
        .iter()
        .zip(results)
        .map(|(document, result)| match result {
            Ok(agent) => DeployItem::done(agent),
            Err(error) => DeployItem {
                id: id_of(Some(document)),
                status: "failed",
                revision: None,
                replaced_revision: None,
                error: Some(shortened(&item_text("", error), 400)),
            },
        })
        .collect();
    let more = items.len().saturating_sub(ITEMS_SHOWN);
    if more > 0 {
        // Stable, so that items keep their order otherwise.
        items.sort_by_key(|item| item.error.is_none());
        items.truncate(ITEMS_SHOWN);
    }
    let counts: Vec<String> =
        [(created, "created"), (updated, "updated"), (unchanged, "unchanged"), (failed, "failed")]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, name)| format!("{n} {name}"))
            .collect();
    let durability_text = match durability {
        Durability::Committed => "committed",
        Durability::Accepted => "in memory only",
    };
    let mut text = format!("{} ({durability_text})", counts.join(", "));
    for item in &items {
        let detail = match (&item.error, item.revision) {
            (Some(error), _) => error.clone(),
            (None, Some(revision)) => format!("revision {revision}"),
            (None, None) => String::new(),
        };
        text.push_str(&format!("\n{} {}: {detail}", item.id, item.status));
    }
    let result = DeployResult {
        durability: durability.as_str(),
        created,
        updated,
        unchanged,
        failed,
        agents: items,
        more: (more > 0).then_some(more),
    };
    Reply::new(result, text)
}
