//! Finds the units that the database rejects, so that they fail alone.

use a2a_core::change::Outcome;

use crate::error::StoreError;
use crate::round::Unit;

/// Halves a batch until each rejected part is a single unit. Parts are handed out in order.
pub(crate) struct Bisect<'a> {
    /// Parts still to be tried, the next one last.
    parts: Vec<&'a [Unit]>,
    current: &'a [Unit],
    outcomes: Vec<Vec<Outcome>>,
}

impl<'a> Bisect<'a> {
    /// Starts with a batch that was rejected as a whole.
    pub(crate) fn new(units: &'a [Unit]) -> Self {
        let mut bisect = Self { parts: Vec::new(), current: &[], outcomes: Vec::with_capacity(units.len()) };
        if units.len() > 1 {
            bisect.split(units);
        } else {
            bisect.parts.push(units);
        }
        bisect
    }

    fn split(&mut self, part: &'a [Unit]) {
        let (first, second) = part.split_at(part.len() / 2);
        self.parts.push(second);
        self.parts.push(first);
    }

    /// The next part to be tried in a savepoint of its own.
    pub(crate) fn next_part(&mut self) -> Option<&'a [Unit]> {
        self.current = self.parts.pop()?;
        Some(self.current)
    }

    /// The part was applied.
    pub(crate) fn applied(&mut self, outcomes: Vec<Vec<Outcome>>) {
        self.outcomes.extend(outcomes);
    }

    /// The database rejects something in the part.
    pub(crate) fn rejected(&mut self, error: &StoreError) {
        if let [unit] = self.current {
            tracing::error!(%error, "the database rejects a change");
            // The text of a database error may show other people's data, so that only its kind is passed on.
            let reason = "the database does not accept this document; see the server's log for the reason";
            self.outcomes.push(vec![Outcome::Rejected { reason: reason.to_owned() }; unit.changes.len()]);
        } else {
            self.split(self.current);
        }
    }

    /// An outcome for each unit, in their order.
    pub(crate) fn into_outcomes(self) -> Vec<Vec<Outcome>> {
        self.outcomes
    }
}
