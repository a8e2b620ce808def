//! Reading memories: by question, by id, by session, and what is known of a capability. All of it comes from memory, but
//! for what was forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::embedding::ModelVector;
use a2a_core::ids::{AgentId, AgentKey, MemoryId, Namespace};
use a2a_core::memory::experience::{AgentExperience, CapabilityRecord};
use a2a_core::memory::learning::{FAILED_TAG, TOOL_TAG, WORKED_TAG, capability_tag};
use a2a_core::memory::recall::{
    MemoryFilters, MemoryList, MemoryListQuery, RecallPage, RecallQuery, TurnPage, TurnQuery,
};
use a2a_core::memory::{Memory, MemorySpec, MemoryType};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::memories::now;
use super::{Hub, Running};
use crate::error::HubError;

/// Ids that look like one that is not there.
const NEAREST_MAX: usize = 5;
/// A text counts as just recalled for so long.
const RECALLED_WITHIN: Duration = Duration::from_secs(600);
/// Recalled texts that are remembered.
const RECALLED_MAX: usize = 512;
/// Memories of each kind in suggestions.
const SUGGESTED_MAX: usize = 5;
/// Memories that tell which tools were used, at most.
const TOOL_MEMORIES_MAX: usize = 200;

/// The texts that this process has recalled of late. A client that reads a memory likes to store it again in other words
/// or as its own; in the same words it tells nothing new.
#[derive(Debug, Default)]
pub(super) struct RecalledTexts {
    /// Hashes of the words, with the memory and the time. Bounded, because a lookup goes through all of it.
    texts: Mutex<VecDeque<(u64, MemoryId, Instant)>>,
}

impl RecalledTexts {
    fn note<'m>(&self, memories: impl Iterator<Item = &'m Arc<Memory>>) {
        let now = Instant::now();
        let mut texts = self.texts.lock();
        for memory in memories {
            if texts.len() == RECALLED_MAX {
                texts.pop_front();
            }
            texts.push_back((words_hash(&memory.spec), memory.id.clone(), now));
        }
    }

    fn find(&self, spec: &MemorySpec) -> Option<MemoryId> {
        let wanted = words_hash(spec);
        let texts = self.texts.lock();
        let mut newest_first = texts.iter().rev().take_while(|(_, _, at)| at.elapsed() < RECALLED_WITHIN);
        newest_first.find(|(hash, _, _)| *hash == wanted).map(|(_, id, _)| id.clone())
    }
}

/// Two texts with the same hash have the same words in the same namespace, however they are written and set.
fn words_hash(spec: &MemorySpec) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(spec.namespace.as_str().as_bytes());
    for word in spec.content.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        hasher.write(word.to_lowercase().as_bytes());
        // So that words can't run into each other.
        hasher.write_u8(0);
    }
    hasher.finish()
}

/// What is known of the work on a capability.
#[derive(Debug, Clone, Default)]
pub struct Suggestions {
    /// The agents that have worked on it, the most reliable first.
    pub agents: Vec<(AgentId, CapabilityRecord, f32)>,
    /// What worked, the newest first.
    pub worked: MemoryMatches,
    /// What failed, the newest first.
    pub failed: MemoryMatches,
    /// The tools that were used, with how often, the most used first.
    pub tools: Vec<(String, u64)>,
}

/// Some memories of many.
#[derive(Debug, Clone, Default)]
pub struct MemoryMatches {
    /// The first of them.
    pub memories: Vec<Arc<Memory>>,
    /// How many there are.
    pub total: usize,
}

impl Hub {
    /// Waits until memories are loaded, for as long as a call may wait.
    pub(super) async fn remembering(&self) -> Result<&Running, HubError> {
        self.running_and(self.inner.memories.loaded(), "the memories are still being loaded").await
    }

    /// Waits until recall knows every memory, for as long as a call may wait.
    async fn recalling(&self) -> Result<&Running, HubError> {
        self.running_and(self.inner.memories.searchable(), "the words of the memories are still being read").await
    }

    /// Whether recall knows every memory within a time.
    pub(super) async fn recalls_within(&self, limit: Duration) -> bool {
        matches!(timeout(limit, self.inner.memories.searchable().wait_for(|is| *is)).await, Ok(Ok(_)))
    }

    /// Recalls what fits a question best, the best first, and notes that it was recalled.
    ///
    /// # Errors
    /// When the query is not valid, or the words of the memories have not been read in time.
    pub async fn memory_recall(&self, query: &RecallQuery) -> Result<RecallPage, HubError> {
        let running = self.recalling().await?;
        let page = match self.meaning(&query.query).await {
            None => self.inner.memories.read().recall(query)?,
            meaning => self.inner.memories.read().recall(&RecallQuery { meaning, ..query.clone() })?,
        };
        self.recalled(running, page.hits.iter().map(|hit| &hit.memory));
        Ok(page)
    }

    /// What the model of the operator makes of a question, if there is one that has read memories, and it answers in time.
    pub(super) async fn meaning(&self, question: &str) -> Option<Arc<ModelVector>> {
        let embeddings = self.inner.embeddings.as_ref()?;
        // Whoever writes an id means that memory and nothing like it.
        if question.starts_with(MemoryId::PREFIX) || self.inner.memories.read().model_vectors() == 0 {
            return None;
        }
        embeddings.question(question).await
    }

