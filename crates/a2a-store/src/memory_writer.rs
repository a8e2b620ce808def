//! The writer of memories: the one task of a process that commits them, and what notes that they were recalled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use a2a_core::ids::MemoryId;
use a2a_core::memory::command::{MemoryCommand, MemoryCommitted, MemoryOutcome};
use a2a_core::time::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::batch_writer::{BatchWriter, Committing};
use crate::error::StoreError;
use crate::memory_view::MemoryView;
use crate::store::{MemoryTouch, Store};
use crate::writer::WriteError;

/// How long recalls are gathered before they are written.
const TOUCH_INTERVAL: Duration = Duration::from_secs(1);
/// Memories whose recalls are gathered at most; what comes beyond within a second is not counted.
const TOUCHED_MAX: usize = 10_000;

/// The way to the writer of memories. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryWriter {
    writer: BatchWriter<Memories>,
    touched: Arc<Touched>,
}

struct Memories(Arc<MemoryView>);

/// Recalls that are not written yet.
#[derive(Debug, Default)]
struct Touched {
    counts: Mutex<HashMap<MemoryId, (u32, Timestamp)>>,
    any: Notify,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl MemoryWriter {
    /// Starts the tasks. `committed` is notified after each commit.
    #[must_use]
    pub fn start(store: Store, view: Arc<MemoryView>, committed: Arc<Notify>) -> Self {
        let touched = Arc::new(Touched::default());
        touched.tasks.spawn(write_touched(store.clone(), view.clone(), touched.clone()));
        touched.tasks.close();
        Self { writer: BatchWriter::start(Memories(view), store, committed), touched }
    }

    /// Commits commands, and returns an outcome for each.
    ///
    /// # Errors
    /// As [`WriteError`] says. After [`WriteError::Unknown`] the same commands may be sent again.
    pub async fn submit(
        &self,
        commands: Vec<MemoryCommand>,
        deadline: Instant,
    ) -> Result<Vec<MemoryOutcome>, WriteError> {
        self.writer.submit(commands, deadline).await
    }

    /// Notes that memories were recalled. It is written within a second or so, and at the end.
    pub fn touched(&self, ids: impl IntoIterator<Item = MemoryId>) {
        if self.writer.is_read_only() {
            return;
        }
        let now = Timestamp::from_system_time(SystemTime::now());
        {
            let mut counts = self.touched.counts.lock();
            for id in ids {
                if counts.len() >= TOUCHED_MAX && !counts.contains_key(&id) {
                    continue;
                }
                let (count, at) = counts.entry(id).or_insert((0, now));
                *count = count.saturating_add(1);
                *at = now;
            }
        }
        self.touched.any.notify_one();
    }

    /// How many commands wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.writer.queued()
    }

    /// Takes no more commands, writes what was accepted, and ends the tasks within `limit`.
    pub async fn close(&self, limit: Duration) {
        self.touched.closing.cancel();
        let (_, written) = tokio::join!(self.writer.close(limit), timeout(limit, self.touched.tasks.wait()));
        if written.is_err() {
            tracing::debug!("the last recalls were not counted");
        }
    }
}

/// Writes recalls, once in a while and at the end.
async fn write_touched(store: Store, view: Arc<MemoryView>, touched: Arc<Touched>) {
    loop {
        tokio::select! {
            () = touched.any.notified() => {}
            () = touched.closing.cancelled() => {}
        }
        tokio::select! {
            () = tokio::time::sleep(TOUCH_INTERVAL) => {}
            () = touched.closing.cancelled() => {}
        }
        let counts = std::mem::take(&mut *touched.counts.lock());
        let touches: Vec<MemoryTouch> =
            counts.into_iter().map(|(id, (count, at))| MemoryTouch { id, count, at }).collect();
        if !touches.is_empty() {
            match store.memories_touch(&touches).await {
                Ok(()) => view.update(|index| {
                    for touch in &touches {
                        let accesses = index.get(touch.id.as_str()).map_or(0, |memory| memory.accesses);
                        index.touch(touch.id.as_str(), accesses.saturating_add(touch.count), touch.at);
                    }
                }),
                // Counts are worth no second try.
                Err(error) => tracing::debug!(%error, "recalls were not counted"),
            }
        }
        if touched.closing.is_cancelled() {
            return;
        }
    }
}

impl Committing for Memories {
    type Command = MemoryCommand;
    type Outcome = MemoryOutcome;
    const WHAT: &'static str = "memories";

    fn bytes_of(command: &MemoryCommand) -> usize {
        command.bytes()
    }

    async fn commit(&self, store: &Store, commands: Vec<MemoryCommand>) -> Result<Vec<MemoryOutcome>, StoreError> {
        store.memory_commit(commands).await
    }

    fn committed<'c>(&self, _: impl Iterator<Item = &'c MemoryCommand>, outcomes: &[MemoryOutcome]) -> bool {
        let states: Vec<MemoryCommitted> = outcomes.iter().flat_map(MemoryOutcome::committed).collect();
        let any = !states.is_empty();
        self.0.apply(states);
        any
    }
}
