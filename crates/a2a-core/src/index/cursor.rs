//! The marks by which a caller asks for the next page.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::error::Problems;

/// Identifies what was asked, so that a cursor is not used with another question. The same in every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueryHash(u32);

impl QueryHash {
    /// Hashes whatever determines what is listed and in which order, written with its `Debug` form.
    pub(crate) fn of(asked: &impl std::fmt::Debug) -> Self {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{asked:?}");
        let digest = Sha256::digest(text.as_bytes());
        Self(digest.iter().take(4).fold(0, |hash, byte| hash << 8 | u32::from(*byte)))
    }
}

/// Where a page of a list ended: an id.
pub(crate) fn list_cursor(hash: QueryHash, last_id: &str) -> String {
    format!("{:08x}.{last_id}", hash.0)
}

/// The id after which a list goes on.
pub(crate) fn read_list_cursor(cursor: &str, hash: QueryHash) -> Result<&str, Problems> {
    let (asked, id) = split(cursor)?;
    if asked != hash { Err(other_filters()) } else { Ok(id) }
}

/// Where a page of hits ended: a score and an id.
pub(crate) fn hits_cursor(hash: QueryHash, score: f32, last_id: &str) -> String {
    format!("{:08x}.{:08x}.{last_id}", hash.0, score.to_bits())
}

/// The score and the id after which hits go on.
pub(crate) fn read_hits_cursor(cursor: &str, hash: QueryHash) -> Result<(f32, &str), Problems> {
    let (asked, rest) = split(cursor)?;
    if asked != hash {
        return Err(other_filters());
    }
    let (score, id) = split(rest)?;
    let score = f32::from_bits(score.0);
    if score.is_finite() { Ok((score, id)) } else { Err(unreadable()) }
}

fn split(cursor: &str) -> Result<(QueryHash, &str), Problems> {
    let (number, rest) = cursor.split_once('.').ok_or_else(unreadable)?;
    if number.len() != 8 || rest.is_empty() {
        return Err(unreadable());
    }
    let number = u32::from_str_radix(number, 16).map_err(|_not_hexadecimal| unreadable())?;
    Ok((QueryHash(number), rest))
}

fn other_filters() -> Problems {
    Problems::one(
        "cursor",
        "belongs to a call with other filters; repeat the same filters with it, or leave the cursor out to start anew",
    )
}

fn unreadable() -> Problems {
    Problems::one("cursor", "is not a cursor; pass the `next_cursor` of the page before as it is, or leave it out")
}
