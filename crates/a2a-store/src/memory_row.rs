//! Rows of memories and of what agents have experienced, and their way to the domain and back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use a2a_core::ids::{AgentId, MemoryId, Namespace, RunId, StepName};
use a2a_core::json_text::JsonText;
use a2a_core::memory::experience::{AgentExperience, CapabilityRecord, Personality};
use a2a_core::memory::{Memory, MemorySpec, MemoryType, Provenance, Relation, Trust};
use a2a_core::time::Timestamp;
use diesel::deserialize::Queryable;
use serde::{Deserialize, Serialize};

use crate::agent_row::{Common, StoredJson, StoredTime, stored_key};
use crate::error::StoreError;
use crate::memory_commit::hex;
use crate::store::MemoryVersion;
use crate::stored_text::{BriefText, SharedText};
use crate::workflow_row::stored_hash;

/// The columns of a [`MemoryRow`], of the table `m`.
macro_rules! memory_columns {
    () => {
        "m.id, m.namespace, m.kind, m.content, m.data, m.tags, m.importance, m.decay, m.expires_at, m.key, m.agent, \
         m.session, m.user_name, m.run_id, m.step, m.supersedes, m.relations, m.author, m.trust, m.derived_from, \
         m.content_hash, m.frequency, m.accesses, m.last_accessed, m.superseded_by, m.revision, m.created_at, \
         m.updated_at, m.updated_by, m.removed_at"
    };
}
pub(crate) use memory_columns;

/// The columns of an [`ExperienceRow`], of the table `p`.
macro_rules! experience_columns {
    () => {
        "p.namespace, p.id, p.confidence, p.caution, p.thoroughness, p.creativity, p.cooperation, p.interactions, \
         p.positive, p.negative, p.capabilities, p.revision, p.updated_at"
    };
}
pub(crate) use experience_columns;

/// One row of `memories`, in the order of [`memory_columns`].
#[derive(Debug, Queryable)]
pub(crate) struct MemoryRow {
    id: SharedText,
    namespace: BriefText,
    kind: BriefText,
    content: SharedText,
    data: Option<StoredJson>,
    tags: BriefText,
    importance: f32,
    decay: f32,
    expires_at: Option<StoredTime>,
    key: Option<SharedText>,
    agent: Option<SharedText>,
    session: Option<SharedText>,
    user_name: Option<SharedText>,
    run_id: Option<SharedText>,
    step: Option<SharedText>,
    supersedes: BriefText,
    relations: BriefText,
    author: BriefText,
    trust: BriefText,
    derived_from: BriefText,
    content_hash: Vec<u8>,
    frequency: i64,
    accesses: i64,
    last_accessed: StoredTime,
    superseded_by: Option<SharedText>,
    revision: i64,
    created_at: StoredTime,
    updated_at: StoredTime,
    updated_by: BriefText,
    removed_at: Option<StoredTime>,
}

#[derive(Deserialize)]
struct StoredRelation {
    kind: Arc<str>,
    to: String,
}

/// Most lists are empty, and need no parser.
fn list<'j, T: Deserialize<'j>>(json: &'j str) -> Result<Vec<T>, serde_json::Error> {
    if json == "[]" { Ok(Vec::new()) } else { serde_json::from_str(json) }
}

fn memory_ids(json: &str) -> Result<Box<[MemoryId]>, serde_json::Error> {
    Ok(list::<String>(json)?.into_iter().map(MemoryId::from_stored).collect())
}

fn count(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl MemoryRow {
    pub(crate) fn into_version(self) -> Result<MemoryVersion, StoreError> {
        self.into_version_with(&mut Common::default())
    }

    /// Like [`MemoryRow::into_version`], for one of many rows.
    pub(crate) fn into_version_with(self, common: &mut Common) -> Result<MemoryVersion, StoreError> {
        let removed_at = self.removed_at.map(|time| time.0);
        let id = self.id.0.clone();
        match self.into_memory(common) {
            Ok(memory) => Ok(MemoryVersion { memory: Arc::new(memory), removed_at }),
            Err(reason) => Err(StoreError::Row { table: "memories", key: id.to_string(), reason }),
        }
    }

    fn into_memory(self, common: &mut Common) -> Result<Memory, String> {
        let kind = MemoryType::from_name(&self.kind).ok_or_else(|| format!("kind: {:?}", &*self.kind))?;
        let trust = Trust::from_name(&self.trust).ok_or_else(|| format!("trust: {:?}", &*self.trust))?;
        let wrong = |column: &'static str| move |error: serde_json::Error| format!("{column}: {error}");
        let relations: Vec<StoredRelation> = list(&self.relations).map_err(wrong("relations"))?;
        let tags: Vec<Cow<'_, str>> = list(&self.tags).map_err(wrong("tags"))?;
        let spec = MemorySpec {
            namespace: Namespace::from_stored(common.word(&self.namespace)),
            kind,
            content: self.content.0,
            data: self.data.map(|data| JsonText::from_stored(data.0)),
            tags: tags.iter().map(|tag| common.word(tag)).collect(),
            importance: self.importance,
            decay: self.decay,
            expires_at: self.expires_at.map(|time| time.0),
            key: self.key.map(|text| text.0),
            agent: self.agent.map(|text| AgentId::from_stored(text.0)),
            session: self.session.map(|text| text.0),
            user: self.user_name.map(|text| text.0),
            run: self.run_id.map(|text| RunId::from_stored(text.0)),
            step: self.step.map(|text| StepName::from_stored(text.0)),
            supersedes: memory_ids(&self.supersedes).map_err(wrong("supersedes"))?,
            relations: relations
                .into_iter()
                .map(|relation| Relation { kind: relation.kind, to: MemoryId::from_stored(relation.to) })
                .collect(),
        };
        Ok(Memory {
            id: MemoryId::from_stored(self.id.0),
            spec,
            provenance: Provenance {
                author: common.actor(&self.author),
                trust,
                derived_from: memory_ids(&self.derived_from).map_err(wrong("derived_from"))?,
            },
            content_hash: stored_hash(&self.content_hash),
            frequency: count(self.frequency),
            accesses: count(self.accesses),
            last_accessed: self.last_accessed.0,
            superseded_by: self.superseded_by.map(|text| MemoryId::from_stored(text.0)),
            revision: self.revision,
            created_at: self.created_at.0,
            updated_at: self.updated_at.0,
            updated_by: common.actor(&self.updated_by),
        })
    }
}

/// A row of `memories` as JSON, from which both databases read what they write. Times are milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct MemoryJson<'m> {
    id: &'m MemoryId,
    namespace: &'m Namespace,
    kind: &'static str,
    content: &'m str,
    data: Option<&'m str>,
    tags: String,
    importance: f32,
    decay: f32,
    expires_at: Option<i64>,
    key: Option<&'m str>,
    agent: Option<&'m AgentId>,
    session: Option<&'m str>,
    user_name: Option<&'m str>,
    run_id: Option<&'m RunId>,
    step: Option<&'m StepName>,
    supersedes: String,
    relations: String,
    author: &'m str,
    trust: &'static str,
    derived_from: String,
    /// In hexadecimal digits.
    content_hash: String,
    frequency: u32,
    accesses: u32,
    last_accessed: i64,
    superseded_by: Option<&'m MemoryId>,
    revision: i64,
    created_at: i64,
    updated_at: i64,
    updated_by: &'m str,
    removed_at: Option<i64>,
}

