use a2a_core::ids::Namespace;
use proptest::prelude::*;

use super::*;

fn spec(card: &Value, from: Option<&str>) -> AgentSpec {
    let document = read(card, from).unwrap();
    AgentSpec::from_document(&document, "x", &Namespace::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn card_1() -> Value {
    json!({
        "name": "Route Planner", "description": "Plans routes", "version": "1.2",
        "supportedInterfaces": [
            {"url": "https://maps.example/grpc", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
            {"url": "https://maps.example/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
        ],
        "provider": {"organization": "Maps", "url": "https://maps.example"},
        "capabilities": {"streaming": true}, "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"],
        "skills": [{"id": "route", "name": "Route", "description": "A to B", "tags": ["maps"],
            "examples": ["How do I get to Lisbon?"], "outputModes": ["image/png"]}],
    })
}

#[test]
fn a_card_of_version_1_becomes_an_agent_and_comes_back() {
    let agent = spec(&card_1(), None);
    assert_eq!((agent.id.as_str(), &*agent.name, &*agent.version), ("Route-Planner", "Route Planner", "1.2.0"));
    assert_eq!(agent.executor.settings.value().unwrap(), json!({"url": "https://maps.example/"}));
    let capability = &agent.capabilities[0];
    assert_eq!((&*capability.name, &*capability.example_queries[0]), ("route", "How do I get to Lisbon?"));
    assert_eq!(write(&agent).unwrap(), card_1());
    let from = "https://maps.example/agents/route";
    assert_eq!(spec(&card_1(), Some(from)).executor.settings.value().unwrap(), json!({"url": from}));
}

#[test]
fn a_card_of_version_0_3_becomes_an_agent_and_comes_back() {
    let card = json!({"protocolVersion": "0.3.0", "name": "old", "description": "x", "url": "http://h:8080/rpc",
        "version": "3.0.1", "skills": [{"id": "s", "name": "S", "description": "y", "tags": []}]});
    let agent = spec(&card, None);
    assert_eq!(agent.executor.settings.value().unwrap(), json!({"url": "http://h:8080/"}));
    assert_eq!(write(&agent).unwrap(), card);
}

#[test]
fn what_was_changed_here_is_in_the_card() {
    let patch = json!({"description": "Plans", "version": "2.0.0", "capabilities": [
        {"name": "route", "description": "A to B"}, {"name": "new", "description": "More"}]});
    let card = write(&spec(&card_1(), None).patched(&patch, "x").unwrap()).unwrap();
    assert_eq!((&card["description"], &card["version"]), (&json!("Plans"), &json!("2.0.0")));
    assert_eq!(card["skills"][0]["outputModes"], json!(["image/png"]), "what an agent can't say stays");
    assert_eq!((&card["skills"][0]["examples"], &card["skills"][1]["id"]), (&json!([]), &json!("new")));
}

#[test]
fn an_agent_of_another_origin_has_a_card_if_it_speaks_the_protocol() {
    let document = json!({"id": "r", "description": "x", "capabilities": [{"name": "c"}],
        "executor": {"kind": "a2a", "settings": {"url": "https://h.example/"}}});
    let agent = AgentSpec::from_document(&document, "x", &Namespace::default()).unwrap();
    let card = write(&agent).unwrap();
    assert_eq!(card["supportedInterfaces"][0]["protocolVersion"], "1.0");
    let back = spec(&card, None);
    assert_eq!((&back.id, &back.capabilities, &back.executor), (&agent.id, &agent.capabilities, &agent.executor));
    let pull = json!({"id": "p", "description": "x"});
    let pull = AgentSpec::from_document(&pull, "x", &Namespace::default()).unwrap();
    assert!(write(&pull).unwrap_err().contains("its executor is pull"));
}

#[test]
fn what_is_wrong_is_said() {
    for (card, expected) in [
        (json!([]), "no JSON object"),
        (json!({"description": "x", "url": "https://h"}), "no name"),
        (json!({"name": "x", "url": "https://h"}), "no description"),
        (json!({"name": 1}), "name is no text"),
        (json!({"name": "x", "description": "x"}), "neither supportedInterfaces (1.0) nor url (0.3)"),
        (json!({"name": "x", "description": "x", "url": "ftp://h"}), "no http or https URL"),
        (json!({"name": "x", "description": "x", "url": "https://h", "skills": {}}), "skills is no list"),
        (json!({"name": "x", "description": "x", "url": "https://h", "skills": [{}]}), "skills[0] has no id"),
        (json!({"name": "!", "description": "x", "url": "https://h"}), "nothing that an id may hold"),
    ] {
        let error = read(&card, None).unwrap_err();
        assert!(error.contains(expected), "{card}: {error}");
    }
}

proptest! {
    #[test]
    fn any_card_comes_back_as_it_is(
        name in "[A-Za-z][A-Za-z ]{0,20}[a-z]",
        description in "[^\\x00]{0,40}[a-z]",
        version in prop_oneof!["[0-9]\\.[0-9]\\.[0-9]", "[1-9]", "[1-9]\\.[0-9]"],
        skills in proptest::collection::btree_map(
            "[a-z-]{1,12}",
            ("[^\\x00]{0,20}", proptest::option::of(proptest::collection::vec("[a-z?]{1,9}", 0..3)), proptest::option::of("[a-z/]{1,9}")),
            0..4,
        ),
        more in proptest::option::of("[^\\x00]{0,20}"),
        is_new: bool,
    ) {
        let skills: Vec<Value> = skills.into_iter().map(|(id, (text, examples, mode))| {
            let mut skill = json!({"id": id, "name": text, "description": text, "tags": ["t"]});
            if let Some(examples) = examples { skill["examples"] = json!(examples); }
            if let Some(mode) = mode { skill["inputModes"] = json!([mode]); }
            skill
        }).collect();
        let mut card = json!({"name": name, "description": description, "version": version, "skills": skills});
        if is_new {
            card["supportedInterfaces"] =
                json!([{"url": "https://h.example/x", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}]);
        } else {
            card["url"] = json!("https://h.example/x");
            card["protocolVersion"] = json!("0.3.0");
        }
        if let Some(more) = more { card["x-more"] = json!(more); }
        prop_assert_eq!(write(&spec(&card, None)).unwrap(), card);
    }
}
