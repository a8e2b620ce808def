//! Every limit on agents through the tools: at one less, at the limit, and at one more, where the error says what to do.

use a2a_testing::stdio::{ServerOptions, ServerProcess};
use serde_json::{Map, Value, json};

use crate::world::{assert_valid, call, document, open, refusal, refused};

async fn memory() -> ServerProcess {
    open(ServerOptions::new(&["serve"], &[("A2A_STORAGE", "memory")])).await
}

/// A call that is to succeed at one less than the limit and at it, and to fail at one more.
struct Limit<'a> {
    tool: &'a str,
    limit: usize,
    /// Where the problem is.
    path: &'a str,
    /// What the error says to do.
    advice: &'a [&'a str],
}

impl Limit<'_> {
    async fn check(&self, server: &ServerProcess, arguments: impl Fn(usize) -> Value) {
        let Self { tool, limit, path, advice } = self;
        for size in [limit - 1, *limit] {
            let reply = server.call_tool(tool, arguments(size)).await.unwrap();
            assert!(!reply.is_error, "{path} at {size} of {limit}: {}", reply.text);
            assert_valid(tool, &reply.structured);
        }
        let reply = server.call_tool(tool, arguments(limit + 1)).await.unwrap();
        let refusal = refusal(&reply);
        assert_eq!(refusal.code, "invalid", "{path}: {refusal:?}");
        assert!(!refusal.retryable, "{path}: {refusal:?}");
        assert!(refusal.text.starts_with(&format!("{path}: ")), "{path}: {refusal:?}");
        assert!(refusal.text.len() < 500, "{path}: {refusal:?}");
        for part in *advice {
            assert!(refusal.text.contains(part), "{path}: {part:?} not in {refusal:?}");
        }
    }
}

