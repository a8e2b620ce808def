//! What every process keeps in memory: all workflows, and the runs that go on.
//!
//! Invariants:
//! - A run or a step never goes back to an older revision, whatever order states arrive in. A run that has ended stays
//!   away until it is forgotten or retried.
//! - Every index equals what would be computed from the runs themselves.
//! - Payloads of steps are not kept: a run with large outputs costs no more memory than any other.

mod indices;
mod list;
mod resolve;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::ids::{AgentId, Namespace, Revision, RunId, WorkflowKey};
use crate::time::Timestamp;
use crate::workflow::definition::Workflow;
use crate::workflow::run::{Payload, Run, RunState, Step, status_of};
use indices::Indices;

pub use list::{RunFilter, RunPage};
pub use resolve::Found;

/// A committed state, for the cache.
#[derive(Debug, Clone)]
pub enum WorkflowCommitted {
    /// A workflow is there.
    Workflow(Arc<Workflow>),
    /// A workflow was removed at this revision.
    WorkflowRemoved(WorkflowKey, Revision),
    /// A run, whole: each step is taken when it is newer. A run that has ended leaves the cache.
    Run(Arc<RunState>),
    /// One step of a run: taken when the run is in the cache and the step is newer there.
    Step(RunId, Box<Step>),
}

/// A step that can be claimed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReadyStep {
    /// Which run.
    pub run: RunId,
    /// Position of the step.
    pub order: usize,
    /// When it became ready.
    pub ready_at: Timestamp,
}

/// What the cache held at a moment, for [`WorkflowCache::forget_missing`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    runs: HashMap<RunId, Revision>,
    workflows: HashMap<WorkflowKey, Revision>,
}

/// All workflows and the runs that go on.
#[derive(Debug, Default)]
pub struct WorkflowCache {
    workflows: BTreeMap<WorkflowKey, Arc<Workflow>>,
    runs: BTreeMap<RunId, Arc<RunState>>,
    /// At which revision a workflow was removed, and when this was heard.
    removed: HashMap<WorkflowKey, (Revision, Timestamp)>,
    /// At which revision a run has ended, and when this was heard.
    ended: HashMap<RunId, (Revision, Timestamp)>,
    indices: Indices,
}

impl WorkflowCache {
    /// Takes a committed state; what is not newer than what is here is ignored. True when something changed.
    pub fn apply(&mut self, committed: WorkflowCommitted, now: Timestamp) -> bool {
        match committed {
            WorkflowCommitted::Workflow(workflow) => self.apply_workflow(workflow),
            WorkflowCommitted::WorkflowRemoved(key, revision) => self.apply_removal(key, revision, now),
            WorkflowCommitted::Run(state) => self.apply_run(&state, now),
            WorkflowCommitted::Step(run, step) => self.apply_step(&run, *step),
        }
    }

    fn apply_workflow(&mut self, workflow: Arc<Workflow>) -> bool {
        let key = workflow.spec.key();
        let live = self.workflows.get(&key).map(|known| known.revision);
        let removed = self.removed.get(&key).map(|(revision, _)| *revision);
        if live.max(removed).is_some_and(|known| known >= workflow.revision) {
            return false;
        }
        self.removed.remove(&key);
        self.workflows.insert(key, workflow);
        true
    }

    fn apply_removal(&mut self, key: WorkflowKey, revision: Revision, now: Timestamp) -> bool {
        if self.workflows.get(&key).is_some_and(|known| known.revision >= revision) {
            return false;
        }
        if self.removed.get(&key).is_some_and(|(known, _)| *known >= revision) {
            return false;
        }
        self.removed.insert(key.clone(), (revision, now));
        self.workflows.remove(&key).is_some()
    }

    fn apply_run(&mut self, state: &RunState, now: Timestamp) -> bool {
        let id = &state.run.id;
        let known = self.runs.get(id).map(|known| known.run.revision);
        let ended = self.ended.get(id).map(|(revision, _)| *revision);
        if ended.is_some_and(|ended| ended >= state.run.revision) {
            return false;
        }
        if state.run.status.is_finished() && known.is_none_or(|known| known < state.run.revision) {
            self.end(id, state.run.revision, now);
            return true;
        }
        match self.runs.get_mut(id) {
            Some(known) => merge(&mut self.indices, known, Some(&state.run), &state.steps),
            // Steps may have gone on in between, but the state is from one moment: it is right as a whole.
            None if !state.run.status.is_finished() => {
                self.ended.remove(id);
                let mut state = light(state);
                state.run.status = status_of(&state.steps);
                self.indices.add_run(&state);
                self.runs.insert(id.clone(), Arc::new(state));
                true
            }
            None => false,
        }
    }

    fn apply_step(&mut self, run: &RunId, step: Step) -> bool {
        self.runs.get_mut(run).is_some_and(|known| merge(&mut self.indices, known, None, std::slice::from_ref(&step)))
    }

    fn end(&mut self, id: &RunId, revision: Revision, now: Timestamp) {
        if let Some(known) = self.runs.remove(id) {
            self.indices.remove_run(&known);
        }
        self.ended.insert(id.clone(), (revision, now));
    }

    /// What is here now. Taken before everything is read from the database, it tells afterwards what is not there any
    /// more, see [`Self::forget_missing`].
    #[must_use]
    pub fn known(&self) -> Known {
        Known {
            runs: self.runs.iter().map(|(id, state)| (id.clone(), state.run.revision)).collect(),
            workflows: self.workflows.iter().map(|(key, workflow)| (key.clone(), workflow.revision)).collect(),
        }
    }

