//! BERT: from the tokens of a text to its vector (Devlin and others, "BERT", 2018; Reimers and Gurevych, "Sentence-BERT",
//! 2019). One text at a time, so that nothing has to be padded.

use a2a_core::embedding::{ModelVector, WordPieces};
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use crate::weights::{Rows, Weights};
use crate::{Pooling, Shape, TOKENS_MAX};

/// The model, ready to read.
pub(super) struct Transformer {
    pieces: WordPieces,
    words: Rows,
    /// One row for each position, with what the type of the text adds already in it.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    hidden: usize,
    heads: usize,
    is_first_token: bool,
}

impl std::fmt::Debug for Transformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transformer").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}

/// `x · weights + bias`.
struct Dense {
    weights: PackedBMatrix<f32>,
    bias: Vec<f32>,
}

/// Brings each row to mean zero and variance one, then scales and moves it.
struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

struct Layer {
    /// Queries, keys and values at once.
    attention: Dense,
    attention_out: Dense,
    attention_norm: Norm,
    inner: Dense,
    out: Dense,
    norm: Norm,
}

/// Reads the parts of a layer.
struct Parts<'w> {
    gemm: &'w GemmExecutor,
    weights: &'w Weights,
    epsilon: f32,
}

impl Parts<'_> {
    /// Several of the same input, one after the other in the output.
    fn dense(&self, names: &[String], input: usize, output: usize) -> Result<Dense, String> {
        let (mut rows, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            rows.extend(self.weights.read(&format!("{name}.weight"), &[output, input])?);
            bias.extend(self.weights.read(&format!("{name}.bias"), &[output])?);
        }
        let rows = NdTensorView::from_data([output * names.len(), input], rows.as_slice());
        Ok(Dense { weights: self.gemm.prepack_b(rows.transposed()), bias })
    }

    fn norm(&self, name: &str, size: usize) -> Result<Norm, String> {
        Ok(Norm {
            scale: self.weights.read(&format!("{name}.weight"), &[size])?,
            shift: self.weights.read(&format!("{name}.bias"), &[size])?,
            epsilon: self.epsilon,
        })
    }

    fn layer(&self, number: usize, shape: &Shape) -> Result<Layer, String> {
        let (hidden, inner) = (shape.hidden_size, shape.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{number}.{part}");
        let of_attention = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        Ok(Layer {
            attention: self.dense(&of_attention, hidden, hidden)?,
            attention_out: self.dense(&[name("attention.output.dense")], hidden, hidden)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"), hidden)?,
            inner: self.dense(&[name("intermediate.dense")], hidden, inner)?,
            out: self.dense(&[name("output.dense")], inner, hidden)?,
            norm: self.norm(&name("output.LayerNorm"), hidden)?,
        })
    }
}

impl Dense {
    fn apply(&self, gemm: &GemmExecutor, x: &[f32]) -> Result<Vec<f32>, String> {
        let (input, output) = (self.weights.rows(), self.bias.len());
        let rows = x.len() / input;
        let mut y = vec![0.0; rows * output];
        let options = GemmOptions { bias: Some(BiasVector::Row(&self.bias)), ..GemmOptions::default() };
        let x = GemmInputA::Unpacked(NdTensorView::from_data([rows, input], x));
        gemm.gemm(&mut y, x, GemmInputB::Packed(&self.weights), options).map_err(|error| error.to_string())?;
        Ok(y)
    }
}

impl Norm {
    fn apply(&self, x: &mut [f32]) {
        let size = self.scale.len();
        for row in x.chunks_exact_mut(size) {
            let mean = row.iter().sum::<f32>() / size as f32;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / size as f32;
            let unit = 1.0 / (variance + self.epsilon).sqrt();
            for ((x, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift) {
                *x = (*x - mean) * unit * scale + shift;
            }
        }
    }
}

fn add(x: &mut [f32], more: &[f32]) {
    x.iter_mut().zip(more).for_each(|(x, more)| *x += more);
}

/// The part of a normal distribution that is below, times `x`. The error function is formula 7.1.26 of Abramowitz and
/// Stegun, which is right to seven digits.
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let polynomial = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let erf = (1.0 - polynomial * (-z * z).exp()).copysign(x);
    0.5 * x * (1.0 + erf)
}

fn softmax(row: &mut [f32]) {
    let highest = row.iter().fold(f32::NEG_INFINITY, |most, x| most.max(*x));
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = (*x - highest).exp();
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x /= sum);
}

