//! `memory store`.

use std::path::PathBuf;

use a2a_core::error::Problem;
use a2a_core::ids::Actor;
use a2a_core::limits::{BATCH_ITEMS_MAX, QUEUE_BYTES_MAX};
use a2a_core::memory::MemoryType;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use a2a_engine::hub::{Durability, Hub, MemoryInput, MemoryStoreOptions, StoredMemories, StoredMemory, StoredStatus};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::documents::{self, Source};
use super::super::error::{CliError, Exit, exit_of};
use super::super::{open, output};
use super::{memory_type, share, teller};

/// Bytes of one call: a quarter of what may wait for the writer, which other callers use too.
pub(super) const BATCH_BYTES_MAX: usize = QUEUE_BYTES_MAX / 4;
/// How often a call is repeated that the writer had no room for. It says each time when to come back.
const OVERLOADED_TRIES: u32 = 30;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is to be remembered, in words
    #[arg(value_name = "TEXT", required_unless_present = "file")]
    text: Vec<String>,
    /// A file or folder with memory documents (*.yaml, *.yml, *.json); - reads standard input
    #[arg(long, value_name = "PATH", conflicts_with_all = ["text", "given"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
    /// Cut out what looks like a secret instead of refusing the memory
    #[arg(long)]
    redact: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What is said about the text.
#[derive(clap::Args)]
#[group(id = "given", multiple = true)]
struct Given {
    /// conversation, procedural, episodic, semantic, tool_usage or preference [default: semantic]
    #[arg(long = "type", value_name = "TYPE", value_parser = memory_type)]
    kind: Option<MemoryType>,
    /// Names the fact: a newer memory of the same key, agent and user takes the place of the older
    #[arg(long)]
    key: Option<String>,
    /// A tag; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// 0 to 1 [default: by type]
    #[arg(long, value_name = "N", value_parser = share)]
    importance: Option<f32>,
    /// Part of its strength that it loses in a day, 0 to 1 [default: by type]
    #[arg(long, value_name = "N", value_parser = share)]
    decay: Option<f32>,
    /// The agent whose memory it is
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Whom it is about or who said it
    #[arg(long)]
    user: Option<String>,
    /// The conversation or work session that it belongs to
    #[arg(long)]
    session: Option<String>,
    /// Seconds until it is out of recall
    #[arg(long, value_name = "N")]
    expires_in_s: Option<u64>,
    /// A memory whose place it takes; may be given several times
    #[arg(long, value_name = "ID")]
    supersedes: Vec<String>,
}

impl Given {
    fn document(self, content: String) -> Value {
        let list = |texts: Vec<String>| (!texts.is_empty()).then(|| Value::from(texts));
        let number = |number: f32| json!(number);
        let fields = [
            ("content", Some(content.into())),
            ("type", self.kind.map(|kind| kind.as_str().into())),
            ("key", self.key.map(Value::from)),
            ("tags", list(self.tags)),
            ("importance", self.importance.map(number)),
            ("decay", self.decay.map(number)),
            ("agent", self.agent.map(Value::from)),
            ("user", self.user.map(Value::from)),
            ("session", self.session.map(Value::from)),
            ("expires_in_s", self.expires_in_s.map(Value::from)),
            ("supersedes", list(self.supersedes)),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(given.collect::<Map<String, Value>>())
    }
}

/// What came of one document.
#[derive(Serialize)]
struct Item {
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    /// The memories whose place it took.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    superseded: Vec<String>,
    /// Others that say nearly the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    near: Vec<String>,
    /// How many things that look like secrets were cut out.
    #[serde(skip_serializing_if = "Option::is_none")]
    redacted: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// What is wrong with the document, each with its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Summary {
    stored: usize,
    known: usize,
    failed: usize,
    /// Memories that were forgotten to make room.
    evicted: usize,
    durability: Durability,
    memories: Vec<Item>,
}

impl Item {
    fn failed(source: String, code: &'static str, message: String, problems: Vec<Problem>) -> Self {
        Self {
            source,
            id: None,
            status: "failed",
            revision: None,
            superseded: Vec::new(),
            near: Vec::new(),
            redacted: None,
            code: Some(code),
            message: Some(message),
            problems,
        }
    }

    fn of(source: String, result: Result<StoredMemory, HubError>) -> Self {
        let stored = match result {
            Ok(stored) => stored,
            Err(error) => {
                let (code, message) = (error.code(), error.to_string());
                let problems = if let HubError::Invalid(problems) = error { problems.0 } else { Vec::new() };
                return Self::failed(source, code, message, problems);
            }
        };
        Self {
            source,
            id: Some(stored.memory.id.to_string()),
            status: if stored.status == StoredStatus::Stored { "stored" } else { "known" },
            revision: Some(stored.memory.revision),
            superseded: stored.superseded.iter().map(ToString::to_string).collect(),
            near: stored.near.iter().map(|(id, _)| id.to_string()).collect(),
            redacted: (stored.redacted > 0).then_some(stored.redacted),
            code: None,
            message: None,
            problems: Vec::new(),
        }
    }

