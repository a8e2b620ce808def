//! Moving over from the older system: its database as Prisma makes it, and the files of its memories.

use a2a_testing::postgres::{TestDatabase, postgres_or_skip};
use serde_json::{Value, json};

use super::{counts, import};
use crate::cli::Home;

const DATABASE: &str = include_str!("prisma.sql");

async fn database(statements: &str) -> Option<TestDatabase> {
    let server = postgres_or_skip().await?;
    let database = TestDatabase::create(&server).await;
    database.execute(statements).await;
    Some(database)
}

/// What became of something, and why.
#[track_caller]
fn item<'v>(summary: &'v Value, source: &str) -> (&'v str, String) {
    let items = summary["items"].as_array().unwrap();
    let found = items.iter().find(|item| item["source"] == source);
    let found = found.unwrap_or_else(|| panic!("{source} is not in {summary}"));
    (found["status"].as_str().unwrap(), format!("{} {}", found["message"], found["problems"]))
}

/// Everything that is not stamped, by kind and id.
fn content(home: &Home) -> Value {
    let mut all = super::everything(home);
    for kind in ["agents", "workflows"] {
        for document in all[kind].as_array_mut().unwrap() {
            let document = document.as_object_mut().unwrap();
            document
                .retain(|field, _| !["revision", "updated_at", "deployed_at", "created_at"].contains(&field.as_str()));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_of_the_older_system_moves_over() {
    let Some(source) = database(DATABASE).await else { return };
    let home = Home::new();
    let url = source.url();
    let dry = import(&home, &["prisma", &url, "--dry-run"], 1);
    assert_eq!(home.run(&["agents", "list", "--json"]).json()["total"], 0, "a dry run writes nothing");
    assert_eq!(home.run(&["memory", "list", "--json"]).json()["total"], 0);
    let first = import(&home, &["prisma", &url], 1);
    assert_eq!(counts(&dry), counts(&first), "a dry run tells what will be: {dry}\n{first}");
    // 5 agents, 1 workflow, 6 memories, 2 memories of tools and 2 personalities.
    assert_eq!(counts(&first), [16, 4, 15], "{first}");

    for (source, reason) in [
        ("Agent bad-capabilities", "capabilities must be a list"),
        ("Agent bad-schema", "capabilities[0].input_schema"),
        (
            "Agent data-processor-1",
            "its id becomes \\\"data-processor-1\\\" here, as that of \\\"data processor/1\\\" does",
        ),
        ("Agent huge", "is longer than any document may be"),
        ("AgentPersonality p3", "creativity must be a number from 0 to 1"),
        ("Workflow w2", "step \\\"alone\\\": neither it nor its workflow has an agent"),
        ("Workflow w3", "step \\\"late\\\": dependsOn names \\\"nowhere\\\", which is no step of its workflow"),
        ("Workflow w4", "depends on itself: a → b → a"),
        ("Workflow w5", "at least one step"),
        ("Memory m8-secret", "secret"),
        ("Memory m9-importance", "importance"),
        ("Memory m10-nan", "importance"),
        ("Memory m11-long", "content"),
        ("Memory m12-empty", "content"),
        ("Memory m13-time", "created_at is not a time"),
    ] {
        let (status, why) = item(&first, source);
        assert_eq!(status, "failed", "{source}: {why}");
        assert!(why.contains(reason), "{source}: {why}");
    }
    let (status, why) = item(&first, "Memory m7-expired");
    assert!(status == "skipped" && why.contains("has expired at 2025-11-01"), "{why}");
    let left: Vec<(&str, u64)> = first["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|left| (left["what"].as_str().unwrap(), left["rows"].as_u64().unwrap()))
        .collect();
    let expected = [
        ("AgentPersonality.verbosity", 3),
        ("Workflow.priority", 1),
        ("Workflow.status", 1),
        ("MCPServer", 1),
        ("AgentCommunication", 2),
    ];
    assert_eq!(left, expected, "what has no place here is told");

    let echo = home.run(&["agents", "show", "echo", "--json"]).code(0).json();
    assert_eq!(echo["description"], "Echo Agent: Echoes your input back.");
    assert_eq!((&echo["category"], &echo["tags"]), (&json!("utility"), &json!(["echo", "test"])));
    assert_eq!(echo["capabilities"][0]["output_schema"], json!({"type": "object", "required": ["requestId"]}));
    let kept = json!({"deployed_at": "2025-10-01T08:00:00.123Z", "created_at": "2025-09-30T00:00:00Z",
        "capabilities": {"chat": {"streaming": true}}});
    assert_eq!(echo["config"], json!({"prisma": kept}));
    let code = home.run(&["agents", "show", "code-gen-000", "--json"]).code(0).json();
    assert_eq!(
        (&code["version"], &code["enabled"], &code["config"]["model"]),
        (&json!("2.0.0"), &json!(false), &json!("fast"))
    );
    let data = home.run(&["agents", "show", "data-processor-1", "--json"]).code(0).json();
    assert_eq!(
        (&data["description"], &data["config"]["prisma"]["id"]),
        (&json!("Transforms data."), &json!("data processor/1"))
    );
    assert_eq!(home.run(&["agents", "list", "--json"]).code(0).json()["total"], 5);

    let all = content(&home);
    assert_eq!(all["workflows"].as_array().unwrap().len(), 1);
    let workflow = &all["workflows"][0];
    assert_eq!((&workflow["id"], &workflow["context"]), (&json!("w1"), &json!({"language": "en"})));
    let steps = workflow["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fetch", "Fetch_Data", "Write_Report"]);
    assert_eq!((&steps[0]["agent"], &steps[1]["agent"]), (&json!("data-processor-1"), &json!("echo")));
    assert_eq!((&steps[1]["capability"], &steps[1]["retry"]["max_attempts"]), (&json!("chat"), &json!(100)));
    assert_eq!(steps[1]["skip_if"], "context.language == \"de\"");
    assert_eq!(steps[2]["run_if"], "steps.fetch.output.ok == true and not (context.language != 'en')");
    assert_eq!(steps[2]["depends_on"], json!([{"step": "Fetch_Data"}, {"step": "fetch"}]));
    assert_eq!(steps[2]["retry"]["max_attempts"], 1);

    let memories = all["memories"].as_array().unwrap();
    let memory = |content: &str| memories.iter().find(|memory| memory["content"] == content).unwrap();
    let said = memory("Ann prefers short answers");
    assert_eq!(
        (&said["type"], &said["session"], &said["user"], &said["created_at"]),
        (&json!("conversation"), &json!("s1"), &json!("ann"), &json!("2025-10-03T10:00:00.500Z"))
    );
    assert_eq!(said["data"], json!({"context": {"task": "chat"}}));
    let kinds: Vec<&str> = memories.iter().map(|memory| memory["type"].as_str().unwrap()).collect();
    for kind in ["conversation", "procedural", "episodic", "semantic", "tool_usage", "preference"] {
        assert!(kinds.contains(&kind), "{kind}");
    }
    let failed = memory("The import of March failed");
    assert_eq!(
        (&failed["agent"], &failed["expires_at"]),
        (&json!("data-processor-1"), &json!("2099-01-01T00:00:00.000Z"))
    );
    let used = memory("Tool http_request was called 3 times: 2 worked, 1 failed; 200 ms on average, 300 ms at most");
    assert_eq!((&used["agent"], &used["created_at"]), (&json!("echo"), &json!("2025-10-06T00:00:00.000Z")));
    assert!(!all.to_string().contains("AKIA"), "the secret is nowhere");

    let again = import(&home, &["prisma", &url], 1);
    assert_eq!(counts(&again), [0, 20, 15], "it can be repeated: {again}");
    assert_eq!(content(&home), all);
    // What goes on there comes later; what the agents learn here stays.
    home.run(&["memory", "feedback", "--agent", "echo", "--score", "1"]).code(0);
    source
        .execute(
            r#"UPDATE "AgentPersonality" SET "creativity" = 0.9 WHERE "id" = 'p1';
        UPDATE "Agent" SET "name" = 'Scribe' WHERE "id" = 'writer';
        INSERT INTO "ToolUsage" VALUES ('u5', 'echo', 'http_request', 200, true, '2025-10-07')"#,
        )
        .await;
    let later = import(&home, &["prisma", &url], 1);
    assert_eq!(counts(&later), [2, 18, 15], "{later}");
    assert!(item(&later, "AgentPersonality p1").1.contains("experiences of its own"), "{later}");

    let moved = import(&home, &["prisma", &url, "--namespace", "old"], 1);
    assert_eq!(counts(&moved), [16, 4, 15], "{moved}");
    assert_eq!(home.run(&["agents", "list", "--namespace", "old", "--json"]).json()["total"], 5);
    let text = home.run(&["import", "prisma", &url]).code(1);
    assert!(text.err.contains("left out: AgentCommunication, 2 rows: messages between agents"), "{}", text.err);
    assert!(text.err.contains("error: Workflow w3: step \"late\""), "{}", text.err);
    assert!(text.out.starts_with("0 migrated, 20 skipped, 15 failed; nothing was written"), "{}", text.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_personality_arrives_and_an_older_schema_is_no_obstacle() {
    let older = r#"
        CREATE SCHEMA team;
        CREATE TABLE team."Agent" ("id" TEXT PRIMARY KEY, "name" TEXT, "capabilities" JSONB, "owner" TEXT);
        CREATE TABLE team."WorkflowStep" ("id" TEXT PRIMARY KEY, "workflowId" TEXT, "name" TEXT, "action" TEXT,
            "agentId" TEXT, "timeout" INTEGER, "note" TEXT);
        CREATE TABLE team."Workflow" ("id" TEXT PRIMARY KEY, "name" TEXT);
        CREATE TABLE team."Memory" ("id" TEXT PRIMARY KEY, "agentId" TEXT, "content" TEXT, "mood" TEXT);
        CREATE TABLE team."AgentPersonality" ("id" TEXT PRIMARY KEY, "agentId" TEXT, "creativity" REAL,
            "cautiousness" REAL, "technicalDepth" REAL, "userFocus" REAL, "totalInteractions" INTEGER);
        CREATE TABLE team."ToolUsage" ("id" TEXT PRIMARY KEY, "agentId" TEXT, "toolName" TEXT);
        INSERT INTO team."Agent" VALUES ('a', 'A', '[{"name": "go"}]', 'ann');
        INSERT INTO team."Workflow" VALUES ('w', 'W');
        INSERT INTO team."WorkflowStep" VALUES ('1', 'w', 's', 'go', 'a', 1500, 'mind'), ('2', 'gone', 's', 'go', 'a', 1, '');
        INSERT INTO team."Memory" VALUES ('m', 'a', 'All is well', 'good');
        INSERT INTO team."AgentPersonality" VALUES ('p', 'a', 0.75, 0.25, 0.625, 0.875, 40);
        INSERT INTO team."ToolUsage" VALUES ('u', 'a', 't')"#;
    let Some(source) = database(older).await else { return };
    let target = TestDatabase::create(source.server()).await;
    for home in [Home::new(), Home::with_database(target.url())] {
        move_from_older(&source, &home);
    }
}

fn move_from_older(source: &TestDatabase, home: &Home) {
    let refused = home.run(&["import", "prisma", &source.url()]).code(1).err;
    assert!(refused.contains("has none of the tables") && refused.contains("?schema=NAME"), "{refused}");
    let url = source.url();
    let separator = if url.contains('?') { '&' } else { '?' };
    let done = import(home, &["prisma", &format!("{url}{separator}schema=team")], 0);
    assert_eq!(counts(&done), [4, 2, 0], "{done}");
    let again = import(home, &["prisma", &format!("{url}{separator}schema=team")], 0);
    assert_eq!(counts(&again), [0, 6, 0], "{again}");
    let left = done["left_out"].to_string();
    for told in ["WorkflowStep.note", "their workflow is not there", "neither agent nor tool are known"] {
        assert!(left.contains(told), "{told} is not in {left}");
    }
    let all = content(home);
    assert_eq!(all["agents"][0]["config"]["prisma"]["owner"], "ann");
    assert_eq!(all["memories"][0]["data"], json!({"mood": "good"}));
    let step = &all["workflows"][0]["steps"][0];
    assert_eq!((&step["capability"], &step["timeout_s"]), (&json!("go"), &json!(2)));
    home.run(&["backup", "b.gz"]).code(0);
    let lines = std::process::Command::new("gzip").args(["-dc", "b.gz"]).current_dir(home.path()).output().unwrap();
    let lines = String::from_utf8(lines.stdout).unwrap();
    let row = lines.lines().find(|line| line.contains("0.625")).unwrap();
    // Confidence, caution, thoroughness, creativity and cooperation.
    assert!(row.contains("0.5,0.25,0.625,0.75,0.875,40,0,0"), "{row}");
}

/// As many rows as take several pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_move_over_in_pages() {
    let more = r#"
        INSERT INTO "Agent" ("id", "name", "version", "updatedAt", "capabilities")
            SELECT 'agent-' || n, 'Agent ' || n, '1.0.0', now(), '[]' FROM generate_series(1, 450) n;
        INSERT INTO "Memory" ("id", "agentId", "type", "content")
            SELECT 'more-' || n, 'agent-' || n, 'SEMANTIC', 'Fact number ' || n FROM generate_series(1, 450) n;
        INSERT INTO "Workflow" ("id", "name", "agentId", "updatedAt")
            SELECT 'flow-' || n, 'Flow', 'echo', now() FROM generate_series(1, 120) n;
        INSERT INTO "WorkflowStep" ("id", "workflowId", "name", "order")
            SELECT 'step-' || n, 'flow-' || n, 'only', 1 FROM generate_series(1, 120) n;
        INSERT INTO "ToolUsage" ("id", "agentId", "toolName", "executionTime", "success")
            SELECT 'use-' || n, 'agent-' || n % 20, 'tool-' || n % 15, 1, true FROM generate_series(1, 600) n"#;
    let Some(source) = database(&format!("{DATABASE}{more}")).await else { return };
    let home = Home::new();
    let done = home.run(&["import", "prisma", &source.url()]).code(1);
    // Of 20 agents and 15 tools there are 60 pairs.
    let expected = 16 + 450 + 450 + 120 + 60;
    assert!(done.out.starts_with(&format!("{expected} migrated, 4 skipped, 15 failed; committed")), "{}", done.out);
    assert_eq!(home.run(&["agents", "list", "--json"]).json()["total"], 455);
    assert_eq!(home.run(&["memory", "list", "--json"]).json()["total"], 8 + 450 + 60);
    let again = home.run(&["import", "prisma", &source.url(), "--json"]).code(1).json();
    assert_eq!(counts(&again), [0, expected + 4, 15]);
    let (items, more) =
        (again["items"].as_array().unwrap().len() as u64, again["items_left_out"].as_u64().unwrap_or(0));
    assert!(items <= 1_000, "{items} items and {more} more");
}

#[test]
fn a_source_that_can_not_be_read_is_told_without_its_password() {
    let home = Home::new();
    for (url, told) in [
        ("postgres://me:hunter2@127.0.0.1:9/a2a?connect_timeout=1", "can't reach Postgres at 127.0.0.1:9"),
        ("mysql://me:hunter2@127.0.0.1/a2a", "mysql:// is not supported"),
        ("sqlite://a.db", "it is no Postgres database"),
    ] {
        let ended = home.run(&["import", "prisma", url]).code(1);
        assert!(ended.err.contains(told) && !ended.err.contains("hunter2"), "{}", ended.err);
        assert!(!home.path().join("data").exists(), "no database was made");
    }
}

#[test]
fn files_of_memories_move_over() {
    let home = Home::new();
    let entry = |id: &str, kind: &str, content: Value, context: Value, metadata: Value| {
        let mut common = json!({"importance": 0.7, "frequency": 3, "lastAccessed": 1_759_300_000_000_i64,
            "decayRate": 0.01, "tags": ["success"]});
        common.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        json!({"id": id, "agentId": "helper", "type": kind, "content": content, "context": context, "metadata": common,
            "embeddings": [0.5]})
    };
    let at = 1_759_312_800_500_i64;
    let memories = json!({"memories": [
        entry("1", "procedural", json!({"strategy": "chat: a -> b", "tools": ["a", "b"]}),
            json!({"timestamp": at, "capability": "chat"}), json!({})),
        entry("2", "conversation", json!({"message": {"role": "user", "content": "Hello there"}, "topics": ["there"]}),
            json!({"timestamp": at, "sessionId": "s", "userId": "ann"}), json!({"relationships": ["1", "9"]})),
        entry("3", "semantic", json!("Plain words"), json!({"timestamp": at}), json!({"decayRate": 7})),
        entry("4", "episodic", json!({"odd": true}), json!({"timestamp": at}), json!({})),
        "no object",
        entry("5", "dream", json!("x"), json!({"timestamp": at}), json!({})),
    ], "personality": {"traits": {"creativity": 0.6, "cautiousness": 0.7, "verbosity": 0.5, "technical_depth": 0.8,
        "user_focus": 0.9}, "preferences": {"tools": []}, "adaptation_rate": 0.1}, "lastUpdated": at});
    home.write("memory/helper-memories.json", &memories.to_string());
    home.write("memory/package.json", "{}");
    home.write("memory/broken-memories.json", "{\"memories\": [");
    home.write("memory/other-memories.json", "{\"memories\": {}}");
    let done = import(&home, &["prisma", "memory"], 1);
    assert_eq!(counts(&done), [4, 1, 5], "{done}");
    for (source, status, reason) in [
        ("memory/helper-memories.json.memories[2]", "failed", "decay"),
        ("memory/helper-memories.json.memories[4]", "failed", "must be an object"),
        ("memory/helper-memories.json.memories[5]", "failed", "type"),
        ("memory/broken-memories.json", "failed", "is not valid JSON"),
        ("memory/other-memories.json", "failed", "memories must be a list"),
        ("memory/package.json", "skipped", "does not end in -memories.json"),
    ] {
        let (found, why) = item(&done, source);
        assert!(found == status && why.contains(reason), "{source}: {found} {why}");
    }
    assert_eq!(item(&done, "memory/helper-memories.json.personality").0, "created");
    assert!(done["left_out"].to_string().contains("learned behaviors"), "{done}");
    let all = content(&home);
    let memories = all["memories"].as_array().unwrap();
    let memory = |content: &str| memories.iter().find(|memory| memory["content"] == content).unwrap();
    let said = memory("Hello there");
    assert_eq!(
        (&said["session"], &said["user"], &said["agent"], &said["created_at"]),
        (&json!("s"), &json!("ann"), &json!("helper"), &json!("2025-10-01T10:00:00.500Z"))
    );
    assert_eq!(said["relations"].as_array().unwrap().len(), 1, "the other one is not there");
    assert_eq!(said["data"]["content"]["message"]["role"], "user");
    assert_eq!(memory("chat: a -> b")["data"]["context"], json!({"capability": "chat"}));
    memory("{\"odd\":true}");
    assert_eq!(counts(&import(&home, &["prisma", "memory"], 1)), [0, 5, 5], "it can be repeated");
}
