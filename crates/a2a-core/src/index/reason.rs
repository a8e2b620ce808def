//! Says in a few words why a document was found.

use std::fmt::Write as _;

use super::Doc;
use super::analysis::{FieldSet, Weights};
use super::inverted::SearchIndex;
use super::query::{How, SearchWord};

/// How many groups of words and how many fields of each are told.
const GROUPS_SHOWN: usize = 6;
const FIELDS_SHOWN: usize = 3;

/// Words that match in the same way in the same fields.
struct Group {
    shown: String,
    words: usize,
    plain: bool,
    fields: FieldSet,
}

/// Which words of the query occur in which fields of the document, in the order of the query.
pub(crate) fn words_in_fields(index: &SearchIndex, words: &[SearchWord], doc: Doc, weights: Weights) -> String {
    let mut groups: Vec<Group> = Vec::new();
    // Words that stand side by side in the query are shown together when they match alike.
    let mut previous_matched = false;
    for word in words {
        let best = word
            .matches
            .iter()
            .filter_map(|m| Some((*m, index.term(m.term)?.worth_in(doc)?)))
            .max_by(|(a, x), (b, y)| (a.factor * x.fraction()).total_cmp(&(b.factor * y.fraction())));
        let Some((found, worth)) = best else {
            previous_matched = false;
            continue;
        };
        let meant = |id| index.vocabulary.word(id).map_or("", |word| word.text.as_str());
        let (shown, plain) = match found.how {
            How::Same => (word.text.clone(), true),
            How::Prefix(id) => (format!("{}…{}", word.text, meant(id)), false),
            How::Typo(id) => (format!("{}≈{}", word.text, meant(id)), false),
        };
        match groups.last_mut() {
            Some(group) if previous_matched && group.plain && plain && group.fields == worth.fields() => {
                group.shown.push(' ');
                group.shown.push_str(&shown);
                group.words += 1;
            }
            _ => groups.push(Group { shown, words: 1, plain, fields: worth.fields() }),
        }
        previous_matched = true;
    }
    let mut text = String::new();
    for (i, group) in groups.iter().take(GROUPS_SHOWN).enumerate() {
        let between = if i == 0 { "" } else { "; " };
        let quote = if group.words > 1 { "\"" } else { "" };
        let fields: Vec<&str> = group.fields.names(weights).take(FIELDS_SHOWN).collect();
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{between}{quote}{}{quote} in {}", group.shown, fields.join(", "));
    }
    if groups.len() > GROUPS_SHOWN {
        text.push_str("; …");
    }
    text
}
