//! Copies of everything, from and to SQLite.

use std::sync::Arc;

use diesel::connection::{DefaultLoadingMode, SimpleConnection as _};
use diesel::prelude::*;
use diesel::sql_types::Text;
use tokio::sync::mpsc;

use super::{Sqlite, TextRow, establish};
use crate::error::StoreError;
use crate::snapshot::reconcile::{self, Base, Changes, Rows, Side};
use crate::snapshot::sync::{Exchanged, InMemory, Synced};
use crate::snapshot::{
    Digests, Kind, MERGE, Part, Parts, RestoreMode, SnapshotError, TABLES, Table, TableDigest, batches, canonical,
    compare, gone, incoming, on_conflict,
};
use crate::store::Access;

impl Sqlite {
    pub(crate) async fn snapshot(&self, mut parts: Parts) -> Result<(), SnapshotError> {
        let path = self.path.clone();
        let writer = self.writer.clone();
        blocking(move || {
            // A connection of its own: reading everything takes long, and others go on reading and writing meanwhile.
            let mut own = path.as_deref().map(|path| establish(Some(path), Access::Read)).transpose()?;
            let mut shared = own.is_none().then(|| writer.lock());
            let conn = match (&mut own, &mut shared) {
                (Some(conn), _) => conn,
                (None, Some(conn)) => &mut **conn,
                (None, None) => return Err(StoreError::Task("there is no connection".to_owned()).into()),
            };
            conn.transaction(|conn| {
                each_row(conn, |table, row| {
                    let part = parts.add(table, row)?;
                    parts.send_blocking(part)
                })
            })?;
            let (rest, end) = parts.finish();
            parts.send_blocking(rest)?;
            parts.send_blocking(Some(end))
        })
        .await
    }

    pub(crate) async fn restore(
        &self,
        mut parts: mpsc::Receiver<Part>,
        mode: RestoreMode,
    ) -> Result<Vec<(&'static str, u64)>, SnapshotError> {
        let writer = self.writer.clone();
        blocking(move || {
            writer.lock().immediate_transaction(|conn| match mode {
                RestoreMode::Empty => restore_empty(conn, &mut parts),
                RestoreMode::Merge => restore_merge(conn, &mut parts),
            })
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Task(error.to_string()))?
}

/// Reads all rows of all tables.
fn each_row(
    conn: &mut SqliteConnection,
    mut each: impl FnMut(usize, &str) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    for (index, table) in TABLES.iter().enumerate() {
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| match column.kind {
                Kind::Bytes => format!("lower(hex({}))", column.name),
                _ => column.name.to_owned(),
            })
            .collect();
        let sql =
            format!("SELECT json_array({}) AS value FROM {} ORDER BY {}", columns.join(", "), table.name, table.key);
        for row in diesel::sql_query(sql).load_iter::<TextRow, DefaultLoadingMode>(conn)? {
            each(index, &row?.value)?;
        }
    }
    Ok(())
}

fn count(conn: &mut SqliteConnection, table: &Table) -> Result<i64, SnapshotError> {
    let sql = format!("SELECT CAST(count(*) AS TEXT) AS value FROM {}", table.name);
    let row: TextRow = diesel::sql_query(sql).get_result(conn)?;
    Ok(row.value.parse().unwrap_or(i64::MAX))
}

fn insert(
    conn: &mut SqliteConnection,
    table: &Table,
    target: &str,
    rows: &[impl AsRef<str>],
    conflict: &str,
) -> Result<u64, SnapshotError> {
    let values: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| match column.kind {
            Kind::Bytes => format!("unhex(value ->> {index})"),
            Kind::Real => format!("CAST(value ->> {index} AS REAL)"),
            _ => format!("value ->> {index}"),
        })
        .collect();
    let rows: Vec<&str> = rows.iter().map(AsRef::as_ref).collect();
    // `WHERE true` tells the parser that what follows is no join.
    let sql = format!(
        "INSERT INTO {target} ({}) SELECT {} FROM json_each(?) WHERE true {conflict}",
        table.column_names(),
        values.join(", ")
    );
    let count = diesel::sql_query(sql).bind::<Text, _>(format!("[{}]", rows.join(","))).execute(conn)?;
    Ok(count as u64)
}

/// Writes all rows into `target` of each table, and returns what the sender says that there is.
fn take(
    conn: &mut SqliteConnection,
    parts: &mut mpsc::Receiver<Part>,
    target: impl Fn(&Table) -> String,
) -> Result<Vec<TableDigest>, SnapshotError> {
    loop {
        match parts.blocking_recv() {
            Some(Part::Rows { table, rows }) => {
                if let Some(table) = TABLES.get(table) {
                    insert(conn, table, &target(table), &rows, "")?;
                }
            }
            Some(Part::End(expected)) => return Ok(expected),
            None => return Err(SnapshotError::Incomplete),
        }
    }
}

fn restore_empty(
    conn: &mut SqliteConnection,
    parts: &mut mpsc::Receiver<Part>,
) -> Result<Vec<(&'static str, u64)>, SnapshotError> {
    let mut kept = 0;
    for table in TABLES {
        let rows = count(conn, table)?;
        if rows > 0 && table.is_content {
            return Err(SnapshotError::NotEmpty { table: table.name, rows });
        }
        kept += rows.unsigned_abs();
    }
    let expected = take(conn, parts, |table| table.name.to_owned())?;
    let mut digests = Digests::default();
    each_row(conn, |table, row| {
        digests.add(table, &canonical(table, row)?);
        Ok(())
    })?;
    compare(&expected, &digests.finish(), kept)?;
    new_epoch(conn)?;
    Ok(TABLES.iter().zip(&expected).map(|(table, digest)| (table.name, digest.rows)).collect())
}

