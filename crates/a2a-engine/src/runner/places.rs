//! How much a process works on at once.

use std::sync::Arc;

use a2a_core::agent::ExecutorKind;
use tokio::sync::Semaphore;

/// A task at another agent costs this process a question every few seconds, so that it may wait for as many for each
/// place of its own. Their inputs are in memory meanwhile.
const REMOTE_PER_PLACE: usize = 8;

/// A place for each step that is worked on.
pub(super) struct Places {
    /// For what this process works on itself.
    pub(super) here: Arc<Semaphore>,
    /// For what it only waits for, maybe for hours: it must not keep other steps from their places.
    pub(super) remote: Arc<Semaphore>,
}

/// Which places are all taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Full {
    pub(super) here: bool,
    pub(super) remote: bool,
}

impl Places {
    pub(super) fn new(steps_max: usize) -> Self {
        let places = |places| Arc::new(Semaphore::new(places));
        Self { here: places(steps_max), remote: places(steps_max * REMOTE_PER_PLACE) }
    }

    pub(super) fn of(&self, kind: ExecutorKind) -> &Arc<Semaphore> {
        if is_remote(kind) { &self.remote } else { &self.here }
    }

    pub(super) fn full(&self) -> Full {
        Full { here: self.here.available_permits() == 0, remote: self.remote.available_permits() == 0 }
    }
}

/// Whether steps of this kind are worked on elsewhere, and only waited for here.
pub(super) fn is_remote(kind: ExecutorKind) -> bool {
    kind == ExecutorKind::A2a
}