/// Checks a limit on one field of a document.
async fn of_document(
    server: &ServerProcess,
    limit: usize,
    path: &str,
    advice: &[&str],
    field: impl Fn(usize) -> (&'static str, Value),
) {
    let path = format!("agents[0].{path}");
    let check = Limit { tool: "agent_deploy", limit, path: &path, advice };
    check
        .check(server, |size| {
            let mut document = json!({"id": "limited", "description": "d"});
            let (name, value) = field(size);
            document[name] = value;
            json!({"agents": [document]})
        })
        .await;
}

fn nested(depth: usize) -> Value {
    (1..depth).fold(json!({"leaf": 1}), |inner, _| json!({"d": inner}))
}

#[tokio::test]
async fn texts_have_their_limits() {
    let server = memory().await;
    let s = &server;
    // Two bytes and one character each, so that the two are told apart.
    let chars = |n: usize| json!("é".repeat(n));
    let bytes = |n: usize| json!(format!("{}{}", "é".repeat(n / 2), "e".repeat(n % 2)));
    let at_most_128 = ["129 characters", "at most 128"];
    of_document(s, 128, "id", &at_most_128, |n| ("id", json!("i".repeat(n)))).await;
    of_document(s, 128, "namespace", &at_most_128, |n| ("namespace", json!("n".repeat(n)))).await;
    of_document(s, 200, "name", &["201 characters", "shorten it to at most 200"], |n| ("name", chars(n))).await;
    of_document(s, 8192, "description", &["8193 bytes", "shorten it to at most 8192"], |n| ("description", bytes(n)))
        .await;
    of_document(s, 64, "category", &["65 characters", "shorten it to at most 64"], |n| ("category", chars(n))).await;
    of_document(s, 64, "tags[0]", &["65 characters", "shorten it to at most 64"], |n| ("tags", json!([chars(n)])))
        .await;
    of_document(s, 200, "capabilities[0].name", &["shorten it to at most 200"], |n| {
        ("capabilities", json!([{"name": chars(n)}]))
    })
    .await;
    of_document(s, 8192, "capabilities[0].description", &["shorten it to at most 8192"], |n| {
        ("capabilities", json!([{"name": "c", "description": bytes(n)}]))
    })
    .await;
    of_document(s, 500, "capabilities[0].example_queries[0]", &["shorten it to at most 500"], |n| {
        ("capabilities", json!([{"name": "c", "example_queries": [chars(n)]}]))
    })
    .await;
    of_document(s, 8192, "deprecated.reason", &["shorten it to at most 8192"], |n| {
        ("deprecated", json!({"reason": bytes(n)}))
    })
    .await;
    server.finish().await;
}

#[tokio::test]
async fn lists_have_their_limits() {
    let server = memory().await;
    let s = &server;
    let tags = |n: usize| (0..n).map(|i| json!(format!("t{i}"))).collect::<Value>();
    of_document(s, 64, "tags", &["65 items", "at most 64"], |n| ("tags", tags(n))).await;
    of_document(s, 64, "capabilities", &["65 items", "at most 64"], |n| {
        ("capabilities", (0..n).map(|i| json!({"name": format!("c{i}")})).collect())
    })
    .await;
    of_document(s, 16, "capabilities[0].example_queries", &["17 items", "at most 16"], |n| {
        ("capabilities", json!([{"name": "c", "example_queries": tags(n)}]))
    })
    .await;
    server.finish().await;
}

#[tokio::test]
async fn json_has_a_greatest_depth() {
    let server = memory().await;
    let s = &server;
    let advice = ["nested deeper than", "flatten it"];
    // A document stands five levels deep in its message: params, arguments, agents and itself around the value. A value
    // that the message still has room for is below the limit of its own, so that the message's limit is what holds.
    for (depth, fits) in [(58, true), (59, true), (60, false)] {
        let arguments = json!({"agents": [{"id": "deep", "description": "d", "config": nested(depth)}]});
        match s.call_tool("agent_deploy", arguments).await {
            Ok(reply) => {
                assert!(fits && !reply.is_error, "{depth}: {}", reply.text);
                assert_eq!(document(s, "deep").await.unwrap()["config"], nested(depth));
            }
            Err(error) => {
                assert!(!fits, "{depth}: {error}");
                let text = error.to_string();
                assert!(advice.iter().all(|part| text.contains(part)), "{text}");
                assert!(text.contains("params.arguments.agents[0].config.d"), "{text}");
            }
        }
    }
    server.finish().await;
}

/// The size that a stored document has, as compact JSON.
async fn stored_bytes(server: &ServerProcess, instructions: usize) -> Result<(), String> {
    let document = json!({"id": "large", "description": "d", "instructions": "i".repeat(instructions)});
    let reply = server.call_tool("agent_deploy", json!({"agents": [document]})).await.unwrap();
    if reply.is_error { Err(reply.text) } else { Ok(()) }
}

#[tokio::test]
async fn a_document_has_a_greatest_size() {
    let server = memory().await;
    let limit = 256 * 1024;
    // The error tells the size, so that the frame around the instructions need not be known here.
    let error = stored_bytes(&server, limit).await.unwrap_err();
    let bytes: usize = error
        .split("the whole document has ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{error}"));
    let frame = bytes - limit;
    for (size, fits) in [(limit - 1, true), (limit, true), (limit + 1, false)] {
        let stored = stored_bytes(&server, size - frame).await;
        assert_eq!(stored.is_ok(), fits, "{size}: {stored:?}");
        if let Err(error) = stored {
            assert!(error.starts_with(&format!("agents[0]: the whole document has {size} bytes")), "{error}");
            assert!(error.contains("shorten instructions, config or schemas to at most 262144"), "{error}");
        }
    }
    // What is too large for one result is cut, and says so.
    let large = document(&server, "large").await.unwrap();
    assert_eq!(large["left_out"], json!(["instructions (cut)"]));
    // A patch is held to the same limit.
    let set = json!({"instructions": "i".repeat(limit)});
    let revision = large["revision"].clone();
    let refusal =
        refused(&server, "agent_update", json!({"id": "large", "expected_revision": revision, "set": set})).await;
    assert!(refusal.text.starts_with("set: the whole document has"), "{refusal:?}");
    server.finish().await;
}

#[tokio::test]
async fn calls_have_their_limits() {
    let server = memory().await;
    let ids = |n: usize| (0..n).map(|i| json!(format!("b{i}"))).collect::<Value>();
    let batch = Limit { tool: "agent_deploy", limit: 1_000, path: "agents", advice: &["1001 items", "at most 1000"] };
    batch
        .check(&server, |n| {
            let agents = (0..n).map(|i| json!({"id": format!("b{i}"), "description": "d"})).collect::<Value>();
            json!({"agents": agents})
        })
        .await;
    let page =
        Limit { tool: "agent_list", limit: 200, path: "limit", advice: &["is 201", "use a number from 0 to 200"] };
    page.check(&server, |n| json!({"limit": n})).await;
    assert_eq!(call(&server, "agent_list", json!({"limit": 200})).await["agents"].as_array().unwrap().len(), 200);
    assert_eq!(call(&server, "agent_list", json!({"limit": 0})).await["total"], 1_000);
    let page = Limit { tool: "agent_search", ..page };
    page.check(&server, |n| json!({"query": "d", "limit": n})).await;
    let query = Limit {
        tool: "agent_search",
        limit: 1_000,
        path: "query",
        advice: &["1001 characters", "shorten it to at most 1000"],
    };
    query.check(&server, |n| json!({"query": "é".repeat(n)})).await;
    let text = Limit { tool: "agent_list", path: "text", ..query };
    text.check(&server, |n| json!({"text": "é".repeat(n)})).await;
    let listed = Limit { tool: "agent_list", limit: 200, path: "ids", advice: &["201 items", "at most 200"] };
    listed.check(&server, |n| json!({"ids": ids(n)})).await;
    let filter = Limit { tool: "agent_list", limit: 64, path: "tags_any", advice: &["65 items", "at most 64"] };
    for name in ["tags", "tags_all", "tags_none"] {
        Limit { path: name, ..filter }.check(&server, |n| json!({name: ids(n)})).await;
    }
    // The rest has to be there to be removed.
    let removed = Limit { tool: "agent_remove", limit: 1_000, path: "ids", advice: &["1001 items", "at most 1000"] };
    let refusal_of = |n: usize| server.call_tool("agent_remove", json!({"ids": ids(n)}));
    let over = refusal(&refusal_of(1_001).await.unwrap());
    assert!(over.text.starts_with("ids: ") && removed.advice.iter().all(|part| over.text.contains(part)), "{over:?}");
    assert_eq!(refusal_of(999).await.unwrap().structured["removed"], 999);
    assert_eq!(refusal_of(1_000).await.unwrap().structured["removed"], 1);
    for limit in [-1_i64, i64::MAX] {
        let refusal = refused(&server, "agent_list", json!({"limit": limit})).await;
        assert!(refusal.text.contains("use a number from 0 to 200"), "{refusal:?}");
    }
    server.finish().await;
}