fn restore_merge(
    conn: &mut SqliteConnection,
    parts: &mut mpsc::Receiver<Part>,
) -> Result<Vec<(&'static str, u64)>, SnapshotError> {
    for table in TABLES {
        let incoming = incoming(table);
        let names = table.column_names();
        conn.batch_execute(&format!("CREATE TEMP TABLE {incoming} AS SELECT {names} FROM {} WHERE false", table.name))?;
    }
    take(conn, parts, incoming)?;
    for (table, key) in [("agents", "namespace, id"), ("tombstones", "namespace, id"), ("runs", "id")] {
        conn.batch_execute(&format!("CREATE INDEX temp.in_{table}_key ON in_{table} ({key})"))?;
    }
    let mut taken = Vec::new();
    for merge in MERGE.iter() {
        let rows = diesel::sql_query(&merge.sql).execute(conn)?;
        taken.extend(merge.takes.map(|table| (table, rows as u64)));
    }
    for table in TABLES {
        conn.batch_execute(&format!("DROP TABLE {}", incoming(table)))?;
    }
    new_epoch(conn)?;
    Ok(taken)
}

impl Sqlite {
    /// Brings this database and `memory` together in one transaction of each; the one in memory commits first.
    pub(crate) async fn sync(&self, memory: Arc<InMemory>) -> Result<Synced, SnapshotError> {
        let writer = self.writer.clone();
        blocking(move || {
            let mut base = memory.base();
            let mut exchanged = None;
            writer.lock().immediate_transaction(|conn| {
                let mut theirs = Side::new(&base);
                each_row(conn, |table, row| theirs.add(table, row))?;
                let theirs = theirs.finish();
                let done = memory.exchange(&mut base, theirs)?;
                if !done.to_theirs.is_empty() {
                    apply(conn, &done.to_theirs)?;
                    new_epoch(conn)?;
                }
                exchanged = Some(done);
                Ok::<_, SnapshotError>(())
            })?;
            Ok(memory.done(&mut base, exchanged.unwrap_or_default()))
        })
        .await
    }

    /// Gives the database in memory what has changed in the other one, and returns what the other one lacks.
    pub(crate) fn exchange(&self, base: &mut Base, theirs: Changes) -> Result<Exchanged, SnapshotError> {
        let exchanged = self.writer.lock().immediate_transaction(|conn| {
            let mut ours = Side::new(base);
            each_row(conn, |table, row| ours.add(table, row))?;
            let merged = reconcile::reconcile(&ours.finish(), &theirs)?;
            if !merged.to_ours.is_empty() {
                apply(conn, &merged.to_ours)?;
                new_epoch(conn)?;
            }
            Ok::<_, SnapshotError>(Exchanged {
                taken: merged.to_ours.len(),
                to_theirs: merged.to_theirs,
                replaced: merged.replaced,
                seq: change_seq(conn)?,
            })
        })?;
        // Memory has it now, so that it counts as known even if the other database does not commit.
        base.absorb(&theirs.into_changed());
        Ok(exchanged)
    }

    /// How many changes were ever made here.
    pub(crate) async fn change_seq(&self) -> Result<i64, SnapshotError> {
        let writer = self.writer.clone();
        blocking(move || change_seq(&mut writer.lock())).await
    }
}

fn change_seq(conn: &mut SqliteConnection) -> Result<i64, SnapshotError> {
    let sql = "SELECT CAST(coalesce(max(seq), 0) AS TEXT) AS value FROM sqlite_sequence WHERE name = 'change_log'";
    let row: TextRow = diesel::sql_query(sql).get_result(conn)?;
    Ok(row.value.parse().unwrap_or(i64::MAX))
}

/// Writes rows and takes those away that are to go.
fn apply(conn: &mut SqliteConnection, rows: &Rows) -> Result<(), SnapshotError> {
    for (index, table) in TABLES.iter().enumerate().rev() {
        if let Some(keys) = gone(rows, index) {
            let parts: Vec<String> =
                (0..table.key.split(", ").count()).map(|part| format!("value ->> {part}")).collect();
            let sql = format!(
                "DELETE FROM {} WHERE ({}) IN (SELECT {} FROM json_each(?))",
                table.name,
                table.key,
                parts.join(", ")
            );
            diesel::sql_query(sql).bind::<Text, _>(keys).execute(conn)?;
        }
    }
    for (index, table) in TABLES.iter().enumerate() {
        let batches = batches(rows, index);
        if table.name == "runs" {
            // A key may go from one run to another, and is unique at every moment.
            for batch in &batches {
                let ids = format!("[{}]", batch.join(","));
                let sql = "UPDATE runs SET idempotency_key = NULL WHERE id IN (SELECT value ->> 0 FROM json_each(?))";
                diesel::sql_query(sql).bind::<Text, _>(ids).execute(conn)?;
            }
        }
        for batch in batches {
            insert(conn, table, table.name, &batch, &on_conflict(table))?;
        }
    }
    Ok(())
}

/// Makes every process that follows the file compare all it has.
fn new_epoch(conn: &mut SqliteConnection) -> Result<(), SnapshotError> {
    Ok(conn.batch_execute("UPDATE store_meta SET epoch = lower(hex(randomblob(16)))")?)
}
