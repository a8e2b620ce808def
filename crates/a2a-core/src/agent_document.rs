//! From JSON that a caller sends to an [`AgentSpec`], and from a patch to a new document.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde_json::{Map, Value};

use crate::agent::{AgentSpec, Capability, Deprecation, Executor, ExecutorKind};
use crate::error::Problems;
use crate::ids::{AgentId, Namespace};
use crate::input::{ObjectReader, check_document_size, quoted, read_object};
use crate::json_schema;
use crate::json_text::JsonText;
use crate::limits;
use crate::workflow::document::is_reserved;

/// The version of an agent that names none.
pub const DEFAULT_VERSION: &str = "1.0.0";
/// The category of an agent that names none.
pub const DEFAULT_CATEGORY: &str = "general";

/// The fields of an agent document. This type exists for its JSON Schema, whose every word a model reads in every
/// session; a test holds it against the reader.
#[derive(Debug, JsonSchema)]
#[schemars(inline, deny_unknown_fields, description = "")]
pub struct AgentDocument {
    /// A-Z a-z 0-9 . _ : - ; max 128
    pub id: String,
    /// When to use it.
    pub description: String,
    /// Default: the id.
    #[schemars(default)]
    pub name: String,
    /// Semver, default 1.0.0
    #[schemars(default)]
    pub version: String,
    /// The brief it works by.
    #[schemars(default)]
    pub instructions: String,
    /// Default: general
    #[schemars(default)]
    pub category: String,
    #[allow(missing_docs, reason = "the name says it, and every word here is sent to the model")]
    #[schemars(default)]
    pub tags: Vec<String>,
    /// Default: true
    #[schemars(default)]
    pub enabled: bool,
    #[allow(missing_docs, reason = "the name says it, and every word here is sent to the model")]
    #[schemars(default)]
    pub capabilities: Vec<CapabilityDocument>,
    /// Default: {"kind": "pull"}
    #[schemars(default)]
    pub executor: ExecutorDocument,
    /// Free JSON object.
    #[schemars(default)]
    pub config: Map<String, Value>,
    /// Set to steer callers away.
    #[schemars(default)]
    pub deprecated: DeprecationDocument,
    /// Default: default
    #[schemars(default)]
    pub namespace: String,
}

/// One capability in an agent document.
#[derive(Debug, JsonSchema)]
#[schemars(inline, deny_unknown_fields, description = "")]
#[allow(missing_docs, reason = "the names say it, and every word here is sent to the model")]
pub struct CapabilityDocument {
    pub name: String,
    #[schemars(default)]
    pub description: String,
    /// JSON Schema 2020-12
    #[schemars(default)]
    pub input_schema: Map<String, Value>,
    #[schemars(default)]
    pub output_schema: Map<String, Value>,
    /// Questions it answers; search reads them.
    #[schemars(default)]
    pub example_queries: Vec<String>,
}

/// The executor in an agent document.
#[derive(Debug, Default, JsonSchema)]
#[schemars(inline, deny_unknown_fields, description = "")]
#[allow(missing_docs, reason = "the names say it, and every word here is sent to the model")]
pub struct ExecutorDocument {
    /// pull, builtin, a2a, mcp, http or command
    pub kind: String,
    /// builtin {operation}, a2a|http {url}, mcp {server, tool}, command {name}
    #[schemars(default)]
    pub settings: Map<String, Value>,
}

/// The deprecation in an agent document.
#[derive(Debug, Default, JsonSchema)]
#[schemars(inline, deny_unknown_fields, description = "")]
#[allow(missing_docs, reason = "the names say it, and every word here is sent to the model")]
pub struct DeprecationDocument {
    /// Id to use instead.
    #[schemars(default)]
    pub successor: String,
    #[schemars(default)]
    pub reason: String,
}

