//! From a line of a file to memory documents.

use a2a_core::json;
use a2a_core::time::Timestamp;
use serde_json::{Map, Value};

use super::super::{Format, server_memory};

/// What the server stamps, and the namespace, which is that of the command.
const STAMPED: [&str; 11] = [
    "id",
    "namespace",
    "provenance",
    "frequency",
    "accesses",
    "last_accessed",
    "superseded_by",
    "revision",
    "created_at",
    "updated_at",
    "updated_by",
];

/// A memory of a line.
#[derive(Debug)]
pub(super) struct Read {
    /// What follows the number of the line in error texts.
    pub(super) place: String,
    pub(super) document: Value,
    /// When it was told, if the file says so.
    pub(super) created_at: Option<Timestamp>,
    /// Its id where it comes from.
    pub(super) old_id: Option<String>,
    /// The ids that it supersedes, and the memories that it has to do with: of the place where it comes from.
    pub(super) supersedes: Vec<String>,
    pub(super) relations: Vec<(String, String)>,
    /// Whether another one took its place there.
    pub(super) is_superseded: bool,
}

/// What is in a line.
#[derive(Debug)]
pub(super) enum Content {
    Memories(Vec<Read>),
    /// Nothing to store, and why.
    Skipped(String),
}

/// Reads the JSON object of a line.
///
/// # Errors
/// Why it is none.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    match json::parse_strict(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("is not a JSON object".to_owned()),
        Err(error) => Err(format!("is not valid JSON: {error}")),
    }
}

/// The format that a line is of, if it is one.
pub(super) fn format_of(line: &Map<String, Value>) -> Option<Format> {
    if server_memory::is_line(line) {
        return Some(Format::ServerMemory);
    }
    line.contains_key("content").then_some(Format::Jsonl)
}

/// Reads the memories of a line. `now` tells what has expired.
///
/// # Errors
/// What is wrong with the line as a whole.
pub(super) fn memories(line: Map<String, Value>, format: Format, now: Timestamp) -> Result<Content, String> {
    match format {
        Format::Jsonl => memory(line, now),
        Format::ServerMemory => {
            let read = |(place, document)| Read {
                place,
                document,
                created_at: None,
                old_id: None,
                supersedes: Vec::new(),
                relations: Vec::new(),
                is_superseded: false,
            };
            Ok(Content::Memories(server_memory::read(&line)?.into_iter().map(read).collect()))
        }
    }
}

fn memory(mut line: Map<String, Value>, now: Timestamp) -> Result<Content, String> {
    let time = |field: &str| match line.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_str().and_then(Timestamp::parse) {
            Some(time) => Ok(Some(time)),
            None => Err(format!("{field} is not a time in RFC 3339")),
        },
    };
    // Nothing is told in the future; a clock elsewhere may have been wrong.
    let created_at = time("created_at")?.filter(|at| *at <= now);
    if let Some(at) = time("expires_at")?.filter(|at| *at <= now) {
        return Ok(Content::Skipped(format!("has expired at {at}")));
    }
    let old_id = line.get("id").and_then(Value::as_str).map(str::to_owned);
    let is_superseded = line.get("superseded_by").is_some_and(|id| !id.is_null());
    for field in STAMPED {
        line.remove(field);
    }
    let supersedes = ids(line.remove("supersedes"))?;
    let relations = relations(line.remove("relations"))?;
    let document = Value::Object(line);
    let read = Read { place: String::new(), document, created_at, old_id, supersedes, relations, is_superseded };
    Ok(Content::Memories(vec![read]))
}

fn list(value: Option<Value>) -> Option<Vec<Value>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(items)) => Some(items),
        Some(_) => None,
    }
}

fn ids(value: Option<Value>) -> Result<Vec<String>, String> {
    let wrong = || "supersedes must be a list of ids".to_owned();
    let id = |item: &Value| item.as_str().map(str::to_owned).ok_or_else(wrong);
    list(value).ok_or_else(wrong)?.iter().map(id).collect()
}

fn relations(value: Option<Value>) -> Result<Vec<(String, String)>, String> {
    let wrong = || "relations must be a list of objects with kind and to".to_owned();
    let relation = |item: &Value| {
        let text = |field: &str| item.get(field).and_then(Value::as_str).map(str::to_owned);
        text("kind").zip(text("to")).ok_or_else(wrong)
    };
    list(value).ok_or_else(wrong)?.iter().map(relation).collect()
}

