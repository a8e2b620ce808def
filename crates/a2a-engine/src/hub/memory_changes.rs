//! Operations that change what is remembered: updates, feedback, forgetting.

use std::sync::Arc;

use a2a_core::error::Problems;
use a2a_core::ids::{Actor, AgentKey, MemoryId, Namespace, Revision};
use a2a_core::limits;
use a2a_core::memory::command::{MemoryAction, MemoryOutcome, NewMemory};
use a2a_core::memory::experience::{AgentExperience, Experience, Personality};
use a2a_core::memory::learning::feedback_memory;
use a2a_core::memory::recall::{MemoryFilters, MemoryListQuery};
use a2a_core::memory::{Memory, MemorySpec, Trust};
use a2a_core::time::Timestamp;
use serde_json::{Map, Value};

use super::memories::{cleared_of_secrets, command, failed, now, stored};
use super::{Hub, Running};
use crate::error::HubError;

/// An update that names no revision is tried again so often when somebody else changes the memory meanwhile.
const UPDATE_TRIES: usize = 8;
/// Most memories that one call forgets by filter: they are changed in one transaction.
const FORGOTTEN_MAX: usize = 10_000;
/// What a feedback of 1 adds to the importance of a memory, and one of -1 takes away.
const FEEDBACK_IMPORTANCE: f32 = 0.2;

/// What somebody thinks of a memory, or of the work of an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// -1 to 1.
    pub score: f32,
    /// In words; kept as a preference.
    pub comment: Option<String>,
}

/// What is to be changed about a memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryUpdate {
    /// Where it is; `None` means the configured namespace.
    pub namespace: Option<Namespace>,
    /// The revision that the caller has read.
    pub expected_revision: Option<Revision>,
    /// The fields to replace. With new content a new memory takes the place of this one.
    pub set: Map<String, Value>,
    /// What is thought of it.
    pub feedback: Option<Feedback>,
    /// Cut out what looks like a secret instead of refusing it.
    pub redact: bool,
}

/// A memory that was updated.
#[derive(Debug, Clone)]
pub struct UpdatedMemory {
    /// As it is now; a new one when it has new content.
    pub memory: Arc<Memory>,
    /// Whether anything was changed.
    pub changed: bool,
    /// What its agent has experienced, when the feedback reached one.
    pub experience: Option<Arc<AgentExperience>>,
    /// The memory that keeps the comment.
    pub comment: Option<MemoryId>,
}

/// Which memories to forget.
#[derive(Debug, Clone, Default)]
pub struct ForgetQuery {
    /// Where they are; `None` means the configured namespace.
    pub namespace: Option<Namespace>,
    /// Ids, or unique starts of them.
    pub ids: Vec<String>,
    /// Instead of ids: those that pass.
    pub filters: Option<MemoryFilters>,
    /// Leave nothing of them.
    pub purge: bool,
    /// Only tell which ones.
    pub dry_run: bool,
}

/// What a call forgot, or would.
#[derive(Debug)]
pub struct Forgotten {
    /// The memories, as they were.
    pub memories: Vec<Arc<Memory>>,
    /// What was not forgotten, and why.
    pub failed: Vec<(String, HubError)>,
    /// How many more pass the filters; call again for them.
    pub more: usize,
}

impl Hub {
    /// Changes what may be changed about a memory. New content makes a new memory that takes the place of the old one, so
    /// that the history stays true. Feedback moves the importance of the memory and the personality of its agent.
    ///
    /// # Errors
    /// When there is no such memory, the change is not valid, the memory is not at the expected revision, or the database
    /// did not take it.
    pub async fn memory_update(
        &self,
        id: &str,
        update: &MemoryUpdate,
        trust: Trust,
        actor: &Actor,
    ) -> Result<UpdatedMemory, HubError> {
        let running = self.remembering().await?;
        let namespace = self.namespace(update.namespace.as_ref());
        let memory = self.memory_resolve(Some(&namespace), id)?;
        if let Some(successor) = &memory.superseded_by {
            let reason = format!("{} was superseded by {successor}; update that one", memory.id);
            return Err(HubError::Refused { reason });
        }
        if let Some(expected) = update.expected_revision.filter(|expected| *expected != memory.revision) {
            return Err(conflict(&memory.id, expected, memory.revision));
        }
        let (memory, changed) = if update.set.contains_key("content") {
            (self.memory_replace(running, &memory, update, trust, actor).await?, true)
        } else {
            self.memory_patch(running, memory, update, actor).await?
        };
        let mut updated = UpdatedMemory { memory, changed, experience: None, comment: None };
        if let (Some(feedback), Some(agent)) = (&update.feedback, updated.memory.spec.agent.clone()) {
            let key = AgentKey { namespace, id: agent };
            let user = updated.memory.spec.user.clone();
            let (experience, comment) = self.feed_back(running, key, user, feedback, trust, actor).await?;
            updated.experience = Some(experience);
            updated.comment = comment;
        }
        Ok(updated)
    }

