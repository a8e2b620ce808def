//! The file of the MCP memory server: a graph of entities with observations, and relations between them.

use std::collections::HashMap;

use a2a_core::json_text::JsonText;
use a2a_core::memory::Memory;
use serde_json::{Map, Value, json};

/// Whether a line is of this format.
pub(super) fn is_line(line: &Map<String, Value>) -> bool {
    let has = |fields: &[&str]| fields.iter().all(|field| line.contains_key(*field));
    match line.get("type").and_then(Value::as_str) {
        Some("entity") => has(&["name", "entityType"]),
        Some("relation") => has(&["from", "to", "relationType"]),
        _ => false,
    }
}

/// The memories of one line, each with its place in the line.
///
/// # Errors
/// What is wrong with the line.
pub(super) fn read(line: &Map<String, Value>) -> Result<Vec<(String, Value)>, String> {
    let text = |field: &str| match line.get(field) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(format!("{field} must be a text")),
        None => Err(format!("{field} is missing")),
    };
    match line.get("type").and_then(Value::as_str) {
        Some("entity") => {
            let (name, kind) = (text("name")?, text("entityType")?);
            let observations = match line.get("observations") {
                None => &[],
                Some(Value::Array(observations)) => observations.as_slice(),
                Some(_) => return Err("observations must be a list of texts".to_owned()),
            };
            let mut memories = Vec::with_capacity(observations.len().max(1));
            for (i, observation) in observations.iter().enumerate() {
                let place = format!(".observations[{i}]");
                let Value::String(observation) = observation else {
                    return Err(format!("{} must be a text", place.trim_start_matches('.')));
                };
                let data = json!({"entity": name, "entity_type": kind, "observation": observation});
                memories.push((place, document(&observed(name, observation), data)));
            }
            if memories.is_empty() {
                let data = json!({"entity": name, "entity_type": kind});
                memories.push((String::new(), document(&format!("{name} ({kind})"), data)));
            }
            Ok(memories)
        }
        Some("relation") => {
            let (from, to, kind) = (text("from")?, text("to")?, text("relationType")?);
            let data = json!({"relation": {"from": from, "to": to, "relationType": kind}});
            Ok(vec![(String::new(), document(&related(from, kind, to), data))])
        }
        _ => Err("type must be entity or relation".to_owned()),
    }
}

fn document(content: &str, data: Value) -> Value {
    json!({"type": "semantic", "content": content, "data": data})
}

fn observed(name: &str, observation: &str) -> String {
    format!("{name}: {observation}")
}

fn related(from: &str, kind: &str, to: &str) -> String {
    let text = format!("{from} {kind} {to}");
    // A memory says something.
    if text.trim().is_empty() { "a relation without names".to_owned() } else { text }
}

/// The graph that memories make, in the order in which they are added.
#[derive(Default)]
pub(super) struct Graph {
    entities: Vec<(String, String, Vec<String>)>,
    /// By name and type.
    places: HashMap<(String, String), usize>,
    relations: Vec<Value>,
}

impl Graph {
    /// Adds a memory: as what it was in such a file, or as an entity of its own.
    pub(super) fn add(&mut self, memory: &Memory) {
        let spec = &memory.spec;
        let content = &*spec.content;
        let data = spec.data.as_ref().map(JsonText::value).and_then(Result::ok).unwrap_or_default();
        let field = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let relation = data.get("relation").unwrap_or(&Value::Null);
        let ends = (field(relation, "from"), field(relation, "relationType"), field(relation, "to"));
        if let (Some(from), Some(kind), Some(to)) = ends
            && related(&from, &kind, &to).trim() == content
        {
            self.relations.push(json!({"type": "relation", "from": from, "to": to, "relationType": kind}));
            return;
        }
        if let (Some(name), Some(kind)) = (field(&data, "entity"), field(&data, "entity_type")) {
            let observation = match field(&data, "observation") {
                // The content is trimmed, the observation is as it was.
                Some(observation) if observed(&name, &observation).trim() == content => Some(observation),
                None if format!("{name} ({kind})").trim() == content => None,
                // The content was replaced since.
                _ => Some(content.strip_prefix(&format!("{name}: ")).unwrap_or(content).to_owned()),
            };
            return self.observe(name, kind, observation);
        }
        let name = spec.key.as_deref().unwrap_or(memory.id.as_str());
        self.observe(name.to_owned(), spec.kind.to_string(), Some(content.to_owned()));
    }

    fn observe(&mut self, name: String, kind: String, observation: Option<String>) {
        let place = *self.places.entry((name.clone(), kind.clone())).or_insert_with(|| {
            self.entities.push((name, kind, Vec::new()));
            self.entities.len() - 1
        });
        if let Some((_, _, observations)) = self.entities.get_mut(place) {
            observations.extend(observation);
        }
    }

    /// The lines of the file.
    pub(super) fn lines(self) -> impl Iterator<Item = Value> {
        let entities = self.entities.into_iter().map(|(name, kind, observations)| {
            json!({"type": "entity", "name": name, "entityType": kind, "observations": observations})
        });
        entities.chain(self.relations)
    }
}
