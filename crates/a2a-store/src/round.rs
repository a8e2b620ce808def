//! One round of a transaction: the changes of distinct agents, from the locked rows to what each caller is told.
//!
//! Both backends go the same way and differ only in the statements:
//! lock the keys → [`Round::decide`] → write puts, removals and purges → [`Round::outcomes`].

use std::collections::HashMap;
use std::sync::Arc;

use a2a_core::agent::{Agent, AgentSpec};
use a2a_core::change::{AgentPut, Change, Current, Decision, Mutation, Outcome};
use a2a_core::ids::{AgentKey, OpId, Revision};
use a2a_core::time::Timestamp;

use crate::agent_row::stored_key;
use crate::error::StoreError;

/// Changes that happen together or not at all, on distinct entities.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The changes.
    pub changes: Vec<Change>,
}

impl Unit {
    /// A unit of one change.
    #[must_use]
    pub fn one(change: Change) -> Self {
        Self { changes: vec![change] }
    }
}

/// Splits units into rounds in which each key appears once, and keeps the order of changes of one key.
pub(crate) fn rounds(units: &[Unit]) -> Vec<Vec<usize>> {
    let mut next_round: HashMap<AgentKey, usize> = HashMap::new();
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for (index, unit) in units.iter().enumerate() {
        let keys: Vec<AgentKey> = unit.changes.iter().map(|c| c.mutation.key()).collect();
        let round = keys.iter().filter_map(|key| next_round.get(key)).max().copied().unwrap_or(0);
        for key in keys {
            next_round.insert(key, round + 1);
        }
        if rounds.len() <= round {
            rounds.resize(round + 1, Vec::new());
        }
        if let Some(members) = rounds.get_mut(round) {
            members.push(index);
        }
    }
    rounds
}

/// A write that an earlier attempt has committed.
#[derive(Debug, Clone)]
pub(crate) struct AppliedOp {
    pub(crate) revision: Revision,
    pub(crate) replaced_revision: Option<Revision>,
    pub(crate) op: Op,
    /// The agent as that write left it, for a put.
    pub(crate) agent: Option<Arc<Agent>>,
}

/// What a write did, as `applied_ops` and `change_log` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Put,
    Remove,
    Purge,
}

impl Op {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Remove => "remove",
            Self::Purge => "purge",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Put, Self::Remove, Self::Purge].into_iter().find(|op| op.as_str() == name)
    }
}

/// Reads a locked row: namespace, id, revision, hash of the document, whether it is removed.
pub(crate) fn current_row(
    (namespace, id, revision, hash, removed): (String, String, i64, Vec<u8>, bool),
) -> Result<(AgentKey, Current), StoreError> {
    let key = stored_key(namespace, id);
    match hash.try_into() {
        Ok(content_hash) => Ok((key, Current { revision, content_hash, removed })),
        Err(_) => Err(StoreError::Row {
            table: "agents",
            key: key.to_string(),
            reason: "content_hash has not 32 bytes".to_owned(),
        }),
    }
}

/// What a backend returns of a written row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) revision: Revision,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) deployed_at: Timestamp,
}

/// A document to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PutRow<'a> {
    pub(crate) change: &'a Change,
    pub(crate) put: &'a AgentPut,
    /// The revision of the row to be replaced, `None` to insert one.
    pub(crate) base: Option<Revision>,
    /// The live revision that the caller is told it replaced.
    pub(crate) replaced: Option<Revision>,
}

/// An agent to be removed or purged.
#[derive(Debug, Clone)]
pub(crate) struct RemoveRow<'a> {
    pub(crate) change: &'a Change,
    pub(crate) key: AgentKey,
}

#[derive(Debug)]
enum Step {
    Decided(Decision),
    AlreadyApplied(AppliedOp),
    Aborted,
}

/// The units of one round with what is decided for each change.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    units: Vec<&'a Unit>,
    steps: Vec<Vec<(Step, Option<Revision>)>>,
}

impl<'a> Round<'a> {
    pub(crate) fn new(units: Vec<&'a Unit>) -> Self {
        Self { units, steps: Vec::new() }
    }

