//! Copies of everything, from and to SQLite.

use diesel::connection::{DefaultLoadingMode, SimpleConnection as _};
use diesel::prelude::*;
use diesel::sql_types::Text;
use tokio::sync::mpsc;

use super::{Sqlite, TextRow, establish};
use crate::error::StoreError;
use crate::snapshot::{
    Digests, Kind, MERGE, Part, Parts, RestoreMode, SnapshotError, TABLES, Table, TableDigest, canonical, compare,
    incoming,
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

fn insert(conn: &mut SqliteConnection, table: &Table, target: &str, rows: &[String]) -> Result<u64, SnapshotError> {
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
    let sql = format!("INSERT INTO {target} ({}) SELECT {} FROM json_each(?)", table.column_names(), values.join(", "));
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
                    insert(conn, table, &target(table), &rows)?;
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

/// Makes every process that follows the file compare all it has.
fn new_epoch(conn: &mut SqliteConnection) -> Result<(), SnapshotError> {
    Ok(conn.batch_execute("UPDATE store_meta SET epoch = lower(hex(randomblob(16)))")?)
}
