//! Databases to run on, and the death of a process at a write that is chosen beforehand.
//!
//! On Postgres the process talks through a proxy, which from the chosen COMMIT on lets nothing through any more: the
//! COMMIT itself, or its answer. On SQLite the system kills the process in the middle of the chosen transaction, or of the
//! one after it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use a2a_testing::fault_proxy::{Action, ArmedFault, FaultProxy, Trigger};
use a2a_testing::postgres::{Template, TestDatabase, template_database};
use a2a_testing::sqlite_fault;
use a2a_testing::stdio::{ServerOptions, ServerProcess};
use a2a_testing::wait::wait_until;
use tempfile::TempDir;

use super::ways::examples;
use crate::world::{World, binary};

/// How the process ends at a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// Before it is committed.
    WriteLost,
    /// After it is committed, and before anybody is told.
    AnswerLost,
}

/// What a run writes.
#[derive(Debug, Clone)]
pub(super) struct Undisturbed {
    pub(super) writes: usize,
    /// How many rows there are after each transaction on SQLite.
    ends: Vec<u64>,
    /// Transactions on Postgres that did not write anything of the run, as far as is known.
    empty: usize,
}

/// A database with the agents and workflows of the examples, to make copies of.
pub(super) enum Place {
    /// With copies that are free again: to make one takes longer than a run.
    Postgres(Template, Mutex<Vec<TestDatabase>>),
    Sqlite(PathBuf),
}

/// Writes the examples into a database.
fn fill(variable: &str, value: &str) -> Result<(), String> {
    for args in [["agents", "deploy", &examples("agents")], ["workflows", "save", &examples("workflows")]] {
        let mut command = Command::new(binary());
        let home = tempfile::tempdir().unwrap();
        command.env_clear().env("HOME", home.path()).env(variable, value).args(args).stdin(Stdio::null());
        let done = command.output().unwrap();
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
    }
    Ok(())
}