    /// Takes away what was here before everything was read, has not changed since, and was not among what was read: its
    /// end was missed. True when something changed.
    pub fn forget_missing(
        &mut self,
        before: &Known,
        has_run: impl Fn(&RunId) -> bool,
        has_workflow: impl Fn(&WorkflowKey) -> bool,
        now: Timestamp,
    ) -> bool {
        let mut changed = false;
        for (id, revision) in before.runs.iter().filter(|(id, _)| !has_run(id)) {
            if self.runs.get(id).is_some_and(|state| state.run.revision == *revision) {
                self.end(id, *revision, now);
                changed = true;
            }
        }
        for (key, revision) in before.workflows.iter().filter(|(key, _)| !has_workflow(key)) {
            if self.workflows.get(key).is_some_and(|workflow| workflow.revision == *revision) {
                self.workflows.remove(key);
                self.removed.insert(key.clone(), (*revision, now));
                changed = true;
            }
        }
        changed
    }

    /// Forgets what was heard before `time` of runs that have ended and workflows that were removed: no older state of
    /// them is on its way any more.
    pub fn forget_before(&mut self, time: Timestamp) {
        self.ended.retain(|_, (_, heard)| *heard >= time);
        self.removed.retain(|_, (_, heard)| *heard >= time);
    }

    /// The run, while it goes on.
    #[must_use]
    pub fn run(&self, id: &RunId) -> Option<&Arc<RunState>> {
        self.runs.get(id)
    }

    /// The revisions of a run that goes on and of its steps; the revision alone of one that has ended lately.
    #[must_use]
    pub fn run_revision(&self, id: &RunId) -> Option<Revision> {
        let live = self.runs.get(id).map(|state| state.run.revision);
        live.or_else(|| self.ended.get(id).map(|(revision, _)| *revision))
    }

    /// The revision of a step of a run that goes on.
    #[must_use]
    pub fn step_revision(&self, id: &RunId, order: usize) -> Option<Revision> {
        self.runs.get(id)?.steps.get(order).map(|step| step.revision)
    }

    /// The revision of a workflow, that of its removal when it was removed lately.
    #[must_use]
    pub fn workflow_revision(&self, key: &WorkflowKey) -> Option<Revision> {
        let live = self.workflows.get(key).map(|workflow| workflow.revision);
        live.or_else(|| self.removed.get(key).map(|(revision, _)| *revision))
    }

    /// Whether this process has heard lately that the run has ended.
    #[must_use]
    pub fn has_ended(&self, id: &RunId) -> bool {
        self.ended.contains_key(id)
    }

    /// The workflow.
    #[must_use]
    pub fn workflow(&self, key: &WorkflowKey) -> Option<&Arc<Workflow>> {
        self.workflows.get(key)
    }

    /// Steps of pull agents that can be claimed: highest priority first, then longest ready.
    #[must_use]
    pub fn ready_to_pull(&self, namespace: &Namespace, agent: Option<&AgentId>) -> Vec<ReadyStep> {
        self.pullable(namespace, agent).cloned().collect()
    }

    /// The same without copying them, for those who need the first few only.
    pub fn pullable(&self, namespace: &Namespace, agent: Option<&AgentId>) -> impl Iterator<Item = &ReadyStep> {
        self.indices.pullable(namespace, agent)
    }

    /// Steps of all other agents that can be claimed, in the same order.
    pub fn ready_to_push(&self) -> impl Iterator<Item = &ReadyStep> {
        self.indices.pushable()
    }

    /// Runs of which something changes by itself at or before `now`, the longest due first.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Vec<RunId> {
        self.indices.due(now)
    }

    /// When something changes by itself next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.indices.next_due()
    }

    /// How many runs go on.
    #[must_use]
    pub fn live_runs(&self) -> usize {
        self.runs.len()
    }

    /// How many steps of an agent have not ended.
    #[must_use]
    pub fn unfinished_steps(&self, namespace: &Namespace, agent: &AgentId) -> usize {
        self.indices.unfinished(namespace, agent)
    }

    /// How many steps have not ended.
    #[must_use]
    pub fn unfinished_steps_in_all(&self) -> usize {
        self.indices.unfinished_in_all()
    }
}

/// A run without the payloads of its steps.
fn light(state: &RunState) -> RunState {
    RunState { run: state.run.clone(), steps: state.steps.iter().map(light_step).collect() }
}

fn light_step(step: &Step) -> Step {
    let stored = |payload: &Payload| if *payload == Payload::None { Payload::None } else { Payload::Stored };
    // Not a clone with two changes: the texts would be counted for nothing.
    Step { input: stored(&step.input), output: stored(&step.output), ..step.clone() }
}

/// Takes what is newer. True when something was.
fn merge(indices: &mut Indices, known: &mut Arc<RunState>, run: Option<&Run>, steps: &[Step]) -> bool {
    let newer_run = run.filter(|run| run.revision > known.run.revision && !run.status.is_finished());
    let is_newer = |step: &&Step| known.steps.get(step.order).is_some_and(|old| old.revision < step.revision);
    let newer: Vec<&Step> = steps.iter().filter(is_newer).collect();
    if newer_run.is_none() && newer.is_empty() {
        return false;
    }
    indices.remove_due(known);
    let state = Arc::make_mut(known);
    for step in newer {
        let Some(old) = state.steps.get_mut(step.order) else { continue };
        indices.remove_step(&state.run, old);
        *old = light_step(step);
        indices.add_step(&state.run, old);
    }
    if let Some(run) = newer_run {
        state.run = run.clone();
    }
    // A claim changes its step alone: where the run stands is told by all of them.
    state.run.status = status_of(&state.steps);
    indices.add_due(state);
    true
}
