//! What an agent means: one vector of all that is said of it.

use crate::agent::AgentSpec;
use crate::embedding::{self, DIMENSIONS, Vector};

/// How much each part of a document counts in its vector, chosen by `cargo xtask eval`. A part counts by this and not by its
/// length, so that long instructions, which speak of much that is not what the agent is for, do not drown the rest.
const NAME: f32 = 1.0;
const DESCRIPTION: f32 = 1.0;
const CAPABILITIES: f32 = 0.6;
const EXAMPLES: f32 = 0.6;
const INSTRUCTIONS: f32 = 0.4;

/// The vector of an agent; `None` when nothing that is said of it means anything.
pub(crate) fn vector_of_agent(spec: &AgentSpec) -> Option<Vector> {
    let capabilities = || spec.capabilities.iter();
    let examples = capabilities().flat_map(|capability| &capability.example_queries);
    let parts: [(f32, &mut dyn Iterator<Item = &str>); 5] = [
        (NAME, &mut std::iter::once(&*spec.name).chain(spec.tags.iter().map(|tag| &**tag))),
        (DESCRIPTION, &mut std::iter::once(&*spec.description)),
        (CAPABILITIES, &mut capabilities().flat_map(|capability| [&*capability.name, &*capability.description])),
        (EXAMPLES, &mut examples.map(|example| &**example)),
        (INSTRUCTIONS, &mut std::iter::once(&*spec.instructions)),
    ];
    let mut sum = [0.0; DIMENSIONS];
    for (weight, texts) in parts {
        let mut part = [0.0; DIMENSIONS];
        texts.for_each(|text| embedding::add(text, &mut part));
        let length = part.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x * weight / length);
        }
    }
    Vector::of(&sum)
}
