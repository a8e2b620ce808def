//! Both eras of the protocol, and the tools as a client is shown them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use a2a_testing::stdio::{ServerOptions, ServerProcess, Wire};
use serde_json::{Value, json};

use crate::world::{World, binary, call, open, refused, whole_call};

/// The whole list may cost a model this much in every session.
const LIST_BYTES_MAX: usize = 28_000;
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/tools_list.json");

fn memory() -> ServerOptions {
    ServerOptions::new(&["serve"], &[("A2A_STORAGE", "memory")])
}

#[tokio::test]
async fn the_list_of_tools_is_the_golden_one() {
    let server = open(memory()).await;
    let list = server.request("tools/list", json!({})).await.unwrap();
    assert_eq!(list["nextCursor"], Value::Null);
    let tools = json!({"tools": list["tools"]});
    if std::env::var_os("A2A_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(GOLDEN, format!("{tools:#}\n")).unwrap();
    }
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(GOLDEN).unwrap()).unwrap();
    // As text, because the order of tools and of fields is part of it: clients cache prompts that begin with them.
    assert_eq!(format!("{tools:#}"), format!("{golden:#}"), "A2A_BLESS=1 writes the golden file anew");

    let bytes = tools.to_string().len();
    println!("tools/list: {bytes} bytes");
    assert!(bytes < LIST_BYTES_MAX, "{bytes}");
    for _ in 0..3 {
        assert_eq!(server.request("tools/list", json!({})).await.unwrap(), list);
    }
    server.finish().await;
    let modern = ServerProcess::spawn_with(binary(), memory().wire(Wire::SocketPairs)).await;
    modern.discover("modern").await.unwrap();
    assert_eq!(modern.request("tools/list", json!({})).await.unwrap()["tools"], list["tools"]);
    modern.finish().await;
}

#[tokio::test]
async fn each_tool_says_what_it_is_and_what_it_does() {
    let server = open(memory()).await;
    let list = server.request("tools/list", json!({})).await.unwrap();
    let tools = list["tools"].as_array().unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "agent_deploy",
            "agent_invoke",
            "agent_list",
            "agent_remove",
            "agent_search",
            "agent_update",
            "memory_forget",
            "memory_search",
            "memory_store",
            "memory_update",
            "registry_stats",
            "work_finish",
            "work_next",
            "work_update",
            "workflow_control",
            "workflow_run",
            "workflow_save",
            "workflow_signal",
            "workflow_status",
        ]
    );
    for tool in tools {
        let name = tool["name"].as_str().unwrap();
        assert!(tool["title"].as_str().is_some_and(|title| !title.is_empty()), "{name}");
        assert!(tool["description"].as_str().is_some_and(|text| text.len() > 40), "{name}");
        for hint in ["readOnlyHint", "openWorldHint"] {
            assert!(tool["annotations"][hint].is_boolean(), "{name} {hint}");
        }
        let reads =
            ["agent_list", "agent_search", "memory_search", "registry_stats", "workflow_status"].contains(&name);
        assert_eq!(tool["annotations"]["readOnlyHint"], reads, "{name}");
        if !reads {
            let destroys = ["agent_remove", "memory_forget", "workflow_control", "workflow_save"].contains(&name);
            assert_eq!(tool["annotations"]["destructiveHint"], destroys, "{name}");
            // To be told again raises how often a memory was told, and feedback counts each time.
            let counts = ["memory_store", "memory_update"].contains(&name);
            let repeats = ["agent_invoke", "work_next", "workflow_control", "workflow_run"].contains(&name);
            assert_eq!(tool["annotations"]["idempotentHint"], !(counts || repeats), "{name}");
        }
        for schema in ["inputSchema", "outputSchema"] {
            assert_eq!(tool[schema]["type"], "object", "{name} {schema}");
            jsonschema::draft202012::meta::validate(&tool[schema]).unwrap();
            jsonschema::draft202012::new(&tool[schema]).unwrap();
        }
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{name}");
    }
    server.finish().await;
}