    async fn memory_replace(
        &self,
        running: &Running,
        memory: &Arc<Memory>,
        update: &MemoryUpdate,
        trust: Trust,
        actor: &Actor,
    ) -> Result<Arc<Memory>, HubError> {
        let mut spec = patched(memory, update, now())?;
        let content = update.set.get("content").and_then(Value::as_str).map(str::trim);
        let Some(content) = content.filter(|content| !content.is_empty()) else {
            return Err(Problems::one("set.content", "must be a text that says what is to be remembered").into());
        };
        if content.len() > limits::MEMORY_CONTENT_BYTES_MAX {
            let message =
                format!("has {} bytes; shorten it to at most {}", content.len(), limits::MEMORY_CONTENT_BYTES_MAX);
            return Err(Problems::one("set.content", message).into());
        }
        spec.content = content.into();
        spec.supersedes = [memory.id.clone()].into();
        let (spec, _) = cleared_of_secrets(spec, "set", update.redact)?;
        let new = NewMemory { id: MemoryId::generate(), spec, trust, derived_from: [].into(), created_at: None };
        let commands = vec![command(MemoryAction::Store(Box::new(new)), actor)];
        let outcome = self.memory_commit(running, commands).await?.pop();
        stored(outcome, Vec::new(), 0).map(|stored| stored.memory)
    }

    async fn memory_patch(
        &self,
        running: &Running,
        mut memory: Arc<Memory>,
        update: &MemoryUpdate,
        actor: &Actor,
    ) -> Result<(Arc<Memory>, bool), HubError> {
        for _ in 0..UPDATE_TRIES {
            let spec = patched(&memory, update, now())?;
            let (spec, _) = cleared_of_secrets(spec, "set", update.redact)?;
            if spec == memory.spec {
                return Ok((memory, false));
            }
            let action = MemoryAction::Update {
                id: memory.id.clone(),
                expected_revision: memory.revision,
                spec: Box::new(spec),
            };
            let current = match self.memory_commit(running, vec![command(action, actor)]).await?.pop() {
                Some(MemoryOutcome::Updated { memory }) => return Ok((memory, true)),
                Some(MemoryOutcome::Unchanged { memory }) => return Ok((memory, false)),
                Some(MemoryOutcome::Conflict { current }) => current,
                other => return Err(failed(other, memory.id.as_str())),
            };
            if update.expected_revision.is_some() {
                return Err(conflict(&memory.id, memory.revision, current));
            }
            // Somebody else was quicker; the same fields are put onto what is there now.
            let newer = super::agents::read(running.store.memories_read(std::slice::from_ref(&memory.id)).await)?.pop();
            memory = match newer.filter(|version| version.removed_at.is_none()) {
                Some(version) if version.memory.superseded_by.is_none() => version.memory,
                _ => return Err(self.no_memory(memory.id.as_str())),
            };
        }
        Err(HubError::Unavailable)
    }

    /// Takes in what somebody thinks of the work of an agent.
    ///
    /// # Errors
    /// When there is no such agent, or the database did not take it.
    pub async fn agent_feedback(
        &self,
        namespace: Option<&Namespace>,
        agent: &str,
        feedback: &Feedback,
        trust: Trust,
        actor: &Actor,
    ) -> Result<(Arc<AgentExperience>, Option<MemoryId>), HubError> {
        let running = self.remembering().await?;
        let agent = self.agent_get(namespace, agent).await?;
        self.feed_back(running, agent.key(), None, feedback, trust, actor).await
    }

    async fn feed_back(
        &self,
        running: &Running,
        agent: AgentKey,
        user: Option<Arc<str>>,
        feedback: &Feedback,
        trust: Trust,
        actor: &Actor,
    ) -> Result<(Arc<AgentExperience>, Option<MemoryId>), HubError> {
        let experience = Experience::Feedback { score: feedback.score };
        let learn = MemoryAction::Learn { agent: agent.clone(), capability: None, experience };
        let mut commands = vec![command(learn, actor)];
        let comment = feedback.comment.as_deref().unwrap_or_default();
        let spec = feedback_memory(&agent.namespace, &agent.id, user, feedback.score, comment);
        if let Some(spec) = spec {
            let (spec, _) = cleared_of_secrets(spec, "feedback.comment", false)?;
            let new = NewMemory { id: MemoryId::generate(), spec, trust, derived_from: [].into(), created_at: None };
            commands.push(command(MemoryAction::Store(Box::new(new)), actor));
        }
        let mut outcomes = self.memory_commit(running, commands).await?.into_iter();
        let experience = match outcomes.next() {
            Some(MemoryOutcome::Learned { experience }) => experience,
            other => return Err(failed(other, agent.id.as_str())),
        };
        let comment = match outcomes.next() {
            None => None,
            outcome => Some(stored(outcome, Vec::new(), 0)?.memory.id.clone()),
        };
        Ok((experience, comment))
    }

