//! Finds the writes that the database rejects, so that they fail alone.

use a2a_core::change::Outcome;
use a2a_core::memory::command::{MemoryCommand, MemoryOutcome};

use crate::error::StoreError;
use crate::round::Unit;

/// What can be told of a write that the database rejects.
pub(crate) trait Rejected {
    /// What comes of it.
    type Outcome;

    /// The outcome of a rejected one. The text of a database error may show other people's data, so that only its kind
    /// is passed on.
    fn rejected(&self, reason: &str) -> Self::Outcome;
}

impl Rejected for Unit {
    type Outcome = Vec<Outcome>;

    fn rejected(&self, reason: &str) -> Vec<Outcome> {
        vec![Outcome::Rejected { reason: reason.to_owned() }; self.changes.len()]
    }
}

impl Rejected for MemoryCommand {
    type Outcome = MemoryOutcome;

    fn rejected(&self, reason: &str) -> MemoryOutcome {
        MemoryOutcome::Rejected { reason: reason.into() }
    }
}

/// Halves a batch until each rejected part is a single write. Parts are handed out in order.
pub(crate) struct Bisect<'a, T: Rejected> {
    /// Parts still to be tried, the next one last.
    parts: Vec<&'a [T]>,
    current: &'a [T],
    outcomes: Vec<T::Outcome>,
}

impl<'a, T: Rejected> Bisect<'a, T> {
    /// Starts with a batch that was rejected as a whole.
    pub(crate) fn new(all: &'a [T]) -> Self {
        let mut bisect = Self { parts: Vec::new(), current: &[], outcomes: Vec::with_capacity(all.len()) };
        if all.len() > 1 {
            bisect.split(all);
        } else {
            bisect.parts.push(all);
        }
        bisect
    }

    fn split(&mut self, part: &'a [T]) {
        let (first, second) = part.split_at(part.len() / 2);
        self.parts.push(second);
        self.parts.push(first);
    }

    /// The next part to be tried in a savepoint of its own.
    pub(crate) fn next_part(&mut self) -> Option<&'a [T]> {
        self.current = self.parts.pop()?;
        Some(self.current)
    }

    /// The part was applied.
    pub(crate) fn applied(&mut self, outcomes: Vec<T::Outcome>) {
        self.outcomes.extend(outcomes);
    }

    /// The database rejects something in the part.
    pub(crate) fn rejected(&mut self, error: &StoreError) {
        if let [one] = self.current {
            tracing::error!(%error, "the database rejects a change");
            let reason = "the database does not accept this document; see the server's log for the reason";
            self.outcomes.push(one.rejected(reason));
        } else {
            self.split(self.current);
        }
    }

    /// An outcome for each write, in their order.
    pub(crate) fn into_outcomes(self) -> Vec<T::Outcome> {
        self.outcomes
    }
}
