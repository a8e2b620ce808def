//! The transactions of commands about workflows.
//!
//! Each is four round trips whatever the size of the batch: begin; lock and read; write; commit. Outputs that an
//! expression reads, and definitions that this process has not seen, cost one more. An event that loses against a claim
//! or a note of the same step costs another four.

use std::collections::HashMap;
use std::sync::Arc;

use a2a_core::agent::ContentHash;
use a2a_core::ids::{Namespace, OpId, RunId, WorkflowId, WorkflowKey};
use a2a_core::time::Timestamp;
use a2a_core::workflow::command::{Refusal, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::run::{Run, RunState, Step, StepStatus};
use diesel::result::Error as DieselError;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::PgStatement;
use super::workflow_rows::{
    RunSql, StepSql, Which, by_id, by_pair, definitions_of, payloads, run_rows, send, send_if, step_key_columns, texts,
};
use super::workflow_write::{write_in_txn, write_steps_in_txn};
use crate::agent_row::StoredTime;
use crate::error::StoreError;
use crate::workflow_commit::{
    AppliedOp, ClaimRows, CurrentWorkflow, Done, Halves, Indexed, Locked, Parts, Round, StepKey, claim, claim_ops,
    claims_of, idempotency_keys, in_order, note, noted_steps, run_ids, sorted, workflow_keys, workflow_ops,
};
use crate::workflow_definition::{Definitions, Found};
use crate::workflow_row::{RunRow, StepRow, assemble, run_columns, step_columns, stored_hash};

/// The time of the database in milliseconds. Each transaction has a text of its own: a statement that is prepared
/// already would overtake those before it that are not.
macro_rules! clock {
    ($for:literal) => {
        concat!("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ", $for)
    };
}

/// How long a claim waits for a row that another process has locked: far longer than a transaction takes.
const LOCK_LIMIT: &str = "SET LOCAL lock_timeout TO '200ms'";

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Passing over what others have locked.
    Claims,
    /// Waiting for others, for a moment.
    ClaimsWaiting,
    Notes,
    /// Without locks on steps: they may have changed by the time they are written.
    Events,
    /// With locks on those steps that a claim or a note could change.
    EventsLockingSteps,
}

impl Kind {
    /// The kind that waits for others and then can't lose against them.
    fn locking(self) -> Self {
        if matches!(self, Self::Events) { Self::EventsLockingSteps } else { self }
    }
}

pub(super) async fn commit(
    conn: &mut AsyncPgConnection,
    definitions: &Definitions,
    commands: &[WorkflowCommand],
) -> Result<Vec<WorkflowOutcome>, StoreError> {
    let parts = Parts::of(commands);
    let mut done: Vec<Done> = Vec::with_capacity(commands.len());
    for (kind, part) in [(Kind::Claims, &parts.claims), (Kind::Notes, &parts.notes), (Kind::Events, &parts.events)] {
        if part.is_empty() {
            continue;
        }
        match transaction(conn, definitions, kind, part).await {
            Ok(outcomes) if matches!(kind, Kind::Claims) => {
                done.extend(settle_claims(conn, definitions, part, outcomes).await?);
            }
            Ok(outcomes) => done.extend(outcomes),
            // What came before is committed. All of it can be sent again.
            Err(error) if !done.is_empty() => return Err(StoreError::Partial(Box::new(error))),
            Err(error) => return Err(error),
        }
    }
    in_order(done, commands.len())
}

