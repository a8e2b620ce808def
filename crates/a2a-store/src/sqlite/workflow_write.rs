//! The statements that write workflows, runs and steps, with their rows of the change log, and what was applied.

use a2a_core::ids::{Revision, RunId};
use a2a_core::time::Timestamp;
use a2a_core::workflow::run::{Run, Step};
use diesel::SqliteConnection;
use diesel::sql_types::{BigInt, Binary, Text};
use serde::Serialize;

use super::SqliteStatement;
use super::rows::json_text;
use crate::error::StoreError;
use crate::workflow_commit::{AppliedRow, ChangedStep, NewRunRow, WorkflowWrite, Writes};
use crate::workflow_row::{StepJson, run_log_op, step_log_id, written_payload};

/// Writes what a round has decided.
pub(super) fn write_in_txn(
    conn: &mut SqliteConnection,
    writes: &Writes<'_, '_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut log = Vec::new();
    for write in writes.workflows {
        write_workflow(conn, write, now)?;
        log.push(match write {
            WorkflowWrite::Put { put, revision, .. } => LogRow {
                entity: "workflow",
                namespace: put.spec.namespace.as_str(),
                id: put.spec.id.to_string(),
                revision: *revision,
                op: "put",
            },
            WorkflowWrite::Remove { key, revision, .. } => LogRow {
                entity: "workflow",
                namespace: key.namespace.as_str(),
                id: key.id.to_string(),
                revision: *revision,
                op: "remove",
            },
        });
    }
    create_runs(conn, &writes.new_runs)?;
    let changed: Vec<&Run> = writes.runs.iter().map(|state| &state.run).collect();
    update_runs(conn, &changed)?;
    let runs = writes.new_runs.iter().map(|new| &new.state.run).chain(changed.iter().copied());
    log.extend(runs.map(|run| LogRow {
        entity: "run",
        namespace: run.namespace.as_str(),
        id: run.id.to_string(),
        revision: run.revision,
        op: run_log_op(run),
    }));
    log_in_txn(conn, &log, now)?;
    note_applied(conn, writes.applied, now)?;
    update_steps(conn, &writes.steps, now)
}

/// Writes steps that have changed.
pub(super) fn write_steps_in_txn(
    conn: &mut SqliteConnection,
    steps: &[ChangedStep],
    now: Timestamp,
) -> Result<(), StoreError> {
    let steps: Vec<_> = steps.iter().map(|(run, step, read)| (run, step, *read)).collect();
    update_steps(conn, &steps, now)
}

fn write_workflow(conn: &mut SqliteConnection, write: &WorkflowWrite<'_>, now: Timestamp) -> Result<(), StoreError> {
    let keep = |conn: &mut SqliteConnection, namespace: &str, id: &str| {
        SqliteStatement::<()>::new(
            "INSERT INTO workflow_history SELECT * FROM workflows WHERE namespace = ? AND id = ?",
        )
        .bind::<Text, _>(namespace)
        .bind::<Text, _>(id)
        .run(conn)
    };
    match write {
        WorkflowWrite::Put { put, replaces: false, revision, created_at } => {
            SqliteStatement::<()>::new(
                "INSERT INTO workflows (namespace, id, revision, content_hash, document, created_at, updated_at, \
                 updated_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind::<Text, _>(put.spec.namespace.as_str())
            .bind::<Text, _>(put.spec.id.as_str())
            .bind::<BigInt, _>(*revision)
            .bind::<Binary, _>(put.content_hash.as_slice())
            .bind::<Text, _>(&*put.document)
            .bind::<BigInt, _>(created_at.0)
            .bind::<BigInt, _>(now.0)
            .bind::<Text, _>(put.actor.as_str())
            .run(conn)?;
        }
        WorkflowWrite::Put { put, replaces: true, revision, .. } => {
            let (namespace, id) = (put.spec.namespace.as_str(), put.spec.id.as_str());
            keep(conn, namespace, id)?;
            SqliteStatement::<()>::new(
                "UPDATE workflows SET revision = ?, content_hash = ?, document = ?, updated_at = ?, updated_by = ?, \
                 removed_at = NULL WHERE namespace = ? AND id = ?",
            )
            .bind::<BigInt, _>(*revision)
            .bind::<Binary, _>(put.content_hash.as_slice())
            .bind::<Text, _>(&*put.document)
            .bind::<BigInt, _>(now.0)
            .bind::<Text, _>(put.actor.as_str())
            .bind::<Text, _>(namespace)
            .bind::<Text, _>(id)
            .run(conn)?;
        }
        WorkflowWrite::Remove { key, revision, actor } => {
            let (namespace, id) = (key.namespace.as_str(), key.id.as_str());
            keep(conn, namespace, id)?;
            SqliteStatement::<()>::new(
                "UPDATE workflows SET revision = ?, removed_at = ?, updated_at = ?, updated_by = ? \
                 WHERE namespace = ? AND id = ?",
            )
            .bind::<BigInt, _>(*revision)
            .bind::<BigInt, _>(now.0)
            .bind::<BigInt, _>(now.0)
            .bind::<Text, _>(actor.as_str())
            .bind::<Text, _>(namespace)
            .bind::<Text, _>(id)
            .run(conn)?;
        }
    }
    Ok(())
}

fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(|time| time.0)
}

