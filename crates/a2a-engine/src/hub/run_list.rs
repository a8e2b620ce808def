//! Lists of runs, what one step got and gave, and waiting for a change of a run.

use std::sync::Arc;
use std::time::Duration;

use a2a_core::error::Problems;
use a2a_core::ids::{Namespace, RunId, WorkflowId};
use a2a_core::time::Timestamp;
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
    /// Runs, those that have ended included, newest first.
    ///
    /// # Errors
    /// When the query is not valid, or the database can't be reached.
    pub async fn run_list(&self, query: &RunQuery) -> Result<RunList, HubError> {
        let running = self.running().await?;
        let workflow = query.workflow.as_deref().map(WorkflowId::parse).transpose();
        let filter = RunFilter {
            namespace: self.namespace(query.namespace.as_ref()),
            statuses: query.status.into_iter().collect(),
            workflow: workflow.map_err(|error| Problems::one("workflow", error.to_string()))?,
        };
        let after = query.cursor.as_deref().map(parse_cursor).transpose()?;
        let page = read(running.store.runs_page(&filter, after.as_ref(), query.limit).await)?;
        Ok(RunList {
            runs: page.runs,
            total: usize::try_from(page.total).unwrap_or_default(),
            next_cursor: page.next.as_ref().map(cursor_text),
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

fn cursor_text(cursor: &RunCursor) -> String {
    format!("{}.{}", cursor.created_at.0, cursor.id)
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
        assert_eq!(parse_cursor(&cursor_text(&cursor)), Ok(cursor));
        for wrong in ["", ".", "1", "x.run-a", "1.", "1.a b"] {
            assert!(parse_cursor(wrong).is_err(), "{wrong}");
        }
    }
}
