//! Operations that store memories.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use a2a_core::agent::ContentHash;
use a2a_core::error::Problems;
use a2a_core::ids::{Actor, AgentId, MemoryId, Namespace, OpId};
use a2a_core::limits::SESSION_TURNS_KEPT_MAX;
use a2a_core::memory::command::{MemoryAction, MemoryCommand, MemoryOutcome, NewMemory};
use a2a_core::memory::recall::Reading;
use a2a_core::memory::{Memory, MemorySpec, MemoryType, Trust};
use a2a_core::time::Timestamp;
use serde_json::Value;

use super::{Hub, Running};
use crate::error::HubError;

/// Hints at memories that say nearly the same are looked up for calls with at most so many documents: each costs a
/// comparison with every memory.
const HINTED_DOCUMENTS_MAX: usize = 16;
/// How long hints wait for the words of the memories of a process that has just started. A memory is stored without them.
const HINTS_WAIT: Duration = Duration::from_secs(2);
/// Hints for one memory.
const NEAR_MAX: usize = 3;

/// A document to be stored.
#[derive(Debug, Clone, Copy)]
pub struct MemoryInput<'d> {
    /// As JSON.
    pub document: &'d Value,
    /// Where it stands in the caller's input, for error texts.
    pub path: &'d str,
    /// For a memory that comes from elsewhere. It is not stored again when it was taken over before, even if it was
    /// superseded since.
    pub told: Option<Told>,
}

/// When a memory that comes from elsewhere was first told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The time, which orders memories.
    pub at: Timestamp,
    /// Whether it was told so, and not made up.
    pub is_known: bool,
}

/// What storing a memory that comes from elsewhere would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedMemory {
    /// Two with the same hash say the same.
    pub content_hash: ContentHash,
    /// Whether it is there.
    pub is_known: bool,
    /// How many things that look like secrets would be cut out.
    pub redacted: usize,
}

/// How memories are stored.
#[derive(Debug, Clone)]
pub struct MemoryStoreOptions {
    /// Where documents go that name no namespace; `None` means the configured one.
    pub namespace: Option<Namespace>,
    /// Cut out what looks like a secret instead of refusing the document.
    pub redact: bool,
    /// How far the author may be relied on; the face that takes the call knows.
    pub trust: Trust,
    /// The memories that the documents were made from.
    pub derived_from: Vec<String>,
}

/// What storing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredStatus {
    /// It is new.
    Stored,
    /// It was known, and has been told once more.
    Repeated,
    /// It was recalled a moment ago, so that it tells nothing.
    Recalled,
}

/// A memory that was stored.
#[derive(Debug, Clone)]
pub struct StoredMemory {
    /// As it is now.
    pub memory: Arc<Memory>,
    /// What happened.
    pub status: StoredStatus,
    /// The memories whose place it took.
    pub superseded: Vec<MemoryId>,
    /// Others that say nearly the same, with how similar they are.
    pub near: Vec<(MemoryId, f32)>,
    /// How many things that look like secrets were cut out.
    pub redacted: usize,
}

/// What a call stored.
#[derive(Debug)]
pub struct StoredMemories {
    /// One item for each document, in order.
    pub items: Vec<Result<StoredMemory, HubError>>,
    /// Memories that were forgotten to make room.
    pub evicted: Vec<MemoryId>,
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

pub(super) fn command(action: MemoryAction, actor: &Actor) -> MemoryCommand {
    MemoryCommand { op_id: OpId::new(), actor: actor.clone(), action }
}

/// What becomes of one document before the database is asked.
enum Prepared {
    /// It is to be stored, by the next command.
    Command {
        near: Vec<(MemoryId, f32)>,
        redacted: usize,
    },
    /// It is done with.
    Known(Arc<Memory>, StoredStatus),
    Failed(HubError),
}

impl Hub {
    /// Stores memories. `path` is where the list stands in the caller's input, for error texts.
    ///
    /// # Errors
    /// When nothing was done: the input as a whole is not valid, or the database did not take it.
    pub async fn memory_store(
        &self,
        documents: &[Value],
        path: &str,
        options: &MemoryStoreOptions,
        actor: &Actor,
    ) -> Result<StoredMemories, HubError> {
        if documents.is_empty() {
            return Err(Problems::one(path, "is empty; give at least one memory").into());
        }
        let paths: Vec<String> = (0..documents.len()).map(|i| format!("{path}[{i}]")).collect();
        let inputs: Vec<MemoryInput<'_>> =
            documents.iter().zip(&paths).map(|(document, path)| MemoryInput { document, path, told: None }).collect();
        self.memory_store_each(&inputs, options, actor).await
    }

