//! How often a test repeats what it proves.

/// One figure of two: the first in every run, the second when `A2A_SOAK=1`, as `cargo xtask soak` sets it.
#[must_use]
pub fn figure(every_run: usize, soak: usize) -> usize {
    if std::env::var_os("A2A_SOAK").is_some_and(|value| value == "1") { soak } else { every_run }
}
