//! The filters that search and forget share.

use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_core::memory::recall::MemoryFilters;
use a2a_core::memory::{MemoryType, Trust};
use a2a_core::time::Timestamp;
use schemars::JsonSchema;

use crate::tools::texts;

/// The schema of the filters; a test holds it against the reader.
#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
pub(super) struct FilterArgs {
    types: Option<Vec<String>>,
    /// Any of these.
    tags: Option<Vec<String>>,
    tags_all: Option<Vec<String>>,
    tags_none: Option<Vec<String>>,
    agent: Option<String>,
    session: Option<String>,
    user: Option<String>,
    run: Option<String>,
    key: Option<String>,
    /// RFC 3339 or a day
    since: Option<String>,
    until: Option<String>,
    importance_min: Option<f64>,
    /// external, agent, user or operator
    trust_min: Option<String>,
    include_superseded: Option<bool>,
    include_expired: Option<bool>,
}

/// Reads the filters.
pub(super) fn read_filters(r: &mut ObjectReader<'_, '_>) -> MemoryFilters {
    let types = texts(r, "types", MemoryType::ALL.len(), limits::TAG_CHARS_MAX);
    let mut kinds = Vec::with_capacity(types.len());
    for (i, name) in types.iter().enumerate() {
        match MemoryType::from_name(name) {
            Some(kind) => kinds.push(kind),
            None => {
                let names: Vec<&str> = MemoryType::ALL.iter().map(|(name, _)| *name).collect();
                r.problem(&format!("types[{i}]"), format!("is none of {}", names.join(", ")));
            }
        }
    }
    let text = |r: &mut ObjectReader<'_, '_>, name| r.text_chars(name, limits::ID_CHARS_MAX).map(str::to_owned);
    MemoryFilters {
        types: kinds,
        tags_any: texts(r, "tags", limits::TAGS_MAX, limits::TAG_CHARS_MAX),
        tags_all: texts(r, "tags_all", limits::TAGS_MAX, limits::TAG_CHARS_MAX),
        tags_none: texts(r, "tags_none", limits::TAGS_MAX, limits::TAG_CHARS_MAX),
        agent: text(r, "agent"),
        session: text(r, "session"),
        user: text(r, "user"),
        run: text(r, "run"),
        key: text(r, "key"),
        since: read_time(r, "since"),
        until: read_time(r, "until"),
        importance_min: r.number("importance_min", 0.0..=1.0).map(|number| number as f32),
        trust_min: r.choice("trust_min", &Trust::ALL),
        include_superseded: r.boolean("include_superseded").unwrap_or(false),
        include_expired: r.boolean("include_expired").unwrap_or(false),
    }
}

fn read_time(r: &mut ObjectReader<'_, '_>, name: &'static str) -> Option<Timestamp> {
    let text = r.text(name)?;
    let time = Timestamp::parse(text);
    if time.is_none() {
        r.problem(name, "is not a time; use RFC 3339 in UTC such as \"2027-01-31T18:00:00Z\", or a day");
    }
    time
}
