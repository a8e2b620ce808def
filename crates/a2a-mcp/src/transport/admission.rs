//! Which requests are in work, and whether one more may come in.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::model::RequestId;
use tokio::sync::Notify;

/// Most bytes of requests in work at once. One message may be 4 MiB, and its parsed form several times that.
const BYTES_IN_WORK_MAX: usize = 32 * 1024 * 1024;
/// How many cancelled ids are remembered; each may still have a handler that has not noticed.
const CANCELLED_IDS_MAX: usize = 1024;

/// Whether a request may go to the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Granted,
    /// Not before another one was answered.
    Full,
    /// A request with this id is in work.
    InWork,
    /// A request with this id was cancelled. Its late answer would be taken for the answer to this one.
    Cancelled,
}

/// The requests in work.
#[derive(Debug)]
pub(super) struct Calls {
    calls_max: usize,
    state: Mutex<State>,
    /// Wakes the reader when there is room again, or when the output was closed. One waiter; a wake-up is kept.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Requests without an answer, with the length of their text.
    unanswered: HashMap<RequestId, usize>,
    /// Requests without a written answer: an answer takes memory until the peer has read it.
    calls: usize,
    bytes: usize,
    cancelled: VecDeque<RequestId>,
    /// The reader found no room, so that the next release has to wake it.
    room_awaited: bool,
}

impl State {
    fn has_room(&self, calls_max: usize, bytes: usize) -> bool {
        // A single request is always let in, however long.
        self.calls == 0 || (self.calls < calls_max && self.bytes + bytes <= BYTES_IN_WORK_MAX)
    }

    fn release(&mut self, bytes: usize) -> bool {
        self.calls = self.calls.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        std::mem::take(&mut self.room_awaited)
    }
}

impl Calls {
    pub(super) fn new(calls_max: usize) -> Self {
        Self { calls_max, state: Mutex::default(), changed: Notify::new() }
    }

    /// Lets a request in, if it may.
    pub(super) fn admit(&self, id: &RequestId, bytes: usize) -> Admission {
        let mut state = self.state();
        if state.unanswered.contains_key(id) {
            return Admission::InWork;
        }
        if state.cancelled.contains(id) {
            return Admission::Cancelled;
        }
        if !state.has_room(self.calls_max, bytes) {
            state.room_awaited = true;
            return Admission::Full;
        }
        state.unanswered.insert(id.clone(), bytes);
        state.calls += 1;
        state.bytes += bytes;
        Admission::Granted
    }

    /// Notes that the answer is on its way. The room is free when the returned guard is dropped, after the write;
    /// the id is free at once, because the peer may use it again as soon as it has read the answer.
    pub(super) fn answered(self: &Arc<Self>, id: &RequestId) -> Option<WrittenGuard> {
        let bytes = self.state().unanswered.remove(id)?;
        Some(WrittenGuard { calls: Arc::clone(self), bytes })
    }

    /// Notes that the peer no longer wants the answer, and that the server will not send it.
    /// Tells whether the request was in work.
    pub(super) fn cancelled(&self, id: &RequestId) -> bool {
        let wake = {
            let mut state = self.state();
            let Some(bytes) = state.unanswered.remove(id) else {
                return false;
            };
            if state.cancelled.len() == CANCELLED_IDS_MAX {
                state.cancelled.pop_front();
            }
            state.cancelled.push_back(id.clone());
            state.release(bytes)
        };
        self.wake_if(wake);
        true
    }

    fn wake_if(&self, wake: bool) {
        if wake {
            self.changed.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that could panic, so that a poisoned lock is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds the room of an answer that is not written yet.
#[derive(Debug)]
pub(super) struct WrittenGuard {
    calls: Arc<Calls>,
    bytes: usize,
}

impl Drop for WrittenGuard {
    fn drop(&mut self) {
        let wake = self.calls.state().release(self.bytes);
        self.calls.wake_if(wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: i64) -> RequestId {
        RequestId::Number(number)
    }

    #[test]
    fn room_is_free_after_the_write_and_the_id_before_it() {
        let calls = Arc::new(Calls::new(2));
        assert_eq!(calls.admit(&id(1), 10), Admission::Granted);
        assert_eq!(calls.admit(&id(1), 10), Admission::InWork);
        assert_eq!(calls.admit(&id(2), 10), Admission::Granted);
        assert_eq!(calls.admit(&id(3), 10), Admission::Full);
        let guard = calls.answered(&id(1)).unwrap();
        assert!(calls.answered(&id(1)).is_none());
        assert_eq!(calls.admit(&id(1), 10), Admission::Full);
        drop(guard);
        assert_eq!(calls.admit(&id(1), 10), Admission::Granted);
    }

    #[test]
    fn bytes_are_bounded_but_one_request_always_comes_in() {
        let calls = Arc::new(Calls::new(64));
        assert_eq!(calls.admit(&id(1), BYTES_IN_WORK_MAX + 1), Admission::Granted);
        assert_eq!(calls.admit(&id(2), 1), Admission::Full);
        drop(calls.answered(&id(1)));
        assert_eq!(calls.admit(&id(2), 1), Admission::Granted);
        assert_eq!(calls.admit(&id(3), BYTES_IN_WORK_MAX), Admission::Full);
        assert_eq!(calls.admit(&id(3), BYTES_IN_WORK_MAX - 1), Admission::Granted);
    }

    #[test]
    fn a_cancelled_request_gives_its_room_but_not_its_id() {
        let calls = Arc::new(Calls::new(1));
        assert_eq!(calls.admit(&id(1), 0), Admission::Granted);
        assert!(calls.cancelled(&id(1)));
        assert!(!calls.cancelled(&id(1)));
        assert_eq!(calls.admit(&id(1), 0), Admission::Cancelled);
        assert_eq!(calls.admit(&id(2), 0), Admission::Granted);
        for number in 3..3 + CANCELLED_IDS_MAX as i64 {
            assert!(calls.cancelled(&id(number - 1)));
            assert_eq!(calls.admit(&id(number), 0), Admission::Granted);
        }
        assert_eq!(calls.state().cancelled.len(), CANCELLED_IDS_MAX);
    }
}
