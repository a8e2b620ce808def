//! From JSON that a caller sends to a [`MemorySpec`], and from a patch to a new document.

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::{MemorySpec, MemoryType, Relation};
use crate::agent_document::{read_id, read_json_object, read_tags};
use crate::error::Problems;
use crate::ids::{AgentId, MemoryId, Namespace, RunId, StepName};
use crate::input::{ObjectReader, check_document_size, read_object};
use crate::limits;
use crate::time::Timestamp;

/// Longest life of a memory that may be asked for in seconds: ten years.
const EXPIRES_IN_S_MAX: i64 = 10 * 366 * 24 * 60 * 60;

/// The fields of a memory document. This type exists for its JSON Schema, whose every word a model reads in every
/// session; a test holds it against the reader.
#[derive(Debug, JsonSchema)]
#[schemars(inline, deny_unknown_fields, description = "")]
#[allow(missing_docs, reason = "the names say it, and every word here is sent to the model")]
pub struct MemoryDocument {
    /// One thing, understandable alone. No secrets.
    pub content: String,
    /// semantic (default), procedural, episodic, preference, conversation or tool_usage
    #[schemars(default, rename = "type")]
    pub kind: String,
    #[schemars(default)]
    pub data: Map<String, Value>,
    #[schemars(default)]
    pub tags: Vec<String>,
    /// 0 to 1
    #[schemars(default)]
    pub importance: f64,
    /// Strength lost a day, 0 to 1
    #[schemars(default)]
    pub decay: f64,
    /// RFC 3339
    #[schemars(default)]
    pub expires_at: String,
    /// Instead of expires_at.
    #[schemars(default)]
    pub expires_in_s: u64,
    /// Names the fact, such as deploy-day: a newer one replaces it.
    #[schemars(default)]
    pub key: String,
    /// Ids that it replaces.
    #[schemars(default)]
    pub supersedes: Vec<String>,
    #[schemars(default)]
    pub relations: Vec<RelationDocument>,
    #[schemars(default)]
    pub agent: String,
    #[schemars(default)]
    pub session: String,
    #[schemars(default)]
    pub user: String,
    #[schemars(default)]
    pub run: String,
    #[schemars(default)]
    pub step: String,
    #[schemars(default)]
    pub namespace: String,
}

/// A relation in a memory document.
#[derive(Debug, JsonSchema)]
#[schemars(inline, deny_unknown_fields, description = "")]
#[allow(missing_docs, reason = "the names say it, and every word here is sent to the model")]
pub struct RelationDocument {
    /// Such as caused_by
    pub kind: String,
    pub to: String,
}

impl MemorySpec {
    /// Reads a whole document; what it leaves out has its default. `path` is where the document stands in the
    /// caller's input, `namespace` the one to use when the document names none, `now` what `expires_in_s` counts from.
    ///
    /// # Errors
    /// All problems of the document.
    pub fn from_document(value: &Value, path: &str, namespace: &Namespace, now: Timestamp) -> Result<Self, Problems> {
        let spec = read_object(value, path, |r| {
            let named = read_id(r, "namespace", Namespace::parse);
            let content = read_content(r);
            let kind = r.choice("type", &MemoryType::ALL).unwrap_or(MemoryType::Semantic);
            let data = read_json_object(r, "data");
            let tags = read_tags(r);
            let importance = read_share(r, "importance");
            let decay = read_share(r, "decay");
            let expires_at = read_expiry(r, now);
            let key = read_name(r, "key");
            let supersedes = read_ids(r, "supersedes");
            let relations = read_relations(r);
            let agent = read_id(r, "agent", AgentId::parse);
            let session = read_name(r, "session");
            let user = read_name(r, "user");
            let run = read_id(r, "run", RunId::parse);
            let step = read_id(r, "step", StepName::parse);
            if step.is_some() && run.is_none() && !r.has("run") {
                r.problem("step", "is a step of no run; give `run` too, or leave it out");
            }
            Some(Self {
                namespace: named.unwrap_or_else(|| namespace.clone()),
                kind,
                content: content?,
                data,
                tags: tags.unwrap_or_default(),
                importance: importance.unwrap_or_else(|| kind.default_importance()),
                decay: decay.unwrap_or_else(|| kind.default_decay()),
                expires_at: expires_at.flatten(),
                key,
                agent,
                session,
                user,
                run,
                step,
                supersedes: supersedes.unwrap_or_default(),
                relations: relations.unwrap_or_default(),
            })
        })?;
        spec.check_size(path)?;
        Ok(spec)
    }

