//! The statements that write workflows, runs and steps, each with its rows of the change log, and what was applied.

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use a2a_core::ids::{Revision, RunId};
use a2a_core::time::Timestamp;
use a2a_core::workflow::run::{Run, Step};

use super::PgStatement;
use super::workflow_rows::send_write;
use crate::agent_row::StoredTime;
use crate::error::StoreError;
use crate::workflow_commit::{AppliedRow, ChangedStep, NewRunRow, WorkflowWrite, Writes};
use crate::workflow_row::{StepJson, run_log_op, written_payload};

const CREATE_WORKFLOW: &str = "\
WITH created AS (
    INSERT INTO workflows (namespace, id, revision, content_hash, document, created_at, updated_at, updated_by)
    VALUES (?, ?, ?, ?, ?::text::json, ?, ?, ?) RETURNING namespace, id, revision
)
INSERT INTO change_log (entity, namespace, id, revision, op)
SELECT 'workflow', namespace, id, revision, 'put' FROM created";

/// The row is locked and has the revision before.
const REPLACE_WORKFLOW: &str = "\
WITH i AS (
    SELECT ?::text AS namespace, ?::text AS id, ?::bigint AS revision, ?::bytea AS content_hash,
        ?::text AS document, ?::timestamptz AS created_at, ?::timestamptz AS updated_at, ?::text AS updated_by
), kept AS (
    INSERT INTO workflow_history
    SELECT w.* FROM workflows w JOIN i ON w.namespace = i.namespace AND w.id = i.id
), replaced AS (
    UPDATE workflows w SET revision = i.revision, content_hash = i.content_hash, document = i.document::json,
        updated_at = i.updated_at, updated_by = i.updated_by, removed_at = NULL
    FROM i WHERE w.namespace = i.namespace AND w.id = i.id
)
INSERT INTO change_log (entity, namespace, id, revision, op)
SELECT 'workflow', namespace, id, revision, 'put' FROM i";

const REMOVE_WORKFLOW: &str = "\
WITH i AS (
    SELECT ?::text AS namespace, ?::text AS id, ?::bigint AS revision, ?::timestamptz AS at, ?::text AS updated_by
), kept AS (
    INSERT INTO workflow_history
    SELECT w.* FROM workflows w JOIN i ON w.namespace = i.namespace AND w.id = i.id
), removed AS (
    UPDATE workflows w SET revision = i.revision, removed_at = i.at, updated_at = i.at, updated_by = i.updated_by
    FROM i WHERE w.namespace = i.namespace AND w.id = i.id
)
INSERT INTO change_log (entity, namespace, id, revision, op)
SELECT 'workflow', namespace, id, revision, 'remove' FROM i";

const CREATE_RUNS: &str = "\
WITH i AS MATERIALIZED (
    SELECT * FROM UNNEST(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) AS i(
        id, namespace, workflow_id, workflow_revision, definition_hash, definition, status, paused, priority, context,
        input, result, error, idempotency_key, forked_from, revision, created_at, created_by, started_at, finished_at,
        timeout_at, updated_at, updated_by, op)
), created AS (
    INSERT INTO runs (id, namespace, workflow_id, workflow_revision, definition_hash, definition, status, paused,
        priority, context, input, result, error, idempotency_key, forked_from, revision, created_at, created_by,
        started_at, finished_at, timeout_at, updated_at, updated_by)
    SELECT id, namespace, workflow_id, workflow_revision, definition_hash, definition::json, status, paused,
        priority, context::json, input::json, result::json, error, idempotency_key, forked_from, revision, created_at,
        created_by, started_at, finished_at, timeout_at, updated_at, updated_by FROM i
)
INSERT INTO change_log (entity, namespace, id, revision, op) SELECT 'run', namespace, id, revision, op FROM i";

/// Steps of new runs are not named in the change log: who does not know a run reads it whole.
const CREATE_STEPS: &str = "\
INSERT INTO steps (run_id, ord, name, agent, executor_kind, executor_settings, status, attempt, failures, input, output,
    error, wait, answer, checkpoint, progress, lease_owner, lease_until, progress_until, timeout_at, due_at, ready_at,
    started_at, finished_at, revision)
SELECT run_id, ord, name, agent, executor_kind, executor_settings::json, status, attempt, failures, input::json,
    output::json, error, wait::json, answer::json, checkpoint::json, progress::json, lease_owner, lease_until,
    progress_until, timeout_at, due_at, ready_at, started_at, finished_at, revision
