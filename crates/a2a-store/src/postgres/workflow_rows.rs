//! Reading workflows, runs and steps.

use a2a_core::ids::{RunId, WorkflowKey};
use a2a_core::json_text::JsonText;
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Json, Nullable, Text, Timestamptz};
use diesel_async::AsyncPgConnection;
use diesel_async::methods::LoadQuery;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::PgStatement;
use crate::agent_row::StoredJson;
use crate::error::StoreError;
use crate::store::WorkflowVersion;
use crate::workflow_commit::{StepKey, StepPayload};
use crate::workflow_definition::{Definitions, Found};
use crate::workflow_row::{
    ReadRun, RunRow, StepRow, WorkflowRow, assemble, run_columns, step_columns, stored_hash, workflow_columns,
};

pub(super) type WorkflowSql = (Text, Text, BigInt, Json, Timestamptz, Timestamptz, Text, Nullable<Timestamptz>);
pub(super) type RunSql = (
    Text,
    Text,
    Nullable<Text>,
    Nullable<BigInt>,
    Binary,
    Text,
    Bool,
    BigInt,
    Json,
    Json,
    Nullable<Json>,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    BigInt,
    Timestamptz,
    Text,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
    Timestamptz,
    Text,
);
pub(super) type StepSql = (
    Text,
    BigInt,
    Text,
    Json,
    Text,
    BigInt,
    BigInt,
    Bool,
    Bool,
    Nullable<Json>,
    Nullable<Json>,
    Nullable<Text>,
    Nullable<Json>,
    Nullable<Json>,
    Nullable<Json>,
    Nullable<Json>,
    Nullable<Text>,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
    BigInt,
);

/// Rows to look up by id, as a table `k`. The range of places, which holds for every row, and `OFFSET 0` make the
/// planner expect a single one: so it looks rows up one by one, whatever size the table had when the statement was
/// prepared.
macro_rules! by_id {
    () => {
        "(SELECT id FROM UNNEST(?) WITH ORDINALITY AS u(id, place) \
          WHERE place BETWEEN 1 AND 1000000000 OFFSET 0) k "
    };
}
pub(super) use by_id;

/// Like [`by_id`], for keys of two parts.
macro_rules! by_pair {
    ($first:literal, $second:literal) => {
        concat!(
            "(SELECT ",
            $first,
            ", ",
            $second,
            " FROM UNNEST(?, ?) WITH ORDINALITY AS u(",
            $first,
            ", ",
            $second,
            ", place) WHERE place BETWEEN 1 AND 1000000000 OFFSET 0) k "
        )
    };
}
pub(super) use by_pair;

/// Runs a statement on a shared connection. Several of these polled together take one round trip; the server does them
/// in the order in which they are first polled, once it has prepared all of them before.
pub(super) fn send<'c, 'a, Returned, Row>(
    conn: &'c AsyncPgConnection,
    statement: PgStatement<'a, Returned>,
) -> BoxFuture<'c, QueryResult<Vec<Row>>>
where
    'a: 'c,
    Returned: 'c,
    Row: Send + 'c,
    PgStatement<'a, Returned>: LoadQuery<'c, &'c AsyncPgConnection, Row>,
{
    async move {
        let mut conn = conn;
        diesel_async::RunQueryDsl::load(statement, &mut conn).await
    }
    .boxed()
}

/// Like [`send`], for a statement that returns no rows. Returns how many rows it wrote.
pub(super) fn send_write<'c, 'a: 'c>(
    conn: &'c AsyncPgConnection,
    wanted: bool,
    statement: PgStatement<'a, ()>,
) -> BoxFuture<'c, QueryResult<usize>> {
    async move {
        let mut conn = conn;
        if wanted { diesel_async::RunQueryDsl::execute(statement, &mut conn).await } else { Ok(0) }
    }
    .boxed()
}

/// A statement that is left out when there is nothing to ask for.
pub(super) fn send_if<'c, 'a, Returned, Row>(
    conn: &'c AsyncPgConnection,
    wanted: bool,
    statement: impl FnOnce() -> PgStatement<'a, Returned>,
) -> BoxFuture<'c, QueryResult<Vec<Row>>>
where
    'a: 'c,
    Returned: 'c,
    Row: Send + 'c,
    PgStatement<'a, Returned>: LoadQuery<'c, &'c AsyncPgConnection, Row>,
{
    if wanted { send(conn, statement()) } else { std::future::ready(Ok(Vec::new())).boxed() }
}

