//! What search reads of a document: its words, by field, and what each is worth.

use super::stop_words::is_stop_word;
use super::tokens::{Cut, tokens};

/// How many fields search can tell apart.
pub(crate) const FIELDS_MAX: usize = 7;

/// The number of a field: its place among the weights.
pub(crate) type Field = u8;

/// How a field counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldWeight {
    /// As a hit's reason names it.
    pub(crate) name: &'static str,
    /// What one occurrence is worth in a field of the typical length.
    pub(crate) weight: f32,
    /// How much a longer field weakens one occurrence (`b` of BM25), 0 to 1.
    pub(crate) length_effect: f32,
    /// The typical number of words.
    pub(crate) typical_words: f32,
    /// Occurrences beyond these count nothing: repeating a word in a name does not make it mean more.
    pub(crate) occurrences_max: f32,
}

/// The fields of one kind of document, at most [`FIELDS_MAX`], in the order in which a hit's reason names them.
pub(crate) type Weights = &'static [FieldWeight];

/// How quickly more occurrences stop adding to the score (`k1` of BM25).
const SATURATION: f32 = 2.0;
/// A whole word counts these units and a part of one half, so that all counts are whole numbers.
const UNITS_WHOLE: u16 = 2;

/// The set of fields in which a word occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FieldSet(u8);

impl FieldSet {
    /// The names of the fields, in the order of the weights.
    pub(crate) fn names(self, weights: Weights) -> impl Iterator<Item = &'static str> {
        (0u8..).zip(weights).filter(move |(field, _)| self.0 & 1 << field != 0).map(|(_, w)| w.name)
    }
}

/// What one word is worth in one document: its fields and its saturated weight, in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Worth(u32);

const WORTH_BITS: u32 = 24;

impl Worth {
    /// The weight as a fraction of [`Worth::WHOLE`].
    pub(crate) fn fraction(self) -> f32 {
        // 24 bits fit a float without loss.
        (self.0 & ((1 << WORTH_BITS) - 1)) as f32
    }

    /// What [`Worth::fraction`] counts in.
    pub(crate) const WHOLE: f32 = (1u32 << WORTH_BITS) as f32;

    pub(crate) fn fields(self) -> FieldSet {
        FieldSet((self.0 >> WORTH_BITS) as u8)
    }
}

/// How often one word occurs in each field, in units.
pub(crate) type Occurrences = [u16; FIELDS_MAX];

#[derive(Debug, Clone, Copy)]
struct Token {
    end: u32,
    field: Field,
    cut: Cut,
}

/// The words of one document. Making it is the costly part of indexing and needs no access to the index.
#[derive(Debug)]
pub(crate) struct Analysis {
    /// All words without anything between them.
    text: String,
    tokens: Vec<Token>,
    lengths: [u32; FIELDS_MAX],
    weights: Weights,
}

impl Analysis {
    /// Nothing read yet; `bytes` is about how much will be. The same document must always be read in the same way:
    /// taking it out of the index relies on that.
    pub(crate) fn new(weights: Weights, bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            tokens: Vec::with_capacity(bytes / 5),
            lengths: [0; FIELDS_MAX],
            weights,
        }
    }

    /// Reads the text of a field.
    pub(crate) fn read(&mut self, field: Field, text: &str, keep_stop_words: bool) {
        let Self { text: all, tokens: list, lengths, .. } = self;
        let mut length = 0;
        tokens(text, &mut |word, cut| {
            if !keep_stop_words && is_stop_word(word) {
                return;
            }
            length += u32::from(cut == Cut::Whole);
            all.push_str(word);
            list.push(Token { end: u32::try_from(all.len()).unwrap_or(u32::MAX), field, cut });
        });
        if let Some(total) = lengths.get_mut(usize::from(field)) {
            *total += length;
        }
    }

    /// Each word with its field and the units that it counts.
    pub(crate) fn words(&self) -> impl Iterator<Item = (&str, Field, u16)> {
        let mut start = 0;
        self.tokens.iter().map(move |token| {
            let end = token.end as usize;
            let word = self.text.get(start..end).unwrap_or_default();
            start = end;
            (word, token.field, if token.cut == Cut::Whole { UNITS_WHOLE } else { UNITS_WHOLE / 2 })
        })
    }

    /// What a word with these occurrences is worth in this document.
    ///
    /// This is BM25F (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009) with one change: a field's
    /// length is compared with a constant and not with the average of all documents. The worth of a word in one then
    /// depends on that document alone, so that no other one changes it and it is computed once.
    pub(crate) fn worth(&self, occurrences: &Occurrences) -> Worth {
        let mut sum = 0.0;
        let mut fields = 0u32;
        for (field, w) in self.weights.iter().enumerate() {
            let units = occurrences.get(field).copied().unwrap_or(0);
            if units == 0 {
                continue;
            }
            fields |= 1 << field;
            let length = self.lengths.get(field).copied().unwrap_or(0) as f32;
            let times = (f32::from(units) / f32::from(UNITS_WHOLE)).min(w.occurrences_max);
            // A field that is shorter than typical is not worth more: brevity does not make a word mean more.
            let length = (length / w.typical_words).max(1.0);
            sum += w.weight * times / (1.0 - w.length_effect + w.length_effect * length);
        }
        let saturated = sum / (SATURATION + sum) * Worth::WHOLE;
        // At least 1: a word that occurs is a match, however little it is worth.
        Worth(fields << WORTH_BITS | (saturated as u32).clamp(1, (1 << WORTH_BITS) - 1))
    }
}
