//! From locked rows to outcomes, for commands about memories. Shared by both backends, which differ in the statements.
//!
//! A batch is one transaction: lock and read everything that it has to do with ([`Wanted`]), decide one command after the
//! other on what was read ([`Round`]), and write what has changed ([`Writes`]). A command sees what those before it in
//! the batch have done.
//!
//! Ordering: what has no row yet can't be locked by it. So whoever stores locks buckets of content hashes and keys first,
//! in the order of their numbers, then rows in the order of their ids, and looks after that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use a2a_core::agent::ContentHash;
use a2a_core::ids::{AgentKey, MemoryId, OpId, Revision};
use a2a_core::memory::command::{MemoryAction, MemoryCommand, MemoryOutcome, NewMemory};
use a2a_core::memory::experience::AgentExperience;
use a2a_core::memory::write::{Held, StoreDecision, decide};
use a2a_core::memory::{Memory, MemorySpec, Provenance, Trust};
use a2a_core::time::Timestamp;
use serde::Serialize;

use crate::store::MemoryVersion;

/// Locks that one transaction takes at most. Fewer would make processes wait for each other that store different
/// things, more would use up the table of locks of a Postgres server when many processes store batches at once.
const BUCKETS: u64 = 256;
/// Added to the number of a bucket, so that it is no lock of anybody else. Arbitrary, and must never change.
const BUCKET_BASE: i64 = 0x6132_615f_6d65_0000;

/// What a batch has to do with.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Locks for what may not be there yet, in order.
    pub(crate) buckets: BTreeSet<i64>,
    pub(crate) hashes: BTreeSet<ContentHash>,
    /// Namespace and key.
    pub(crate) keys: BTreeSet<(String, String)>,
    pub(crate) ids: BTreeSet<MemoryId>,
    pub(crate) agents: BTreeSet<AgentKey>,
    pub(crate) op_ids: Vec<OpId>,
}

fn bucket(of: &[u8]) -> i64 {
    // FNV-1a: every process has to come to the same number, whatever its version.
    let hash = of
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    BUCKET_BASE + i64::try_from(hash % BUCKETS).unwrap_or(0)
}

impl Wanted {
    pub(crate) fn of(commands: &[MemoryCommand]) -> Self {
        let mut wanted = Self::default();
        for command in commands {
            wanted.op_ids.push(command.op_id);
            match &command.action {
                MemoryAction::Store(new) => {
                    let spec = &new.spec;
                    let hash = spec.content_hash();
                    wanted.buckets.insert(bucket(&hash));
                    wanted.hashes.insert(hash);
                    if let Some(key) = &spec.key {
                        let key = (spec.namespace.to_string(), key.to_string());
                        wanted.buckets.insert(bucket(format!("{}\0{}", key.0, key.1).as_bytes()));
                        wanted.keys.insert(key);
                    }
                    wanted.ids.extend(spec.supersedes.iter().chain(&new.derived_from).cloned());
                    wanted.ids.insert(new.id.clone());
                }
                MemoryAction::Update { id, .. } | MemoryAction::Forget { id, .. } => {
                    wanted.ids.insert(id.clone());
                }
                MemoryAction::Learn { agent, .. } | MemoryAction::Adopt { agent, .. } => {
                    wanted.agents.insert(agent.clone());
                }
            }
        }
        wanted
    }
}

/// A write that an earlier attempt has committed.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub(crate) id: String,
    pub(crate) revision: Revision,
    pub(crate) op: String,
}

/// What was read, under locks.
#[derive(Debug, Default)]
pub(crate) struct Locked {
    pub(crate) now: Timestamp,
    pub(crate) memories: Vec<MemoryVersion>,
    pub(crate) experiences: Vec<AgentExperience>,
    pub(crate) applied: HashMap<OpId, Applied>,
}

/// A row of `change_log`.
#[derive(Debug, Serialize)]
pub(crate) struct LogRow {
    pub(crate) entity: &'static str,
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) revision: Revision,
    pub(crate) op: &'static str,
}

/// A row of `applied_ops`.
#[derive(Debug, Serialize)]
pub(crate) struct OpRow {
    pub(crate) op_id: OpId,
    pub(crate) entity: &'static str,
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) revision: Revision,
    pub(crate) op: &'static str,
}

/// What is to be written.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// Rows as they are after the batch, new or changed.
    pub(crate) memories: Vec<MemoryVersion>,
    pub(crate) deleted: Vec<MemoryId>,
    pub(crate) experiences: Vec<Arc<AgentExperience>>,
    pub(crate) log: Vec<LogRow>,
    pub(crate) ops: Vec<OpRow>,
}

