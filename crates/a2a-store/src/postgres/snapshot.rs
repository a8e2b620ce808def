//! Copies of everything, from and to Postgres.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use tokio::sync::mpsc;
use tokio_postgres::Client;

use super::{Postgres, connect};
use crate::error::StoreError;
use crate::snapshot::reconcile::{Rows, Side};
use crate::snapshot::sync::{InMemory, Synced};
use crate::snapshot::{
    Digests, Kind, MERGE, Part, Parts, RestoreMode, SnapshotError, TABLES, Table, TableDigest, batches, canonical,
    compare, gone, incoming, on_conflict,
};

/// Rows that wait for the thread that compares them.
const ROWS_MAX: usize = 256;
/// Stands in place of a table after the last row.
const END: usize = usize::MAX;

/// Reading or writing everything takes as long as it takes; whoever holds a lock is waited for, but not for ever.
const SETTINGS: &str = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
     SET LOCAL lock_timeout = '60s'";

impl Postgres {
    pub(crate) async fn snapshot(&self, mut parts: Parts) -> Result<(), SnapshotError> {
        let client = self.session().await?;
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        client.batch_execute(SETTINGS).await?;
        for (index, table) in TABLES.iter().enumerate() {
            let mut rows = std::pin::pin!(client.query_raw(&select(table), std::iter::empty::<&str>()).await?);
            while let Some(row) = rows.try_next().await? {
                let part = parts.add(index, row.try_get(0)?)?;
                parts.send(part).await?;
            }
        }
        client.batch_execute("COMMIT").await?;
        let (rest, end) = parts.finish();
        parts.send(rest).await?;
        parts.send(Some(end)).await
    }

    pub(crate) async fn restore(
        &self,
        mut parts: mpsc::Receiver<Part>,
        mode: RestoreMode,
    ) -> Result<Vec<(&'static str, u64)>, SnapshotError> {
        // An error drops the session, and with it the transaction.
        let client = self.session().await?;
        begin_alone(&client).await?;
        let taken = match mode {
            RestoreMode::Empty => restore_empty(&client, &mut parts).await?,
            RestoreMode::Merge => restore_merge(&client, &mut parts).await?,
        };
        // Makes every process that follows the database compare all it has.
        client.batch_execute("UPDATE store_meta SET epoch = gen_random_uuid()").await?;
        client.batch_execute("COMMIT").await?;
        Ok(taken)
    }

    /// Brings this database and `memory` together in one transaction of each; the one in memory commits first.
    pub(crate) async fn sync(&self, memory: Arc<InMemory>) -> Result<Synced, SnapshotError> {
        // An error drops the session, and with it the transaction.
        let client = self.session().await?;
        begin_alone(&client).await?;
        let (to, mut rows) = mpsc::channel::<(usize, String)>(ROWS_MAX);
        let held = memory.clone();
        // The base is held by the thread that reads both sides; one sync goes on at a time.
        let exchanging = tokio::task::spawn_blocking(move || {
            let mut base = held.base();
            let mut theirs = Side::new(&base);
            let mut is_whole = false;
            while let Some((table, row)) = rows.blocking_recv() {
                is_whole = table == END;
                if !is_whole {
                    theirs.add(table, &row)?;
                }
            }
            if !is_whole {
                return Err(SnapshotError::Incomplete);
            }
            let theirs = theirs.finish();
            held.exchange(&mut base, theirs)
        });
        let read = async {
            for (index, table) in TABLES.iter().enumerate() {
                let mut found = std::pin::pin!(client.query_raw(&select(table), std::iter::empty::<&str>()).await?);
                while let Some(row) = found.try_next().await? {
                    to.send((index, row.try_get(0)?)).await.map_err(|_| SnapshotError::Incomplete)?;
                }
            }
            to.send((END, String::new())).await.map_err(|_| SnapshotError::Incomplete)
        };
        let read = read.await;
        drop(to);
        let exchanged = exchanging.await.map_err(|error| StoreError::Task(error.to_string()))?;
        let exchanged = match (read, exchanged) {
            (Err(error), Err(SnapshotError::Incomplete)) => return Err(error),
            (_, exchanged) => exchanged?,
        };
        if !exchanged.to_theirs.is_empty() {
            apply(&client, &exchanged.to_theirs).await?;
            client.batch_execute("UPDATE store_meta SET epoch = gen_random_uuid()").await?;
        }
        client.batch_execute("COMMIT").await?;
        Ok(memory.done(&mut memory.base(), exchanged))
    }

    async fn session(&self) -> Result<Client, SnapshotError> {
        let (client, _driver, _transport) = connect::open(&self.url, |_| {}).await.map_err(StoreError::from)?;
        Ok(client)
    }
}

