//! `workflows list`.

use a2a_core::limits::PAGE_ROWS_MAX;
use a2a_core::workflow::definition::Workflow;
use a2a_engine::config::Config;
use serde_json::{Value, json};

use super::super::error::{CliError, Exit};
use super::super::{open, output, table};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let mut workflows = Vec::new();
    loop {
        let page = hub.workflow_list(None, workflows.len(), PAGE_ROWS_MAX).await?;
        let is_last = page.workflows.is_empty();
        workflows.extend(page.workflows);
        if is_last || workflows.len() >= page.total {
            break;
        }
    }
    hub.close().await;
    if args.json {
        let rows: Vec<Value> = workflows.iter().map(|workflow| row(workflow)).collect();
        output::json(&json!({"total": rows.len(), "workflows": rows}))?;
        return Ok(Exit::Done);
    }
    if workflows.is_empty() {
        output::note("there are no workflows; save some with `a2a-mcp workflows save PATH`");
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = workflows
        .iter()
        .map(|workflow| {
            let spec = &workflow.spec;
            vec![
                spec.id.to_string(),
                spec.steps.len().to_string(),
                workflow.revision.to_string(),
                spec.description.to_string(),
            ]
        })
        .collect();
    output::text(&table::render(&["ID", "STEPS", "REVISION", "DESCRIPTION"], &rows, table::width()))?;
    Ok(Exit::Done)
}

fn row(workflow: &Workflow) -> Value {
    let spec = &workflow.spec;
    json!({
        "id": spec.id,
        "namespace": spec.namespace,
        "name": spec.name,
        "description": spec.description,
        "steps": spec.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(),
        "revision": workflow.revision,
        "updated_at": workflow.updated_at,
        "updated_by": workflow.updated_by,
    })
}
