//! The processes that use the database.

use diesel::sql_types::{BigInt, Nullable, Text};

use super::{PgStatement, Postgres};
use crate::error::StoreError;
use crate::process::{ProcessInfo, ProcessRow, ProcessSeen, SILENT_MAX, process_columns};

type InfoSql = (Text, Text, Text, BigInt, Text, Text, Text, Text, Nullable<Text>);

/// One statement and with it one transaction. Rows of others are deleted only where nobody else does it at this moment.
const BEAT: &str = concat!(
    "WITH gone AS (DELETE FROM processes WHERE id IN (SELECT id FROM processes \
     WHERE seen_at < now() - ?::bigint * interval '1 ms' FOR UPDATE SKIP LOCKED)) INSERT INTO processes (",
    process_columns!(),
    ", started_at, seen_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, now(), now()) \
     ON CONFLICT (id) DO UPDATE SET client = excluded.client, seen_at = excluded.seen_at"
);

const ALL: &str = concat!(
    "SELECT ",
    process_columns!(),
    ", (extract(epoch from started_at) * 1000)::bigint, (extract(epoch from now() - seen_at) * 1000)::bigint \
     FROM processes ORDER BY started_at, id LIMIT 1000"
);

impl Postgres {
    pub(crate) async fn process_beat(&self, info: &ProcessInfo) -> Result<(), StoreError> {
        self.read(async |conn| {
            PgStatement::<()>::new(BEAT)
                .bind::<BigInt, _>(i64::try_from(SILENT_MAX.as_millis()).unwrap_or(i64::MAX))
                .bind::<Text, _>(&info.id)
                .bind::<Text, _>(&info.kind)
                .bind::<Text, _>(&info.host)
                .bind::<BigInt, _>(info.pid)
                .bind::<Text, _>(&info.version)
                .bind::<Text, _>(&info.schema)
                .bind::<Text, _>(&info.mode)
                .bind::<Text, _>(&info.namespace)
                .bind::<Nullable<Text>, _>(info.client.as_deref())
                .run(conn)
                .await?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn process_leave(&self, id: &str) -> Result<(), StoreError> {
        self.read(async |conn| {
            PgStatement::<()>::new("DELETE FROM processes WHERE id = ?").bind::<Text, _>(id).run(conn).await?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn process_list(&self) -> Result<Vec<ProcessSeen>, StoreError> {
        self.read(async |conn| {
            let rows: Vec<(ProcessRow, (i64, i64))> =
                PgStatement::<(InfoSql, (BigInt, BigInt))>::new(ALL).rows(conn).await?;
            Ok(rows.into_iter().map(|(row, (started, silent))| ProcessSeen::from_row(row, started, silent)).collect())
        })
        .await
    }

    /// Other schemas of this database that hold tables of this program, with about how many agents.
    pub(crate) async fn other_schemas(&self) -> Result<Vec<(String, i64)>, StoreError> {
        self.read(async |conn| {
            Ok(PgStatement::<(Text, BigInt)>::new(
                "SELECT n.nspname::text, coalesce(s.n_live_tup, 0)::bigint FROM pg_class c \
                 JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname <> current_schema() \
                 JOIN pg_class a ON a.relnamespace = n.oid AND a.relname = 'agents' AND a.relkind = 'r' \
                 LEFT JOIN pg_stat_all_tables s ON s.relid = a.oid \
                 WHERE c.relname = 'store_meta' AND c.relkind = 'r' ORDER BY 1 LIMIT 20",
            )
            .rows(conn)
            .await?)
        })
        .await
    }
}
