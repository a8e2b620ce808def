//! The filters and tests of the language: nothing else can be called.

use crate::expression::error::{ExpressionError, suggestion};

/// A filter, as in `x | name(...)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Abs,
    Contains,
    Default,
    First,
    Float,
    FromJson,
    Int,
    Items,
    Join,
    Keys,
    Last,
    Length,
    Lower,
    Map,
    Max,
    Merge,
    Min,
    Reject,
    RejectAttr,
    Replace,
    Reverse,
    Round,
    Select,
    SelectAttr,
    Sort,
    Split,
    Text,
    Sum,
    ToJson,
    Trim,
    Truncate,
    Unique,
    Upper,
    Values,
}

/// A test, as in `x is name(...)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Boolean,
    Contains,
    Defined,
    Empty,
    EndingWith,
    Equal,
    Even,
    False,
    Float,
    Greater,
    GreaterOrEqual,
    In,
    Integer,
    Less,
    LessOrEqual,
    List,
    Null,
    NotEqual,
    Number,
    Object,
    Odd,
    StartingWith,
    Text,
    True,
    Undefined,
}

/// A filter's names, the first of which is the proper one, and its arguments in order. The first `required` are needed.
struct FilterEntry {
    filter: Filter,
    names: &'static [&'static str],
    arguments: &'static [&'static str],
    required: usize,
}

const fn filter(
    filter: Filter,
    names: &'static [&'static str],
    arguments: &'static [&'static str],
    required: usize,
) -> FilterEntry {
    FilterEntry { filter, names, arguments, required }
}

const FILTERS: &[FilterEntry] = &[
    filter(Filter::Abs, &["abs"], &[], 0),
    filter(Filter::Contains, &["contains"], &["value"], 1),
    filter(Filter::Default, &["default", "d"], &["value", "boolean"], 1),
    filter(Filter::First, &["first"], &[], 0),
    filter(Filter::Float, &["float"], &["default"], 0),
    filter(Filter::FromJson, &["fromjson"], &[], 0),
    filter(Filter::Int, &["int"], &["default"], 0),
    filter(Filter::Items, &["items"], &[], 0),
    filter(Filter::Join, &["join"], &["separator", "attribute"], 0),
    filter(Filter::Keys, &["keys"], &[], 0),
    filter(Filter::Last, &["last"], &[], 0),
    filter(Filter::Length, &["length", "count"], &[], 0),
    filter(Filter::Lower, &["lower"], &[], 0),
    filter(Filter::Map, &["map"], &["filter", "attribute", "default"], 0),
    filter(Filter::Max, &["max"], &["attribute"], 0),
    filter(Filter::Merge, &["merge"], &["other"], 1),
    filter(Filter::Min, &["min"], &["attribute"], 0),
    filter(Filter::Reject, &["reject"], &["test", "value"], 0),
    filter(Filter::RejectAttr, &["rejectattr"], &["attribute", "test", "value"], 1),
    filter(Filter::Replace, &["replace"], &["old", "new"], 2),
    filter(Filter::Reverse, &["reverse"], &[], 0),
    filter(Filter::Round, &["round"], &["precision"], 0),
    filter(Filter::Select, &["select"], &["test", "value"], 0),
    filter(Filter::SelectAttr, &["selectattr"], &["attribute", "test", "value"], 1),
    filter(Filter::Sort, &["sort"], &["reverse", "attribute"], 0),
    filter(Filter::Split, &["split"], &["separator"], 0),
    filter(Filter::Sum, &["sum"], &["attribute"], 0),
    filter(Filter::Text, &["string"], &[], 0),
    filter(Filter::ToJson, &["tojson"], &["indent"], 0),
    filter(Filter::Trim, &["trim"], &[], 0),
    filter(Filter::Truncate, &["truncate"], &["length", "end"], 1),
    filter(Filter::Unique, &["unique"], &["attribute"], 0),
    filter(Filter::Upper, &["upper"], &[], 0),
    filter(Filter::Values, &["values"], &[], 0),
];

