//! From locked rows to outcomes, for commands about workflows. Shared by both backends, which differ in the statements.
//!
//! A batch is up to three transactions, in this order:
//! 1. Claims lock the rows of the steps that they want, without waiting, and nothing else: [`claim`]. What others had
//!    locked is tried once more after that, waiting for a moment.
//! 2. Notes and renewals lock the rows of their steps: [`note`].
//! 3. Everything else locks workflows, then runs: [`Round`]. Under the lock of a run nobody else changes it or its steps,
//!    but for claims and notes, which lock single steps. So a step is written only if it is still what was read; if not,
//!    the transaction is done again with the locks of those steps too.
//!
//! Ordering: rows of one kind are locked in the order of their keys, or without waiting, so that two processes can't
//! wait for each other.

mod round;

use std::collections::HashMap;
use std::sync::Arc;

use a2a_core::ids::{Revision, RunId};
use a2a_core::json_text::JsonText;
use a2a_core::time::Timestamp;
use a2a_core::workflow::command::{ClaimRef, Claimer, Refusal, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::machine;
use a2a_core::workflow::run::{Run, Step};

use crate::error::StoreError;

pub(crate) use round::{
    AppliedOp, AppliedRow, CurrentWorkflow, Locked, NewRunRow, Round, WorkflowWrite, Writes, claim_ops,
    idempotency_keys, run_ids, workflow_keys, workflow_ops,
};

/// A command with its place in the batch.
pub(crate) type Indexed<'c> = (usize, &'c WorkflowCommand);
/// The outcome of the command at a place in the batch.
pub(crate) type Done = (usize, WorkflowOutcome);
/// A step, by its run and position.
pub(crate) type StepKey = (RunId, usize);
/// One payload of a step.
pub(crate) type StepPayload = (StepKey, Option<JsonText>);

/// The commands of a batch by the transaction that they belong to.
#[derive(Debug, Default)]
pub(crate) struct Parts<'c> {
    pub(crate) claims: Vec<Indexed<'c>>,
    pub(crate) notes: Vec<Indexed<'c>>,
    pub(crate) events: Vec<Indexed<'c>>,
}

impl<'c> Parts<'c> {
    pub(crate) fn of(commands: &'c [WorkflowCommand]) -> Self {
        let mut parts = Self::default();
        for (index, command) in commands.iter().enumerate() {
            let part = match command {
                WorkflowCommand::StepClaim { .. } => &mut parts.claims,
                WorkflowCommand::StepRenew { .. } | WorkflowCommand::StepNote { .. } => &mut parts.notes,
                _ => &mut parts.events,
            };
            part.push((index, command));
        }
        parts
    }
}

/// Puts the outcomes of a batch into the order of its commands.
pub(crate) fn in_order(mut done: Vec<Done>, commands: usize) -> Result<Vec<WorkflowOutcome>, StoreError> {
    done.sort_unstable_by_key(|(index, _)| *index);
    if done.len() != commands {
        return Err(StoreError::Task("a command about workflows has no outcome".to_owned()));
    }
    Ok(done.into_iter().map(|(_, outcome)| outcome).collect())
}

/// Halves a rejected part until each rejected part is one command. Parts are handed out in order.
pub(crate) struct Halves<'p, 'c> {
    /// Parts still to be tried, the next one last.
    parts: Vec<&'p [Indexed<'c>]>,
    current: &'p [Indexed<'c>],
    done: Vec<Done>,
}

impl<'p, 'c> Halves<'p, 'c> {
    pub(crate) fn new(commands: &'p [Indexed<'c>]) -> Self {
        Self { parts: vec![commands], current: &[], done: Vec::with_capacity(commands.len()) }
    }

    /// The next part to be tried in a savepoint of its own.
    pub(crate) fn next_part(&mut self) -> Option<&'p [Indexed<'c>]> {
        self.current = self.parts.pop()?;
        Some(self.current)
    }

    /// The part was applied.
    pub(crate) fn applied(&mut self, done: Vec<Done>) {
        self.done.extend(done);
    }

    /// The database rejects something in the part.
    pub(crate) fn rejected(&mut self, error: &StoreError) {
        if let [(index, _)] = self.current {
            tracing::error!(%error, "the database rejects a command about workflows");
            // The text of a database error may show other people's data, so that only its kind is passed on.
            let reason = "the database does not accept this; see the server's log for the reason";
            self.done.push((*index, WorkflowOutcome::Rejected { reason: reason.into() }));
        } else {
            let (first, second) = self.current.split_at(self.current.len() / 2);
            self.parts.push(second);
            self.parts.push(first);
        }
    }

    pub(crate) fn into_done(self) -> Vec<Done> {
        self.done
    }
}

/// A step that has changed, with the revision that it had before.
pub(crate) type ChangedStep = (RunId, Step, Revision);

/// The claims of a part: command, step and claimer.
pub(crate) fn claims_of<'c>(commands: &[Indexed<'c>]) -> Vec<(usize, StepKey, &'c Claimer)> {
    commands
        .iter()
        .filter_map(|(index, command)| match command {
            WorkflowCommand::StepClaim { run, order, claimer } => Some((*index, (run.clone(), *order), claimer)),
            _ => None,
        })
        .collect()
}

