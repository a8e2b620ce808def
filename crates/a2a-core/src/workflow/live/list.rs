//! Lists of workflows and runs.

use std::sync::Arc;

use super::WorkflowCache;
use crate::ids::{Namespace, RunId, WorkflowId};
use crate::time::Timestamp;
use crate::workflow::definition::Workflow;
use crate::workflow::run::{RunState, RunStatus};

/// Which runs are listed; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Those of this namespace.
    pub namespace: Option<Namespace>,
    /// Those of this workflow.
    pub workflow: Option<WorkflowId>,
    /// Those that stand there.
    pub status: Option<RunStatus>,
}

/// A part of a list of runs.
#[derive(Debug, Clone)]
pub struct RunPage {
    /// The latest first.
    pub runs: Vec<Arc<RunState>>,
    /// How many there are in all.
    pub total: usize,
    /// Whether there are more behind these.
    pub more: bool,
}

impl RunFilter {
    fn matches(&self, state: &RunState) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, value: Option<&T>) -> bool {
            wanted.is_none_or(|wanted| Some(wanted) == value)
        }
        is(self.namespace.as_ref(), Some(&state.run.namespace))
            && is(self.workflow.as_ref(), state.run.workflow.as_ref())
            && is(self.status.as_ref(), Some(&state.run.status))
    }
}

impl WorkflowCache {
    /// The runs that go on and match, from behind that one of which `after` has the time and the id.
    #[must_use]
    pub fn list(&self, filter: &RunFilter, after: Option<(Timestamp, &RunId)>, limit: usize) -> RunPage {
        fn place(state: &RunState) -> (Timestamp, &RunId) {
            (state.run.created_at, &state.run.id)
        }
        let mut runs: Vec<&Arc<RunState>> = self.runs.values().filter(|state| filter.matches(state)).collect();
        let total = runs.len();
        runs.retain(|state| after.is_none_or(|after| place(state) < after));
        runs.sort_unstable_by(|a, b| place(b).cmp(&place(a)));
        RunPage { more: runs.len() > limit, runs: runs.into_iter().take(limit).cloned().collect(), total }
    }

    /// The workflows of a namespace, sorted by id.
    #[must_use]
    pub fn workflows(&self, namespace: &Namespace) -> Vec<Arc<Workflow>> {
        self.workflows_in(namespace).cloned().collect()
    }
}
