//! A sign of life in the database, for those who look after it: `doctor` lists what each running process uses.
//!
//! Nothing depends on it. A sign that can't be given is left out, and the next one comes at its time.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use a2a_store::error::StoreError;
use a2a_store::store::{Location, ProcessInfo, Store};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::maintenance;
use crate::sync::Syncer;

/// A process that ends sooner is listed nowhere and costs nothing; by then its client has said who it is.
const FIRST: Duration = Duration::from_secs(5);
/// Often enough for people, and rare beside everything else.
const INTERVAL: Duration = Duration::from_secs(15);
/// A process that was silent for longer is taken for dead by `doctor`: three signs are missing.
pub(crate) const SILENT: Duration = Duration::from_secs(45);
/// A sign that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(5);

/// The task that gives the signs.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    store: Store,
    id: String,
    stop: CancellationToken,
    /// Tells whether it has given any.
    task: Mutex<Option<JoinHandle<bool>>>,
}

impl Heartbeat {
    /// Starts it, unless this process is no server or keeps nothing in a database.
    pub(crate) fn start(
        config: &Config,
        store: Store,
        client: Arc<OnceLock<String>>,
        syncer: Option<Arc<Syncer>>,
    ) -> Option<Self> {
        let kind = config.process_kind?;
        if matches!(config.location, Location::Memory) || store.is_read_only() {
            return None;
        }
        let id = uuid::Uuid::now_v7().to_string();
        let info = ProcessInfo {
            id: id.clone(),
            kind: kind.to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: i64::from(std::process::id()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: String::new(),
            mode: config.storage.to_string(),
            namespace: config.namespace.to_string(),
            client: None,
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(store.clone(), info, client, syncer, stop.clone()));
        Some(Self { store, id, stop, task: Mutex::new(Some(task)) })
    }

    /// Ends it and takes the row away, within a time.
    pub(crate) async fn leave(&self, limit: Duration) {
        // Ordering: a sign that is under way would bring the row back.
        self.stop.cancel();
        let task = self.task.lock().take();
        let left = timeout(limit, async {
            let Some(task) = task else { return Ok(()) };
            let has_row = task.await.map_err(|error| StoreError::Task(error.to_string()))?;
            if has_row { self.store.process_leave(&self.id).await } else { Ok(()) }
        });
        match left.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the row of this process was not taken away"),
            Err(_) => tracing::debug!("the row of this process was not taken away in time"),
        }
    }
}

async fn run(
    store: Store,
    mut info: ProcessInfo,
    client: Arc<OnceLock<String>>,
    syncer: Option<Arc<Syncer>>,
    stop: CancellationToken,
) -> bool {
    let mut has_row = false;
    let mut ticks = interval_at(Instant::now() + FIRST, INTERVAL);
    // A machine that has slept owes no signs.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return has_row,
            _ = ticks.tick() => {}
        }
        if !has_row && let Ok(known) = maintenance::migrate_known().await {
            info.schema = known.last().map(|step| step.name.clone()).unwrap_or_default();
        }
        info.client = client.get().cloned();
        if let Some(syncer) = &syncer {
            info.mode = syncer.stats().await.as_mode();
        }
        // Also one whose outcome is not known may have made it.
        has_row = true;
        match timeout(LIMIT, store.process_beat(&info)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "no sign of life was given"),
            Err(_) => tracing::debug!("a sign of life took too long"),
        }
    }
}
