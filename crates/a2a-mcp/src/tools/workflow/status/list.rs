//! Lists of runs and of saved workflows.

use a2a_core::error::Problems;
use a2a_core::workflow::definition::Workflow;
use a2a_engine::hub::RunQuery;
use serde_json::{Map, Value, json};

use super::{ListRequest, StatusResult};
use crate::run_view::RunRow;
use crate::text::{fenced, fitted, one_line, shortened};
use crate::tool_error::ToolError;
use crate::tools::{Call, NOTICE, Reply, json_bytes};

/// What the rows of a page may take of a result.
const ROWS_BYTES_MAX: usize = 24 * 1024;
/// What one document may take.
const DOCUMENT_BYTES_MAX: usize = 24 * 1024;
const DESCRIPTION_CHARS: usize = 160;

pub(super) async fn answer(call: &Call<'_>, request: ListRequest) -> Result<Reply<StatusResult>, ToolError> {
    match (request.workflows, &request.workflow) {
        (true, Some(id)) => {
            let namespace = request.namespace.as_ref();
            let workflow = match request.revision {
                Some(revision) => call.hub.workflow_revision(namespace, id, revision).await?,
                None => call.hub.workflow_get(namespace, id).await?,
            };
            document(&workflow)
        }
        (true, None) => workflows(call, &request).await,
        (false, _) => runs(call, request).await,
    }
}

async fn runs(call: &Call<'_>, request: ListRequest) -> Result<Reply<StatusResult>, ToolError> {
    let query = RunQuery {
        namespace: request.namespace,
        status: request.status,
        workflow: request.workflow,
        limit: request.limit,
        cursor: request.cursor,
    };
    let page = call.hub.run_list(&query).await?;
    let rows: Vec<RunRow> = page.runs.iter().map(RunRow::of).collect();
    let mut text = format!("{} of {} runs, newest first", rows.len(), page.total);
    for row in &rows {
        text.push('\n');
        text.push_str(&row.line());
    }
    if let Some(cursor) = &page.next_cursor {
        text.push_str(&format!("\nnext_cursor: {cursor}"));
    }
    if page.total == 0 {
        text.push_str("\nstart one with workflow_run");
    }
    let result = StatusResult {
        total: Some(page.total),
        runs: Some(rows),
        next_cursor: page.next_cursor,
        ..StatusResult::default()
    };
    Ok(Reply::new(result, text))
}

/// The cursor of a list of workflows is the number of those before.
async fn workflows(call: &Call<'_>, request: &ListRequest) -> Result<Reply<StatusResult>, ToolError> {
    let offset = match request.cursor.as_deref().map(str::parse::<usize>) {
        None => 0,
        Some(Ok(offset)) => offset,
        Some(Err(_)) => return Err(Problems::one("cursor", "is not one of this list; leave it out to begin").into()),
    };
    let page = call.hub.workflow_list(request.namespace.as_ref(), offset, request.limit).await?;
    let mut rows = Vec::new();
    let mut text = String::new();
    let mut left = ROWS_BYTES_MAX;
    for workflow in &page.workflows {
        let row = row(workflow);
        let bytes = json_bytes(&row);
        if bytes > left {
            break;
        }
        left -= bytes;
        text.push_str(&format!(
            "\n{} ({} steps) {}",
            workflow.spec.id,
            workflow.spec.steps.len(),
            one_line(&shortened(&workflow.spec.description, DESCRIPTION_CHARS))
        ));
        rows.push(row);
    }
    let shown = offset + rows.len();
    let next_cursor = (shown < page.total && !rows.is_empty()).then(|| shown.to_string());
    let mut text = format!("{} of {} workflows{text}", rows.len(), page.total);
    if let Some(cursor) = &next_cursor {
        text.push_str(&format!("\nnext_cursor: {cursor}"));
    }
    if page.total == 0 {
        text.push_str("\nsave one with workflow_save");
    }
    let result =
        StatusResult { total: Some(page.total), workflows: Some(rows), next_cursor, ..StatusResult::default() };
    Ok(Reply::new(result, text))
}

fn row(workflow: &Workflow) -> Map<String, Value> {
    let spec = &workflow.spec;
    let mut row = Map::new();
    row.insert("id".to_owned(), json!(spec.id));
    if *spec.name != *spec.id.as_str() {
        row.insert("name".to_owned(), json!(spec.name));
    }
    row.insert("description".to_owned(), json!(shortened(&spec.description, DESCRIPTION_CHARS)));
    row.insert("steps".to_owned(), json!(spec.steps.len()));
    row.insert("revision".to_owned(), json!(workflow.revision));
    row
}

fn document(workflow: &Workflow) -> Result<Reply<StatusResult>, ToolError> {
    let value = serde_json::to_value(workflow).map_err(|error| {
        tracing::error!(%error, "a workflow could not be written as JSON");
        ToolError::internal()
    })?;
    let mut text = format!("{}, revision {}", workflow.spec.id, workflow.revision);
    let part = fitted(value, DOCUMENT_BYTES_MAX);
    text.push('\n');
    let author = workflow.updated_by.as_str();
    text.push_str(&fenced("stored-workflow", &[("id", workflow.spec.id.as_str()), ("author", author)], &part.value));
    let mut fields = Map::new();
    match part.value {
        Value::Object(whole) => fields = whole,
        cut => {
            text.push_str(&format!("\ncut: it has {} bytes; `a2a-mcp workflows show` prints it whole", part.bytes));
            fields.insert("id".to_owned(), json!(workflow.spec.id));
            fields.insert("document_cut".to_owned(), cut);
        }
    }
    let result =
        StatusResult { total: Some(1), workflows: Some(vec![fields]), notice: Some(NOTICE), ..StatusResult::default() };
    Ok(Reply::new(result, text))
}
