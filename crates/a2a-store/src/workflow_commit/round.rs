//! Workflows, starts and events of one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use a2a_core::agent::{ContentHash, content_hash};
use a2a_core::ids::{Actor, Namespace, OpId, Revision, RunId, WorkflowKey};
use a2a_core::time::Timestamp;
use a2a_core::workflow::command::{
    ClaimNext, Event, NewRun, StepResult, WorkflowCommand, WorkflowOutcome, WorkflowPut,
};
use a2a_core::workflow::definition::Workflow;
use a2a_core::workflow::machine::{self, OutputsNeeded, Verdict};
use a2a_core::workflow::run::{Payload, RunState, Step, StepStatus};

use serde::Serialize;

use super::{Done, Indexed, StepKey, StepPayload, sorted};
use crate::error::StoreError;
use crate::workflow_definition::document_of;
use crate::workflow_row::step_log_id;

/// A row of `workflows` that is locked.
#[derive(Debug, Clone)]
pub(crate) struct CurrentWorkflow {
    pub(crate) revision: Revision,
    pub(crate) content_hash: ContentHash,
    pub(crate) removed: bool,
    pub(crate) created_at: Timestamp,
}

/// A write that an earlier attempt has committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppliedOp {
    pub(crate) revision: Revision,
    pub(crate) replaced_revision: Option<Revision>,
    pub(crate) at: Timestamp,
}

/// A row of `applied_ops`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AppliedRow {
    pub(crate) op_id: OpId,
    pub(crate) entity: &'static str,
    pub(crate) namespace: Namespace,
    pub(crate) id: String,
    pub(crate) revision: Revision,
    pub(crate) replaced_revision: Option<Revision>,
    pub(crate) op: &'static str,
}

/// What a backend has locked and read for a round.
#[derive(Debug, Default)]
pub(crate) struct Locked {
    /// Read after the locks were had, so that time does not go back within a run.
    pub(crate) now: Timestamp,
    pub(crate) workflows: HashMap<WorkflowKey, CurrentWorkflow>,
    /// Which of the writes were committed before. Read after the locks were had: an earlier attempt that is still
    /// committing holds them.
    pub(crate) applied: HashMap<OpId, AppliedOp>,
    pub(crate) runs: HashMap<RunId, RunState>,
    /// Runs by their idempotency key.
    pub(crate) by_key: HashMap<(Namespace, Box<str>), RunId>,
}

/// A run as the transaction will leave it.
struct Working {
    state: RunState,
    /// The document and its hash, for a run that is to be inserted.
    new: Option<(String, ContentHash)>,
    run_changed: bool,
    /// Positions of the steps that changed, with their revisions as they were read.
    steps_changed: BTreeMap<usize, Revision>,
}

/// What is told of a command once the round is over.
enum Draft {
    Ready(WorkflowOutcome),
    Started { run: RunId, claimed: Vec<usize> },
    Applied { run: RunId, claimed: Vec<usize>, repeated: bool },
}

/// A change of `workflows`.
#[derive(Debug)]
pub(crate) enum WorkflowWrite<'c> {
    Put {
        put: &'c WorkflowPut,
        /// Whether a row is replaced; otherwise there is none.
        replaces: bool,
        revision: Revision,
        created_at: Timestamp,
    },
    Remove {
        key: &'c WorkflowKey,
        revision: Revision,
        actor: &'c Actor,
    },
}

/// A run to be inserted with all its steps.
#[derive(Debug)]
pub(crate) struct NewRunRow<'w> {
    pub(crate) state: &'w RunState,
    pub(crate) document: &'w str,
    pub(crate) hash: &'w ContentHash,
}

/// What a round writes. Runs and steps are in the order of their keys, workflows in the order of the commands.
#[derive(Debug)]
pub(crate) struct Writes<'w, 'c> {
    pub(crate) workflows: &'w [WorkflowWrite<'c>],
    /// What lets another attempt of the same commands find that they were applied.
    pub(crate) applied: &'w [AppliedRow],
    pub(crate) new_runs: Vec<NewRunRow<'w>>,
    pub(crate) runs: Vec<&'w RunState>,
    /// With the revision that the row must have.
    pub(crate) steps: Vec<(&'w RunId, &'w Step, Revision)>,
}