/// Claims once more what was ready and locked by somebody else. That may have been an earlier attempt of the very same
/// command, whose connection was lost: then the step is this claimer's, or nobody's.
///
/// Ordering: after the first transaction, so that nothing is locked while this one waits; it locks in the order of keys.
async fn settle_claims(
    conn: &mut AsyncPgConnection,
    definitions: &Definitions,
    commands: &[Indexed<'_>],
    mut done: Vec<Done>,
) -> Result<Vec<Done>, StoreError> {
    let is_open = |outcome: &WorkflowOutcome| {
        matches!(outcome, WorkflowOutcome::Refused(Refusal::Step { status: StepStatus::Ready }))
    };
    let open: Vec<usize> = done.iter().filter(|(_, outcome)| is_open(outcome)).map(|(index, _)| *index).collect();
    if open.is_empty() {
        return Ok(done);
    }
    let again: Vec<Indexed<'_>> = commands.iter().filter(|(index, _)| open.contains(index)).copied().collect();
    match transaction(conn, definitions, Kind::ClaimsWaiting, &again).await {
        Ok(settled) => {
            done.retain(|(index, _)| !open.contains(index));
            done.extend(settled);
            Ok(done)
        }
        // Somebody holds a row for long. The step is not to be had now.
        Err(StoreError::Database(DieselError::DatabaseError(_, info))) if info.message().contains("lock timeout") => {
            Ok(done)
        }
        Err(error) => Err(StoreError::Partial(Box::new(error))),
    }
}

async fn transaction(
    conn: &mut AsyncPgConnection,
    definitions: &Definitions,
    kind: Kind,
    commands: &[Indexed<'_>],
) -> Result<Vec<Done>, StoreError> {
    let mut done = conn.transaction(async |conn| apply_in_txn(conn, definitions, kind, commands).await).await;
    if matches!(done, Err(StoreError::Raced)) {
        let kind = kind.locking();
        done = conn.transaction(async |conn| apply_in_txn(conn, definitions, kind, commands).await).await;
    }
    match done {
        Err(error) if !error.is_transient() => {
            tracing::warn!(%error, commands = commands.len(), "a batch was rejected; isolating the cause");
            let kind = kind.locking();
            conn.transaction(async |conn| isolate_in_txn(conn, definitions, kind, commands).await).await
        }
        result => result,
    }
}

/// Applies the commands part by part, each in a savepoint, until the parts that the database rejects are single ones.
fn isolate_in_txn<'c>(
    conn: &'c mut AsyncPgConnection,
    definitions: &'c Definitions,
    kind: Kind,
    commands: &'c [Indexed<'c>],
) -> BoxFuture<'c, Result<Vec<Done>, StoreError>> {
    async move {
        let mut halves = Halves::new(commands);
        while let Some(part) = halves.next_part() {
            // diesel makes a transaction inside of one a savepoint.
            match conn.transaction(async |conn| apply_in_txn(conn, definitions, kind, part).await).await {
                Ok(done) => halves.applied(done),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => halves.rejected(&error),
            }
        }
        Ok(halves.into_done())
    }
    .boxed()
}

fn apply_in_txn<'c>(
    conn: &'c AsyncPgConnection,
    definitions: &'c Definitions,
    kind: Kind,
    commands: &'c [Indexed<'c>],
) -> BoxFuture<'c, Result<Vec<Done>, StoreError>> {
    match kind {
        Kind::Claims => claims_in_txn(conn, definitions, commands, false).boxed(),
        Kind::ClaimsWaiting => claims_in_txn(conn, definitions, commands, true).boxed(),
        Kind::Notes => notes_in_txn(conn, commands).boxed(),
        Kind::Events => events_in_txn(conn, definitions, commands, false).boxed(),
        Kind::EventsLockingSteps => events_in_txn(conn, definitions, commands, true).boxed(),
    }
}

fn steps_by_key(rows: Vec<StepRow>) -> Result<HashMap<StepKey, Step>, StoreError> {
    let by_key = |row: StepRow| {
        let run = RunId::from_stored(row.run_id.as_str());
        row.into_step().map(|step| ((run, step.order), step))
    };
    rows.into_iter().map(by_key).collect()
}

fn clock_of(rows: &[i64]) -> Timestamp {
    Timestamp(rows.first().copied().unwrap_or_default())
}

