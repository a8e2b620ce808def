//! `workflows show`.

use std::sync::Arc;

use a2a_core::ids::Revision;
use a2a_core::limits::PAGE_ROWS_MAX;
use a2a_core::workflow::definition::{Definition, Workflow};
use a2a_core::workflow::mermaid;
use a2a_engine::config::Config;
use a2a_engine::hub::{Hub, WorkflowVersion};
use serde_json::{Value, json};

use super::super::error::{CliError, Exit};
use super::super::{open, output, table, yaml};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The workflow's id, or the unique beginning of it
    id: String,
    /// Show this earlier revision
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..), conflicts_with = "history")]
    revision: Option<Revision>,
    /// List the revisions, the newest first
    #[arg(long, conflicts_with = "mermaid")]
    history: bool,
    /// Print the graph as Mermaid text
    #[arg(long, conflicts_with = "json")]
    mermaid: bool,
    /// Print JSON instead of YAML
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let found = find(&hub, &args).await;
    hub.close().await;
    match found? {
        Found::Workflow(workflow) => show(&workflow, &args)?,
        Found::History(versions) => history(&versions, args.json)?,
    }
    Ok(Exit::Done)
}

enum Found {
    Workflow(Arc<Workflow>),
    History(Vec<WorkflowVersion>),
}

async fn find(hub: &Hub, args: &Args) -> Result<Found, CliError> {
    if let Some(revision) = args.revision {
        return Ok(Found::Workflow(hub.workflow_revision(None, &args.id, revision).await?));
    }
    if !args.history {
        return Ok(Found::Workflow(hub.workflow_get(None, &args.id).await?));
    }
    let mut versions: Vec<WorkflowVersion> = Vec::new();
    loop {
        let before = versions.last().map(|version| version.workflow.revision);
        let mut page = hub.workflow_history(None, &args.id, before, PAGE_ROWS_MAX).await?;
        let is_last = page.len() < PAGE_ROWS_MAX;
        versions.append(&mut page);
        if is_last {
            return Ok(Found::History(versions));
        }
    }
}

fn show(workflow: &Workflow, args: &Args) -> Result<(), CliError> {
    let spec = &workflow.spec;
    let failed = |error: String| CliError::Failed(format!("{:?} can't be shown: {error}", spec.id));
    if args.mermaid {
        let definition = Definition::compile(spec.clone(), "").map_err(|problems| failed(problems.to_string()))?;
        return Ok(output::text(&format!("{}\n", mermaid::of_definition(&definition).trim_end()))?);
    }
    match serde_json::to_value(spec).map_err(|error| failed(error.to_string()))? {
        Value::Object(fields) if !args.json => {
            let head = format!(
                "# revision {}, changed {} by {}\n",
                workflow.revision,
                workflow.updated_at,
                table::one_line(workflow.updated_by.as_str())
            );
            output::text(&(head + &yaml::workflow(&fields)))?;
        }
        document => output::json(&document)?,
    }
    Ok(())
}

fn history(versions: &[WorkflowVersion], as_json: bool) -> Result<(), CliError> {
    let kind = |version: &WorkflowVersion| if version.removed_at.is_some() { "removed" } else { "document" };
    if as_json {
        let rows: Vec<Value> = versions
            .iter()
            .map(|version| {
                json!({
                    "revision": version.workflow.revision,
                    "kind": kind(version),
                    "steps": version.workflow.spec.steps.len(),
                    "updated_at": version.workflow.updated_at,
                    "updated_by": version.workflow.updated_by,
                })
            })
            .collect();
        return Ok(output::json(&json!({"revisions": rows}))?);
    }
    let rows: Vec<Vec<String>> = versions
        .iter()
        .map(|version| {
            vec![
                version.workflow.revision.to_string(),
                kind(version).to_owned(),
                version.workflow.spec.steps.len().to_string(),
                version.workflow.updated_at.to_string(),
                version.workflow.updated_by.to_string(),
            ]
        })
        .collect();
    Ok(output::text(&table::render(&["REVISION", "KIND", "STEPS", "WHEN", "BY"], &rows, table::width()))?)
}