    /// Applies a patch: the fields that are there replace those of the document, null clears one that may be absent.
    /// What a memory says can't be changed: a new memory supersedes it, so that the history stays true.
    ///
    /// # Errors
    /// All problems of the patch.
    pub fn patched(&self, patch: &Value, path: &str, now: Timestamp) -> Result<Self, Problems> {
        let spec = read_object(patch, path, |r| {
            let mut spec = self.clone();
            for fixed in ["content", "type", "data", "key", "agent", "session", "user", "run", "step", "supersedes"] {
                if r.nullable(fixed).is_some() {
                    r.problem(fixed, "can't be changed; store a new memory that supersedes this one");
                }
            }
            if r.nullable("namespace").is_some() {
                r.problem("namespace", "can't be changed; export the memory and import it there");
            }
            if let Some(tags) = read_tags(r) {
                spec.tags = tags;
            }
            if let Some(importance) = read_share(r, "importance") {
                spec.importance = importance;
            }
            if let Some(decay) = read_share(r, "decay") {
                spec.decay = decay;
            }
            if let Some(expires_at) = read_expiry(r, now) {
                spec.expires_at = expires_at;
            }
            if let Some(relations) = read_relations(r) {
                spec.relations = relations;
            }
            Some(spec)
        })?;
        spec.check_size(path)?;
        Ok(spec)
    }

    fn check_size(&self, path: &str) -> Result<(), Problems> {
        check_document_size(self.to_json(), path, "data")
    }
}

fn read_content(r: &mut ObjectReader<'_, '_>) -> Option<Arc<str>> {
    let content = r.text_bytes("content", limits::MEMORY_CONTENT_BYTES_MAX);
    if !r.has("content") {
        r.problem("content", "is required: one fact, decision, preference or event, understandable alone");
        return None;
    }
    let content = content?.trim();
    if content.is_empty() {
        r.problem("content", "is empty: write what is to be remembered");
        return None;
    }
    Some(content.into())
}

fn read_share(r: &mut ObjectReader<'_, '_>, name: &'static str) -> Option<f32> {
    // Single precision is what the database keeps; more digits would come back changed.
    r.number(name, 0.0..=1.0).map(|number| number as f32)
}

/// The expiry that a document or a patch asks for: `Some(None)` when null clears it.
fn read_expiry(r: &mut ObjectReader<'_, '_>, now: Timestamp) -> Option<Option<Timestamp>> {
    let cleared = r.is_null("expires_at");
    let at = r.text("expires_at");
    let in_s = r.integer("expires_in_s", 1..=EXPIRES_IN_S_MAX);
    if at.is_some() && in_s.is_some() {
        r.problem("expires_in_s", "is given beside expires_at; use one of both");
        return None;
    }
    if let Some(in_s) = in_s {
        return Some(Some(Timestamp(now.0.saturating_add(in_s * 1_000))));
    }
    let Some(at) = at else { return cleared.then_some(None) };
    let parsed = Timestamp::parse(at);
    match parsed {
        None => r.problem("expires_at", "is not a time; use RFC 3339 in UTC such as \"2027-01-31T18:00:00Z\""),
        Some(at) if at <= now => r.problem("expires_at", format!("has passed: it is {now}")),
        Some(_) => return Some(parsed),
    }
    None
}

fn read_name(r: &mut ObjectReader<'_, '_>, name: &'static str) -> Option<Arc<str>> {
    let text = r.text_chars(name, limits::MEMORY_KEY_CHARS_MAX)?.trim();
    if text.is_empty() {
        r.problem(name, "is empty; leave it out or give it a value");
        return None;
    }
    if text.chars().any(char::is_control) {
        r.problem(name, "holds a control character; remove it");
        return None;
    }
    Some(text.into())
}

fn read_ids(r: &mut ObjectReader<'_, '_>, name: &'static str) -> Option<Box<[MemoryId]>> {
    let texts = r.texts(name, limits::MEMORY_RELATIONS_MAX, limits::ID_CHARS_MAX)?;
    let mut ids = BTreeSet::new();
    for (i, text) in texts.iter().enumerate() {
        match MemoryId::parse(text) {
            Ok(id) => {
                ids.insert(id);
            }
            Err(error) => r.problem(&format!("{name}[{i}]"), error.to_string()),
        }
    }
    Some(ids.into_iter().collect())
}

fn read_relations(r: &mut ObjectReader<'_, '_>) -> Option<Box<[Relation]>> {
    let list = r.list("relations", limits::MEMORY_RELATIONS_MAX)?;
    let mut relations = BTreeSet::new();
    for (i, item) in list.iter().enumerate() {
        let path = r.path_of(&format!("relations[{i}]"));
        let Some(mut inner) = ObjectReader::open(item, path, r.problems()) else { continue };
        let kind = inner.text_chars("kind", limits::RELATION_KIND_CHARS_MAX);
        if !inner.has("kind") || kind.is_some_and(|kind| kind.trim().is_empty()) {
            inner.problem("kind", "is required, such as \"caused_by\"");
        }
        let to = read_id(&mut inner, "to", MemoryId::parse);
        if !inner.has("to") {
            inner.problem("to", "is required: the id of a memory");
        }
        if let (Some(kind), Some(to)) = (kind, to) {
            relations.insert(Relation { kind: kind.trim().into(), to });
        }
        inner.finish();
    }
    Some(relations.into_iter().collect())
}
