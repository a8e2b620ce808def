//! `workflow_control`

use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_engine::hub::RunControl;
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;

use super::{RunResult, read_name, read_run, run_reply};
use crate::server::Server;
use crate::tools::{Answer, Arguments, Call, Definition, Effect};

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "workflow_control",
            title: "Control a run",
            description: "Cancel, pause or resume a run; retry what failed; or fork: a new run that keeps earlier \
                          results and does a step and all after it again.",
            effect: Effect::Controls,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct ControlArgs {
    run: String,
    /// cancel, pause, resume, retry or fork
    action: String,
    /// For fork: first step to redo.
    from: Option<String>,
    /// For cancel.
    reason: Option<String>,
}

enum Action {
    Control(RunControl),
    Fork(String),
}

struct Parsed {
    run: String,
    action: Action,
}

impl JsonSchema for Parsed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        ControlArgs::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        ControlArgs::json_schema(generator)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Cancel,
    Pause,
    Resume,
    Retry,
    Fork,
}

impl Arguments for Parsed {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        const VERBS: [(&str, Verb); 5] = [
            ("cancel", Verb::Cancel),
            ("pause", Verb::Pause),
            ("resume", Verb::Resume),
            ("retry", Verb::Retry),
            ("fork", Verb::Fork),
        ];
        let run = read_run(r);
        let verb = r.choice("action", &VERBS);
        if !r.has("action") {
            r.problem("action", "is required: cancel, pause, resume, retry or fork");
        }
        let from = read_name(r, "from");
        let reason = r.text_bytes("reason", limits::DESCRIPTION_BYTES_MAX).map(str::to_owned);
        if let Some(verb) = verb {
            if verb == Verb::Fork && !r.has("from") {
                r.problem("from", "is required for fork: the name of the first step that is done again");
            }
            if verb != Verb::Fork && r.has("from") {
                r.problem("from", "is for fork only; retry goes on from what failed");
            }
            if verb != Verb::Cancel && r.has("reason") {
                r.problem("reason", "is for cancel only");
            }
        }
        let action = match verb? {
            Verb::Cancel => {
                Action::Control(RunControl::Cancel { reason: reason.unwrap_or_else(|| "no reason was given".into()) })
            }
            Verb::Pause => Action::Control(RunControl::Pause),
            Verb::Resume => Action::Control(RunControl::Resume),
            Verb::Retry => Action::Control(RunControl::Retry),
            Verb::Fork => Action::Fork(from?),
        };
        Some(Self { run: run?, action })
    }
}

fn run<'s>(call: Call<'s>, args: Parsed) -> Answer<'s, RunResult> {
    async move {
        let state = match args.action {
            Action::Control(control) => call.hub.run_control(&args.run, control, &call.actor).await?,
            Action::Fork(from) => {
                let started = call.hub.run_fork(&args.run, &from, &call.actor).await?;
                call.hub.run_get(started.id.as_str(), false).await?
            }
        };
        let mut reply = run_reply(call.hub, &state, false);
        if let Some(old) = state.run.forked_from.as_ref().filter(|_| state.run.id.as_str() != args.run) {
            reply.text.push_str(&format!("\nforked from {old}"));
        }
        Ok(reply)
    }
    .boxed()
}
