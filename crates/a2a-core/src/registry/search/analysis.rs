//! What search reads of an agent: its words, by field, and what each is worth.

use super::stop_words::is_stop_word;
use super::tokens::{Cut, tokens};
use crate::agent::AgentSpec;

/// How many fields search tells apart.
pub(super) const FIELDS: usize = 7;

/// A field of an agent that search reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// Name and id.
    Name,
    Tags,
    /// Names and descriptions of capabilities.
    Capabilities,
    Examples,
    Description,
    Category,
    Instructions,
}

/// How a field counts.
#[derive(Debug, Clone, Copy)]
struct FieldWeight {
    field: Field,
    /// As a hit's reason names it.
    name: &'static str,
    /// What one occurrence is worth in a field of the typical length.
    weight: f32,
    /// How much a longer field weakens one occurrence (`b` of BM25), 0 to 1.
    length_effect: f32,
    /// The typical number of words.
    typical_words: f32,
    /// Occurrences beyond these count nothing: repeating a word in a name does not make it mean more.
    occurrences_max: f32,
}

/// In the order in which a hit's reason names the fields. The numbers were tuned by hand on questions about public
/// collections of agents.
const WEIGHTS: [FieldWeight; FIELDS] = [
    weight(Field::Name, "name", 6.0, 0.3, 4.0, 1.0),
    weight(Field::Tags, "tags", 4.0, 0.3, 6.0, 1.0),
    weight(Field::Capabilities, "capabilities", 3.5, 0.5, 20.0, 1.5),
    weight(Field::Examples, "examples", 2.5, 0.5, 30.0, 2.0),
    weight(Field::Description, "description", 2.5, 0.5, 25.0, 2.0),
    weight(Field::Category, "category", 1.0, 0.0, 1.0, 1.0),
    weight(Field::Instructions, "instructions", 0.5, 0.75, 400.0, 8.0),
];

const fn weight(
    field: Field,
    name: &'static str,
    weight: f32,
    length_effect: f32,
    typical_words: f32,
    occurrences_max: f32,
) -> FieldWeight {
    FieldWeight { field, name, weight, length_effect, typical_words, occurrences_max }
}

/// How quickly more occurrences stop adding to the score (`k1` of BM25).
const SATURATION: f32 = 2.0;
/// A whole word counts these units and a part of one half, so that all counts are whole numbers.
const UNITS_WHOLE: u16 = 2;

/// The set of fields in which a word occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FieldSet(u8);

impl FieldSet {
    /// The names of the fields, the weightiest first.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        WEIGHTS.iter().filter(move |w| self.0 & 1 << w.field as u8 != 0).map(|w| w.name)
    }
}

/// What one word is worth in one agent: its fields and its saturated weight, in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Worth(u32);

const WORTH_BITS: u32 = 24;

impl Worth {
    /// The weight as a fraction of [`Worth::WHOLE`].
    pub(super) fn fraction(self) -> f32 {
        // 24 bits fit a float without loss.
        (self.0 & ((1 << WORTH_BITS) - 1)) as f32
    }

    /// What [`Worth::fraction`] counts in.
    pub(super) const WHOLE: f32 = (1u32 << WORTH_BITS) as f32;

    pub(super) fn fields(self) -> FieldSet {
        FieldSet((self.0 >> WORTH_BITS) as u8)
    }
}

/// How often one word occurs in each field, in units.
pub(super) type Occurrences = [u16; FIELDS];

#[derive(Debug, Clone, Copy)]
struct Token {
    end: u32,
    field: Field,
    cut: Cut,
}

/// The words of one agent. Making it is the costly part of indexing and needs no access to the registry.
#[derive(Debug)]
pub(crate) struct Analysis {
    /// All words without anything between them.
    text: String,
    tokens: Vec<Token>,
    lengths: [u32; FIELDS],
}

impl Analysis {
    /// Reads a document. The same document always gives the same words: taking it out of the index relies on that.
    pub(crate) fn of(spec: &AgentSpec) -> Self {
        // An estimate that spares most agents a second allocation.
        let bytes = spec.instructions.len() + spec.description.len() + 256;
        let mut analysis =
            Self { text: String::with_capacity(bytes), tokens: Vec::with_capacity(bytes / 5), lengths: [0; FIELDS] };
        // Names keep their stop words: an agent may be called "The Who".
        analysis.read(Field::Name, &spec.name, true);
        analysis.read(Field::Name, spec.id.as_str(), true);
        analysis.read(Field::Category, &spec.category, true);
        for tag in &spec.tags {
            analysis.read(Field::Tags, tag, true);
        }
        analysis.read(Field::Description, &spec.description, false);
        for capability in &spec.capabilities {
            analysis.read(Field::Capabilities, &capability.name, true);
            analysis.read(Field::Capabilities, &capability.description, false);
            for example in &capability.example_queries {
                analysis.read(Field::Examples, example, false);
            }
        }
        analysis.read(Field::Instructions, &spec.instructions, false);
        analysis
    }

    fn read(&mut self, field: Field, text: &str, keep_stop_words: bool) {
        let Self { text: all, tokens: list, lengths } = self;
        let mut length = 0;
        tokens(text, &mut |word, cut| {
            if !keep_stop_words && is_stop_word(word) {
                return;
            }
            length += u32::from(cut == Cut::Whole);
            all.push_str(word);
            list.push(Token { end: u32::try_from(all.len()).unwrap_or(u32::MAX), field, cut });
        });
        if let Some(total) = lengths.get_mut(field as usize) {
            *total += length;
        }
    }

    /// Each word with its field and the units that it counts.
    pub(super) fn words(&self) -> impl Iterator<Item = (&str, Field, u16)> {
        let mut start = 0;
        self.tokens.iter().map(move |token| {
            let end = token.end as usize;
            let word = self.text.get(start..end).unwrap_or_default();
            start = end;
            (word, token.field, if token.cut == Cut::Whole { UNITS_WHOLE } else { UNITS_WHOLE / 2 })
        })
    }

    /// What a word with these occurrences is worth in this agent.
    ///
    /// This is BM25F (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009) with one change: a field's
    /// length is compared with a constant and not with the average of all agents. The worth of a word in an agent then
    /// depends on that agent alone, so that no deploy of another one changes it and it is computed once.
    pub(super) fn worth(&self, occurrences: &Occurrences) -> Worth {
        let mut sum = 0.0;
        let mut fields = 0u32;
        for w in &WEIGHTS {
            let units = occurrences.get(w.field as usize).copied().unwrap_or(0);
            if units == 0 {
                continue;
            }
            fields |= 1 << w.field as u32;
            let length = self.lengths.get(w.field as usize).copied().unwrap_or(0) as f32;
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
