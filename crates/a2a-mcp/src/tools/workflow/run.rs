//! `workflow_run`

use a2a_core::ids::Namespace;
use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_engine::hub::RunRequest;
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::{RunResult, read_idempotency_key, read_object_field, read_priority, run_reply};
use crate::server::Server;
use crate::tools::{Answer, Arguments, Call, Definition, Effect, read_namespace};

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "workflow_run",
            title: "Run a workflow",
            description: "Start a saved workflow, or steps given here; returns at once. The run goes on without you; \
                          follow it with workflow_status.",
            effect: Effect::Starts,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct RunArgs {
    workflow: Option<String>,
    /// As in workflow_save.
    steps: Option<Vec<Map<String, Value>>>,
    input: Option<Value>,
    context: Option<Map<String, Value>>,
    /// {"step":{"agent":"x"}}
    overrides: Option<Map<String, Value>>,
    /// 0 to 9
    priority: Option<i16>,
    /// Same key, same run.
    idempotency_key: Option<String>,
    namespace: Option<String>,
}

struct Parsed {
    workflow: Option<String>,
    steps: Option<Value>,
    input: Option<Value>,
    context: Option<Map<String, Value>>,
    overrides: Option<Map<String, Value>>,
    priority: Option<i16>,
    idempotency_key: Option<String>,
    namespace: Option<Namespace>,
}

impl JsonSchema for Parsed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        RunArgs::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        RunArgs::json_schema(generator)
    }
}

impl Arguments for Parsed {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        if r.has("workflow") == r.has("steps") {
            r.problem("workflow", "is required, or steps instead of it, and not both");
        }
        Some(Self {
            workflow: r.text_chars("workflow", limits::ID_CHARS_MAX).map(str::to_owned),
            steps: r.value("steps").cloned(),
            input: r.value("input").cloned(),
            context: read_object_field(r, "context"),
            overrides: read_object_field(r, "overrides"),
            priority: read_priority(r),
            idempotency_key: read_idempotency_key(r),
            namespace: read_namespace(r),
        })
    }
}

fn run<'s>(call: Call<'s>, args: Parsed) -> Answer<'s, RunResult> {
    async move {
        let request = RunRequest {
            namespace: args.namespace,
            workflow: args.workflow,
            inline: args.steps.map(|steps| json!({ "steps": steps })),
            context: args.context,
            input: args.input,
            overrides: args.overrides,
            priority: args.priority,
            idempotency_key: args.idempotency_key,
        };
        let started = call.hub.run_start(request, &call.actor).await?;
        let state = call.hub.run_get(started.id.as_str(), false).await?;
        Ok(run_reply(call.hub, &state, started.existing).or_task(state))
    }
    .boxed()
}
