//! Vectors of a model that an operator has chosen, in as many dimensions as it has.
//!
//! Unlike those of the table they tell nothing by their first numbers, so of many documents only the signs are compared:
//! the part of them that differs says roughly what the angle is (Charikar, "Similarity estimation techniques from rounding
//! algorithms", 2002). The nearest by that are compared in full.
//!
//! Models differ in how near any two texts lie: for some a cosine of 0.7 means nothing. So a similarity is counted from
//! the mean of the cosines with some documents on, whatever they are about: that mean is zero, and one stays one.

use super::{length_of, rounded};
use crate::index::Doc;

/// Further numbers make no model better, and each costs a byte per memory.
pub const MODEL_DIMENSIONS_MAX: usize = 4_096;
/// Documents that are compared in full; of more, those whose signs are nearest. Small in tests, so that they meet both.
const WHOLE_MAX: usize = if cfg!(test) { 5 } else { 4_096 };
/// How many are compared in full after their signs.
const NEAREST: usize = if cfg!(test) { 5 } else { 1_024 };
/// Documents that tell what a cosine is that means nothing; fewer would tell what they happen to be about.
const SAMPLE: usize = 256;
const SAMPLE_MIN: usize = 16;
/// How many products of bytes are summed before they are added to the rest: what the compiler makes one loop of.
const CHUNK: usize = 64;

/// The direction of a text in the space of a model, with unit length, in one byte per number.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelVector {
    whole: Box<[i8]>,
    scale: f32,
}

impl ModelVector {
    /// Takes a direction; `None` when it has none, or too many numbers.
    #[must_use]
    pub fn of(direction: &[f32]) -> Option<Self> {
        if direction.len() > MODEL_DIMENSIONS_MAX {
            return None;
        }
        let mut whole = vec![0; direction.len()].into_boxed_slice();
        let scale = rounded(direction, &mut whole)?;
        Some(Self { whole, scale })
    }

    /// How many numbers it has.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.whole.len()
    }

    /// The cosine of the angle between two vectors, -1 to 1; zero when they are not of one model.
    #[must_use]
    pub fn cosine(&self, other: &Self) -> f32 {
        if self.whole.len() != other.whole.len() {
            return 0.0;
        }
        dot(&self.whole, &other.whole) as f32 * self.scale * other.scale
    }

    /// The bytes that a database keeps: the numbers alone, from which the scale follows.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.whole.iter().map(|number| number.cast_unsigned()).collect()
    }

    /// Reads what [`ModelVector::to_bytes`] wrote; `None` when it is something else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let whole: Box<[i8]> = bytes.iter().map(|byte| byte.cast_signed()).collect();
        let length = length_of(&whole);
        let is_one = length > 0.0 && whole.len() <= MODEL_DIMENSIONS_MAX;
        is_one.then(|| Self { whole, scale: 1.0 / length })
    }

    fn signs(&self) -> Vec<u64> {
        let sign = |place: usize, number: &i8| u64::from(*number < 0) << place;
        self.whole
            .chunks(64)
            .map(|part| part.iter().enumerate().fold(0, |bits, (place, number)| bits | sign(place, number)))
            .collect()
    }
}

#[inline]
fn dot(a: &[i8], b: &[i8]) -> i32 {
    let product = |(x, y): (&i8, &i8)| i32::from(i16::from(*x)) * i32::from(i16::from(*y));
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<CHUNK>(), b.as_chunks::<CHUNK>());
    let whole: i32 = a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(product).sum::<i32>()).sum();
    whole + a_rest.iter().zip(b_rest).map(product).sum::<i32>()
}

/// The vectors of the documents of a shard by one model. All have the same number of dimensions.
#[derive(Default)]
pub(crate) struct ModelVectors {
    dimensions: usize,
    whole: Vec<i8>,
    /// What the numbers of each are multiples of; zero for a document without a vector.
    scales: Vec<f32>,
    signs: Vec<u64>,
    count: usize,
}

impl ModelVectors {
    /// How many documents have one.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many numbers each has, if there are any.
    pub(crate) fn dimensions(&self) -> Option<usize> {
        (self.count > 0).then_some(self.dimensions)
    }

    /// Whether a document has one.
    #[inline]
    pub(crate) fn has(&self, doc: Doc) -> bool {
        self.scales.get(doc as usize).is_some_and(|scale| *scale > 0.0)
    }

    /// Sets the vector of a document. Returns false and changes nothing when it has not the dimensions of the others.
    pub(crate) fn set(&mut self, doc: Doc, vector: &ModelVector) -> bool {
        if self.count == 0 {
            *self = Self { dimensions: vector.dimensions(), ..Self::default() };
        }
        if self.dimensions != vector.dimensions() {
            return false;
        }
        let (at, words) = (doc as usize, self.dimensions.div_ceil(64));
        if at >= self.scales.len() {
            self.scales.resize(at + 1, 0.0);
            self.whole.resize((at + 1) * self.dimensions, 0);
            self.signs.resize((at + 1) * words, 0);
        }
        if let (Some(whole), Some(signs), Some(scale)) = (
            self.whole.chunks_exact_mut(self.dimensions).nth(at),
            self.signs.chunks_exact_mut(words).nth(at),
            self.scales.get_mut(at),
        ) {
            self.count += usize::from(*scale == 0.0);
            whole.copy_from_slice(&vector.whole);
            signs.copy_from_slice(&vector.signs());
            *scale = vector.scale;
        }
        true
    }

