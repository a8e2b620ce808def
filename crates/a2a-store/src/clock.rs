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

    /// Learns from an exchange. What agrees with it stays: exchanges take their time, and a difference that follows each
    /// of them is wrong by that. Otherwise the least possible one is taken, because looking at something too early costs
    /// more than looking at it a moment late.
    pub(crate) fn learn(&self, told: Told) {
        let (least, most) = (told.at.0.saturating_sub(told.heard.0), told.at.0.saturating_sub(told.asked.0));
        if !(least..=most).contains(&self.ahead_ms()) {
            self.set_ahead_ms(least);
        }
    }
}

/// A time that the database has told, and the times of this process around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    asked: Timestamp,
    at: Timestamp,
    heard: Timestamp,
}

impl Told {
    /// The answer to a question of that time, which has just come.
    pub(crate) fn now(asked: Timestamp, at: Timestamp) -> Self {
        Self { asked, at, heard: own() }
    }
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
    }

    #[test]
    fn a_difference_stays_as_long_as_exchanges_agree_with_it() {
        let clock = DatabaseClock::default();
        for (asked, at, heard, expected) in [
            // Equal clocks, whatever the exchange takes.
            (1_000, 1_000, 1_000, 0),
            (2_000, 2_001, 2_900, 0),
            (3_000, 3_899, 3_900, 0),
            // The database is 11 s ahead; the second exchange is quicker, the third one slow.
            (4_000, 15_020, 4_040, 10_980),
            (5_000, 16_001, 5_002, 10_999),
            (6_000, 17_900, 7_000, 10_999),
            // Somebody has put one of the clocks right.
            (7_000, 7_010, 7_020, -10),
        ] {
            let (asked, at, heard) = (Timestamp(asked), Timestamp(at), Timestamp(heard));
            clock.learn(Told { asked, at, heard });
            assert_eq!(clock.ahead_ms(), expected, "{at}");
        }
    }
}
