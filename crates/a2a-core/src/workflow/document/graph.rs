//! The graph of a workflow: an order in which steps can be done, cycles, and what each step can rely on.

use std::collections::{HashMap, VecDeque};

use crate::workflow::definition::StepSpec;

/// Positions by names. Where a name is used twice the first one counts.
pub(super) fn positions(steps: &[StepSpec]) -> HashMap<&str, usize> {
    let mut positions = HashMap::with_capacity(steps.len());
    for (order, step) in steps.iter().enumerate() {
        positions.entry(step.name.as_str()).or_insert(order);
    }
    positions
}

/// What waits for each step.
pub(super) fn dependents(depends_on: &[Vec<(usize, bool)>]) -> Vec<Vec<usize>> {
    let mut dependents = vec![Vec::new(); depends_on.len()];
    for (order, dependencies) in depends_on.iter().enumerate() {
        for (dependency, _) in dependencies {
            if let Some(list) = dependents.get_mut(*dependency) {
                list.push(order);
            }
        }
    }
    dependents
}

/// An order in which steps come after what they depend on. What is missing stands on a cycle or behind one.
pub(super) fn topological(depends_on: &[Vec<(usize, bool)>], dependents: &[Vec<usize>]) -> Vec<usize> {
    let mut open: Vec<usize> = depends_on.iter().map(Vec::len).collect();
    let mut ready: VecDeque<usize> =
        open.iter().enumerate().filter(|(_, open)| **open == 0).map(|(order, _)| order).collect();
    let mut sorted = Vec::with_capacity(depends_on.len());
    while let Some(order) = ready.pop_front() {
        sorted.push(order);
        for dependent in dependents.get(order).into_iter().flatten() {
            if let Some(open) = open.get_mut(*dependent) {
                *open -= 1;
                if *open == 0 {
                    ready.push_back(*dependent);
                }
            }
        }
    }
    sorted
}

/// The cycles among the steps that [`topological`] leaves out: each of these has a dependency among them, so that
/// following it must come back. Cycles that share steps with one that was found are not told: mending that one may
/// mend them.
pub(super) fn cycles(depends_on: &[Vec<(usize, bool)>], sorted: &[usize]) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let mut is_sorted = vec![false; depends_on.len()];
    for order in sorted {
        if let Some(flag) = is_sorted.get_mut(*order) {
            *flag = true;
        }
    }
    // Which walk has seen a step.
    let mut seen_by = vec![UNSEEN; depends_on.len()];
    let mut cycles = Vec::new();
    for start in 0..depends_on.len() {
        if is_sorted.get(start).copied().unwrap_or(true) {
            continue;
        }
        let mut walk: Vec<usize> = Vec::new();
        let mut at = start;
        while seen_by.get(at).copied() == Some(UNSEEN) {
            if let Some(seen) = seen_by.get_mut(at) {
                *seen = start;
            }
            walk.push(at);
            let next = depends_on.get(at).into_iter().flatten().map(|(dependency, _)| *dependency);
            match next.filter(|next| !is_sorted.get(*next).copied().unwrap_or(true)).min() {
                Some(next) => at = next,
                None => break,
            }
        }
        if seen_by.get(at).copied() == Some(start)
            && let Some(from) = walk.iter().position(|step| *step == at)
        {
            cycles.push(walk.split_off(from));
        }
    }
    cycles
}

/// A set of steps, a bit for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StepSet(Vec<u64>);

impl StepSet {
    pub(super) fn new(steps: usize) -> Self {
        Self(vec![0; steps.div_ceil(64)])
    }

    pub(super) fn insert(&mut self, order: usize) {
        if let Some(word) = self.0.get_mut(order / 64) {
            *word |= 1 << (order % 64);
        }
    }

    pub(super) fn contains(&self, order: usize) -> bool {
        self.0.get(order / 64).is_some_and(|word| word >> (order % 64) & 1 == 1)
    }

    fn extend(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }
}

/// All that must be done before each step, directly or not. Steps on cycles have what could be found.
pub(super) fn ancestors(depends_on: &[Vec<(usize, bool)>], sorted: &[usize]) -> Vec<StepSet> {
    let mut ancestors = vec![StepSet::new(depends_on.len()); depends_on.len()];
    for order in sorted {
        let mut set = StepSet::new(depends_on.len());
        for (dependency, _) in depends_on.get(*order).into_iter().flatten() {
            set.insert(*dependency);
            if let Some(further) = ancestors.get(*dependency) {
                set.extend(further);
            }
        }
        if let Some(slot) = ancestors.get_mut(*order) {
            *slot = set;
        }
    }
    ancestors
}
