//! `workflow_signal`

use a2a_core::ids::Revision;
use a2a_core::input::ObjectReader;
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde_json::Value;

use super::{RunResult, read_name, read_run, run_reply};
use crate::server::Server;
use crate::tools::{Answer, Arguments, Call, Definition, Effect, read_revision};

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "workflow_signal",
            title: "Answer a run",
            description: "Answer the question of a waiting step. It is meant for a person: ask yours, don't decide \
                          for them.",
            effect: Effect::Writes,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct SignalArgs {
    run: String,
    /// If several ask.
    step: Option<String>,
    /// Its number in workflow_status.
    question: Option<i64>,
    /// JSON; with refuse the reason.
    answer: Option<Value>,
    refuse: Option<bool>,
}

struct Parsed {
    run: String,
    step: Option<String>,
    question: Option<Revision>,
    answer: Value,
    refuse: bool,
}

impl JsonSchema for Parsed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        SignalArgs::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        SignalArgs::json_schema(generator)
    }
}

impl Arguments for Parsed {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let run = read_run(r);
        let step = read_name(r, "step");
        let question = read_revision(r, "question");
        let refuse = r.boolean("refuse").unwrap_or(false);
        let answer = r.value("answer").cloned();
        if answer.is_none() && !refuse {
            r.problem("answer", "is required, unless refuse is true: what the step asks for");
        }
        Some(Self { run: run?, step, question, answer: answer.unwrap_or(Value::Null), refuse })
    }
}

fn run<'s>(call: Call<'s>, args: Parsed) -> Answer<'s, RunResult> {
    async move {
        let Parsed { run, step, question, answer, refuse } = args;
        let state = call.hub.run_signal(&run, step.as_deref(), question, &answer, refuse, &call.actor).await?;
        let mut reply = run_reply(call.hub, &state, false);
        let done = if refuse { "refused" } else { "answered" };
        reply.text = format!("{done}; {}", reply.text);
        Ok(reply)
    }
    .boxed()
}