/// What changes in the life of a run.
#[derive(Serialize)]
struct RunJson<'a> {
    id: &'a str,
    status: &'a str,
    paused: bool,
    result: Option<&'a str>,
    error: Option<&'a str>,
    revision: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    timeout_at: Option<i64>,
    updated_at: i64,
    updated_by: &'a str,
}

fn run_json(run: &Run) -> RunJson<'_> {
    RunJson {
        id: run.id.as_str(),
        status: run.status.as_str(),
        paused: run.paused,
        result: run.result.as_ref().map(|json| json.as_str()),
        error: run.error.as_deref(),
        revision: run.revision,
        started_at: millis(run.started_at),
        finished_at: millis(run.finished_at),
        timeout_at: millis(run.timeout_at),
        updated_at: run.updated_at.0,
        updated_by: run.updated_by.as_str(),
    }
}

#[derive(Serialize)]
struct NewRunJson<'a> {
    #[serde(flatten)]
    run: RunJson<'a>,
    namespace: &'a str,
    workflow_id: Option<&'a str>,
    workflow_revision: Option<i64>,
    definition_hash: String,
    definition: &'a str,
    priority: i16,
    context: &'a str,
    input: &'a str,
    idempotency_key: Option<&'a str>,
    forked_from: Option<&'a str>,
    created_at: i64,
    created_by: &'a str,
}

fn create_runs(conn: &mut SqliteConnection, new: &[NewRunRow<'_>]) -> Result<(), StoreError> {
    if new.is_empty() {
        return Ok(());
    }
    let runs: Vec<NewRunJson<'_>> = new
        .iter()
        .map(|new| {
            let run = &new.state.run;
            NewRunJson {
                run: run_json(run),
                namespace: run.namespace.as_str(),
                workflow_id: run.workflow.as_ref().map(|id| id.as_str()),
                workflow_revision: run.workflow_revision,
                definition_hash: new.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
                definition: new.document,
                priority: run.priority,
                context: run.context.as_str(),
                input: run.input.as_str(),
                idempotency_key: run.idempotency_key.as_deref(),
                forked_from: run.forked_from.as_ref().map(|id| id.as_str()),
                created_at: run.created_at.0,
                created_by: run.created_by.as_str(),
            }
        })
        .collect();
    SqliteStatement::<()>::new(
        "INSERT INTO runs (id, namespace, workflow_id, workflow_revision, definition_hash, definition, status, paused, \
         priority, context, input, result, error, idempotency_key, forked_from, revision, created_at, created_by, \
         started_at, finished_at, timeout_at, updated_at, updated_by) \
         SELECT value ->> 'id', value ->> 'namespace', value ->> 'workflow_id', value ->> 'workflow_revision', \
         unhex(value ->> 'definition_hash'), value ->> 'definition', value ->> 'status', value ->> 'paused', \
         value ->> 'priority', value ->> 'context', value ->> 'input', value ->> 'result', value ->> 'error', \
         value ->> 'idempotency_key', value ->> 'forked_from', value ->> 'revision', value ->> 'created_at', \
         value ->> 'created_by', value ->> 'started_at', value ->> 'finished_at', value ->> 'timeout_at', value ->> 'updated_at', \
         value ->> 'updated_by' FROM jsonb_each(?)",
    )
    .bind::<Text, _>(json_text(&runs)?)
    .run(conn)?;
    create_steps(conn, new)
}

fn update_runs(conn: &mut SqliteConnection, runs: &[&Run]) -> Result<(), StoreError> {
    if runs.is_empty() {
        return Ok(());
    }
    let runs: Vec<RunJson<'_>> = runs.iter().map(|run| run_json(run)).collect();
    SqliteStatement::<()>::new(
        "UPDATE runs SET status = i.value ->> 'status', paused = i.value ->> 'paused', \
         result = i.value ->> 'result', error = i.value ->> 'error', revision = i.value ->> 'revision', \
         started_at = i.value ->> 'started_at', finished_at = i.value ->> 'finished_at', \
         timeout_at = i.value ->> 'timeout_at', updated_at = i.value ->> 'updated_at', \
         updated_by = i.value ->> 'updated_by' FROM jsonb_each(?) AS i WHERE runs.id = i.value ->> 'id'",
    )
    .bind::<Text, _>(json_text(&runs)?)
    .run(conn)?;
    Ok(())
}

/// What changes in the life of a step.
#[derive(Serialize)]
struct StepRowJson<'a> {
    run_id: &'a str,
    ord: usize,
    status: &'a str,
    attempt: i32,
    failures: i32,
    input: Option<&'a str>,
    keeps_input: bool,
    output: Option<&'a str>,
    keeps_output: bool,
    error: Option<&'a str>,
    wait: Option<String>,
    answer: Option<&'a str>,
    checkpoint: Option<&'a str>,
    progress: Option<String>,
    lease_owner: Option<&'a str>,
    lease_until: Option<i64>,
    progress_until: Option<i64>,
    timeout_at: Option<i64>,
    due_at: Option<i64>,
    ready_at: Option<i64>,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    revision: i64,
}

