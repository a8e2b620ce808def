//! `memory_update`

use a2a_core::ids::Namespace;
use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_core::memory::Trust;
use a2a_core::memory::experience::AgentExperience;
use a2a_engine::hub::{Feedback, MemoryUpdate};
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::server::Server;
use crate::tools::{Answer, Arguments, Call, Definition, Effect, Reply, read_namespace, read_revision};

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "memory_update",
            title: "Update a memory",
            description: "Change importance, decay, tags, expiry or relations of a memory; new content makes a new \
                          memory in its place. Or say how useful a memory or the work of an agent was (feedback): \
                          agents learn by it. Example: {\"id\":\"mem-a\",\"feedback\":{\"score\":1}}",
            effect: Effect::Takes,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(missing_docs, reason = "the schema is what a model reads; every word costs")]
struct UpdateArgs {
    /// Of the memory.
    id: Option<String>,
    /// Instead of id, for feedback.
    agent: Option<String>,
    /// Fields of memory_store to replace.
    #[schemars(with = "Option<Map<String, Value>>")]
    set: Map<String, Value>,
    #[schemars(with = "Option<FeedbackArgs>")]
    feedback: Option<Feedback>,
    /// Only if at this revision.
    expected_revision: Option<i64>,
    #[schemars(with = "Option<bool>")]
    redact: bool,
    #[schemars(with = "Option<String>")]
    namespace: Option<Namespace>,
}

#[derive(Debug, JsonSchema)]
#[schemars(inline, deny_unknown_fields)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct FeedbackArgs {
    /// -1 to 1
    score: f64,
    comment: Option<String>,
}

impl Arguments for UpdateArgs {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let id = r.text("id").map(str::to_owned);
        let agent = r.text("agent").map(str::to_owned);
        let set = match r.value("set") {
            None => Map::new(),
            Some(Value::Object(set)) => set.clone(),
            Some(_) => {
                r.problem("set", "must be an object of the fields to change");
                Map::new()
            }
        };
        let feedback = read_feedback(r);
        match (r.has("id"), r.has("agent")) {
            (true, true) => r.problem("agent", "is given beside id; feedback goes to one of both"),
            (false, false) => r.problem("id", "is required; or `agent`, for feedback on its work"),
            (false, true) if !r.has("feedback") => r.problem("feedback", "is required with agent"),
            (false, true) if !set.is_empty() => {
                r.problem("set", "changes a memory; an agent is changed with agent_update");
            }
            (true, false) if set.is_empty() && !r.has("feedback") => {
                r.problem("set", "is required, unless feedback is given: the fields to change");
            }
            _ => {}
        }
        Some(Self {
            id,
            agent,
            set,
            feedback,
            expected_revision: read_revision(r, "expected_revision"),
            redact: r.boolean("redact").unwrap_or(false),
            namespace: read_namespace(r),
        })
    }
}

fn read_feedback(r: &mut ObjectReader<'_, '_>) -> Option<Feedback> {
    let value = r.value("feedback")?;
    let path = r.path_of("feedback");
    let mut inner = ObjectReader::open(value, path, r.problems())?;
    let score = inner.number("score", -1.0..=1.0);
    if !inner.has("score") {
        inner.problem("score", "is required: -1 (useless) to 1 (just right)");
    }
    let comment = inner.text_chars("comment", limits::FEEDBACK_COMMENT_CHARS_MAX).map(str::to_owned);
    inner.finish();
    Some(Feedback { score: score? as f32, comment })
}

#[derive(Debug, Serialize, JsonSchema)]
struct UpdateResult {
    durability: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// updated, replaced, unchanged or taken
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    /// The traits of the agent, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    personality: Option<Value>,
    /// The memory that keeps the comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    comment: Option<String>,
}

fn run<'s>(call: Call<'s>, args: UpdateArgs) -> Answer<'s, UpdateResult> {
    async move {
        let durability = call.hub.durability().as_str();
        let (result, mut text) = match (&args.id, &args.agent, &args.feedback) {
            (None, Some(agent), Some(feedback)) => {
                let namespace = args.namespace.as_ref();
                let (experience, comment) =
                    call.hub.agent_feedback(namespace, agent, feedback, Trust::Agent, &call.actor).await?;
                let result = UpdateResult {
                    durability,
                    id: None,
                    status: "taken",
                    revision: None,
                    personality: Some(traits(&experience)),
                    comment: comment.map(|id| id.to_string()),
                };
                (result, format!("feedback on {} taken ({durability})", experience.agent.id))
            }
            (id, _, _) => {
                let update = MemoryUpdate {
                    namespace: args.namespace,
                    expected_revision: args.expected_revision,
                    set: args.set,
                    feedback: args.feedback,
                    redact: args.redact,
                };
                let id = id.as_deref().unwrap_or_default();
                let done = call.hub.memory_update(id, &update, Trust::Agent, &call.actor).await?;
                let memory = &done.memory;
                let replaced = !memory.spec.supersedes.is_empty() && update.set.contains_key("content");
                let status = match (replaced, done.changed) {
                    (true, _) => "replaced",
                    (false, true) => "updated",
                    (false, false) => "unchanged",
                };
                let result = UpdateResult {
                    durability,
                    id: Some(memory.id.to_string()),
                    status,
                    revision: Some(memory.revision),
                    personality: done.experience.as_deref().map(traits),
                    comment: done.comment.as_ref().map(ToString::to_string),
                };
                let text = format!("{} {status}: revision {} ({durability})", memory.id, memory.revision);
                (result, text)
            }
        };
        if let Some(personality) = &result.personality {
            text.push_str(&format!("\npersonality: {personality}"));
        }
        Ok(Reply { about: args.agent, ..Reply::new(result, text) })
    }
    .boxed()
}

fn traits(experience: &AgentExperience) -> Value {
    let who = &experience.personality;
    let round = |number: f32| (f64::from(number) * 1_000.0).round() / 1_000.0;
    json!({
        "confidence": round(who.confidence),
        "caution": round(who.caution),
        "thoroughness": round(who.thoroughness),
        "creativity": round(who.creativity),
        "cooperation": round(who.cooperation),
        "interactions": who.interactions,
        "positive": who.positive,
        "negative": who.negative,
    })
}