#[tokio::test]
async fn wrong_values_are_all_named_at_once_with_what_to_use() {
    let server = memory().await;
    let document = json!({
        "id": "not good!", "description": "", "name": " ", "version": "one", "category": "", "tags": ["", 3],
        "enabled": "yes", "capabilities": [{"description": 1}, {"name": "c", "input_schema": {"type": "objekt"}}],
        "executor": {"kind": "rocket"}, "config": [], "deprecated": {"successor": "no good"}, "namespace": "a b",
        "descripton": "typo",
    });
    let refusal = refused(&server, "agent_deploy", json!({"agents": [document], "atomic": "maybe"})).await;
    // The arguments are wrong as a whole, so that no document was looked at yet.
    assert!(refusal.text.contains("atomic: must be true or false"), "{refusal:?}");
    let refusal = refused(&server, "agent_deploy", json!({"agents": [document]})).await;
    for part in [
        "agents[0].id: has the character ' '; use only A-Z a-z 0-9 . _ : -",
        "agents[0].description: is empty",
        "agents[0].name: is empty; leave it out to use the id",
        "agents[0].version: is not a semantic version",
        "agents[0].category: is empty",
        "agents[0].tags[0]: is empty",
        "agents[0].tags[1]: must be a text, not a number",
        "agents[0].enabled: must be true or false, not a text",
        "agents[0].capabilities[0].name: is required",
        "agents[0].capabilities[0].description: must be a text, not a number",
        "agents[0].capabilities[1].input_schema.type: is not valid JSON Schema 2020-12",
        "agents[0].executor.kind: is \"rocket\"; use one of: pull",
        "agents[0].config: must be an object, not a list",
        "agents[0].deprecated.successor: has the character ' '",
        "agents[0].namespace: has the character ' '",
        "agents[0].descripton: is not a field here; did you mean \"description\"?",
    ] {
        assert!(refusal.text.contains(part), "{part:?} not in {}", refusal.text);
    }
    let nothing: Map<String, Value> = Map::new();
    for (tool, arguments, part) in [
        ("agent_deploy", json!({"agents": []}), "agents: is empty; give at least one agent document"),
        ("agent_deploy", json!({"agents": [nothing]}), "agents[0].id: is required"),
        ("agent_deploy", json!({"agents": "x"}), "agents: must be a list, not a text"),
        ("agent_remove", json!({"ids": []}), "ids: is empty; name at least one agent"),
        ("agent_list", json!({"cursor": "nonsense"}), "cursor: "),
        ("agent_list", json!({"detail": "all"}), "detail: is \"all\"; use one of: row, full"),
        ("agent_list", json!({"executor": "rocket"}), "executor: is \"rocket\"; use one of: pull"),
        ("agent_update", json!({"id": "x"}), "set: is required, unless rollback_to is given"),
        ("agent_update", json!({"id": "x", "set": {}, "op_id": "1"}), "op_id: is not an op_id"),
    ] {
        let refusal = refused(&server, tool, arguments.clone()).await;
        assert_eq!(refusal.code, "invalid", "{tool} {arguments}: {refusal:?}");
        assert!(refusal.text.contains(part), "{tool} {arguments}: {refusal:?}");
    }
    assert_eq!(call(&server, "agent_list", json!({})).await["total"], 0);
    server.finish().await;
}