fn step_json<'a>(run: &'a RunId, step: &'a Step) -> Result<StepRowJson<'a>, StoreError> {
    let StepJson { wait, progress } = StepJson::of(step)?;
    let (input, keeps_input) = written_payload(&step.input);
    let (output, keeps_output) = written_payload(&step.output);
    Ok(StepRowJson {
        run_id: run.as_str(),
        ord: step.order,
        status: step.status.as_str(),
        attempt: step.attempt,
        failures: step.failures,
        input,
        keeps_input,
        output,
        keeps_output,
        error: step.error.as_deref(),
        wait,
        answer: step.answer.as_ref().map(|json| json.as_str()),
        checkpoint: step.checkpoint.as_ref().map(|json| json.as_str()),
        progress,
        lease_owner: step.lease_owner.as_deref(),
        lease_until: millis(step.lease_until),
        progress_until: millis(step.progress_until),
        timeout_at: millis(step.timeout_at),
        due_at: millis(step.due_at),
        ready_at: millis(step.ready_at),
        started_at: millis(step.started_at),
        finished_at: millis(step.finished_at),
        revision: step.revision,
    })
}

#[derive(Serialize)]
struct NewStepJson<'a> {
    #[serde(flatten)]
    step: StepRowJson<'a>,
    name: &'a str,
    agent: &'a str,
    executor_kind: &'a str,
    executor_settings: &'a str,
}

fn create_steps(conn: &mut SqliteConnection, new: &[NewRunRow<'_>]) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    for new in new {
        for (spec, step) in new.state.run.definition.spec.steps.iter().zip(&new.state.steps) {
            rows.push(NewStepJson {
                step: step_json(&new.state.run.id, step)?,
                name: spec.name.as_str(),
                agent: spec.agent.as_str(),
                executor_kind: step.executor.kind.as_str(),
                executor_settings: step.executor.settings.as_str(),
            });
        }
    }
    SqliteStatement::<()>::new(
        "INSERT INTO steps (run_id, ord, name, agent, executor_kind, executor_settings, status, attempt, failures, \
         input, output, error, wait, answer, checkpoint, progress, lease_owner, lease_until, progress_until, \
         timeout_at, due_at, ready_at, started_at, finished_at, revision) \
         SELECT value ->> 'run_id', value ->> 'ord', value ->> 'name', value ->> 'agent', value ->> 'executor_kind', \
         value ->> 'executor_settings', value ->> 'status', value ->> 'attempt', value ->> 'failures', \
         value ->> 'input', value ->> 'output', value ->> 'error', value ->> 'wait', value ->> 'answer', \
         value ->> 'checkpoint', value ->> 'progress', value ->> 'lease_owner', value ->> 'lease_until', \
         value ->> 'progress_until', value ->> 'timeout_at', value ->> 'due_at', value ->> 'ready_at', \
         value ->> 'started_at', value ->> 'finished_at', value ->> 'revision' FROM jsonb_each(?)",
    )
    .bind::<Text, _>(json_text(&rows)?)
    .run(conn)?;
    Ok(())
}

