//! Reads the table: tokens with their vectors, and what the tokenizer has to know of characters.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::characters::Characters;
use super::tokenizer::Vocabulary;
use super::{DIMENSIONS, dot};

const MAGIC: &[u8] = b"A2AEMB01";

/// The number of a token.
pub(super) type Token = u32;

pub(super) struct Table {
    tokens: HashMap<&'static str, Token, RandomState>,
    scales: Box<[f32]>,
    rows: Box<[[i8; DIMENSIONS]]>,
    /// The length of each row, in its own numbers.
    lengths: Box<[f32]>,
    /// How many bytes the longest token has.
    longest: usize,
    pub(super) characters: Characters,
}

/// Reads a file from its beginning.
pub(super) struct Reader(pub(super) &'static [u8]);

impl Reader {
    pub(super) fn take(&mut self, length: usize) -> Option<&'static [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn section(&mut self) -> Option<&'static [u8]> {
        let length = self.number()?;
        self.take(length as usize)
    }
}

impl Table {
    /// Reads the whole file; `None` when it is not one of ours.
    pub(super) fn read(file: &'static [u8]) -> Option<Self> {
        let mut reader = Reader(file);
        if reader.take(MAGIC.len())? != MAGIC || reader.number()? as usize != DIMENSIONS {
            return None;
        }
        let texts = std::str::from_utf8(reader.section()?).ok()?;
        let tokens: HashMap<&str, Token, RandomState> = texts.split('\n').zip(0..).collect();
        let (scales, _) = reader.section()?.as_chunks::<4>();
        let (rows, rest) = reader.section()?.as_chunks::<DIMENSIONS>();
        let characters = Characters {
            punctuation: ranges(reader.section()?),
            marks: ranges(reader.section()?),
            controls: ranges(reader.section()?),
            decompositions: decompositions(reader.section()?)?,
        };
        if rows.len() != tokens.len() || !rest.is_empty() || scales.len() != tokens.len() {
            return None;
        }
        let scales = scales.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        // Signed once for all: a copy of four megabytes, made when the first text is read.
        let rows: Box<[_]> = rows.iter().map(|row| row.map(u8::cast_signed)).collect();
        let lengths = rows.iter().map(|row| (dot(row, row) as f32).sqrt()).collect();
        let longest = tokens.keys().map(|token| token.len()).max().unwrap_or(0);
        Some(Self { tokens, scales, rows, lengths, longest, characters })
    }

    /// The numbers of a token's vector, and what they are multiples of.
    pub(super) fn row(&self, token: Token) -> Option<(&[i8; DIMENSIONS], f32)> {
        self.rows.get(token as usize).zip(self.scales.get(token as usize).copied())
    }

    /// The length of a token's row; zero when it means nothing.
    pub(super) fn length(&self, token: Token) -> f32 {
        self.lengths.get(token as usize).copied().unwrap_or(0.0)
    }

    /// Adds the vector of a token.
    pub(super) fn add(&self, token: Token, sum: &mut [f32; DIMENSIONS]) {
        let Some((row, scale)) = self.row(token) else { return };
        for (place, x) in sum.iter_mut().zip(row) {
            *place += f32::from(*x) * scale;
        }
    }
}

impl Vocabulary for Table {
    fn token(&self, text: &str) -> Option<Token> {
        self.tokens.get(text).copied()
    }

    fn unknown(&self) -> Option<Token> {
        None
    }

    fn longest(&self) -> usize {
        self.longest
    }

    fn characters(&self) -> &Characters {
        &self.characters
    }
}

fn ranges(bytes: &[u8]) -> Box<[(u32, u32)]> {
    let (pairs, _) = bytes.as_chunks::<8>();
    pairs
        .iter()
        .map(|[a, b, c, d, e, f, g, h]| (u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h])))
        .collect()
}

fn decompositions(bytes: &'static [u8]) -> Option<HashMap<char, &'static str, RandomState>> {
    let mut reader = Reader(bytes);
    let mut found = HashMap::default();
    while !reader.0.is_empty() {
        let character = char::from_u32(reader.number()?)?;
        let length = reader.take(1)?.first().copied()?;
        found.insert(character, std::str::from_utf8(reader.take(usize::from(length))?).ok()?);
    }
    Some(found)
}
