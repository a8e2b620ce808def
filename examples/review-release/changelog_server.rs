//! A small MCP server with one tool: what a version changes, read from the changelog.

use std::path::PathBuf;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt as _};
use serde_json::{Value, json};

use crate::Failure;

struct Changelog(PathBuf);

impl ServerHandler for Changelog {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({"type": "object", "properties": {"version": {"type": "string"}}, "required": ["version"]});
        let schema = schema.as_object().cloned().unwrap_or_default();
        let tool = Tool::new("changes_of", "What a version changes.", schema)
            .with_annotations(ToolAnnotations::new().read_only(true));
        Ok(ListToolsResult::with_all_items(vec![tool]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let version = arguments.get("version").and_then(Value::as_str).unwrap_or_default();
        let text =
            std::fs::read_to_string(&self.0).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        let section = text.split("\n## ").find_map(|section| section.strip_prefix(version)?.strip_prefix('\n'));
        let result = match section {
            Some(changes) => CallToolResult::structured(json!({"changes": changes.trim()})),
            None => {
                CallToolResult::error(vec![ContentBlock::text(format!("the changelog has no version {version:?}"))])
            }
        };
        Ok(CallToolResponse::Complete(result))
    }
}

/// Serves until the client is gone.
pub(crate) async fn serve(changelog: PathBuf) -> Result<(), Failure> {
    let wire = AsyncRwTransport::new_server(tokio::io::stdin(), tokio::io::stdout());
    let serving = Changelog(changelog).serve(wire).await.map_err(|error| Failure(error.to_string()))?;
    serving.waiting().await.map_err(|error| Failure(error.to_string()))?;
    Ok(())
}
