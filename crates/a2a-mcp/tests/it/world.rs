//! One database for one test, on either backend, and the servers that share it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

pub(crate) use a2a_testing::figure::figure;
use a2a_testing::postgres::{TestDatabase, postgres_or_skip};
use a2a_testing::stdio::{RpcError, ServerOptions, ServerProcess, ToolReply};
use serde_json::{Value, json};

/// Writes one test for each backend and each case, all of them `async fn(World)`.
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(world) = crate::world::World::postgres().await {
                        super::$case(world).await;
                    }
                }
            )*
        }
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(crate::world::World::sqlite()).await;
                }
            )*
        }
    };
}
pub(crate) use on_both;

/// The real program.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_a2a-mcp"))
}

/// Holds the machine for one test that loads it or measures time, across test processes too: on a small machine two of
/// them at once would measure each other.
pub(crate) struct MachineLock {
    _file: std::fs::File,
}

/// Waits for the machine and takes it until the value is dropped.
pub(crate) async fn machine() -> MachineLock {
    let taken = tokio::task::spawn_blocking(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machine.lock");
        let file = std::fs::File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        file.lock().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        MachineLock { _file: file }
    });
    taken.await.unwrap()
}

/// A place for agents, empty at first.
pub(crate) enum World {
    Postgres(TestDatabase),
    Sqlite(tempfile::TempDir),
}

impl World {
    /// An empty database on the shared server.
    pub(crate) async fn postgres() -> Option<Self> {
        Some(Self::Postgres(TestDatabase::create(postgres_or_skip().await?).await))
    }

    /// An empty data directory.
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::Builder::new().prefix("a2a-data-").tempdir().unwrap())
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Sqlite(_) => "sqlite",
        }
    }

    /// How to start a server on it.
    pub(crate) fn options(&self) -> ServerOptions {
        match self {
            Self::Postgres(database) => ServerOptions::new(&["serve"], &[("DATABASE_URL", &database.url())]),
            Self::Sqlite(folder) => {
                ServerOptions::new(&["serve"], &[("A2A_DATA_DIR", folder.path().to_str().expect("a path in UTF-8"))])
            }
        }
    }

    /// A server whose session is open.
    pub(crate) async fn server(&self) -> ServerProcess {
        open(self.options()).await
    }

    /// Some servers, started at the same time.
    pub(crate) async fn servers(&self, count: usize) -> Vec<ServerProcess> {
        let opened = futures_util::future::join_all((0..count).map(|_| self.server()));
        opened.await
    }
}

/// Starts a server and opens the session.
pub(crate) async fn open(options: ServerOptions) -> ServerProcess {
    let server = ServerProcess::spawn_with(binary(), options).await;
    if let Err(error) = server.initialize("integration-test").await {
        panic!("initialize: {error}\n{}", server.stderr_tail());
    }
    server
}

/// A tool call that was refused, in the parts that a model can act on.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) retryable: bool,
    /// All that the last line says.
    pub(crate) details: Value,
    pub(crate) text: String,
}

/// Reads the answer of a tool that says no.
#[track_caller]
pub(crate) fn refusal(reply: &ToolReply) -> Refusal {
    assert!(reply.is_error, "this was to be refused: {}", reply.raw);
    assert_eq!(reply.structured, Value::Null, "an error has no structured content, which must match the output schema");
    let (text, details) = reply.text.rsplit_once('\n').unwrap_or_else(|| panic!("two lines at least: {}", reply.text));
    let details: Value = serde_json::from_str(details).unwrap_or_else(|error| panic!("{error}: {}", reply.text));
    Refusal {
        code: details["code"].as_str().expect("each error has a code").to_owned(),
        retryable: details["retryable"].as_bool().expect("each error says whether to try again"),
        text: text.to_owned(),
        details,
    }
}

/// Calls a tool that is to say no.
pub(crate) async fn refused(server: &ServerProcess, tool: &str, arguments: Value) -> Refusal {
    match server.call_tool(tool, arguments).await {
        Ok(reply) => refusal(&reply),
        Err(error) => panic!("{tool}: {error}\n{}", server.stderr_tail()),
    }
}

/// Calls a tool that is to succeed, and returns the structured result, which matches its schema.
pub(crate) async fn call(server: &ServerProcess, tool: &str, arguments: Value) -> Value {
    whole_call(server, tool, arguments).await.structured
}

/// The same with the text.
pub(crate) async fn whole_call(server: &ServerProcess, tool: &str, arguments: Value) -> ToolReply {
    let shown: String = arguments.to_string().chars().take(300).collect();
    match server.call_tool(tool, arguments).await {
        Ok(reply) => {
            assert!(!reply.is_error, "{tool} {shown}: {}", reply.text);
            assert_valid(tool, &reply.structured);
            reply
        }
        Err(error) => panic!("{tool} {shown}: {error}\n{}", server.stderr_tail()),
    }
}

/// The tools as every client is shown them.
pub(crate) static TOOLS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("golden/tools_list.json")).expect("the golden file is JSON"));

static OUTPUT_SCHEMAS: LazyLock<BTreeMap<String, jsonschema::Validator>> = LazyLock::new(|| {
    let tools = TOOLS["tools"].as_array().expect("a list of tools");
    let validators = tools.iter().map(|tool| {
        let validator = jsonschema::draft202012::new(&tool["outputSchema"]);
        (tool["name"].as_str().expect("a tool has a name").to_owned(), validator.expect("a valid schema"))
    });
    validators.collect()
});

/// Asserts that a structured result matches the declared schema, and nothing but it.
#[track_caller]
pub(crate) fn assert_valid(tool: &str, structured: &Value) {
    let validator = OUTPUT_SCHEMAS.get(tool).unwrap_or_else(|| panic!("no such tool: {tool}"));
    let problems: Vec<String> =
        validator.iter_errors(structured).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "{tool}: {problems:?} in {structured}");
}

/// Deploys one agent and returns its item of the reply.
pub(crate) async fn deploy(server: &ServerProcess, document: Value) -> Value {
    let mut result = call(server, "agent_deploy", json!({"agents": [document]})).await;
    assert_eq!(result["durability"], "committed", "{result}");
    result["agents"][0].take()
}

/// One whole document, with its revision; `None` when there is no such agent.
pub(crate) async fn document(server: &ServerProcess, id: &str) -> Option<Value> {
    let arguments = json!({"ids": [id], "detail": "full"});
    let reply = server.call_tool("agent_list", arguments).await.unwrap_or_else(|error| panic!("{id}: {error}"));
    if reply.is_error {
        let refusal = refusal(&reply);
        assert!(refusal.text.contains("there is no agent"), "{refusal:?}");
        return None;
    }
    assert_valid("agent_list", &reply.structured);
    let document = &reply.structured["agents"][0];
    // A start of an id finds an agent too; here the whole id is meant.
    (document["id"] == id).then(|| document.clone())
}

/// All agents that a process knows, as rows by id; an error when a page can't be had.
pub(crate) async fn rows(server: &ServerProcess) -> Result<BTreeMap<String, Value>, RpcError> {
    let mut rows = BTreeMap::new();
    let mut cursor = Value::Null;
    loop {
        let reply = server.call_tool("agent_list", json!({"limit": 200, "cursor": cursor})).await?;
        assert!(!reply.is_error, "{}", reply.text);
        for mut row in reply.structured["agents"].as_array().expect("rows").iter().cloned() {
            let id = row["id"].take();
            rows.insert(id.as_str().expect("an id").to_owned(), row);
        }
        match &reply.structured["next_cursor"] {
            Value::Null => return Ok(rows),
            next => cursor = next.clone(),
        }
    }
}
