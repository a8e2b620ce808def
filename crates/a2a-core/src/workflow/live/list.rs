//! Lists of workflows and runs.

use std::sync::Arc;

use super::WorkflowCache;
use crate::ids::{AgentId, Namespace, WorkflowId};
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
    /// Those with an unfinished step of this agent.
    pub agent: Option<AgentId>,
}

/// A part of a list of runs.
#[derive(Debug, Clone)]
pub struct RunPage {
    /// The latest first; those of one moment by id.
    pub runs: Vec<Arc<RunState>>,
    /// How many there are in all.
    pub total: usize,
}

impl RunFilter {
    fn matches(&self, state: &RunState) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, value: Option<&T>) -> bool {
            wanted.is_none_or(|wanted| Some(wanted) == value)
        }
        let has_agent = |agent: &AgentId| {
            let steps = state.run.definition.spec.steps.iter().zip(&state.steps);
            steps.into_iter().any(|(spec, step)| spec.agent == *agent && !step.status.is_finished())
        };
        is(self.namespace.as_ref(), Some(&state.run.namespace))
            && is(self.workflow.as_ref(), state.run.workflow.as_ref())
            && is(self.status.as_ref(), Some(&state.run.status))
            && self.agent.as_ref().is_none_or(has_agent)
    }
}

impl WorkflowCache {
    /// The runs that go on and match.
    #[must_use]
    pub fn list(&self, filter: &RunFilter, offset: usize, limit: usize) -> RunPage {
        let mut runs: Vec<&Arc<RunState>> = self.runs.values().filter(|state| filter.matches(state)).collect();
        // The runs come by id, and the sort keeps that order among those of one moment.
        runs.sort_by_key(|state| std::cmp::Reverse(state.run.created_at));
        let total = runs.len();
        RunPage { runs: runs.into_iter().skip(offset).take(limit).cloned().collect(), total }
    }

    /// The workflows of a namespace, sorted by id.
    #[must_use]
    pub fn workflows(&self, namespace: &Namespace) -> Vec<Arc<Workflow>> {
        self.workflows_in(namespace).cloned().collect()
    }
}
