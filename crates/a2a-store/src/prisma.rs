//! Reads the Postgres database of the older TypeScript system, whose tables Prisma made. Nothing is ever written there.
//!
//! Everything is read in one transaction that sees one state, in pages by key, so that memory stays bounded however much
//! there is. Which columns there are is asked first: versions of that system differ. A row travels as JSON text under the
//! names of its columns; what it means is not known here.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::database_url::PostgresUrl;
use crate::error::StoreError;
use crate::postgres::connect;

/// The tables of that system.
pub const TABLES: [&str; 8] =
    ["Agent", "AgentPersonality", "Workflow", "WorkflowStep", "Memory", "ToolUsage", "MCPServer", "AgentCommunication"];

/// The schema that Prisma uses when its URL names none.
const SCHEMA_DEFAULT: &str = "public";
/// Rows that are held at once.
const PAGE_ROWS: i64 = 100;
/// Longer rows are not read: more than twice as much as a document may have can't become one.
const ROW_BYTES_MAX: i64 = 512 * 1024;
/// Reading takes as long as whoever takes the rows in needs for them; whoever holds a lock is not waited for for ever.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = '60s'; SET LOCAL TIME ZONE 'UTC'";

/// Why nothing, or nothing more, is read.
#[derive(Debug, thiserror::Error)]
pub enum PrismaError {
    /// There is no session.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A statement failed.
    #[error("database error: {0}")]
    Statement(String),
    /// It is another database.
    #[error(
        "{place} has none of the tables \"Agent\", \"Workflow\" and \"Memory\" in schema {schema}; \
         name the schema in the URL: ?schema=NAME"
    )]
    NotFound {
        /// The database.
        place: String,
        /// Where they were looked for.
        schema: String,
    },
}

impl From<tokio_postgres::Error> for PrismaError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Statement(error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned()))
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What names it.
    pub key: String,
    /// Its columns as a JSON object; `None` when that would be longer than is read.
    pub json: Option<String>,
}

/// An open database, read as it was when it was opened.
pub struct PrismaDatabase {
    client: Client,
    place: String,
    schema: String,
    /// The columns of each table that is there, with their types.
    tables: BTreeMap<String, BTreeMap<String, String>>,
}

impl PrismaDatabase {
    /// Opens it.
    ///
    /// # Errors
    /// When it can't be reached, or is no such database.
    pub async fn open(url: &PostgresUrl) -> Result<Self, PrismaError> {
        let (client, _driver, _transport) =
            connect::open(&url.clone().for_reading(), |_| {}).await.map_err(StoreError::from)?;
        client.batch_execute(BEGIN).await?;
        let schema = url.schema().unwrap_or(SCHEMA_DEFAULT).to_owned();
        let sql = "SELECT table_name::text, column_name::text, udt_name::text FROM information_schema.columns \
             WHERE table_schema = $1 AND table_name = ANY($2)";
        let mut tables: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for row in client.query(sql, &[&schema, &TABLES.as_slice()]).await? {
            tables.entry(row.try_get(0)?).or_default().insert(row.try_get(1)?, row.try_get(2)?);
        }
        let place = url.display_safe();
        if !["Agent", "Workflow", "Memory"].iter().any(|table| tables.contains_key(*table)) {
            return Err(PrismaError::NotFound { place, schema });
        }
        Ok(Self { client, place, schema, tables })
    }

    /// Names it, without user and password.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether a table is there and has a column.
    #[must_use]
    pub fn has(&self, table: &str, column: &str) -> bool {
        self.tables.get(table).is_some_and(|columns| columns.contains_key(column))
    }

    /// How many rows a table has; none when it is not there.
    ///
    /// # Errors
    /// When the database does not tell.
    pub async fn count(&self, table: &str) -> Result<u64, PrismaError> {
        self.count_where(table, "true").await
    }

    /// How many rows of a table have something in a column.
    ///
    /// # Errors
    /// When the database does not tell.
    pub async fn count_set(&self, table: &str, column: &str) -> Result<u64, PrismaError> {
        if !self.has(table, column) {
            return Ok(0);
        }
        self.count_where(table, &format!("{} IS NOT NULL", quoted(column))).await
    }

    async fn count_where(&self, table: &str, condition: &str) -> Result<u64, PrismaError> {
        if !self.tables.contains_key(table) {
            return Ok(0);
        }
        let sql = format!("SELECT count(*) FROM {} WHERE {condition}", self.table(table));
        let count: i64 = self.client.query_one(&sql, &[]).await?.try_get(0)?;
        Ok(count.unsigned_abs())
    }

    /// The rows of a table that come after one in the order of their ids, without some columns. None when there are no more,
    /// or no table.
    ///
    /// # Errors
    /// When the database does not give them.
    pub async fn page(&self, table: &str, without: &[&str], after: Option<&str>) -> Result<Vec<Row>, PrismaError> {
        let Some(id) = self.tables.get(table).and_then(|columns| columns.get("id")) else { return Ok(Vec::new()) };
        // Only a plain column is found by its index.
        let id = if id == "text" { "\"id\"" } else { "\"id\"::text" };
        let (columns, from) = (self.columns(table, without), self.table(table));
        let page = |condition: &str| {
            selected(
                "\"_key\"",
                &format!("SELECT {id} AS \"_key\", {columns} FROM {from} {condition} ORDER BY {id} LIMIT {PAGE_ROWS}"),
            )
        };
        match after {
            None => self.rows(&page(""), &[]).await,
            Some(after) => self.rows(&page(&format!("WHERE {id} > $1")), &[&after]).await,
        }
    }

