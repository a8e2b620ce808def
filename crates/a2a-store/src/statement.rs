//! A statement with a fixed text and typed binds, whose prepared form the connection keeps.
//!
//! [`diesel::sql_query`] is prepared anew at each execution, which is one more round trip to Postgres.

use std::marker::PhantomData;

use diesel::QueryResult;
use diesel::backend::Backend;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::LoadQuery;
use diesel::serialize::ToSql;
use diesel::sql_types::HasSqlType;
use diesel::sqlite::{Sqlite, SqliteConnection};
use diesel_async::AsyncPgConnection;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

/// A statement that returns rows of the SQL types `Returned`. In its text each `?` stands for the next bind.
pub(crate) struct Statement<'a, DB: Backend, Returned> {
    sql: &'static str,
    binds: Vec<Box<dyn Bind<DB> + 'a>>,
    returned: PhantomData<fn() -> Returned>,
}

trait Bind<DB: Backend>: Send + Sync {
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()>;
}

struct TypedBind<SqlType, Value> {
    value: Value,
    sql_type: PhantomData<fn() -> SqlType>,
}

impl<DB, SqlType, Value> Bind<DB> for TypedBind<SqlType, Value>
where
    DB: Backend + HasSqlType<SqlType>,
    SqlType: 'static,
    Value: ToSql<SqlType, DB> + Send + Sync,
{
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_bind_param::<SqlType, Value>(&self.value)
    }
}

impl<'a, DB: Backend, Returned> Statement<'a, DB, Returned> {
    pub(crate) fn new(sql: &'static str) -> Self {
        Self { sql, binds: Vec::new(), returned: PhantomData }
    }

    pub(crate) fn bind<SqlType, Value>(mut self, value: Value) -> Self
    where
        DB: HasSqlType<SqlType>,
        SqlType: 'static,
        Value: ToSql<SqlType, DB> + Send + Sync + 'a,
    {
        self.binds.push(Box::new(TypedBind::<SqlType, Value> { value, sql_type: PhantomData }));
        self
    }
}

impl<DB: Backend, Returned> QueryId for Statement<'_, DB, Returned> {
    type QueryId = ();
    // Without a static id the connection's cache goes by the text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB: Backend, Returned> Query for Statement<'_, DB, Returned> {
    type SqlType = Returned;
}

impl<DB: Backend, Returned> QueryFragment<DB> for Statement<'_, DB, Returned> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let mut binds = self.binds.iter();
        let mut parts = self.sql.split('?');
        if let Some(first) = parts.next() {
            out.push_sql(first);
        }
        for part in parts {
            let bind = binds.next().ok_or_else(|| {
                diesel::result::Error::QueryBuilderError("a statement has fewer binds than places".into())
            })?;
            bind.push(&mut out)?;
            out.push_sql(part);
        }
        Ok(())
    }
}

impl<DB: Backend, Returned> diesel::query_dsl::RunQueryDsl<SqliteConnection> for Statement<'_, DB, Returned> {}

// The futures are boxed: it costs nothing beside a round trip, and their types stay within what the compiler can prove
// to be `Send` inside of a transaction.
impl<'a, Returned: 'a> Statement<'a, Pg, Returned> {
    /// Runs the statement and reads all rows.
    pub(crate) fn rows<'c, Row>(self, conn: &'c mut AsyncPgConnection) -> BoxFuture<'c, QueryResult<Vec<Row>>>
    where
        'a: 'c,
        Row: Send + 'c,
        Self: diesel_async::methods::LoadQuery<'c, AsyncPgConnection, Row>,
    {
        diesel_async::RunQueryDsl::load(self, conn).boxed()
    }

    /// Runs the statement and reads its first row.
    pub(crate) fn row<'c, Row>(self, conn: &'c mut AsyncPgConnection) -> BoxFuture<'c, QueryResult<Row>>
    where
        'a: 'c,
        Row: Send + 'c,
        Self: diesel_async::methods::LoadQuery<'c, AsyncPgConnection, Row>,
    {
        diesel_async::RunQueryDsl::get_result(self, conn).boxed()
    }

    /// Runs the statement.
    pub(crate) fn run<'c>(self, conn: &'c mut AsyncPgConnection) -> BoxFuture<'c, QueryResult<usize>>
    where
        'a: 'c,
    {
        diesel_async::RunQueryDsl::execute(self, conn).boxed()
    }
}

impl<'a, Returned> Statement<'a, Sqlite, Returned> {
    /// Runs the statement and reads all rows.
    pub(crate) fn rows<'q, Row>(self, conn: &mut SqliteConnection) -> QueryResult<Vec<Row>>
    where
        Self: LoadQuery<'q, SqliteConnection, Row>,
    {
        diesel::RunQueryDsl::load(self, conn)
    }

    /// Runs the statement and reads its first row.
    pub(crate) fn row<'q, Row>(self, conn: &mut SqliteConnection) -> QueryResult<Row>
    where
        Self: LoadQuery<'q, SqliteConnection, Row>,
    {
        diesel::RunQueryDsl::get_result(self, conn)
    }

    /// Runs the statement.
    pub(crate) fn run(self, conn: &mut SqliteConnection) -> QueryResult<usize> {
        diesel::RunQueryDsl::execute(self, conn)
    }
}