    fn recalled<'m>(&self, running: &Running, memories: impl Iterator<Item = &'m Arc<Memory>> + Clone) {
        self.inner.recalled.note(memories.clone());
        running.memory_writer.touched(memories.map(|memory| memory.id.clone()));
    }

    /// The memory whose words are those of a text and were recalled a moment ago.
    pub(super) fn just_recalled(&self, spec: &MemorySpec) -> Option<Arc<Memory>> {
        // A turn of a conversation was said, whatever was recalled before it.
        if !spec.supersedes.is_empty() || spec.data.is_some() || spec.kind == MemoryType::Conversation {
            return None;
        }
        let id = self.inner.recalled.find(spec)?;
        let memory = self.inner.memories.read().get(id.as_str()).cloned()?;
        let is_live = memory.superseded_by.is_none() && !memory.is_expired(now());
        // Another key says that it is meant as something else.
        (is_live && (spec.key.is_none() || memory.spec.key == spec.key)).then_some(memory)
    }

    /// Memories by filters, the newest first.
    ///
    /// # Errors
    /// When the query is not valid.
    pub async fn memory_list(&self, query: &MemoryListQuery) -> Result<MemoryList, HubError> {
        self.remembering().await?;
        Ok(self.inner.memories.read().list(query)?)
    }

    /// The turns of a session.
    ///
    /// # Errors
    /// When the query is not valid.
    pub async fn memory_turns(&self, query: &TurnQuery) -> Result<TurnPage, HubError> {
        self.remembering().await?;
        Ok(self.inner.memories.read().turns(query)?)
    }

    /// One memory by its id or the unique start of it, and notes that it was recalled.
    ///
    /// # Errors
    /// When there is none, or several.
    pub async fn memory_get(&self, namespace: Option<&Namespace>, id: &str) -> Result<Arc<Memory>, HubError> {
        let running = self.remembering().await?;
        let memory = self.memory_resolve(Some(&self.namespace(namespace)), id)?;
        self.recalled(running, std::iter::once(&memory));
        Ok(memory)
    }

    pub(super) fn memory_resolve(&self, namespace: Option<&Namespace>, id: &str) -> Result<Arc<Memory>, HubError> {
        let index = self.inner.memories.read();
        let is_here = |memory: &Memory| namespace.is_none_or(|namespace| memory.spec.namespace == *namespace);
        if let Some(memory) = index.get(id).filter(|memory| is_here(memory)) {
            return Ok(Arc::clone(memory));
        }
        let mut begin_so: Vec<&Arc<Memory>> = Vec::new();
        // `mem-` alone is the start of every id.
        if id.len() > MemoryId::PREFIX.len() {
            let ids = index.ids_with_prefix(id, NEAREST_MAX);
            begin_so = ids.iter().filter_map(|id| index.get(id.as_str())).filter(|memory| is_here(memory)).collect();
        }
        match begin_so.as_slice() {
            [only] => Ok(Arc::clone(only)),
            [] => Err(self.no_memory(id)),
            several => Err(HubError::Ambiguous {
                entity: "memory",
                id: id.to_owned(),
                candidates: several.iter().map(|memory| memory.id.to_string()).collect(),
            }),
        }
    }

    pub(super) fn no_memory(&self, id: &str) -> HubError {
        let id = id.chars().take(a2a_core::limits::ID_CHARS_MAX).collect();
        HubError::NotFound { entity: "memory", id, nearest: Vec::new() }
    }

    /// What is known of the work on a capability: who does it well, what worked, what failed, which tools were used.
    ///
    /// # Errors
    /// When the memories are not loaded.
    pub async fn memory_suggestions(
        &self,
        namespace: Option<&Namespace>,
        capability: &str,
    ) -> Result<Suggestions, HubError> {
        self.remembering().await?;
        let namespace = self.namespace(namespace);
        let now = now();
        let mut agents: Vec<(AgentId, CapabilityRecord, f32)> = self
            .inner
            .memories
            .experiences()
            .values()
            .filter(|experience| experience.agent.namespace == namespace)
            .filter_map(|experience| {
                let record = experience.capabilities.get(capability)?;
                Some((experience.agent.id.clone(), *record, record.reliability(now)))
            })
            .collect();
        agents.sort_by(|a, b| b.2.total_cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
        let tagged = |tag: Option<&str>, limit: usize| {
            let mut tags_all = vec![capability_tag(capability).to_string()];
            tags_all.extend(tag.map(str::to_owned));
            let filters = MemoryFilters { tags_all, ..MemoryFilters::default() };
            let query = MemoryListQuery { namespace: namespace.clone(), filters, limit, cursor: None, now };
            self.inner
                .memories
                .read()
                .list(&query)
                .map(|page| MemoryMatches { memories: page.memories, total: page.total })
        };
        let mut tools: BTreeMap<String, u64> = BTreeMap::new();
        for memory in tagged(None, TOOL_MEMORIES_MAX)?.memories {
            for tool in memory.spec.tags.iter().filter_map(|tag| tag.strip_prefix(TOOL_TAG)) {
                *tools.entry(tool.to_owned()).or_default() += u64::from(memory.frequency);
            }
        }
        let mut tools: Vec<(String, u64)> = tools.into_iter().collect();
        tools.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        tools.truncate(SUGGESTED_MAX);
        Ok(Suggestions {
            agents,
            worked: tagged(Some(WORKED_TAG), SUGGESTED_MAX)?,
            failed: tagged(Some(FAILED_TAG), SUGGESTED_MAX)?,
            tools,
        })
    }

    /// What an agent has experienced.
    ///
    /// # Errors
    /// When the memories are not loaded.
    pub async fn agent_experience(&self, key: &AgentKey) -> Result<Option<Arc<AgentExperience>>, HubError> {
        self.remembering().await?;
        Ok(self.inner.memories.experience(key))
    }
}