#[tokio::test]
async fn a_client_of_either_era_is_served() {
    for wire in [Wire::Pipes, Wire::SocketPairs] {
        let legacy = ServerProcess::spawn_with(binary(), memory().wire(wire)).await;
        let hello = legacy.initialize("legacy").await.unwrap();
        assert_eq!(hello["protocolVersion"], "2025-11-25");
        assert_eq!(hello["serverInfo"]["name"], "a2a-mcp");
        assert_eq!(hello["serverInfo"]["version"], env!("CARGO_PKG_VERSION"));
        assert!(hello["capabilities"]["tools"].is_object(), "{hello}");
        assert!(hello["instructions"].as_str().is_some_and(|text| text.len() < 1_000), "{hello}");
        assert!(legacy.request("ping", json!({})).await.is_ok());

        let modern = ServerProcess::spawn_with(binary(), memory().wire(wire)).await;
        let found = modern.discover("modern").await.unwrap();
        let versions = found["supportedVersions"].as_array().unwrap();
        assert!(versions.contains(&json!("2026-07-28")), "{found}");

        for server in [&legacy, &modern] {
            let reply = whole_call(server, "registry_stats", json!({})).await;
            assert_eq!(reply.structured["agents"]["total"], 0);
            assert!(reply.text.starts_with("0 agents"), "{}", reply.text);
        }
        // A modern client gets no notification that it did not ask for.
        call(&modern, "agent_deploy", json!({"agents": [{"id": "a", "description": "d"}]})).await;
        assert!(modern.unasked().is_empty(), "{:?}", modern.unasked());
        legacy.finish().await;
        modern.finish().await;
    }
}

#[tokio::test]
async fn an_older_client_gets_the_version_it_speaks() {
    let server = ServerProcess::spawn_with(binary(), memory()).await;
    let params =
        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}});
    let hello = server.request("initialize", params).await.unwrap();
    assert_eq!(hello["protocolVersion"], "2025-06-18");
    server.notify("notifications/initialized", Value::Null).await.unwrap();
    call(&server, "agent_list", json!({})).await;
    server.finish().await;
}

#[tokio::test]
async fn unknown_tools_and_methods_are_refused_and_the_session_goes_on() {
    let server = open(memory()).await;
    let error = server.call_tool("agent_fly", json!({})).await.unwrap_err();
    assert_eq!(error.code(), Some(-32602), "{error}");
    let error = server.request("agents/fly", json!({})).await.unwrap_err();
    assert_eq!(error.code(), Some(-32601), "{error}");
    call(&server, "agent_list", json!({})).await;
    server.finish().await;
}

/// What each tool takes to succeed, or at least to complain of nothing but what is added.
fn minimal(tool: &str) -> Value {
    match tool {
        "agent_deploy" => json!({"agents": [{"id": "a", "description": "d"}]}),
        "agent_remove" => json!({"ids": ["a"]}),
        "agent_search" => json!({"query": "d"}),
        "agent_update" => json!({"id": "a", "expected_revision": 1, "set": {}}),
        "agent_invoke" => json!({"agent": "a"}),
        "memory_forget" => json!({"ids": ["mem-a"]}),
        "memory_store" => json!({"memories": [{"content": "c"}]}),
        "memory_update" => json!({"id": "mem-a"}),
        "work_finish" => json!({"claim": "run-a:step:1", "status": "done", "output": null}),
        "work_update" => json!({"claim": "run-a:step:1"}),
        "workflow_control" => json!({"run": "run-a", "action": "pause"}),
        "workflow_run" => json!({"workflow": "w"}),
        "workflow_save" => json!({"id": "w", "steps": [{"name": "s", "agent": "builtin:echo"}]}),
        "workflow_signal" => json!({"run": "run-a", "answer": 1}),
        _ => json!({}),
    }
}

/// The fields that the reader of an object names when it meets one that it does not know.
fn known_fields(text: &str, path: &str) -> BTreeSet<String> {
    let prefix = format!("{path}: is not a field here; known fields: ");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    let line = line.unwrap_or_else(|| panic!("{prefix:?} not in {text:?}"));
    line.split(", ").map(str::to_owned).collect()
}

