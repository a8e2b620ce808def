//! The transaction of commands about workflows. `BEGIN IMMEDIATE` makes it the only one, so that what is read in it
//! stays true.

use std::collections::HashMap;
use std::sync::Arc;

use a2a_core::ids::{Namespace, RunId, WorkflowId, WorkflowKey};
use a2a_core::time::Timestamp;
use a2a_core::workflow::command::{WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::run::Step;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};
use diesel::{Connection as _, SqliteConnection};

use super::SqliteStatement;
use super::rows::json_text;
use super::workflow_rows::{
    Which, definitions_of, ids_json, payloads, run_rows, runs_by_id, step_rows, workflow_keys_json,
};
use super::workflow_write::{write_in_txn, write_steps_in_txn};
use crate::error::StoreError;
use crate::workflow_commit::{
    AppliedOp, ClaimRows, CurrentWorkflow, Done, Halves, Indexed, Locked, Parts, Round, StepKey, claim, claim_ops,
    claims_of, idempotency_keys, in_order, note, noted_steps, run_ids, sorted, workflow_keys, workflow_ops,
};
use crate::workflow_definition::Definitions;
use crate::workflow_row::{StepRow, stored_hash};

pub(super) fn commit(
    conn: &mut SqliteConnection,
    definitions: &Definitions,
    commands: &[WorkflowCommand],
) -> Result<Vec<WorkflowOutcome>, StoreError> {
    let parts = Parts::of(commands);
    // The same order as on Postgres, where these are transactions of their own.
    let all: Vec<Indexed<'_>> = [parts.claims, parts.notes, parts.events].concat();
    let done = match conn.immediate_transaction(|conn| apply_in_txn(conn, definitions, &all)) {
        Err(error) if !error.is_transient() => {
            tracing::warn!(%error, commands = all.len(), "a batch was rejected; isolating the cause");
            conn.immediate_transaction(|conn| isolate_in_txn(conn, definitions, &all))
        }
        result => result,
    }?;
    in_order(done, commands.len())
}

