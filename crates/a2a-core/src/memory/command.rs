//! What is asked of the store about memories, and what came of it.

use std::sync::Arc;

use super::experience::{AgentExperience, Experience, Personality};
use super::recall::CommittedMemory;
use super::{Memory, MemorySpec, Trust};
use crate::ids::{Actor, AgentKey, MemoryId, OpId, Revision};
use crate::time::Timestamp;

/// A write about memories that a caller asks for.
#[derive(Debug, Clone)]
pub struct MemoryCommand {
    /// Names this write across retries.
    pub op_id: OpId,
    /// Who asks.
    pub actor: Actor,
    /// What is to be done.
    pub action: MemoryAction,
}

/// What a command does.
#[derive(Debug, Clone)]
pub enum MemoryAction {
    /// Keeps a memory, or raises the frequency of the one that says the same; [`super::write::decide`] is the rule.
    Store(Box<NewMemory>),
    /// Replaces what may be changed of a document, when the memory has this revision.
    Update {
        /// The memory.
        id: MemoryId,
        /// Its revision when the document was made.
        expected_revision: Revision,
        /// The whole new document.
        spec: Box<MemorySpec>,
    },
    /// Takes a memory out of recall. Its row stays for a time, unless it is purged.
    Forget {
        /// The memory.
        id: MemoryId,
        /// Do it only when it has this revision.
        expected_revision: Option<Revision>,
        /// Whether nothing is to stay of it.
        purge: bool,
    },
    /// Teaches an agent something.
    Learn {
        /// The agent; it may be gone by now.
        agent: AgentKey,
        /// The capability that the experience was made with.
        capability: Option<Arc<str>>,
        /// The experience.
        experience: Experience,
    },
    /// Gives an agent the personality that it had elsewhere, unless it has experiences of its own here.
    Adopt {
        /// The agent; it may be gone by now.
        agent: AgentKey,
        /// What it was like.
        personality: Personality,
    },
}

/// A memory to be kept.
#[derive(Debug, Clone)]
pub struct NewMemory {
    /// The id that it gets when it is new.
    pub id: MemoryId,
    /// The document.
    pub spec: MemorySpec,
    /// The trust of its author.
    pub trust: Trust,
    /// The memories that it was made from; its trust is the lowest of theirs and its author's.
    pub derived_from: Box<[MemoryId]>,
    /// When it was first told, for one that comes from elsewhere; otherwise now, by the clock of the database.
    pub created_at: Option<Timestamp>,
}

/// What came of a command.
#[derive(Debug, Clone)]
pub enum MemoryOutcome {
    /// It is kept, and took the place of others.
    Stored {
        /// As it is now.
        memory: Arc<Memory>,
        /// Those whose place it took, as they are now.
        superseded: Vec<Arc<Memory>>,
    },
    /// This one says the same, and was told once more.
    Repeated {
        /// As it is now.
        memory: Arc<Memory>,
    },
    /// The document was replaced.
    Updated {
        /// As it is now.
        memory: Arc<Memory>,
    },
    /// The document was the same already.
    Unchanged {
        /// As it is.
        memory: Arc<Memory>,
    },
    /// It is out of recall, or gone.
    Forgotten {
        /// The memory.
        id: MemoryId,
        /// The revision of its end.
        revision: Revision,
    },
    /// The agent has learned.
    Learned {
        /// What it has experienced so far.
        experience: Arc<AgentExperience>,
    },
    /// Nothing: the agent has experiences of its own.
    Experienced {
        /// What it has experienced so far.
        experience: Arc<AgentExperience>,
    },
    /// It is not at the expected revision.
    Conflict {
        /// Its revision.
        current: Revision,
    },
    /// There is no such memory.
    NotFound,
    /// Nothing: memories that were to be superseded, or that it was made from, are not there.
    Missing {
        /// Their ids.
        ids: Vec<MemoryId>,
    },
    /// Nothing: text of low trust must not hide what is relied on more.
    TrustTooLow {
        /// The memory that would be hidden.
        id: MemoryId,
        /// Its trust.
        needed: Trust,
        /// The trust that the new memory would have.
        offered: Trust,
    },
    /// The database does not accept it.
    Rejected {
        /// Why, as far as a caller may know.
        reason: Box<str>,
    },
}

impl MemoryCommand {
    /// What it weighs in the writer's queue.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const OVERHEAD: usize = 512;
        let spec = match &self.action {
            MemoryAction::Store(new) => Some(&new.spec),
            MemoryAction::Update { spec, .. } => Some(&**spec),
            MemoryAction::Forget { .. } | MemoryAction::Learn { .. } | MemoryAction::Adopt { .. } => None,
        };
        OVERHEAD + spec.map_or(0, |spec| spec.content.len() + spec.data.as_ref().map_or(0, |data| data.as_str().len()))
    }
}

/// A committed state, as the cache takes it over.
#[derive(Debug, Clone)]
pub enum MemoryCommitted {
    /// Of a memory.
    Memory(CommittedMemory),
    /// What an agent has experienced.
    Experience(Arc<AgentExperience>),
}

impl MemoryOutcome {
    /// The states that the cache has to take over.
    #[must_use]
    pub fn committed(&self) -> Vec<MemoryCommitted> {
        let there = |memory: &Arc<Memory>| MemoryCommitted::Memory(CommittedMemory::Memory(Arc::clone(memory)));
        match self {
            Self::Stored { memory, superseded } => superseded.iter().chain([memory]).map(there).collect(),
            Self::Repeated { memory } | Self::Updated { memory } | Self::Unchanged { memory } => vec![there(memory)],
            Self::Forgotten { id, revision } => {
                vec![MemoryCommitted::Memory(CommittedMemory::Removed(id.clone(), *revision))]
            }
            Self::Learned { experience } => vec![MemoryCommitted::Experience(Arc::clone(experience))],
            _ => Vec::new(),
        }
    }
}