FROM UNNEST(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) AS i(
    run_id, ord, status, attempt, failures, input, output, error, wait, answer, checkpoint, progress, lease_owner,
    lease_until, progress_until, timeout_at, due_at, ready_at, started_at, finished_at, revision,
    name, agent, executor_kind, executor_settings)";

/// The rows are locked. They are looked up one by one, as in `workflow_rows::by_id`.
const UPDATE_RUNS: &str = "\
WITH i AS MATERIALIZED (
    SELECT * FROM UNNEST(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WITH ORDINALITY AS i(
        id, status, paused, result, error, revision, started_at, finished_at, timeout_at, updated_at, updated_by, op,
        place)
    WHERE place BETWEEN 1 AND 1000000000 OFFSET 0
), updated AS (
    UPDATE runs r SET status = i.status, paused = i.paused, result = i.result::json, error = i.error,
        revision = i.revision, started_at = i.started_at, finished_at = i.finished_at, timeout_at = i.timeout_at,
        updated_at = i.updated_at, updated_by = i.updated_by
    FROM i WHERE r.id = i.id RETURNING r.namespace, r.id, r.revision, i.op
)
INSERT INTO change_log (entity, namespace, id, revision, op) SELECT 'run', namespace, id, revision, op FROM updated";

/// Writes the rows that are what was read, and says how many.
const UPDATE_STEPS: &str = "\
WITH i AS MATERIALIZED (
    SELECT * FROM UNNEST(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) WITH ORDINALITY AS i(
        run_id, ord, status, attempt, failures, input, output, error, wait, answer, checkpoint, progress, lease_owner,
        lease_until, progress_until, timeout_at, due_at, ready_at, started_at, finished_at, revision,
        keeps_input, keeps_output, base, place)
    WHERE place BETWEEN 1 AND 1000000000 OFFSET 0
), updated AS (
    UPDATE steps s SET status = i.status, attempt = i.attempt, failures = i.failures,
        input = CASE WHEN i.keeps_input THEN s.input ELSE i.input::json END,
        output = CASE WHEN i.keeps_output THEN s.output ELSE i.output::json END,
        error = i.error, wait = i.wait::json, answer = i.answer::json, checkpoint = i.checkpoint::json,
        progress = i.progress::json, lease_owner = i.lease_owner, lease_until = i.lease_until,
        progress_until = i.progress_until, timeout_at = i.timeout_at, due_at = i.due_at, ready_at = i.ready_at,
        started_at = i.started_at, finished_at = i.finished_at, revision = i.revision
    FROM i WHERE s.run_id = i.run_id AND s.ord = i.ord AND s.revision = i.base
    RETURNING s.run_id, s.ord, s.revision
)
INSERT INTO change_log (entity, namespace, id, revision, op)
SELECT 'step', (SELECT r.namespace FROM runs r WHERE r.id = u.run_id), u.run_id || '/' || u.ord, u.revision, 'put'
FROM updated u";

const NOTE_APPLIED: &str = "\
INSERT INTO applied_ops (op_id, entity, namespace, id, revision, replaced_revision, op, at)
SELECT i.*, ?::timestamptz FROM UNNEST(?, ?, ?, ?, ?, ?, ?) AS i";

/// Writes what a round has decided: workflows one by one, everything else set by set in one round trip.
pub(super) fn write_in_txn<'c>(
    conn: &'c AsyncPgConnection,
    writes: &'c Writes<'_, '_>,
    now: Timestamp,
) -> BoxFuture<'c, Result<(), StoreError>> {
    async move {
        for write in writes.workflows {
            send_write(conn, true, workflow_statement(write, now)).await.map_err(raced)?;
        }
        let new_steps: Vec<(&RunId, &Step)> = writes
            .new_runs
            .iter()
            .flat_map(|new| new.state.steps.iter().map(|step| (&new.state.run.id, step)))
            .collect();
        let changed_runs: Vec<&Run> = writes.runs.iter().map(|state| &state.run).collect();
        let (create_steps, update_steps) = (create_steps(&writes.new_runs, &new_steps)?, update_steps(&writes.steps)?);
        let (applied, runs, steps, updated_runs, updated_steps) = futures_util::join!(
            send_write(conn, !writes.applied.is_empty(), note_applied(writes.applied, now)),
            send_write(conn, !writes.new_runs.is_empty(), create_runs(&writes.new_runs)),
            send_write(conn, !new_steps.is_empty(), create_steps),
            send_write(conn, !changed_runs.is_empty(), update_runs(&changed_runs)),
            send_write(conn, !writes.steps.is_empty(), update_steps),
        );
        // The first one that failed tells why; those after it only that the transaction has failed.
        for result in [applied, runs, steps, updated_runs] {
            result.map_err(raced)?;
        }
        // A claim or a note has come in between; the whole transaction is done again.
        if updated_steps.map_err(raced)? == writes.steps.len() { Ok(()) } else { Err(StoreError::Raced) }
    }
    .boxed()
}