/// What a backend read for claims.
#[derive(Debug, Default)]
pub(crate) struct ClaimRows {
    /// The runs, not locked.
    pub(crate) runs: HashMap<RunId, Arc<Run>>,
    /// Steps whose rows are locked, with their inputs.
    pub(crate) locked: HashMap<StepKey, Step>,
    /// The other steps, with their inputs, as they are or were a moment ago.
    pub(crate) others: HashMap<StepKey, Step>,
}

/// Decides claims: what is to be written, and what each caller is told.
pub(crate) fn claim(commands: &[Indexed<'_>], rows: &mut ClaimRows, now: Timestamp) -> (Vec<ChangedStep>, Vec<Done>) {
    let mut done = Vec::with_capacity(commands.len());
    let mut changed: Vec<ChangedStep> = Vec::new();
    for (index, key, claimer) in claims_of(commands) {
        done.push((index, claim_one(&key, claimer, rows, now, &mut changed)));
    }
    (changed, done)
}

fn claim_one(
    key: &StepKey,
    claimer: &Claimer,
    rows: &mut ClaimRows,
    now: Timestamp,
    changed: &mut Vec<ChangedStep>,
) -> WorkflowOutcome {
    let Some(run) = rows.runs.get(&key.0).cloned() else { return WorkflowOutcome::NotFound };
    let Some(spec) = run.definition.spec.steps.get(key.1) else {
        return WorkflowOutcome::Refused(Refusal::NoSuchStep);
    };
    if let Some(step) = rows.locked.get_mut(key) {
        return match machine::claim(step, spec, claimer, now) {
            Ok(claimed) => {
                if claimed.revision != step.revision {
                    changed.push((key.0.clone(), claimed.clone(), step.revision));
                    *step = claimed.clone();
                }
                WorkflowOutcome::Claimed { run, step: Box::new(claimed) }
            }
            Err(refusal) => WorkflowOutcome::Refused(refusal),
        };
    }
    let Some(step) = rows.others.get(key) else { return WorkflowOutcome::Refused(Refusal::NoSuchStep) };
    match machine::claim(step, spec, claimer, now) {
        // An earlier attempt of this very command was committed.
        Ok(claimed) if claimed.revision == step.revision => WorkflowOutcome::Claimed { run, step: Box::new(claimed) },
        Err(refusal) => WorkflowOutcome::Refused(refusal),
        // It is ready, and somebody else is about to take it.
        Ok(_) => WorkflowOutcome::Refused(Refusal::Step { status: step.status }),
    }
}

/// The claim that a note or a renewal is about.
fn claim_ref(command: &WorkflowCommand) -> Option<&ClaimRef> {
    match command {
        WorkflowCommand::StepRenew { claim, .. } | WorkflowCommand::StepNote { claim, .. } => Some(claim),
        _ => None,
    }
}

/// The steps that notes and renewals are about, sorted, without doubles.
pub(crate) fn noted_steps(commands: &[Indexed<'_>]) -> Vec<StepKey> {
    sorted(commands.iter().filter_map(|(_, command)| claim_ref(command)).map(|c| (c.run.clone(), c.order)))
}

/// Sorts keys and drops doubles.
pub(crate) fn sorted<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<K> {
    let mut keys: Vec<K> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Decides notes and renewals of locked steps.
pub(crate) fn note(
    commands: &[Indexed<'_>],
    steps: &mut HashMap<StepKey, Step>,
    now: Timestamp,
) -> (Vec<ChangedStep>, Vec<Done>) {
    let before: HashMap<StepKey, i64> = steps.iter().map(|(key, step)| (key.clone(), step.revision)).collect();
    let mut done = Vec::with_capacity(commands.len());
    for (index, command) in commands {
        let Some(claim) = claim_ref(command) else { continue };
        let Some(step) = steps.get_mut(&(claim.run.clone(), claim.order)) else {
            done.push((*index, WorkflowOutcome::NotFound));
            continue;
        };
        let noted = match command {
            WorkflowCommand::StepNote { claim, progress, checkpoint, lease, progress_within } => {
                machine::note(step, claim, *lease, *progress_within, progress.clone(), checkpoint.clone(), now)
            }
            WorkflowCommand::StepRenew { claim, lease } => machine::note(step, claim, *lease, None, None, None, now),
            _ => continue,
        };
        done.push((
            *index,
            match noted {
                Ok(noted) => {
                    *step = noted;
                    WorkflowOutcome::Noted
                }
                Err(refusal) => WorkflowOutcome::Refused(refusal),
            },
        ));
    }
    let mut changed: Vec<ChangedStep> = steps
        .iter()
        .filter_map(|(key, step)| {
            let base = *before.get(key)?;
            (base != step.revision).then(|| (key.0.clone(), step.clone(), base))
        })
        .collect();
    changed.sort_unstable_by(|(a, x, _), (b, y, _)| (a, x.order).cmp(&(b, y.order)));
    (changed, done)
}
