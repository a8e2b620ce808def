//! The order of agents: by words and meaning together, with what is named exactly above all.
//!
//! An agent's rank is `lexical · W / max(W) + semantic · S / max(S)`: `W` is what the words of the query are worth in it, `S`
//! the cosine of its vector and that of the query, zero when negative; where the operator has chosen a model, `model` is in
//! the place of `semantic`, and `S` the similarity by it. The maxima are those over all agents that pass the
//! filters, each at least its floor. Of many agents only the heads of the vectors are compared, and the whole vectors of
//! the best.

use super::analysis::WEIGHTS;
use super::reason::with_deprecation;
use super::{Factor, Named, SearchQuery};
use crate::agent::Agent;
use crate::embedding::{Head, ModelVector, Vector};
use crate::index::Doc;
use crate::index::analysis::Worth;
use crate::index::best::Best;
use crate::index::query::SearchWord;
use crate::index::reason::words_in_fields;
use crate::index::scores::{Fusion, Scores, highest_of};
use crate::registry::shard::Shard;

const EXACT_ID: f32 = 1.0;
const EXACT_NAME: f32 = 0.98;
/// Ids that begin with the whole query lie above this and below an exact name.
const ID_PREFIX: f32 = 0.86;
const ID_PREFIX_SPAN: f32 = 0.1;
/// What words and meaning can reach.
const RANKED: f32 = 0.85;
/// A deprecated agent that is not named exactly counts this part.
const DEPRECATED_FACTOR: f32 = 0.5;
/// What is known beside words and meaning moves an agent no further than this.
const FACTORS: std::ops::RangeInclusive<f32> = 0.9..=1.1;
/// From this similarity on an agent is found though it has none of the words.
const SIMILAR_MIN: f32 = 0.35;
/// A similarity from which on it is told why an agent was found though words tell it too.
const SIMILAR_TOLD: f32 = 0.45;
/// Up to so many agents are compared by their whole vectors; of more, the heads choose whose are. Small in tests, so that
/// they meet both.
const WHOLE_MAX: usize = if cfg!(test) { 5 } else { 1_024 };
/// How many of the best by heads are compared by their whole vectors.
const CLOSER: usize = 64;

/// How much words and meaning count in a search. The default was chosen by `cargo xtask eval`, on its tuning half alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgentRanking {
    /// Of the words.
    pub lexical: f32,
    /// Of the meaning.
    pub semantic: f32,
    /// The least that words are measured against.
    pub lexical_floor: f32,
    /// The least that similarities are measured against.
    pub similarity_floor: f32,
    /// Of the meaning, where a model that the operator has chosen tells it and not the table.
    pub model: f32,
    /// The least that similarities by the model are measured against.
    pub model_floor: f32,
}

impl Default for AgentRanking {
    fn default() -> Self {
        Self { lexical: 0.6, semantic: 0.4, lexical_floor: 0.3, similarity_floor: 0.5, model: 0.6, model_floor: 0.5 }
    }
}

impl AgentRanking {
    /// Words and nothing else.
    pub const WORDS_ALONE: Self = Self { lexical: 1.0, ..Self::UNMEASURED };
    /// The table and nothing else.
    pub const TABLE_ALONE: Self = Self { semantic: 1.0, ..Self::UNMEASURED };
    /// The model and nothing else.
    pub const MODEL_ALONE: Self = Self { model: 1.0, ..Self::UNMEASURED };
    const UNMEASURED: Self = Self {
        lexical: 0.0,
        semantic: 0.0,
        lexical_floor: f32::MIN_POSITIVE,
        similarity_floor: f32::MIN_POSITIVE,
        model: 0.0,
        model_floor: f32::MIN_POSITIVE,
    };
}

/// One search.
pub(super) struct Rank<'q> {
    pub(super) shard: &'q Shard,
    pub(super) query: &'q SearchQuery,
    pub(super) words: Vec<SearchWord>,
    pub(super) vector: Option<Vector>,
    /// The vector of the query by the model, if that has read agents of the shard.
    pub(super) meaning: Option<&'q ModelVector>,
    pub(super) named: &'q [(Doc, Named)],
}

