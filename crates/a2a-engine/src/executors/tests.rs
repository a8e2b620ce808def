//! The frame, and what the tests of single executors share.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;

use super::*;

/// A run that keeps what an executor tells it.
pub(crate) struct Watched {
    pub(crate) cancelled: CancellationToken,
    pub(crate) checkpoints: Mutex<Vec<Value>>,
    /// `None` for each time that the other side was reached.
    pub(crate) contacts: Mutex<Vec<Option<String>>>,
}

impl Watched {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            cancelled: CancellationToken::new(),
            checkpoints: Mutex::default(),
            contacts: Mutex::default(),
        })
    }
}

impl StepContext for Watched {
    fn checkpoint(&self, value: Value) -> BoxFuture<'_, Result<(), ClaimLost>> {
        self.checkpoints.lock().push(value);
        std::future::ready(Ok(())).boxed()
    }

    fn progress(&self, _message: &str, _percent: Option<u8>) {}

    fn contact(&self, reached: Result<(), &str>) {
        self.contacts.lock().push(reached.err().map(str::to_owned));
    }

    fn cancelled(&self) -> CancellationToken {
        self.cancelled.clone()
    }
}

/// Work for an executor with these settings.
pub(crate) fn work(kind: &str, settings: Value, input: Value) -> StepWork {
    StepWork {
        run: RunId::from_stored("run-1"),
        step: StepName::from_stored("draw"),
        attempt: 2,
        namespace: Namespace::default(),
        agent: AgentId::from_stored("artist"),
        capability: Some("paint".into()),
        executor: executor(kind, &settings),
        input,
        answer: None,
        checkpoint: None,
        timeout: None,
    }
}

pub(crate) fn executor(kind: &str, settings: &Value) -> Executor {
    Executor { kind: ExecutorKind::from_name(kind).unwrap(), settings: a2a_core::json_text::JsonText::new(settings) }
}

pub(crate) async fn execute(operator: Arc<OperatorFile>, work: StepWork, context: Arc<Watched>) -> Done {
    Executors::new(operator).execute(work, context).await
}

/// Breaks in the middle of its work.
struct Fragile;

impl Execute for Fragile {
    fn can_run(&self, _settings: &Value) -> Result<(), Missing> {
        Ok(())
    }

    fn execute(&self, work: StepWork, _context: Arc<dyn StepContext>) -> BoxFuture<'_, Done> {
        if work.input == json!("at once") {
            panic!("no future");
        }
        async move {
            tokio::task::yield_now().await;
            panic!("broken by {}", work.input)
        }
        .boxed()
    }

    fn check<'s>(&'s self, _settings: &'s Value) -> BoxFuture<'s, Result<Contact, Missing>> {
        std::future::ready(Ok(Contact::Reached { remark: None })).boxed()
    }
}

