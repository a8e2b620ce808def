//! From rows of the older system to documents of ours.

use a2a_core::json;
use a2a_core::limits::{MEMORY_KEY_CHARS_MAX, TAG_CHARS_MAX};
use a2a_core::memory::experience::{Personality, TRAIT_START};
use a2a_engine::prisma::Row;
use serde_json::{Map, Value, json};

use super::super::super::agent_card;
use super::super::super::claude_agent::id_of;

/// What the queries add to the columns.
const ADDED: [&str; 2] = ["_key", "_position"];
/// Where the configuration of an agent holds what its document has no place for.
const CONFIG: &str = "prisma";
/// Longer descriptions are not made up from those of capabilities.
const DESCRIPTION_CHARS_MAX: usize = 500;

/// The columns of a row that are not taken yet.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn read(row: &Row) -> Result<Self, String> {
        let text = row.json.as_ref().ok_or("is longer than any document may be, and was not read")?;
        match json::parse_strict(text.as_bytes()) {
            Ok(Value::Object(mut fields)) => {
                fields.retain(|name, value| !ADDED.contains(&name.as_str()) && !value.is_null());
                Ok(Self(fields))
            }
            Ok(_) => Err("is no object".to_owned()),
            Err(error) => Err(format!("can't be read: {error}")),
        }
    }

    pub(super) fn of(fields: Map<String, Value>) -> Self {
        Self(fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{name} must be a text")),
        }
    }

    pub(super) fn id(&mut self, name: &str) -> Result<Option<String>, String> {
        // One that has nothing an id may hold is told as it is.
        Ok(self.text(name)?.map(|id| id_of(&id).unwrap_or(id)))
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Map<String, Value>, String> {
        match self.take(name) {
            None => Ok(Map::new()),
            Some(Value::Object(object)) => Ok(object),
            Some(_) => Err(format!("{name} must be an object")),
        }
    }

    /// The first of several columns that is there.
    pub(super) fn first(&mut self, names: &[&str]) -> Option<Value> {
        names.iter().fold(None, |found, name| {
            let value = self.take(name);
            found.or(value)
        })
    }

    /// A point in time, which Prisma keeps in UTC without saying so.
    pub(super) fn time(&mut self, names: &[&str]) -> Option<Value> {
        let time = self.first(names)?;
        let Value::String(text) = &time else { return Some(time) };
        let bare = text.strip_suffix("+00:00").unwrap_or(text).trim_end_matches('Z');
        Some(Value::String(format!("{bare}Z")))
    }

    pub(super) fn rest(self) -> Map<String, Value> {
        self.0
    }
}

/// An agent with its id.
pub(super) fn agent(row: &Row) -> Result<(String, Value), String> {
    let mut fields = Fields::read(row)?;
    let old_id = fields.text("id")?.ok_or("has no id")?;
    let id = id_of(&old_id).ok_or_else(|| format!("the id {old_id:?} has nothing that an id may hold"))?;
    let name = fields.text("name")?.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| id.clone());
    let listed = match fields.take("capabilities") {
        None => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("capabilities must be a list".to_owned()),
    };
    let mut capabilities = Vec::with_capacity(listed.len());
    let mut more = Map::new();
    for (index, listed) in listed.into_iter().enumerate() {
        let Value::Object(listed) = listed else { return Err(format!("capabilities[{index}] must be an object")) };
        let (capability, rest) = capability(Fields::of(listed));
        if !rest.is_empty() {
            let name = capability.get("name").and_then(Value::as_str).unwrap_or_default();
            more.insert(name.to_owned(), Value::Object(rest));
        }
        capabilities.push(Value::Object(capability));
    }
    let mut config = fields.object("config")?;
    let description = match (fields.text("description")?, config.get("description").and_then(Value::as_str)) {
        (Some(text), _) if !text.trim().is_empty() => text,
        (_, Some(text)) if !text.trim().is_empty() => text.to_owned(),
        _ => described(&name, &capabilities),
    };
    let mut document = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        document.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("version", Some(agent_card::version(fields.text("version")?.as_deref()).into()));
    put("category", fields.text("category")?.filter(|text| !text.trim().is_empty()).map(Value::from));
    put("tags", fields.take("tags"));
    put("enabled", fields.take("enabled"));
    put("id", Some(id.as_str().into()));
    put("name", Some(name.into()));
    put("description", Some(description.into()));
    put("capabilities", Some(capabilities.into()));
    // What is said of the row itself is said here anew.
    fields.take("updatedAt");
    let mut kept = Map::new();
    kept.extend(fields.time(&["deployedAt"]).map(|time| ("deployed_at".to_owned(), time)));
    kept.extend(fields.time(&["createdAt"]).map(|time| ("created_at".to_owned(), time)));
    if old_id != id {
        kept.insert("id".to_owned(), old_id.into());
    }
    if !more.is_empty() {
        kept.insert("capabilities".to_owned(), more.into());
    }
    kept.extend(fields.rest());
    if config.insert(CONFIG.to_owned(), kept.into()).is_some() {
        return Err(format!("config has a field {CONFIG}, where what has no other place is kept"));
    }
    put("config", Some(config.into()));
    Ok((id, document.into()))
}

fn capability(mut fields: Fields) -> (Map<String, Value>, Map<String, Value>) {
    let names = [
        ("name", "name"),
        ("description", "description"),
        ("inputSchema", "input_schema"),
        ("outputSchema", "output_schema"),
        ("examples", "example_queries"),
    ];
    let taken = names.iter().filter_map(|(old, new)| Some(((*new).to_owned(), fields.take(old)?))).collect();
    (taken, fields.rest())
}

