//! The processes that use the file.

use diesel::sql_types::{BigInt, Nullable, Text};

use super::{Sqlite, SqliteStatement, now, with};
use crate::error::StoreError;
use crate::process::{ProcessInfo, ProcessRow, ProcessSeen, SILENT_MAX, process_columns};

type InfoSql = (Text, Text, Text, BigInt, Text, Text, Text, Text, Nullable<Text>);

const BEAT: &str = concat!(
    "INSERT INTO processes (",
    process_columns!(),
    ", started_at, seen_at) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, n.now, n.now FROM (SELECT ? AS now) n WHERE true \
     ON CONFLICT (id) DO UPDATE SET client = excluded.client, seen_at = excluded.seen_at"
);

const ALL: &str = concat!(
    "SELECT ",
    process_columns!(),
    ", started_at, ? - seen_at FROM processes ORDER BY started_at, id LIMIT 1000"
);

impl Sqlite {
    pub(crate) async fn process_beat(&self, info: &ProcessInfo) -> Result<(), StoreError> {
        let info = info.clone();
        with(&self.writer, move |conn| {
            conn.immediate_transaction(|conn| {
                let now = now().0;
                let silent = i64::try_from(SILENT_MAX.as_millis()).unwrap_or(i64::MAX);
                SqliteStatement::<()>::new("DELETE FROM processes WHERE seen_at < ?")
                    .bind::<BigInt, _>(now.saturating_sub(silent))
                    .run(conn)?;
                SqliteStatement::<()>::new(BEAT)
                    .bind::<Text, _>(info.id)
                    .bind::<Text, _>(info.kind)
                    .bind::<Text, _>(info.host)
                    .bind::<BigInt, _>(info.pid)
                    .bind::<Text, _>(info.version)
                    .bind::<Text, _>(info.schema)
                    .bind::<Text, _>(info.mode)
                    .bind::<Text, _>(info.namespace)
                    .bind::<Nullable<Text>, _>(info.client)
                    .bind::<BigInt, _>(now)
                    .run(conn)?;
                Ok::<_, StoreError>(())
            })
        })
        .await
    }

    pub(crate) async fn process_leave(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        with(&self.writer, move |conn| {
            SqliteStatement::<()>::new("DELETE FROM processes WHERE id = ?").bind::<Text, _>(id).run(conn)?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn process_list(&self) -> Result<Vec<ProcessSeen>, StoreError> {
        with(&self.reader, |conn| {
            let rows: Vec<(ProcessRow, (i64, i64))> =
                SqliteStatement::<(InfoSql, (BigInt, BigInt))>::new(ALL).bind::<BigInt, _>(now().0).rows(conn)?;
            Ok(rows.into_iter().map(|(row, (started, silent))| ProcessSeen::from_row(row, started, silent)).collect())
        })
        .await
    }
}
