//! Looks for better weights on the tuning half: one weight after the other, again and again, until none gets better.

use a2a_core::memory::recall::Ranking;

use super::{Bench, Half};

type Field = (&'static str, fn(&mut Ranking) -> &mut f32, &'static [f32]);

const FIELDS: [Field; 12] = [
    ("semantic", |r| &mut r.semantic, &[0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2]),
    ("importance", |r| &mut r.importance, &[0.0, 0.05, 0.1, 0.2]),
    ("recency", |r| &mut r.recency, &[0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4]),
    ("strength", |r| &mut r.strength, &[0.0, 0.05, 0.1, 0.2]),
    ("when", |r| &mut r.when, &[0.0, 0.1, 0.2, 0.3, 0.4, 0.6]),
    ("cue", |r| &mut r.cue, &[0.0, 0.05, 0.1, 0.2, 0.3]),
    ("turns", |r| &mut r.turns, &[0.0, 0.1, 0.15, 0.25, 0.4]),
    ("alignment", |r| &mut r.alignment, &[0.0, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0]),
    ("alignment_floor", |r| &mut r.alignment_floor, &[0.001, 0.2, 0.3, 0.4, 0.5]),
    ("lexical_floor", |r| &mut r.lexical_floor, &[0.001, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0]),
    ("similarity_floor", |r| &mut r.similarity_floor, &[0.001, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
    ("lexical", |r| &mut r.lexical, &[0.4, 0.5, 0.6, 0.7, 0.8]),
];

/// The mean over the styles of recall@5 and of the mean reciprocal rank: each style counts the same.
fn value(bench: &Bench, ranking: Ranking) -> f64 {
    let scores = bench.scores(Half::Tuning, ranking);
    scores.values().map(|score| score.recall_5() + score.mrr()).sum::<f64>() / (2 * scores.len().max(1)) as f64
}

/// What counts where a model reads.
const MODEL_FIELDS: [Field; 5] = [
    ("model", |r| &mut r.model, &[0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 1.8, 2.2, 2.6]),
    ("model_alignment", |r| &mut r.model_alignment, &[0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.3]),
    ("model_floor", |r| &mut r.model_floor, &[0.001, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
    ("model_recency", |r| &mut r.model_recency, &[0.1, 0.15, 0.2, 0.25, 0.3, 0.4]),
    ("model", |r| &mut r.model, &[0.5, 0.7, 0.9, 1.1, 1.3, 2.0, 3.0]),
];

pub(super) fn run(bench: &Bench) {
    search(bench, &FIELDS);
}

/// The same for the weights that a model has instead of the table.
pub(super) fn run_model(bench: &Bench) {
    search(bench, &MODEL_FIELDS);
}

fn search(bench: &Bench, fields: &[Field]) {
    let mut best = Ranking::default();
    let mut best_value = value(bench, best);
    println!("start: {best_value:.4}");
    loop {
        let before = best_value;
        for (name, field, choices) in fields {
            for choice in *choices {
                let mut tried = best;
                *field(&mut tried) = *choice;
                let value = value(bench, tried);
                // A gain of less than this is one question by chance.
                if value > best_value + 0.0005 {
                    println!("{name} = {choice}: {value:.4}");
                    (best, best_value) = (tried, value);
                }
            }
        }
        if best_value <= before {
            break;
        }
    }
    println!("{best:#?}");
}
