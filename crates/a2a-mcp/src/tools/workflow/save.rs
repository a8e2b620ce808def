//! `workflow_save`

use a2a_core::ids::Namespace;
use a2a_core::input::ObjectReader;
use a2a_core::limits;
use a2a_engine::hub::{SaveOptions, WriteStatus};
use futures_util::FutureExt as _;
use rmcp::handler::server::router::tool::ToolRoute;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::server::Server;
use crate::text::one_line;
use crate::tools::{Answer, Arguments, Call, Definition, Effect, Reply, read_namespace, read_revision};
use crate::workflow_preview;

/// Warnings shown; a workflow has at most a few hundred steps.
const WARNINGS_SHOWN: usize = 20;

pub(super) fn route() -> ToolRoute<Server> {
    crate::tools::route(
        Definition {
            name: "workflow_save",
            title: "Save a workflow",
            description: "Save a workflow for all clients: steps done by agents, in parallel where depends_on allows. \
                          Replaces the whole document; runs keep theirs. Example: {\"id\":\"w\",\"steps\":[{\"name\":\"a\",\"agent\":\"code-reviewer\",\
                          \"input\":{\"diff\":\"{{ input.diff }}\"}}]}",
            effect: Effect::Destroys,
        },
        run,
    )
}

/// One step, for its schema; the document is read by the core. The core's own schema says more than fits a list of tools.
#[derive(Debug, JsonSchema)]
#[schemars(inline, deny_unknown_fields, description = "")]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct StepDocument {
    name: String,
    /// Id, or builtin:echo, builtin:transform {"expression"}, builtin:wait {"seconds"}, builtin:gate
    /// {"question","schema"}: asks a person
    agent: String,
    #[schemars(default)]
    capability: String,
    /// {{ }} sees input, context, steps.NAME.output
    #[schemars(default)]
    input: Value,
    /// Names, or {"step","required":true}: skipped with it
    #[schemars(default)]
    depends_on: Vec<Value>,
    /// Expression: steps.a.output.ok and input.urgent
    #[schemars(default)]
    run_if: String,
    #[schemars(default)]
    skip_if: String,
    /// max_attempts, backoff_ms, backoff_max_ms
    #[schemars(default)]
    retry: Map<String, Value>,
    #[schemars(default)]
    timeout_s: u32,
    /// fail, continue or {"compensate":step}
    #[schemars(default)]
    on_failure: Value,
}

#[derive(Debug, JsonSchema)]
#[allow(dead_code, missing_docs, reason = "the schema is what a model reads; every word costs")]
struct SaveArgs {
    id: String,
    name: Option<String>,
    description: Option<String>,
    context: Option<Map<String, Value>>,
    steps: Option<Vec<StepDocument>>,
    /// Template
    result: Option<Value>,
    timeout_s: Option<u32>,
    max_parallel: Option<u16>,
    namespace: Option<String>,
    expected_revision: Option<i64>,
    dry_run: Option<bool>,
    remove: Option<bool>,
}

/// The fields of the document itself.
const DOCUMENT: [&str; 8] = ["id", "name", "description", "context", "steps", "result", "timeout_s", "max_parallel"];

struct Parsed {
    id: String,
    document: Value,
    namespace: Option<Namespace>,
    expected_revision: Option<i64>,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Save,
    Check,
    Remove,
}

impl JsonSchema for Parsed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        SaveArgs::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        SaveArgs::json_schema(generator)
    }
}

impl Arguments for Parsed {
    fn read(r: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let id = r.text_chars("id", limits::ID_CHARS_MAX).map(str::to_owned);
        if !r.has("id") {
            r.problem("id", "is required: the id of the workflow");
        }
        // The core reads what is inside and knows all problems of a document; here only its fields are told apart from
        // the other arguments. Null counts as left out.
        let mut document = Map::new();
        for field in DOCUMENT {
            if let Some(value) = r.value(field) {
                document.insert(field.to_owned(), value.clone());
            }
        }
        let dry_run = r.boolean("dry_run").unwrap_or(false);
        let remove = r.boolean("remove").unwrap_or(false);
        if remove && (document.len() > 1 || dry_run) {
            r.problem("remove", "takes the id and nothing else of the document");
        }
        let mode = match (remove, dry_run) {
            (true, _) => Mode::Remove,
            (false, true) => Mode::Check,
            (false, false) => Mode::Save,
        };
        let namespace = read_namespace(r);
        let expected_revision = read_revision(r, "expected_revision");
        Some(Self { id: id?, document: Value::Object(document), namespace, expected_revision, mode })
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct SaveResult {
    // Not for dry_run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    durability: Option<&'static str>,
    id: String,
    /// created, updated, unchanged or removed
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    // What would keep a run from starting now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    warnings: Vec<String>,
}

fn run<'s>(call: Call<'s>, args: Parsed) -> Answer<'s, SaveResult> {
    async move {
        let durability = call.hub.durability().as_str();
        let namespace = args.namespace.as_ref();
        match args.mode {
            Mode::Remove => {
                let revision =
                    call.hub.workflow_remove(namespace, &args.id, args.expected_revision, &call.actor).await?;
                let text = format!("{} removed ({durability}); runs of it go on", args.id);
                let result = SaveResult {
                    durability: Some(durability),
                    id: args.id,
                    status: "removed",
                    revision: Some(revision),
                    warnings: Vec::new(),
                };
                Ok(Reply::new(result, text))
            }
            Mode::Check => {
                let preview = workflow_preview::preview(call.hub, &args.document, "", namespace).await?;
                let status = status_name(preview.status);
                let head = format!("{} is valid and would be {status}; nothing was written", preview.id);
                let result = SaveResult {
                    durability: None,
                    id: preview.id,
                    status,
                    revision: preview.revision,
                    warnings: shown(preview.warnings),
                };
                Ok(reply(result, head))
            }
            Mode::Save => {
                let options = SaveOptions { namespace: args.namespace, expected_revision: args.expected_revision };
                let saved = call.hub.workflow_save(&args.document, "", &options, &call.actor).await?;
                let status = status_name(saved.status);
                let id = saved.key.id.to_string();
                let head = format!(
                    "{id} {status}: revision {} ({durability})\nrun it: workflow_run workflow={id}",
                    saved.revision
                );
                let result = SaveResult {
                    durability: Some(durability),
                    id,
                    status,
                    revision: Some(saved.revision),
                    warnings: shown(saved.warnings),
                };
                Ok(reply(result, head))
            }
        }
    }
    .boxed()
}

fn reply(result: SaveResult, mut text: String) -> Reply<SaveResult> {
    for warning in &result.warnings {
        text.push_str(&format!("\nwarning: {}", one_line(warning)));
    }
    Reply::new(result, text)
}

fn shown(mut warnings: Vec<String>) -> Vec<String> {
    let more = warnings.len().saturating_sub(WARNINGS_SHOWN);
    if more > 0 {
        warnings.truncate(WARNINGS_SHOWN);
        warnings.push(format!("and {more} more"));
    }
    warnings
}

fn status_name(status: WriteStatus) -> &'static str {
    match status {
        WriteStatus::Created => "created",
        WriteStatus::Updated => "updated",
        WriteStatus::Unchanged => "unchanged",
    }
}