#[cfg(test)]
mod tests {
    use a2a_core::ids::{Actor, MemoryId, Namespace};
    use a2a_core::memory::{Memory, MemorySpec, MemoryType, Provenance, Trust};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::cli::yaml::tests::{any_object, any_text, any_words, exported};
    use crate::cli::{export, yaml};

    /// The middle of 2026.
    const NOW: Timestamp = Timestamp(1_782_000_000_000);
    const YEAR_MS: i64 = 366 * 86_400_000;

    prop_compose! {
        fn any_document()(
            content in any_words(),
            kind in prop::sample::select(MemoryType::ALL.map(|(name, _)| name).to_vec()),
            data in prop::option::of(any_object()),
            tags in prop::collection::vec("[a-z#: ]{0,8}", 0..4),
            shares in prop::option::of((0.0..=1.0f64, 0.0..=1.0f64)),
            expires_in_ms in prop::option::of(1..YEAR_MS),
            names in prop::array::uniform3(prop::option::of(any_words())),
            agent in prop::option::of("[A-Za-z0-9._:-]{1,12}"),
            step in prop::option::of("[a-z]{1,6}"),
        ) -> Value {
            let [key, session, user] = names;
            let mut document = json!({
                "content": content, "type": kind, "data": data, "tags": tags, "key": key, "session": session,
                "user": user, "agent": agent, "run": step.as_ref().map(|_| "run-1"), "step": step,
                "importance": shares.map(|(importance, _)| importance), "decay": shares.map(|(_, decay)| decay),
                "expires_at": expires_in_ms.map(|ms| Timestamp(NOW.0 + ms)),
            });
            document.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            document
        }
    }

    fn texts(ids: &[MemoryId]) -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    proptest! {
        #[test]
        fn an_exported_memory_reads_back_the_same(
            document in any_document(),
            ids in prop::collection::btree_set("mem-[a-z]{4}", 0..4),
            relation in prop::option::of(any_text()),
            age_ms in 0..YEAR_MS,
        ) {
            let read = |document: &Value| MemorySpec::from_document(document, "", &Namespace::default(), NOW);
            let Ok(spec) = read(&document) else { return Err(TestCaseError::reject("not valid")) };
            let ids: Vec<MemoryId> = ids.iter().map(|id| MemoryId::from_stored(id.as_str())).collect();
            let related = relation.as_deref().map(str::trim).filter(|kind| !kind.is_empty()).zip(ids.first());
            let relations = related.map(|(kind, to)| a2a_core::memory::Relation { kind: kind.into(), to: to.clone() });
            let memory = Memory {
                id: MemoryId::from_stored("mem-self"),
                spec: MemorySpec {
                    supersedes: ids.clone().into(),
                    relations: relations.iter().cloned().collect(),
                    ..spec.clone()
                },
                provenance: Provenance { author: Actor::new("me"), trust: Trust::User, derived_from: ids.clone().into() },
                content_hash: spec.content_hash(),
                frequency: 3,
                accesses: 2,
                last_accessed: NOW,
                superseded_by: None,
                revision: 7,
                created_at: Timestamp(NOW.0 - age_ms),
                updated_at: NOW,
                updated_by: Actor::new("me"),
            };
            let written = export::documents::document(&memory).unwrap();
            for document in exported(&written, &yaml::memory(&written)) {
                let Value::Object(line) = document else { panic!("{document}") };
                let Ok(Content::Memories(mut memories)) = memories(line, Format::Jsonl, NOW) else { panic!("{memory:?}") };
                let back = memories.pop().unwrap();
                prop_assert_eq!(&read(&back.document).unwrap(), &spec);
                prop_assert_eq!(back.created_at, Some(memory.created_at));
                prop_assert_eq!(back.old_id.as_deref(), Some("mem-self"));
                prop_assert_eq!(&back.supersedes, &texts(&ids));
                let relations: Vec<_> = relations.iter().map(|r| (r.kind.to_string(), r.to.to_string())).collect();
                prop_assert_eq!(&back.relations, &relations);
            }
        }
    }
}
