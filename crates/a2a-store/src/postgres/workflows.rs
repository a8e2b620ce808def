//! Commands and reads of workflows, runs and steps, with connections of the pool.

use a2a_core::ids::{Actor, Namespace, Revision, RunId, WorkflowId, WorkflowKey};
use a2a_core::workflow::command::{WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::run::{RunState, RunStatus};
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::AsyncPgConnection;

use super::workflow_rows::{Which, payloads, runs_by_id, workflow_history};
use super::{PgStatement, Postgres, workflow_commit};
use crate::agent_row::StoredTime;
use crate::error::StoreError;
use crate::store::workflows::{LEFT_OPEN_SQL, page_sql};
use crate::store::{Pruned, RunCursor, RunFilter, RunPage, RunSummary, StepPayloads, WorkflowVersion};

/// Most runs that one pruning deletes: their rows are locked until it is done.
const PRUNE_RUNS_MAX: i64 = 1_000;

impl Postgres {
    pub(crate) async fn workflow_commit(
        &self,
        commands: Vec<WorkflowCommand>,
    ) -> Result<Vec<WorkflowOutcome>, StoreError> {
        let work =
            async |conn: &mut AsyncPgConnection| workflow_commit::commit(conn, &self.definitions, &commands).await;
        self.commit_in_time(&self.workflow_limit, work).await
    }

    pub(crate) async fn runs_read(&self, ids: &[RunId], payloads: bool) -> Result<Vec<RunState>, StoreError> {
        // In one snapshot, so that steps and run belong together.
        self.read_snapshot(async |conn| {
            let runs = runs_by_id(conn, &self.definitions, ids, payloads).await?;
            runs.into_iter().map(|run| run.map_err(|(_, error)| error)).collect()
        })
        .await
    }

    pub(crate) async fn step_payloads(&self, run: &RunId, order: usize) -> Result<Option<StepPayloads>, StoreError> {
        let key = [(run.clone(), order)];
        self.read(async |conn| {
            let (inputs, outputs) =
                futures_util::join!(payloads(conn, Which::Input, &key), payloads(conn, Which::Output, &key));
            Ok(inputs?.pop().zip(outputs?.pop()).map(|((_, input), (_, output))| StepPayloads { input, output }))
        })
        .await
    }

    pub(crate) async fn runs_left_open(&self, limit: i64) -> Result<Vec<RunId>, StoreError> {
        self.read(async |conn| {
            let left: Vec<String> = PgStatement::<Text>::new(LEFT_OPEN_SQL).bind::<BigInt, _>(limit).rows(conn).await?;
            Ok(left.into_iter().map(RunId::from_stored).collect())
        })
        .await
    }

    pub(crate) async fn run_of_key(&self, namespace: &Namespace, key: &str) -> Result<Option<RunId>, StoreError> {
        self.read(async |conn| {
            let ids: Vec<String> =
                PgStatement::<Text>::new("SELECT id FROM runs WHERE namespace = ? AND idempotency_key = ?")
                    .bind::<Text, _>(namespace.as_str())
                    .bind::<Text, _>(key)
                    .rows(conn)
                    .await?;
            Ok(ids.into_iter().next().map(RunId::from_stored))
        })
        .await
    }

    pub(crate) async fn run_ids(&self, prefix: &RunId, limit: i64) -> Result<Vec<RunId>, StoreError> {
        self.read(async |conn| {
            // Every character of an id comes before the tilde.
            let ids: Vec<String> = PgStatement::<Text>::new(
                "SELECT id FROM runs WHERE id >= ? AND id < ?::text || '~' ORDER BY id LIMIT ?",
            )
            .bind::<Text, _>(prefix.as_str())
            .bind::<Text, _>(prefix.as_str())
            .bind::<BigInt, _>(limit)
            .rows(conn)
            .await?;
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
        self.read(async |conn| workflow_history(conn, key, before, limit).await).await
    }

    pub(crate) async fn runs_page(
        &self,
        filter: &RunFilter,
        after: Option<&RunCursor>,
        limit: usize,
    ) -> Result<RunPage, StoreError> {
        type Row = (
            (String, String, Option<String>, Option<i64>, String, bool, i64, Option<String>, i64, i64),
            (StoredTime, Option<StoredTime>, Option<StoredTime>, StoredTime, String),
        );
        type RowSql = (
            (Text, Text, Nullable<Text>, Nullable<BigInt>, Text, Bool, BigInt, Nullable<Text>, BigInt, BigInt),
            (Timestamptz, Nullable<Timestamptz>, Nullable<Timestamptz>, Timestamptz, Text),
        );
        let (count, page) = page_sql!(filter, "'infinity'::timestamptz");
        let status = filter.status.map(RunStatus::as_str);
        let workflow = filter.workflow.as_ref().map(WorkflowId::as_str);
        let namespace = filter.namespace.as_str();
        self.read(async |conn| {
            let mut counted = PgStatement::<BigInt>::new(count).bind::<Text, _>(namespace);
            let mut rows = PgStatement::<RowSql>::new(page).bind::<Text, _>(namespace);
            for condition in [status, workflow].into_iter().flatten() {
                counted = counted.bind::<Text, _>(condition);
                rows = rows.bind::<Text, _>(condition);
            }
            let total: i64 = counted.row(conn).await?;
            let rows: Vec<Row> = rows
                .bind::<Nullable<Timestamptz>, _>(after.map(|cursor| StoredTime(cursor.created_at)))
                .bind::<Nullable<Text>, _>(after.map(|cursor| cursor.id.as_str()))
                .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1))
                .rows(conn)
                .await?;
            let runs = rows.into_iter().map(
                |((id, ns, workflow, revision, status, paused, priority, error, all, ended), times)| {
                    let (created_at, started_at, finished_at, updated_at, created_by) = times;
                    let unknown =
                        || StoreError::Row { table: "runs", key: id.clone(), reason: format!("status: {status:?}") };
                    Ok(RunSummary {
                        status: RunStatus::from_name(&status).ok_or_else(unknown)?,
                        id: RunId::from_stored(id),
                        namespace: Namespace::from_stored(ns),
                        workflow: workflow.map(WorkflowId::from_stored),
                        workflow_revision: revision,
                        paused,
                        priority: i16::try_from(priority).unwrap_or_default(),
                        error: error.map(Into::into),
                        steps: all,
                        steps_ended: ended,
                        created_at: created_at.0,
                        started_at: started_at.map(|time| time.0),
                        finished_at: finished_at.map(|time| time.0),
                        updated_at: updated_at.0,
                        created_by: Actor::new(&created_by),
                    })
                },
            );
            Ok(RunPage::of(runs.collect::<Result<_, StoreError>>()?, total, limit))
        })
        .await
    }
}

/// Deletes runs that ended longer ago than so many milliseconds, with their steps.
pub(super) async fn prune_runs(conn: &mut AsyncPgConnection, age_ms: i64) -> Result<Pruned, StoreError> {
    // One that is retried at this moment is locked, and passed over.
    let deleted: i64 = PgStatement::<BigInt>::new(
        "WITH old AS MATERIALIZED (SELECT id FROM runs WHERE finished_at < now() - ?::bigint * interval '1 ms' \
         ORDER BY finished_at LIMIT ? FOR UPDATE SKIP LOCKED), \
         steps_deleted AS (DELETE FROM steps s USING old WHERE s.run_id = old.id), \
         deleted AS (DELETE FROM runs r USING old WHERE r.id = old.id RETURNING 1) SELECT count(*) FROM deleted",
    )
    .bind::<BigInt, _>(age_ms)
    .bind::<BigInt, _>(PRUNE_RUNS_MAX)
    .row(conn)
    .await?;
    Ok(Pruned::of(deleted, PRUNE_RUNS_MAX))
}
