//! `runs start`.

use std::path::PathBuf;

use a2a_core::ids::Actor;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use a2a_engine::hub::RunRequest;
use serde_json::{Map, Value, json};

use super::super::error::{CliError, Exit};
use super::super::{argument, documents, open, output};
use super::watch;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The workflow's id, or the unique beginning of it
    #[arg(value_name = "WORKFLOW", required_unless_present = "file", conflicts_with = "file")]
    workflow: Option<String>,
    /// A file with one workflow that is not saved (*.yaml, *.yml, *.json); - reads standard input
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// What steps see as input: JSON, or @FILE
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// Replaces fields of the workflow's context: a JSON object, or @FILE
    #[arg(long, value_name = "JSON")]
    context: Option<String>,
    /// Replaces fields of steps: a JSON object by the name of the step, or @FILE
    #[arg(long, value_name = "JSON")]
    overrides: Option<String>,
    /// Higher ones are done first [default: 5]
    #[arg(long, value_parser = clap::value_parser!(i16).range(0..=9))]
    priority: Option<i16>,
    /// Starting again with the same key finds the same run
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// Print what happens until the run ends, and end as it does
    #[arg(long)]
    watch: bool,
    /// Print one JSON document
    #[arg(long, conflicts_with = "watch")]
    json: bool,
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let inline = args.file.as_ref().map(document).transpose()?;
    let request = RunRequest {
        namespace: None,
        workflow: args.workflow,
        inline,
        context: object(args.context.as_deref(), "--context")?,
        input: args.input.as_deref().map(|text| argument::json(text, "--input")).transpose()?,
        overrides: object(args.overrides.as_deref(), "--overrides")?,
        priority: args.priority,
        idempotency_key: args.key,
    };
    let hub = open(config).await?;
    let started = hub.run_start(request, actor).await;
    let exit = match &started {
        Ok(started) if args.watch => watch::follow(&hub, started.id.as_str(), None).await,
        _ => Ok(Exit::Done),
    };
    hub.close().await;
    let started = started.map_err(|error| match error {
        HubError::Invalid(problems) => CliError::Failed(problems.to_string()),
        other => other.into(),
    })?;
    if args.json {
        output::json(&json!({"run": started.id, "existing": started.existing}))?;
    } else if !args.watch {
        output::text(&format!("{}\n", started.id))?;
        if started.existing {
            output::note("an earlier command with this key has started it");
        }
    }
    exit
}

fn document(path: &PathBuf) -> Result<Value, CliError> {
    let mut sources = documents::read(std::slice::from_ref(path));
    match (sources.pop(), sources.is_empty()) {
        (Some(source), true) => {
            source.document.map_err(|reason| CliError::Failed(format!("{}: {reason}", source.place)))
        }
        _ => Err(CliError::Usage(format!("{} must hold one workflow", path.display()))),
    }
}

fn object(text: Option<&str>, flag: &str) -> Result<Option<Map<String, Value>>, CliError> {
    match text.map(|text| argument::json(text, flag)).transpose()? {
        None => Ok(None),
        Some(Value::Object(fields)) => Ok(Some(fields)),
        Some(_) => Err(CliError::Usage(format!("{flag} must be a JSON object, such as '{{\"team\": \"web\"}}'"))),
    }
}