    fn changes(&self) -> impl Iterator<Item = &'a Change> {
        self.units.iter().flat_map(|unit| unit.changes.iter())
    }

    /// The keys, sorted: locks are always taken in this order, so that two processes cannot wait for each other.
    pub(crate) fn keys(&self) -> Vec<AgentKey> {
        let mut keys: Vec<AgentKey> = self.changes().map(|c| c.mutation.key()).collect();
        keys.sort_unstable();
        keys
    }

    pub(crate) fn op_ids(&self) -> Vec<OpId> {
        self.changes().map(|c| c.op_id).collect()
    }

    /// Decides each change. In a unit where one change can't be done, none is.
    pub(crate) fn decide(&mut self, current: &HashMap<AgentKey, Current>, applied: &HashMap<OpId, AppliedOp>) {
        self.steps = self
            .units
            .iter()
            .map(|unit| {
                let mut steps: Vec<(Step, Option<Revision>)> = unit
                    .changes
                    .iter()
                    .map(|change| {
                        if let Some(op) = applied.get(&change.op_id) {
                            return (Step::AlreadyApplied(op.clone()), None);
                        }
                        let current = current.get(&change.mutation.key());
                        let decision = change.mutation.decide(change.expected_revision, current);
                        (Step::Decided(decision), current.filter(|c| !c.removed).map(|c| c.revision))
                    })
                    .collect();
                if steps.iter().any(|(step, _)| matches!(step, Step::AlreadyApplied(_))) {
                    // The unit was committed as a whole. What left no trace had nothing to change at that time,
                    // whatever has become of it since.
                    for ((step, live), change) in steps.iter_mut().zip(&unit.changes) {
                        if matches!(step, Step::Decided(_)) {
                            let revision = change.expected_revision.or(*live).unwrap_or(0);
                            *step = Step::Decided(Decision::Unchanged { revision });
                        }
                    }
                    return steps;
                }
                let fails = |step: &Step| matches!(step, Step::Decided(d) if !d.is_success());
                if steps.iter().any(|(step, _)| fails(step)) {
                    for (step, _) in &mut steps {
                        if !fails(step) {
                            *step = Step::Aborted;
                        }
                    }
                }
                steps
            })
            .collect();
    }

    fn decided(&self) -> impl Iterator<Item = (&'a Change, Decision, Option<Revision>)> {
        self.units.iter().zip(&self.steps).flat_map(|(unit, steps)| {
            unit.changes.iter().zip(steps).filter_map(|(change, (step, live))| match step {
                Step::Decided(decision) => Some((change, *decision, *live)),
                Step::AlreadyApplied(_) | Step::Aborted => None,
            })
        })
    }

    /// The documents to be written, sorted by key.
    pub(crate) fn puts(&self, current: &HashMap<AgentKey, Current>) -> Vec<PutRow<'a>> {
        let mut rows: Vec<PutRow<'a>> = self
            .decided()
            .filter_map(|(change, decision, live)| {
                let Mutation::AgentPut(put) = &change.mutation else { return None };
                let base = match decision {
                    Decision::Create => None,
                    Decision::Replace => Some(current.get(&put.spec.key())?.revision),
                    _ => return None,
                };
                Some(PutRow { change, put, base, replaced: live })
            })
            .collect();
        rows.sort_unstable_by(|a, b| {
            (&a.put.spec.namespace, &a.put.spec.id).cmp(&(&b.put.spec.namespace, &b.put.spec.id))
        });
        rows
    }

    /// The agents to be removed (`wanted` is [`Decision::Remove`]) or purged, sorted by key.
    pub(crate) fn removals(&self, wanted: Decision) -> Vec<RemoveRow<'a>> {
        let mut rows: Vec<RemoveRow<'a>> = self
            .decided()
            .filter(|(_, decision, _)| *decision == wanted)
            .map(|(change, ..)| RemoveRow { change, key: change.mutation.key() })
            .collect();
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        rows
    }

    /// What each change of each unit came to, given the rows that were written. `None` when a row is missing, because
    /// another process has written the same key in between: the transaction must be rolled back and tried again.
    pub(crate) fn outcomes(self, written: &HashMap<AgentKey, Written>) -> Option<Vec<Vec<Outcome>>> {
        self.units
            .iter()
            .zip(self.steps)
            .map(|(unit, steps)| {
                unit.changes
                    .iter()
                    .zip(steps)
                    .map(|(change, (step, live))| match step {
                        Step::Aborted => Some(Outcome::Aborted),
                        Step::AlreadyApplied(op) => Some(applied_outcome(op)),
                        Step::Decided(decision) => outcome(change, decision, live, written),
                    })
                    .collect()
            })
            .collect()
    }
}

fn outcome(
    change: &Change,
    decision: Decision,
    live: Option<Revision>,
    written: &HashMap<AgentKey, Written>,
) -> Option<Outcome> {
    Some(match decision {
        Decision::Unchanged { revision } => Outcome::Unchanged { revision },
        Decision::Conflict { current } => Outcome::Conflict { current },
        Decision::NotFound => Outcome::NotFound,
        Decision::Remove | Decision::Purge => Outcome::Removed {
            revision: written.get(&change.mutation.key())?.revision,
            purged: decision == Decision::Purge,
        },
        Decision::Create | Decision::Replace => {
            let Mutation::AgentPut(put) = &change.mutation else { return None };
            let row = written.get(&put.spec.key())?;
            Outcome::Put { agent: Arc::new(written_agent(put, change, row)), replaced_revision: live }
        }
    })
}

/// The agent as the database has it after its row was written.
pub(crate) fn written_agent(put: &AgentPut, change: &Change, row: &Written) -> Agent {
    Agent {
        spec: AgentSpec::clone(&put.spec),
        revision: row.revision,
        created_at: row.created_at,
        updated_at: row.updated_at,
        deployed_at: row.deployed_at,
        updated_by: change.actor.clone(),
    }
}

fn applied_outcome(op: AppliedOp) -> Outcome {
    match (op.op, op.agent) {
        (Op::Put, Some(agent)) => Outcome::Put { agent, replaced_revision: op.replaced_revision },
        // It was written, and purged since.
        (Op::Put, None) => Outcome::NotFound,
        (Op::Remove, _) => Outcome::Removed { revision: op.revision, purged: false },
        (Op::Purge, _) => Outcome::Removed { revision: op.revision, purged: true },
    }
}
