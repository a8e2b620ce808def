//! Workflows, runs and steps: the commands that change them, and reads of what is not in memory.

use std::sync::Arc;

use a2a_core::ids::{Actor, Namespace, Revision, RunId, WorkflowId, WorkflowKey};
use a2a_core::json_text::JsonText;
use a2a_core::time::Timestamp;
use a2a_core::workflow::command::{WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::definition::Workflow;
use a2a_core::workflow::run::{RunState, RunStatus};

use super::{Backend, Store};
use crate::error::StoreError;

/// The conditions are those of the index, word by word: it is used for nothing else.
pub(crate) const LEFT_OPEN_SQL: &str = "SELECT run_id FROM steps WHERE finished_at IS NOT NULL \
     AND checkpoint IS NOT NULL AND executor_kind = 'a2a' GROUP BY run_id ORDER BY max(finished_at) DESC LIMIT ?";

/// One revision of a workflow, current or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowVersion {
    /// The workflow as it was.
    pub workflow: Arc<Workflow>,
    /// When this revision was a removal, the time of it.
    pub removed_at: Option<Timestamp>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of this namespace.
    pub namespace: Namespace,
    /// With this status.
    pub status: Option<RunStatus>,
    /// Of this workflow.
    pub workflow: Option<WorkflowId>,
}

/// The texts that count the runs of a [`RunFilter`] and read a page of them. What the filter does not ask for is not in
/// them, so that an index has the rows in their order and no more are read than are shown. `$latest` comes after every
/// time.
macro_rules! page_sql {
    ($filter:expr, $latest:literal) => {
        match ($filter.status.is_some(), $filter.workflow.is_some()) {
            (false, false) => page_sql!(@ $latest, ""),
            (true, false) => page_sql!(@ $latest, " AND r.status = ?"),
            (false, true) => page_sql!(@ $latest, " AND r.workflow_id = ?"),
            (true, true) => page_sql!(@ $latest, " AND r.status = ? AND r.workflow_id = ?"),
        }
    };
    (@ $latest:literal, $more:literal) => {
        (
            concat!("SELECT count(*) FROM runs r WHERE r.namespace = ?", $more),
            concat!(
                "SELECT r.id, r.namespace, r.workflow_id, r.workflow_revision, r.status, r.paused, r.priority, r.error, \
                 (SELECT count(*) FROM steps s WHERE s.run_id = r.id), \
                 (SELECT count(*) FROM steps s WHERE s.run_id = r.id \
                 AND s.status IN ('COMPLETED', 'FAILED', 'SKIPPED', 'CANCELLED')), \
                 r.created_at, r.started_at, r.finished_at, r.updated_at, r.created_by \
                 FROM runs r WHERE r.namespace = ?",
                $more,
                " AND (r.created_at, r.id) < (coalesce(?, ",
                $latest,
                "), coalesce(?, '')) ORDER BY r.created_at DESC, r.id DESC LIMIT ?"
            ),
        )
    };
}
pub(crate) use page_sql;

/// Where a page of runs ended; the next one begins after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCursor {
    /// When the last run of the page was asked for.
    pub created_at: Timestamp,
    /// Its id.
    pub id: RunId,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// Its namespace.
    pub namespace: Namespace,
    /// The workflow that it executes.
    pub workflow: Option<WorkflowId>,
    /// The revision of that workflow.
    pub workflow_revision: Option<Revision>,
    /// Where it stands.
    pub status: RunStatus,
    /// Nothing new is begun while this holds.
    pub paused: bool,
    /// 0 to 9.
    pub priority: i16,
    /// Why it has failed.
    pub error: Option<Box<str>>,
    /// How many steps it has.
    pub steps: i64,
    /// How many of them have ended.
    pub steps_ended: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When the first step was taken.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Who asked for it.
    pub created_by: Actor,
}

/// A page of runs.
#[derive(Debug, Clone, Default)]
pub struct RunPage {
    /// Newest first.
    pub runs: Vec<RunSummary>,
    /// How many the filter matches in all.
    pub total: i64,
    /// Where the next page begins, when there is more.
    pub next: Option<RunCursor>,
}

/// The payloads of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPayloads {
    /// Evaluated when the step became ready.
    pub input: Option<JsonText>,
    /// What the worker handed in.
    pub output: Option<JsonText>,
}

