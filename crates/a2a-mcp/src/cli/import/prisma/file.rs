//! The files `AGENT-memories.json` in which the older system kept memories.

use a2a_core::json;
use a2a_core::memory::experience::Personality;
use a2a_core::time::Timestamp;
use serde_json::{Map, Value, json};

use super::super::super::claude_agent::id_of;
use super::super::super::documents::{Input, Source};
use super::rows::{Fields, traits};

/// How the name of such a file ends.
const END: &str = "-memories.json";
const COUNTED_ANEW: &str = "how often and when a memory was used is counted anew here";
const NOT_KEPT: &str = "an agent has traits here; write what else it prefers into its instructions";

/// What a file holds.
pub(super) struct Memories {
    pub(super) place: String,
    /// Why the file was left out.
    pub(super) skipped: Option<String>,
    pub(super) memories: Vec<Source>,
    pub(super) personality: Option<Result<(String, Personality), String>>,
    /// What has no place here, and why.
    pub(super) left: Vec<(&'static str, &'static str)>,
}

pub(super) fn read(input: Input) -> Memories {
    let Input { place, path, bytes } = input;
    let mut found = Memories { place, skipped: None, memories: Vec::new(), personality: None, left: Vec::new() };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let agent = name.strip_suffix(END).filter(|agent| !agent.is_empty());
    if agent.is_none() && bytes.is_ok() && !path.as_os_str().is_empty() {
        found.skipped = Some(format!("its name does not end in {END}"));
        return found;
    }
    if let Err(reason) = bytes.and_then(|bytes| content(&bytes, agent, &mut found)) {
        let place = found.place.clone();
        found.memories = vec![Source { place, document: Err(reason) }];
    }
    found
}

fn content(bytes: &[u8], agent: Option<&str>, found: &mut Memories) -> Result<(), String> {
    let value = json::parse_strict(bytes).map_err(|error| format!("is not valid JSON: {error}"))?;
    let Value::Object(mut fields) = value else { return Err("must be an object with memories".to_owned()) };
    let Some(Value::Array(memories)) = fields.remove("memories") else {
        return Err("memories must be a list".to_owned());
    };
    for (index, entry) in memories.into_iter().enumerate() {
        let document = memory(entry, agent);
        found.memories.push(Source { place: format!("{}.memories[{index}]", found.place), document });
    }
    if !found.memories.is_empty() {
        found.left.push(("metadata.frequency and lastAccessed of memories, in files", COUNTED_ANEW));
    }
    if let Some(Value::Object(mut personality)) = fields.remove("personality") {
        let agent = agent.map(|agent| id_of(agent).unwrap_or_else(|| agent.to_owned()));
        found.personality = Some(match (agent, personality.remove("traits")) {
            (Some(agent), Some(Value::Object(of_agent))) => {
                let traits = traits(Fields::of(of_agent), ["technical_depth", "user_focus"]);
                traits.map(|personality| (agent, personality))
            }
            (None, _) => Err("whose it is, the name of the file does not tell".to_owned()),
            (_, _) => Err("traits must be an object".to_owned()),
        });
        found.left.push(("verbosity, preferences and learned behaviors of personalities, in files", NOT_KEPT));
    }
    Ok(())
}

/// A memory, as `memory export` would write it.
fn memory(entry: Value, agent: Option<&str>) -> Result<Value, String> {
    let Value::Object(entry) = entry else { return Err("must be an object".to_owned()) };
    let mut entry = Fields::of(entry);
    let content = entry.take("content").ok_or("has no content")?;
    let mut context = Fields::of(entry.object("context")?);
    let mut metadata = Fields::of(entry.object("metadata")?);
    let mut document = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        document.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("id", entry.take("id"));
    put("type", entry.take("type"));
    put("agent", entry.id("agentId")?.or_else(|| id_of(agent?)).map(Value::from));
    put(
        "created_at",
        context.take("timestamp").map(|time| match time.as_i64() {
            Some(ms) => json!(Timestamp(ms)),
            None => time,
        }),
    );
    put("session", context.take("sessionId"));
    put("user", context.take("userId"));
    for (name, old) in [("importance", "importance"), ("decay", "decayRate"), ("tags", "tags")] {
        put(name, metadata.take(old));
    }
    let related = metadata.take("relationships");
    let related = related.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let relations: Vec<Value> = related.iter().map(|to| json!({"kind": "related_to", "to": to})).collect();
    put("relations", (!relations.is_empty()).then(|| relations.into()));
    for counted in ["frequency", "lastAccessed"] {
        metadata.take(counted);
    }
    // Vectors are made anew, by the model that is used here.
    entry.take("embeddings");
    put("content", Some(told(&content).into()));
    let mut data = entry.rest();
    if !content.is_string() {
        data.insert("content".to_owned(), content);
    }
    for (name, rest) in [("context", context.rest()), ("metadata", metadata.rest())] {
        if !rest.is_empty() {
            data.insert(name.to_owned(), rest.into());
        }
    }
    put("data", (!data.is_empty()).then(|| data.into()));
    Ok(document.into())
}

/// The words of a content, which was any JSON there: the field that says most, or all of it.
fn told(content: &Value) -> String {
    if let Value::String(text) = content {
        return text.clone();
    }
    let paths = ["/message/content", "/strategy", "/comments", "/failure_reason", "/error"];
    let told = paths.iter().find_map(|path| content.pointer(path)?.as_str().filter(|text| !text.trim().is_empty()));
    told.map_or_else(|| content.to_string(), str::to_owned)
}