    fn line(&self) -> Option<String> {
        let mut line = format!("{} {}", self.status, self.id.as_deref()?);
        if !self.superseded.is_empty() {
            line.push_str(&format!(" in place of {}", self.superseded.join(", ")));
        }
        if !self.near.is_empty() {
            line.push_str(&format!("; nearly the same: {}", self.near.join(", ")));
        }
        if let Some(redacted) = self.redacted {
            line.push_str(&format!("; {redacted} secrets cut out"));
        }
        Some(line)
    }
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let sources = match &args.file {
        Some(path) => documents::read(std::slice::from_ref(path)),
        None => vec![Source { place: String::new(), document: Ok(args.given.document(args.text.join(" "))) }],
    };
    let options =
        MemoryStoreOptions { namespace: None, redact: args.redact, trust: teller(), derived_from: Vec::new() };
    let hub = open(config).await?;
    let mut items = Vec::with_capacity(sources.len());
    let mut evicted = 0;
    let mut exit = Exit::Done;
    let mut waiting = sources.into_iter().peekable();
    while waiting.peek().is_some() {
        let mut batch: Vec<(String, Value)> = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_ITEMS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(Source { place, document }) = waiting.next() else { break };
            match document {
                Ok(document) => {
                    bytes += document.to_string().len();
                    batch.push((place, document));
                }
                Err(reason) => items.push(Item::failed(place, "unreadable", reason, Vec::new())),
            }
        }
        let inputs: Vec<MemoryInput<'_>> =
            batch.iter().map(|(path, document)| MemoryInput { document, path, told: None }).collect();
        let results = match store_each(&hub, &inputs, &options, actor).await {
            Ok(done) => {
                evicted += done.evicted.len();
                done.items
            }
            // The database is away; what comes after would wait in vain as well.
            Err(error) => {
                exit = exit_of(&error);
                waiting.by_ref().for_each(|rest| batch.push((rest.place, Value::Null)));
                vec![Err(error); batch.len()]
            }
        };
        items.extend(batch.into_iter().zip(results).map(|((place, _), result)| Item::of(place, result)));
    }
    let durability = hub.durability();
    hub.close().await;
    let count = |status: &str| items.iter().filter(|item| item.status == status).count();
    let (stored, known, failed) = (count("stored"), count("known"), count("failed"));
    if failed > 0 && exit == Exit::Done {
        exit = Exit::Failed;
    }
    tell(&Summary { stored, known, failed, evicted, durability, memories: items }, args.json)?;
    Ok(exit)
}

/// Stores, and comes back when the writer had no room.
pub(super) async fn store_each(
    hub: &Hub,
    inputs: &[MemoryInput<'_>],
    options: &MemoryStoreOptions,
    actor: &Actor,
) -> Result<StoredMemories, HubError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match hub.memory_store_each(inputs, options, actor).await {
            Err(HubError::Overloaded { retry_after }) if tries < OVERLOADED_TRIES => {
                tokio::time::sleep(retry_after).await;
            }
            result => return result,
        }
    }
}

fn tell(summary: &Summary, as_json: bool) -> Result<(), CliError> {
    if as_json {
        return Ok(output::json(summary)?);
    }
    let mut text = String::new();
    for item in &summary.memories {
        if let Some(line) = item.line() {
            text.push_str(&format!("{line}\n"));
            continue;
        }
        failure(&item.source, item.message.as_deref().unwrap_or_default(), &item.problems);
    }
    let Summary { stored, known, failed, evicted, .. } = summary;
    if summary.memories.len() > 1 {
        text.push_str(&format!(
            "{stored} stored, {known} known, {failed} failed{}\n",
            end(*stored, summary.durability)
        ));
    }
    output::text(&text)?;
    if *evicted > 0 {
        output::note(&format!("{evicted} memories were forgotten to make room, those worth least"));
    }
    Ok(())
}

/// Tells why something in a file was not stored.
pub(super) fn failure(place: &str, message: &str, problems: &[Problem]) {
    // These name the place themselves.
    for problem in problems {
        output::note(&format!("error: {problem}"));
    }
    if problems.is_empty() {
        let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
        output::note(&format!("error: {place}{message}"));
    }
}

/// What is certain of a number of stored memories.
pub(super) fn end(stored: usize, durability: Durability) -> &'static str {
    match durability {
        _ if stored == 0 => "; nothing was written",
        Durability::Committed => "; committed",
        Durability::Accepted => "; in memory only",
    }
}
