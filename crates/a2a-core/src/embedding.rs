//! Vectors of texts, by a static table: the meaning of a text is the weighted mean of what its tokens mean.
//!
//! The table is `embedding/table.bin`, made by the script beside it from the model all-MiniLM-L6-v2. With the feature
//! `embedding`, which is on by default, it is part of the program; without it nothing has a vector, and recall ranks by
//! words alone.

mod alignment;
mod characters;
mod model;
mod pieces;
mod table;
mod tokenizer;
mod vectors;
mod word_pieces;

use std::sync::LazyLock;

use pieces::Pieces;
use table::{Table, Token};

pub(crate) use alignment::Alignment;
pub(crate) use model::ModelVectors;
pub use model::{MODEL_DIMENSIONS_MAX, ModelVector};
pub(crate) use vectors::{Head, Vectors};
pub use word_pieces::WordPieces;

/// How many numbers a vector has.
pub const DIMENSIONS: usize = 128;
/// How much of a text is read for its vector.
const TEXT_BYTES_MAX: usize = 2 * 1024;

#[cfg(feature = "embedding")]
static TABLE: LazyLock<Option<Table>> = LazyLock::new(|| Table::read(include_bytes!("../embedding/table.bin")));
#[cfg(not(feature = "embedding"))]
static TABLE: LazyLock<Option<Table>> = LazyLock::new(|| None);

/// The direction of a text in the space of meanings, with unit length, in one byte per number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vector {
    /// The numbers, as multiples of `scale`.
    whole: [i8; DIMENSIONS],
    scale: f32,
}

/// Whether the program has the table.
#[must_use]
pub fn is_available() -> bool {
    TABLE.is_some()
}

/// The vector of a text; `None` when no token of it means anything to the table. Only the first kilobytes are read: a
/// longer text has no one meaning.
#[must_use]
pub fn embed(text: &str) -> Option<Vector> {
    let mut sum = [0.0f32; DIMENSIONS];
    add(text, &mut sum);
    Vector::of(&sum)
}

/// Adds what a text means to a sum of several texts.
pub(crate) fn add(text: &str, sum: &mut [f32; DIMENSIONS]) {
    let Some(table) = TABLE.as_ref() else { return };
    each_token(beginning(text, TEXT_BYTES_MAX), table, &mut |token| table.add(token, sum));
}

/// Calls `emit` with each token of a text.
fn each_token(text: &str, table: &Table, emit: &mut impl FnMut(Token)) {
    Pieces::with(|pieces| tokenizer::tokens(text, table, pieces, emit));
}

/// The first bytes of a text, up to the end of a character.
fn beginning(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

impl Vector {
    /// Takes a direction; `None` when it has none.
    #[must_use]
    pub fn of(direction: &[f32; DIMENSIONS]) -> Option<Self> {
        let mut whole = [0; DIMENSIONS];
        let scale = rounded(direction, &mut whole)?;
        Some(Self { whole, scale })
    }

    /// The cosine of the angle between two vectors, -1 to 1.
    #[must_use]
    pub fn cosine(&self, other: &Self) -> f32 {
        dot(&self.whole, &other.whole) as f32 * self.scale * other.scale
    }

    /// The bytes that a database keeps: the numbers alone, from which the scale follows.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; DIMENSIONS] {
        self.whole.map(i8::cast_unsigned)
    }

    /// Reads what [`Vector::to_bytes`] wrote; `None` when it is something else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; DIMENSIONS] = bytes.try_into().ok()?;
        let whole = bytes.map(u8::cast_signed);
        let length = length_of(&whole);
        (length > 0.0).then(|| Self { whole, scale: 1.0 / length })
    }
}

/// Rounds a direction to bytes, and returns what they are multiples of, so that the length is one; `None` when it has no
/// direction.
fn rounded(direction: &[f32], whole: &mut [i8]) -> Option<f32> {
    let norm = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
    let most = direction.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    // Below this there are only rounding errors.
    if !norm.is_finite() || norm < 1e-9 {
        return None;
    }
    let unit = 127.0 / most;
    for (place, x) in whole.iter_mut().zip(direction) {
        // A number from -127 to 127 plus this one is rounded to whole numbers, and its lowest byte is the number: two
        // instructions on many numbers at once, where rounding is a call for each.
        const WHOLE: f32 = 12_582_912.0;
        *place = (x * unit + WHOLE).to_bits() as i8;
    }
    // The length of what was rounded, so that the cosine with itself is exactly 1.
    Some(1.0 / length_of(whole))
}

fn length_of(whole: &[i8]) -> f32 {
    // Exact, however many numbers there are.
    (whole.iter().map(|x| i32::from(*x) * i32::from(*x)).sum::<i32>() as f32).sqrt()
}

/// The inner product. Products of bytes fit 16 bits and their sums 32, which is what vector instructions multiply and
/// add in one step.
#[inline]
fn dot<const N: usize>(a: &[i8; N], b: &[i8; N]) -> i32 {
    a.iter().zip(b).map(|(x, y)| i32::from(i16::from(*x)) * i32::from(i16::from(*y))).sum()
}

#[cfg(test)]
#[cfg(feature = "embedding")]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        embed(a).unwrap().cosine(&embed(b).unwrap())
    }

    #[test]
    fn texts_of_like_meaning_lie_near_each_other() {
        assert!(cosine("the car is broken", "our vehicle needs repair") > cosine("the car is broken", "we ate soup"));
        assert!(cosine("release schedule", "when do we deploy") > cosine("release schedule", "my cat is black"));
        assert!((cosine("dogs", "dogs") - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_text_without_meaning_has_no_vector() {
        assert_eq!(embed(""), None);
        assert_eq!(embed(" \u{200b}\n"), None);
    }

    #[test]
    fn vectors_survive_being_stored() {
        let vector = embed("we deploy on Tuesdays").unwrap();
        assert_eq!(Vector::from_bytes(&vector.to_bytes()), Some(vector));
        assert_eq!(Vector::from_bytes(&[1, 2, 3]), None);
        assert_eq!(Vector::from_bytes(&[0; DIMENSIONS]), None);
    }
}
