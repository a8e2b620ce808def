//! What can be wrong with a history.

use std::fmt;
use std::time::Duration;

/// One thing that a correct system never shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    /// A write that its process was told is committed is not in the final state.
    LostWrite {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The process that wrote it.
        process: String,
        /// The revision that it was told.
        revision: u64,
    },
    /// A value was seen that was never written, whose write was reported as not done, or that was seen before its
    /// write began.
    Phantom {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The process that saw it, or `final state`.
        seen_by: String,
    },
    /// A value that a process has read is not in the final state, although nobody was told it is committed: the
    /// reader saw what was never committed.
    DirtyRead {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The process that read it.
        process: String,
    },
    /// A read that began later than the bound after a commit does not show it.
    StaleRead {
        /// The key.
        key: String,
        /// A committed value that is missing.
        value: String,
        /// The process that read.
        process: String,
        /// How long after the commit the read began.
        late_by: Duration,
    },
    /// A process does not see what it has itself written and was told is committed.
    OwnWriteUnseen {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The process.
        process: String,
    },
    /// A process saw a revision and later an older one.
    RevisionWentBack {
        /// The key.
        key: String,
        /// The process.
        process: String,
        /// What it saw first.
        from: u64,
        /// What it saw later.
        to: u64,
    },
    /// Two committed writes expected the same revision, or made the same one.
    LostUpdate {
        /// The key.
        key: String,
        /// The first value.
        first: String,
        /// The second value.
        second: String,
        /// The revision that both expected, or both made.
        revision: u64,
    },
    /// A committed write made a revision that is not newer than the one it expected, or newer than the final one.
    WrongRevision {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The revision that it expected.
        expected: u64,
        /// The revision that it was told.
        made: u64,
    },
    /// A value is there twice.
    AppliedTwice {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The process that saw it, or `final state`.
        seen_by: String,
    },
    /// A read shows the values in another order than the final state, or with a gap.
    OrderViolation {
        /// The key.
        key: String,
        /// The process that read.
        process: String,
        /// The place in the list where the two differ.
        at: usize,
    },
    /// Two reads of the same revision show different lists.
    RevisionAmbiguous {
        /// The key.
        key: String,
        /// The revision.
        revision: u64,
        /// The process whose read differs from an earlier one.
        process: String,
    },
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LostWrite { key, value, process, revision } => {
                write!(
                    f,
                    "lost write: {process} was told that {value} is committed in {key} as revision {revision}, and it is not there"
                )
            }
            Self::Phantom { key, value, seen_by } => {
                write!(f, "phantom: {seen_by} shows {value} in {key}, which was not written")
            }
            Self::DirtyRead { key, value, process } => {
                write!(f, "dirty read: {process} read {value} in {key}, which was never committed")
            }
            Self::StaleRead { key, value, process, late_by } => {
                write!(f, "stale read: {process} did not see {value} in {key} {late_by:?} after its commit")
            }
            Self::OwnWriteUnseen { key, value, process } => {
                write!(f, "own write unseen: {process} did not see its own {value} in {key}")
            }
            Self::RevisionWentBack { key, process, from, to } => {
                write!(f, "revision went back: {process} saw {key} at revision {from} and then at {to}")
            }
            Self::LostUpdate { key, first, second, revision } => {
                write!(f, "lost update: {first} and {second} both won in {key} on revision {revision}")
            }
            Self::WrongRevision { key, value, expected, made } => {
                write!(f, "wrong revision: {value} in {key} expected {expected} and made {made}")
            }
            Self::AppliedTwice { key, value, seen_by } => {
                write!(f, "applied twice: {seen_by} shows {value} twice in {key}")
            }
            Self::OrderViolation { key, process, at } => {
                write!(f, "order violation: what {process} read of {key} differs from the final list at place {at}")
            }
            Self::RevisionAmbiguous { key, revision, process } => {
                write!(
                    f,
                    "ambiguous revision: {process} read {key} at revision {revision} with another list than before"
                )
            }
        }
    }
}