/// Writes steps whose rows are locked.
pub(super) fn write_steps_in_txn<'c>(
    conn: &'c AsyncPgConnection,
    steps: &'c [ChangedStep],
) -> BoxFuture<'c, Result<(), StoreError>> {
    async move {
        let steps: Vec<_> = steps.iter().map(|(run, step, read)| (run, step, *read)).collect();
        let statement = update_steps(&steps)?;
        let written = send_write(conn, !steps.is_empty(), statement).await?;
        if written == steps.len() { Ok(()) } else { Err(StoreError::Raced) }
    }
    .boxed()
}

/// Another process may have made the same entity after this transaction began; trying again finds it.
fn raced(error: DieselError) -> StoreError {
    if let DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, info) = &error
        && matches!(info.constraint_name(), Some("workflows_pkey" | "runs_pkey" | "runs_idempotency_key"))
    {
        return StoreError::Raced;
    }
    error.into()
}

fn workflow_statement<'w>(write: &'w WorkflowWrite<'_>, now: Timestamp) -> PgStatement<'w, ()> {
    match write {
        WorkflowWrite::Put { put, replaces, revision, created_at } => {
            PgStatement::new(if *replaces { REPLACE_WORKFLOW } else { CREATE_WORKFLOW })
                .bind::<Text, _>(put.spec.namespace.as_str())
                .bind::<Text, _>(put.spec.id.as_str())
                .bind::<BigInt, _>(*revision)
                .bind::<Binary, _>(put.content_hash.as_slice())
                .bind::<Text, _>(&*put.document)
                .bind::<Timestamptz, _>(StoredTime(*created_at))
                .bind::<Timestamptz, _>(StoredTime(now))
                .bind::<Text, _>(put.actor.as_str())
        }
        WorkflowWrite::Remove { key, revision, actor } => PgStatement::new(REMOVE_WORKFLOW)
            .bind::<Text, _>(key.namespace.as_str())
            .bind::<Text, _>(key.id.as_str())
            .bind::<BigInt, _>(*revision)
            .bind::<Timestamptz, _>(StoredTime(now))
            .bind::<Text, _>(actor.as_str()),
    }
}

fn stored(time: Option<Timestamp>) -> Option<StoredTime> {
    time.map(StoredTime)
}

/// Binds one array for each expression over the rows.
macro_rules! bind_columns {
    ($statement:expr, $rows:expr, $row:pat => { $($sql_type:ty: $value:expr,)* }) => {
        $statement$(.bind::<Array<$sql_type>, _>($rows.iter().map(|$row| $value).collect::<Vec<_>>()))*
    };
}

fn note_applied(rows: &[AppliedRow], now: Timestamp) -> PgStatement<'_, ()> {
    let statement = PgStatement::new(NOTE_APPLIED).bind::<Timestamptz, _>(StoredTime(now));
    bind_columns!(statement, rows, row => {
        SqlUuid: row.op_id.0,
        Text: row.entity,
        Text: row.namespace.as_str(),
        Text: row.id.as_str(),
        BigInt: row.revision,
        Nullable<BigInt>: row.replaced_revision,
        Text: row.op,
    })
}

fn create_runs<'w>(new: &[NewRunRow<'w>]) -> PgStatement<'w, ()> {
    bind_columns!(PgStatement::new(CREATE_RUNS), new, new => {
        Text: new.state.run.id.as_str(),
        Text: new.state.run.namespace.as_str(),
        Nullable<Text>: new.state.run.workflow.as_ref().map(|id| id.as_str()),
        Nullable<BigInt>: new.state.run.workflow_revision,
        Binary: new.hash.as_slice(),
        Text: new.document,
        Text: new.state.run.status.as_str(),
        Bool: new.state.run.paused,
        BigInt: i64::from(new.state.run.priority),
        Text: new.state.run.context.as_str(),
        Text: new.state.run.input.as_str(),
        Nullable<Text>: new.state.run.result.as_ref().map(|json| json.as_str()),
        Nullable<Text>: new.state.run.error.as_deref(),
        Nullable<Text>: new.state.run.idempotency_key.as_deref(),
        Nullable<Text>: new.state.run.forked_from.as_ref().map(|id| id.as_str()),
        BigInt: new.state.run.revision,
        Timestamptz: StoredTime(new.state.run.created_at),
        Text: new.state.run.created_by.as_str(),
        Nullable<Timestamptz>: stored(new.state.run.started_at),
        Nullable<Timestamptz>: stored(new.state.run.finished_at),
        Nullable<Timestamptz>: stored(new.state.run.timeout_at),
        Timestamptz: StoredTime(new.state.run.updated_at),
        Text: new.state.run.updated_by.as_str(),
        Text: run_log_op(&new.state.run),
    })
}

