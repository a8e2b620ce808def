//! One write: what is asked, what the database has, what happens, and what came of it.
//!
//! [`Mutation::decide`] is the whole rule of a write. Both backends lock the row, ask it, and do what it says, so that
//! they cannot differ.

use std::sync::Arc;

use crate::agent::{Agent, AgentSpec, ContentHash};
use crate::ids::{Actor, AgentId, AgentKey, Namespace, OpId, Revision};

/// A write that a caller asks for.
#[derive(Debug, Clone)]
pub struct Change {
    /// Names this write across retries.
    pub op_id: OpId,
    /// What is to be done.
    pub mutation: Mutation,
    /// Do it only when the entity has this revision; 0 means only when there is none.
    pub expected_revision: Option<Revision>,
    /// Who asks.
    pub actor: Actor,
}

/// What a change does.
#[derive(Debug, Clone)]
pub enum Mutation {
    /// Makes the agent or replaces its document.
    AgentPut(Box<AgentPut>),
    /// Takes the agent out of the registry; its history stays and deploying it again continues its revisions.
    AgentRemove(AgentKey),
    /// Erases the agent and its history; only the last revision number stays.
    AgentPurge(AgentKey),
}

/// A new document of an agent.
#[derive(Debug, Clone)]
pub struct AgentPut {
    /// The document.
    pub spec: Arc<AgentSpec>,
    /// The document as compact JSON, made once for the hash, the size limit and the history.
    pub document: Arc<str>,
    /// The hash of `document`.
    pub content_hash: ContentHash,
    /// Whether this is a deploy, which sets `deployed_at`.
    pub deploy: bool,
}

impl AgentPut {
    /// Prepares the write of a document.
    ///
    /// # Errors
    /// When a JSON text inside is not JSON.
    pub fn new(spec: AgentSpec, deploy: bool) -> Result<Self, serde_json::Error> {
        let document: Arc<str> = spec.to_json()?.into();
        let content_hash = crate::agent::content_hash(&document);
        Ok(Self { spec: Arc::new(spec), document, content_hash, deploy })
    }
}

impl Mutation {
    /// The agent that is written.
    #[must_use]
    pub fn key(&self) -> AgentKey {
        match self {
            Self::AgentPut(put) => put.spec.key(),
            Self::AgentRemove(key) | Self::AgentPurge(key) => key.clone(),
        }
    }

    /// Like [`Mutation::key`], borrowed.
    #[must_use]
    pub fn key_parts(&self) -> (&Namespace, &AgentId) {
        match self {
            Self::AgentPut(put) => (&put.spec.namespace, &put.spec.id),
            Self::AgentRemove(key) | Self::AgentPurge(key) => (&key.namespace, &key.id),
        }
    }

    /// What it weighs in the writer's queue.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const OVERHEAD: usize = 256;
        OVERHEAD
            + match self {
                Self::AgentPut(put) => put.document.len(),
                Self::AgentRemove(_) | Self::AgentPurge(_) => 0,
            }
    }

    /// Decides what happens, given what the database holds under a lock.
    #[must_use]
    pub fn decide(&self, expected: Option<Revision>, current: Option<&Current>) -> Decision {
        let live = current.filter(|c| !c.removed);
        if let Some(expected) = expected {
            let actual = live.map_or(0, |c| c.revision);
            if expected != actual {
                return Decision::Conflict { current: actual };
            }
        }
        match (self, current) {
            (Self::AgentPut(_), None) => Decision::Create,
            (Self::AgentPut(put), Some(c)) => {
                if !c.removed && c.content_hash == put.content_hash {
                    Decision::Unchanged { revision: c.revision }
                } else {
                    Decision::Replace
                }
            }
            (Self::AgentRemove(_), _) if live.is_some() => Decision::Remove,
            // A removed agent can still be purged: that is how its history is erased.
            (Self::AgentPurge(_), Some(_)) => Decision::Purge,
            (Self::AgentRemove(_) | Self::AgentPurge(_), _) => Decision::NotFound,
        }
    }
}

/// What the database holds of an agent, read under a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// Its revision.
    pub revision: Revision,
    /// The hash of its document.
    pub content_hash: ContentHash,
    /// Whether it was removed, and not purged.
    pub removed: bool,
}

/// What is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Insert the row; its revision follows that of a tombstone.
    Create,
    /// Keep the row in the history and replace it.
    Replace,
    /// Keep the row in the history and mark it as removed.
    Remove,
    /// Delete row and history and leave a tombstone.
    Purge,
    /// Nothing: the document is the same.
    Unchanged {
        /// The revision that stays.
        revision: Revision,
    },
    /// Nothing: the revision is not the expected one.
    Conflict {
        /// The revision there is, 0 for none.
        current: Revision,
    },
    /// Nothing: there is no such agent.
    NotFound,
}

impl Decision {
    /// Whether the caller gets what it asked for.
    #[must_use]
    pub fn is_success(self) -> bool {
        !matches!(self, Self::Conflict { .. } | Self::NotFound)
    }
}

/// What came of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The agent was made or replaced.
    Put {
        /// The agent as the database now has it.
        agent: Arc<Agent>,
        /// The revision that was replaced, if there was a live one.
        replaced_revision: Option<Revision>,
    },
    /// The agent was already so.
    Unchanged {
        /// The revision that stays.
        revision: Revision,
    },
    /// The agent was removed or purged.
    Removed {
        /// The revision of the removal.
        revision: Revision,
        /// Whether its history was erased too.
        purged: bool,
    },
    /// The revision was not the expected one.
    Conflict {
        /// The revision there is, 0 for none.
        current: Revision,
    },
    /// There is no such agent.
    NotFound,
    /// The database refuses this change itself; others were not affected.
    Rejected {
        /// What a caller may see of the reason.
        reason: String,
    },
    /// Not done because another change of the same atomic batch could not be.
    Aborted,
}

impl Outcome {
    /// Whether the caller got what it asked for.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Unchanged { .. } | Self::Removed { .. })
    }
}

/// The committed state of one agent, for the cache.
#[derive(Debug, Clone)]
pub enum Committed {
    /// It is there.
    Agent(Arc<Agent>),
    /// It was removed at this revision.
    Removed(AgentKey, Revision),
}
