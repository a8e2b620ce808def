//! Scores the memories that a query may find: by words, by meaning, then the best of them more closely.
//!
//! All memories of a large index are looked at roughly, a few in full: what costs little per memory is done for all, and
//! chooses those for which the rest is done. Numbers are kept by place among the candidates, so that a filter which leaves
//! few of them makes the query as cheap as they are few.

use super::filter::{Candidates, Selection};
use super::rank::{Asked, Ranking};
use super::search::Named;
use super::shard::Shard;
use crate::embedding::{Alignment, Head, ModelVector, Vector};
use crate::index::Doc;
use crate::index::analysis::Worth;
use crate::index::best::Best;
use crate::index::query::SearchWord;
use crate::index::scores::{Fused, Fusion, Scores, highest_of};
use crate::memory::MemoryType;

/// What words and meaning can reach.
const RANKED: f32 = 0.89;
/// A cosine from which on a memory counts as similar though it shares no word.
const SIMILAR_MIN: f32 = 0.25;
/// Up to so many candidates are compared by their whole vectors; of more, the heads of the vectors choose whose are. Small
/// in tests, so that they meet both.
const WHOLE_MAX: usize = if cfg!(test) { 5 } else { 4_096 };
/// How many of the best candidates are looked at more closely.
const CLOSER: usize = 128;
/// How many of those are compared token by token.
const ALIGNED: usize = 64;
/// How many turns among the best lend weight to those next to them.
const LENDING_TURNS: usize = 48;

/// What a query is scored by.
pub(super) struct Scoring<'q> {
    pub(super) shard: &'q Shard,
    pub(super) ranking: &'q Ranking,
    /// The vector of the query by the model, if that has read memories of the shard.
    pub(super) meaning: Option<&'q ModelVector>,
    pub(super) selection: &'q Selection<'q>,
    pub(super) asked: &'q Asked,
}