fn update_runs<'w>(runs: &[&'w Run]) -> PgStatement<'w, ()> {
    bind_columns!(PgStatement::new(UPDATE_RUNS), runs, run => {
        Text: run.id.as_str(),
        Text: run.status.as_str(),
        Bool: run.paused,
        Nullable<Text>: run.result.as_ref().map(|json| json.as_str()),
        Nullable<Text>: run.error.as_deref(),
        BigInt: run.revision,
        Nullable<Timestamptz>: stored(run.started_at),
        Nullable<Timestamptz>: stored(run.finished_at),
        Nullable<Timestamptz>: stored(run.timeout_at),
        Timestamptz: StoredTime(run.updated_at),
        Text: run.updated_by.as_str(),
        Text: run_log_op(run),
    })
}

/// Binds the columns that change in the life of a step.
fn bind_steps<'w>(
    statement: PgStatement<'w, ()>,
    steps: &[(&'w RunId, &'w Step)],
) -> Result<PgStatement<'w, ()>, StoreError> {
    let json: Vec<StepJson> = steps.iter().map(|(_, step)| StepJson::of(step)).collect::<Result<_, _>>()?;
    let (waits, progress): (Vec<Option<String>>, Vec<Option<String>>) =
        json.into_iter().map(|json| (json.wait, json.progress)).unzip();
    let statement = bind_columns!(statement, steps, (run, _) => {
        Text: run.as_str(),
    });
    let statement = bind_columns!(statement, steps, (_, step) => {
        BigInt: i64::try_from(step.order).unwrap_or(i64::MAX),
        Text: step.status.as_str(),
        BigInt: i64::from(step.attempt),
        BigInt: i64::from(step.failures),
        Nullable<Text>: written_payload(&step.input).0,
        Nullable<Text>: written_payload(&step.output).0,
        Nullable<Text>: step.error.as_deref(),
    });
    let statement = statement.bind::<Array<Nullable<Text>>, _>(waits);
    let statement = bind_columns!(statement, steps, (_, step) => {
        Nullable<Text>: step.answer.as_ref().map(|json| json.as_str()),
        Nullable<Text>: step.checkpoint.as_ref().map(|json| json.as_str()),
    });
    let statement = statement.bind::<Array<Nullable<Text>>, _>(progress);
    Ok(bind_columns!(statement, steps, (_, step) => {
        Nullable<Text>: step.lease_owner.as_deref(),
        Nullable<Timestamptz>: stored(step.lease_until),
        Nullable<Timestamptz>: stored(step.progress_until),
        Nullable<Timestamptz>: stored(step.timeout_at),
        Nullable<Timestamptz>: stored(step.due_at),
        Nullable<Timestamptz>: stored(step.ready_at),
        Nullable<Timestamptz>: stored(step.started_at),
        Nullable<Timestamptz>: stored(step.finished_at),
        BigInt: step.revision,
    }))
}

fn create_steps<'w>(new: &[NewRunRow<'w>], steps: &[(&'w RunId, &'w Step)]) -> Result<PgStatement<'w, ()>, StoreError> {
    let statement = bind_steps(PgStatement::new(CREATE_STEPS), steps)?;
    let specs: Vec<_> = new.iter().flat_map(|new| new.state.run.definition.spec.steps.iter()).collect();
    let statement = bind_columns!(statement, specs, spec => {
        Text: spec.name.as_str(),
        Text: spec.agent.as_str(),
    });
    Ok(bind_columns!(statement, steps, (_, step) => {
        Text: step.executor.kind.as_str(),
        Text: step.executor.settings.as_str(),
    }))
}

fn update_steps<'w>(steps: &[(&'w RunId, &'w Step, Revision)]) -> Result<PgStatement<'w, ()>, StoreError> {
    let rows: Vec<(&RunId, &Step)> = steps.iter().map(|(run, step, _)| (*run, *step)).collect();
    let statement = bind_steps(PgStatement::new(UPDATE_STEPS), &rows)?;
    let statement = bind_columns!(statement, steps, (_, step, _) => {
        Bool: written_payload(&step.input).1,
        Bool: written_payload(&step.output).1,
    });
    Ok(statement.bind::<Array<BigInt>, _>(steps.iter().map(|(_, _, read)| *read).collect::<Vec<_>>()))
}