    /// Gives an agent the personality that it had elsewhere. `false` says that it has experiences of its own here, which
    /// stay as they are.
    ///
    /// # Errors
    /// When the database did not take it.
    pub async fn personality_adopt(
        &self,
        agent: AgentKey,
        personality: Personality,
        actor: &Actor,
    ) -> Result<(Arc<AgentExperience>, bool), HubError> {
        let running = self.remembering().await?;
        let id = agent.id.clone();
        let commands = vec![command(MemoryAction::Adopt { agent, personality }, actor)];
        match self.memory_commit(running, commands).await?.pop() {
            Some(MemoryOutcome::Learned { experience }) => Ok((experience, true)),
            Some(MemoryOutcome::Experienced { experience }) => Ok((experience, false)),
            other => Err(failed(other, id.as_str())),
        }
    }

    /// Forgets memories, by ids or by filters.
    ///
    /// # Errors
    /// When nothing was done: neither ids nor filters are given, or the database did not take it.
    pub async fn memory_forget(&self, query: &ForgetQuery, actor: &Actor) -> Result<Forgotten, HubError> {
        let running = self.remembering().await?;
        let namespace = self.namespace(query.namespace.as_ref());
        let mut found = Forgotten { memories: Vec::new(), failed: Vec::new(), more: 0 };
        for id in &query.ids {
            match self.memory_resolve(Some(&namespace), id) {
                Ok(memory) => found.memories.push(memory),
                // One that is out of recall already can still be purged.
                Err(error) if query.purge => match self.memory_removed(running, &namespace, id).await? {
                    Some(memory) => found.memories.push(memory),
                    None => found.failed.push((id.clone(), error)),
                },
                Err(error) => found.failed.push((id.clone(), error)),
            }
        }
        if let Some(filters) = &query.filters {
            found.more = self.passing(&namespace, filters, &mut found.memories)?;
        }
        if query.dry_run || found.memories.is_empty() {
            return Ok(found);
        }
        let commands = found.memories.iter().map(|memory| {
            let action = MemoryAction::Forget { id: memory.id.clone(), expected_revision: None, purge: query.purge };
            command(action, actor)
        });
        let outcomes = self.memory_commit(running, commands.collect()).await?;
        let mut outcomes = outcomes.into_iter();
        let mut not_done = Vec::new();
        found.memories.retain(|memory| match outcomes.next() {
            Some(MemoryOutcome::Forgotten { .. }) => true,
            other => {
                not_done.push((memory.id.to_string(), failed(other, memory.id.as_str())));
                false
            }
        });
        found.failed.extend(not_done);
        Ok(found)
    }

    /// Collects what passes, and returns how many more do.
    fn passing(
        &self,
        namespace: &Namespace,
        filters: &MemoryFilters,
        into: &mut Vec<Arc<Memory>>,
    ) -> Result<usize, HubError> {
        let mut query = MemoryListQuery {
            namespace: namespace.clone(),
            filters: filters.clone(),
            limit: limits::PAGE_ROWS_MAX,
            cursor: None,
            now: now(),
        };
        let index = self.inner.memories.read();
        let start = into.len();
        loop {
            let page = index.list(&query)?;
            let total = page.total;
            into.extend(page.memories);
            let taken = into.len() - start;
            query.cursor = page.next_cursor;
            if query.cursor.is_none() || taken >= FORGOTTEN_MAX {
                return Ok(total.saturating_sub(taken));
            }
        }
    }

    async fn memory_removed(
        &self,
        running: &Running,
        namespace: &Namespace,
        id: &str,
    ) -> Result<Option<Arc<Memory>>, HubError> {
        let Ok(id) = MemoryId::parse(id) else { return Ok(None) };
        let version = super::agents::read(running.store.memories_read(std::slice::from_ref(&id)).await)?.pop();
        Ok(version.map(|version| version.memory).filter(|memory| memory.spec.namespace == *namespace))
    }
}

/// The document of a memory after an update, but for new content.
fn patched(memory: &Memory, update: &MemoryUpdate, now: Timestamp) -> Result<MemorySpec, Problems> {
    let mut set = update.set.clone();
    set.remove("content");
    let mut spec = memory.spec.patched(&Value::Object(set), "set", now)?;
    if let Some(feedback) = &update.feedback {
        spec.importance = (spec.importance + FEEDBACK_IMPORTANCE * feedback.score).clamp(0.0, 1.0);
    }
    Ok(spec)
}

fn conflict(id: &MemoryId, expected: Revision, current: Revision) -> HubError {
    HubError::Conflict { entity: "memory", id: id.to_string(), expected, current }
}