fn properties(schema: &Value) -> BTreeSet<String> {
    schema["properties"].as_object().unwrap_or_else(|| panic!("{schema}")).keys().cloned().collect()
}

#[tokio::test]
async fn the_schema_of_arguments_names_what_the_reader_takes() {
    let server = open(memory()).await;
    call(&server, "agent_deploy", minimal("agent_deploy")).await;
    let list = server.request("tools/list", json!({})).await.unwrap();
    for tool in list["tools"].as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        let declared = properties(&tool["inputSchema"]);
        // Also when what is required is missing: all problems of a call are reported at once.
        for mut arguments in [minimal(name), json!({})] {
            arguments["qqqqqqqq"] = json!(1);
            let refusal = refused(&server, name, arguments).await;
            assert_eq!(refusal.code, "invalid");
            assert!(!refusal.retryable);
            assert_eq!(known_fields(&refusal.text, "qqqqqqqq"), declared, "{name}");
        }
        for property in &declared {
            let mut arguments = minimal(name);
            arguments[format!("{property}x")] = json!(1);
            let text = refused(&server, name, arguments).await.text;
            assert!(text.contains(&format!("did you mean {property:?}?")), "{name}: {text}");
        }
        for required in tool["inputSchema"]["required"].as_array().into_iter().flatten() {
            let required = required.as_str().unwrap();
            let mut arguments = minimal(name);
            arguments.as_object_mut().unwrap().remove(required).expect("what is required is in the minimum");
            let text = refused(&server, name, arguments).await.text;
            assert!(text.contains(&format!("{required}: is required")), "{name}: {text}");
        }
    }
    server.finish().await;
}

