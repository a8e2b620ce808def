//! Commands and reads of workflows, runs and steps.

use std::sync::Arc;

use a2a_core::ids::{Actor, Namespace, Revision, RunId, WorkflowId, WorkflowKey};
use a2a_core::time::Timestamp;
use a2a_core::workflow::command::{WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::run::{RunState, RunStatus};
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel::{Connection as _, SqliteConnection};

use super::rows::json_text;
use super::workflow_rows::{Which, payloads, runs_by_id, workflow_history};
use super::{Sqlite, SqliteStatement, with, workflow_commit};
use crate::error::StoreError;
use crate::store::workflows::{LEFT_OPEN_SQL, page_sql};
use crate::store::{Pruned, RunCursor, RunFilter, RunPage, RunSummary, StepPayloads, WorkflowVersion};

/// Most runs that one pruning deletes: others wait until it is done.
const PRUNE_RUNS_MAX: i64 = 1_000;

impl Sqlite {
    pub(crate) async fn workflow_commit(
        &self,
        commands: Vec<WorkflowCommand>,
    ) -> Result<Vec<WorkflowOutcome>, StoreError> {
        let definitions = self.definitions.clone();
        with(&self.writer, move |conn| workflow_commit::commit(conn, &definitions, &commands)).await
    }

    pub(crate) async fn runs_read(&self, ids: &[RunId], payloads: bool) -> Result<Vec<RunState>, StoreError> {
        let (ids, definitions): (Vec<RunId>, Arc<_>) = (ids.to_vec(), self.definitions.clone());
        with(&self.reader, move |conn| {
            let runs = conn.transaction(|conn| runs_by_id(conn, &definitions, &ids, payloads))?;
            runs.into_iter().map(|run| run.map_err(|(_, error)| error)).collect()
        })
        .await
    }

    pub(crate) async fn step_payloads(&self, run: &RunId, order: usize) -> Result<Option<StepPayloads>, StoreError> {
        let key = [(run.clone(), order)];
        with(&self.reader, move |conn| {
            let input = payloads(conn, Which::Input, &key)?.pop();
            let output = payloads(conn, Which::Output, &key)?.pop();
            Ok(input.zip(output).map(|((_, input), (_, output))| StepPayloads { input, output }))
        })
        .await
    }

    pub(crate) async fn runs_left_open(&self, limit: i64) -> Result<Vec<RunId>, StoreError> {
        with(&self.reader, move |conn| {
            let left: Vec<String> = SqliteStatement::<Text>::new(LEFT_OPEN_SQL).bind::<BigInt, _>(limit).rows(conn)?;
            Ok(left.into_iter().map(RunId::from_stored).collect())
        })
        .await
    }

    pub(crate) async fn run_of_key(&self, namespace: &Namespace, key: &str) -> Result<Option<RunId>, StoreError> {
        let (namespace, key) = (namespace.clone(), key.to_owned());
        with(&self.reader, move |conn| {
            let ids: Vec<String> =
                SqliteStatement::<Text>::new("SELECT id FROM runs WHERE namespace = ? AND idempotency_key = ?")
                    .bind::<Text, _>(namespace.as_str())
                    .bind::<Text, _>(key.as_str())
                    .rows(conn)?;
            Ok(ids.into_iter().next().map(RunId::from_stored))
        })
        .await
    }

    pub(crate) async fn run_ids(&self, prefix: &RunId, limit: i64) -> Result<Vec<RunId>, StoreError> {
        let prefix = prefix.to_string();
        with(&self.reader, move |conn| {
            // Every character of an id comes before the tilde.
            let ids: Vec<String> =
                SqliteStatement::<Text>::new("SELECT id FROM runs WHERE id >= ? AND id < ? || '~' ORDER BY id LIMIT ?")
                    .bind::<Text, _>(prefix.as_str())
                    .bind::<Text, _>(prefix.as_str())
                    .bind::<BigInt, _>(limit)
                    .rows(conn)?;
            Ok(ids.into_iter().map(RunId::from_stored).collect())
        })
        .await
    }

    pub(crate) async fn workflow_history(
        &self,
        key: &WorkflowKey,
        before: Revision,
        limit: i64,
    ) -> Result<Vec<WorkflowVersion>, StoreError> {
        let key = key.clone();
        with(&self.reader, move |conn| workflow_history(conn, &key, before, limit)).await
    }

    pub(crate) async fn runs_page(
        &self,
        filter: &RunFilter,
        after: Option<&RunCursor>,
        limit: usize,
    ) -> Result<RunPage, StoreError> {
        let (filter, after) = (filter.clone(), after.cloned());
        with(&self.reader, move |conn| conn.transaction(|conn| page(conn, &filter, after.as_ref(), limit))).await
    }
}

fn page(
    conn: &mut SqliteConnection,
    filter: &RunFilter,
    after: Option<&RunCursor>,
    limit: usize,
) -> Result<RunPage, StoreError> {
    type Row = (
        (String, String, Option<String>, Option<i64>, String, bool, i64, Option<String>, i64, i64),
        (i64, Option<i64>, Option<i64>, i64, String),
    );
    type RowSql = (
        (Text, Text, Nullable<Text>, Nullable<BigInt>, Text, Bool, BigInt, Nullable<Text>, BigInt, BigInt),
        (BigInt, Nullable<BigInt>, Nullable<BigInt>, BigInt, Text),
    );
    let (count, page) = page_sql!(filter, "9223372036854775807");
    let status = filter.status.map(RunStatus::as_str);
    let workflow = filter.workflow.as_ref().map(WorkflowId::as_str);
    let mut counted = SqliteStatement::<BigInt>::new(count).bind::<Text, _>(filter.namespace.as_str());
    let mut rows = SqliteStatement::<RowSql>::new(page).bind::<Text, _>(filter.namespace.as_str());
    for condition in [status, workflow].into_iter().flatten() {
        counted = counted.bind::<Text, _>(condition);
        rows = rows.bind::<Text, _>(condition);
    }
    let total: i64 = counted.row(conn)?;
    let rows: Vec<Row> = rows
        .bind::<Nullable<BigInt>, _>(after.map(|cursor| cursor.created_at.0))
        .bind::<Nullable<Text>, _>(after.map(|cursor| cursor.id.as_str()))
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1))
        .rows(conn)?;
    let runs = rows.into_iter().map(|(run, times)| {
        let (id, namespace, workflow, revision, status, paused, priority, error, steps, steps_ended) = run;
        let (created_at, started_at, finished_at, updated_at, created_by) = times;
        let unknown = || StoreError::Row { table: "runs", key: id.clone(), reason: format!("status: {status:?}") };
        Ok(RunSummary {
            status: RunStatus::from_name(&status).ok_or_else(unknown)?,
            id: RunId::from_stored(id),
            namespace: Namespace::from_stored(namespace),
            workflow: workflow.map(WorkflowId::from_stored),
            workflow_revision: revision,
            paused,
            priority: i16::try_from(priority).unwrap_or_default(),
            error: error.map(Into::into),
            steps,
            steps_ended,
            created_at: Timestamp(created_at),
            started_at: started_at.map(Timestamp),
            finished_at: finished_at.map(Timestamp),
            updated_at: Timestamp(updated_at),
            created_by: Actor::new(&created_by),
        })
    });
    Ok(RunPage::of(runs.collect::<Result<_, StoreError>>()?, total, limit))
}

/// Deletes runs that ended before a time, with their steps.
pub(super) fn prune_runs_in_txn(conn: &mut SqliteConnection, before: i64) -> Result<Pruned, StoreError> {
    let old: Vec<String> =
        SqliteStatement::<Text>::new("SELECT id FROM runs WHERE finished_at < ? ORDER BY finished_at LIMIT ?")
            .bind::<BigInt, _>(before)
            .bind::<BigInt, _>(PRUNE_RUNS_MAX)
            .rows(conn)?;
    if old.is_empty() {
        return Ok(Pruned::All);
    }
    let pruned = Pruned::of(i64::try_from(old.len()).unwrap_or(i64::MAX), PRUNE_RUNS_MAX);
    let old = json_text(&old)?;
    for sql in [
        "DELETE FROM steps WHERE run_id IN (SELECT value FROM json_each(?))",
        "DELETE FROM runs WHERE id IN (SELECT value FROM json_each(?))",
    ] {
        SqliteStatement::<()>::new(sql).bind::<Text, _>(old.as_str()).run(conn)?;
    }
    Ok(pruned)
}