async fn claims_in_txn(
    conn: &AsyncPgConnection,
    definitions: &Definitions,
    commands: &[Indexed<'_>],
    wait: bool,
) -> Result<Vec<Done>, StoreError> {
    const WAIT: &str = concat!(
        "SELECT ",
        step_columns!(input json),
        " FROM ",
        by_pair!("run_id", "ord"),
        "JOIN steps s ON s.run_id = k.run_id AND s.ord = k.ord WHERE s.status = 'READY' \
         ORDER BY s.run_id, s.ord FOR UPDATE OF s"
    );
    const LOCK: &str = concat!(
        "SELECT ",
        step_columns!(input json),
        " FROM ",
        by_pair!("run_id", "ord"),
        "JOIN steps s ON s.run_id = k.run_id AND s.ord = k.ord WHERE s.status = 'READY' FOR UPDATE OF s SKIP LOCKED"
    );
    const LOOK: &str = concat!(
        "SELECT ",
        step_columns!(input json),
        " FROM ",
        by_pair!("run_id", "ord"),
        "JOIN steps s ON s.run_id = k.run_id AND s.ord = k.ord"
    );
    let keys = sorted(claims_of(commands).into_iter().map(|(_, key, _)| key));
    let ids = sorted(keys.iter().map(|(run, _)| run.clone()));
    let by_keys = |sql: &'static str, keys: &[StepKey]| {
        let (runs, orders): (Vec<String>, Vec<i64>) = {
            let (runs, orders) = step_key_columns(keys);
            (runs.into_iter().map(str::to_owned).collect(), orders)
        };
        PgStatement::<StepSql>::new(sql).bind::<Array<Text>, _>(runs).bind::<Array<BigInt>, _>(orders)
    };
    if wait {
        let mut conn = conn;
        conn.batch_execute(LOCK_LIMIT).await?;
    }
    let (locked, runs, clock) = futures_util::join!(
        send::<_, StepRow>(conn, by_keys(if wait { WAIT } else { LOCK }, &keys)),
        run_rows(conn, &ids),
        send::<_, i64>(conn, PgStatement::<BigInt>::new(clock!("claimed_at"))),
    );
    let mut rows = ClaimRows { locked: steps_by_key(locked?)?, ..ClaimRows::default() };
    let (runs, now) = (runs?, clock_of(&clock?));
    let found = definitions_of(conn, definitions, &runs).await?;
    rows.runs = runs_of(runs, &found)?;
    let lost: Vec<StepKey> = keys.into_iter().filter(|key| !rows.locked.contains_key(key)).collect();
    if !lost.is_empty() {
        rows.others = steps_by_key(send(conn, by_keys(LOOK, &lost)).await?)?;
    }
    let (changed, done) = claim(commands, &mut rows, now);
    write_steps_in_txn(conn, &changed).await?;
    Ok(done)
}

fn runs_of(rows: Vec<RunRow>, found: &Found) -> Result<HashMap<RunId, Arc<Run>>, StoreError> {
    let mut runs = HashMap::with_capacity(rows.len());
    for row in rows {
        let Some(definition) = found.by_hash.get(&row.definition_hash()) else {
            let reason = "its definition can't be read".to_owned();
            return Err(StoreError::Row { table: "runs", key: row.id, reason });
        };
        let run = row.into_run(definition.clone())?;
        runs.insert(run.id.clone(), Arc::new(run));
    }
    Ok(runs)
}

