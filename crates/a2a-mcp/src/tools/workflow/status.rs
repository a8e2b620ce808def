//! `workflow_status`

mod list;
mod one;

use std::time::Duration;

use a2a_core::ids::{Namespace, Revision};
use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_core::workflow::run::RunStatus;
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::read_name;
use crate::run_view::{RunRow, StepRow};
use crate::server::Server;
use crate::tools::wait::read_wait;
use crate::tools::{Answer, Arguments, Call, Definition, Effect, read_namespace, read_revision};

const LIMIT_DEFAULT: usize = 20;

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "workflow_status",
            title: "Look at runs",
            description: "Where a run stands: each step, why it does not go on, and what to call about it. Without \
                          run: lists of runs or saved workflows.",
            effect: Effect::Reads,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct StatusArgs {
    run: Option<String>,
    /// Up to 25: until it changes.
    wait_s: Option<u8>,
    /// full: with outputs
    detail: Option<String>,
    /// With its input and output.
    step: Option<String>,
    /// input, output, answer, checkpoint, context or result, as text from offset
    part: Option<String>,
    offset: Option<usize>,
    mermaid: Option<bool>,
    /// runs (default) or workflows
    list: Option<String>,
    /// Such as FAILED.
    status: Option<String>,
    /// Its runs; with list=workflows its document.
    workflow: Option<String>,
    /// Of that document.
    revision: Option<i64>,
    limit: Option<usize>,
    cursor: Option<String>,
    namespace: Option<String>,
}

/// What is read of one step or run as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Input,
    Output,
    Answer,
    Checkpoint,
    Context,
    Result,
}

impl Part {
    const ALL: [(&'static str, Self); 6] = [
        ("input", Self::Input),
        ("output", Self::Output),
        ("answer", Self::Answer),
        ("checkpoint", Self::Checkpoint),
        ("context", Self::Context),
        ("result", Self::Result),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, part)| *part == self).map_or("", |(name, _)| name)
    }

    /// Whether it belongs to a step, and not to the run.
    fn is_of_a_step(self) -> bool {
        matches!(self, Self::Input | Self::Output | Self::Answer | Self::Checkpoint)
    }
}

/// One run is asked for.
struct OneQuery {
    run: String,
    wait: Duration,
    full: bool,
    step: Option<String>,
    part: Option<Part>,
    offset: usize,
    mermaid: bool,
}

/// A list is asked for.
struct ListRequest {
    workflows: bool,
    status: Option<RunStatus>,
    workflow: Option<String>,
    revision: Option<Revision>,
    limit: usize,
    cursor: Option<String>,
    namespace: Option<Namespace>,
}

enum Parsed {
    One(OneQuery),
    List(ListRequest),
}

impl JsonSchema for Parsed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        StatusArgs::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        StatusArgs::json_schema(generator)
    }
}

impl Arguments for Parsed {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let run = r.text_chars("run", limits::ID_CHARS_MAX).map(str::to_owned);
        let wait = read_wait(r);
        let full = r.choice("detail", &[("row", false), ("full", true)]).unwrap_or(false);
        let step = read_name(r, "step");
        let part = r.choice("part", &Part::ALL);
        let offset = r.integer("offset", 0..=i64::MAX).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let mermaid = r.boolean("mermaid").unwrap_or(false);
        let workflows = r.choice("list", &[("runs", false), ("workflows", true)]).unwrap_or(false);
        let status = read_status(r);
        let workflow = r.text_chars("workflow", limits::ID_CHARS_MAX).map(str::to_owned);
        let revision = read_revision(r, "revision");
        if revision.is_some() && !(workflows && workflow.is_some()) {
            r.problem("revision", "is that of a saved workflow; give list=workflows and workflow too");
        }
        let limit = r.integer("limit", 0..=i64::try_from(limits::PAGE_ROWS_MAX).unwrap_or(i64::MAX));
        let cursor = r.text_chars("cursor", 1_000).map(str::to_owned);
        let namespace = read_namespace(r);
        for (name, other) in [("step", "run"), ("part", "run"), ("wait_s", "run"), ("mermaid", "run")] {
            if r.has(name) && !r.has(other) {
                r.problem(name, format!("is about one run; give {other} too"));
            }
        }
        if let Some(part) = part
            && part.is_of_a_step()
            && !r.has("step")
        {
            r.problem("part", format!("{} is of a step; give step too", part.as_str()));
        }
        for name in ["list", "status", "workflow", "cursor", "limit"] {
            if r.has(name) && r.has("run") {
                r.problem(name, "is for lists; leave it out when run is given");
            }
        }
        Some(match run {
            Some(run) => Self::One(OneQuery { run, wait, full, step, part, offset, mermaid }),
            None => Self::List(ListRequest {
                workflows,
                status,
                workflow,
                revision,
                limit: limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(LIMIT_DEFAULT),
                cursor,
                namespace,
            }),
        })
    }
}

fn read_status(r: &mut ObjectReader<'_, '_>) -> Option<RunStatus> {
    let text = r.text("status")?;
    let status = RunStatus::from_name(text);
    if status.is_none() {
        let known: Vec<&str> = RunStatus::ALL.iter().map(|status| status.as_str()).collect();
        r.problem("status", format!("is {}; use one of: {}", a2a_core::input::quoted(text), known.join(", ")));
    }
    status
}

/// Which fields there are depends on what was asked for.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct StatusResult {
    // The one that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    run: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    steps: Option<Vec<StepRow>>,
    // The step that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    step: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    next_offset: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    mermaid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    total: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    runs: Option<Vec<RunRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    workflows: Option<Vec<Map<String, Value>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    notice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    stale_ms: Option<u64>,
}

fn run<'s>(call: Call<'s>, args: Parsed) -> Answer<'s, StatusResult> {
    async move {
        match args {
            Parsed::One(query) => one::answer(&call, query).await,
            Parsed::List(request) => list::answer(&call, request).await,
        }
    }
    .boxed()
}