#[derive(Debug)]
struct Entry {
    version: MemoryVersion,
    changed: bool,
    deleted: bool,
}

impl Entry {
    fn is_there(&self) -> bool {
        !self.deleted && self.version.removed_at.is_none()
    }

    /// Changes the memory and raises its revision.
    fn change(&mut self, command: &MemoryCommand, now: Timestamp, change: impl FnOnce(&mut Memory)) -> Arc<Memory> {
        let memory = Arc::make_mut(&mut self.version.memory);
        change(memory);
        memory.revision += 1;
        memory.updated_at = memory.updated_at.max(now);
        memory.updated_by = command.actor.clone();
        self.changed = true;
        Arc::clone(&self.version.memory)
    }
}

/// The commands of a batch on what was read.
#[derive(Debug)]
pub(crate) struct Round {
    now: Timestamp,
    memories: BTreeMap<MemoryId, Entry>,
    by_hash: HashMap<ContentHash, BTreeSet<MemoryId>>,
    by_key: HashMap<(String, String), BTreeSet<MemoryId>>,
    experiences: BTreeMap<AgentKey, (AgentExperience, bool)>,
    applied: HashMap<OpId, Applied>,
    ops: Vec<OpRow>,
}

impl Round {
    pub(crate) fn new(locked: Locked) -> Self {
        let mut round = Self {
            now: locked.now,
            memories: BTreeMap::new(),
            by_hash: HashMap::new(),
            by_key: HashMap::new(),
            experiences: locked.experiences.into_iter().map(|e| (e.agent.clone(), (e, false))).collect(),
            applied: locked.applied,
            ops: Vec::new(),
        };
        for version in locked.memories {
            round.insert(Entry { version, changed: false, deleted: false });
        }
        round
    }

    fn insert(&mut self, entry: Entry) {
        let memory = &entry.version.memory;
        self.by_hash.entry(memory.content_hash).or_default().insert(memory.id.clone());
        if let Some(key) = &memory.spec.key {
            let key = (memory.spec.namespace.to_string(), key.to_string());
            self.by_key.entry(key).or_default().insert(memory.id.clone());
        }
        self.memories.insert(memory.id.clone(), entry);
    }

    /// Decides one command.
    pub(crate) fn command(&mut self, command: &MemoryCommand) -> MemoryOutcome {
        if let Some(applied) = self.applied.get(&command.op_id).cloned() {
            return self.applied_before(command, &applied);
        }
        match &command.action {
            MemoryAction::Store(new) => self.store(command, new),
            MemoryAction::Update { id, expected_revision, spec } => self.update(command, id, *expected_revision, spec),
            MemoryAction::Forget { id, expected_revision, purge } => {
                self.forget(command, id, *expected_revision, *purge)
            }
            MemoryAction::Learn { agent, capability, experience } => {
                let now = self.now;
                let (learned, changed) = self
                    .experiences
                    .entry(agent.clone())
                    .or_insert_with(|| (AgentExperience::none(agent.clone(), now), true));
                learned.learn(capability.as_ref(), *experience, now);
                *changed = true;
                let experience = Arc::new(learned.clone());
                self.learned(command, agent, &experience, "learn");
                MemoryOutcome::Learned { experience }
            }
            MemoryAction::Adopt { agent, personality } => {
                let now = self.now;
                let (experience, changed) = self
                    .experiences
                    .entry(agent.clone())
                    .or_insert_with(|| (AgentExperience::none(agent.clone(), now), false));
                let is_taken = experience.adopt(*personality, now);
                *changed |= is_taken;
                let experience = Arc::new(experience.clone());
                if !is_taken {
                    return MemoryOutcome::Experienced { experience };
                }
                self.learned(command, agent, &experience, "adopt");
                MemoryOutcome::Learned { experience }
            }
        }
    }

    fn learned(&mut self, command: &MemoryCommand, agent: &AgentKey, experience: &AgentExperience, op: &'static str) {
        self.ops.push(OpRow {
            op_id: command.op_id,
            entity: "personality",
            namespace: agent.namespace.to_string(),
            id: agent.id.to_string(),
            revision: experience.revision,
            op,
        });
    }

