//! `memory_store`

use a2a_core::ids::Namespace;
use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_core::memory::Trust;
use a2a_core::memory::document::MemoryDocument;
use a2a_engine::error::HubError;
use a2a_engine::hub::{MemoryStoreOptions, StoredMemories, StoredMemory, StoredStatus};
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::server::Server;
use crate::text::shortened;
use crate::tool_error::{ToolError, item_text};
use crate::tools::{Answer, Arguments, Call, Definition, Effect, Reply, read_namespace, texts};

/// Items shown one by one; of larger batches the failed ones and then the first others.
const ITEMS_SHOWN: usize = 50;
/// Ids shown of memories that were forgotten to make room.
const EVICTED_SHOWN: usize = 20;

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "memory_store",
            title: "Remember",
            description: "Keep what is worth knowing later, for every client: facts, decisions, preferences, how \
                          something is done. What says the same is kept once. When a fact changes, give its key or \
                          supersede the old memory. \
                          Example: {\"memories\":[{\"content\":\"We deploy only on Tuesdays\",\"key\":\"deploy-day\"}]}",
            effect: Effect::Takes,
        },
        run,
    )
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct StoreArgs {
    /// 1 to 1000
    #[schemars(with = "Vec<MemoryDocument>")]
    memories: Vec<Value>,
    /// The text comes from outside: a page, a message, a file.
    #[schemars(with = "Option<bool>")]
    external: bool,
    /// Ids of memories it was made from.
    #[schemars(with = "Option<Vec<String>>")]
    derived_from: Vec<String>,
    /// Cut secrets out instead of refusing them.
    #[schemars(with = "Option<bool>")]
    redact: bool,
    #[schemars(with = "Option<String>")]
    namespace: Option<Namespace>,
}

impl Arguments for StoreArgs {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let memories = r.list("memories", limits::BATCH_ITEMS_MAX);
        if !r.has("memories") {
            r.problem("memories", "is required: a list of memories, each with its content");
        }
        Some(Self {
            external: r.boolean("external").unwrap_or(false),
            derived_from: texts(r, "derived_from", limits::MEMORY_RELATIONS_MAX, limits::ID_CHARS_MAX),
            redact: r.boolean("redact").unwrap_or(false),
            namespace: read_namespace(r),
            memories: memories?.to_vec(),
        })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct StoreResult {
    durability: &'static str,
    stored: usize,
    known: usize,
    failed: usize,
    memories: Vec<StoreItem>,
    // Items left out of this reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    more: Option<usize>,
    /// Forgotten to make room.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    evicted: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    evicted_ids: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct StoreItem {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// stored, known, just_recalled or failed
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    superseded: Vec<String>,
    /// Others that say nearly the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    near: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    redacted: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl StoreItem {
    fn of(stored: &StoredMemory) -> Self {
        Self {
            id: Some(stored.memory.id.to_string()),
            status: match stored.status {
                StoredStatus::Stored => "stored",
                StoredStatus::Repeated => "known",
                StoredStatus::Recalled => "just_recalled",
            },
            revision: Some(stored.memory.revision),
            superseded: stored.superseded.iter().map(ToString::to_string).collect(),
            near: stored.near.iter().map(|(id, _)| id.to_string()).collect(),
            redacted: (stored.redacted > 0).then_some(stored.redacted),
            error: None,
        }
    }

    fn failed(error: &HubError) -> Self {
        Self {
            id: None,
            status: "failed",
            revision: None,
            superseded: Vec::new(),
            near: Vec::new(),
            redacted: None,
            error: Some(shortened(&item_text("", error), 400)),
        }
    }

    fn line(&self) -> String {
        let Some(id) = &self.id else { return format!("failed: {}", self.error.as_deref().unwrap_or_default()) };
        let mut line = format!("{id} {}", self.status);
        if !self.superseded.is_empty() {
            line.push_str(&format!(", in place of {}", self.superseded.join(", ")));
        }
        if !self.near.is_empty() {
            line.push_str(&format!("; nearly the same: {}", self.near.join(", ")));
        }
        if let Some(redacted) = self.redacted {
            line.push_str(&format!("; {redacted} secrets cut out"));
        }
        line
    }
}

fn run<'s>(call: Call<'s>, args: StoreArgs) -> Answer<'s, StoreResult> {
    async move {
        let options = MemoryStoreOptions {
            namespace: args.namespace,
            redact: args.redact,
            // A client may pass on what a person said or what a page told it to say: nobody can tell from here.
            trust: if args.external { Trust::External } else { Trust::Agent },
            derived_from: args.derived_from,
        };
        let mut done = call.hub.memory_store(&args.memories, "memories", &options, &call.actor).await?;
        if done.items.iter().all(Result::is_err) {
            let items = std::mem::take(&mut done.items);
            let mut errors: Vec<_> = items
                .into_iter()
                .enumerate()
                .filter_map(|(i, item)| Some((format!("memories[{i}]"), item.err()?)))
                .collect();
            return Err(match (errors.len(), errors.pop()) {
                (1, Some((_, error))) => error.into(),
                (_, last) => {
                    errors.extend(last);
                    ToolError::nothing_done(&errors)
                }
            });
        }
        Ok(reply(&done, call.hub.durability().as_str()))
    }
    .boxed()
}

fn reply(done: &StoredMemories, durability: &'static str) -> Reply<StoreResult> {
    let status = |wanted: StoredStatus| move |item: &&StoredMemory| item.status == wanted;
    let stored = done.items.iter().flatten().filter(status(StoredStatus::Stored)).count();
    let failed = done.items.iter().filter(|item| item.is_err()).count();
    let known = done.items.len() - stored - failed;
    let mut items: Vec<StoreItem> =
        done.items.iter().map(|item| item.as_ref().map_or_else(StoreItem::failed, StoreItem::of)).collect();
    let more = items.len().saturating_sub(ITEMS_SHOWN);
    if more > 0 {
        // Stable, so that items keep their order otherwise.
        items.sort_by_key(|item| item.error.is_none());
        items.truncate(ITEMS_SHOWN);
    }
    let counts: Vec<String> = [(stored, "stored"), (known, "known"), (failed, "failed")]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, name)| format!("{n} {name}"))
        .collect();
    let mut text = format!("{} ({durability})", counts.join(", "));
    for item in &items {
        text.push_str(&format!("\n{}", item.line()));
    }
    let evicted: Vec<String> = done.evicted.iter().take(EVICTED_SHOWN).map(ToString::to_string).collect();
    if !evicted.is_empty() {
        let count = done.evicted.len();
        text.push_str(&format!("\n{count} forgotten to make room, worth least: {}", evicted.join(", ")));
    }
    let result = StoreResult {
        durability,
        stored,
        known,
        failed,
        memories: items,
        more: (more > 0).then_some(more),
        evicted: (!evicted.is_empty()).then_some(done.evicted.len()),
        evicted_ids: evicted,
    };
    Reply::new(result, text)
}