#[tokio::test]
async fn the_schema_of_a_document_names_what_the_reader_takes() {
    let server = open(memory()).await;
    let list = server.request("tools/list", json!({})).await.unwrap();
    let deploy = list["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "agent_deploy").unwrap();
    let schema = &deploy["inputSchema"]["properties"]["agents"]["items"];
    let document = json!({
        "id": "a", "description": "d", "qqqqqqqq": 1,
        "capabilities": [{"name": "c", "qqqqqqqq": 1}],
        "executor": {"kind": "pull", "qqqqqqqq": 1},
        "deprecated": {"qqqqqqqq": 1},
    });
    let text = refused(&server, "agent_deploy", json!({"agents": [document]})).await.text;
    for (path, schema) in [
        ("", schema),
        (".capabilities[0]", &schema["properties"]["capabilities"]["items"]),
        (".executor", &schema["properties"]["executor"]),
        (".deprecated", &schema["properties"]["deprecated"]),
    ] {
        assert_eq!(known_fields(&text, &format!("agents[0]{path}.qqqqqqqq")), properties(schema), "{path}");
        assert_eq!(schema["additionalProperties"], false, "{path}");
    }
    // A patch takes the same fields.
    call(&server, "agent_deploy", minimal("agent_deploy")).await;
    let arguments = json!({"id": "a", "expected_revision": 1, "set": {"qqqqqqqq": 1}});
    let text = refused(&server, "agent_update", arguments).await.text;
    assert_eq!(known_fields(&text, "set.qqqqqqqq"), properties(schema));
    server.finish().await;
}

/// Every kind of success, so that each branch of the output schemas is seen. `call` checks each result.
#[tokio::test]
async fn every_kind_of_success_matches_its_output_schema() {
    let world = World::sqlite();
    for server in [world.server().await, open(memory()).await] {
        let full = json!({
            "id": "full", "name": "A name", "version": "2.1.0", "description": "Finds slow queries.",
            "instructions": "Read the plan.", "category": "data", "tags": ["sql", "slow"], "enabled": false,
            "capabilities": [{
                "name": "explain", "description": "explains", "input_schema": {"type": "object"},
                "output_schema": {"type": "string"}, "example_queries": ["why is it slow"],
            }],
            "executor": {"kind": "http", "settings": {"url": "https://example.org/x"}},
            "config": {"a": [1, 2.5, null, "x", {"b": true}]},
            "deprecated": {"successor": "small", "reason": "newer"},
        });
        let small = json!({"id": "small", "description": "Small."});
        let bad = json!({"id": "not good", "description": "x"});
        let mixed = call(&server, "agent_deploy", json!({"agents": [full, small, bad]})).await;
        assert_eq!((&mixed["created"], &mixed["failed"]), (&json!(2), &json!(1)));
        let many: Vec<Value> = (0..60).map(|n| json!({"id": format!("m{n}"), "description": "many"})).collect();
        assert_eq!(call(&server, "agent_deploy", json!({"agents": many})).await["more"], 10);
        for arguments in [
            json!({}),
            json!({"limit": 0}),
            json!({"limit": 5, "facets": true}),
            json!({"detail": "full", "limit": 200}),
            json!({"ids": ["full", "smal", "nothing-like-it"], "detail": "full"}),
            json!({"enabled": false, "deprecated": true, "executor": "http", "text": "slow", "category": "DATA",
                   "tags": ["sql"], "tags_all": ["sql", "slow"], "tags_none": ["x"], "capability": "explain"}),
        ] {
            call(&server, "agent_list", arguments).await;
        }
        for arguments in [
            json!({"query": "slow queries", "include_disabled": true}),
            json!({"query": "zzzzzz"}),
            json!({"query": "many", "limit": 3}),
        ] {
            call(&server, "agent_search", arguments).await;
        }
        let set = json!({"id": "small", "expected_revision": 1, "set": {"enabled": false}});
        assert_eq!(call(&server, "agent_update", set).await["revision"], 2);
        let same = json!({"id": "small", "expected_revision": 2, "set": {"enabled": false}});
        assert_eq!(call(&server, "agent_update", same).await["status"], "unchanged");
        call(&server, "agent_remove", json!({"ids": ["small", "never-there"]})).await;
        call(&server, "agent_remove", json!({"ids": ["full"], "purge": true})).await;
        call(&server, "registry_stats", json!({})).await;
        call(&server, "registry_stats", json!({"namespace": "elsewhere"})).await;
        server.finish().await;
    }
}

#[tokio::test]
async fn a_toolset_can_be_chosen_and_a_wrong_one_is_named() {
    for (chosen, expected) in [
        ("agents", 6),
        ("registry", 1),
        ("agents,registry", 7),
        (" registry , ", 1),
        ("workflows,work", 8),
        ("memory", 4),
        ("", 19),
    ] {
        let options = ServerOptions::new(&["serve"], &[("A2A_STORAGE", "memory"), ("A2A_TOOLS", chosen)]);
        let server = open(options).await;
        let list = server.request("tools/list", json!({})).await.unwrap();
        assert_eq!(list["tools"].as_array().unwrap().len(), expected, "{chosen:?}");
        if chosen == "registry" {
            let error = server.call_tool("agent_list", json!({})).await.unwrap_err();
            assert_eq!(error.code(), Some(-32602), "{error}");
        }
        server.finish().await;
    }
    let options = ServerOptions::new(&["serve"], &[("A2A_STORAGE", "memory"), ("A2A_TOOLS", "agents,wings")]);
    let server = ServerProcess::spawn_with(binary(), options).await;
    let status = server.wait_exit(Duration::from_secs(10)).await.expect("it ends at once");
    assert_eq!(status.code(), Some(2));
    let stderr = server.stderr_tail();
    assert!(
        stderr.contains("A2A_TOOLS")
            && stderr.contains("wings")
            && stderr.contains("agents, workflows, work, memory, registry"),
        "{stderr}"
    );
}

#[tokio::test]
async fn the_first_answer_comes_at_once() {
    let _machine = crate::world::machine().await;
    let started = Instant::now();
    let server = open(World::sqlite().options()).await;
    let took = started.elapsed();
    println!("start to initialize: {took:?}");
    assert!(took < Duration::from_millis(1_000), "{took:?}");
    server.finish().await;
}
