//! The clock of the database, as far as a process can tell.
//!
//! Everything that is due is due by the clock of the database. A process whose own clock is wrong would look too often
//! or too late; so it learns from the feed by how much it is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use a2a_core::time::Timestamp;

/// The difference between the clock of the database and that of this process.
#[derive(Debug, Default)]
pub struct DatabaseClock {
    /// By how many milliseconds the database is ahead.
    ahead_ms: AtomicI64,
}

impl DatabaseClock {
    /// The time of the database.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(own().0.saturating_add(self.ahead_ms.load(Ordering::Relaxed)))
    }

    /// By how many milliseconds the database is ahead of this process.
    #[must_use]
    pub fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }

    /// The database is ahead by so many milliseconds.
    pub fn set_ahead_ms(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
    }
}

/// By how many milliseconds the database was ahead when it told its time between `asked` and now.
pub(crate) fn ahead_ms(asked: Timestamp, told: Timestamp) -> i64 {
    let heard = own();
    let between = asked.0.saturating_add(heard.0.saturating_sub(asked.0) / 2);
    told.0.saturating_sub(between)
}

/// The time of this process.
pub(crate) fn own() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_database_is_that_of_this_process_and_the_difference() {
        let clock = DatabaseClock::default();
        for ahead in [0, 11_000, -11_000] {
            clock.set_ahead_ms(ahead);
            let (before, now, after) = (own(), clock.now(), own());
            assert!((before.0..=after.0).contains(&(now.0 - ahead)));
        }
        // An exchange of 40 ms in the middle of which the database has told its time.
        let asked = Timestamp(own().0 - 40);
        assert!((ahead_ms(asked, Timestamp(asked.0 + 20 + 7_000)) - 7_000).abs() < 15);
    }
}
