//! Memories that say nearly the same as a text.

use std::sync::Arc;

use super::Reading;
use super::filter::MemoryFilters;
use super::shard::Shard;
use crate::embedding::Head;
use crate::index::best::Best;
use crate::memory::Memory;
use crate::time::Timestamp;

/// Two memories are nearly the same from this cosine on.
const NEAR_MIN: f32 = 0.9;
/// Whoever is that near has a head at least so near, nearly always.
const HEAD_MIN: f32 = 0.7;
/// How many are compared by their whole vectors.
const COMPARED_MAX: usize = 256;

impl Shard {
    /// Live memories that say nearly the same, the nearest first, at most `max`.
    pub(super) fn near(&self, reading: &Reading, now: Timestamp, max: usize) -> Vec<(Arc<Memory>, f32)> {
        let Some(vector) = &reading.vector else { return Vec::new() };
        let selection = MemoryFilters::default().select(self, now);
        let mut estimates = Vec::new();
        self.texts.vectors.estimates(&Head::of(vector), self.end(), &mut estimates);
        let id = |doc| self.memory(doc).map(|memory| memory.id.as_str());
        let mut probable = Best::new(id, None, COMPARED_MAX);
        probable.floor = HEAD_MIN;
        for (doc, estimate) in (0..).zip(estimates) {
            if estimate >= probable.floor && selection.passes(doc) {
                probable.offer(estimate, doc);
            }
        }
        let compared = probable.into_sorted().into_iter();
        let mut near: Vec<(Arc<Memory>, f32)> = compared
            .filter_map(|(_, doc)| Some((Arc::clone(self.memory(doc)?), self.texts.vectors.similarity(vector, doc)?)))
            .filter(|(_, similarity)| *similarity >= NEAR_MIN)
            .collect();
        near.sort_by(|(a, x), (b, y)| y.total_cmp(x).then_with(|| a.id.cmp(&b.id)));
        near.truncate(max);
        near
    }
}