impl<'q> Scoring<'q> {
    /// Offers every match with its score to `best`, and returns how many there are.
    pub(super) fn run<'s>(
        &self,
        words: &[SearchWord],
        vector: Option<&Vector>,
        alignment: Option<Alignment>,
        named: &[(Doc, Named)],
        scores: &mut Scores,
        best: &mut Best<'s, impl Fn(Doc) -> Option<&'s str> + Copy>,
    ) -> usize {
        self.score_words(words, scores);
        let mut is_whole = self.score_meaning(vector, &mut scores.second);
        if let Some(meaning) = self.meaning {
            // In the place of what the table says, for those that the model has read.
            self.shard.texts.model.similarities(meaning, self.docs(), &mut scores.second);
            is_whole = true;
        }
        if let Candidates::All(_) = self.candidates() {
            scores.keep_only(|doc| self.selection.passes(doc));
        }
        if self.meaning.is_some() && vector.is_some() {
            let floors = (self.ranking.model_floor, self.ranking.similarity_floor);
            self.shard.texts.model.bring_together(self.docs(), &mut scores.second, floors);
        }
        let fused = self.fuse(scores);
        let (closer, rest_max) = self.highest(&scores.total);
        if let Some(vector) = vector.filter(|_| !is_whole) {
            self.refine(vector, fused.similar_unit, &closer, scores);
        }
        let bases = &mut scores.total;
        if let Some(alignment) = alignment {
            self.align(alignment, &closer, bases);
        }
        let lent = self.lend_to_neighbours(&closer, bases);
        let touched = closer.iter().chain(&lent).filter_map(|place| bases.get(*place));
        let base_max = touched.fold(rest_max, |most, base| most.max(*base));
        self.rank(base_max, &closer, named, bases, best);
        fused.total
    }

    fn candidates(&self) -> &Candidates {
        &self.selection.candidates
    }

    /// Puts what the words of the query are worth into `scores.total`.
    fn score_words(&self, words: &[SearchWord], scores: &mut Scores) {
        scores.reset(self.candidates().len());
        let index = &self.shard.texts.words;
        let rarities: f32 = words.iter().map(|word| word.rarity).sum();
        for word in words {
            let unit = word.rarity / rarities / Worth::WHOLE;
            match self.candidates() {
                Candidates::All(_) => scores.add_word(index, word, unit),
                Candidates::Listed(docs) => scores.add_word_of(index, word, unit, docs),
            }
        }
    }

    /// Puts the similarity of each candidate into `similar`. Returns whether whole vectors were compared.
    fn score_meaning(&self, vector: Option<&Vector>, similar: &mut Vec<f32>) -> bool {
        let (candidates, vectors) = (self.candidates(), &self.shard.texts.vectors);
        let count = candidates.len();
        let Some(vector) = vector else {
            similar.clear();
            similar.resize(count, 0.0);
            return true;
        };
        // By what is live, so that numbers which are unused decide nothing.
        let is_whole = count.min(self.shard.len()) <= WHOLE_MAX;
        match candidates {
            _ if is_whole => {
                similar.clear();
                let each = (0..count).map(|place| vectors.similarity(vector, candidates.doc(place)));
                similar.extend(each.map(Option::unwrap_or_default));
            }
            Candidates::All(end) => vectors.estimates(&Head::of(vector), *end, similar),
            Candidates::Listed(docs) => vectors.estimates_of(&Head::of(vector), docs, similar),
        }
        is_whole
    }

    fn docs(&self) -> impl Iterator<Item = Doc> + Clone {
        (0..self.candidates().len()).map(|place| self.candidates().doc(place))
    }

    /// Puts the base of each memory that passes into `scores.total`, counts what matches. The base of what does not pass is
    /// below zero.
    fn fuse(&self, scores: &mut Scores) -> Fused {
        let by_model = self.meaning.is_some();
        scores.fuse(&Fusion {
            lexical: self.ranking.lexical,
            semantic: if by_model { self.ranking.model } else { self.ranking.semantic },
            lexical_floor: self.ranking.lexical_floor,
            similarity_floor: if by_model { self.ranking.model_floor } else { self.ranking.similarity_floor },
            similar_min: SIMILAR_MIN,
        })
    }

    /// The places of the best candidates, the best first, and what no base of another one is above.
    fn highest(&self, bases: &[f32]) -> (Vec<usize>, f32) {
        // What the query says of time and type counts much, and costs less to know than the whole factor.
        let reads_rows = self.asked.when.range.is_some() || self.asked.cue != 0;
        let id = |place: Doc| self.shard.memory(self.candidates().doc(place as usize)).map(|memory| memory.id.as_str());
        let mut best = Best::new(id, None, CLOSER);
        best.floor = f32::MIN_POSITIVE;
        for (place, base) in (0..).zip(bases) {
            if *base <= 0.0 {
                continue;
            }
            let hinted = if reads_rows { *base * self.hint(place as usize) } else { *base };
            if hinted >= best.floor {
                best.offer(hinted, place);
            }
        }
        let found = best.into_sorted();
        let rest_max = found.last().map_or(0.0, |(hinted, _)| *hinted);
        (found.into_iter().map(|(_, place)| place as usize).collect(), rest_max)
    }

    fn hint(&self, place: usize) -> f32 {
        let doc = self.candidates().doc(place);
        let row = self.shard.rows().get(doc as usize);
        row.map_or(1.0, |row| 1.0 + self.ranking.asked_for(row, self.shard.flags_of(doc).kind_bit(), self.asked))
    }

    fn factor(&self, doc: Doc) -> f32 {
        let row = self.shard.rows().get(doc as usize);
        row.map_or(1.0, |row| self.ranking.factor(row, self.shard.flags_of(doc).kind_bit(), self.asked))
    }

    /// Takes the estimates out of the bases of the best candidates and the exact similarities in.
    fn refine(&self, vector: &Vector, estimated_unit: f32, closer: &[usize], scores: &mut Scores) {
        let exact =
            |place: usize| self.shard.texts.vectors.similarity(vector, self.candidates().doc(place)).unwrap_or(0.0);
        let exact: Vec<f32> = closer.iter().map(|place| exact(*place)).collect();
        let unit = self.ranking.semantic / highest_of(&exact, self.ranking.similarity_floor);
        for (place, similar) in closer.iter().zip(exact) {
            if let (Some(base), Some(estimate)) = (scores.total.get_mut(*place), scores.second.get(*place)) {
                let words = *base - estimate.max(0.0) * estimated_unit;
                // It stays a candidate, however little is left.
                *base = (words + similar.max(0.0) * unit).max(f32::MIN_POSITIVE);
            }
        }
    }

    /// Adds to the bases of the best candidates how well their tokens answer.
    fn align(&self, mut alignment: Alignment, closer: &[usize], bases: &mut [f32]) {
        let mut answer = |place: usize| {
            let memory = self.shard.memory(self.candidates().doc(place));
            memory.map_or(0.0, |memory| alignment.with(&memory.spec.content))
        };
        let answers: Vec<(usize, f32)> = closer.iter().take(ALIGNED).map(|place| (*place, answer(*place))).collect();
        let weight = if self.meaning.is_some() { self.ranking.model_alignment } else { self.ranking.alignment };
        let most = answers.iter().fold(self.ranking.alignment_floor, |most, (_, answer)| most.max(*answer));
        for (place, answer) in answers {
            if let Some(base) = bases.get_mut(place) {
                *base += weight * answer / most;
            }
        }
    }

    /// Lets the best turns of conversations lend weight to the turns next to them. Returns the places of those.
    fn lend_to_neighbours(&self, closer: &[usize], bases: &mut [f32]) -> Vec<usize> {
        let mut lent = Vec::new();
        if self.ranking.turns <= 0.0 {
            return lent;
        }
        let turn_bit = 1 << MemoryType::Conversation as u8;
        let turns: Vec<(Doc, f32)> = closer
            .iter()
            .filter_map(|place| Some((self.candidates().doc(*place), *bases.get(*place)?)))
            .filter(|(doc, _)| self.shard.flags_of(*doc).kind_bit() == turn_bit)
            .take(LENDING_TURNS)
            .collect();
        for (doc, base) in turns {
            for place in self.shard.neighbours(doc).into_iter().flatten().filter_map(|doc| self.selection.place(doc)) {
                if let Some(of_neighbour) = bases.get_mut(place) {
                    *of_neighbour += self.ranking.turns * base;
                    lent.push(place);
                }
            }
        }
        lent
    }

    /// Offers every candidate with its final score.
    fn rank<'s>(
        &self,
        base_max: f32,
        closer: &[usize],
        named: &[(Doc, Named)],
        bases: &mut [f32],
        best: &mut Best<'s, impl Fn(Doc) -> Option<&'s str> + Copy>,
    ) {
        // With lending, a base can be above one; it is brought back below.
        let factor_max = self.ranking.factor_max();
        let unit = RANKED / (factor_max * base_max.max(1.0));
        for (doc, how) in named {
            let Some(base) = self.selection.place(*doc).and_then(|place| bases.get_mut(place)) else { continue };
            let share = (base.max(0.0) * self.factor(*doc) * unit / RANKED).clamp(0.0, 1.0);
            best.offer(how.score(share), *doc);
            *base = 0.0;
        }
        // Those that are probably the best come first, so that for nearly all others no factor has to be computed.
        for place in closer {
            let doc = self.candidates().doc(*place);
            if let Some(base) = bases.get_mut(*place).filter(|base| **base > 0.0) {
                best.offer(*base * self.factor(doc) * unit, doc);
                *base = 0.0;
            }
        }
        best.cut();
        let highest_factor = factor_max * unit;
        for (place, base) in bases.iter().enumerate() {
            if *base <= 0.0 || *base * highest_factor < best.floor {
                continue;
            }
            let doc = self.candidates().doc(place);
            let score = *base * self.factor(doc) * unit;
            if score >= best.floor {
                best.offer(score, doc);
            }
        }
    }
}
