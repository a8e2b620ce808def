//! The weights of a rank, and the factors that time and use have in it.
//!
//! A memory's rank is `base · factor`, where
//!
//! - `base = lexical · W / max(W) + semantic · S / max(S) + alignment · A / max(A)`: `W` is what the words of the query are
//!   worth in it, `S` the cosine of its vector and that of the query, zero when negative, `A` how well its tokens answer
//!   those of the query one by one, for the best candidates by the first two. The maxima are those over all memories that
//!   pass the filters, each at least its floor, so that a best that hardly fits does not count as if it did.
//! - `factor = 1 + importance · (importance of the memory - 0.5) + recency / (1 + age / 30 days)
//!   + strength · (1 - decay)^(days since last told or recalled) + frequency · log2(told), at most 4 doublings
//!   + when, if it was made in the time that the query names + cue, if the query asks for its type`.
//!
//! Where the operator has chosen a model, `semantic`, `S`, `alignment` and `recency` are `model`, the similarity by it,
//! `model_alignment` and `model_recency`.
//!
//! A turn of a conversation lends the turns next to it the part `turns` of its own base. All factors together are mild:
//! they move a memory past another one that fits a little better, and never past one with an exact id, key or phrase.

use super::shard::Row;
use super::when::When;
use crate::memory::MemoryType;
use crate::memory::retention::days_between;
use crate::time::Timestamp;

const RECENCY_DAYS: f32 = 30.0;
const DOUBLINGS_MAX: f32 = 4.0;

/// How much each part of a rank counts. The default was chosen by `cargo xtask eval`, on its tuning half alone. Those of a
/// model were chosen among the ones that `--model --tune` tries so that no style loses what another one gains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranking {
    /// Of the words.
    pub lexical: f32,
    /// Of the meaning.
    pub semantic: f32,
    /// Of the tokens one by one, for the best candidates.
    pub alignment: f32,
    /// Of the importance.
    pub importance: f32,
    /// Of having been made lately.
    pub recency: f32,
    /// Of what time and use have left of it.
    pub strength: f32,
    /// Of having been told several times.
    pub frequency: f32,
    /// Of having been made when the query says.
    pub when: f32,
    /// Of being of the type that the query asks for.
    pub cue: f32,
    /// What a turn lends its neighbours.
    pub turns: f32,
    /// Of the meaning, where a model that the operator has chosen tells it and not the table.
    pub model: f32,
    /// Of the tokens one by one beside that.
    pub model_alignment: f32,
    /// Of having been made lately beside that. It is more than beside the table: a model tells two states of one thing apart
    /// by how they are said, and the later one has to win all the same.
    pub model_recency: f32,
    /// The least that similarities by the model are measured against.
    pub model_floor: f32,
    /// The least that words are measured against.
    pub lexical_floor: f32,
    /// The least that similarities are measured against.
    pub similarity_floor: f32,
    /// The least that alignments are measured against.
    pub alignment_floor: f32,
}

impl Default for Ranking {
    fn default() -> Self {
        Self {
            lexical: 0.6,
            semantic: 1.2,
            alignment: 1.3,
            importance: 0.05,
            recency: 0.15,
            strength: 0.1,
            frequency: 0.02,
            when: 0.4,
            cue: 0.3,
            turns: 0.05,
            lexical_floor: 0.8,
            similarity_floor: 0.5,
            alignment_floor: 0.2,
            model: 1.8,
            model_alignment: 1.3,
            model_recency: 0.25,
            model_floor: 0.5,
        }
    }
}

impl Ranking {
    /// Words and nothing else.
    pub const WORDS_ALONE: Self = Self { lexical: 1.0, ..Self::NOTHING };
    /// The model and nothing else.
    pub const MODEL_ALONE: Self = Self { model: 1.0, ..Self::NOTHING };
    /// The table and nothing else.
    pub const TABLE_ALONE: Self = Self { semantic: 1.0, ..Self::NOTHING };
    const NOTHING: Self = Self {
        lexical: 0.0,
        semantic: 0.0,
        alignment: 0.0,
        importance: 0.0,
        recency: 0.0,
        strength: 0.0,
        frequency: 0.0,
        when: 0.0,
        cue: 0.0,
        turns: 0.0,
        model: 0.0,
        model_alignment: 0.0,
        model_recency: 0.0,
        model_floor: f32::MIN_POSITIVE,
        lexical_floor: f32::MIN_POSITIVE,
        similarity_floor: f32::MIN_POSITIVE,
        alignment_floor: f32::MIN_POSITIVE,
    };

    /// The highest that a factor can be.
    pub(super) fn factor_max(&self) -> f32 {
        1.0 + 0.5 * self.importance
            + self.recency
            + self.strength
            + DOUBLINGS_MAX * self.frequency
            + self.when
            + self.cue
    }

    pub(super) fn factor(&self, row: &Row, kind: u8, asked: &Asked) -> f32 {
        let recency = 1.0 / (1.0 + days_between(row.created_at, asked.now) / RECENCY_DAYS);
        // An earlier state is asked for: what is new has no advantage then.
        let recency = if asked.when.earlier { 0.0 } else { recency };
        let strength = (1.0 - row.decay).max(0.0).powf(days_between(row.last_accessed, asked.now));
        let doublings = (row.frequency.max(1) as f32).log2().min(DOUBLINGS_MAX);
        1.0 + self.importance * (row.importance - 0.5)
            + self.recency * recency
            + self.strength * strength
            + self.frequency * doublings
            + self.asked_for(row, kind, asked)
    }

    /// The part of the factor that the query itself asks for, zero or more.
    pub(super) fn asked_for(&self, row: &Row, kind: u8, asked: &Asked) -> f32 {
        let in_time = asked.when.range.is_some_and(|(from, to)| row.created_at >= from && row.created_at < to);
        (if in_time { self.when } else { 0.0 }) + if asked.cue & kind != 0 { self.cue } else { 0.0 }
    }
}

/// What a query says beside its words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) now: Timestamp,
    pub(super) when: When,
    /// The types that it asks for, as a set of bits.
    pub(super) cue: u8,
}

impl Asked {
    pub(super) fn of(query: &str, now: Timestamp) -> Self {
        let lower = query.to_lowercase();
        let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        Self { now, when: When::of(&words, now), cue: cue_of(&words) }
    }
}

fn cue_of(words: &[&str]) -> u8 {
    const PREFERENCE: [&str; 16] = [
        "prefer",
        "prefers",
        "preferred",
        "preference",
        "preferences",
        "favourite",
        "favorite",
        "favourites",
        "favorites",
        "like",
        "likes",
        "love",
        "loves",
        "hate",
        "hates",
        "dislikes",
    ];
    let mut cue = 0;
    if words.iter().any(|word| PREFERENCE.contains(word)) {
        cue |= 1 << MemoryType::Preference as u8;
    }
    let asks_how = words.windows(2).any(|pair| matches!(pair, ["how", "do" | "to" | "does" | "should" | "can"]));
    if asks_how || words.iter().any(|word| matches!(*word, "steps" | "procedure" | "runbook" | "recipe")) {
        cue |= 1 << MemoryType::Procedural as u8;
    }
    cue
}