    /// Stores memories that stand in several places, or that come from elsewhere.
    ///
    /// # Errors
    /// When nothing was done: the input as a whole is not valid, or the database did not take it.
    pub async fn memory_store_each(
        &self,
        inputs: &[MemoryInput<'_>],
        options: &MemoryStoreOptions,
        actor: &Actor,
    ) -> Result<StoredMemories, HubError> {
        let running = self.remembering().await?;
        let derived_from = self.memory_ids(&options.derived_from)?;
        let now = now();
        let hints = inputs.len() <= HINTED_DOCUMENTS_MAX && self.recalls_within(HINTS_WAIT).await;
        let mut prepared = Vec::with_capacity(inputs.len());
        // What is stored by one call is stored at the same time: the ids keep it in its order.
        let mut ids: Vec<MemoryId> = inputs.iter().map(|_| MemoryId::generate()).collect();
        ids.sort_unstable();
        let mut ids = ids.into_iter();
        let mut commands = Vec::with_capacity(inputs.len());
        for input in inputs {
            let (mut spec, redacted) = match self.memory_read(input, options, now) {
                Ok(read) => read,
                Err(problems) => {
                    prepared.push(Prepared::Failed(problems.into()));
                    continue;
                }
            };
            // Ordering: before what it supersedes is looked at, which has a successor by now if it was taken over before.
            if let Some(memory) = self.taken_over(&spec, input.told, now) {
                prepared.push(Prepared::Known(memory, StoredStatus::Repeated));
                continue;
            }
            if let Err(error) = self.resolve_superseded(&mut spec, &format!("{}.supersedes", input.path)) {
                prepared.push(Prepared::Failed(error));
                continue;
            }
            if let Some(memory) = self.just_recalled(&spec) {
                prepared.push(Prepared::Known(memory, StoredStatus::Recalled));
                continue;
            }
            let near = if hints && input.told.is_none() { self.nearly_the_same(&spec, now) } else { Vec::new() };
            prepared.push(Prepared::Command { near, redacted });
            let new = NewMemory {
                id: ids.next().unwrap_or_else(MemoryId::generate),
                spec,
                trust: options.trust,
                derived_from: derived_from.clone().into(),
                created_at: input.told.map(|told| told.at),
            };
            commands.push(command(MemoryAction::Store(Box::new(new)), actor));
        }
        let evicted = self.room_for(&mut commands, now, actor);
        let mut outcomes = self.memory_commit(running, commands).await?.into_iter();
        let items = prepared
            .into_iter()
            .map(|prepared| match prepared {
                Prepared::Failed(error) => Err(error),
                Prepared::Known(memory, status) => {
                    Ok(StoredMemory { memory, status, superseded: Vec::new(), near: Vec::new(), redacted: 0 })
                }
                Prepared::Command { near, redacted } => stored(outcomes.next(), near, redacted),
            })
            .collect();
        // What comes after the stored ones are the evictions; a memory that somebody else took is gone as well.
        Ok(StoredMemories { items, evicted })
    }

    /// Tells what storing memories that come from elsewhere would do, without writing. What others of them supersede is not
    /// looked at.
    ///
    /// # Errors
    /// When the memories are not loaded.
    pub async fn memory_check_each(
        &self,
        inputs: &[MemoryInput<'_>],
        options: &MemoryStoreOptions,
    ) -> Result<Vec<Result<CheckedMemory, HubError>>, HubError> {
        self.remembering().await?;
        let now = now();
        let check = |input: &MemoryInput<'_>| {
            let (spec, redacted) = self.memory_read(input, options, now)?;
            let is_known = self.taken_over(&spec, input.told, now).is_some();
            Ok(CheckedMemory { content_hash: spec.content_hash(), is_known, redacted })
        };
        Ok(inputs.iter().map(check).collect())
    }

    fn memory_read(
        &self,
        input: &MemoryInput<'_>,
        options: &MemoryStoreOptions,
        now: Timestamp,
    ) -> Result<(MemorySpec, usize), Problems> {
        let namespace = self.namespace(options.namespace.as_ref());
        let spec = MemorySpec::from_document(input.document, input.path, &namespace, now)?;
        cleared_of_secrets(spec, input.path, options.redact)
    }

    fn taken_over(&self, spec: &MemorySpec, told: Option<Told>, now: Timestamp) -> Option<Arc<Memory>> {
        let told_at = told.map(|told| Some(told.at).filter(|_| told.is_known))?;
        let index = self.inner.memories.read();
        index.taken_over(&spec.namespace, &spec.content_hash(), told_at, now).cloned()
    }

    /// Stores a memory that this program has made.
    pub(crate) async fn memory_keep(
        &self,
        spec: MemorySpec,
        trust: Trust,
        actor: &Actor,
    ) -> Result<Arc<Memory>, HubError> {
        let running = self.remembering().await?;
        let (spec, _) = cleared_of_secrets(spec, "", true)?;
        let new = NewMemory { id: MemoryId::generate(), spec, trust, derived_from: [].into(), created_at: None };
        let mut commands = vec![command(MemoryAction::Store(Box::new(new)), actor)];
        self.room_for(&mut commands, now(), actor);
        let outcome = self.memory_commit(running, commands).await?.into_iter().next();
        stored(outcome, Vec::new(), 0).map(|stored| stored.memory)
    }

    /// Appends commands that make room for what `commands` store, and returns what they forget: by
    /// [`eviction_order`](a2a_core::memory::retention::eviction_order), a hundredth of the limit at once, so that a full
    /// store does not look through everything at each call. Of a session that has become too long the oldest turns go.
    fn room_for(&self, commands: &mut Vec<MemoryCommand>, now: Timestamp, actor: &Actor) -> Vec<MemoryId> {
        let mut wanted: BTreeMap<(Namespace, Option<AgentId>), usize> = BTreeMap::new();
        let mut turns: BTreeMap<(Namespace, Arc<str>), usize> = BTreeMap::new();
        for command in commands.iter() {
            if let MemoryAction::Store(new) = &command.action {
                if let (MemoryType::Conversation, Some(session)) = (new.spec.kind, &new.spec.session) {
                    *turns.entry((new.spec.namespace.clone(), session.clone())).or_default() += 1;
                }
                *wanted.entry((new.spec.namespace.clone(), None)).or_default() += 1;
                if let Some(agent) = &new.spec.agent {
                    *wanted.entry((new.spec.namespace.clone(), Some(agent.clone()))).or_default() += 1;
                }
            }
        }
        let mut evicted: Vec<MemoryId> = Vec::new();
        let index = self.inner.memories.read();
        for ((namespace, agent), count) in wanted {
            let limits = &self.inner.config.memory;
            let limit = if agent.is_some() { limits.agent_memories_max } else { limits.memories_max };
            let agent = agent.as_ref().map(AgentId::as_str);
            if index.count(&namespace, agent) + count <= limit {
                continue;
            }
            let spare = limit / 100;
            let keep = limit.saturating_sub(spare);
            evicted.extend(index.to_evict(&namespace, agent, keep, count, now));
        }
        for ((namespace, session), count) in turns {
            evicted.extend(index.turns_to_evict(&namespace, &session, SESSION_TURNS_KEPT_MAX, count));
        }
        drop(index);
        evicted.sort_unstable();
        evicted.dedup();
        commands.extend(
            evicted.iter().map(|id| {
                command(MemoryAction::Forget { id: id.clone(), expected_revision: None, purge: false }, actor)
            }),
        );
        evicted
    }

    pub(super) async fn memory_commit(
        &self,
        running: &Running,
        commands: Vec<MemoryCommand>,
    ) -> Result<Vec<MemoryOutcome>, HubError> {
        Ok(running.memory_writer.submit(commands, self.deadline()).await?)
    }

    fn nearly_the_same(&self, spec: &MemorySpec, now: Timestamp) -> Vec<(MemoryId, f32)> {
        let reading = Reading::of_memory(spec);
        let hash = spec.content_hash();
        let index = self.inner.memories.read();
        // One more than is shown: the same memory is no hint.
        let near = index.near(&spec.namespace, &reading, now, NEAR_MAX + 1);
        let is_other = |memory: &Memory| {
            memory.content_hash != hash
                && !spec.supersedes.contains(&memory.id)
                && (spec.key.is_none() || memory.spec.key != spec.key)
        };
        let others = near.into_iter().filter(|(memory, _)| is_other(memory));
        others.take(NEAR_MAX).map(|(memory, similarity)| (memory.id.clone(), similarity)).collect()
    }

    /// Puts whole ids in place of starts of ids. What was superseded before has a successor, which is the one to name.
    fn resolve_superseded(&self, spec: &mut MemorySpec, path: &str) -> Result<(), HubError> {
        let mut resolved = Vec::with_capacity(spec.supersedes.len());
        for id in &spec.supersedes {
            let memory = self.memory_resolve(Some(&spec.namespace), id.as_str())?;
            if let Some(successor) = &memory.superseded_by {
                let message = format!("{} was superseded by {successor} before; name that one", memory.id);
                return Err(Problems::one(path, message).into());
            }
            resolved.push(memory.id.clone());
        }
        resolved.sort_unstable();
        resolved.dedup();
        spec.supersedes = resolved.into();
        Ok(())
    }

    fn memory_ids(&self, ids: &[String]) -> Result<Vec<MemoryId>, HubError> {
        let mut whole: Vec<MemoryId> = ids
            .iter()
            .map(|id| self.memory_resolve(None, id).map(|memory| memory.id.clone()))
            .collect::<Result<_, _>>()?;
        whole.sort_unstable();
        whole.dedup();
        Ok(whole)
    }
}

/// Refuses or cuts out what looks like a secret, before anything keeps it.
pub(super) fn cleared_of_secrets(
    mut spec: MemorySpec,
    path: &str,
    redact: bool,
) -> Result<(MemorySpec, usize), Problems> {
    let redacted = if redact { spec.redact_secrets() } else { 0 };
    spec.refuse_secrets(path)?;
    Ok((spec, redacted))
}

pub(super) fn stored(
    outcome: Option<MemoryOutcome>,
    near: Vec<(MemoryId, f32)>,
    redacted: usize,
) -> Result<StoredMemory, HubError> {
    match outcome {
        Some(MemoryOutcome::Stored { memory, superseded }) => {
            let superseded = superseded.iter().map(|memory| memory.id.clone()).collect();
            Ok(StoredMemory { memory, status: StoredStatus::Stored, superseded, near, redacted })
        }
        Some(MemoryOutcome::Repeated { memory }) => {
            Ok(StoredMemory { memory, status: StoredStatus::Repeated, superseded: Vec::new(), near, redacted })
        }
        other => Err(failed(other, "")),
    }
}

pub(super) fn failed(outcome: Option<MemoryOutcome>, id: &str) -> HubError {
    match outcome {
        Some(MemoryOutcome::Missing { ids }) => {
            let ids: Vec<&str> = ids.iter().map(MemoryId::as_str).collect();
            HubError::Refused { reason: format!("not stored: there is no memory {}", ids.join(", ")) }
        }
        Some(MemoryOutcome::TrustTooLow { id, needed, offered }) => HubError::Refused {
            reason: format!(
                "not stored: {id} has the trust {needed}, and text of trust {offered} can't take its place; store it \
                 without supersedes and key, or let a person do it with `a2a-mcp memory`"
            ),
        },
        Some(MemoryOutcome::Rejected { reason }) => HubError::Rejected { reason: reason.into() },
        Some(MemoryOutcome::NotFound) => {
            HubError::NotFound { entity: "memory", id: id.to_owned(), nearest: Vec::new() }
        }
        other => {
            tracing::error!(?other, "an outcome about a memory that does not fit");
            HubError::Unavailable
        }
    }
}
