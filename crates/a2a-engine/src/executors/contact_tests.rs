//! What attempts and checks say of whether the other side was reached.

use serde_json::json;

use super::tests::{Watched, executor, work};
use super::*;
use crate::egress::tests::{Server, operator, response};

fn allowing(origin: &str) -> Arc<OperatorFile> {
    operator(&format!("egress: {{allow: [{{origin: '{origin}', private: true}}]}}"))
}

/// An address that nobody listens at.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// What one attempt tells.
async fn told(file: &Arc<OperatorFile>, kind: &str, settings: Value) -> Vec<Option<String>> {
    let context = Watched::new();
    let mut step = work(kind, settings, json!({}));
    step.timeout = Some(Duration::from_secs(2));
    Executors::new(file.clone()).execute(step, context.clone()).await;
    context.contacts.lock().clone()
}

async fn check(file: &Arc<OperatorFile>, kind: &str, settings: Value) -> Result<Contact, Missing> {
    Executors::new(file.clone()).check(&executor(kind, &settings)).await
}

fn reason(checked: Result<Contact, Missing>) -> String {
    match checked {
        Ok(Contact::NotReached { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

fn remark(checked: Result<Contact, Missing>) -> Option<String> {
    match checked {
        Ok(Contact::Reached { remark }) => remark,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn any_answer_of_a_webhook_shows_that_it_is_there() {
    for status in ["200 OK", "302 Found", "404 Not Found", "500 Internal Server Error"] {
        let server = Server::start(move |_| response(status, "", "")).await;
        let settings = json!({"url": server.url("/hook")});
        let file = allowing(&server.url(""));
        assert_eq!(told(&file, "http", settings.clone()).await, [None], "{status}");
        let remark = remark(check(&file, "http", settings).await);
        assert_eq!(remark.is_none(), status == "200 OK", "{remark:?}");
        assert!(remark.is_none_or(|remark| remark.contains(status)));
        let requests = server.requests.lock().clone();
        assert!(requests[1].head.starts_with("HEAD /hook HTTP/1.1\r\n") && requests[1].body.is_empty());
    }
}

#[tokio::test]
async fn a_webhook_that_nobody_serves_is_not_reached() {
    let origin = nobody().await;
    let (file, settings) = (allowing(&origin), json!({"url": format!("{origin}/secret-path")}));
    let told = told(&file, "http", settings.clone()).await;
    let reason = reason(check(&file, "http", settings).await);
    assert_eq!(told, [Some(reason.clone())]);
    assert!(reason.contains("refused") && !reason.contains("secret-path"), "{reason}");
}

#[tokio::test]
async fn a_connection_without_an_answer_says_nothing_to_an_attempt() {
    let server = Server::start(|_| Some(Vec::new())).await;
    let settings = json!({"url": server.url("/")});
    assert_eq!(told(&allowing(&server.url("")), "http", settings.clone()).await, []);
    // Whoever asks whether somebody is there has got no answer.
    reason(check(&allowing(&server.url("")), "http", settings).await);
}

#[tokio::test]
async fn a_name_without_an_address_is_not_reached() {
    let file = operator("egress: {allow: ['https://nowhere.invalid']}");
    for kind in ["http", "a2a"] {
        let settings = json!({"url": "https://nowhere.invalid/x"});
        let told = told(&file, kind, settings.clone()).await;
        let reason = reason(check(&file, kind, settings).await);
        assert_eq!(told, [Some(reason.clone())]);
        assert!(reason.contains("nowhere.invalid"), "{reason}");
    }
}

#[tokio::test]
async fn what_is_not_allowed_or_not_valid_says_nothing() {
    let server = Server::start(|_| response("200 OK", "", "{}")).await;
    let port = server.address.port();
    let other = allowing("http://127.0.0.1:1");
    for file in [operator(""), other, operator(&format!("egress: {{allow: ['http://127.0.0.1:{port}']}}"))] {
        for (kind, settings) in [
            ("http", json!({"url": server.url("/")})),
            ("a2a", json!({"url": server.url("/")})),
            ("http", json!({"url": "ftp://x"})),
            ("a2a", json!({})),
            ("mcp", json!({"server": "s", "tool": "t"})),
            ("command", json!({"name": "c"})),
        ] {
            assert_eq!(told(&file, kind, settings.clone()).await, [], "{kind} {settings}");
            let missing = check(&file, kind, settings.clone()).await;
            assert!(missing.is_err(), "{kind} {settings}: {missing:?}");
        }
    }
    assert_eq!(server.visits(), 0);
}

#[tokio::test]
async fn an_a2a_agent_is_there_when_its_card_is_answered() {
    let card = r#"{"supportedInterfaces":[{"url":"http://x","protocolBinding":"JSONRPC","protocolVersion":"1.0"}]}"#;
    for (status, body, said) in [
        ("200 OK", card, None),
        ("200 OK", "{}", Some("no supportedInterfaces")),
        ("200 OK", "<html>", Some("not JSON")),
        ("404 Not Found", "", Some("404 Not Found")),
        ("503 Service Unavailable", "", Some("503")),
    ] {
        let server = Server::start(move |_| response(status, "", body)).await;
        let (file, settings) = (allowing(&server.url("")), json!({"url": server.url("/agent")}));
        let remark = remark(check(&file, "a2a", settings.clone()).await);
        match said {
            Some(said) => assert!(remark.as_deref().unwrap().contains(said), "{remark:?}"),
            None => assert_eq!(remark, None),
        }
        let head = server.requests.lock()[0].head.clone();
        assert!(head.starts_with("GET /agent/.well-known/agent-card.json "), "{head}");
        if said.is_some() {
            assert_eq!(told(&file, "a2a", settings).await, [None], "{status}");
        }
    }
    let origin = nobody().await;
    let (file, settings) = (allowing(&origin), json!({"url": origin}));
    let reason = reason(check(&file, "a2a", settings.clone()).await);
    assert!(reason.contains("refused"), "{reason}");
    assert_eq!(told(&file, "a2a", settings).await, [Some(reason)]);
}

#[tokio::test]
async fn what_runs_here_is_always_there() {
    assert_eq!(
        check(&Arc::default(), "builtin", json!({"operation": "wait"})).await,
        Ok(Contact::Reached { remark: None })
    );
    check(&Arc::default(), "pull", json!({})).await.unwrap_err();
}

#[cfg(unix)]
mod programs {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn command(program: &str) -> Arc<OperatorFile> {
        operator(&json!({"commands": {"test": {"argv": [program]}}}).to_string())
    }

    #[tokio::test]
    async fn a_command_is_there_when_its_file_can_be_executed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for (name, mode) in [("good", 0o755), ("plain", 0o644)] {
            std::fs::write(path(name), "#!/bin/sh\necho 1\n").unwrap();
            std::fs::set_permissions(path(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        std::fs::create_dir(path("folder")).unwrap();
        let settings = json!({"name": "test"});
        assert_eq!(remark(check(&command(&path("good")), "command", settings.clone()).await), None);
        assert_eq!(told(&command(&path("good")), "command", settings.clone()).await, [None]);
        for (name, said) in [("plain", "can't be executed"), ("folder", "is not a file"), ("missing", "No such file")] {
            let reason = reason(check(&command(&path(name)), "command", settings.clone()).await);
            assert!(reason.contains(said), "{reason}");
            let told = told(&command(&path(name)), "command", settings.clone()).await;
            assert!(matches!(told.as_slice(), [Some(why)] if why.contains("could not be started")), "{told:?}");
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_was_started() {
        assert_eq!(told(&command("/bin/false"), "command", json!({"name": "test"})).await, [None]);
    }

    #[tokio::test]
    async fn a_server_of_tools_that_does_not_start_or_speak_is_not_reached() {
        for (program, said) in [("/no/such/program", "could not be started"), ("/bin/false", "")] {
            let entry = json!({"argv": [program], "tools": ["t"]});
            let file = operator(&json!({"mcp": {"servers": {"s": entry}}}).to_string());
            let settings = json!({"server": "s", "tool": "t"});
            let reason = reason(check(&file, "mcp", settings.clone()).await);
            assert!(reason.contains(said), "{reason}");
            let told = told(&file, "mcp", settings).await;
            assert!(matches!(told.as_slice(), [Some(_)]), "{told:?}");
        }
    }
}