impl AgentSpec {
    /// Reads a whole document; what it leaves out has its default. `path` is where the document stands in the
    /// caller's input, `namespace` the one to use when the document names none.
    ///
    /// # Errors
    /// All problems of the document.
    pub fn from_document(value: &Value, path: &str, namespace: &Namespace) -> Result<Self, Problems> {
        let spec = read_object(value, path, |r| {
            let named = read_id(r, "namespace", Namespace::parse);
            let id = read_id(r, "id", AgentId::parse);
            if id.as_ref().is_some_and(is_reserved) {
                r.problem("id", "begins with \"builtin:\", which is kept for built-in agents; choose another");
            }
            if !r.has("id") {
                r.problem("id", "is required: the name that callers use, such as \"release-notes\"");
            }
            let description = r.text_bytes("description", limits::DESCRIPTION_BYTES_MAX);
            if !r.has("description") {
                r.problem("description", "is required: one sentence that says when to use this agent");
            } else if description.is_some_and(|d| d.trim().is_empty()) {
                r.problem("description", "is empty: write one sentence that says when to use this agent");
            }
            let name = read_name(r);
            let version = read_version(r);
            let instructions = r.text("instructions").unwrap_or_default();
            let category = read_category(r);
            let tags = read_tags(r);
            let enabled = r.boolean("enabled").unwrap_or(true);
            let capabilities = read_capabilities(r);
            let executor = read_executor(r);
            let config = read_config(r);
            let deprecated = read_deprecation(r);
            let id = id?;
            Some(Self {
                namespace: named.unwrap_or_else(|| namespace.clone()),
                name: name.unwrap_or_else(|| id.as_str().into()),
                version: version.unwrap_or_else(|| DEFAULT_VERSION.into()),
                description: description?.into(),
                instructions: instructions.into(),
                category: category.unwrap_or_else(|| DEFAULT_CATEGORY.into()),
                tags: tags.unwrap_or_default(),
                enabled,
                capabilities: capabilities.unwrap_or_default(),
                executor: executor.unwrap_or_default(),
                config: config.unwrap_or_else(JsonText::empty_object),
                deprecated: deprecated.flatten(),
                id,
            })
        })?;
        spec.check_size(path)?;
        Ok(spec)
    }

    /// Applies a patch: the fields that are there replace those of the document, null clears one that may be absent.
    ///
    /// # Errors
    /// All problems of the patch.
    pub fn patched(&self, patch: &Value, path: &str) -> Result<Self, Problems> {
        let spec = read_object(patch, path, |r| {
            let mut spec = self.clone();
            for fixed in ["id", "namespace"] {
                if r.nullable(fixed).is_some() {
                    r.problem(fixed, "can't be changed; deploy a new agent and deprecate this one");
                }
            }
            if let Some(description) = r.text_bytes("description", limits::DESCRIPTION_BYTES_MAX) {
                if description.trim().is_empty() {
                    r.problem("description", "is empty: write one sentence that says when to use this agent");
                }
                spec.description = description.into();
            }
            if let Some(name) = read_name(r) {
                spec.name = name;
            }
            if let Some(version) = read_version(r) {
                spec.version = version;
            }
            if let Some(instructions) = r.text("instructions") {
                spec.instructions = instructions.into();
            }
            if let Some(category) = read_category(r) {
                spec.category = category;
            }
            if let Some(tags) = read_tags(r) {
                spec.tags = tags;
            }
            if let Some(enabled) = r.boolean("enabled") {
                spec.enabled = enabled;
            }
            if let Some(capabilities) = read_capabilities(r) {
                spec.capabilities = capabilities;
            }
            if let Some(executor) = read_executor(r) {
                spec.executor = executor;
            }
            if let Some(config) = read_config(r) {
                spec.config = config;
            }
            if let Some(deprecated) = read_deprecation(r) {
                spec.deprecated = deprecated;
            }
            Some(spec)
        })?;
        spec.check_size(path)?;
        Ok(spec)
    }

    fn check_size(&self, path: &str) -> Result<(), Problems> {
        check_document_size(self.to_json(), path, "instructions, config or schemas")
    }
}

pub(crate) fn read_id<T>(
    r: &mut ObjectReader<'_, '_>,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, crate::ids::IdError>,
) -> Option<T> {
    match parse(r.text(name)?) {
        Ok(id) => Some(id),
        Err(error) => {
            r.problem(name, error.to_string());
            None
        }
    }
}

fn read_name(r: &mut ObjectReader<'_, '_>) -> Option<Box<str>> {
    let name = r.text_chars("name", limits::NAME_CHARS_MAX)?;
    if name.trim().is_empty() {
        r.problem("name", "is empty; leave it out to use the id");
        return None;
    }
    Some(name.into())
}

