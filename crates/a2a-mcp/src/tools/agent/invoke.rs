//! `agent_invoke`

use std::time::Duration;

use a2a_core::agent::ExecutorKind;
use a2a_core::ids::Namespace;
use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_core::workflow::run::RunState;
use a2a_engine::hub::{Hub, InvokeRequest};
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::run_view::{self, Face};
use crate::server::Server;
use crate::text::{fenced, fitted, quoted_line};
use crate::tool_error::ToolError;
use crate::tools::wait::{WAIT_SECONDS_MAX, read_wait};
use crate::tools::{Answer, Arguments, Call, Definition, Effect, NOTICE, Reply, read_namespace};

/// What the output may take of a result.
const OUTPUT_BYTES_MAX: usize = 24 * 1024;

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "agent_invoke",
            title: "Invoke an agent",
            description: "Let one agent do one thing: gives its output, or a run for workflow_status. Pull agents work \
                          when a session, maybe you, calls work_next.",
            effect: Effect::Starts,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct InvokeArgs {
    agent: String,
    capability: Option<String>,
    input: Option<Value>,
    /// Same key, same run.
    idempotency_key: Option<String>,
    /// Run whose result it gets as context.handoff.
    handoff_from: Option<String>,
    /// Up to 25, the default; 0 for pull agents
    wait_s: Option<u8>,
    timeout_s: Option<u32>,
    namespace: Option<String>,
}

struct Parsed {
    request: InvokeRequest,
    wait: Option<Duration>,
}

impl JsonSchema for Parsed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        InvokeArgs::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        InvokeArgs::json_schema(generator)
    }
}

impl Arguments for Parsed {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let agent = r.text_chars("agent", limits::ID_CHARS_MAX).map(str::to_owned);
        if !r.has("agent") {
            r.problem("agent", "is required: the id of an agent; agent_search finds one");
        }
        let name = |r: &mut ObjectReader<'_, '_>, field| r.text_chars(field, limits::NAME_CHARS_MAX).map(str::to_owned);
        let capability = name(r, "capability");
        let idempotency_key = name(r, "idempotency_key");
        let handoff_from = name(r, "handoff_from");
        let input = r.value("input").cloned().unwrap_or(Value::Null);
        let timeout_s = r.integer("timeout_s", 1..=i64::from(u32::MAX)).and_then(|n| u32::try_from(n).ok());
        let wait = r.has("wait_s");
        let seconds = read_wait(r);
        let namespace: Option<Namespace> = read_namespace(r);
        let request = InvokeRequest {
            namespace,
            agent: agent?,
            capability,
            input,
            handoff_from,
            idempotency_key,
            timeout_s,
            priority: None,
        };
        Some(Self { request, wait: wait.then_some(seconds) })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct InvokeResult {
    #[schemars(skip)]
    durability: &'static str,
    run: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    error: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(skip)]
    existing: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    waits_for: Vec<String>,
    // What to call next.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    notice: Option<&'static str>,
}

fn run<'s>(call: Call<'s>, args: Parsed) -> Answer<'s, InvokeResult> {
    async move {
        let started = call.hub.agent_invoke(args.request, &call.actor).await?;
        let mut state = call.hub.run_get(started.id.as_str(), false).await?;
        let wait = args.wait.unwrap_or_else(|| {
            let is_pulled = state.steps.iter().any(|step| step.executor.kind == ExecutorKind::Pull);
            // A client that takes tasks waits by itself.
            if is_pulled || call.takes_tasks {
                Duration::ZERO
            } else {
                Duration::from_secs(WAIT_SECONDS_MAX.unsigned_abs())
            }
        });
        if !wait.is_zero() && !state.run.status.is_finished() {
            let message = format!("{} is {}", started.id, state.run.status);
            state = call.progress.during(&message, call.hub.run_wait(&started.id, wait)).await?;
        }
        Ok(reply(call.hub, &state, started.existing)?.or_task(state))
    }
    .boxed()
}

pub(crate) fn reply(hub: &Hub, state: &RunState, existing: bool) -> Result<Reply<InvokeResult>, ToolError> {
    let run = &state.run;
    let agent = run.definition.spec.steps.first().map(|step| step.agent.to_string()).unwrap_or_default();
    let mut result = InvokeResult {
        durability: hub.durability().as_str(),
        run: run.id.to_string(),
        status: run.status.as_str(),
        output: None,
        error: run.error.as_deref().map(|error| quoted_line(error, 2_000)),
        existing,
        waits_for: Vec::new(),
        next: None,
        notice: None,
    };
    let mut text = format!("{agent}: run {} is {}", run.id, run.status);
    if existing {
        text.push_str(" (started by an earlier call with this idempotency_key)");
    }
    if let Some(error) = &result.error {
        text.push_str(&format!("\nerror: {error}"));
    }
    if let Some(output) = run.result.as_ref().and_then(run_view::json) {
        let part = fitted(output, OUTPUT_BYTES_MAX);
        text.push('\n');
        text.push_str(&fenced("run-result", &[("run", run.id.as_str()), ("agent", &agent)], &part.value));
        if let Some(offset) = part.next_offset {
            result.next = Some(format!(
                "cut: it has {} bytes of JSON; read on with workflow_status run={} part=result offset={offset}",
                part.bytes, run.id
            ));
        }
        result.output = Some(part.value);
        result.notice = Some(NOTICE);
    }
    if !run.status.is_finished() {
        result.waits_for = run_view::waits_for(hub, state, Face::Tools);
        for line in &result.waits_for {
            text.push_str(&format!("\nwaits {line}"));
        }
        result.next = Some(format!("workflow_status run={} wait_s=25", run.id));
    }
    if let Some(next) = &result.next {
        text.push_str(&format!("\n{next}"));
    }
    Ok(Reply { about: Some(agent), ..Reply::new(result, text) })
}
