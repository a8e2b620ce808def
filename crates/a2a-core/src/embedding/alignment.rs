//! How well the tokens of texts answer those of a question, one by one.
//!
//! The mean of a text blurs what it is made of: a word of the question that means nearly the same as one word of the text
//! is lost among the others. So each token of the question is compared with every token of the text and counts by the
//! nearest ("late interaction", Khattab and Zaharia, "ColBERT", 2020), here with the vectors of the static table. That
//! takes as many products as both have tokens, and is done for a few dozen candidates only; tokens that several of them
//! have are compared once.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::table::{Table, Token};
use super::{DIMENSIONS, TABLE, beginning, dot, each_token};

/// Further tokens of a question are not compared.
const QUESTION_TOKENS_MAX: usize = 24;
/// How much of a text is compared.
const TEXT_BYTES_MAX: usize = 768;

/// One number for each token of the question.
type Each = [f32; QUESTION_TOKENS_MAX];

/// The tokens of a question, ready to be compared with texts.
pub(crate) struct Alignment {
    table: &'static Table,
    /// The row of each token, one over its length, and what it weighs: the rarer, the more.
    tokens: Vec<([i8; DIMENSIONS], f32, f32)>,
    weights: f32,
    /// What each token of a text that was met so far answers.
    known: HashMap<Token, Each, RandomState>,
}

impl Alignment {
    /// Reads a question; `None` when it means nothing to the table.
    pub(crate) fn of(question: &str) -> Option<Self> {
        let table = TABLE.as_ref()?;
        let mut seen: Vec<Token> = Vec::new();
        each_token(beginning(question, TEXT_BYTES_MAX), table, &mut |token| {
            if seen.len() < QUESTION_TOKENS_MAX && table.length(token) > 0.0 && !seen.contains(&token) {
                seen.push(token);
            }
        });
        let weighed = |token| {
            let ((row, scale), length) = (table.row(token)?, table.length(token));
            Some((*row, 1.0 / length, length * scale))
        };
        let tokens: Vec<_> = seen.into_iter().filter_map(weighed).collect();
        let weights = tokens.iter().map(|(_, _, weight)| weight).sum();
        (weights > 0.0).then(|| Self { table, tokens, weights, known: HashMap::default() })
    }

    /// How well a text answers, 0 to about 1: the mean over the tokens of the question, by their weight, of the best
    /// cosine with a token of the text times the weight of that one.
    pub(crate) fn with(&mut self, text: &str) -> f32 {
        let Self { table, tokens, known, .. } = self;
        let mut best: Each = [0.0; QUESTION_TOKENS_MAX];
        each_token(beginning(text, TEXT_BYTES_MAX), table, &mut |token| {
            let answers = known.entry(token).or_insert_with(|| answers(table, tokens, token));
            for (best, answer) in best.iter_mut().zip(answers) {
                *best = if *answer > *best { *answer } else { *best };
            }
        });
        self.tokens.iter().zip(best).map(|((_, _, weight), best)| weight * best).sum::<f32>() / self.weights
    }
}

/// The cosine of a token with each of the question, times its weight.
fn answers(table: &Table, question: &[([i8; DIMENSIONS], f32, f32)], token: Token) -> Each {
    let mut answers = [0.0; QUESTION_TOKENS_MAX];
    if let Some((row, scale)) = table.row(token).filter(|_| table.length(token) > 0.0) {
        // Its weight is its length times its scale, of which the length cancels out that of the cosine.
        for (answer, (asked, unit, _)) in answers.iter_mut().zip(question) {
            *answer = dot(asked, row) as f32 * unit * scale;
        }
    }
    answers
}

#[cfg(test)]
#[cfg(feature = "embedding")]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_a_near_word_answers_better_than_one_without() {
        let mut question = Alignment::of("which handsets can install it").unwrap();
        let near = question.with("older phones get the web version of the thing, with all there is");
        let far = question.with("the goulash of grandmother has caraway and marjoram");
        assert!(near > far, "{near} {far}");
        assert!(Alignment::of("").is_none());
        assert_eq!(question.with(""), 0.0);
        // What was met before changes nothing.
        assert_eq!(question.with("older phones get the web version of the thing, with all there is"), near);
    }
}
