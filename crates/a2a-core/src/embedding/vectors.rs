//! The vectors of many documents, and how near each is to that of a query.
//!
//! Comparing all vectors in full reads 128 bytes of each document, so of many documents only the heads are compared:
//! their first numbers. The numbers are principal components, those that tell most first, so that the head says roughly
//! what the whole does; whoever asks compares the best in full afterwards.
//!
//! The heads of 64 documents lie together, number by number, so that one instruction works on several documents and no
//! sum has to be gathered from its lanes: the compiler makes vector instructions of it for any processor.

use super::{DIMENSIONS, Vector, dot};
use crate::index::Doc;

/// How many of the first numbers of a vector are its head.
const HEAD: usize = 32;
/// How many documents' heads lie together.
const LANES: usize = 64;
/// The length of a head. With rounding it stays below the root of the largest `i16`, so that by the inequality of Cauchy
/// and Schwarz no product of two heads overflows one.
const LENGTH: f32 = 177.0;
/// What is added to each number to make it unsigned, because widening unsigned bytes takes one instruction less.
const BIAS: u8 = 128;

/// One row for each number of a head, with one place for each document. Rows are read four at a time.
type Block = [[u8; LANES]; HEAD];
const EMPTY: Block = [[BIAS; LANES]; HEAD];

/// The vectors of the documents of a shard. Documents without one are as near to everything as nothing is.
#[derive(Default)]
pub(crate) struct Vectors {
    whole: Vec<[i8; DIMENSIONS]>,
    /// What the numbers of each are multiples of; zero for a document without a vector.
    scales: Vec<f32>,
    heads: Vec<Block>,
}

/// The head of a query's vector, ready to be compared.
pub(crate) struct Head {
    numbers: [i16; HEAD],
    /// Takes out what the bias adds.
    start: i16,
}

impl Vectors {
    /// Sets the vector of a document that is the highest so far. Nothing is kept before the first vector comes.
    pub(crate) fn push(&mut self, doc: Doc, vector: Option<&Vector>) {
        let Some(vector) = vector else { return };
        let at = doc as usize;
        self.whole.resize(at, [0; DIMENSIONS]);
        self.scales.resize(at, 0.0);
        self.heads.resize(at / LANES + 1, EMPTY);
        self.whole.push(vector.whole);
        self.scales.push(vector.scale);
        if let Some(block) = self.heads.get_mut(at / LANES) {
            for (row, number) in block.iter_mut().zip(head(vector)) {
                if let Some(place) = row.get_mut(at % LANES) {
                    *place = number.cast_unsigned().wrapping_add(BIAS);
                }
            }
        }
    }

    /// Takes the vector of a document away.
    pub(crate) fn remove(&mut self, doc: Doc) {
        if let Some(scale) = self.scales.get_mut(doc as usize) {
            *scale = 0.0;
        }
    }

    /// The cosine with one document; `None` when that has no vector.
    pub(crate) fn similarity(&self, vector: &Vector, doc: Doc) -> Option<f32> {
        let scale = self.scales.get(doc as usize).filter(|scale| **scale > 0.0)?;
        Some(dot(&vector.whole, self.whole.get(doc as usize)?) as f32 * vector.scale * scale)
    }

    /// What the heads say of the cosine with every document below `end`.
    pub(crate) fn estimates(&self, head: &Head, end: usize, into: &mut Vec<f32>) {
        into.clear();
        into.reserve(end.next_multiple_of(LANES));
        for block in self.heads.iter().take(end.div_ceil(LANES)) {
            into.extend_from_slice(&head.estimates(block));
        }
        into.resize(end, 0.0);
    }

    /// What the heads say of the cosines with some documents, in ascending order.
    pub(crate) fn estimates_of(&self, head: &Head, docs: &[Doc], into: &mut Vec<f32>) {
        into.clear();
        let mut read = usize::MAX;
        let mut estimates = [0.0; LANES];
        for doc in docs {
            let at = *doc as usize;
            if at / LANES != read {
                read = at / LANES;
                estimates = self.heads.get(read).map_or([0.0; LANES], |block| head.estimates(block));
            }
            into.push(estimates.get(at % LANES).copied().unwrap_or(0.0));
        }
    }

    /// Gives documents new numbers in the same order and drops those that get none.
    pub(crate) fn renumber(&mut self, new: impl Fn(Doc) -> Option<Doc>) {
        let old = std::mem::take(self);
        for (doc, (whole, scale)) in (0..).zip(old.whole.into_iter().zip(old.scales)) {
            if let Some(doc) = new(doc).filter(|_| scale > 0.0) {
                self.push(doc, Some(&Vector { whole, scale }));
            }
        }
    }
}

