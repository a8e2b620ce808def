//! `workflows show`.

use a2a_core::workflow::definition::{Definition, Workflow};
use a2a_core::workflow::mermaid;
use a2a_engine::config::Config;
use serde_json::Value;

use super::super::error::{CliError, Exit};
use super::super::{open, output, table, yaml};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The workflow's id, or the unique beginning of it
    id: String,
    /// Print the graph as Mermaid text
    #[arg(long, conflicts_with = "json")]
    mermaid: bool,
    /// Print JSON instead of YAML
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let workflow = hub.workflow_get(None, &args.id).await;
    hub.close().await;
    show(&*workflow?, &args)?;
    Ok(Exit::Done)
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
