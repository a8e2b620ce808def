//! Texts of rows, read without allocating them twice: loading many rows is little else.

use std::ops::Deref;
use std::sync::Arc;

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::Pg;
use diesel::sql_types::{Json, Text};
use diesel::sqlite::Sqlite;

const SHORT_MAX: usize = 22;

/// A text that is looked at, or replaced by an equal one that is shared. Most such texts are short and stay in the row.
#[derive(Debug, Clone, FromSqlRow)]
pub(crate) enum BriefText {
    /// The bytes, and how many of them count.
    Short([u8; SHORT_MAX], u8),
    Long(Box<str>),
}

impl BriefText {
    fn new(text: &str) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short(bytes, length)
            }
            _ => Self::Long(text.into()),
        }
    }
}

impl Deref for BriefText {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            // It was a text when it was made.
            Self::Short(bytes, length) => {
                bytes.get(..usize::from(*length)).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
            }
            Self::Long(text) => text,
        }
    }
}

/// A text that is kept and shared as it is.
#[derive(Debug, Clone, FromSqlRow)]
pub(crate) struct SharedText(pub(crate) Arc<str>);

macro_rules! read_as_text {
    ($type:ty, $make:expr) => {
        impl FromSql<Text, Pg> for $type {
            fn from_sql(bytes: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
                Ok($make(std::str::from_utf8(bytes.as_bytes())?))
            }
        }

        impl FromSql<Text, Sqlite> for $type {
            fn from_sql(mut value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
                Ok($make(value.read_text()))
            }
        }
    };
}

read_as_text!(BriefText, BriefText::new);
read_as_text!(SharedText, |text: &str| SharedText(text.into()));

impl FromSql<Json, Pg> for BriefText {
    fn from_sql(bytes: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self::new(std::str::from_utf8(bytes.as_bytes())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_whatever_its_length() {
        for text in ["", "a", "[]", &"x".repeat(SHORT_MAX), &"y".repeat(SHORT_MAX + 1), "ééééééééééé", "éééééééééééé"]
        {
            assert_eq!(&*BriefText::new(text), text);
        }
    }
}