    /// The steps of workflows in their order, at most `limit` of each, without some columns. Each is named by its workflow.
    ///
    /// # Errors
    /// When the database does not give them.
    pub async fn steps(&self, workflows: &[&str], limit: usize, without: &[&str]) -> Result<Vec<Row>, PrismaError> {
        const TABLE: &str = "WorkflowStep";
        if !self.has(TABLE, "workflowId") {
            return Ok(Vec::new());
        }
        let order = if self.has(TABLE, "order") { "\"order\", \"id\"" } else { "\"id\"" };
        let (columns, from) = (self.columns(TABLE, without), self.table(TABLE));
        let all = format!(
            "SELECT \"workflowId\"::text AS \"_key\", \
             row_number() OVER (PARTITION BY \"workflowId\" ORDER BY {order}) AS \"_position\", {columns} \
             FROM {from} WHERE \"workflowId\"::text = ANY($1)"
        );
        let sql = selected(
            "\"_key\", (r.\"_position\")",
            &format!("SELECT * FROM ({all}) s WHERE s.\"_position\" <= {limit}"),
        );
        self.rows(&sql, &[&workflows]).await
    }

    /// How many steps belong to no workflow.
    ///
    /// # Errors
    /// When the database does not tell.
    pub async fn steps_left(&self) -> Result<u64, PrismaError> {
        if !self.has("WorkflowStep", "workflowId") || !self.has("Workflow", "id") {
            return self.count("WorkflowStep").await;
        }
        let workflows = self.table("Workflow");
        self.count_where(
            "WorkflowStep",
            &format!("NOT EXISTS (SELECT FROM {workflows} w WHERE w.\"id\" = \"workflowId\")"),
        )
        .await
    }

    /// How each agent used each tool, after one of them in their order: `agentId`, `toolName`, `calls`, `succeeded`, and as
    /// far as they are known `averageMs`, `slowestMs` and `last`. Named by both, which a tab separates.
    ///
    /// # Errors
    /// When the database does not give them.
    pub async fn tool_usage(&self, after: Option<(&str, &str)>) -> Result<Vec<Row>, PrismaError> {
        const TABLE: &str = "ToolUsage";
        if !["agentId", "toolName", "success"].iter().all(|column| self.has(TABLE, column)) {
            return Ok(Vec::new());
        }
        let mut sums = vec!["count(*) AS calls", "count(*) FILTER (WHERE success) AS succeeded"];
        if self.has(TABLE, "executionTime") {
            sums.push("round(avg(\"executionTime\"))::bigint AS \"averageMs\"");
            sums.push("max(\"executionTime\") AS \"slowestMs\"");
        }
        if self.has(TABLE, "timestamp") {
            sums.push("max(\"timestamp\") AS last");
        }
        let (sums, from) = (sums.join(", "), self.table(TABLE));
        let condition = match after {
            None => "\"agentId\" IS NOT NULL AND \"toolName\" IS NOT NULL",
            Some(_) => "(\"agentId\", \"toolName\") > ($1, $2)",
        };
        let sql = selected(
            "\"agentId\", r.\"toolName\"",
            &format!(
                "SELECT \"agentId\" || E'\\t' || \"toolName\" AS \"_key\", \"agentId\", \"toolName\", {sums} FROM {from} \
                 WHERE {condition} GROUP BY \"agentId\", \"toolName\" ORDER BY \"agentId\", \"toolName\" LIMIT {PAGE_ROWS}"
            ),
        );
        match &after {
            None => self.rows(&sql, &[]).await,
            Some((agent, tool)) => self.rows(&sql, &[agent, tool]).await,
        }
    }

    async fn rows(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PrismaError> {
        let rows = self.client.query(sql, values).await?;
        let row = |row: &tokio_postgres::Row| Ok(Row { key: row.try_get(0)?, json: row.try_get(1)? });
        rows.iter().map(row).collect()
    }

    fn table(&self, table: &str) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(table))
    }

    fn columns(&self, table: &str, without: &[&str]) -> String {
        let columns = self.tables.get(table).into_iter().flat_map(BTreeMap::keys);
        let wanted = columns.filter(|column| !without.contains(&column.as_str()));
        wanted.map(|column| quoted(column)).collect::<Vec<_>>().join(", ")
    }
}

/// Key and JSON of each row of a query that has a `_key`.
fn selected(order: &str, query: &str) -> String {
    format!(
        "SELECT r.\"_key\", CASE WHEN octet_length(r.\"json\") <= {ROW_BYTES_MAX} THEN r.\"json\" END FROM \
         (SELECT q.*, row_to_json(q)::text AS \"json\" FROM ({query}) q) r ORDER BY r.{order}"
    )
}

/// A name as SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