/// Names the content of some folders, so that a server that is kept between runs does not keep old examples.
fn content_of(folders: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for entry in entries {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                std::fs::read(entry).unwrap().hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

impl Place {
    pub(super) async fn postgres(world: &World) -> Self {
        let World::Postgres(database) = world else { panic!("this is SQLite") };
        let migrations = format!("{}/../../migrations/postgres", env!("CARGO_MANIFEST_DIR"));
        let key = format!("run_faults_{:x}", content_of(&[examples("agents"), examples("workflows"), migrations]));
        let filling = async |url: String| fill("DATABASE_URL", &url);
        Self::Postgres(template_database(database.server(), &key, filling).await, Mutex::default())
    }

    pub(super) async fn sqlite(world: &World) -> Self {
        let World::Sqlite(folder) = world else { panic!("this is Postgres") };
        fill("A2A_DATA_DIR", folder.path().to_str().unwrap()).unwrap();
        // Whoever is the last to close the database moves the log into it, and a process may end without closing.
        let moved = async || {
            world.server().await.finish().await;
            !folder.path().join("a2a.db-wal").exists()
        };
        wait_until(Duration::from_secs(20), "everything is in the database itself", moved).await;
        Self::Sqlite(folder.path().join("a2a.db"))
    }

    pub(super) async fn copy(&self) -> Database {
        match self {
            Self::Postgres(template, free) => {
                let free = free.lock().unwrap().pop();
                Database::Postgres(match free {
                    Some(database) => database,
                    None => TestDatabase::from_template(template).await,
                })
            }
            Self::Sqlite(path) => {
                let folder = tempfile::Builder::new().prefix("a2a-data-").tempdir().unwrap();
                std::fs::copy(path, folder.path().join("a2a.db")).unwrap();
                Database::Sqlite(folder)
            }
        }
    }

    /// Takes a copy back that is not used any more.
    pub(super) async fn give_back(&self, database: Database) {
        if let (Self::Postgres(_, free), Database::Postgres(database)) = (self, database) {
            // Waits until the sessions of dead processes are over.
            let emptied = "TRUNCATE runs, steps; DELETE FROM change_log WHERE entity IN ('run', 'step')";
            database.execute(emptied).await;
            free.lock().unwrap().push(database);
        }
    }
}

/// A copy for one run.
pub(super) enum Database {
    Postgres(TestDatabase),
    Sqlite(TempDir),
}

fn database_file(folder: &TempDir) -> PathBuf {
    folder.path().join("a2a.db")
}

impl Database {
    pub(super) fn options(&self) -> ServerOptions {
        let options = match self {
            Self::Postgres(database) => ServerOptions::new(&["serve"], &[("DATABASE_URL", &database.url())]),
            Self::Sqlite(folder) => {
                ServerOptions::new(&["serve"], &[("A2A_DATA_DIR", folder.path().to_str().unwrap())])
            }
        };
        // What agents learn is written whenever there is time: no two runs would write the same.
        options.env("A2A_LEARN", "false")
    }

    /// The same, on a way that can be interrupted.
    pub(super) async fn through_proxy(&self, options: ServerOptions) -> (ServerOptions, Option<FaultProxy>) {
        match self {
            Self::Postgres(database) => {
                let proxy = FaultProxy::start_for(&database.url()).await;
                (options.env("DATABASE_URL", &proxy.url(&database.url())), Some(proxy))
            }
            Self::Sqlite(_) => (options, None),
        }
    }

    /// What was written since the copy was made.
    pub(super) async fn written(&self) -> Undisturbed {
        match self {
            Self::Postgres(database) => {
                Undisturbed { writes: transactions(database).await, ends: Vec::new(), empty: 0 }
            }
            Self::Sqlite(folder) => {
                let ends = sqlite_fault::transactions(&database_file(folder));
                Undisturbed { writes: ends.len(), ends, empty: 0 }
            }
        }
    }

    /// Lets a process die at a write, counted from 1.
    pub(super) fn arm(
        &self,
        proxy: Option<FaultProxy>,
        server: &ServerProcess,
        write: usize,
        death: Death,
        undisturbed: &Undisturbed,
    ) -> Armed {
        match (self, proxy) {
            (Self::Postgres(_), Some(proxy)) => {
                let trigger = match death {
                    Death::WriteLost => Trigger::BeforeCommit,
                    Death::AnswerLost => Trigger::AfterCommit,
                };
                // Of several faults the oldest fires, and this one does nothing.
                let before = u64::try_from(write + undisturbed.empty - 1).unwrap();
                if before > 0 {
                    proxy.arm(trigger.clone(), Action::Delay(Duration::ZERO), before);
                }
                let fault = proxy.arm(trigger, Action::BlackHole, 1);
                Armed { proxied: Some((fault, proxy)), counted: None }
            }
            (Self::Sqlite(folder), _) => {
                let database = database_file(folder);
                let before = write - usize::from(death == Death::WriteLost);
                let rows = before.checked_sub(1).map_or(0, |last| undisturbed.ends[last]);
                sqlite_fault::arm(&database, rows + 1);
                server.kill_at_file_size(sqlite_fault::FILE_LIMIT);
                let counted = (death == Death::AnswerLost).then_some((database, rows));
                Armed { proxied: None, counted }
            }
            (Self::Postgres(_), None) => panic!("a process on Postgres is reached by its proxy"),
        }
    }

    /// Lets a process live that comes after the one that had to die.
    pub(super) fn disarm(&self) {
        if let Self::Sqlite(folder) = self {
            sqlite_fault::disarm(&database_file(folder));
        }
    }

    /// How many writes a dead process has made. Learns from it where the next one has to die, if not `expected`.
    pub(super) async fn learn(&self, undisturbed: &mut Undisturbed, expected: usize) -> usize {
        let written = self.written().await;
        if written.writes < expected {
            undisturbed.empty += expected - written.writes;
        } else {
            undisturbed.empty = undisturbed.empty.saturating_sub(written.writes - expected);
        }
        for (known, seen) in undisturbed.ends.iter_mut().zip(&written.ends) {
            *known = *seen;
        }
        written.writes
    }
}

/// How many transactions have changed a run or a step.
async fn transactions(database: &TestDatabase) -> usize {
    let query = "SELECT count(DISTINCT xid) FROM change_log WHERE entity IN ('run', 'step')";
    let row = database.client().await.query_one(query, &[]).await.unwrap();
    usize::try_from(row.get::<_, i64>(0)).unwrap()
}

/// The death that waits for a process.
#[derive(Default)]
pub(super) struct Armed {
    /// Dropping the proxy resets the connections of the dead process.
    proxied: Option<(ArmedFault, FaultProxy)>,
    /// The database file, and how many rows it may have.
    counted: Option<(PathBuf, u64)>,
}

impl Armed {
    /// Returns when the process is cut off from its database.
    pub(super) async fn fired(&self) {
        match &self.proxied {
            Some((fault, _)) => while !fault.wait_fired(1, Duration::from_secs(600)).await {},
            None => std::future::pending().await,
        }
    }

    /// Whether its time has come. On SQLite it may have answered since its last write, which nobody is to learn then.
    pub(super) fn has_fired(&self) -> bool {
        let cut_off = self.proxied.as_ref().is_some_and(|(fault, _)| fault.fired() > 0);
        let is_full = |(path, limit): &(PathBuf, u64)| sqlite_fault::rows(path) >= *limit;
        cut_off || self.counted.as_ref().is_some_and(is_full)
    }
}