pub(super) fn texts(ids: &[RunId]) -> Vec<&str> {
    ids.iter().map(RunId::as_str).collect()
}

/// The two columns of step keys.
pub(super) fn step_key_columns(keys: &[StepKey]) -> (Vec<&str>, Vec<i64>) {
    keys.iter().map(|(run, order)| (run.as_str(), i64::try_from(*order).unwrap_or(i64::MAX))).unzip()
}

/// Finds the definitions of runs, and reads those that are not known.
pub(super) fn definitions_of<'c>(
    conn: &'c AsyncPgConnection,
    definitions: &'c Definitions,
    runs: &'c [RunRow],
) -> BoxFuture<'c, Result<Found, StoreError>> {
    async move {
        let hashes: Vec<_> = runs.iter().map(RunRow::definition_hash).collect();
        let mut found = definitions.find(hashes.iter().zip(runs.iter().map(|run| run.id.as_str())));
        if !found.missing.is_empty() {
            let ids: Vec<String> = found.missing.clone();
            let statement = PgStatement::<(Text, Binary, Json)>::new(concat!(
                "SELECT r.id, r.definition_hash, r.definition FROM ",
                by_id!(),
                "JOIN runs r ON r.id = k.id"
            ))
            .bind::<Array<Text>, _>(ids);
            let stored: Vec<(String, Vec<u8>, StoredJson)> = send(conn, statement).await?;
            let stored =
                stored.into_iter().map(|(id, hash, text)| (RunId::from_stored(id), stored_hash(&hash), text.0));
            definitions.add(&mut found, stored.collect());
        }
        Ok(found)
    }
    .boxed()
}

/// Runs by id, whole, in no particular order. Their steps are read after them, so that a run which changes meanwhile
/// may have newer steps; within a snapshot they belong together.
pub(super) fn runs_by_id<'c>(
    conn: &'c AsyncPgConnection,
    definitions: &'c Definitions,
    ids: &'c [RunId],
    payloads: bool,
) -> BoxFuture<'c, Result<Vec<ReadRun>, StoreError>> {
    async move {
        const LIGHT: &str =
            concat!("SELECT ", step_columns!(light json), " FROM ", by_id!(), "JOIN steps s ON s.run_id = k.id");
        const WHOLE: &str =
            concat!("SELECT ", step_columns!(whole), " FROM ", by_id!(), "JOIN steps s ON s.run_id = k.id");
        let steps =
            PgStatement::<StepSql>::new(if payloads { WHOLE } else { LIGHT }).bind::<Array<Text>, _>(texts(ids));
        let (runs, steps) = futures_util::join!(run_rows(conn, ids), send::<_, StepRow>(conn, steps));
        let (runs, steps) = (runs?, steps?);
        let found = definitions_of(conn, definitions, &runs).await?;
        Ok(assemble(runs, steps, &found))
    }
    .boxed()
}

pub(super) fn run_rows<'c>(conn: &'c AsyncPgConnection, ids: &'c [RunId]) -> BoxFuture<'c, QueryResult<Vec<RunRow>>> {
    const RUNS: &str = concat!("SELECT ", run_columns!(), " FROM ", by_id!(), "JOIN runs r ON r.id = k.id");
    send(conn, PgStatement::<RunSql>::new(RUNS).bind::<Array<Text>, _>(texts(ids)))
}

/// Steps by key, without payloads.
pub(super) fn step_rows<'c>(
    conn: &'c AsyncPgConnection,
    keys: &'c [StepKey],
) -> BoxFuture<'c, QueryResult<Vec<StepRow>>> {
    const STEPS: &str = concat!(
        "SELECT ",
        step_columns!(light json),
        " FROM ",
        by_pair!("run_id", "ord"),
        "JOIN steps s ON s.run_id = k.run_id AND s.ord = k.ord"
    );
    let (runs, orders) = step_key_columns(keys);
    let statement = PgStatement::<StepSql>::new(STEPS).bind::<Array<Text>, _>(runs).bind::<Array<BigInt>, _>(orders);
    send_if(conn, !keys.is_empty(), || statement)
}

