//! Names of things: namespace, agent id, operation id, actor, revision.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits;

/// The namespace of an entity that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No characters at all.
    #[error("is empty; use 1 to {max} characters of A-Z a-z 0-9 . _ : -", max = limits::ID_CHARS_MAX)]
    Empty,
    /// Over [`limits::ID_CHARS_MAX`].
    #[error("has {0} characters; at most {max} are allowed", max = limits::ID_CHARS_MAX)]
    TooLong(usize),
    /// A character outside the alphabet of ids.
    #[error("has the character {0:?}; use only A-Z a-z 0-9 . _ : -")]
    Character(char),
}

fn check_id(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if let Some(character) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-'))) {
        return Err(IdError::Character(character));
    }
    // Past the check above every character is one byte.
    if text.len() > limits::ID_CHARS_MAX {
        return Err(IdError::TooLong(text.len()));
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the alphabet and the length of `text`.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check_id(text)?;
                Ok(Self(text.into()))
            }

            /// Wraps text that the database holds, which was checked before it was stored.
            #[must_use]
            pub fn from_stored(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// A namespace: agents of one namespace never meet those of another.
    Namespace
);
text_id!(
    /// The id of an agent, unique in its namespace.
    AgentId
);
text_id!(
    /// The id of a workflow, unique in its namespace.
    WorkflowId
);
text_id!(
    /// The id of one execution of a workflow, unique everywhere.
    RunId
);
text_id!(
    /// The name of a step, unique in its workflow. Reading a document allows fewer characters: letters, digits, _ and -.
    StepName
);

text_id!(
    /// The id of a memory, unique everywhere.
    MemoryId
);

/// A new id behind a prefix: over 70 random bits, short enough to be repeated by a model.
fn random_id(prefix: &str) -> Arc<str> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let random = Uuid::new_v4().as_u128();
    let digits = (0..16).map(|digit| ALPHABET.get((random >> (5 * digit)) as usize & 31).copied().unwrap_or(b'a'));
    prefix.chars().chain(digits.map(char::from)).collect::<String>().into()
}

impl RunId {
    /// Makes a new id.
    #[must_use]
    pub fn generate() -> Self {
        Self(random_id("run-"))
    }
}

impl MemoryId {
    /// What every generated id begins with.
    pub const PREFIX: &str = "mem-";

    /// Makes a new id.
    #[must_use]
    pub fn generate() -> Self {
        Self(random_id(Self::PREFIX))
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(DEFAULT_NAMESPACE.into())
    }
}

/// What names one agent everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentKey {
    /// The namespace.
    pub namespace: Namespace,
    /// The id in that namespace.
    pub id: AgentId,
}

impl fmt::Display for AgentKey {
    /// `id` in the default namespace, `namespace/id` elsewhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.as_str() == DEFAULT_NAMESPACE {
            write!(f, "{}", self.id)
        } else {
            write!(f, "{}/{}", self.namespace, self.id)
        }
    }
}

/// What names one workflow everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkflowKey {
    /// The namespace.
    pub namespace: Namespace,
    /// The id in that namespace.
    pub id: WorkflowId,
}

/// The count of changes of one entity: 1 when it is made, one more at each change, never reused.
pub type Revision = i64;

/// Names one change, so that a retry after an unknown outcome is not applied twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpId(pub Uuid);

impl OpId {
    /// Makes a new id; later ids sort after earlier ones, which keeps the index of `applied_ops` compact.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for OpId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who made a change: the self-declared name of a client and its process. It is a claim, never a permission.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Actor(Arc<str>);

impl Actor {
    /// Takes a name as declared; control characters become spaces and what is over the limit is cut.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let name: String =
            name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(limits::ACTOR_CHARS_MAX).collect();
        Self(name.into())
    }

    /// The declared name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_length_is_limited_exactly() {
        for n in [1, limits::ID_CHARS_MAX - 1, limits::ID_CHARS_MAX] {
            assert!(AgentId::parse(&"a".repeat(n)).is_ok(), "{n}");
        }
        assert_eq!(
            AgentId::parse(&"a".repeat(limits::ID_CHARS_MAX + 1)),
            Err(IdError::TooLong(limits::ID_CHARS_MAX + 1))
        );
        assert_eq!(AgentId::parse(""), Err(IdError::Empty));
    }

    #[test]
    fn id_alphabet_is_enforced() {
        assert!(AgentId::parse("A-z0.9_:x").is_ok());
        for bad in ["a b", "a/b", "é", "a\n", "';--"] {
            assert!(matches!(AgentId::parse(bad), Err(IdError::Character(_))), "{bad:?}");
        }
    }

    #[test]
    fn actor_is_cut_and_cleaned() {
        let actor = Actor::new(&format!("a\nb{}", "x".repeat(500)));
        assert_eq!(actor.as_str().chars().count(), limits::ACTOR_CHARS_MAX);
        assert!(actor.as_str().starts_with("a b"));
    }
}
