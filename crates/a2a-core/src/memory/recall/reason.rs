//! Says in a few words why a memory was recalled.

use super::rank::Asked;
use super::search::Named;
use super::shard::Shard;
use super::words::WEIGHTS;
use crate::index::Doc;
use crate::index::query::SearchWord;
use crate::index::reason::words_in_fields;
use crate::memory::Memory;
use crate::memory::retention::days_between;

/// A similarity below this is not worth telling.
const SIMILARITY_TOLD: f32 = 0.2;

pub(super) fn of(
    shard: &Shard,
    memory: &Memory,
    doc: Doc,
    words: &[SearchWord],
    named: Option<Named>,
    similarity: Option<f32>,
    asked: &Asked,
) -> String {
    let mut parts: Vec<String> = Vec::new();
    match named {
        Some(Named::Id) => parts.push("exact id".to_owned()),
        Some(Named::IdPrefix) => parts.push("id begins so".to_owned()),
        Some(Named::Key) => parts.push("exact key".to_owned()),
        Some(Named::Phrase) => parts.push("exact phrase".to_owned()),
        None => {}
    }
    let matched = words_in_fields(&shard.texts.words, words, doc, &WEIGHTS);
    if matched.is_empty() && similarity.is_none_or(|s| s < SIMILARITY_TOLD) && named.is_none() {
        parts.push("next to a turn that fits".to_owned());
    }
    if !matched.is_empty() {
        parts.push(matched);
    }
    if let Some(similarity) = similarity.filter(|s| *s >= SIMILARITY_TOLD) {
        parts.push(format!("similar {similarity:.2}"));
    }
    if memory.frequency > 1 {
        parts.push(format!("told {} times", memory.frequency));
    }
    let in_time = |(from, to)| memory.created_at >= from && memory.created_at < to;
    let fits = if asked.when.range.is_some_and(in_time) { ", as asked" } else { "" };
    parts.push(format!("{}{fits}", age(days_between(memory.created_at, asked.now))));
    if memory.superseded_by.is_some() {
        parts.push("superseded".to_owned());
    }
    parts.join("; ")
}

fn age(days: f32) -> String {
    // Whole units, rounded down: nobody needs the age of a memory to the hour.
    let (count, unit) = match days {
        d if d < 1.0 => return "today".to_owned(),
        d if d < 14.0 => (d, "day"),
        d if d < 61.0 => (d / 7.0, "week"),
        d if d < 730.0 => (d / 30.44, "month"),
        d => (d / 365.25, "year"),
    };
    let count = count as u32;
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}
