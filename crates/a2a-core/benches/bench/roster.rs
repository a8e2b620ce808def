//! Made-up agents, the same in each run: documents of about 600 bytes, 20 categories, 200 tags, 3 shared schemas.

use std::sync::Arc;

use a2a_core::agent::{AgentSpec, Capability, Executor};
use a2a_core::ids::{AgentId, Namespace};
use a2a_core::json_text::JsonText;

/// Words are drawn from so many, the first ones far more often, as in natural text.
pub(crate) const VOCABULARY: usize = 20_000;
pub(crate) const CATEGORIES: usize = 20;
const TAGS: usize = 200;
const SCHEMAS: [&str; 3] = [
    r#"{"properties":{"text":{"type":"string"}},"required":["text"],"type":"object"}"#,
    r#"{"properties":{"limit":{"type":"integer"},"query":{"type":"string"}},"type":"object"}"#,
    r#"{"properties":{"url":{"type":"string"}},"required":["url"],"type":"object"}"#,
];

/// A small generator of numbers (xorshift).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: usize) -> Self {
        // The first numbers of similar seeds are similar too, so that some are thrown away.
        let mut random = Self((seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            random.below(2);
        }
        random
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or(0) % end
    }

    /// About Zipf-distributed: rank 1 is twice as frequent as rank 2.
    pub(crate) fn zipf(&mut self, end: usize) -> usize {
        let uniform = self.below(1 << 30) as f64 / (1u64 << 30) as f64;
        ((end as f64).powf(uniform) - 1.0) as usize
    }

    pub(crate) fn text(&mut self, words: usize) -> String {
        (0..words).map(|_| word(self.zipf(VOCABULARY))).collect::<Vec<_>>().join(" ")
    }
}

/// A made-up word that is always the same for one rank.
pub(crate) fn word(rank: usize) -> String {
    const SYLLABLES: [&str; 30] = [
        "ka", "to", "ri", "mo", "ne", "sul", "ver", "dat", "pro", "lin", "gra", "fe", "con", "ter", "bas", "qui", "lo",
        "par", "mi", "des", "tra", "cor", "al", "en", "vi", "sta", "pe", "nu", "hos", "ju",
    ];
    let mut rest = rank + 30;
    let mut word = String::new();
    while rest > 0 {
        word.push_str(SYLLABLES[rest % 30]);
        rest /= 30;
    }
    word
}

/// The document of agent `number`; `edition` makes another document of the same agent.
pub(crate) fn spec(number: usize, edition: usize) -> AgentSpec {
    let mut random = Random::new(number);
    let (first, second) = (word(random.zipf(VOCABULARY)), word(random.zipf(VOCABULARY)));
    let mut tags: Vec<Arc<str>> = (0..3).map(|_| Arc::from(format!("tag-{}", random.zipf(TAGS)))).collect();
    tags.sort();
    tags.dedup();
    let category = format!("category-{}", random.zipf(CATEGORIES));
    let capability = Capability {
        name: format!("{first}_{number}").into(),
        description: random.text(4).into(),
        input_schema: Some(JsonText::from_stored(SCHEMAS[number % SCHEMAS.len()])),
        output_schema: None,
        example_queries: Box::new([random.text(4).into()]),
    };
    AgentSpec {
        namespace: Namespace::default(),
        id: id(number),
        name: format!("{first} {second}").into(),
        version: format!("1.0.{edition}").into(),
        description: random.text(10).into(),
        instructions: random.text(8).into(),
        category: category.into(),
        tags: tags.into(),
        enabled: !number.is_multiple_of(20),
        capabilities: Box::new([capability]),
        executor: Executor::default(),
        config: JsonText::from_stored("{}"),
        deprecated: None,
    }
}

/// The id of agent `number`. Neighbours are far apart in the order of ids, as when many people choose names.
pub(crate) fn id(number: usize) -> AgentId {
    let mixed = (number as u32).wrapping_mul(0x9E37_79B1);
    AgentId::parse(&format!("agent-{mixed:08x}")).expect("it is made of letters, digits and a dash")
}