    /// Takes the vector of a document away.
    pub(crate) fn remove(&mut self, doc: Doc) -> Option<ModelVector> {
        let vector = self.get(doc)?;
        if let Some(scale) = self.scales.get_mut(doc as usize) {
            *scale = 0.0;
            self.count -= 1;
        }
        Some(vector)
    }

    fn get(&self, doc: Doc) -> Option<ModelVector> {
        let (whole, scale) = self.row(doc)?;
        Some(ModelVector { whole: whole.into(), scale })
    }

    fn row(&self, doc: Doc) -> Option<(&[i8], f32)> {
        let scale = self.scales.get(doc as usize).copied().filter(|scale| *scale > 0.0)?;
        let start = doc as usize * self.dimensions;
        Some((self.whole.get(start..start + self.dimensions)?, scale))
    }

    /// The cosine with one document; `None` when that has no vector, or the other is of another model.
    #[inline]
    pub(crate) fn cosine(&self, vector: &ModelVector, doc: Doc) -> Option<f32> {
        let (whole, scale) = self.row(doc).filter(|_| self.fits(vector))?;
        Some(dot(&vector.whole, whole) as f32 * vector.scale * scale)
    }

    /// Whether it can be compared with these.
    pub(crate) fn fits(&self, vector: &ModelVector) -> bool {
        self.count > 0 && vector.dimensions() == self.dimensions
    }

    /// The cosine that means nothing.
    fn baseline(&self, vector: &ModelVector) -> f32 {
        let step = (self.scales.len() / SAMPLE).max(1);
        let sample = (0..).take(self.scales.len()).step_by(step).filter_map(|doc| self.cosine(vector, doc));
        let (count, sum) = sample.fold((0usize, 0.0), |(count, sum), cosine| (count + 1, sum + cosine));
        if count < SAMPLE_MIN { 0.0 } else { (sum / count as f32).clamp(0.0, 0.95) }
    }

    /// Puts the similarity of each document that has a vector into its place; others are left as they are.
    pub(crate) fn similarities(&self, vector: &ModelVector, docs: impl Iterator<Item = Doc>, into: &mut [f32]) {
        if !self.fits(vector) {
            return;
        }
        let baseline = self.baseline(vector);
        let similarity = |cosine: f32| (cosine - baseline) / (1.0 - baseline);
        let each = docs.zip(into).filter(|(doc, _)| self.has(*doc));
        if self.count <= WHOLE_MAX {
            each.for_each(|(doc, place)| *place = self.cosine(vector, doc).map_or(0.0, similarity));
            return;
        }
        let (signs, words) = (vector.signs(), self.dimensions.div_ceil(64));
        let mut with_distance: Vec<(u32, u32)> = vec![(0, 0); self.dimensions + 1];
        let distance = |doc: Doc| {
            let start = doc as usize * words;
            let own = self.signs.get(start..start + words).unwrap_or_default();
            signs.iter().zip(own).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
        };
        let mut found: Vec<(Doc, &mut f32)> = Vec::with_capacity(self.count);
        for (doc, place) in each {
            let distance = distance(doc);
            // Kept in the place itself until the nearest are known.
            *place = distance as f32;
            if let Some((count, _)) = with_distance.get_mut(distance as usize) {
                *count += 1;
            }
            found.push((doc, place));
        }
        let mut nearer = 0;
        for (count, before) in &mut with_distance {
            *before = nearer;
            nearer += *count;
        }
        for (doc, place) in found {
            let distance = *place;
            let is_near = with_distance.get(distance as usize).is_some_and(|(_, before)| (*before as usize) < NEAREST);
            let estimate = || (std::f32::consts::PI * distance / self.dimensions as f32).cos();
            *place = similarity(if is_near { self.cosine(vector, doc).unwrap_or(0.0) } else { estimate() });
        }
    }

    /// Brings what the table says of documents that have no vector to the scale of what the model says of the others: the
    /// best of each count the same. `floors` are the least that each is measured against, first that of the model.
    pub(crate) fn bring_together(
        &self,
        docs: impl Iterator<Item = Doc> + Clone,
        similar: &mut [f32],
        (mut by_model, mut by_table): (f32, f32),
    ) {
        for (doc, similar) in docs.clone().zip(similar.iter()) {
            let highest = if self.has(doc) { &mut by_model } else { &mut by_table };
            *highest = highest.max(*similar);
        }
        let others = docs.zip(similar).filter(|(doc, _)| !self.has(*doc));
        others.for_each(|(_, similar)| *similar *= by_model / by_table);
    }

