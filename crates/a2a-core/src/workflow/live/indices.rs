//! The indices over the runs in memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ReadyStep;
use crate::agent::ExecutorKind;
use crate::ids::{AgentId, Namespace, RunId};
use crate::time::Timestamp;
use crate::workflow::run::{Run, RunState, Step, StepStatus};

/// The order in which steps are taken.
type ReadyKey = (Reverse<i16>, Timestamp, RunId, usize);
type ReadySteps = BTreeMap<ReadyKey, ReadyStep>;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Indices {
    /// READY steps of pull agents, those of a namespace and those of an agent.
    pull: HashMap<Namespace, ReadySteps>,
    pull_by_agent: HashMap<(Namespace, AgentId), ReadySteps>,
    /// READY steps of all others.
    push: ReadySteps,
    /// When something of a run changes by itself next.
    due: BTreeSet<(Timestamp, RunId)>,
    unfinished: HashMap<(Namespace, AgentId), usize>,
    unfinished_in_all: usize,
}

/// When something of a run changes without anybody calling.
fn due_at(state: &RunState) -> Option<Timestamp> {
    state.steps.iter().filter_map(Step::next_due).chain(state.run.timeout_at).min()
}

impl Indices {
    pub(super) fn add_run(&mut self, state: &RunState) {
        state.steps.iter().for_each(|step| self.add_step(&state.run, step));
        self.add_due(state);
    }

    pub(super) fn remove_run(&mut self, state: &RunState) {
        state.steps.iter().for_each(|step| self.remove_step(&state.run, step));
        self.remove_due(state);
    }

    pub(super) fn add_due(&mut self, state: &RunState) {
        self.due.extend(due_at(state).map(|due| (due, state.run.id.clone())));
    }

    pub(super) fn remove_due(&mut self, state: &RunState) {
        if let Some(due) = due_at(state) {
            self.due.remove(&(due, state.run.id.clone()));
        }
    }

    pub(super) fn add_step(&mut self, run: &Run, step: &Step) {
        if step.status.is_finished() {
            return;
        }
        let Some(agent) = run.definition.spec.steps.get(step.order).map(|spec| spec.agent.clone()) else { return };
        let owner = (run.namespace.clone(), agent);
        if step.status == StepStatus::Ready {
            let (key, ready) = entry(run, step);
            if step.executor.kind == ExecutorKind::Pull {
                self.pull.entry(run.namespace.clone()).or_default().insert(key.clone(), ready.clone());
                self.pull_by_agent.entry(owner.clone()).or_default().insert(key, ready);
            } else {
                self.push.insert(key, ready);
            }
        }
        *self.unfinished.entry(owner).or_default() += 1;
        self.unfinished_in_all += 1;
    }

    pub(super) fn remove_step(&mut self, run: &Run, step: &Step) {
        if step.status.is_finished() {
            return;
        }
        let Some(agent) = run.definition.spec.steps.get(step.order).map(|spec| spec.agent.clone()) else { return };
        let owner = (run.namespace.clone(), agent);
        if step.status == StepStatus::Ready {
            let (key, _) = entry(run, step);
            if step.executor.kind == ExecutorKind::Pull {
                remove_from(&mut self.pull, &run.namespace, &key);
                remove_from(&mut self.pull_by_agent, &owner, &key);
            } else {
                self.push.remove(&key);
            }
        }
        if let Some(count) = self.unfinished.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.unfinished.remove(&owner);
            }
        }
        self.unfinished_in_all -= 1;
    }

    pub(super) fn pullable(&self, namespace: &Namespace, agent: Option<&AgentId>) -> impl Iterator<Item = &ReadyStep> {
        let steps = match agent {
            None => self.pull.get(namespace),
            Some(agent) => self.pull_by_agent.get(&(namespace.clone(), agent.clone())),
        };
        steps.into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn pushable(&self) -> impl Iterator<Item = &ReadyStep> {
        self.push.values()
    }

    pub(super) fn due(&self, now: Timestamp) -> Vec<RunId> {
        self.due.iter().take_while(|(due, _)| *due <= now).map(|(_, run)| run.clone()).collect()
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    pub(super) fn unfinished(&self, namespace: &Namespace, agent: &AgentId) -> usize {
        self.unfinished.get(&(namespace.clone(), agent.clone())).copied().unwrap_or(0)
    }

    pub(super) fn unfinished_in_all(&self) -> usize {
        self.unfinished_in_all
    }
}

fn entry(run: &Run, step: &Step) -> (ReadyKey, ReadyStep) {
    let ready_at = step.ready_at.unwrap_or(run.created_at);
    let key = (Reverse(run.priority), ready_at, run.id.clone(), step.order);
    (key, ReadyStep { run: run.id.clone(), order: step.order, ready_at })
}

fn remove_from<K: std::hash::Hash + Eq>(all: &mut HashMap<K, ReadySteps>, of: &K, key: &ReadyKey) {
    if let Some(steps) = all.get_mut(of) {
        steps.remove(key);
        if steps.is_empty() {
            all.remove(of);
        }
    }
}