/// Every run that goes on, without payloads of its steps.
pub(super) fn live_runs<'c>(
    conn: &'c AsyncPgConnection,
    definitions: &'c Definitions,
) -> BoxFuture<'c, Result<Vec<ReadRun>, StoreError>> {
    async move {
        let runs =
            PgStatement::<RunSql>::new(concat!("SELECT ", run_columns!(), " FROM runs r WHERE r.finished_at IS NULL"));
        let steps = PgStatement::<StepSql>::new(concat!(
            "SELECT ",
            step_columns!(light json),
            " FROM runs r JOIN steps s ON s.run_id = r.id WHERE r.finished_at IS NULL"
        ));
        let (runs, steps) = futures_util::join!(send::<_, RunRow>(conn, runs), send::<_, StepRow>(conn, steps));
        let (runs, steps) = (runs?, steps?);
        let found = definitions_of(conn, definitions, &runs).await?;
        Ok(assemble(runs, steps, &found))
    }
    .boxed()
}

/// Every workflow that is not removed.
pub(super) fn live_workflows(conn: &AsyncPgConnection) -> BoxFuture<'_, QueryResult<Vec<WorkflowRow>>> {
    const ALL: &str = concat!("SELECT ", workflow_columns!(), " FROM workflows WHERE removed_at IS NULL");
    send(conn, PgStatement::<WorkflowSql>::new(ALL))
}

/// Workflows by key, removed ones too.
pub(super) fn workflows_by_key<'c>(
    conn: &'c AsyncPgConnection,
    keys: &'c [WorkflowKey],
) -> BoxFuture<'c, QueryResult<Vec<WorkflowRow>>> {
    const BY_KEY: &str = concat!(
        "SELECT ",
        workflow_columns!(),
        " FROM workflows WHERE (namespace, id) IN (SELECT * FROM UNNEST(?, ?))"
    );
    let statement = PgStatement::<WorkflowSql>::new(BY_KEY)
        .bind::<Array<Text>, _>(keys.iter().map(|key| key.namespace.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>());
    send_if(conn, !keys.is_empty(), || statement)
}

/// The revisions of a workflow, newest first.
pub(super) fn workflow_history<'c>(
    conn: &'c AsyncPgConnection,
    key: &'c WorkflowKey,
    before: i64,
    limit: i64,
) -> BoxFuture<'c, Result<Vec<WorkflowVersion>, StoreError>> {
    const HISTORY: &str = concat!(
        "SELECT ",
        workflow_columns!(),
        " FROM (SELECT ",
        workflow_columns!(),
        " FROM workflows UNION ALL SELECT ",
        workflow_columns!(),
        " FROM workflow_history) w WHERE namespace = ? AND id = ? AND revision < ? ORDER BY revision DESC LIMIT ?"
    );
    async move {
        let statement = PgStatement::<WorkflowSql>::new(HISTORY)
            .bind::<Text, _>(key.namespace.as_str())
            .bind::<Text, _>(key.id.as_str())
            .bind::<BigInt, _>(before)
            .bind::<BigInt, _>(limit);
        let rows: Vec<WorkflowRow> = send(conn, statement).await?;
        rows.into_iter().map(WorkflowRow::into_version).collect()
    }
    .boxed()
}

/// Which payload of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Input,
    Output,
}

/// One payload of each of some steps.
pub(super) fn payloads<'c>(
    conn: &'c AsyncPgConnection,
    which: Which,
    keys: &'c [StepKey],
) -> BoxFuture<'c, Result<Vec<StepPayload>, StoreError>> {
    macro_rules! select {
        ($column:literal) => {
            concat!(
                "SELECT s.run_id, s.ord, ",
                $column,
                " FROM ",
                by_pair!("run_id", "ord"),
                "JOIN steps s ON s.run_id = k.run_id AND s.ord = k.ord"
            )
        };
    }
    async move {
        let (runs, orders) = step_key_columns(keys);
        let sql = match which {
            Which::Input => select!("s.input"),
            Which::Output => select!("s.output"),
        };
        let statement = PgStatement::<(Text, BigInt, Nullable<Json>)>::new(sql)
            .bind::<Array<Text>, _>(runs)
            .bind::<Array<BigInt>, _>(orders);
        let rows: Vec<(String, i64, Option<StoredJson>)> = send(conn, statement).await?;
        Ok(rows
            .into_iter()
            .filter_map(|(run, order, text)| {
                let order = usize::try_from(order).ok()?;
                Some(((RunId::from_stored(run), order), text.map(|json| JsonText::from_stored(json.0))))
            })
            .collect())
    }
    .boxed()
}