/// Applies the commands part by part, each in a savepoint, until the parts that the database rejects are single ones.
fn isolate_in_txn(
    conn: &mut SqliteConnection,
    definitions: &Definitions,
    commands: &[Indexed<'_>],
) -> Result<Vec<Done>, StoreError> {
    let mut halves = Halves::new(commands);
    while let Some(part) = halves.next_part() {
        // diesel makes a transaction inside of one a savepoint.
        match conn.transaction(|conn| apply_in_txn(conn, definitions, part)) {
            Ok(done) => halves.applied(done),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => halves.rejected(&error),
        }
    }
    Ok(halves.into_done())
}

fn apply_in_txn(
    conn: &mut SqliteConnection,
    definitions: &Definitions,
    commands: &[Indexed<'_>],
) -> Result<Vec<Done>, StoreError> {
    let now = super::now();
    let is_claim = |(_, command): &Indexed<'_>| matches!(command, WorkflowCommand::StepClaim { .. });
    let is_note = |(_, command): &Indexed<'_>| {
        matches!(command, WorkflowCommand::StepRenew { .. } | WorkflowCommand::StepNote { .. })
    };
    let (claims, rest) = commands.split_at(commands.iter().take_while(|command| is_claim(command)).count());
    let (notes, events) = rest.split_at(rest.iter().take_while(|command| is_note(command)).count());
    let mut done = Vec::with_capacity(commands.len());
    if !claims.is_empty() {
        done.extend(claims_in_txn(conn, definitions, claims, now)?);
    }
    if !notes.is_empty() {
        done.extend(notes_in_txn(conn, notes, now)?);
    }
    if !events.is_empty() {
        done.extend(events_in_txn(conn, definitions, events, now)?);
    }
    Ok(done)
}

fn steps_by_key(rows: Vec<StepRow>) -> Result<HashMap<StepKey, Step>, StoreError> {
    let by_key = |row: StepRow| {
        let run = RunId::from_stored(row.run_id.as_str());
        row.into_step().map(|step| ((run, step.order), step))
    };
    rows.into_iter().map(by_key).collect()
}

fn claims_in_txn(
    conn: &mut SqliteConnection,
    definitions: &Definitions,
    commands: &[Indexed<'_>],
    now: Timestamp,
) -> Result<Vec<Done>, StoreError> {
    let keys = sorted(claims_of(commands).into_iter().map(|(_, key, _)| key));
    let ids = sorted(keys.iter().map(|(run, _)| run.clone()));
    let mut rows = ClaimRows { locked: steps_by_key(step_rows(conn, &keys, true)?)?, ..ClaimRows::default() };
    let runs = run_rows(conn, &ids_json(&ids)?)?;
    let found = definitions_of(conn, definitions, &runs)?;
    for row in runs {
        let Some(definition) = found.by_hash.get(&row.definition_hash()) else {
            let reason = "its definition can't be read".to_owned();
            return Err(StoreError::Row { table: "runs", key: row.id, reason });
        };
        let run = row.into_run(definition.clone())?;
        rows.runs.insert(run.id.clone(), Arc::new(run));
    }
    let (changed, done) = claim(commands, &mut rows, now);
    write_steps_in_txn(conn, &changed, now)?;
    Ok(done)
}

fn notes_in_txn(
    conn: &mut SqliteConnection,
    commands: &[Indexed<'_>],
    now: Timestamp,
) -> Result<Vec<Done>, StoreError> {
    let mut steps = steps_by_key(step_rows(conn, &noted_steps(commands), false)?)?;
    let (changed, done) = note(commands, &mut steps, now);
    write_steps_in_txn(conn, &changed, now)?;
    Ok(done)
}

fn events_in_txn(
    conn: &mut SqliteConnection,
    definitions: &Definitions,
    commands: &[Indexed<'_>],
    now: Timestamp,
) -> Result<Vec<Done>, StoreError> {
    let locked = read_in_txn(conn, definitions, commands, now)?;
    let mut round = Round::new(commands, locked);
    loop {
        let needed = round.advance()?;
        if needed.is_empty() {
            break;
        }
        round.take_outputs(payloads(conn, Which::Output, &needed)?);
    }
    let writes = round.writes();
    write_in_txn(conn, &writes, now)?;
    for new in &writes.new_runs {
        definitions.keep(*new.hash, &new.state.run.definition);
    }
    let needed = round.inputs_needed();
    if !needed.is_empty() {
        round.take_inputs(payloads(conn, Which::Input, &needed)?);
    }
    Ok(round.into_done())
}

fn read_in_txn(
    conn: &mut SqliteConnection,
    definitions: &Definitions,
    commands: &[Indexed<'_>],
    now: Timestamp,
) -> Result<Locked, StoreError> {
    let (workflows, runs, keys) = (workflow_keys(commands), run_ids(commands), idempotency_keys(commands));
    let mut locked = Locked { now, ..Locked::default() };
    if !workflows.is_empty() {
        type Row = (String, String, i64, Vec<u8>, bool, i64);
        let rows: Vec<Row> = SqliteStatement::<(Text, Text, BigInt, Binary, Bool, BigInt)>::new(
            "SELECT w.namespace, w.id, w.revision, w.content_hash, w.removed_at IS NOT NULL, w.created_at \
             FROM json_each(?) AS k JOIN workflows w ON w.namespace = k.value ->> 0 AND w.id = k.value ->> 1",
        )
        .bind::<Text, _>(workflow_keys_json(&workflows)?)
        .rows(conn)?;
        for (namespace, id, revision, hash, removed, created_at) in rows {
            let key = WorkflowKey { namespace: Namespace::from_stored(namespace), id: WorkflowId::from_stored(id) };
            let current = CurrentWorkflow {
                revision,
                content_hash: stored_hash(&hash),
                removed,
                created_at: Timestamp(created_at),
            };
            locked.workflows.insert(key, current);
        }
    }
    for op_id in workflow_ops(commands).into_iter().chain(claim_ops(commands)) {
        let rows: Vec<(i64, Option<i64>, i64)> = SqliteStatement::<(BigInt, Nullable<BigInt>, BigInt)>::new(
            "SELECT revision, replaced_revision, at FROM applied_ops WHERE op_id = ?",
        )
        .bind::<Text, _>(op_id.to_string())
        .rows(conn)?;
        for (revision, replaced_revision, at) in rows {
            locked.applied.insert(op_id, AppliedOp { revision, replaced_revision, at: Timestamp(at) });
        }
    }
    if !keys.is_empty() {
        let rows: Vec<(String, String, String)> = SqliteStatement::<(Text, Text, Text)>::new(
            "SELECT r.namespace, r.idempotency_key, r.id FROM json_each(?) AS k \
             JOIN runs r ON r.namespace = k.value ->> 0 AND r.idempotency_key = k.value ->> 1",
        )
        .bind::<Text, _>(json_text(&keys)?)
        .rows(conn)?;
        for (namespace, key, id) in rows {
            locked.by_key.insert((Namespace::from_stored(namespace), key.into()), RunId::from_stored(id));
        }
    }
    if !runs.is_empty() {
        for run in runs_by_id(conn, definitions, &runs, false)? {
            let state = run.map_err(|(_, error)| error)?;
            locked.runs.insert(state.run.id.clone(), state);
        }
    }
    Ok(locked)
}