    /// Gives documents new numbers in the same order and drops those that get none.
    pub(crate) fn renumber(&mut self, new: impl Fn(Doc) -> Option<Doc>) {
        let old = std::mem::take(self);
        for doc in (0..).take(old.scales.len()) {
            if let (Some(vector), Some(doc)) = (old.get(doc), new(doc)) {
                self.set(doc, &vector);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector(seed: u64, dimensions: usize) -> ModelVector {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 16_777_216.0 - 0.5
        };
        let direction: Vec<f32> = (0..dimensions).map(|_| next()).collect();
        ModelVector::of(&direction).unwrap()
    }

    #[test]
    fn a_vector_survives_being_stored() {
        for dimensions in [1, 63, 64, 65, 384, MODEL_DIMENSIONS_MAX] {
            let vector = vector(7, dimensions);
            assert_eq!(ModelVector::from_bytes(&vector.to_bytes()), Some(vector.clone()));
            assert!((vector.cosine(&vector) - 1.0).abs() < 1e-5);
        }
        assert_eq!(ModelVector::of(&[]), None);
        assert_eq!(ModelVector::of(&[0.0; 8]), None);
        assert_eq!(ModelVector::of(&[f32::NAN, 1.0]), None);
        assert_eq!(ModelVector::of(&vec![1.0; MODEL_DIMENSIONS_MAX + 1]), None);
        assert_eq!(ModelVector::from_bytes(&[0; 8]), None);
    }

    #[test]
    fn what_every_text_has_in_common_counts_for_nothing() {
        let mut vectors = ModelVectors::default();
        let with_offset = |seed: u64| {
            let own = vector(seed, 64);
            let direction: Vec<f32> = own.whole.iter().map(|number| 200.0 + f32::from(*number)).collect();
            ModelVector::of(&direction).unwrap()
        };
        for doc in 0..64 {
            vectors.set(doc, &with_offset(u64::from(doc) + 1));
        }
        let asked = with_offset(1);
        assert!(vectors.cosine(&asked, 40).unwrap() > 0.7);
        let mut similar = vec![0.0; 64];
        vectors.similarities(&asked, 0..64, &mut similar);
        assert!((similar[0] - 1.0).abs() < 0.01, "{}", similar[0]);
        assert!(similar[40] < 0.3, "{}", similar[40]);
    }

    #[test]
    fn vectors_of_two_models_are_never_compared() {
        let mut vectors = ModelVectors::default();
        assert!(vectors.set(0, &vector(1, 64)));
        assert!(!vectors.set(1, &vector(2, 96)), "the first one decides");
        let mut similar = vec![0.5; 2];
        vectors.similarities(&vector(1, 96), 0..2, &mut similar);
        assert_eq!(similar, [0.5, 0.5]);
        assert_eq!(vectors.cosine(&vector(1, 96), 0), None);
        vectors.remove(0);
        assert!(vectors.set(1, &vector(2, 96)), "nothing is left of the other");
    }

    proptest! {
        #[test]
        fn the_nearest_are_found_by_their_signs(
            all in prop::collection::vec(prop::option::of(0u64..1000), 1..40),
            asked in 0u64..1000,
            gone in prop::collection::vec(any::<bool>(), 40),
        ) {
            let mut vectors = ModelVectors::default();
            for (doc, seed) in (0..).zip(&all) {
                if let Some(seed) = seed {
                    vectors.set(doc, &vector(*seed, 96));
                }
            }
            let query = vector(asked, 96);
            let check = |vectors: &ModelVectors, all: &[Option<u64>]| {
                let mut similar = vec![-9.0; all.len()];
                vectors.similarities(&query, (0..).take(all.len()), &mut similar);
                let baseline = vectors.baseline(&query);
                assert_eq!(vectors.count(), all.iter().flatten().count());
                for (doc, (similar, seed)) in (0..).zip(similar.iter().zip(all)) {
                    let Some(seed) = seed else {
                        assert_eq!(*similar, -9.0);
                        continue;
                    };
                    let exact = (query.cosine(&vector(*seed, 96)) - baseline) / (1.0 - baseline);
                    // With so few signs an estimate is rough.
                    assert!((exact - similar).abs() < 0.8 / (1.0 - baseline), "{exact} {similar}");
                    if *seed == asked {
                        assert!((similar - 1.0).abs() < 1e-4, "what is the same is among the nearest: {similar} {doc}");
                    }
                }
            };
            check(&vectors, &all);
            let kept: Vec<Option<u64>> =
                all.iter().zip(&gone).filter(|(_, gone)| !**gone).map(|(seed, _)| *seed).collect();
            vectors.renumber(|doc| {
                let at = doc as usize;
                (!gone[at]).then(|| u32::try_from(gone[..at].iter().filter(|gone| !**gone).count()).unwrap())
            });
            check(&vectors, &kept);
        }
    }
}