/// Nobody else writes meanwhile, so that the rows are what was read.
fn update_steps(
    conn: &mut SqliteConnection,
    steps: &[(&RunId, &Step, Revision)],
    now: Timestamp,
) -> Result<(), StoreError> {
    if steps.is_empty() {
        return Ok(());
    }
    let rows: Vec<StepRowJson<'_>> =
        steps.iter().map(|(run, step, _)| step_json(run, step)).collect::<Result<_, _>>()?;
    SqliteStatement::<()>::new(
        "UPDATE steps SET status = i.value ->> 'status', attempt = i.value ->> 'attempt', \
         failures = i.value ->> 'failures', \
         input = CASE WHEN i.value ->> 'keeps_input' THEN input ELSE i.value ->> 'input' END, \
         output = CASE WHEN i.value ->> 'keeps_output' THEN output ELSE i.value ->> 'output' END, \
         error = i.value ->> 'error', wait = i.value ->> 'wait', answer = i.value ->> 'answer', \
         checkpoint = i.value ->> 'checkpoint', progress = i.value ->> 'progress', \
         lease_owner = i.value ->> 'lease_owner', lease_until = i.value ->> 'lease_until', \
         progress_until = i.value ->> 'progress_until', timeout_at = i.value ->> 'timeout_at', \
         due_at = i.value ->> 'due_at', ready_at = i.value ->> 'ready_at', started_at = i.value ->> 'started_at', \
         finished_at = i.value ->> 'finished_at', revision = i.value ->> 'revision' \
         FROM jsonb_each(?) AS i WHERE steps.run_id = i.value ->> 'run_id' AND steps.ord = i.value ->> 'ord'",
    )
    .bind::<Text, _>(json_text(&rows)?)
    .run(conn)?;
    let log: Vec<(String, i64)> =
        steps.iter().map(|(run, step, _)| (step_log_id(run, step.order), step.revision)).collect();
    SqliteStatement::<()>::new(
        "INSERT INTO change_log (entity, namespace, id, revision, op, at) \
         SELECT 'step', (SELECT r.namespace FROM runs r WHERE r.id = substr(i.value ->> 0, 1, \
         instr(i.value ->> 0, '/') - 1)), i.value ->> 0, i.value ->> 1, 'put', n.now \
         FROM (SELECT ? AS now) n JOIN jsonb_each(?) AS i",
    )
    .bind::<BigInt, _>(now.0)
    .bind::<Text, _>(json_text(&log)?)
    .run(conn)?;
    Ok(())
}

#[derive(Serialize)]
struct LogRow<'a> {
    entity: &'static str,
    namespace: &'a str,
    id: String,
    revision: i64,
    op: &'static str,
}

fn log_in_txn(conn: &mut SqliteConnection, rows: &[LogRow<'_>], now: Timestamp) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    SqliteStatement::<()>::new(
        "INSERT INTO change_log (entity, namespace, id, revision, op, at) \
         SELECT value ->> 'entity', value ->> 'namespace', value ->> 'id', value ->> 'revision', value ->> 'op', n.now \
         FROM (SELECT ? AS now) n JOIN jsonb_each(?)",
    )
    .bind::<BigInt, _>(now.0)
    .bind::<Text, _>(json_text(&rows)?)
    .run(conn)?;
    Ok(())
}

fn note_applied(conn: &mut SqliteConnection, rows: &[AppliedRow], now: Timestamp) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    SqliteStatement::<()>::new(
        "INSERT INTO applied_ops (op_id, entity, namespace, id, revision, replaced_revision, op, at) \
         SELECT value ->> 'op_id', value ->> 'entity', value ->> 'namespace', value ->> 'id', value ->> 'revision', \
         value ->> 'replaced_revision', value ->> 'op', n.now FROM (SELECT ? AS now) n JOIN jsonb_each(?)",
    )
    .bind::<BigInt, _>(now.0)
    .bind::<Text, _>(json_text(&rows)?)
    .run(conn)?;
    Ok(())
}
