//! `work_finish`

use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_engine::error::HubError;
use a2a_engine::hub::WorkOutcome;
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::read_claim;
use crate::server::Server;
use crate::tool_error::ToolError;
use crate::tools::{Answer, Arguments, Call, Definition, Effect, Reply};

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "work_finish",
            title: "Hand in work",
            description: "Hand in a claim. An output that does not fit the schema is refused and the claim stays. Say \
                          failed rather than make something up; released gives it back.",
            effect: Effect::Writes,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct FinishArgs {
    claim: String,
    /// done, failed or released
    status: String,
    output: Option<Value>,
    error: Option<String>,
    /// Default true
    retryable: Option<bool>,
    /// What you learned, for whoever does this next; kept as a memory.
    remember: Option<String>,
}

struct Parsed {
    claim: String,
    outcome: WorkOutcome,
    remember: Option<String>,
}

impl JsonSchema for Parsed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        FinishArgs::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        FinishArgs::json_schema(generator)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Done,
    Failed,
    Released,
}

impl Arguments for Parsed {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        const STATUSES: [(&str, Status); 3] =
            [("done", Status::Done), ("failed", Status::Failed), ("released", Status::Released)];
        let claim = read_claim(r);
        let status = r.choice("status", &STATUSES);
        if !r.has("status") {
            r.problem("status", "is required: done, failed or released");
        }
        // Null may be the output of a step, so that here it is not the same as nothing.
        let output = r.nullable("output").cloned();
        let error = r.text_bytes("error", limits::DESCRIPTION_BYTES_MAX).map(str::to_owned);
        let retryable = r.boolean("retryable").unwrap_or(true);
        let remember = r.text_bytes("remember", limits::MEMORY_CONTENT_BYTES_MAX).map(|text| text.trim().to_owned());
        let remember = remember.filter(|text| !text.is_empty());
        let outcome = match status? {
            Status::Done => {
                if output.is_none() {
                    r.problem("output", "is required for done; null if there is nothing to hand over");
                }
                if r.has("error") {
                    r.problem("error", "is for failed; put remarks into the output");
                }
                WorkOutcome::Done(output?)
            }
            Status::Failed => {
                if error.as_deref().is_none_or(|error| error.trim().is_empty()) {
                    r.problem("error", "is required for failed: what went wrong, for whoever tries next");
                }
                WorkOutcome::Failed { error: error?, retryable }
            }
            Status::Released => {
                if r.has("remember") {
                    r.problem("remember", "is for done and failed; use memory_store");
                }
                WorkOutcome::Released
            }
        };
        Some(Self { claim: claim?, outcome, remember })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct FinishResult {
    #[schemars(skip)]
    durability: &'static str,
    run: String,
    status: &'static str,
    // Other steps that can be taken now.
    #[schemars(skip)]
    more_work: usize,
    // The memory that keeps what was learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    remembered: Option<String>,
}

fn run<'s>(call: Call<'s>, args: Parsed) -> Answer<'s, FinishResult> {
    async move {
        let done = match call.hub.work_finish(&args.claim, args.outcome, args.remember, &call.actor).await {
            Ok(done) => done,
            Err(HubError::Invalid(problems)) => {
                let is_output = problems.0.iter().any(|problem| problem.path.starts_with("output"));
                let error = ToolError::from(problems);
                return Err(if is_output {
                    error.with_hint("The claim stays: mend the output and call work_finish again.")
                } else {
                    error
                });
            }
            Err(error) => return Err(error.into()),
        };
        let state = done.state;
        let (more_work, _) = call.hub.work_waiting(Some(&state.run.namespace));
        let durability = call.hub.durability().as_str();
        let mut result = FinishResult {
            durability,
            run: state.run.id.to_string(),
            status: state.run.status.as_str(),
            more_work,
            remembered: None,
        };
        let mut text = format!("taken ({durability}); run {} is {}", result.run, result.status);
        match done.remembered {
            None => {}
            Some(Ok(memory)) => {
                text.push_str(&format!("\nremembered as {}", memory.id));
                result.remembered = Some(memory.id.to_string());
            }
            Some(Err(error)) => text.push_str(&format!("\nnot remembered: {error}; use memory_store")),
        }
        if more_work > 0 {
            text.push_str(&format!("\n{more_work} more steps wait: call work_next"));
        }
        Ok(Reply::new(result, text))
    }
    .boxed()
}