/// A test, its names, and whether it takes a value to compare with.
const TESTS: &[(Test, &[&str], bool)] = &[
    (Test::Boolean, &["boolean"], false),
    (Test::Contains, &["contains"], true),
    (Test::Defined, &["defined"], false),
    (Test::Empty, &["empty"], false),
    (Test::EndingWith, &["endingwith"], true),
    (Test::Equal, &["eq", "equalto", "sameas"], true),
    (Test::Even, &["even"], false),
    (Test::False, &["false"], false),
    (Test::Float, &["float"], false),
    (Test::Greater, &["gt", "greaterthan"], true),
    (Test::GreaterOrEqual, &["ge"], true),
    (Test::In, &["in"], true),
    (Test::Integer, &["integer"], false),
    (Test::Less, &["lt", "lessthan"], true),
    (Test::LessOrEqual, &["le"], true),
    (Test::List, &["sequence", "list"], false),
    (Test::NotEqual, &["ne"], true),
    (Test::Null, &["none", "null"], false),
    (Test::Number, &["number"], false),
    (Test::Object, &["mapping", "object"], false),
    (Test::Odd, &["odd"], false),
    (Test::StartingWith, &["startingwith"], true),
    (Test::Text, &["string"], false),
    (Test::True, &["true"], false),
    (Test::Undefined, &["undefined"], false),
];

/// What people try and what this language has in its place.
const FILTERS_ELSEWHERE: &[(&str, &str)] = &[
    ("slice", "a part of a list or text is written `x[0:3]`"),
    ("list", "a value is a list already, `items` makes one of an object"),
    ("safe", "texts are never escaped"),
    ("escape", "texts are never escaped"),
    ("format", "texts are joined with `~`"),
    ("dictsort", "objects are sorted by their keys already, `items` lists them"),
    ("pprint", "use `tojson(indent=true)`"),
    ("size", "use `length`"),
    ("json", "use `tojson` or `fromjson`"),
    ("uniq", "use `unique`"),
    ("strip", "use `trim`"),
];

impl Filter {
    pub(super) fn named(name: &str) -> Result<Self, ExpressionError> {
        if let Some(entry) = FILTERS.iter().find(|entry| entry.names.contains(&name)) {
            return Ok(entry.filter);
        }
        let shown: String = name.chars().take(40).collect();
        let hint = match FILTERS_ELSEWHERE.iter().find(|(other, _)| *other == name) {
            Some((_, hint)) => format!(" Instead: {hint}."),
            None => suggestion(name, FILTERS.iter().flat_map(|entry| entry.names.iter().copied())),
        };
        Err(ExpressionError::unknown(format!("there is no filter `{shown}`.{hint}")))
    }

    fn entry(self) -> Option<&'static FilterEntry> {
        FILTERS.iter().find(|entry| entry.filter == self)
    }

    /// The name it is known by.
    pub(super) fn name(self) -> &'static str {
        self.entry().and_then(|entry| entry.names.first()).copied().unwrap_or_default()
    }

    /// The names of its arguments, in order.
    pub(super) fn arguments(self) -> &'static [&'static str] {
        self.entry().map_or(&[], |entry| entry.arguments)
    }

    /// How many of its arguments are needed.
    pub(super) fn required(self) -> usize {
        self.entry().map_or(0, |entry| entry.required)
    }
}

impl Test {
    pub(super) fn named(name: &str) -> Result<Self, ExpressionError> {
        // Comparisons can be named by their signs, as in `selectattr("score", ">", 5)`.
        let name = match name {
            "==" => "eq",
            "!=" => "ne",
            "<" => "lt",
            "<=" => "le",
            ">" => "gt",
            ">=" => "ge",
            other => other,
        };
        if let Some((test, _, _)) = TESTS.iter().find(|(_, names, _)| names.contains(&name)) {
            return Ok(*test);
        }
        let shown: String = name.chars().take(40).collect();
        let hint = suggestion(name, TESTS.iter().flat_map(|(_, names, _)| names.iter().copied()));
        Err(ExpressionError::unknown(format!("there is no test `{shown}`.{hint}")))
    }

    pub(super) fn name(self) -> &'static str {
        TESTS
            .iter()
            .find(|(test, _, _)| *test == self)
            .and_then(|(_, names, _)| names.first())
            .copied()
            .unwrap_or_default()
    }

    /// Whether it compares with a value.
    pub(super) fn takes_value(self) -> bool {
        TESTS.iter().any(|(test, _, takes)| *test == self && *takes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_and_test_is_found_by_each_of_its_names() {
        for entry in FILTERS {
            assert!(entry.required <= entry.arguments.len());
            for name in entry.names {
                assert_eq!(Filter::named(name), Ok(entry.filter));
            }
        }
        for (test, names, takes_value) in TESTS {
            assert_eq!(test.takes_value(), *takes_value);
            for name in *names {
                assert_eq!(Test::named(name), Ok(*test));
            }
        }
    }
}
