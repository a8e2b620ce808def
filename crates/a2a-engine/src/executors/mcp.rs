//! Tools of other MCP servers.
//!
//! `settings.server` names an entry of the operator's file and `settings.tool` one of the tools that this entry allows;
//! nothing else of the server is used. The input of the step is the arguments of the tool, an object or null. A
//! connection is kept as long as it lives and shared by all steps of this process.
//!
//! | the call | the step |
//! |---|---|
//! | gives structured content | is done, with that as output |
//! | gives one text that is a JSON object or list | is done, with that as output |
//! | gives other content | is done, with `text` (a line for each text) and, when there is more, `content` (all of it) |
//! | gives an error, or breaks off | fails |
//! | asks for input | fails for good: nobody can be asked in the middle of a call |
//!
//! A failed call is tried again only if the tool says of itself that it is read-only or idempotent, or if it surely was
//! not sent. Any other tool is called once: that it is about to be called is noted before, and an attempt that finds
//! this note does not call it again.

mod connection;
mod handler;
mod output;
#[cfg(unix)]
mod process;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, ServerResult};
use rmcp::service::{PeerRequestOptions, RequestHandle, RoleClient, ServiceError};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::connection::{ConnectError, Connection};
use super::{Contact, Done, Execute, Missing, StepContext, StepWork, limit_within, seconds, text_setting};
use crate::egress::Egress;
use crate::operator::{McpConnection, McpServer, OperatorFile};

/// A step without a limit of its own.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);
/// Telling a server that a call is no longer wanted takes no longer.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// The executor of the kind `mcp`.
pub(super) struct Mcp {
    operator: Arc<OperatorFile>,
    egress: Arc<Egress>,
    /// By the name of the server.
    slots: Mutex<HashMap<Box<str>, Arc<Slot>>>,
}

/// The connection to a server. Locked while it is made, so that steps which start together make one.
type Slot = tokio::sync::Mutex<Option<Arc<Connection>>>;

/// What the settings of an agent refer to.
struct Entry<'o> {
    name: &'o str,
    server: &'o McpServer,
    tool: &'o str,
}

impl Entry<'_> {
    fn without_tool(&self) -> String {
        format!("the MCP server {:?} has no tool {:?}", self.name, self.tool)
    }
}

impl Mcp {
    pub(super) fn new(operator: Arc<OperatorFile>, egress: Arc<Egress>) -> Self {
        Self { operator, egress, slots: Mutex::default() }
    }