/// Begins a transaction beside which nobody else writes, so that what was found stays so; readers go on.
async fn begin_alone(client: &Client) -> Result<(), SnapshotError> {
    client.batch_execute("BEGIN").await?;
    client.batch_execute(SETTINGS).await?;
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    client.batch_execute(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", names.join(", "))).await?;
    Ok(())
}

/// Writes rows and takes those away that are to go.
async fn apply(client: &Client, rows: &Rows) -> Result<(), SnapshotError> {
    for (index, table) in TABLES.iter().enumerate().rev() {
        if let Some(keys) = gone(rows, index) {
            let is_number = |name: &str| {
                table.columns.iter().any(|column| column.name == name && matches!(column.kind, Kind::Integer))
            };
            let same: Vec<String> = table
                .key
                .split(", ")
                .enumerate()
                .map(|(part, name)| match is_number(name) {
                    true => format!("t.{name} = (v ->> {part})::bigint"),
                    false => format!("t.{name} = v ->> {part}"),
                })
                .collect();
            let sql = format!(
                "DELETE FROM {} t USING jsonb_array_elements($1::text::jsonb) AS v WHERE {}",
                table.name,
                same.join(" AND ")
            );
            client.execute(&sql, &[&keys]).await?;
        }
    }
    for (index, table) in TABLES.iter().enumerate() {
        let batches = batches(rows, index);
        if table.name == "runs" {
            // A key may go from one run to another, and is unique at every moment.
            for batch in &batches {
                let sql = "UPDATE runs SET idempotency_key = NULL \
                           WHERE id IN (SELECT v ->> 0 FROM jsonb_array_elements($1::text::jsonb) AS v)";
                client.execute(sql, &[&format!("[{}]", batch.join(","))]).await?;
            }
        }
        for batch in batches {
            insert(client, table, table.name, &batch, &on_conflict(table)).await?;
        }
    }
    Ok(())
}

fn select(table: &Table) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| match (column.kind, column.name) {
            (Kind::Text | Kind::Integer | Kind::Boolean, name) => name.to_owned(),
            (Kind::Json, name) => format!("{name}::text"),
            (Kind::Time, name) => format!("floor(extract(epoch FROM {name}) * 1000)::bigint"),
            (Kind::Real, name) => format!("{name}::float8"),
            (Kind::Bytes, name) => format!("encode({name}, 'hex')"),
        })
        .collect();
    format!("SELECT json_build_array({})::text FROM {} ORDER BY {}", columns.join(", "), table.name, table.key)
}

async fn insert(
    client: &Client,
    table: &Table,
    target: &str,
    rows: &[impl AsRef<str>],
    conflict: &str,
) -> Result<(), SnapshotError> {
    let rows: Vec<&str> = rows.iter().map(AsRef::as_ref).collect();
    let values: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| match column.kind {
            Kind::Text => format!("v ->> {index}"),
            Kind::Json => format!("(v ->> {index})::json"),
            Kind::Integer => format!("(v ->> {index})::bigint"),
            Kind::Boolean => format!("(v ->> {index})::boolean"),
            // Seconds and the rest each by itself: as one number a date of some centuries ahead loses its milliseconds.
            Kind::Time => format!(
                "timestamptz 'epoch' + (v ->> {index})::bigint / 1000 * interval '1 s' \
                 + (v ->> {index})::bigint % 1000 * interval '1 ms'"
            ),
            Kind::Real => format!("(v ->> {index})::real"),
            Kind::Bytes => format!("decode(v ->> {index}, 'hex')"),
        })
        .collect();
    let sql = format!(
        "INSERT INTO {target} ({}) SELECT {} FROM jsonb_array_elements($1::text::jsonb) AS v {conflict}",
        table.column_names(),
        values.join(", ")
    );
    client.execute(&sql, &[&format!("[{}]", rows.join(","))]).await?;
    Ok(())
}

/// Writes all rows into `target` of each table, and returns what the sender says that there is.
async fn take(
    client: &Client,
    parts: &mut mpsc::Receiver<Part>,
    target: impl Fn(&Table) -> String,
) -> Result<Vec<TableDigest>, SnapshotError> {
    loop {
        match parts.recv().await {
            Some(Part::Rows { table, rows }) => {
                if let Some(table) = TABLES.get(table) {
                    insert(client, table, &target(table), &rows, "").await?;
                }
            }
            Some(Part::End(expected)) => return Ok(expected),
            None => return Err(SnapshotError::Incomplete),
        }
    }
}

async fn restore_empty(
    client: &Client,
    parts: &mut mpsc::Receiver<Part>,
) -> Result<Vec<(&'static str, u64)>, SnapshotError> {
    let mut kept = 0;
    for table in TABLES {
        let sql = format!("SELECT count(*) FROM {}", table.name);
        let rows: i64 = client.query_one(&sql, &[]).await?.try_get(0)?;
        if rows > 0 && table.is_content {
            return Err(SnapshotError::NotEmpty { table: table.name, rows });
        }
        kept += rows.unsigned_abs();
    }
    let expected = take(client, parts, |table| table.name.to_owned()).await?;
    let mut digests = Digests::default();
    for (index, table) in TABLES.iter().enumerate() {
        let mut rows = std::pin::pin!(client.query_raw(&select(table), std::iter::empty::<&str>()).await?);
        while let Some(row) = rows.try_next().await? {
            digests.add(index, &canonical(index, row.try_get(0)?)?);
        }
    }
    compare(&expected, &digests.finish(), kept)?;
    Ok(TABLES.iter().zip(&expected).map(|(table, digest)| (table.name, digest.rows)).collect())
}

async fn restore_merge(
    client: &Client,
    parts: &mut mpsc::Receiver<Part>,
) -> Result<Vec<(&'static str, u64)>, SnapshotError> {
    for table in TABLES {
        let (incoming, names) = (incoming(table), table.column_names());
        let sql =
            format!("CREATE TEMP TABLE {incoming} ON COMMIT DROP AS SELECT {names} FROM {} WHERE false", table.name);
        client.batch_execute(&sql).await?;
    }
    take(client, parts, incoming).await?;
    // The planner knows nothing of tables that were filled a moment ago.
    for table in TABLES {
        client.batch_execute(&format!("ANALYZE {}", incoming(table))).await?;
    }
    let mut taken = Vec::new();
    for merge in MERGE.iter() {
        let rows = client.execute(&merge.sql, &[]).await?;
        taken.extend(merge.takes.map(|table| (table, rows)));
    }
    Ok(taken)
}