/// What an agent is for, as far as its capabilities tell: that system had no descriptions of agents.
fn described(name: &str, capabilities: &[Value]) -> String {
    let told = capabilities.iter().filter_map(|capability| {
        let text = |field: &str| capability.get(field).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        text("description").or_else(|| text("name"))
    });
    let told: Vec<&str> = told.map(|text| text.trim().trim_end_matches('.')).collect();
    let whole = if told.is_empty() { name.to_owned() } else { format!("{name}: {}.", told.join("; ")) };
    whole.chars().take(DESCRIPTION_CHARS_MAX).collect()
}

/// A memory, as `memory export` would write it.
pub(super) fn memory(row: &Row) -> Result<Value, String> {
    let mut fields = Fields::read(row)?;
    let mut context = match fields.take("context") {
        Some(Value::Object(context)) => Fields::of(context),
        Some(other) => Fields::of(Map::from_iter([("context".to_owned(), other)])),
        None => Fields::of(Map::new()),
    };
    let mut document = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        document.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("content", Some(fields.take("content").ok_or("has no content")?));
    put("type", fields.text("type")?.map(|kind| kind.to_lowercase().into()));
    put("agent", fields.id("agentId")?.map(Value::from));
    put("importance", fields.take("importance"));
    put("decay", fields.first(&["decay", "decayRate"]));
    put("tags", fields.take("tags"));
    put("created_at", fields.time(&["timestamp", "createdAt"]));
    put("expires_at", fields.time(&["expiresAt"]));
    for (name, old) in [("session", "sessionId"), ("user", "userId")] {
        let column = fields.take(old);
        put(name, column.or_else(|| context.take(old)));
    }
    for stamp in ["id", "updatedAt"] {
        fields.take(stamp);
    }
    let mut data = fields.rest();
    let context = context.rest();
    if !context.is_empty() {
        data.insert("context".to_owned(), context.into());
    }
    put("data", (!data.is_empty()).then(|| data.into()));
    Ok(document.into())
}

/// The memory of how an agent used a tool, and how many calls it stands for.
pub(super) fn tool_usage(row: &Row) -> Result<(u64, Value), String> {
    let mut fields = Fields::read(row)?;
    let agent = fields.id("agentId")?.ok_or("has no agentId")?;
    let tool = fields.text("toolName")?.ok_or("has no toolName")?;
    let mut number = |name: &str| fields.take(name).as_ref().and_then(Value::as_u64);
    let (calls, succeeded) = (number("calls").unwrap_or(0), number("succeeded").unwrap_or(0));
    let (average_ms, slowest_ms) = (number("averageMs"), number("slowestMs"));
    let last = fields.time(&["last"]);
    let times =
        average_ms.zip(slowest_ms).map(|(average, slowest)| format!("; {average} ms on average, {slowest} ms at most"));
    let content = format!(
        "Tool {tool} was called {calls} times: {succeeded} worked, {} failed{}",
        calls.saturating_sub(succeeded),
        times.unwrap_or_default()
    );
    let mut document = json!({
        "type": "tool_usage",
        "content": content,
        "agent": agent,
        "data": {"tool": tool, "calls": calls, "succeeded": succeeded, "average_ms": average_ms, "slowest_ms": slowest_ms},
    });
    let (key, tag) = (format!("tool-usage:{tool}"), format!("tool:{tool}"));
    if let Some(document) = document.as_object_mut() {
        document.extend(last.map(|last| ("created_at".to_owned(), last)));
        if key.chars().count() <= MEMORY_KEY_CHARS_MAX {
            document.insert("key".to_owned(), key.into());
        }
        if tag.chars().count() <= TAG_CHARS_MAX {
            document.insert("tags".to_owned(), json!([tag]));
        }
    }
    Ok((calls, document))
}

/// A personality with the id of its agent.
pub(super) fn personality(row: &Row) -> Result<(String, Personality), String> {
    let mut fields = Fields::read(row)?;
    let agent = fields.id("agentId")?.ok_or("has no agentId")?;
    let count = |fields: &mut Fields, name: &str| match fields.take(name) {
        None => Ok(0),
        Some(count) => {
            let count = count.as_u64().and_then(|count| u32::try_from(count).ok());
            count.ok_or_else(|| format!("{name} must be a whole number from 0"))
        }
    };
    let interactions = count(&mut fields, "totalInteractions")?;
    let positive = count(&mut fields, "positiveCount")?;
    let negative = count(&mut fields, "negativeCount")?;
    Ok((agent, Personality { interactions, positive, negative, ..traits(fields, ["technicalDepth", "userFocus"])? }))
}

/// The traits that have one here; what that system called technical depth and user focus was spelled in two ways.
pub(super) fn traits(mut fields: Fields, [depth, focus]: [&str; 2]) -> Result<Personality, String> {
    let mut share = |name: &str| match fields.take(name) {
        None => Ok(TRAIT_START),
        // Single precision is what the database keeps.
        #[allow(clippy::cast_possible_truncation, reason = "it lies between 0 and 1")]
        Some(share) => match share.as_f64().filter(|share| (0.0..=1.0).contains(share)) {
            Some(share) => Ok(share as f32),
            None => Err(format!("{name} must be a number from 0 to 1")),
        },
    };
    Ok(Personality {
        creativity: share("creativity")?,
        caution: share("cautiousness")?,
        thoroughness: share(depth)?,
        cooperation: share(focus)?,
        ..Personality::default()
    })
}