async fn notes_in_txn(conn: &AsyncPgConnection, commands: &[Indexed<'_>]) -> Result<Vec<Done>, StoreError> {
    const LOCK: &str = concat!(
        "SELECT ",
        step_columns!(light json),
        " FROM ",
        by_pair!("run_id", "ord"),
        "JOIN steps s ON s.run_id = k.run_id AND s.ord = k.ord ORDER BY s.run_id, s.ord FOR UPDATE OF s"
    );
    let keys = noted_steps(commands);
    let (runs, orders) = step_key_columns(&keys);
    let lock = PgStatement::<StepSql>::new(LOCK).bind::<Array<Text>, _>(runs).bind::<Array<BigInt>, _>(orders);
    let (steps, clock) = futures_util::join!(
        send::<_, StepRow>(conn, lock),
        send::<_, i64>(conn, PgStatement::<BigInt>::new(clock!("noted_at"))),
    );
    let mut steps = steps_by_key(steps?)?;
    let (changed, done) = note(commands, &mut steps, clock_of(&clock?));
    write_steps_in_txn(conn, &changed).await?;
    Ok(done)
}

async fn events_in_txn(
    conn: &AsyncPgConnection,
    definitions: &Definitions,
    commands: &[Indexed<'_>],
    lock_steps: bool,
) -> Result<Vec<Done>, StoreError> {
    let locked = lock_in_txn(conn, definitions, commands, lock_steps).await?;
    let now = locked.now;
    let mut round = Round::new(commands, locked);
    loop {
        let needed = round.advance()?;
        if needed.is_empty() {
            break;
        }
        round.take_outputs(payloads(conn, Which::Output, &needed).await?);
    }
    let writes = round.writes();
    write_in_txn(conn, &writes, now).await?;
    for new in &writes.new_runs {
        definitions.keep(*new.hash, &new.state.run.definition);
    }
    let needed = round.inputs_needed();
    if !needed.is_empty() {
        round.take_inputs(payloads(conn, Which::Input, &needed).await?);
    }
    Ok(round.into_done())
}

/// Locks and reads, in one round trip.
async fn lock_in_txn(
    conn: &AsyncPgConnection,
    definitions: &Definitions,
    commands: &[Indexed<'_>],
    lock_steps: bool,
) -> Result<Locked, StoreError> {
    const WORKFLOWS: &str = concat!(
        "SELECT w.namespace, w.id, w.revision, w.content_hash, w.removed_at IS NOT NULL, w.created_at FROM ",
        by_pair!("namespace", "id"),
        "JOIN workflows w ON w.namespace = k.namespace AND w.id = k.id ORDER BY w.namespace, w.id FOR UPDATE OF w"
    );
    // Ordering: after the locks, because an earlier attempt that is still committing holds them. Each is only sent
    // together with its lock, so that it is never prepared before that is.
    const APPLIED_TO_WORKFLOWS: &str = "SELECT op_id, revision, replaced_revision, at FROM applied_ops \
         WHERE entity = 'workflow' AND op_id = ANY(?)";
    const APPLIED_TO_STEPS: &str = "SELECT op_id, revision, replaced_revision, at FROM applied_ops \
         WHERE entity = 'step' AND op_id = ANY(?)";
    const RUNS: &str = concat!(
        "SELECT ",
        run_columns!(),
        " FROM ",
        by_id!(),
        "JOIN runs r ON r.id = k.id ORDER BY r.id FOR UPDATE OF r"
    );
    // Everything else about a step changes under the lock of its run only.
    const LOCK_STEPS: &str = concat!(
        "SELECT count(*) FROM (SELECT FROM ",
        by_id!(),
        "JOIN steps s ON s.run_id = k.id AND s.status IN ('READY', 'RUNNING') \
         ORDER BY s.run_id, s.ord FOR UPDATE OF s) locked"
    );
    // Ordering: after the locks and not with them, because a statement that waits for a lock reads other rows as they
    // were when it began. Its text is used for nothing else, so that it is never prepared before the locks are.
    const STEPS: &str =
        concat!("SELECT ", step_columns!(light json), " FROM ", by_id!(), "JOIN steps s ON k.id = s.run_id");
    const LOCKED_STEPS: &str =
        concat!("SELECT ", step_columns!(light json), " FROM ", by_id!(), "JOIN steps s ON (k.id = s.run_id)");
    const KEYS: &str = concat!(
        "SELECT r.namespace, r.idempotency_key, r.id FROM ",
        by_pair!("namespace", "idempotency_key"),
        "JOIN runs r ON r.namespace = k.namespace AND r.idempotency_key = k.idempotency_key"
    );
    let (workflows, runs, keys) = (workflow_keys(commands), run_ids(commands), idempotency_keys(commands));
    let by_ids = |sql: &'static str| PgStatement::<StepSql>::new(sql).bind::<Array<Text>, _>(texts(&runs));
    let lock_workflows = || {
        PgStatement::<(Text, Text, BigInt, Binary, Bool, Timestamptz)>::new(WORKFLOWS)
            .bind::<Array<Text>, _>(workflows.iter().map(|key| key.namespace.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(workflows.iter().map(|key| key.id.as_str()).collect::<Vec<_>>())
    };
    let find_applied = |sql: &'static str, ops: &[OpId]| {
        PgStatement::<(SqlUuid, BigInt, Nullable<BigInt>, Timestamptz)>::new(sql)
            .bind::<Array<SqlUuid>, _>(ops.iter().map(|op| op.0).collect::<Vec<_>>())
    };
    let (workflow_ops, claim_ops) = (workflow_ops(commands), claim_ops(commands));
    let find_keys = || {
        PgStatement::<(Text, Text, Text)>::new(KEYS)
            .bind::<Array<Text>, _>(keys.iter().map(|(namespace, _)| namespace.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(keys.iter().map(|(_, key)| &**key).collect::<Vec<_>>())
    };
    let clock = if lock_steps { clock!("happened_under_locks_at") } else { clock!("happened_at") };
    type Applied = (Uuid, i64, Option<i64>, StoredTime);
    type WorkflowLock = (String, String, i64, Vec<u8>, bool, StoredTime);
    let any_run = !runs.is_empty();
    let (workflow_rows, puts, run_rows, ends, step_locks, step_rows, key_rows, clock) = futures_util::join!(
        send_if::<_, WorkflowLock>(conn, !workflows.is_empty(), lock_workflows),
        send_if::<_, Applied>(conn, !workflow_ops.is_empty(), || find_applied(APPLIED_TO_WORKFLOWS, &workflow_ops)),
        send_if::<_, RunRow>(conn, any_run, || {
            PgStatement::<RunSql>::new(RUNS).bind::<Array<Text>, _>(texts(&runs))
        }),
        send_if::<_, Applied>(conn, !claim_ops.is_empty(), || find_applied(APPLIED_TO_STEPS, &claim_ops)),
        send_if::<_, i64>(conn, any_run && lock_steps, || {
            PgStatement::<BigInt>::new(LOCK_STEPS).bind::<Array<Text>, _>(texts(&runs))
        }),
        send_if::<_, StepRow>(conn, any_run, || by_ids(if lock_steps { LOCKED_STEPS } else { STEPS })),
        send_if::<_, (String, String, String)>(conn, !keys.is_empty(), find_keys),
        send::<_, i64>(conn, PgStatement::<BigInt>::new(clock)),
    );
    let (workflow_rows, run_rows) = (workflow_rows?, run_rows?);
    step_locks?;
    let step_rows = step_rows?;
    let mut locked = Locked { now: clock_of(&clock?), ..Locked::default() };
    for (namespace, id, revision, hash, removed, created_at) in workflow_rows {
        let key = WorkflowKey { namespace: Namespace::from_stored(namespace), id: WorkflowId::from_stored(id) };
        let content_hash: ContentHash = stored_hash(&hash);
        let current = CurrentWorkflow { revision, content_hash, removed, created_at: created_at.0 };
        locked.workflows.insert(key, current);
    }
    for (op_id, revision, replaced_revision, at) in puts?.into_iter().chain(ends?) {
        locked.applied.insert(OpId(op_id), AppliedOp { revision, replaced_revision, at: at.0 });
    }
    for (namespace, key, id) in key_rows? {
        locked.by_key.insert((Namespace::from_stored(namespace), key.into()), RunId::from_stored(id));
    }
    if !run_rows.is_empty() {
        let found = definitions_of(conn, definitions, &run_rows).await?;
        for run in assemble(run_rows, step_rows, &found) {
            let state: RunState = run.map_err(|(_, error)| error)?;
            locked.runs.insert(state.run.id.clone(), state);
        }
    }
    Ok(locked)
}
