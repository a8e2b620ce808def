//! Lists of runs, what one step got and gave, and waiting for a change of a run.

use std::sync::Arc;
use std::time::Duration;

use a2a_core::error::Problems;
use a2a_core::ids::{Namespace, RunId, WorkflowId};
use a2a_core::time::Timestamp;
use a2a_core::workflow::live;
use a2a_core::workflow::run::{RunState, RunStatus};
use a2a_store::store::{RunCursor, RunFilter};
pub use a2a_store::store::{RunSummary, StepPayloads};
use tokio::time::Instant;

use super::Hub;
use super::agents::read;
use crate::error::HubError;

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunQuery {
    /// Of this namespace; `None` means the configured one.
    pub namespace: Option<Namespace>,
    /// With this status.
    pub status: Option<RunStatus>,
    /// Of the workflow with this whole id, whether it is still saved or not.
    pub workflow: Option<String>,
    /// Most runs of the page.
    pub limit: usize,
    /// Where an earlier page ended.
    pub cursor: Option<String>,
}

/// A page of runs.
#[derive(Debug, Clone)]
pub struct RunList {
    /// Newest first.
    pub runs: Vec<RunSummary>,
    /// How many there are on all pages.
    pub total: usize,
    /// Where the next page begins, when there is more.
    pub next_cursor: Option<String>,
}

impl Hub {
    /// Runs, newest first. Those that go on come from memory: a row of a run says nothing of what happens to its steps.
    ///
    /// # Errors
    /// When the query is not valid, or it asks for runs that have ended and the database can't be reached.
    pub async fn run_list(&self, query: &RunQuery) -> Result<RunList, HubError> {
        let running = self.running().await?;
        let namespace = self.namespace(query.namespace.as_ref());
        let workflow = query.workflow.as_deref().map(WorkflowId::parse).transpose();
        let workflow = workflow.map_err(|error| Problems::one("workflow", error.to_string()))?;
        let after = query.cursor.as_deref().map(parse_cursor).transpose()?;
        if query.status.is_some_and(|status| !status.is_finished()) {
            let filter = live::RunFilter { namespace: Some(namespace), workflow, status: query.status };
            let after = after.as_ref().map(|cursor| (cursor.created_at, &cursor.id));
            let page = self.inner.workflows.read().list(&filter, after, query.limit);
            let last = page.runs.last().filter(|_| page.more);
            return Ok(RunList {
                next_cursor: last.map(|state| cursor_text(state.run.created_at, &state.run.id)),
                runs: page.runs.iter().map(|state| summary(state)).collect(),
                total: page.total,
            });
        }
        let filter = RunFilter { namespace, status: query.status, workflow };
        let mut page = read(running.store.runs_page(&filter, after.as_ref(), query.limit).await)?;
        let cache = self.inner.workflows.read();
        for run in &mut page.runs {
            if let Some(state) = cache.run(&run.id).filter(|_| !run.status.is_finished()) {
                *run = summary(state);
            }
        }
        Ok(RunList {
            runs: page.runs,
            total: usize::try_from(page.total).unwrap_or_default(),
            next_cursor: page.next.as_ref().map(|cursor| cursor_text(cursor.created_at, &cursor.id)),
        })
    }

    /// What one step of a run got and gave, without the others of the run, whose outputs may be large.
    ///
    /// # Errors
    /// When there is no such step, or the database can't be reached.
    pub async fn step_payloads(&self, run: &RunId, order: usize) -> Result<StepPayloads, HubError> {
        let running = self.running().await?;
        let found = read(running.store.step_payloads(run, order).await)?;
        found.ok_or_else(|| HubError::NotFound { entity: "run", id: run.to_string(), nearest: Vec::new() })
    }

    /// Waits until a run is no longer as `seen`, but not longer than `wait`.
    ///
    /// # Errors
    /// As [`Hub::run_get`].
    pub async fn run_wait_change(&self, seen: &RunState, wait: Duration) -> Result<Arc<RunState>, HubError> {
        let until = Instant::now() + wait;
        let id = &seen.run.id;
        let mut changed = self.inner.workflows.changed();
        loop {
            changed.mark_unchanged();
            let live = self.inner.workflows.read().run(id).cloned();
            let Some(state) = live else { return self.run_get(id.as_str(), false).await };
            if changes_of(&state) != changes_of(seen)
                || tokio::time::timeout_at(until, changed.changed()).await.is_err()
            {
                return Ok(state);
            }
        }
    }
}

/// Raised by every change of a run or of a step of it.
fn changes_of(state: &RunState) -> i64 {
    state.steps.iter().map(|step| step.revision).sum::<i64>().saturating_add(state.run.revision)
}

fn summary(state: &RunState) -> RunSummary {
    let run = &state.run;
    let count = |steps: usize| i64::try_from(steps).unwrap_or(i64::MAX);
    RunSummary {
        id: run.id.clone(),
        namespace: run.namespace.clone(),
        workflow: run.workflow.clone(),
        workflow_revision: run.workflow_revision,
        status: run.status,
        paused: run.paused,
        priority: run.priority,
        error: run.error.clone(),
        steps: count(state.steps.len()),
        steps_ended: count(state.steps.iter().filter(|step| step.status.is_finished()).count()),
        created_at: run.created_at,
        created_by: run.created_by.clone(),
        started_at: run.started_at,
        finished_at: run.finished_at,
        updated_at: run.updated_at,
    }
}

fn cursor_text(created_at: Timestamp, id: &RunId) -> String {
    format!("{}.{id}", created_at.0)
}

fn parse_cursor(text: &str) -> Result<RunCursor, Problems> {
    let parsed = text
        .split_once('.')
        .and_then(|(at, id)| Some(RunCursor { created_at: Timestamp(at.parse().ok()?), id: RunId::parse(id).ok()? }));
    parsed.ok_or_else(|| Problems::one("cursor", "is not one of this list; leave it out to begin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = RunCursor { created_at: Timestamp(1_795_000_000_123), id: RunId::generate() };
        assert_eq!(parse_cursor(&cursor_text(cursor.created_at, &cursor.id)), Ok(cursor));
        for wrong in ["", ".", "1", "x.run-a", "1.", "1.a b"] {
            assert!(parse_cursor(wrong).is_err(), "{wrong}");
        }
    }
}
