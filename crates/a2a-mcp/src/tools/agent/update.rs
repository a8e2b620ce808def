//! `agent_update`

use a2a_core::ids::{Namespace, OpId};
use a2a_core::input::ObjectReader;
use a2a_engine::hub::UpdateOptions;
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::deploy::status_name;
use crate::server::Server;
use crate::tools::{Answer, Arguments, Call, Definition, Effect, Reply, read_namespace, read_op_id, read_revision};

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "agent_update",
            title: "Update an agent",
            description: "Change fields of one agent: enable, disable, deprecate, or roll back to an earlier revision. \
                          Read it first (agent_list, detail=full) and pass its revision, so that nobody's change is \
                          lost. Example: {\"id\":\"a\",\"expected_revision\":3,\"set\":{\"enabled\":false}}",
            effect: Effect::Writes,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(missing_docs, reason = "the schema is what a model reads; every word costs")]
struct UpdateArgs {
    id: String,
    /// The revision you read.
    #[schemars(with = "i64")]
    expected_revision: Option<i64>,
    /// Fields of agent_deploy to replace. {"deprecated":null} takes a deprecation back.
    #[schemars(with = "Option<Map<String, Value>>")]
    set: Option<Value>,
    /// Start from the document of this revision.
    rollback_to: Option<i64>,
    #[schemars(with = "Option<String>")]
    namespace: Option<Namespace>,
    /// To repeat a call whose outcome was unknown.
    #[schemars(with = "Option<String>")]
    op_id: Option<OpId>,
}

impl Arguments for UpdateArgs {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let id = r.text("id").map(str::to_owned);
        if !r.has("id") {
            r.problem("id", "is required");
        }
        let set = r.value("set").cloned();
        let rollback_to = r.integer("rollback_to", 1..=i64::MAX);
        if set.is_none() && !r.has("rollback_to") {
            r.problem("set", "is required, unless rollback_to is given: the fields to change");
        }
        let expected_revision = read_revision(r, "expected_revision");
        Some(Self { set, rollback_to, namespace: read_namespace(r), op_id: read_op_id(r), id: id?, expected_revision })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct UpdateResult {
    durability: &'static str,
    id: String,
    /// updated or unchanged
    status: &'static str,
    revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_revision: Option<i64>,
}

fn run<'s>(call: Call<'s>, args: UpdateArgs) -> Answer<'s, UpdateResult> {
    async move {
        let options = UpdateOptions {
            namespace: args.namespace,
            expected_revision: args.expected_revision,
            rollback_to: args.rollback_to,
            op_id: args.op_id,
        };
        let patch = args.set.unwrap_or_else(|| Value::Object(Map::new()));
        let done = call.hub.agent_update(&args.id, &patch, "set", &options, &call.actor).await?;
        let durability = call.hub.durability().as_str();
        let result = UpdateResult {
            durability,
            id: done.key.id.to_string(),
            status: status_name(done.status),
            revision: done.revision,
            replaced_revision: done.replaced_revision,
        };
        let text = format!("{} {}: revision {} ({durability})", result.id, result.status, result.revision);
        Ok(Reply { about: Some(result.id.clone()), ..Reply::new(result, text) })
    }
    .boxed()
}
