//! How memories fade, and which go first when there are too many.

use std::cmp::Ordering;

use super::Memory;
use crate::time::Timestamp;

const DAY_MS: f32 = 86_400_000.0;
/// Being told again adds this for each doubling, up to [`FREQUENCY_DOUBLINGS_MAX`] of them.
const FREQUENCY_BONUS: f32 = 0.05;
const FREQUENCY_DOUBLINGS_MAX: f32 = 6.0;

/// The days from `earlier` to `now`.
#[must_use]
pub fn days_between(earlier: Timestamp, now: Timestamp) -> f32 {
    now.0.saturating_sub(earlier.0).max(0) as f32 / DAY_MS
}

/// What is left of a memory, 0 to 1: `(1 - decay) ^ days` since it was last told or recalled.
#[must_use]
pub fn strength(memory: &Memory, now: Timestamp) -> f32 {
    (1.0 - memory.spec.decay).max(0.0).powf(days_between(memory.last_accessed, now))
}

/// How much a memory is worth keeping, 0 and up: `importance · (0.2 + 0.8 · strength) · (1 + 0.05 · log2(uses))`, where
/// uses are how often it was told and recalled, of which 64 count. A faded memory that is important outlives a fresh one
/// that is not.
#[must_use]
pub fn kept_value(memory: &Memory, now: Timestamp) -> f32 {
    let uses = memory.frequency.saturating_add(memory.accesses).max(1);
    let doublings = (uses as f32).log2().min(FREQUENCY_DOUBLINGS_MAX);
    memory.spec.importance * (0.2 + 0.8 * strength(memory, now)) * (1.0 + FREQUENCY_BONUS * doublings)
}

/// The order in which memories go when a limit is reached: expired ones first, then superseded ones, then those that are
/// worth least; of equals the one that was not used for longest, then by id.
#[must_use]
pub fn eviction_order(a: &Memory, b: &Memory, now: Timestamp) -> Ordering {
    let class = |m: &Memory| if m.is_expired(now) { 0 } else { 1 + u8::from(m.superseded_by.is_none()) };
    class(a)
        .cmp(&class(b))
        .then_with(|| kept_value(a, now).total_cmp(&kept_value(b, now)))
        .then_with(|| a.last_accessed.cmp(&b.last_accessed))
        .then_with(|| a.id.cmp(&b.id))
}
