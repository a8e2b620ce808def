//! Faults that wait for their statement.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// When, seen from a statement, a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// When the message arrives from the client; it is not passed on, so the statement is never executed.
    Before,
    /// When the message has just been passed on: whether the statement is executed is a matter of chance.
    During,
    /// When the server has answered that the statement, and its transaction if it has one of its own, is complete;
    /// the answer is not passed on. A statement that fails does not count, and its answer is passed on.
    After,
}

/// The statement that a fault waits for, and the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// Before the next COMMIT.
    BeforeCommit,
    /// While the next COMMIT is under way.
    DuringCommit,
    /// After the next COMMIT has been done, before the client knows. A COMMIT that ends as a rollback does not count.
    AfterCommit,
    /// The next execution of a statement that holds this text, letter case ignored.
    Statement {
        /// The text.
        containing: String,
        /// The moment.
        moment: Moment,
    },
}

impl Trigger {
    /// Returns the moment.
    #[must_use]
    pub fn moment(&self) -> Moment {
        match self {
            Self::BeforeCommit => Moment::Before,
            Self::DuringCommit => Moment::During,
            Self::AfterCommit => Moment::After,
            Self::Statement { moment, .. } => *moment,
        }
    }

    /// Whether only an answer that says COMMIT counts as success.
    pub(super) fn wants_commit(&self) -> bool {
        !matches!(self, Self::Statement { .. })
    }

    fn fits(&self, sql: &str) -> bool {
        match self {
            Self::BeforeCommit | Self::DuringCommit | Self::AfterCommit => commits(sql),
            Self::Statement { containing, .. } => sql.to_ascii_lowercase().contains(&containing.to_ascii_lowercase()),
        }
    }
}

/// Whether a text is a COMMIT or, as several statements in one, holds one.
fn commits(sql: &str) -> bool {
    // END is a COMMIT only on its own: between semicolons it ends a block of PL/pgSQL.
    let whole = sql.trim().trim_end_matches(';').trim_end();
    if whole.eq_ignore_ascii_case("end") {
        return true;
    }
    sql.split(';').any(|statement| {
        let mut words = statement.split_ascii_whitespace();
        words.next().is_some_and(|word| word.eq_ignore_ascii_case("commit"))
            && words.next().is_none_or(|word| !word.eq_ignore_ascii_case("prepared"))
    })
}

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Closes both sides of the connection.
    Cut,
    /// Turns the whole proxy into a black hole until that is taken back; then the held bytes go on.
    BlackHole,
    /// Holds the message (before) or its answer (during, after) back for this long.
    Delay(Duration),
}

/// A handle on an armed fault.
#[derive(Debug, Clone)]
pub struct ArmedFault {
    fault: Arc<Fault>,
}

impl ArmedFault {
    /// Returns how often it has fired.
    #[must_use]
    pub fn fired(&self) -> u64 {
        *self.fault.fired.borrow()
    }

    /// Waits until it has fired this often in all; false when it has not within the limit.
    pub async fn wait_fired(&self, times: u64, limit: Duration) -> bool {
        let mut fired = self.fault.fired.subscribe();
        tokio::time::timeout(limit, fired.wait_for(|count| *count >= times)).await.is_ok_and(|seen| seen.is_ok())
    }

    /// Takes it back.
    pub fn disarm(&self) {
        self.fault.left.store(0, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Fault {
    pub(super) trigger: Trigger,
    pub(super) action: Action,
    left: AtomicU64,
    fired: watch::Sender<u64>,
}

impl Fault {
    fn take(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Gives a shot back that was taken for a statement that then failed.
    pub(super) fn give_back(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self) {
        self.fired.send_modify(|count| *count += 1);
    }
}

#[derive(Debug, Default)]
pub(super) struct ArmedFaults {
    faults: Mutex<Vec<Arc<Fault>>>,
}

impl ArmedFaults {
    fn faults(&self) -> MutexGuard<'_, Vec<Arc<Fault>>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arm(&self, trigger: Trigger, action: Action, times: u64) -> ArmedFault {
        let fault = Arc::new(Fault { trigger, action, left: AtomicU64::new(times), fired: watch::Sender::new(0) });
        let mut faults = self.faults();
        // Long tests arm thousands of faults: spent ones that nobody can give a shot back to are forgotten.
        faults.retain(|fault| fault.left.load(Ordering::Relaxed) > 0 || Arc::strong_count(fault) > 1);
        faults.push(Arc::clone(&fault));
        ArmedFault { fault }
    }

    pub(super) fn disarm_all(&self) {
        for fault in self.faults().drain(..) {
            fault.left.store(0, Ordering::Relaxed);
        }
    }

    /// Takes a shot of the first fault that fits.
    pub(super) fn take(&self, sql: &str) -> Option<Arc<Fault>> {
        self.faults().iter().find(|fault| fault.trigger.fits(sql) && fault.take()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_commits_are_commits() {
        for sql in ["COMMIT", " commit ;", "COMMIT TRANSACTION", "insert into t values (1); commit", "END;"] {
            assert!(commits(sql), "{sql}");
        }
        for sql in ["commit prepared 'x'", "rollback", "do $$ begin null; end; $$", "select 'commit'", ""] {
            assert!(!commits(sql), "{sql}");
        }
    }

    #[test]
    fn a_fault_fires_as_often_as_it_is_armed_for() {
        let faults = ArmedFaults::default();
        let trigger = Trigger::Statement { containing: "INTO t".into(), moment: Moment::Before };
        let armed = faults.arm(trigger, Action::Cut, 2);
        assert!(faults.take("select 1").is_none());
        assert!(faults.take("insert into T values (1)").is_some());
        let taken = faults.take("insert into t values (1)").unwrap();
        assert!(faults.take("insert into t values (1)").is_none());
        taken.give_back();
        assert!(faults.take("insert into t values (1)").is_some());
        taken.give_back();
        armed.disarm();
        assert!(faults.take("insert into t values (1)").is_none());
    }
}