impl Rank<'_> {
    /// Offers every agent that matches to `best`, and returns how many there are.
    pub(super) fn run<'s>(
        &self,
        scores: &mut Scores,
        best: &mut Best<'s, impl Fn(Doc) -> Option<&'s str> + Copy>,
    ) -> usize {
        let (shard, ranking) = (self.shard, self.query.ranking);
        scores.reset(shard.end());
        let rarities: f32 = self.words.iter().map(|word| word.rarity).sum();
        for word in &self.words {
            scores.add_word(&shard.texts.words, word, word.rarity / rarities / Worth::WHOLE);
        }
        let mut is_whole = self.score_meaning(&mut scores.second);
        if let Some(meaning) = self.meaning {
            // In the place of what the table says, for those that the model has read.
            shard.texts.model.similarities(meaning, shard.docs(), &mut scores.second);
            is_whole = true;
        }
        self.keep_what_passes(scores);
        if self.meaning.is_some() && self.vector.is_some() {
            let floors = (ranking.model_floor, ranking.similarity_floor);
            shard.texts.model.bring_together(shard.docs(), &mut scores.second, floors);
        }
        // An agent that is named matches, whatever its words are.
        for (doc, _) in self.named {
            if let Some(score) = scores.total.get_mut(*doc as usize).filter(|score| **score >= 0.0) {
                *score = score.max(f32::MIN_POSITIVE);
            }
        }
        let fused = scores.fuse(&Fusion {
            lexical: ranking.lexical,
            semantic: self.semantic(),
            lexical_floor: ranking.lexical_floor,
            similarity_floor: if self.meaning.is_some() { ranking.model_floor } else { ranking.similarity_floor },
            similar_min: SIMILAR_MIN,
        });
        if let Some(vector) = self.vector.as_ref().filter(|_| !is_whole) {
            self.refine(vector, fused.similar_unit, scores);
        }
        self.offer(&mut scores.total, best);
        fused.total
    }

    /// How much meaning counts.
    fn semantic(&self) -> f32 {
        if self.meaning.is_some() { self.query.ranking.model } else { self.query.ranking.semantic }
    }

    /// Puts the similarity of each agent into `similar`. Returns whether whole vectors were compared.
    fn score_meaning(&self, similar: &mut Vec<f32>) -> bool {
        let (vectors, end) = (&self.shard.texts.vectors, self.shard.end());
        match &self.vector {
            None => {
                similar.clear();
                similar.resize(end, 0.0);
                true
            }
            Some(vector) if self.shard.len() <= WHOLE_MAX => {
                similar.clear();
                similar.extend(self.shard.docs().map(|doc| vectors.similarity(vector, doc).unwrap_or_default()));
                true
            }
            Some(vector) => {
                vectors.estimates(&Head::of(vector), end, similar);
                false
            }
        }
    }

    fn keep_what_passes(&self, scores: &mut Scores) {
        let mut filters = self.query.filters.clone();
        if filters.enabled.is_none() && !self.query.include_disabled {
            filters.enabled = Some(true);
        }
        let flag_filter = filters.flags();
        let selection = filters.select(self.shard, Vec::new());
        if selection.is_flags() {
            scores.keep_only(|doc| flag_filter.passes(self.shard.flags_of(doc)));
        } else {
            scores.keep_only(selection.contains(self.shard));
        }
    }

    /// Takes the estimates out of the scores of the best and the exact similarities in.
    fn refine(&self, vector: &Vector, estimated_unit: f32, scores: &mut Scores) {
        let id = |doc| self.shard.agent(doc).map(|agent| agent.spec.id.as_str());
        let mut best = Best::new(id, None, CLOSER);
        best.floor = f32::MIN_POSITIVE;
        for (doc, score) in (0..).zip(&scores.total) {
            if *score >= best.floor {
                best.offer(*score, doc);
            }
        }
        let closer = best.into_sorted();
        let exact = |doc: Doc| self.shard.texts.vectors.similarity(vector, doc).unwrap_or_default();
        let exact: Vec<f32> = closer.iter().map(|(_, doc)| exact(*doc)).collect();
        let ranking = self.query.ranking;
        let unit = ranking.semantic / highest_of(&exact, ranking.similarity_floor);
        for ((_, doc), similar) in closer.into_iter().zip(exact) {
            let at = doc as usize;
            if let (Some(score), Some(estimate)) = (scores.total.get_mut(at), scores.second.get(at)) {
                let words = *score - estimate.max(0.0) * estimated_unit;
                // It stays a match, however little is left.
                *score = (words + similar.max(0.0) * unit).max(f32::MIN_POSITIVE);
            }
        }
    }

    /// Offers every match with its final score.
    fn offer<'s>(&self, scores: &mut [f32], best: &mut Best<'s, impl Fn(Doc) -> Option<&'s str> + Copy>) {
        let (shard, ranking) = (self.shard, self.query.ranking);
        let factors = &self.query.factors;
        // With factors the scores are brought down, so that none goes beyond what words and meaning can reach.
        let room = if factors.is_empty() { 1.0 } else { *FACTORS.end() };
        let unit = RANKED / (ranking.lexical + self.semantic()) / room;
        let deprecation = |doc: Doc| if shard.flags_of(doc).is_deprecated() { DEPRECATED_FACTOR } else { 1.0 };
        for (doc, kind) in self.named {
            let Some(score) = scores.get_mut(*doc as usize).filter(|score| **score >= 0.0) else { continue };
            let named = match kind {
                Named::Id => EXACT_ID,
                // An exact name is meant, deprecated or not.
                Named::Name => EXACT_NAME,
                Named::IdPrefix => (ID_PREFIX + ID_PREFIX_SPAN * *score * unit) * deprecation(*doc),
            };
            best.offer(named, *doc);
            *score = 0.0;
        }
        for (id, factor) in factors.iter() {
            let Some(doc) = shard.doc(id.as_str()) else { continue };
            if let Some(score) = scores.get_mut(doc as usize).filter(|score| **score > 0.0) {
                *score *= factor.within();
            }
        }
        for (doc, score) in (0..).zip(scores.iter()) {
            let score = *score * unit;
            // Most fail at the floor, so that few flags are read.
            if (score <= 0.0) | (score < best.floor) {
                continue;
            }
            let score = score * deprecation(doc);
            if score >= best.floor {
                best.offer(score, doc);
            }
        }
    }

    /// Why an agent was found.
    pub(super) fn reason(&self, agent: &Agent, doc: Doc) -> String {
        let kind = self.named.iter().find(|(d, _)| *d == doc).map(|(_, kind)| *kind);
        let reason = match kind {
            Some(Named::Id) => "exact id".to_owned(),
            Some(Named::Name) => "exact name".to_owned(),
            Some(Named::IdPrefix) => format!("id begins with {}", self.query.query.trim()),
            None => self.reason_of_rank(agent, doc),
        };
        with_deprecation(agent, reason)
    }

    fn reason_of_rank(&self, agent: &Agent, doc: Doc) -> String {
        let mut reason = words_in_fields(&self.shard.texts.words, &self.words, doc, &WEIGHTS);
        let told_from = if reason.is_empty() { f32::MIN } else { SIMILAR_TOLD };
        let mut add = |part: &str| {
            if !reason.is_empty() {
                reason.push_str("; ");
            }
            reason.push_str(part);
        };
        let texts = &self.shard.texts;
        let by_model = self.meaning.and_then(|meaning| texts.model.cosine(meaning, doc));
        let by_table = || self.vector.as_ref().and_then(|vector| texts.vectors.similarity(vector, doc));
        let similarity = by_model.or_else(by_table);
        if let Some(similarity) = similarity.filter(|similarity| *similarity >= told_from) {
            add(&format!("similar {similarity:.2}"));
        }
        if let Some(factor) = self.query.factors.get(&agent.spec.id) {
            add(&factor.reason);
        }
        reason
    }
}

impl Factor {
    fn within(&self) -> f32 {
        // What is no number moves nothing.
        if self.times.is_nan() { 1.0 } else { self.times.clamp(*FACTORS.start(), *FACTORS.end()) }
    }
}