fn read_version(r: &mut ObjectReader<'_, '_>) -> Option<Box<str>> {
    let version = r.text_chars("version", limits::NAME_CHARS_MAX)?;
    if let Err(error) = semver::Version::parse(version) {
        r.problem("version", format!("is not a semantic version ({error}); use one such as \"1.4.0\""));
        return None;
    }
    Some(version.into())
}

fn read_category(r: &mut ObjectReader<'_, '_>) -> Option<Arc<str>> {
    let category = r.text_chars("category", limits::CATEGORY_CHARS_MAX)?;
    if category.trim().is_empty() {
        r.problem("category", "is empty; leave it out for \"general\"");
        return None;
    }
    Some(category.into())
}

pub(crate) fn read_tags(r: &mut ObjectReader<'_, '_>) -> Option<Box<[Arc<str>]>> {
    let tags = r.texts("tags", limits::TAGS_MAX, limits::TAG_CHARS_MAX)?;
    let unique: BTreeSet<&str> = tags.into_iter().collect();
    Some(unique.into_iter().map(Arc::from).collect())
}

pub(crate) fn read_json_object(r: &mut ObjectReader<'_, '_>, name: &'static str) -> Option<JsonText> {
    let value = r.value(name)?;
    if !value.is_object() {
        r.problem(name, format!("must be an object, not {}", crate::input::type_name(value)));
        return None;
    }
    if let Some(path) = nul_in(value) {
        r.problem(&format!("{name}{path}"), "holds a NUL character; remove it");
        return None;
    }
    if depth_of(value) > limits::JSON_DEPTH_MAX {
        r.problem(name, format!("is nested deeper than {} levels; flatten it", limits::JSON_DEPTH_MAX));
        return None;
    }
    Some(JsonText::new(value))
}

fn read_config(r: &mut ObjectReader<'_, '_>) -> Option<JsonText> {
    if r.is_null("config") {
        let _known = r.nullable("config");
        return Some(JsonText::empty_object());
    }
    read_json_object(r, "config")
}

/// The path of the first text or key with a NUL character.
fn nul_in(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, item)| nul_in(item).map(|rest| format!("[{i}]{rest}")))
        }
        Value::Object(map) => map.iter().find_map(|(key, item)| {
            if key.contains('\0') {
                Some(format!(".{}", quoted(key)))
            } else {
                nul_in(item).map(|rest| format!(".{key}{rest}"))
            }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth_of).max().unwrap_or(0),
        _ => 0,
    }
}

fn read_capabilities(r: &mut ObjectReader<'_, '_>) -> Option<Box<[Capability]>> {
    let list = r.list("capabilities", limits::CAPABILITIES_MAX)?;
    let mut names = HashSet::new();
    let mut capabilities = Vec::with_capacity(list.len());
    for (i, item) in list.iter().enumerate() {
        let path = r.path_of(&format!("capabilities[{i}]"));
        let Some(mut inner) = ObjectReader::open(item, path, r.problems()) else { continue };
        if let Some(capability) = read_capability(&mut inner) {
            if !names.insert(capability.name.clone()) {
                inner.problem(
                    "name",
                    format!("{} is used twice; names are unique in an agent", quoted(&capability.name)),
                );
            }
            capabilities.push(capability);
        }
        inner.finish();
    }
    Some(capabilities.into())
}

fn read_capability(r: &mut ObjectReader<'_, '_>) -> Option<Capability> {
    let name = r.text_chars("name", limits::NAME_CHARS_MAX);
    if !r.has("name") || name.is_some_and(|n| n.trim().is_empty()) {
        r.problem("name", "is required, such as \"summarize\"");
    }
    let description = r.text_bytes("description", limits::DESCRIPTION_BYTES_MAX).unwrap_or_default();
    let input_schema = read_schema(r, "input_schema");
    let output_schema = read_schema(r, "output_schema");
    let example_queries =
        r.texts("example_queries", limits::EXAMPLE_QUERIES_MAX, limits::EXAMPLE_QUERY_CHARS_MAX).unwrap_or_default();
    Some(Capability {
        name: name?.into(),
        description: description.into(),
        input_schema,
        output_schema,
        example_queries: example_queries.into_iter().map(Box::from).collect(),
    })
}