fn text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Task(error.to_string()))
}

impl<'m> MemoryJson<'m> {
    pub(crate) fn of(memory: &'m Memory, removed_at: Option<Timestamp>) -> Result<Self, StoreError> {
        let spec = &memory.spec;
        Ok(Self {
            id: &memory.id,
            namespace: &spec.namespace,
            kind: spec.kind.as_str(),
            content: &spec.content,
            data: spec.data.as_ref().map(JsonText::as_str),
            tags: text(&spec.tags)?,
            importance: spec.importance,
            decay: spec.decay,
            expires_at: spec.expires_at.map(|time| time.0),
            key: spec.key.as_deref(),
            agent: spec.agent.as_ref(),
            session: spec.session.as_deref(),
            user_name: spec.user.as_deref(),
            run_id: spec.run.as_ref(),
            step: spec.step.as_ref(),
            supersedes: text(&spec.supersedes)?,
            relations: text(&spec.relations)?,
            author: memory.provenance.author.as_str(),
            trust: memory.provenance.trust.as_str(),
            derived_from: text(&memory.provenance.derived_from)?,
            content_hash: hex(&memory.content_hash),
            frequency: memory.frequency,
            accesses: memory.accesses,
            last_accessed: memory.last_accessed.0,
            superseded_by: memory.superseded_by.as_ref(),
            revision: memory.revision,
            created_at: memory.created_at.0,
            updated_at: memory.updated_at.0,
            updated_by: memory.updated_by.as_str(),
            removed_at: removed_at.map(|time| time.0),
        })
    }
}

/// One row of `agent_personalities`, in the order of [`experience_columns`].
#[derive(Debug, Queryable)]
pub(crate) struct ExperienceRow {
    namespace: String,
    id: String,
    confidence: f32,
    caution: f32,
    thoroughness: f32,
    creativity: f32,
    cooperation: f32,
    interactions: i64,
    positive: i64,
    negative: i64,
    capabilities: StoredJson,
    revision: i64,
    updated_at: StoredTime,
}

impl ExperienceRow {
    pub(crate) fn into_experience(self) -> Result<AgentExperience, StoreError> {
        let agent = stored_key(self.namespace, self.id);
        let capabilities: BTreeMap<String, CapabilityRecord> =
            serde_json::from_str(&self.capabilities.0).map_err(|error| StoreError::Row {
                table: "agent_personalities",
                key: agent.to_string(),
                reason: format!("capabilities: {error}"),
            })?;
        Ok(AgentExperience {
            agent,
            personality: Personality {
                confidence: self.confidence,
                caution: self.caution,
                thoroughness: self.thoroughness,
                creativity: self.creativity,
                cooperation: self.cooperation,
                interactions: count(self.interactions),
                positive: count(self.positive),
                negative: count(self.negative),
            },
            capabilities: capabilities.into_iter().map(|(name, record)| (Arc::from(name), record)).collect(),
            revision: self.revision,
            updated_at: self.updated_at.0,
        })
    }
}

/// A row of `agent_personalities` as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct ExperienceJson<'e> {
    namespace: &'e Namespace,
    id: &'e AgentId,
    #[serde(flatten)]
    personality: &'e Personality,
    capabilities: String,
    revision: i64,
    updated_at: i64,
}

impl<'e> ExperienceJson<'e> {
    pub(crate) fn of(experience: &'e AgentExperience) -> Result<Self, StoreError> {
        let capabilities: BTreeMap<&str, &CapabilityRecord> =
            experience.capabilities.iter().map(|(name, record)| (&**name, record)).collect();
        Ok(Self {
            namespace: &experience.agent.namespace,
            id: &experience.agent.id,
            personality: &experience.personality,
            capabilities: text(&capabilities)?,
            revision: experience.revision,
            updated_at: experience.updated_at.0,
        })
    }
}