    fn entry(&self, settings: &Value) -> Result<Entry<'_>, Missing> {
        let (name, tool) = (text_setting(settings, "server")?, text_setting(settings, "tool")?);
        let place = self.operator.place();
        let Some((name, server)) = self.operator.mcp_servers.get_key_value(name) else {
            return Err(Missing(format!(
                "there is no MCP server {name:?}; to allow it, describe it under mcp.servers in {place}"
            )));
        };
        let Some(tool) = server.tools.get(tool) else {
            return Err(Missing(format!(
                "the tool {tool:?} of the MCP server {name:?} is not allowed; to allow it, add it to the tools of that \
                 server in {place}"
            )));
        };
        Ok(Entry { name, server, tool })
    }

    /// The connection that is there, or a new one.
    async fn connection(&self, entry: &Entry<'_>) -> Result<Arc<Connection>, ConnectError> {
        let slot = self.slots.lock().entry(entry.name.into()).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.is_alive()) {
            return Ok(connection.clone());
        }
        // Ordering: the old one is let go first, so that a server does not run twice.
        *slot = None;
        let connection = Arc::new(connection::connect(&entry.server.connection, &self.egress).await?);
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// Lets a connection go that does not work any more.
    async fn discard(&self, name: &str, connection: &Arc<Connection>) {
        let slot = self.slots.lock().get(name).cloned();
        if let Some(slot) = slot {
            let mut slot = slot.lock().await;
            if slot.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, connection)) {
                *slot = None;
            }
        }
    }

    async fn prepare(&self, entry: &Entry<'_>, context: &dyn StepContext) -> Result<(Arc<Connection>, bool), Done> {
        let connection = self.connection(entry).await.map_err(|error| {
            match error.reached {
                Some(true) => context.contact(Ok(())),
                Some(false) => context.contact(Err(&error.message)),
                None => {}
            }
            let said = format!("the MCP server {:?} can't be used: {}", entry.name, error.message);
            Done::Failed { error: said, retryable: error.retryable }
        })?;
        match connection.is_repeatable(entry.tool).await {
            Ok(Some(repeatable)) => Ok((connection, repeatable)),
            Ok(None) => {
                let said = entry.without_tool();
                context.contact(Err(&said));
                Err(Done::failed(said))
            }
            // Nothing was called yet.
            Err(error) => {
                self.discard(entry.name, &connection).await;
                context.contact(Err(&error));
                Err(Done::retryable(format!("the MCP server {:?} can't be used: {error}", entry.name)))
            }
        }
    }

    /// Connects if need be, and asks whether the tool is there.
    async fn ask(&self, settings: &Value) -> Result<Contact, Missing> {
        self.can_run(settings)?;
        let entry = self.entry(settings)?;
        let connection = match self.connection(&entry).await {
            Ok(connection) => connection,
            Err(error) => {
                return match error.reached {
                    Some(true) => Ok(Contact::Reached { remark: Some(error.message) }),
                    Some(false) => Ok(Contact::not_reached(error.message)),
                    None => Err(Missing(error.message)),
                };
            }
        };
        Ok(match connection.has(entry.tool).await {
            Ok(true) => Contact::Reached { remark: None },
            Ok(false) => Contact::not_reached(entry.without_tool()),
            Err(error) => {
                self.discard(entry.name, &connection).await;
                Contact::not_reached(error)
            }
        })
    }

    async fn run(&self, work: &StepWork, context: Arc<dyn StepContext>) -> Done {
        let settings = work.settings();
        let entry = match self.entry(&settings) {
            Ok(entry) => entry,
            Err(missing) => return missing.into(),
        };
        let arguments = match &work.input {
            Value::Null => None,
            Value::Object(arguments) => Some(arguments.clone()),
            _ => return Done::failed("the input of the step must be an object: the arguments of the tool"),
        };
        let limit = limit_within(work.timeout).unwrap_or(TIMEOUT_DEFAULT);
        let deadline = Instant::now() + limit;
        let cancelled = context.cancelled();
        let prepared = tokio::select! {
            biased;
            () = cancelled.cancelled() => return unwanted(),
            prepared = tokio::time::timeout_at(deadline, self.prepare(&entry, &*context)) => prepared,
        };
        let (connection, repeatable) = match prepared {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(done)) => return done,
            Err(_) => {
                return Done::retryable(format!(
                    "the MCP server {:?} took longer than {} to begin",
                    entry.name,
                    seconds(limit)
                ));
            }
        };
        if !repeatable {
            if work.checkpoint.is_some() {
                return Done::failed(format!(
                    "an earlier attempt has ended before the result of the tool {:?} was known; it is not called again, \
                     because it does not say that it is read-only or idempotent",
                    entry.tool
                ));
            }
            // Ordering: before the call, so that no other attempt makes it again.
            if context.checkpoint(json!({"calling": entry.tool})).await.is_err() {
                return unwanted();
            }
        }
        let call = Call { entry: &entry, connection: &connection, repeatable, limit, deadline };
        let (done, broken) = call.run(arguments, context, &cancelled).await;
        if broken {
            self.discard(entry.name, &connection).await;
        }
        done
    }
}

impl Execute for Mcp {
    fn can_run(&self, settings: &Value) -> Result<(), Missing> {
        let entry = self.entry(settings)?;
        match &entry.server.connection {
            McpConnection::Stdio { .. } if cfg!(not(unix)) => {
                Err(Missing("MCP servers are not started on this operating system".to_owned()))
            }
            McpConnection::Stdio { .. } => Ok(()),
            McpConnection::Http { url, .. } => self.egress.check(url).map_err(|error| Missing(error.to_string())),
        }
    }

    fn execute(&self, work: StepWork, context: Arc<dyn StepContext>) -> BoxFuture<'_, Done> {
        async move { self.run(&work, context).await }.boxed()
    }

    fn check<'s>(&'s self, settings: &'s Value) -> BoxFuture<'s, Result<Contact, Missing>> {
        self.ask(settings).boxed()
    }
}

fn unwanted() -> Done {
    Done::failed("the step is no longer wanted")
}

/// One call of a tool.
struct Call<'a> {
    entry: &'a Entry<'a>,
    connection: &'a Connection,
    repeatable: bool,
    limit: Duration,
    deadline: Instant,
}