impl Head {
    pub(crate) fn of(vector: &Vector) -> Self {
        let numbers = head(vector).map(i16::from);
        let sum = numbers.iter().fold(0i16, |sum, number| sum.wrapping_add(*number));
        Self { numbers, start: sum.wrapping_mul(-i16::from(BIAS)) }
    }

    /// The cosines of the heads of one block. Sums may wrap on the way; the last one fits, so that it is right.
    #[inline]
    fn estimates(&self, block: &Block) -> [f32; LANES] {
        let mut sums = [self.start; LANES];
        let (numbers, _) = self.numbers.as_chunks::<4>();
        let (rows, _) = block.as_chunks::<4>();
        for ([a, b, c, d], [e, f, g, h]) in numbers.iter().zip(rows) {
            for ((((sum, e), f), g), h) in sums.iter_mut().zip(e).zip(f).zip(g).zip(h) {
                let product = |number: &i16, other: &u8| number.wrapping_mul(i16::from(*other));
                let first = product(a, e).wrapping_add(product(b, f));
                *sum = sum.wrapping_add(first).wrapping_add(product(c, g).wrapping_add(product(d, h)));
            }
        }
        sums.map(|sum| f32::from(sum) * (1.0 / (LENGTH * LENGTH)))
    }
}

/// The first numbers of a vector, stretched to [`LENGTH`]; all zero when nothing is in them.
fn head(vector: &Vector) -> [i8; HEAD] {
    let first: [i8; HEAD] = vector.whole.first_chunk().copied().unwrap_or([0; HEAD]);
    let length = (dot(&first, &first) as f32).sqrt().max(1.0);
    // A conversion to a smaller type saturates, which can only shorten the head.
    first.map(|number| (f32::from(number) * (LENGTH / length)).round().clamp(-127.0, 127.0) as i8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector() -> impl Strategy<Value = Vector> {
        // Some lie along a few axes, where rounding and stretching reach furthest.
        prop_oneof![
            prop::collection::vec(-1.0f32..1.0, DIMENSIONS),
            prop::collection::vec(prop_oneof![4 => Just(0.0f32), 1 => -1.0f32..1.0], DIMENSIONS),
            prop::collection::vec(prop_oneof![Just(-1.0f32), Just(1.0)], DIMENSIONS),
        ]
        .prop_map(|numbers| {
            let mut direction: [f32; DIMENSIONS] = numbers.try_into().unwrap();
            direction[0] += 1e-3;
            Vector::of(&direction).unwrap()
        })
    }

    /// The cosine of the first numbers, computed in the plainest way.
    fn plain(a: &Vector, b: &Vector) -> f32 {
        let first = |v: &Vector| v.whole[..HEAD].iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let (a, b) = (first(a), first(b));
        let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt().max(1.0);
        (a.iter().zip(&b).map(|(x, y)| x * y).sum::<f64>() / length(&a) / length(&b)) as f32
    }

    proptest! {
        #[test]
        fn estimates_are_the_cosines_of_heads_and_survive_renumbering(
            all in prop::collection::vec(prop::option::of(vector()), 1..70),
            asked in vector(),
            gone in prop::collection::vec(any::<bool>(), 70),
        ) {
            let mut vectors = Vectors::default();
            for (doc, vector) in (0..).zip(&all) {
                vectors.push(doc, vector.as_ref());
            }
            let check = |vectors: &Vectors, all: &[Option<Vector>]| {
                let (mut each, mut some) = (Vec::new(), Vec::new());
                let head = Head::of(&asked);
                vectors.estimates(&head, all.len(), &mut each);
                let docs: Vec<Doc> = (0..).take(all.len()).step_by(3).collect();
                vectors.estimates_of(&head, &docs, &mut some);
                assert_eq!(each.len(), all.len());
                assert_eq!(some, each.iter().copied().step_by(3).collect::<Vec<_>>());
                for (doc, (estimate, vector)) in (0..).zip(each.iter().zip(all)) {
                    let wanted = vector.as_ref().map_or(0.0, |vector| plain(&asked, vector));
                    // A head along one axis is shortened, from 177 to 127.
                    let is_shortened = (0.5..=1.0).contains(&(estimate / wanted));
                    assert!((estimate - wanted).abs() < 0.1 || is_shortened, "{estimate} {wanted}");
                    assert_eq!(vectors.similarity(&asked, doc), vector.as_ref().map(|vector| asked.cosine(vector)));
                }
            };
            check(&vectors, &all);
            let kept: Vec<Option<Vector>> =
                all.iter().zip(&gone).filter(|(_, gone)| !**gone).map(|(vector, _)| *vector).collect();
            let new = |doc: Doc| {
                let at = doc as usize;
                (!gone[at]).then(|| u32::try_from(gone[..at].iter().filter(|gone| !**gone).count()).unwrap())
            };
            vectors.renumber(new);
            check(&vectors, &kept);
        }
    }
}