fn read_schema(r: &mut ObjectReader<'_, '_>, name: &'static str) -> Option<JsonText> {
    let text = read_json_object(r, name)?;
    let value = r.value(name)?;
    let problems = json_schema::problems(value);
    for problem in &problems {
        r.problem(&format!("{name}{}", problem.path), problem.message.clone());
    }
    problems.is_empty().then_some(text)
}

fn read_executor(r: &mut ObjectReader<'_, '_>) -> Option<Executor> {
    let value = r.value("executor")?;
    let path = r.path_of("executor");
    let mut inner = ObjectReader::open(value, path, r.problems())?;
    let executor = read_executor_fields(&mut inner);
    inner.finish();
    executor
}

fn read_executor_fields(r: &mut ObjectReader<'_, '_>) -> Option<Executor> {
    if !r.has("kind") {
        r.problem("kind", "is required: pull, builtin, a2a, mcp, http or command");
    }
    let kind = r.choice("kind", &ExecutorKind::ALL);
    let settings = read_json_object(r, "settings").unwrap_or_else(JsonText::empty_object);
    let kind = kind?;
    let empty = Value::Object(Map::new());
    let value = r.value("settings").unwrap_or(&empty);
    let path = r.path_of("settings");
    if let Some(mut inner) = ObjectReader::open(value, path, r.problems()) {
        read_executor_settings(&mut inner, kind);
        inner.finish();
    }
    Some(Executor { kind, settings })
}

/// Checks the settings of an executor. None of them can name a program to start or widen what the operator allows:
/// `command` and `mcp` only refer to entries of the operator's own file.
fn read_executor_settings(r: &mut ObjectReader<'_, '_>, kind: ExecutorKind) {
    match kind {
        ExecutorKind::Pull => {}
        ExecutorKind::Builtin => {
            const OPERATIONS: [(&str, ()); 4] = [("echo", ()), ("transform", ()), ("wait", ()), ("gate", ())];
            let operation = r.choice("operation", &OPERATIONS);
            if operation.is_none() && !r.has("operation") {
                r.problem("operation", "is required: echo, transform, wait or gate");
            }
            let _expression = r.text_bytes("expression", limits::DESCRIPTION_BYTES_MAX);
        }
        ExecutorKind::A2a | ExecutorKind::Http => {
            let url = r.text_chars("url", 2_000);
            match url {
                Some(url) if !(url.starts_with("https://") || url.starts_with("http://")) => {
                    r.problem("url", "must start with https:// or http://");
                }
                Some(url)
                    if url.split_once("//").is_some_and(|(_, rest)| {
                        rest.split(['/', '?', '#']).next().unwrap_or_default().contains('@')
                    }) =>
                {
                    r.problem("url", "holds a user name or password; keep credentials in the operator's configuration");
                }
                None if !r.has("url") => r.problem("url", "is required"),
                _ => {}
            }
        }
        ExecutorKind::Mcp => {
            for name in ["server", "tool"] {
                if r.text_chars(name, limits::NAME_CHARS_MAX).is_none() && !r.has(name) {
                    r.problem(name, "is required: a name from the operator's configuration file");
                }
            }
        }
        ExecutorKind::Command => {
            if r.text_chars("name", limits::NAME_CHARS_MAX).is_none() && !r.has("name") {
                r.problem("name", "is required: the name of a command in the operator's configuration file");
            }
        }
    }
}

/// `None` when the field is absent, `Some(None)` when it is null.
fn read_deprecation(r: &mut ObjectReader<'_, '_>) -> Option<Option<Deprecation>> {
    let value = r.nullable("deprecated")?;
    if value.is_null() {
        return Some(None);
    }
    let path = r.path_of("deprecated");
    let mut inner = ObjectReader::open(value, path, r.problems())?;
    let successor = read_id(&mut inner, "successor", AgentId::parse);
    let reason = inner.text_bytes("reason", limits::DESCRIPTION_BYTES_MAX).unwrap_or_default();
    inner.finish();
    Some(Some(Deprecation { successor, reason: reason.into() }))
}
