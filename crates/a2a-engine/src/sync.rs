//! Mode `backup`: the process works in memory, and brings it together with the database from time to time and at its end.
//!
//! A sync that fails loses nothing: memory goes on, and the next one, soon, carries all of it. What it does when others
//! have written to the database meanwhile is said in `a2a_store::snapshot::sync`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use a2a_core::time::Timestamp;
use a2a_store::snapshot::sync::Mirror;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A sync that takes longer is given up: the largest database takes a fraction of it.
const SYNC_LIMIT: Duration = Duration::from_secs(5 * 60);
/// The last sync of a process: the largest databases take about as long, and one that is silent is not waited for longer.
const LAST_LIMIT: Duration = Duration::from_secs(15);
/// The pause after a sync that failed; it doubles up to the longest, and never beyond the interval.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// How the syncs are doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncStats {
    /// When both were equal last.
    pub synced_at: Timestamp,
    /// When the next one begins.
    pub next_at: Timestamp,
    /// Changes that the database does not have yet.
    pub waiting: u64,
    /// Rows written into the database by the last sync.
    pub written: usize,
    /// Rows that it has brought from there.
    pub taken: usize,
    /// Syncs that have failed since the last one that did not.
    pub failures: u32,
    /// Why the last one failed: `None` when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl SyncStats {
    /// The mode of the process with how it is doing, in one line, for those who look after the database.
    pub(crate) fn as_mode(&self) -> String {
        let failed = match self.failures {
            0 => String::new(),
            failures => format!(", {failures} failed since"),
        };
        format!("backup, synced at {}{failed}, {} changes not yet synced", self.synced_at, self.waiting)
    }
}

/// The task that syncs.
#[derive(Debug)]
pub(crate) struct Syncer {
    mirror: Mirror,
    interval: Duration,
    stats: Mutex<SyncStats>,
    /// One sync at a time.
    turn: AsyncMutex<()>,
    stop: CancellationToken,
}

impl Syncer {
    /// Starts it, with everything loaded a moment ago.
    pub(crate) fn start(mirror: Mirror, interval: Duration) -> Arc<Self> {
        let stats = SyncStats {
            synced_at: now(),
            next_at: after(interval),
            waiting: 0,
            written: 0,
            taken: 0,
            failures: 0,
            error: None,
        };
        let syncer = Self {
            mirror,
            interval,
            stats: Mutex::new(stats),
            turn: AsyncMutex::new(()),
            stop: CancellationToken::new(),
        };
        let syncer = Arc::new(syncer);
        tokio::spawn(syncer.clone().run());
        syncer
    }

    async fn run(self: Arc<Self>) {
        let mut pause = self.interval;
        loop {
            self.stats.lock().next_at = after(pause);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.sync(SYNC_LIMIT).await {
                Ok(()) => self.interval,
                Err(failures) => {
                    let doubled = RETRY.saturating_mul(1 << failures.saturating_sub(1).min(6));
                    doubled.min(RETRY_LONGEST).min(self.interval)
                }
            };
        }
    }

    /// One sync. An error says how many have failed in a row.
    async fn sync(&self, limit: Duration) -> Result<(), u32> {
        let _turn = self.turn.lock().await;
        let error = match timeout(limit, self.mirror.sync()).await {
            Ok(Ok(synced)) => {
                let mut stats = self.stats.lock();
                stats.synced_at = now();
                (stats.written, stats.taken) = (synced.written, synced.taken);
                (stats.failures, stats.error) = (0, None);
                if !synced.replaced.is_empty() {
                    tracing::warn!(runs = ?synced.replaced, "these runs went on here and in the database; one state of each stays");
                }
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took longer than {} s", limit.as_secs()),
        };
        let mut stats = self.stats.lock();
        stats.failures += 1;
        // The log is read by people: once for each reason.
        if stats.error.as_ref() != Some(&error) {
            tracing::warn!(%error, "memory was not synced to the database; nothing is lost while this process runs, and it tries again");
        }
        stats.error = Some(error);
        Err(stats.failures)
    }

    /// How it is doing.
    pub(crate) async fn stats(&self) -> SyncStats {
        let waiting = self.mirror.waiting().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what is not synced yet can't be counted");
            u64::MAX
        });
        SyncStats { waiting, ..self.stats.lock().clone() }
    }

    /// When the next sync begins.
    pub(crate) fn next_at(&self) -> Timestamp {
        self.stats.lock().next_at
    }

    /// The last sync, within a time. Says on standard error when it could not.
    pub(crate) async fn finish(&self) {
        self.stop.cancel();
        let last = timeout(LAST_LIMIT, self.sync(LAST_LIMIT)).await;
        if matches!(last, Ok(Ok(()))) {
            return;
        }
        let stats = self.stats().await;
        tracing::error!(
            changes = stats.waiting,
            last_sync = %stats.synced_at,
            error = stats.error.as_deref().unwrap_or("it took too long"),
            "the last sync to the database has failed; what changed since the sync before it is lost"
        );
    }
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

fn after(pause: Duration) -> Timestamp {
    Timestamp::from_system_time(SystemTime::now() + pause)
}
