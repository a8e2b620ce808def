//! The least that durable steps cost: a row each, each committed for itself.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, Statement};

use crate::Database;
use crate::python::Python;

/// Inserts over one connection.
pub(crate) enum Floor {
    Postgres(Client, Statement),
    /// In Python, whose own share of a commit is small.
    Sqlite(Option<Python>),
}

impl Floor {
    pub(crate) async fn of(database: &Database) -> Self {
        match database {
            Database::Postgres(database) => {
                let client = database.client().await;
                client
                    .batch_execute("CREATE TABLE floor (id bigserial PRIMARY KEY, output json NOT NULL)")
                    .await
                    .unwrap();
                let insert = client.prepare("INSERT INTO floor (output) VALUES ($1::text::json)").await.unwrap();
                Self::Postgres(client, insert)
            }
            Database::Sqlite(folder) => {
                let file = folder.path().join("floor.db").display().to_string();
                Self::Sqlite(Python::start("floor.py", &[], &[&file]))
            }
        }
    }

    /// How long so many commits take, when they can be measured.
    pub(crate) async fn commit(&mut self, commits: usize) -> Option<Duration> {
        match self {
            Self::Postgres(client, insert) => {
                let begin = Instant::now();
                for number in 0..commits {
                    let output = format!("{{\"number\":{number}}}");
                    client.execute(&*insert, &[&output]).await.unwrap();
                }
                Some(begin.elapsed())
            }
            Self::Sqlite(python) => python.as_mut().map(|python| python.measure(&commits.to_string())),
        }
    }
}