impl RunPage {
    /// Makes a page of rows of which one more was read than it holds.
    pub(crate) fn of(mut runs: Vec<RunSummary>, total: i64, limit: usize) -> Self {
        let more = runs.len() > limit;
        runs.truncate(limit);
        let cursor = |run: &RunSummary| RunCursor { created_at: run.created_at, id: run.id.clone() };
        Self { next: if more { runs.last().map(cursor) } else { None }, runs, total }
    }
}

impl Store {
    /// Commits commands about workflows and returns an outcome for each, in their order. What the database itself rejects
    /// is isolated and fails alone. After an error the same commands may be sent again: what was committed is found.
    ///
    /// States in outcomes leave the payloads of steps to the database, but for the inputs of what was claimed, and for a
    /// run that was begun now.
    ///
    /// # Errors
    /// When it is not known of all commands that they were committed; of each one it may be so
    /// ([`StoreError::is_ambiguous`]).
    pub async fn workflow_commit(&self, commands: Vec<WorkflowCommand>) -> Result<Vec<WorkflowOutcome>, StoreError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        on_backend!(self, WorkflowCommit, backend => backend.workflow_commit(commands))
    }

    /// A run, whether it goes on or has ended. Without `payloads` the inputs and outputs of its steps stay in the
    /// database.
    ///
    /// # Errors
    /// When the database can't be reached, or the run can't be read.
    pub async fn run_read(&self, id: &RunId, payloads: bool) -> Result<Option<RunState>, StoreError> {
        let ids = std::slice::from_ref(id);
        on_backend!(self, RunsRead, backend => backend.runs_read(ids, payloads)).map(|mut runs| runs.pop())
    }

    /// Runs by their ids, in the order of the ids; those that there are not are left out.
    ///
    /// # Errors
    /// When the database can't be reached, or one of the runs can't be read.
    pub async fn runs_read(&self, ids: &[RunId], payloads: bool) -> Result<Vec<RunState>, StoreError> {
        let mut runs = on_backend!(self, RunsRead, backend => backend.runs_read(ids, payloads))?;
        runs.sort_by_cached_key(|state| ids.iter().position(|id| *id == state.run.id));
        Ok(runs)
    }

    /// Runs with steps that have ended with the note of a task at an agent of the A2A protocol, the last ended ones first.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn runs_left_open(&self, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        on_backend!(self, RunsLeftOpen, backend => backend.runs_left_open(limit))
    }

    /// The input and output of one step, `None` when there is no such step.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn step_payloads(&self, run: &RunId, order: usize) -> Result<Option<StepPayloads>, StoreError> {
        on_backend!(self, StepPayloads, backend => backend.step_payloads(run, order))
    }

    /// Runs, newest first, that come after a cursor.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn runs_page(
        &self,
        filter: &RunFilter,
        after: Option<&RunCursor>,
        limit: usize,
    ) -> Result<RunPage, StoreError> {
        on_backend!(self, RunsPage, backend => backend.runs_page(filter, after, limit))
    }

    /// The run that was started with an idempotency key.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn run_of_key(&self, namespace: &Namespace, key: &str) -> Result<Option<RunId>, StoreError> {
        on_backend!(self, RunOfKey, backend => backend.run_of_key(namespace, key))
    }

    /// Ids of runs that begin with a text, sorted: one that is the text itself comes first.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn run_ids(&self, prefix: &RunId, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        on_backend!(self, RunIds, backend => backend.run_ids(prefix, limit))
    }

    /// The revisions of a workflow, newest first, starting below `before` when it is given.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn workflow_history(
        &self,
        key: &WorkflowKey,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<WorkflowVersion>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        on_backend!(self, WorkflowHistory, backend => backend.workflow_history(key, before.unwrap_or(i64::MAX), limit))
    }

    /// One revision of a workflow.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn workflow_version(
        &self,
        key: &WorkflowKey,
        revision: Revision,
    ) -> Result<Option<WorkflowVersion>, StoreError> {
        let found = self.workflow_history(key, Some(revision.saturating_add(1)), 1).await?;
        Ok(found.into_iter().next().filter(|version| version.workflow.revision == revision))
    }
}
