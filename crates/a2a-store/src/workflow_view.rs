//! What every process knows of workflows: the cache, and a signal for those who wait for work.

use std::time::SystemTime;

use a2a_core::time::Timestamp;
use a2a_core::workflow::live::{WorkflowCache, WorkflowCommitted};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;

use crate::clock::DatabaseClock;

/// The workflows and live runs in memory. Written by the workflow writer and the feed, read by everybody.
#[derive(Debug)]
pub struct WorkflowView {
    /// Held for microseconds, never while waiting.
    cache: RwLock<WorkflowCache>,
    /// Counts changes; a watch, because whoever waits for work needs the last one only.
    changed: watch::Sender<u64>,
    clock: DatabaseClock,
}

impl Default for WorkflowView {
    fn default() -> Self {
        Self { cache: RwLock::default(), changed: watch::Sender::new(0), clock: DatabaseClock::default() }
    }
}

impl WorkflowView {
    /// Reads the cache; the guard must not be held across a wait.
    pub fn read(&self) -> RwLockReadGuard<'_, WorkflowCache> {
        self.cache.read()
    }

    /// The clock by which everything is due.
    #[must_use]
    pub fn clock(&self) -> &DatabaseClock {
        &self.clock
    }

    /// Puts committed states into the cache and wakes those who wait.
    pub fn apply(&self, states: impl IntoIterator<Item = WorkflowCommitted>) {
        let now = Timestamp::from_system_time(SystemTime::now());
        let mut changed = false;
        {
            let mut cache = self.cache.write();
            for state in states {
                changed |= cache.apply(state, now);
            }
        }
        if changed {
            self.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Changes the cache as a whole, as a reload does, and wakes those who wait.
    pub fn update(&self, change: impl FnOnce(&mut WorkflowCache)) {
        change(&mut self.cache.write());
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Forgets what was heard before a time of what has gone.
    pub fn forget_before(&self, time: Timestamp) {
        self.cache.write().forget_before(time);
    }

    /// Follows the changes.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
