//! Reading workflows, runs and steps.

use a2a_core::ids::{RunId, WorkflowKey};
use a2a_core::json_text::JsonText;
use diesel::SqliteConnection;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};

use super::SqliteStatement;
use super::rows::json_text;
use crate::error::StoreError;
use crate::store::WorkflowVersion;
use crate::workflow_commit::{StepKey, StepPayload};
use crate::workflow_definition::{Definitions, Found};
use crate::workflow_row::{
    ReadRun, RunRow, StepRow, WorkflowRow, assemble, run_columns, step_columns, stored_hash, workflow_columns,
};

pub(super) type WorkflowSql = (Text, Text, BigInt, Text, BigInt, BigInt, Text, Nullable<BigInt>);
pub(super) type RunSql = (
    Text,
    Text,
    Nullable<Text>,
    Nullable<BigInt>,
    Binary,
    Text,
    Bool,
    BigInt,
    Text,
    Text,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    BigInt,
    BigInt,
    Text,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    BigInt,
    Text,
);
pub(super) type StepSql = (
    Text,
    BigInt,
    Text,
    Text,
    Text,
    BigInt,
    BigInt,
    Bool,
    Bool,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    BigInt,
);

/// Finds the definitions of runs, and reads those that are not known.
pub(super) fn definitions_of(
    conn: &mut SqliteConnection,
    definitions: &Definitions,
    runs: &[RunRow],
) -> Result<Found, StoreError> {
    let hashes: Vec<_> = runs.iter().map(RunRow::definition_hash).collect();
    let mut found = definitions.find(hashes.iter().zip(runs.iter().map(|run| run.id.as_str())));
    if !found.missing.is_empty() {
        let stored: Vec<(String, Vec<u8>, String)> = SqliteStatement::<(Text, Binary, Text)>::new(
            "SELECT id, definition_hash, definition FROM runs WHERE id IN (SELECT value FROM json_each(?))",
        )
        .bind::<Text, _>(json_text(&found.missing)?)
        .rows(conn)?;
        let stored = stored.into_iter().map(|(id, hash, text)| (RunId::from_stored(id), stored_hash(&hash), text));
        definitions.add(&mut found, stored.collect());
    }
    Ok(found)
}

/// `[id, ...]` for `json_each`.
pub(super) fn ids_json(ids: &[RunId]) -> Result<String, StoreError> {
    json_text(&ids)
}

/// `[[run, order], ...]` for `json_each`.
pub(super) fn step_keys_json(keys: &[StepKey]) -> Result<String, StoreError> {
    json_text(&keys)
}

pub(super) fn run_rows(conn: &mut SqliteConnection, ids: &str) -> Result<Vec<RunRow>, StoreError> {
    const RUNS: &str =
        concat!("SELECT ", run_columns!(), " FROM runs r WHERE r.id IN (SELECT value FROM json_each(?))");
    Ok(SqliteStatement::<RunSql>::new(RUNS).bind::<Text, _>(ids).rows(conn)?)
}

/// Runs by id, whole, in no particular order.
pub(super) fn runs_by_id(
    conn: &mut SqliteConnection,
    definitions: &Definitions,
    ids: &[RunId],
    payloads: bool,
) -> Result<Vec<ReadRun>, StoreError> {
    const LIGHT: &str =
        concat!("SELECT ", step_columns!(light), " FROM json_each(?) AS k JOIN steps s ON s.run_id = k.value");
    const WHOLE: &str =
        concat!("SELECT ", step_columns!(whole), " FROM json_each(?) AS k JOIN steps s ON s.run_id = k.value");
    let ids = ids_json(ids)?;
    let runs = run_rows(conn, &ids)?;
    let steps: Vec<StepRow> = SqliteStatement::<StepSql>::new(if payloads { WHOLE } else { LIGHT })
        .bind::<Text, _>(ids.as_str())
        .rows(conn)?;
    let found = definitions_of(conn, definitions, &runs)?;
    Ok(assemble(runs, steps, &found))
}

/// Steps by key, with their inputs or without payloads.
pub(super) fn step_rows(
    conn: &mut SqliteConnection,
    keys: &[StepKey],
    inputs: bool,
) -> Result<Vec<StepRow>, StoreError> {
    macro_rules! select {
        ($columns:expr) => {
            concat!(
                "SELECT ",
                $columns,
                " FROM json_each(?) AS k JOIN steps s ON s.run_id = k.value ->> 0 AND s.ord = k.value ->> 1"
            )
        };
    }
    const LIGHT: &str = select!(step_columns!(light));
    const INPUT: &str = select!(step_columns!(input));
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let statement = SqliteStatement::<StepSql>::new(if inputs { INPUT } else { LIGHT });
    Ok(statement.bind::<Text, _>(step_keys_json(keys)?).rows(conn)?)
}