    /// An earlier attempt has committed it. What has happened since counts as well.
    fn applied_before(&self, command: &MemoryCommand, applied: &Applied) -> MemoryOutcome {
        if let MemoryAction::Learn { agent, .. } | MemoryAction::Adopt { agent, .. } = &command.action {
            let learned = self.experiences.get(agent).map(|(experience, _)| Arc::new(experience.clone()));
            return learned.map_or(MemoryOutcome::NotFound, |experience| MemoryOutcome::Learned { experience });
        }
        let id = MemoryId::from_stored(applied.id.as_str());
        if matches!(applied.op.as_str(), "forget" | "purge") {
            return MemoryOutcome::Forgotten { id, revision: applied.revision };
        }
        let Some(entry) = self.memories.get(&id).filter(|entry| !entry.deleted) else {
            return MemoryOutcome::NotFound;
        };
        let memory = Arc::clone(&entry.version.memory);
        match applied.op.as_str() {
            "repeat" => MemoryOutcome::Repeated { memory },
            "update" => MemoryOutcome::Updated { memory },
            _ => {
                let is_in_its_place = |entry: &&Entry| entry.version.memory.superseded_by.as_ref() == Some(&id);
                let superseded =
                    self.memories.values().filter(is_in_its_place).map(|entry| Arc::clone(&entry.version.memory));
                MemoryOutcome::Stored { superseded: superseded.collect(), memory }
            }
        }
    }

    fn op(&mut self, command: &MemoryCommand, memory: &Memory, op: &'static str) {
        self.ops.push(OpRow {
            op_id: command.op_id,
            entity: "memory",
            namespace: memory.spec.namespace.to_string(),
            id: memory.id.to_string(),
            revision: memory.revision,
            op,
        });
    }

    fn store(&mut self, command: &MemoryCommand, new: &NewMemory) -> MemoryOutcome {
        let spec = &new.spec;
        let mut trusts: Vec<Trust> = Vec::with_capacity(new.derived_from.len());
        let mut missing: Vec<MemoryId> = Vec::new();
        for id in &new.derived_from {
            match self.memories.get(id).filter(|entry| entry.is_there()) {
                Some(entry) => trusts.push(entry.version.memory.provenance.trust),
                None => missing.push(id.clone()),
            }
        }
        if !missing.is_empty() {
            return MemoryOutcome::Missing { ids: missing };
        }
        let held = self.held(spec);
        let memories = &self.memories;
        let same_key = |held: &Held| {
            let other = memories.get(&held.id).map(|entry| &entry.version.memory.spec);
            other.is_some_and(|other| {
                (&other.namespace, &other.key, &other.agent, &other.user)
                    == (&spec.namespace, &spec.key, &spec.agent, &spec.user)
            })
        };
        match decide(spec, new.trust, trusts, &held, same_key, self.now) {
            StoreDecision::Missing { ids } => MemoryOutcome::Missing { ids },
            StoreDecision::TrustTooLow { id, needed, offered } => MemoryOutcome::TrustTooLow { id, needed, offered },
            StoreDecision::Repeat { id } => self.repeat(command, &id, spec),
            StoreDecision::Create { trust, supersede } => self.create(command, new, trust, &supersede),
        }
    }

    /// What is there that a new memory has to do with.
    fn held(&self, spec: &MemorySpec) -> Vec<Held> {
        let mut ids: BTreeSet<&MemoryId> = spec.supersedes.iter().collect();
        ids.extend(self.by_hash.get(&spec.content_hash()).into_iter().flatten());
        if let Some(key) = &spec.key {
            ids.extend(self.by_key.get(&(spec.namespace.to_string(), key.to_string())).into_iter().flatten());
        }
        let there = ids.into_iter().filter_map(|id| self.memories.get(id)).filter(|entry| entry.is_there());
        let in_namespace = there.filter(|entry| entry.version.memory.spec.namespace == spec.namespace);
        in_namespace
            .map(|entry| {
                let memory = &entry.version.memory;
                Held {
                    id: memory.id.clone(),
                    revision: memory.revision,
                    trust: memory.provenance.trust,
                    content_hash: memory.content_hash,
                    created_at: memory.created_at,
                    last_accessed: memory.last_accessed,
                    expires_at: memory.spec.expires_at,
                    superseded: memory.superseded_by.is_some(),
                }
            })
            .collect()
    }

    fn repeat(&mut self, command: &MemoryCommand, id: &MemoryId, spec: &MemorySpec) -> MemoryOutcome {
        let now = self.now;
        let Some(entry) = self.memories.get_mut(id) else { return MemoryOutcome::NotFound };
        let memory = entry.change(command, now, |memory| {
            memory.frequency = memory.frequency.saturating_add(1);
            memory.last_accessed = memory.last_accessed.max(now);
            // Told again for longer, or for good, it lives longer.
            memory.spec.expires_at = memory.spec.expires_at.zip(spec.expires_at).map(|(old, new)| old.max(new));
        });
        self.op(command, &memory, "repeat");
        MemoryOutcome::Repeated { memory }
    }

