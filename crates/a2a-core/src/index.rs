//! What finds documents of any kind: words, keys, the best of a ranking, and cursors through it.
//!
//! A document is known by its number here; whoever keeps the documents gives each a number and says what it reads.

pub(crate) mod analysis;
pub(crate) mod best;
pub(crate) mod cursor;
pub(crate) mod inverted;
pub(crate) mod keys;
pub(crate) mod query;
pub(crate) mod reason;
pub(crate) mod scores;
mod stop_words;
mod texts;
mod tokens;
mod typo;
mod vocabulary;
mod word_text;

pub(crate) use analysis::Analysis;
pub(crate) use inverted::SearchIndex;
pub use texts::Reading;
pub(crate) use texts::Texts;
pub(crate) use word_text::WordText;

/// The number of a document within its shard. Each put gives a new, higher one; they are renumbered when many are unused.
pub(crate) type Doc = u32;