impl Call<'_> {
    /// The second value says that the connection is not to be used again.
    async fn run(
        &self,
        arguments: Option<Map<String, Value>>,
        context: Arc<dyn StepContext>,
        cancelled: &CancellationToken,
    ) -> (Done, bool) {
        let mut params = CallToolRequestParams::new(self.entry.tool.to_owned());
        params.arguments = arguments;
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let handle =
            match self.connection.peer().send_request_with_option(request, PeerRequestOptions::no_options()).await {
                Ok(handle) => handle,
                Err(error) => return (Done::retryable(self.lost(&error.to_string()).await), true),
            };
        let _progress = self.connection.handler().watch(handle.progress_token.clone(), context.clone());
        let mut sent = Sent(Some(handle));
        let answered = tokio::select! {
            biased;
            () = cancelled.cancelled() => {
                sent.cancel("the step is no longer wanted").await;
                return (unwanted(), false);
            }
            answered = sent.response() => answered,
            () = tokio::time::sleep_until(self.deadline) => {
                sent.cancel("it takes too long").await;
                let error = format!("the tool {:?} took longer than {}", self.entry.tool, seconds(self.limit));
                return (self.failed(error), false);
            }
        };
        sent.0 = None;
        if matches!(answered, Ok(_) | Err(ServiceError::McpError(_))) {
            context.contact(Ok(()));
        }
        match answered {
            Ok(result) => (self.outcome(result), false),
            Err(error) => self.error(&error).await,
        }
    }

    fn outcome(&self, result: ServerResult) -> Done {
        let tool = self.entry.tool;
        match result {
            ServerResult::CallToolResult(result) => match output::of(result) {
                Ok(Ok(output)) => Done::Completed(output),
                Ok(Err(said)) => self.failed(format!("the tool {tool:?} failed: {said}")),
                Err(problem) => Done::failed(format!("the tool {tool:?} gave {problem}")),
            },
            ServerResult::EmptyResult(_) | ServerResult::TaskAckResult(_) => Done::Completed(Value::Null),
            ServerResult::InputRequiredResult(_) => Done::failed(format!(
                "the tool {tool:?} asks for input in the middle of its call, which is declined: nobody can be asked"
            )),
            ServerResult::CreateTaskResult(_) => {
                Done::failed(format!("the tool {tool:?} answered with a task, which was not asked for"))
            }
            _ => Done::failed(format!("the tool {tool:?} answered with what is not the result of a tool")),
        }
    }

    async fn error(&self, error: &ServiceError) -> (Done, bool) {
        let tool = self.entry.tool;
        match error {
            ServiceError::McpError(error) => {
                let message = super::excerpt(error.message.as_bytes(), output::ERROR_CHARS_MAX);
                let said = format!("the tool {tool:?} can't be called (error {}): {message}", error.code.0);
                let done = if output::is_refusal(error.code.0) { Done::failed(said) } else { self.failed(said) };
                (done, false)
            }
            error => {
                let (said, not_sent) = connection::explain(error);
                let said = self.lost(&said).await;
                let done = if not_sent { Done::retryable(said) } else { self.failed(said) };
                (done, true)
            }
        }
    }

    async fn lost(&self, why: &str) -> String {
        let said = self.connection.last_words().await;
        let said = if said.is_empty() { String::new() } else { format!("; it wrote: {said}") };
        format!("the connection to the MCP server {:?} was lost during the call: {why}{said}", self.entry.name)
    }

    fn failed(&self, error: String) -> Done {
        Done::Failed { error, retryable: self.repeatable }
    }
}

/// A call whose answer is waited for. The server is told when nobody waits any more.
struct Sent(Option<RequestHandle<RoleClient>>);

impl Sent {
    async fn response(&mut self) -> Result<ServerResult, ServiceError> {
        match &mut self.0 {
            Some(handle) => (&mut handle.rx).await.unwrap_or(Err(ServiceError::TransportClosed)),
            None => Err(ServiceError::TransportClosed),
        }
    }

    async fn cancel(&mut self, reason: &str) {
        if let Some(handle) = self.0.take() {
            // A server that does not hear of it answers later, and nobody listens.
            let _unheard = tokio::time::timeout(CANCEL_TIMEOUT, handle.cancel(Some(reason.to_owned()))).await;
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let (Some(handle), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(CANCEL_TIMEOUT, handle.cancel(Some("it was given up".to_owned()))));
        }
    }
}