/// The commands of one transaction, from the locked rows to what each caller is told.
pub(crate) struct Round<'p, 'c> {
    /// Commands that are not decided, in order.
    left: Vec<&'p Indexed<'c>>,
    now: Timestamp,
    workflows: HashMap<WorkflowKey, CurrentWorkflow>,
    applied: HashMap<OpId, AppliedOp>,
    runs: BTreeMap<RunId, Working>,
    by_key: HashMap<(Namespace, Box<str>), RunId>,
    workflow_writes: Vec<WorkflowWrite<'c>>,
    applied_rows: Vec<AppliedRow>,
    drafts: Vec<(usize, Draft)>,
}

/// The keys of workflows that commands change, sorted.
pub(crate) fn workflow_keys(commands: &[Indexed<'_>]) -> Vec<WorkflowKey> {
    sorted(commands.iter().filter_map(|(_, command)| match command {
        WorkflowCommand::WorkflowPut(put) => Some(put.spec.key()),
        WorkflowCommand::WorkflowRemove { key, .. } => Some(key.clone()),
        _ => None,
    }))
}

/// The ids of runs that commands change or begin, sorted.
pub(crate) fn run_ids(commands: &[Indexed<'_>]) -> Vec<RunId> {
    sorted(commands.iter().filter_map(|(_, command)| match command {
        WorkflowCommand::RunStart(new) => Some(new.id.clone()),
        WorkflowCommand::RunEvent { run, .. } => Some(run.clone()),
        _ => None,
    }))
}

/// The names of the writes of workflows.
pub(crate) fn workflow_ops(commands: &[Indexed<'_>]) -> Vec<OpId> {
    sorted(commands.iter().filter_map(|(_, command)| match command {
        WorkflowCommand::WorkflowPut(put) => Some(put.op_id),
        WorkflowCommand::WorkflowRemove { op_id, .. } => Some(*op_id),
        _ => None,
    }))
}

/// The names of what came of claims, as far as the steps don't show it.
pub(crate) fn claim_ops(commands: &[Indexed<'_>]) -> Vec<OpId> {
    sorted(commands.iter().filter_map(|(_, command)| match command {
        WorkflowCommand::RunEvent { run, event, .. } => claim_op(run, event),
        _ => None,
    }))
}

/// Names the end of a claim that leaves nothing in its step once another worker has that: when it is told again, it is
/// known by its name. An output is known by itself.
fn claim_op(run: &RunId, event: &Event) -> Option<OpId> {
    let Event::Finish { order, attempt, result, .. } = event else { return None };
    let end = match result {
        StepResult::Completed { .. } => return None,
        StepResult::Failed { error, retryable } => format!("failed {retryable} {error}"),
        StepResult::Released => "released".to_owned(),
    };
    let hash = content_hash(&format!("{run} {order} {attempt} {end}"));
    let bytes = hash.first_chunk().copied().unwrap_or_default();
    Some(OpId(uuid::Builder::from_custom_bytes(bytes).into_uuid()))
}

/// The idempotency keys of runs that are begun, sorted.
pub(crate) fn idempotency_keys(commands: &[Indexed<'_>]) -> Vec<(Namespace, Box<str>)> {
    sorted(commands.iter().filter_map(|(_, command)| match command {
        WorkflowCommand::RunStart(new) => new.idempotency_key.clone().map(|key| (new.namespace.clone(), key)),
        _ => None,
    }))
}

impl<'p, 'c> Round<'p, 'c> {
    pub(crate) fn new(commands: &'p [Indexed<'c>], locked: Locked) -> Self {
        let working = |state| Working { state, new: None, run_changed: false, steps_changed: BTreeMap::new() };
        Self {
            left: commands.iter().collect(),
            now: locked.now,
            workflows: locked.workflows,
            applied: locked.applied,
            runs: locked.runs.into_iter().map(|(id, state)| (id, working(state))).collect(),
            by_key: locked.by_key,
            workflow_writes: Vec::new(),
            applied_rows: Vec::new(),
            drafts: Vec::with_capacity(commands.len()),
        }
    }

    /// Decides commands as far as possible. Returns the outputs that must be read before it can go on, none when all is
    /// decided.
    ///
    /// # Errors
    /// When an output is needed that there is not.
    pub(crate) fn advance(&mut self) -> Result<Vec<StepKey>, StoreError> {
        let mut needed: BTreeMap<RunId, Vec<usize>> = BTreeMap::new();
        let mut blocked = Vec::new();
        for entry in std::mem::take(&mut self.left) {
            let (index, command) = *entry;
            let draft = match command {
                WorkflowCommand::WorkflowPut(put) => Draft::Ready(self.put(put)),
                WorkflowCommand::WorkflowRemove { op_id, key, expected_revision, actor } => {
                    Draft::Ready(self.remove(*op_id, key, *expected_revision, actor))
                }
                WorkflowCommand::RunStart(new) => self.start(new)?,
                // Events of one run keep their order.
                WorkflowCommand::RunEvent { run, .. } if needed.contains_key(run) => {
                    blocked.push(entry);
                    continue;
                }
                WorkflowCommand::RunEvent { run, event, actor } => match self.event(run, event, actor) {
                    Ok(draft) => draft,
                    Err(OutputsNeeded(positions)) => {
                        needed.insert(run.clone(), positions);
                        blocked.push(entry);
                        continue;
                    }
                },
                WorkflowCommand::StepClaim { .. }
                | WorkflowCommand::StepRenew { .. }
                | WorkflowCommand::StepNote { .. } => continue,
            };
            self.drafts.push((index, draft));
        }
        self.left = blocked;
        let mut keys = Vec::new();
        for (run, positions) in needed {
            let steps = self.runs.get(&run).map(|working| &working.state.steps);
            let stored = |order: &usize| {
                steps.and_then(|steps| steps.get(*order)).is_some_and(|step| step.output == Payload::Stored)
            };
            let before = keys.len();
            keys.extend(positions.into_iter().filter(stored).map(|order| (run.clone(), order)));
            if keys.len() == before {
                let reason = "an output is needed that is not stored".to_owned();
                return Err(StoreError::Row { table: "steps", key: run.to_string(), reason });
            }
        }
        Ok(keys)
    }

    /// Takes outputs that were read.
    pub(crate) fn take_outputs(&mut self, outputs: Vec<StepPayload>) {
        for ((run, order), output) in outputs {
            if let Some(step) = self.runs.get_mut(&run).and_then(|working| working.state.steps.get_mut(order)) {
                step.output = output.map_or(Payload::None, Payload::Loaded);
            }
        }
    }

    fn put(&mut self, put: &'c WorkflowPut) -> WorkflowOutcome {
        let key = put.spec.key();
        let current = self.workflows.get(&key);
        if let Some(op) = self.applied.get(&put.op_id) {
            return put_outcome(put, *op, current.map_or(op.at, |current| current.created_at));
        }
        let live = current.filter(|current| !current.removed);
        let live_revision = live.map_or(0, |current| current.revision);
        if put.expected_revision.is_some_and(|expected| expected != live_revision) {
            return WorkflowOutcome::Conflict { current: live_revision };
        }
        if live.is_some_and(|current| current.content_hash == put.content_hash) {
            return WorkflowOutcome::WorkflowUnchanged { revision: live_revision };
        }
        let revision = current.map_or(0, |current| current.revision) + 1;
        let created_at = current.map_or(self.now, |current| current.created_at);
        let replaced_revision = live.map(|current| current.revision);
        let write = WorkflowWrite::Put { put, replaces: current.is_some(), revision, created_at };
        self.workflow_writes.push(write);
        let now_current = CurrentWorkflow { revision, content_hash: put.content_hash, removed: false, created_at };
        self.workflows.insert(key.clone(), now_current);
        let op = AppliedOp { revision, replaced_revision, at: self.now };
        self.note_applied(put.op_id, op, "workflow", key.namespace, key.id.to_string(), "put");
        put_outcome(put, op, created_at)
    }

    fn remove(
        &mut self,
        op_id: OpId,
        key: &'c WorkflowKey,
        expected: Option<Revision>,
        actor: &'c Actor,
    ) -> WorkflowOutcome {
        if let Some(op) = self.applied.get(&op_id) {
            return WorkflowOutcome::WorkflowRemoved { revision: op.revision };
        }
        let Some(current) = self.workflows.get_mut(key).filter(|current| !current.removed) else {
            return WorkflowOutcome::NotFound;
        };
        if expected.is_some_and(|expected| expected != current.revision) {
            return WorkflowOutcome::Conflict { current: current.revision };
        }
        current.revision += 1;
        current.removed = true;
        let revision = current.revision;
        self.workflow_writes.push(WorkflowWrite::Remove { key, revision, actor });
        let op = AppliedOp { revision, replaced_revision: None, at: self.now };
        self.note_applied(op_id, op, "workflow", key.namespace.clone(), key.id.to_string(), "remove");
        WorkflowOutcome::WorkflowRemoved { revision }
    }

    fn note_applied(
        &mut self,
        op_id: OpId,
        applied: AppliedOp,
        entity: &'static str,
        namespace: Namespace,
        id: String,
        op: &'static str,
    ) {
        let AppliedOp { revision, replaced_revision, .. } = applied;
        self.applied_rows.push(AppliedRow { op_id, entity, namespace, id, revision, replaced_revision, op });
        self.applied.insert(op_id, applied);
    }

    fn start(&mut self, new: &'c NewRun) -> Result<Draft, StoreError> {
        if let Some(working) = self.runs.get(&new.id) {
            // An earlier attempt of this very command was committed.
            let claimed = new.claim_next.as_ref().map_or_else(Vec::new, |next| held(&working.state, next));
            return Ok(Draft::Started { run: new.id.clone(), claimed });
        }
        let key = new.idempotency_key.clone().map(|key| (new.namespace.clone(), key));
        if let Some(run) = key.as_ref().and_then(|key| self.by_key.get(key)) {
            return Ok(Draft::Ready(WorkflowOutcome::AlreadyStarted { run: run.clone() }));
        }
        if new.definition.spec.steps.is_empty() {
            return Ok(Draft::Ready(WorkflowOutcome::Rejected { reason: "a run needs at least one step".into() }));
        }
        let transition = machine::start(new, self.now);
        let document = document_of(&new.definition)?;
        if let Some(key) = key {
            self.by_key.insert(key, new.id.clone());
        }
        let working = Working {
            state: transition.state,
            new: Some(document),
            run_changed: false,
            steps_changed: BTreeMap::new(),
        };
        self.runs.insert(new.id.clone(), working);
        Ok(Draft::Started { run: new.id.clone(), claimed: transition.claimed })
    }

    fn event(&mut self, run: &RunId, event: &Event, actor: &Actor) -> Result<Draft, OutputsNeeded> {
        let Some(working) = self.runs.get_mut(run) else { return Ok(Draft::Ready(WorkflowOutcome::NotFound)) };
        let op = claim_op(run, event);
        if op.is_some_and(|op| self.applied.contains_key(&op)) {
            return Ok(Draft::Applied { run: run.clone(), claimed: held_after(&working.state, event), repeated: true });
        }
        let transition = machine::apply(&working.state, event, actor, self.now)?;
        let repeated = match transition.verdict {
            Verdict::Refused(refusal) => return Ok(Draft::Ready(WorkflowOutcome::Refused(refusal))),
            Verdict::Applied => false,
            Verdict::Repeated => true,
        };
        for order in transition.steps_changed {
            let read = working.state.steps.get(order).map_or(0, |step| step.revision);
            working.steps_changed.entry(order).or_insert(read);
        }
        working.state = transition.state;
        working.run_changed |= transition.run_changed;
        let claimed = if repeated { held_after(&working.state, event) } else { transition.claimed };
        if let (Some(op), Event::Finish { order, .. }, false) = (op, event, repeated) {
            let revision = working.state.steps.get(*order).map_or(0, |step| step.revision);
            let applied = AppliedOp { revision, replaced_revision: None, at: self.now };
            let namespace = working.state.run.namespace.clone();
            self.note_applied(op, applied, "step", namespace, step_log_id(run, *order), "put");
        }
        Ok(Draft::Applied { run: run.clone(), claimed, repeated })
    }

    /// What is to be written, once all is decided.
    pub(crate) fn writes(&self) -> Writes<'_, 'c> {
        let mut writes = Writes {
            workflows: &self.workflow_writes,
            applied: &self.applied_rows,
            new_runs: Vec::new(),
            runs: Vec::new(),
            steps: Vec::new(),
        };
        for (id, working) in &self.runs {
            if let Some((document, hash)) = &working.new {
                writes.new_runs.push(NewRunRow { state: &working.state, document, hash });
                continue;
            }
            if working.run_changed {
                writes.runs.push(&working.state);
            }
            let steps = working.steps_changed.iter();
            writes.steps.extend(steps.filter_map(|(order, read)| Some((id, working.state.steps.get(*order)?, *read))));
        }
        writes
    }

    /// Claimed steps whose inputs are not loaded yet.
    pub(crate) fn inputs_needed(&self) -> Vec<StepKey> {
        let claims = self.drafts.iter().filter_map(|(_, draft)| match draft {
            Draft::Started { run, claimed } | Draft::Applied { run, claimed, .. } => Some((run, claimed)),
            Draft::Ready(_) => None,
        });
        let keys = claims.flat_map(|(run, claimed)| claimed.iter().map(|order| (run.clone(), *order)));
        sorted(keys.filter(|(run, order)| {
            let step = self.runs.get(run).and_then(|working| working.state.steps.get(*order));
            step.is_some_and(|step| step.input == Payload::Stored)
        }))
    }

    /// Takes inputs that were read.
    pub(crate) fn take_inputs(&mut self, inputs: Vec<StepPayload>) {
        for ((run, order), input) in inputs {
            if let Some(step) = self.runs.get_mut(&run).and_then(|working| working.state.steps.get_mut(order)) {
                step.input = input.map_or(Payload::None, Payload::Loaded);
            }
        }
    }

    /// What each caller is told. Commands of one run are told of the run as all of them have left it.
    pub(crate) fn into_done(self) -> Vec<Done> {
        let mut claimed: HashMap<&RunId, BTreeSet<usize>> = HashMap::new();
        for (_, draft) in &self.drafts {
            if let Draft::Started { run, claimed: orders } | Draft::Applied { run, claimed: orders, .. } = draft {
                claimed.entry(run).or_default().extend(orders);
            }
        }
        let claimed: HashMap<RunId, BTreeSet<usize>> =
            claimed.into_iter().map(|(run, orders)| (run.clone(), orders)).collect();
        let states: HashMap<RunId, Arc<RunState>> = self
            .runs
            .into_iter()
            .map(|(id, mut working)| {
                if working.new.is_none() {
                    lighten(&mut working.state, claimed.get(&id));
                }
                (id, Arc::new(working.state))
            })
            .collect();
        self.drafts
            .into_iter()
            .map(|(index, draft)| {
                let outcome = match draft {
                    Draft::Ready(outcome) => outcome,
                    Draft::Started { run, claimed } => match states.get(&run) {
                        Some(state) => {
                            WorkflowOutcome::Started { claimed: still_held(state, claimed), state: state.clone() }
                        }
                        None => WorkflowOutcome::NotFound,
                    },
                    Draft::Applied { run, claimed, repeated } => match states.get(&run) {
                        Some(state) => WorkflowOutcome::Applied {
                            claimed: still_held(state, claimed),
                            state: state.clone(),
                            repeated,
                        },
                        None => WorkflowOutcome::NotFound,
                    },
                };
                (index, outcome)
            })
            .collect()
    }
}

/// What the writer of a document is told, whichever attempt has committed it.
fn put_outcome(put: &WorkflowPut, op: AppliedOp, created_at: Timestamp) -> WorkflowOutcome {
    let workflow = Workflow {
        spec: (*put.spec).clone(),
        revision: op.revision,
        created_at,
        updated_at: op.at,
        updated_by: put.actor.clone(),
    };
    WorkflowOutcome::WorkflowPut { workflow: Arc::new(workflow), replaced_revision: op.replaced_revision }
}

/// Leaves the payloads of a run to the database, but for the inputs of what was claimed.
fn lighten(state: &mut RunState, claimed: Option<&BTreeSet<usize>>) {
    let light = |payload: &mut Payload| {
        if matches!(payload, Payload::Loaded(_)) {
            *payload = Payload::Stored;
        }
    };
    for step in &mut state.steps {
        light(&mut step.output);
        if !claimed.is_some_and(|claimed| claimed.contains(&step.order)) {
            light(&mut step.input);
        }
    }
}

/// A later command of the same batch may have ended a claim, as a cancellation does.
fn still_held(state: &RunState, claimed: Vec<usize>) -> Vec<usize> {
    let is_running = |order: &usize| state.steps.get(*order).is_some_and(|step| step.status == StepStatus::Running);
    claimed.into_iter().filter(is_running).collect()
}

/// What an earlier attempt of an event has claimed with it.
fn held_after(state: &RunState, event: &Event) -> Vec<usize> {
    match event {
        Event::Finish { claim_next: Some(next), .. } => held(state, next),
        _ => Vec::new(),
    }
}

/// The steps that an earlier attempt of a command has claimed by `next`, and that are still worked on.
fn held(state: &RunState, next: &ClaimNext) -> Vec<usize> {
    let is_own = |step: &&Step| {
        let suffix = step.lease_owner.as_deref().and_then(|owner| owner.strip_prefix(&*next.claimer.owner));
        step.status == StepStatus::Running
            && suffix.is_some_and(|suffix| {
                suffix.trim_start_matches(|c: char| !c.is_ascii_digit()).parse() == Ok(step.order)
            })
    };
    state.steps.iter().filter(is_own).map(|step| step.order).collect()
}
