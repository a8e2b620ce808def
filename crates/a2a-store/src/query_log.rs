//! Logs statements: all of them at debug, those that take long as warnings. Values are left out, which are data of users.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

/// What the log calls it: `A2A_LOG=warn,a2a_sql=debug` shows every statement.
const TARGET: &str = "a2a_sql";
/// Longer statements are cut.
const SQL_CHARS_MAX: usize = 600;
/// What comes before the values of a statement.
const VALUES: &str = " -- binds:";

static SLOW_US: AtomicU64 = AtomicU64::new(u64::MAX);

/// Watches the connections that this process makes from now on. What takes as long as `slow` is a warning.
///
/// # Errors
/// When the database library can't be told.
pub fn watch(slow: Duration) -> Result<(), String> {
    SLOW_US.store(u64::try_from(slow.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    set_default_instrumentation(|| Some(Box::new(Watch { started: None }))).map_err(|error| error.to_string())
}

/// Of one connection, which does one statement after the other.
struct Watch {
    started: Option<Instant>,
}

impl Instrumentation for Watch {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => self.started = Some(Instant::now()),
            InstrumentationEvent::FinishQuery { query, error, .. } => {
                let Some(took) = self.started.take().map(|started| started.elapsed()) else { return };
                let slow = took.as_micros() >= u128::from(SLOW_US.load(Ordering::Relaxed));
                let failed = error.is_some();
                let ms = took.as_secs_f64() * 1_000.0;
                if slow {
                    tracing::warn!(target: TARGET, ms, failed, sql = %Sql(query), "slow statement");
                } else {
                    tracing::debug!(target: TARGET, ms, failed, sql = %Sql(query), "statement");
                }
            }
            _ => {}
        }
    }
}

/// The text of a statement in one line, without its values.
struct Sql<'q>(&'q dyn fmt::Display);

impl fmt::Display for Sql<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Bounded(String::new());
        // It refuses what is too long, so that megabytes of values are not written for nothing.
        let _cut = write!(text, "{}", self.0);
        let sql = text.0.split(VALUES).next().unwrap_or_default();
        f.write_str(&sql.split_whitespace().collect::<Vec<&str>>().join(" "))
    }
}

struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let left = SQL_CHARS_MAX.saturating_sub(self.0.chars().count());
        self.0.extend(part.chars().take(left));
        if self.0.contains(VALUES) || part.chars().count() > left { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_logged() {
        let query = "SELECT 1\n  WHERE a = $1 -- binds: [\"secret\"]";
        assert_eq!(Sql(&query).to_string(), "SELECT 1 WHERE a = $1");
        let long = "SELECT '0123456789'".repeat(100);
        assert!(Sql(&long).to_string().len() <= SQL_CHARS_MAX);
    }
}
