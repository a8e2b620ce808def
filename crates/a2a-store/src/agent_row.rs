//! A row of `agents` or `agent_history` as either database returns it, and its way to the domain.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use a2a_core::agent::{Agent, AgentSpec, Capability, Deprecation, Executor, ExecutorKind};
use a2a_core::ids::{Actor, AgentId, AgentKey, Namespace};
use a2a_core::json_text::JsonText;
use a2a_core::time::Timestamp;
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow, Queryable};
use diesel::pg::Pg;
use diesel::pg::data_types::PgTimestamp;
use diesel::sql_types::{BigInt, Json, Text, Timestamptz};
use diesel::sqlite::Sqlite;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::StoreError;
use crate::stored_text::BriefText;

/// A point in time: `timestamptz` on Postgres, milliseconds on SQLite.
#[derive(Debug, Clone, Copy, FromSqlRow)]
pub(crate) struct StoredTime(pub(crate) Timestamp);

impl FromSql<Timestamptz, Pg> for StoredTime {
    fn from_sql(bytes: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        /// Milliseconds from 1970-01-01 to 2000-01-01, where Postgres starts to count.
        const POSTGRES_EPOCH_MS: i64 = 946_684_800_000;
        let PgTimestamp(micros) = FromSql::<Timestamptz, Pg>::from_sql(bytes)?;
        Ok(Self(Timestamp(micros.div_euclid(1_000) + POSTGRES_EPOCH_MS)))
    }
}

impl FromSql<BigInt, Sqlite> for StoredTime {
    fn from_sql(bytes: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        FromSql::<BigInt, Sqlite>::from_sql(bytes).map(|millis| Self(Timestamp(millis)))
    }
}

/// JSON as the text that was written: `json` on Postgres, `TEXT` on SQLite.
#[derive(Debug, Clone, FromSqlRow)]
pub(crate) struct StoredJson(pub(crate) String);

impl FromSql<Json, Pg> for StoredJson {
    fn from_sql(bytes: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(std::str::from_utf8(bytes.as_bytes())?.to_owned()))
    }
}

impl FromSql<Text, Sqlite> for StoredJson {
    fn from_sql(bytes: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        FromSql::<Text, Sqlite>::from_sql(bytes).map(Self)
    }
}

/// The columns of an [`AgentRow`] in `agents` or `agent_history` of either backend.
macro_rules! agent_columns {
    ($table:ident) => {
        (
            $table::namespace,
            $table::id,
            $table::revision,
            $table::name,
            $table::version,
            $table::description,
            $table::instructions,
            $table::category,
            $table::tags,
            $table::enabled,
            $table::capabilities,
            $table::executor_kind,
            $table::executor_settings,
            $table::config,
            $table::deprecated,
            $table::created_at,
            $table::updated_at,
            $table::deployed_at,
            $table::updated_by,
            $table::removed_at,
        )
    };
}
pub(crate) use agent_columns;

/// The key that two columns hold.
pub(crate) fn stored_key(namespace: String, id: String) -> AgentKey {
    AgentKey { namespace: Namespace::from_stored(namespace), id: AgentId::from_stored(id) }
}

/// One row, in the order of [`agent_columns`].
#[derive(Debug, Queryable)]
pub(crate) struct AgentRow {
    pub(crate) namespace: BriefText,
    pub(crate) id: BriefText,
    pub(crate) revision: i64,
    name: String,
    version: BriefText,
    description: String,
    instructions: String,
    category: BriefText,
    tags: StoredJson,
    enabled: bool,
    capabilities: StoredJson,
    executor_kind: BriefText,
    executor_settings: BriefText,
    config: BriefText,
    deprecated: Option<StoredJson>,
    created_at: StoredTime,
    updated_at: StoredTime,
    deployed_at: StoredTime,
    updated_by: BriefText,
    pub(crate) removed_at: Option<StoredTime>,
}

#[derive(Deserialize)]
struct StoredCapability<'a> {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(borrow, default)]
    input_schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output_schema: Option<&'a RawValue>,
    #[serde(default)]
    example_queries: Vec<String>,
}

#[derive(Deserialize)]
struct StoredDeprecation {
    #[serde(default)]
    successor: Option<String>,
    #[serde(default)]
    reason: String,
}

/// Values that many rows of one load have in common, so that each is made once and not once for each row.
#[derive(Debug, Default)]
pub(crate) struct Common {
    words: HashSet<Arc<str>>,
    texts: HashMap<Box<str>, JsonText>,
    actors: HashMap<Box<str>, Actor>,
}