/// Every run that goes on, without payloads of its steps.
pub(super) fn live_runs(conn: &mut SqliteConnection, definitions: &Definitions) -> Result<Vec<ReadRun>, StoreError> {
    let runs: Vec<RunRow> =
        SqliteStatement::<RunSql>::new(concat!("SELECT ", run_columns!(), " FROM runs r WHERE r.finished_at IS NULL"))
            .rows(conn)?;
    let steps: Vec<StepRow> = SqliteStatement::<StepSql>::new(concat!(
        "SELECT ",
        step_columns!(light),
        " FROM runs r JOIN steps s ON s.run_id = r.id WHERE r.finished_at IS NULL"
    ))
    .rows(conn)?;
    let found = definitions_of(conn, definitions, &runs)?;
    Ok(assemble(runs, steps, &found))
}

/// Every workflow that is not removed.
pub(super) fn live_workflows(conn: &mut SqliteConnection) -> Result<Vec<WorkflowRow>, StoreError> {
    const ALL: &str = concat!("SELECT ", workflow_columns!(), " FROM workflows WHERE removed_at IS NULL");
    Ok(SqliteStatement::<WorkflowSql>::new(ALL).rows(conn)?)
}

/// Workflows by key, removed ones too.
pub(super) fn workflows_by_key(
    conn: &mut SqliteConnection,
    keys: &[WorkflowKey],
) -> Result<Vec<WorkflowRow>, StoreError> {
    const BY_KEY: &str = concat!(
        "SELECT ",
        workflow_columns!(),
        " FROM workflows WHERE (namespace, id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
    );
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    Ok(SqliteStatement::<WorkflowSql>::new(BY_KEY).bind::<Text, _>(workflow_keys_json(keys)?).rows(conn)?)
}

/// `[[namespace, id], ...]` for `json_each`.
pub(super) fn workflow_keys_json(keys: &[WorkflowKey]) -> Result<String, StoreError> {
    json_text(&keys.iter().map(|key| (&key.namespace, &key.id)).collect::<Vec<_>>())
}

/// The revisions of a workflow, newest first.
pub(super) fn workflow_history(
    conn: &mut SqliteConnection,
    key: &WorkflowKey,
    before: i64,
    limit: i64,
) -> Result<Vec<WorkflowVersion>, StoreError> {
    const HISTORY: &str = concat!(
        "SELECT ",
        workflow_columns!(),
        " FROM (SELECT ",
        workflow_columns!(),
        " FROM workflows UNION ALL SELECT ",
        workflow_columns!(),
        " FROM workflow_history) w WHERE namespace = ? AND id = ? AND revision < ? ORDER BY revision DESC LIMIT ?"
    );
    let rows: Vec<WorkflowRow> = SqliteStatement::<WorkflowSql>::new(HISTORY)
        .bind::<Text, _>(key.namespace.as_str())
        .bind::<Text, _>(key.id.as_str())
        .bind::<BigInt, _>(before)
        .bind::<BigInt, _>(limit)
        .rows(conn)?;
    rows.into_iter().map(WorkflowRow::into_version).collect()
}

/// Which payload of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Input,
    Output,
}

/// One payload of each of some steps.
pub(super) fn payloads(
    conn: &mut SqliteConnection,
    which: Which,
    keys: &[StepKey],
) -> Result<Vec<StepPayload>, StoreError> {
    macro_rules! select {
        ($column:literal) => {
            concat!(
                "SELECT s.run_id, s.ord, ",
                $column,
                " FROM json_each(?) AS k JOIN steps s ON s.run_id = k.value ->> 0 AND s.ord = k.value ->> 1"
            )
        };
    }
    let sql = match which {
        Which::Input => select!("s.input"),
        Which::Output => select!("s.output"),
    };
    let rows: Vec<(String, i64, Option<String>)> = SqliteStatement::<(Text, BigInt, Nullable<Text>)>::new(sql)
        .bind::<Text, _>(step_keys_json(keys)?)
        .rows(conn)?;
    Ok(rows
        .into_iter()
        .filter_map(|(run, order, text)| {
            let order = usize::try_from(order).ok()?;
            Some(((RunId::from_stored(run), order), text.map(JsonText::from_stored)))
        })
        .collect())
}