#[tokio::test]
async fn a_panic_of_an_executor_is_a_failed_attempt() {
    let executors =
        Executors { kinds: vec![(ExecutorKind::Http, Box::new(Fragile))], ..Executors::new(Arc::default()) };
    for (input, said) in [("at once", "no future"), ("later", "broken by \"later\"")] {
        let done = executors.execute(work("http", json!({}), json!(input)), Watched::new()).await;
        let Done::Failed { error, retryable: false } = done else { panic!("{done:?}") };
        assert!(error.starts_with("internal error") && error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn pulled_steps_are_not_for_executors() {
    let executors = Executors::new(Arc::default());
    let work = work("pull", json!({}), json!(1));
    assert!(executors.can_run(&work.executor).unwrap_err().to_string().contains("work_next"));
    assert!(matches!(executors.execute(work, Watched::new()).await, Done::Failed { retryable: false, .. }));
}

mod stored {
    //! Whatever is stored, it can only refer to what the operator's file has.

    use a2a_core::agent::AgentSpec;
    use proptest::prelude::*;

    use super::*;
    use crate::egress::tests::operator;

    const FILE: &str = "
egress: {allow: ['https://hooks.example.com', 'https://*.example.org']}
mcp: {servers: {files: {argv: [/bin/files], tools: [read]}}}
commands: {render: {argv: [/bin/render]}}
";

    /// Names that try to be more than a name.
    fn name() -> impl Strategy<Value = Value> {
        prop_oneof![
            proptest::sample::select(vec![
                "render",
                "files",
                "read",
                "Render",
                "render ",
                "render\n",
                " render",
                "commands.render",
                "/bin/sh",
                "../render",
                "sh -c id",
                "*",
                "",
                "write",
                "https://hooks.example.com/x",
                "https://a.example.org",
                "https://example.org",
                "https://evil.example",
                "http://hooks.example.com",
                "https://hooks.example.com:444",
                "https://hooks.example.com@evil.example",
                "https://evil.example/https://hooks.example.com",
                "file:///bin/sh",
                "http://127.0.0.1",
                "http://169.254.169.254",
            ])
            .prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(Value::Null),
            Just(json!(["/bin/sh", "-c", "id"])),
            Just(json!({"argv": ["/bin/sh"], "tools": ["*"], "private": true})),
        ]
    }

    /// Often nothing but what the kind asks for, so that many are valid.
    fn settings() -> impl Strategy<Value = Value> {
        let asked_for = proptest::sample::select(vec!["name", "url", "operation"]);
        let asked_for = (asked_for, name()).prop_map(|(field, value)| json!({field: value}));
        let tool = (name(), name()).prop_map(|(server, tool)| json!({"server": server, "tool": tool}));
        let field = proptest::sample::select(vec![
            "name",
            "server",
            "tool",
            "url",
            "argv",
            "command",
            "commands",
            "env",
            "cwd",
            "egress",
            "allow",
            "private",
            "headers",
            "mcp",
            "servers",
            "tools",
            "operation",
            "shell",
            "path",
            "config",
            "A2A_CONFIG",
        ]);
        let any = proptest::collection::btree_map(field, name(), 0..6).prop_map(|fields| json!(fields));
        prop_oneof![3 => asked_for, 1 => tool, 2 => any]
    }

    fn document() -> impl Strategy<Value = Value> {
        let kind = proptest::sample::select(vec!["pull", "builtin", "a2a", "mcp", "http", "command", "shell"]);
        (kind, settings(), settings()).prop_map(|(kind, settings, config)| {
            json!({"id": "x", "name": "x", "description": "x", "version": "1.0.0", "config": config,
                "executor": {"kind": kind, "settings": settings}})
        })
    }

    fn text<'v>(settings: &'v Value, name: &str) -> &'v str {
        settings.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether the file above has what these settings refer to.
    fn is_in_the_file(kind: ExecutorKind, settings: &Value) -> bool {
        let url = text(settings, "url").to_ascii_lowercase();
        let host = url.strip_prefix("https://").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        let host = host.map(|host| host.strip_suffix(":443").unwrap_or(host));
        match kind {
            ExecutorKind::Pull => false,
            ExecutorKind::Builtin => matches!(text(settings, "operation"), "echo" | "transform"),
            ExecutorKind::A2a | ExecutorKind::Http => {
                host.is_some_and(|host| host == "hooks.example.com" || host.ends_with(".example.org"))
            }
            ExecutorKind::Mcp => text(settings, "server") == "files" && text(settings, "tool") == "read",
            ExecutorKind::Command => text(settings, "name") == "render",
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn documents_name_only_what_the_operators_file_has(document in document()) {
            let Ok(spec) = AgentSpec::from_document(&document, "", &Namespace::default()) else { return Ok(()) };
            let settings = settings_of(&spec.executor);
            if Executors::new(operator(FILE)).can_run(&spec.executor).is_ok() {
                prop_assert!(is_in_the_file(spec.executor.kind, &settings), "{settings}");
            }
            let without_a_file = Executors::new(Arc::default()).can_run(&spec.executor).is_ok();
            prop_assert!(!without_a_file || spec.executor.kind == ExecutorKind::Builtin, "{settings}");
        }

        /// A row that something else has written has passed no validation.
        #[test]
        fn rows_name_only_what_the_operators_file_has(kind in 0..6_usize, settings in settings()) {
            let (kind, _) = ExecutorKind::ALL[kind];
            let executor = executor(kind, &settings);
            let kind = executor.kind;
            if Executors::new(operator(FILE)).can_run(&executor).is_ok() {
                prop_assert!(is_in_the_file(kind, &settings), "{settings}");
            }
            let without_a_file = Executors::new(Arc::default()).can_run(&executor).is_ok();
            prop_assert!(!without_a_file || kind == ExecutorKind::Builtin, "{settings}");
        }
    }

    #[tokio::test]
    async fn what_the_file_lacks_is_not_run_either() {
        for settings in [json!({"name": "sh"}), json!({"name": "/bin/sh"}), json!({"argv": ["/bin/sh"]}), json!({})] {
            let done = execute(operator(FILE), work("command", settings, json!(1)), Watched::new()).await;
            assert!(matches!(done, Done::Failed { retryable: false, .. }), "{done:?}");
        }
    }
}