impl Transformer {
    pub(super) fn new(shape: &Shape, pooling: Pooling, pieces: WordPieces, weights: &Weights) -> Result<Self, String> {
        if pieces.count() > shape.vocab_size {
            return Err(format!("the vocabulary has {} tokens, the model {}", pieces.count(), shape.vocab_size));
        }
        let gemm = GemmExecutor::new();
        let hidden = shape.hidden_size;
        let parts = Parts { gemm: &gemm, weights, epsilon: shape.layer_norm_eps };
        let mut positions =
            weights.read("embeddings.position_embeddings.weight", &[shape.max_position_embeddings, hidden])?;
        let types = weights.read("embeddings.token_type_embeddings.weight", &[2, hidden])?;
        positions.truncate(TOKENS_MAX * hidden);
        positions.chunks_exact_mut(hidden).for_each(|row| add(row, &types));
        let norm = parts.norm("embeddings.LayerNorm", hidden)?;
        let layers =
            (0..shape.num_hidden_layers).map(|number| parts.layer(number, shape)).collect::<Result<Vec<_>, _>>()?;
        let words = weights.rows("embeddings.word_embeddings.weight", shape.vocab_size, hidden)?;
        Ok(Self {
            pieces,
            words,
            positions,
            norm,
            layers,
            hidden,
            heads: shape.num_attention_heads,
            is_first_token: pooling.pooling_mode_cls_token,
        })
    }

    /// Reads a text, or the beginning of it.
    pub(super) fn embed(&self, text: &str) -> Result<ModelVector, String> {
        // Made anew because it can't go to another thread; it only tells which instructions the processor has.
        let gemm = &GemmExecutor::new();
        let hidden = self.hidden;
        let tokens = self.pieces.tokens(text, self.positions.len() / hidden);
        let mut x = vec![0.0; tokens.len() * hidden];
        for ((row, token), position) in x.chunks_exact_mut(hidden).zip(&tokens).zip(self.positions.chunks_exact(hidden))
        {
            self.words.read(*token as usize, row)?;
            add(row, position);
        }
        self.norm.apply(&mut x);
        for layer in &self.layers {
            let attended = self.attend(gemm, layer, &x)?;
            add(&mut x, &layer.attention_out.apply(gemm, &attended)?);
            layer.attention_norm.apply(&mut x);
            let mut inner = layer.inner.apply(gemm, &x)?;
            inner.iter_mut().for_each(|x| *x = gelu(*x));
            add(&mut x, &layer.out.apply(gemm, &inner)?);
            layer.norm.apply(&mut x);
        }
        let mut direction = vec![0.0; hidden];
        let rows = if self.is_first_token { 1 } else { tokens.len() };
        x.chunks_exact(hidden).take(rows).for_each(|row| add(&mut direction, row));
        ModelVector::of(&direction).ok_or_else(|| "the text has no direction".to_owned())
    }

    /// What each token takes from the others.
    fn attend(&self, gemm: &GemmExecutor, layer: &Layer, x: &[f32]) -> Result<Vec<f32>, String> {
        let (hidden, size) = (self.hidden, self.hidden / self.heads);
        let read = layer.attention.apply(gemm, x)?;
        let count = x.len() / hidden;
        let mut attended = vec![0.0; x.len()];
        let mut weights = vec![0.0; count * count];
        let mut taken = vec![0.0; count * size];
        for head in 0..self.heads {
            // One of queries, keys and values of this head: columns of what was read.
            let part = |which: usize| {
                let from = read.get(which * hidden + head * size..).unwrap_or_default();
                NdTensorView::from_slice_with_strides([count, size], from, [3 * hidden, 1])
                    .map_err(|error| format!("{error:?}"))
            };
            let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
            let options = GemmOptions { alpha: 1.0 / (size as f32).sqrt(), ..GemmOptions::default() };
            gemm.gemm(
                &mut weights,
                GemmInputA::Unpacked(queries.view()),
                GemmInputB::Unpacked(keys.view().transposed()),
                options,
            )
            .map_err(|error| error.to_string())?;
            weights.chunks_exact_mut(count).for_each(softmax);
            let own = GemmInputA::Unpacked(NdTensorView::from_data([count, count], weights.as_slice()));
            gemm.gemm(&mut taken, own, GemmInputB::Unpacked(values.view()), GemmOptions::default())
                .map_err(|error| error.to_string())?;
            for (row, taken) in attended.chunks_exact_mut(hidden).zip(taken.chunks_exact(size)) {
                row.iter_mut().skip(head * size).zip(taken).for_each(|(place, taken)| *place = *taken);
            }
        }
        Ok(attended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_is_that_of_the_reference() {
        for (x, y) in [(0.0, 0.0), (1.0, 0.841_344_7), (-1.0, -0.158_655_3), (3.0, 2.995_950_3), (-0.5, -0.154_268_8)] {
            assert!((gelu(x) - y).abs() < 1e-6, "{x} {}", gelu(x));
        }
    }
}