    fn create(
        &mut self,
        command: &MemoryCommand,
        new: &NewMemory,
        trust: Trust,
        supersede: &[(MemoryId, Revision)],
    ) -> MemoryOutcome {
        let now = self.now;
        let mut superseded = Vec::with_capacity(supersede.len());
        for (id, _) in supersede {
            if let Some(entry) = self.memories.get_mut(id) {
                superseded.push(entry.change(command, now, |memory| memory.superseded_by = Some(new.id.clone())));
            }
        }
        // What comes from elsewhere keeps its time, unless that is still to come.
        let told_at = new.created_at.unwrap_or(now).min(now);
        let memory = Arc::new(Memory {
            id: new.id.clone(),
            spec: new.spec.clone(),
            provenance: Provenance { author: command.actor.clone(), trust, derived_from: new.derived_from.clone() },
            content_hash: new.spec.content_hash(),
            frequency: 1,
            accesses: 0,
            last_accessed: told_at,
            superseded_by: None,
            revision: 1,
            created_at: told_at,
            updated_at: now,
            updated_by: command.actor.clone(),
        });
        let version = MemoryVersion { memory: Arc::clone(&memory), removed_at: None };
        self.insert(Entry { version, changed: true, deleted: false });
        self.op(command, &memory, "create");
        MemoryOutcome::Stored { memory, superseded }
    }

    fn update(
        &mut self,
        command: &MemoryCommand,
        id: &MemoryId,
        expected: Revision,
        spec: &MemorySpec,
    ) -> MemoryOutcome {
        let now = self.now;
        let Some(entry) = self.memories.get_mut(id).filter(|entry| entry.is_there()) else {
            return MemoryOutcome::NotFound;
        };
        let current = &entry.version.memory;
        if current.revision != expected {
            return MemoryOutcome::Conflict { current: current.revision };
        }
        if current.spec == *spec {
            return MemoryOutcome::Unchanged { memory: Arc::clone(current) };
        }
        let memory = entry.change(command, now, |memory| memory.spec = spec.clone());
        self.op(command, &memory, "update");
        MemoryOutcome::Updated { memory }
    }

    fn forget(
        &mut self,
        command: &MemoryCommand,
        id: &MemoryId,
        expected: Option<Revision>,
        purge: bool,
    ) -> MemoryOutcome {
        let now = self.now;
        let found = self.memories.get_mut(id).filter(|entry| !entry.deleted && (purge || entry.is_there()));
        let Some(entry) = found else { return MemoryOutcome::NotFound };
        let current = entry.version.memory.revision;
        if expected.is_some_and(|expected| expected != current) {
            return MemoryOutcome::Conflict { current };
        }
        let memory = entry.change(command, now, |_| {});
        if purge {
            entry.deleted = true;
        } else {
            entry.version.removed_at = Some(now);
        }
        self.op(command, &memory, if purge { "purge" } else { "forget" });
        MemoryOutcome::Forgotten { id: id.clone(), revision: memory.revision }
    }

    pub(crate) fn writes(self) -> Writes {
        let mut writes = Writes { ops: self.ops, ..Writes::default() };
        for (id, entry) in self.memories {
            if !entry.changed {
                continue;
            }
            writes.log.push(LogRow {
                entity: "memory",
                namespace: entry.version.memory.spec.namespace.to_string(),
                id: id.to_string(),
                revision: entry.version.memory.revision,
                op: if entry.is_there() { "put" } else { "remove" },
            });
            if entry.deleted {
                writes.deleted.push(id);
            } else {
                writes.memories.push(entry.version);
            }
        }
        for (agent, (experience, changed)) in self.experiences {
            if !changed {
                continue;
            }
            writes.log.push(LogRow {
                entity: "personality",
                namespace: agent.namespace.to_string(),
                id: agent.id.to_string(),
                revision: experience.revision,
                op: "put",
            });
            writes.experiences.push(Arc::new(experience));
        }
        writes
    }
}

impl Wanted {
    pub(crate) fn hashes_in_hex(&self) -> Vec<String> {
        self.hashes.iter().map(hex).collect()
    }
}

pub(crate) fn hex(hash: &ContentHash) -> String {
    use std::fmt::Write as _;
    hash.iter().fold(String::with_capacity(2 * hash.len()), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
