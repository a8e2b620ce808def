//! What search reads of an agent.

use crate::agent::AgentSpec;
use crate::index::Analysis;
use crate::index::analysis::{Field, FieldWeight};

/// Name and id.
const NAME: Field = 0;
const TAGS: Field = 1;
/// Names and descriptions of capabilities.
const CAPABILITIES: Field = 2;
const EXAMPLES: Field = 3;
const DESCRIPTION: Field = 4;
const CATEGORY: Field = 5;
const INSTRUCTIONS: Field = 6;

/// In the order of the numbers above. The numbers were tuned by hand on questions about public
/// collections of agents.
pub(super) const WEIGHTS: [FieldWeight; 7] = [
    weight("name", 6.0, 0.3, 4.0, 1.0),
    weight("tags", 4.0, 0.3, 6.0, 1.0),
    weight("capabilities", 3.5, 0.5, 20.0, 1.5),
    weight("examples", 2.5, 0.5, 30.0, 2.0),
    weight("description", 2.5, 0.5, 25.0, 2.0),
    weight("category", 1.0, 0.0, 1.0, 1.0),
    weight("instructions", 0.5, 0.75, 400.0, 8.0),
];

const fn weight(
    name: &'static str,
    weight: f32,
    length_effect: f32,
    typical_words: f32,
    occurrences_max: f32,
) -> FieldWeight {
    FieldWeight { name, weight, length_effect, typical_words, occurrences_max }
}

/// Reads a document. The same document always gives the same words: taking it out of the index relies on that.
pub(crate) fn words_of_agent(spec: &AgentSpec) -> Analysis {
    // An estimate that spares most agents a second allocation.
    let mut analysis = Analysis::new(&WEIGHTS, spec.instructions.len() + spec.description.len() + 256);
    // Names keep their stop words: an agent may be called "The Who".
    analysis.read(NAME, &spec.name, true);
    analysis.read(NAME, spec.id.as_str(), true);
    analysis.read(CATEGORY, &spec.category, true);
    for tag in &spec.tags {
        analysis.read(TAGS, tag, true);
    }
    analysis.read(DESCRIPTION, &spec.description, false);
    for capability in &spec.capabilities {
        analysis.read(CAPABILITIES, &capability.name, true);
        analysis.read(CAPABILITIES, &capability.description, false);
        for example in &capability.example_queries {
            analysis.read(EXAMPLES, example, false);
        }
    }
    analysis.read(INSTRUCTIONS, &spec.instructions, false);
    analysis
}
