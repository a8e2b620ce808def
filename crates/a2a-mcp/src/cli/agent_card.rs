//! Agent cards of the A2A protocol, versions 0.3 and 1.0, from and to agent documents.
//!
//! The card is kept whole in `config.a2a_card`, so that what an agent document can't say comes back when it is written
//! again; name, description, version and skills are those of the agent.

use std::collections::BTreeSet;

use a2a_core::agent::{AgentSpec, Capability, ExecutorKind};
use a2a_core::agent_document::DEFAULT_VERSION;
use serde_json::{Map, Value, json};

use super::claude_agent::id_of;

/// Where the configuration of an agent holds the card.
const CONFIG: &str = "a2a_card";

/// Makes an agent of a card. `from` is the URL that it was read from; the agent of a file is looked for where the
/// protocol says that it is: at the root of the host that the card names.
///
/// # Errors
/// Why it is no card.
pub(crate) fn read(card: &Value, from: Option<&str>) -> Result<Value, String> {
    let fields = card.as_object().ok_or("is not an agent card: it is no JSON object")?;
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("is not an agent card: {name} is no text")),
    };
    let name = text("name")?.ok_or("is not an agent card: it has no name")?;
    let description = text("description")?.ok_or("is not an agent card: it has no description")?;
    let id =
        id_of(name).ok_or_else(|| format!("the name {name:?} has nothing that an id may hold: A-Z a-z 0-9 . _ : -"))?;
    let endpoint = endpoint(fields)?;
    let url = match from {
        Some(url) => url.to_owned(),
        None => root(&endpoint).ok_or_else(|| format!("its endpoint {endpoint:?} is no http or https URL"))?,
    };
    let mut capabilities = Vec::new();
    let mut tags = BTreeSet::new();
    let skills = match fields.get("skills") {
        None | Some(Value::Null) => &[],
        Some(Value::Array(skills)) => skills.as_slice(),
        Some(_) => return Err("is not an agent card: skills is no list".to_owned()),
    };
    for (index, skill) in skills.iter().enumerate() {
        let name = skill.get("id").or_else(|| skill.get("name")).and_then(Value::as_str);
        let name = name.ok_or_else(|| format!("skills[{index}] has no id"))?;
        let mut capability = Map::from_iter([("name".to_owned(), json!(name))]);
        if let Some(description) = skill.get("description").filter(|text| text.as_str() != Some("")) {
            capability.insert("description".to_owned(), description.clone());
        }
        if let Some(examples) = skill.get("examples").filter(|examples| !examples.is_null()) {
            capability.insert("example_queries".to_owned(), examples.clone());
        }
        capabilities.push(capability);
        let named = skill.get("tags").and_then(Value::as_array);
        tags.extend(named.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    }
    Ok(json!({
        "id": id,
        "name": name,
        "description": description,
        "version": version(text("version")?),
        "tags": tags,
        "capabilities": capabilities,
        "executor": {"kind": "a2a", "settings": {"url": url}},
        "config": {CONFIG: card},
    }))
}

/// Writes the card of an agent.
///
/// # Errors
/// Why it has none.
pub(crate) fn write(spec: &AgentSpec) -> Result<Value, String> {
    if spec.executor.kind != ExecutorKind::A2a {
        return Err(format!("its executor is {}: only an agent that speaks A2A has an endpoint", spec.executor.kind));
    }
    let unreadable = |error: serde_json::Error| format!("its document can't be read: {error}");
    let config = spec.config.value().map_err(unreadable)?;
    let settings = spec.executor.settings.value().map_err(unreadable)?;
    let url = settings.get("url").and_then(Value::as_str).ok_or("its executor has no url")?;
    let kept = config.get(CONFIG).and_then(Value::as_object);
    let mut card = kept.cloned().unwrap_or_else(|| {
        Map::from_iter([
            (
                "supportedInterfaces".to_owned(),
                json!([{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}]),
            ),
            ("capabilities".to_owned(), json!({})),
            ("defaultInputModes".to_owned(), json!(["text/plain", "application/json"])),
            ("defaultOutputModes".to_owned(), json!(["text/plain", "application/json"])),
        ])
    });
    card.insert("name".to_owned(), json!(spec.name));
    card.insert("description".to_owned(), json!(spec.description));
    if version(card.get("version").and_then(Value::as_str)) != *spec.version {
        card.insert("version".to_owned(), json!(spec.version));
    }
    let known = card.remove("skills");
    let known = known.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let skills: Vec<Value> = spec.capabilities.iter().map(|capability| skill(capability, known, spec)).collect();
    card.insert("skills".to_owned(), Value::from(skills));
    Ok(Value::Object(card))
}

/// The skill for a capability: the one of the card with what has changed since.
fn skill(capability: &Capability, known: &[Value], spec: &AgentSpec) -> Value {
    let named = |skill: &&Value| {
        let id = skill.get("id").or_else(|| skill.get("name"));
        id.and_then(Value::as_str) == Some(&*capability.name)
    };
    let mut skill = known.iter().find(named).and_then(Value::as_object).cloned().unwrap_or_else(|| {
        Map::from_iter([
            ("id".to_owned(), json!(capability.name)),
            ("name".to_owned(), json!(capability.name)),
            ("description".to_owned(), json!("")),
            ("tags".to_owned(), json!(spec.tags)),
        ])
    });
    let has = |skill: &Map<String, Value>, field: &str| skill.get(field).is_some_and(|value| !value.is_null());
    if has(&skill, "description") || !capability.description.is_empty() {
        skill.insert("description".to_owned(), json!(capability.description));
    }
    if has(&skill, "examples") || !capability.example_queries.is_empty() {
        skill.insert("examples".to_owned(), json!(capability.example_queries));
    }
    Value::Object(skill)
}

/// Where the agent is spoken to, in a card of either version.
fn endpoint(card: &Map<String, Value>) -> Result<String, String> {
    let listed = card.get("supportedInterfaces").and_then(Value::as_array);
    let first = listed.and_then(|interfaces| {
        let binding = |i: &&Value| i.get("protocolBinding").and_then(Value::as_str) == Some("JSONRPC");
        interfaces.iter().find(binding).or_else(|| interfaces.first())
    });
    let url = first.and_then(|interface| interface.get("url")).or_else(|| card.get("url")).and_then(Value::as_str);
    let neither = "is not an agent card: it has neither supportedInterfaces (1.0) nor url (0.3)";
    url.map(str::to_owned).ok_or_else(|| neither.to_owned())
}

/// Scheme and host of a URL.
fn root(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())?;
    let scheme = url.strip_suffix(rest)?;
    Some(format!("{scheme}{host}/"))
}

/// The version of a card as a semantic one: cards say 1 or 1.0 too.
pub(crate) fn version(text: Option<&str>) -> String {
    let text = text.unwrap_or(DEFAULT_VERSION).trim();
    let parts: Vec<&str> = text.trim_start_matches('v').split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.len() < 10 && part.bytes().all(|b| b.is_ascii_digit());
    match parts.as_slice() {
        [_] | [_, _] if parts.iter().all(is_number) => {
            let number = |index: usize| parts.get(index).and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
            format!("{}.{}.0", number(0), number(1))
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
