//! What storing a memory does, given what the database holds. Both backends lock the rows, ask [`decide`] and do what it
//! says, so that they cannot differ.

use super::{MemorySpec, MemoryType, Trust};
use crate::agent::ContentHash;
use crate::ids::{MemoryId, Revision};
use crate::time::Timestamp;

/// A turn of a conversation that repeats an earlier one is a client's second try within this time, in milliseconds, and
/// a turn of its own after it: people do say "yes" twice.
pub const TURN_REPEAT_MS: i64 = 60_000;

/// What the database holds of a memory that a new one has to do with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its id.
    pub id: MemoryId,
    /// Its revision.
    pub revision: Revision,
    /// Its trust.
    pub trust: Trust,
    /// The hash of what it says.
    pub content_hash: ContentHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last told or recalled.
    pub last_accessed: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Whether another one took its place.
    pub superseded: bool,
}

impl Held {
    fn is_live(&self, now: Timestamp) -> bool {
        !self.superseded && self.expires_at.is_none_or(|at| at > now)
    }
}

/// What storing a memory does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreDecision {
    /// Insert it with this trust, and mark these as superseded by it.
    Create {
        /// The trust of the new memory.
        trust: Trust,
        /// The memories whose place it takes, each with the revision it has now.
        supersede: Vec<(MemoryId, Revision)>,
    },
    /// It is known: raise the frequency of this one and set `last_accessed`. Its trust stays as it is: being told again
    /// by somebody who may be relied on less takes nothing away, and by somebody more adds nothing that was checked.
    Repeat {
        /// The memory that says the same.
        id: MemoryId,
    },
    /// Nothing: a memory that is to be superseded is not there.
    Missing {
        /// The ids that are not there.
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
}

/// Decides what storing does.
///
/// `trust` is that of the author, `derived_from` that of each memory it was made from. `held` has every memory, live or
/// not, with the same content hash, with the same key, agent and user, or named in `supersedes`; `same_key` tells which of
/// them have the key.
#[must_use]
pub fn decide(
    spec: &MemorySpec,
    trust: Trust,
    derived_from: impl IntoIterator<Item = Trust>,
    held: &[Held],
    same_key: impl Fn(&Held) -> bool,
    now: Timestamp,
) -> StoreDecision {
    let trust = trust.derived(derived_from);
    let content_hash = spec.content_hash();
    let repeated = held
        .iter()
        .filter(|h| h.is_live(now) && h.content_hash == content_hash)
        .find(|h| spec.kind != MemoryType::Conversation || now.0.saturating_sub(h.last_accessed.0) <= TURN_REPEAT_MS);
    let missing: Vec<MemoryId> =
        spec.supersedes.iter().filter(|id| held.iter().all(|h| h.id != **id)).cloned().collect();
    if !missing.is_empty() {
        return StoreDecision::Missing { ids: missing };
    }
    if let Some(same) = repeated.filter(|same| !spec.supersedes.contains(&same.id)) {
        let replaces_others = spec.supersedes.iter().any(|id| held.iter().any(|h| h.id == *id && !h.superseded));
        if !replaces_others {
            return StoreDecision::Repeat { id: same.id.clone() };
        }
    }
    let mut supersede = Vec::new();
    for h in held {
        let named = spec.supersedes.contains(&h.id);
        // One that was superseded before keeps its successor: a chain has no forks.
        if h.superseded || !(named || spec.key.is_some() && same_key(h)) {
            continue;
        }
        if h.trust > trust {
            return StoreDecision::TrustTooLow { id: h.id.clone(), needed: h.trust, offered: trust };
        }
        supersede.push((h.id.clone(), h.revision));
    }
    StoreDecision::Create { trust, supersede }
}
