//! `runs list`.

use a2a_core::limits::PAGE_ROWS_MAX;
use a2a_core::workflow::run::RunStatus;
use a2a_engine::config::Config;
use a2a_engine::error::HubError;
use a2a_engine::hub::RunQuery;
use serde_json::json;

use super::super::error::{CliError, Exit};
use super::super::{open, output, table};
use crate::run_view::RunRow;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only runs of this status: pending, running, waiting, completed, failed or cancelled
    #[arg(long, value_parser = status)]
    status: Option<RunStatus>,
    /// Only runs of this workflow
    #[arg(long, value_name = "ID")]
    workflow: Option<String>,
    /// Runs to show at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=PAGE_ROWS_MAX as u64))]
    limit: u64,
    /// Go on after an earlier list, with the cursor it ended with and the same conditions
    #[arg(long)]
    cursor: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

fn status(text: &str) -> Result<RunStatus, String> {
    RunStatus::from_name(text).ok_or_else(|| {
        let known: Vec<String> = RunStatus::ALL.iter().map(|status| status.as_str().to_lowercase()).collect();
        format!("use one of: {}", known.join(", "))
    })
}

pub(super) async fn run(args: Args, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let query = RunQuery {
        namespace: None,
        status: args.status,
        workflow: args.workflow,
        limit: usize::try_from(args.limit).unwrap_or(PAGE_ROWS_MAX),
        cursor: args.cursor,
    };
    let page = hub.run_list(&query).await.map_err(|error| match error {
        HubError::Invalid(problems) => CliError::Usage(problems.to_string()),
        other => other.into(),
    });
    hub.close().await;
    let page = page?;
    let rows: Vec<RunRow> = page.runs.iter().map(RunRow::of).collect();
    if args.json {
        output::json(&json!({"total": page.total, "next_cursor": page.next_cursor, "runs": rows}))?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        output::note("there are no such runs; start one with `a2a-mcp runs start WORKFLOW`");
        return Ok(Exit::Done);
    }
    let cells: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            let ended = row.finished_at.unwrap_or_else(|| "-".to_owned());
            vec![
                row.run,
                row.status.to_owned(),
                row.workflow,
                row.steps,
                row.created_at,
                row.created_by,
                ended,
                row.error.unwrap_or_default(),
            ]
        })
        .collect();
    let heads = ["RUN", "STATUS", "WORKFLOW", "STEPS", "STARTED", "BY", "ENDED", "ERROR"];
    output::text(&table::render(&heads, &cells, table::width()))?;
    if let Some(cursor) = page.next_cursor {
        output::note(&format!("{} of {} runs; go on with --cursor {cursor}", cells.len(), page.total));
    }
    Ok(Exit::Done)
}