/// A load in which values differ from row to row must not keep all of them.
const COMMON_MAX: usize = 4_096;

impl Common {
    pub(crate) fn word(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.words.get(word) {
            return known.clone();
        }
        let word: Arc<str> = word.into();
        if self.words.len() < COMMON_MAX {
            self.words.insert(word.clone());
        }
        word
    }

    fn text(&mut self, text: &str) -> JsonText {
        Self::value(&mut self.texts, text, |text| JsonText::from_stored(text))
    }

    pub(crate) fn actor(&mut self, name: &str) -> Actor {
        Self::value(&mut self.actors, name, Actor::new)
    }

    fn value<T: Clone>(known: &mut HashMap<Box<str>, T>, text: &str, make: impl FnOnce(&str) -> T) -> T {
        if let Some(value) = known.get(text) {
            return value.clone();
        }
        let value = make(text);
        if known.len() < COMMON_MAX {
            known.insert(text.into(), value.clone());
        }
        value
    }
}

impl AgentRow {
    /// Reads the JSON columns.
    pub(crate) fn into_agent(self) -> Result<Agent, StoreError> {
        self.into_agent_with(&mut Common::default())
    }

    /// Like [`AgentRow::into_agent`], for one of many rows.
    pub(crate) fn into_agent_with(self, common: &mut Common) -> Result<Agent, StoreError> {
        let id = AgentId::from_stored(&*self.id);
        let namespace = Namespace::from_stored(common.word(&self.namespace));
        let key = AgentKey { namespace, id };
        self.try_into_agent(&key, common).map_err(|reason| StoreError::Row {
            table: "agents",
            key: key.to_string(),
            reason,
        })
    }

    fn try_into_agent(self, key: &AgentKey, common: &mut Common) -> Result<Agent, String> {
        let in_column = |column: &'static str| move |error: serde_json::Error| format!("{column}: {error}");
        let tags: Vec<Cow<'_, str>> = serde_json::from_str(&self.tags.0).map_err(in_column("tags"))?;
        let capabilities: Vec<StoredCapability<'_>> =
            serde_json::from_str(&self.capabilities.0).map_err(in_column("capabilities"))?;
        let deprecated: Option<StoredDeprecation> =
            self.deprecated.map(|text| serde_json::from_str(&text.0)).transpose().map_err(in_column("deprecated"))?;
        let kind = ExecutorKind::from_name(&self.executor_kind)
            .ok_or_else(|| format!("executor_kind: {:?} is not known", &*self.executor_kind))?;
        Ok(Agent {
            spec: AgentSpec {
                namespace: key.namespace.clone(),
                id: key.id.clone(),
                name: self.name.into(),
                version: (*self.version).into(),
                description: self.description.into(),
                instructions: self.instructions.into(),
                category: common.word(&self.category),
                tags: tags.iter().map(|tag| common.word(tag)).collect(),
                enabled: self.enabled,
                capabilities: capabilities
                    .into_iter()
                    .map(|c| Capability {
                        name: c.name.into(),
                        description: c.description.into(),
                        input_schema: c.input_schema.map(|raw| common.text(raw.get())),
                        output_schema: c.output_schema.map(|raw| common.text(raw.get())),
                        example_queries: c.example_queries.into_iter().map(Into::into).collect(),
                    })
                    .collect(),
                executor: Executor { kind, settings: common.text(&self.executor_settings) },
                config: common.text(&self.config),
                deprecated: deprecated
                    .map(|d| Deprecation { successor: d.successor.map(AgentId::from_stored), reason: d.reason.into() }),
            },
            revision: self.revision,
            created_at: self.created_at.0,
            updated_at: self.updated_at.0,
            deployed_at: self.deployed_at.0,
            updated_by: common.actor(&self.updated_by),
        })
    }
}

/// The JSON columns of a document, as text.
pub(crate) struct AgentJson {
    pub(crate) tags: String,
    pub(crate) capabilities: String,
    pub(crate) deprecated: Option<String>,
}

impl AgentJson {
    pub(crate) fn of(spec: &AgentSpec) -> Result<Self, StoreError> {
        let in_row = |error: serde_json::Error| StoreError::Row {
            table: "agents",
            key: spec.key().to_string(),
            reason: error.to_string(),
        };
        Ok(Self {
            tags: serde_json::to_string(&spec.tags).map_err(in_row)?,
            capabilities: serde_json::to_string(&spec.capabilities).map_err(in_row)?,
            deprecated: spec.deprecated.as_ref().map(serde_json::to_string).transpose().map_err(in_row)?,
        })
    }
}
