//! What recall reads of a memory.

use crate::embedding::{self, DIMENSIONS, Vector};
use crate::index::Analysis;
use crate::index::analysis::{Field, FieldWeight};
use crate::memory::MemorySpec;

const CONTENT: Field = 0;
const TAGS: Field = 1;
/// The key, which names the fact.
const KEY: Field = 2;

/// Texts of `data` count as content, up to this many bytes.
const DATA_BYTES_MAX: usize = 4 * 1024;

/// In the order of the numbers above.
pub(super) const WEIGHTS: [FieldWeight; 3] = [
    FieldWeight { name: "content", weight: 2.5, length_effect: 0.5, typical_words: 16.0, occurrences_max: 3.0 },
    FieldWeight { name: "tags", weight: 1.5, length_effect: 0.3, typical_words: 4.0, occurrences_max: 1.0 },
    FieldWeight { name: "key", weight: 2.0, length_effect: 0.3, typical_words: 4.0, occurrences_max: 1.0 },
];

/// Reads a document. The same document always gives the same words: taking it out of the index relies on that.
pub(super) fn words_of_memory(spec: &MemorySpec) -> Analysis {
    let data = data_text(spec);
    let mut analysis = Analysis::new(&WEIGHTS, spec.content.len() + data.len() + 64);
    analysis.read(CONTENT, &spec.content, false);
    analysis.read(CONTENT, data, false);
    for tag in &spec.tags {
        analysis.read(TAGS, tag, true);
    }
    if let Some(key) = &spec.key {
        analysis.read(KEY, key, true);
    }
    analysis
}

/// The vector of a memory: of its content, with its key and tags, which often name what the words only imply.
pub(super) fn vector_of_memory(spec: &MemorySpec) -> Option<Vector> {
    let mut sum = [0.0; DIMENSIONS];
    embedding::add(&spec.content, &mut sum);
    for word in spec.tags.iter().chain(&spec.key) {
        embedding::add(word, &mut sum);
    }
    Vector::of(&sum)
}

/// What a model reads of a memory. None of it ever changes, so that its vector is made once.
#[must_use]
pub fn passage(spec: &MemorySpec) -> &str {
    &spec.content
}

fn data_text(spec: &MemorySpec) -> &str {
    let text = spec.data.as_ref().map_or("", crate::json_text::JsonText::as_str);
    text.get(..text.floor_char_boundary(DATA_BYTES_MAX)).unwrap_or_default()
}
