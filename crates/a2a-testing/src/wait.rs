//! Waiting for a condition, with a limit, instead of sleeping and hoping.

use std::time::{Duration, Instant};

/// The first pause between two looks; short, so that lags of a few milliseconds are measured and not rounded up.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The longest pause between two looks; longer would add visible idle time to every test.
const PAUSE_MAX: Duration = Duration::from_millis(25);

/// Waits until `condition` holds and returns how long that took.
///
/// # Panics
/// When the condition does not hold within `timeout`; the message names `what`.
#[track_caller]
pub fn wait_until<F>(timeout: Duration, what: &str, mut condition: F) -> impl Future<Output = Duration>
where
    F: AsyncFnMut() -> bool,
{
    let caller = std::panic::Location::caller();
    async move {
        let started = Instant::now();
        poll(timeout, what, caller, async || condition().await.then_some(())).await;
        started.elapsed()
    }
}

/// Waits until `look` returns a value and returns it.
///
/// # Panics
/// When there is no value within `timeout`; the message names `what`.
#[track_caller]
pub fn wait_for<T, F>(timeout: Duration, what: &str, look: F) -> impl Future<Output = T>
where
    F: AsyncFnMut() -> Option<T>,
{
    let caller = std::panic::Location::caller();
    async move { poll(timeout, what, caller, look).await }
}

async fn poll<T, F>(timeout: Duration, what: &str, caller: &std::panic::Location<'_>, mut look: F) -> T
where
    F: AsyncFnMut() -> Option<T>,
{
    let started = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        // A look that hangs counts against the limit as well.
        let left = timeout.saturating_sub(started.elapsed()).max(PAUSE_MIN);
        match tokio::time::timeout(left, look()).await {
            Ok(Some(value)) => return value,
            Ok(None) if started.elapsed() < timeout => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Ok(None) | Err(_) => panic!("{caller}: waited {timeout:?} in vain for: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        wait_until(Duration::from_secs(5), "three looks", async || {
            looks += 1;
            looks == 3
        })
        .await;
        assert_eq!(looks, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "waited 20ms in vain for: a miracle")]
    async fn a_condition_that_never_holds_panics_with_its_name() {
        wait_until(Duration::from_millis(20), "a miracle", async || false).await;
    }

    #[tokio::test]
    #[should_panic(expected = "in vain for: a look that hangs")]
    async fn a_look_that_hangs_is_cut_off_at_the_limit() {
        wait_for(Duration::from_millis(20), "a look that hangs", async || std::future::pending::<Option<()>>().await)
            .await;
    }
}
