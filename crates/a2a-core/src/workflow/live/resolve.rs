//! From what a caller wrote to the run or the workflow that it means.

use std::sync::Arc;

use super::WorkflowCache;
use crate::ids::{Namespace, RunId, WorkflowId, WorkflowKey};
use crate::workflow::definition::Workflow;
use crate::workflow::run::RunState;

/// What a text means.
#[derive(Debug, Clone)]
pub enum Found<T> {
    /// It is the id of this one, or the start of its id only.
    One(Arc<T>),
    /// The ids of several begin with it; the first few of them in order.
    Several(Vec<String>),
    /// No id begins with it.
    None {
        /// The most similar ids, the most similar first.
        nearest: Vec<String>,
    },
}

/// How many ids an ambiguous prefix names.
const SEVERAL_SHOWN: usize = 5;
/// How many similar ids are named.
const NEAREST_SHOWN: usize = 3;
/// How similar (Jaro-Winkler, 0 to 1) an id or a name must be to be named.
const SIMILARITY_MIN: f64 = 0.7;
/// Most ids that are compared: a comparison costs a microsecond, and readers hold a lock.
const COMPARED: usize = 500;

impl WorkflowCache {
    /// The run with this id, or the only one whose id begins so. The `run-` that all ids begin with may be left out.
    #[must_use]
    pub fn resolve_run(&self, text: &str) -> Found<RunState> {
        if let Some(state) = self.runs.get(text.trim()) {
            return Found::One(Arc::clone(state));
        }
        let text = text.trim().to_lowercase();
        let text = if text.starts_with("run-") || text.is_empty() { text } else { format!("run-{text}") };
        if let Some(state) = self.runs.get(text.as_str()) {
            return Found::One(Arc::clone(state));
        }
        if text.len() <= "run-".len() {
            return Found::None { nearest: Vec::new() };
        }
        let from = RunId::from_stored(text.as_str());
        let matching: Vec<&Arc<RunState>> = self
            .runs
            .range::<RunId, _>(&from..)
            .take_while(|(id, _)| id.as_str().starts_with(&text))
            .map(|(_, state)| state)
            .take(SEVERAL_SHOWN)
            .collect();
        match matching.as_slice() {
            [only] => Found::One(Arc::clone(only)),
            [] => {
                // Ids are random: one that is mistyped at its start is not beside the right one, but few are.
                let before = self.runs.range::<RunId, _>(..&from).rev().take(COMPARED / 2);
                let beside = before.chain(self.runs.range::<RunId, _>(&from..).take(COMPARED / 2));
                Found::None { nearest: nearest(&text, beside.map(|(id, _)| (id.as_str(), ""))) }
            }
            several => Found::Several(several.iter().map(|state| state.run.id.to_string()).collect()),
        }
    }

    /// The workflow with this id in the namespace, or the only one whose id begins so, without regard to case.
    #[must_use]
    pub fn resolve_workflow(&self, namespace: &Namespace, text: &str) -> Found<Workflow> {
        let text = text.trim();
        let key = WorkflowKey { namespace: namespace.clone(), id: WorkflowId::from_stored(text) };
        if let Some(workflow) = self.workflows.get(&key) {
            return Found::One(Arc::clone(workflow));
        }
        if text.is_empty() {
            return Found::None { nearest: Vec::new() };
        }
        let lower = text.to_lowercase();
        let begins = |workflow: &&Arc<Workflow>| {
            workflow.spec.id.as_str().get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
        };
        let matching: Vec<&Arc<Workflow>> = self.workflows_in(namespace).filter(begins).collect();
        let mut same = matching.iter().filter(|workflow| workflow.spec.id.as_str().eq_ignore_ascii_case(text));
        match (matching.as_slice(), same.next(), same.next()) {
            ([only], _, _) => Found::One(Arc::clone(only)),
            (_, Some(same), None) => Found::One(Arc::clone(same)),
            ([], _, _) => {
                let all = self.workflows_in(namespace).take(COMPARED);
                Found::None { nearest: nearest(&lower, all.map(|w| (w.spec.id.as_str(), &*w.spec.name))) }
            }
            (several, _, _) => {
                Found::Several(several.iter().take(SEVERAL_SHOWN).map(|w| w.spec.id.to_string()).collect())
            }
        }
    }

    pub(super) fn workflows_in<'a>(&'a self, namespace: &'a Namespace) -> impl Iterator<Item = &'a Arc<Workflow>> {
        let from = WorkflowKey { namespace: namespace.clone(), id: WorkflowId::from_stored("") };
        self.workflows
            .range(from..)
            .take_while(move |(key, _)| key.namespace == *namespace)
            .map(|(_, workflow)| workflow)
    }
}

/// The ids that are most similar to a text by themselves or by their names.
fn nearest<'a>(text: &str, candidates: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let similarity = |other: &str| strsim::jaro_winkler(text, &other.to_lowercase());
    let mut nearest: Vec<(f64, &str)> = candidates
        .map(|(id, name)| (similarity(id).max(similarity(name)), id))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .collect();
    nearest.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    nearest.into_iter().take(NEAREST_SHOWN).map(|(_, id)| id.to_owned()).collect()
}
