//! Tools on workflows and their runs.

mod control;
mod run;
mod save;
mod signal;
mod status;

use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_core::workflow::run::RunState;
use a2a_engine::hub::Hub;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{NOTICE, Reply};
use crate::run_view::{self, Face};
use crate::server::Server;
use crate::text::{fenced, fitted};

/// What the result of a run may take of a reply about it.
const RESULT_PART_BYTES_MAX: usize = 16 * 1024;

/// All tools on workflows.
pub(crate) fn routes() -> Vec<ToolRoute<Server>> {
    vec![control::route(), run::route(), save::route(), signal::route(), status::route()]
}

/// Where a run stands after a call about it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RunResult {
    #[schemars(skip)]
    durability: &'static str,
    run: String,
    status: &'static str,
    // An earlier call with this idempotency_key started it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(skip)]
    existing: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(skip)]
    paused: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    waits_for: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    result: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    notice: Option<&'static str>,
}

/// Tells where a run stands.
pub(crate) fn run_reply(hub: &Hub, state: &RunState, existing: bool) -> Reply<RunResult> {
    let run = &state.run;
    let waits_for = if run.status.is_finished() { Vec::new() } else { run_view::waits_for(hub, state, Face::Tools) };
    let outcome = run.result.as_ref().and_then(run_view::json).map(|result| fitted(result, RESULT_PART_BYTES_MAX));
    let mut result = RunResult {
        durability: hub.durability().as_str(),
        run: run.id.to_string(),
        status: run.status.as_str(),
        existing,
        paused: run.paused,
        waits_for,
        error: run.error.as_deref().map(|error| crate::text::quoted_line(error, 400)),
        result: None,
        notice: None,
    };
    let paused = if run.paused { ", paused" } else { "" };
    let mut text = format!("{} is {}{paused} ({})", result.run, result.status, result.durability);
    if existing {
        text.push_str("\nit was started by an earlier call with this idempotency_key");
    }
    if let Some(error) = &result.error {
        text.push_str(&format!("\nerror: {error}"));
    }
    for line in &result.waits_for {
        text.push_str(&format!("\nwaits {line}"));
    }
    if let Some(outcome) = outcome {
        text.push('\n');
        text.push_str(&fenced("run-result", &[("run", run.id.as_str())], &outcome.value));
        if let Some(offset) = outcome.next_offset {
            text.push_str(&format!("\ncut: read on with workflow_status run={} part=result offset={offset}", run.id));
        }
        (result.result, result.notice) = (Some(outcome.value), Some(NOTICE));
    }
    let how = if run.status.is_finished() { "detail=full" } else { "wait_s=25" };
    text.push_str(&format!("\nlook at it: workflow_status run={} {how}", result.run));
    Reply::new(result, text)
}

/// Reads the id of a run, or the unique start of it.
pub(super) fn read_run(r: &mut ObjectReader<'_, '_>) -> Option<String> {
    let run = r.text_chars("run", limits::ID_CHARS_MAX).map(str::to_owned);
    if !r.has("run") {
        r.problem("run", "is required: the id of a run, as workflow_run gave it");
    }
    run
}

/// Reads an object as it is.
pub(super) fn read_object_field(r: &mut ObjectReader<'_, '_>, name: &'static str) -> Option<Map<String, Value>> {
    match r.value(name) {
        None => None,
        Some(Value::Object(fields)) => Some(fields.clone()),
        Some(other) => {
            r.problem(name, format!("must be an object, not {}", a2a_core::input::type_name(other)));
            None
        }
    }
}

/// Reads a key under which a call is done once only.
pub(super) fn read_idempotency_key(r: &mut ObjectReader<'_, '_>) -> Option<String> {
    r.text_chars("idempotency_key", limits::NAME_CHARS_MAX).map(str::to_owned)
}

/// Reads a priority.
pub(super) fn read_priority(r: &mut ObjectReader<'_, '_>) -> Option<i16> {
    r.integer("priority", 0..=9).and_then(|priority| i16::try_from(priority).ok())
}

/// Reads a text that names a thing.
pub(super) fn read_name(r: &mut ObjectReader<'_, '_>, name: &'static str) -> Option<String> {
    r.text_chars(name, limits::NAME_CHARS_MAX).map(str::to_owned)
}
