//! `work_update`

use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_engine::hub::WorkUpdate;
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::read_claim;
use crate::server::Server;
use crate::tools::{Answer, Arguments, Call, Definition, Effect, Reply};

/// Longest report of progress; it is shown in lists.
const PROGRESS_CHARS_MAX: usize = 500;

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "work_update",
            title: "Report on work",
            description: "Keep a claim and say how far you are; or ask a person: that ends the claim, and the step \
                          comes again with checkpoint and answer.",
            effect: Effect::Writes,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct UpdateArgs {
    claim: String,
    progress: Option<String>,
    percent: Option<u8>,
    /// For whoever goes on.
    checkpoint: Option<Value>,
    question: Option<String>,
    /// JSON Schema
    answer_schema: Option<Value>,
}

struct Parsed {
    claim: String,
    update: WorkUpdate,
}

impl JsonSchema for Parsed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        UpdateArgs::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        UpdateArgs::json_schema(generator)
    }
}

impl Arguments for Parsed {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let claim = read_claim(r);
        let update = WorkUpdate {
            progress: r.text_chars("progress", PROGRESS_CHARS_MAX).map(str::to_owned),
            percent: r.integer("percent", 0..=100).and_then(|percent| u8::try_from(percent).ok()),
            checkpoint: r.value("checkpoint").cloned(),
            question: r.text_bytes("question", limits::DESCRIPTION_BYTES_MAX).map(str::to_owned),
            answer_schema: r.value("answer_schema").cloned(),
        };
        if update.question.as_deref().is_some_and(|question| question.trim().is_empty()) {
            r.problem("question", "is empty; say what is to be decided");
        }
        if r.has("answer_schema") && !r.has("question") {
            r.problem("answer_schema", "belongs to a question; give question too");
        }
        Some(Self { claim: claim?, update })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct UpdateResult {
    #[schemars(skip)]
    durability: &'static str,
    /// kept or ended
    claim: &'static str,
}

fn run<'s>(call: Call<'s>, args: Parsed) -> Answer<'s, UpdateResult> {
    async move {
        let asks = args.update.question.is_some();
        call.hub.work_update(&args.claim, args.update, &call.actor).await?;
        let durability = call.hub.durability().as_str();
        let (claim, text) = if asks {
            let text = format!(
                "the question is asked ({durability}) and the claim has ended; work_next gives the step out again when \
                 it is answered. Tell your person: workflow_signal answers it"
            );
            ("ended", text)
        } else {
            ("kept", format!("noted ({durability}); the claim is kept, say again within 30 minutes"))
        };
        Ok(Reply::new(UpdateResult { durability, claim }, text))
    }
    .boxed()
}
