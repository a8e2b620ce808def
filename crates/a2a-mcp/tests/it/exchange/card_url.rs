//! Agent cards from URLs.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::counts;
use crate::cli::{Ended, Home};

/// Status line and what follows the head, by path.
type Answers = BTreeMap<&'static str, (&'static str, String)>;

/// A server of agents, until the test process ends.
struct Server {
    origin: String,
    answers: Arc<Mutex<Answers>>,
    /// The heads of the requests that came.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (answers, seen) = (Arc::new(Mutex::new(answers)), Arc::new(Mutex::new(Vec::new())));
        let server = Self { origin, answers: Arc::clone(&answers), seen: Arc::clone(&seen) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
                seen.lock().unwrap().push(head.join("\n"));
                let missing = ("404 Not Found", "nothing here".to_owned());
                let (status, body) = answers.lock().unwrap().get(path.as_str()).cloned().unwrap_or(missing);
                let length = body.len();
                // Whoever has heard enough goes away.
                let _gone =
                    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            }
        });
        server
    }

    /// How many requests came.
    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn card(description: &str) -> String {
    let interface = json!({"url": "https://h.example/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"});
    json!({"name": "Route Planner", "description": description, "version": "1.2.0", "supportedInterfaces": [interface],
        "skills": [{"id": "route", "name": "Route", "description": "From A to B", "tags": ["maps"]}]})
    .to_string()
}

/// Imports with an operator's file that says this.
fn import(home: &Home, config: &str, url: &str) -> Ended {
    let file = home.write("config.yaml", config);
    let args = ["import", "a2a-card", url, "--json"];
    home.command(&args).env("A2A_CONFIG", file).output().unwrap().into()
}

#[track_caller]
fn reason(ended: Ended) -> String {
    let summary: Value = ended.code(1).json();
    assert_eq!(counts(&summary), [0, 0, 1], "{summary}");
    summary["items"][0]["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_card_is_read_at_its_well_known_place() {
    let answers = Answers::from([
        ("/team/planner/.well-known/agent-card.json", ("200 OK", card("Plans"))),
        ("/cards/planner.json", ("200 OK", card("Plans"))),
    ]);
    let server = Server::start(answers);
    let home = Home::new();
    let config = format!(
        "egress: {{allow: [{{origin: '{}', private: true, headers: {{Authorization: Bearer hunter2}}}}]}}",
        server.origin
    );
    let url = format!("{}/team/planner", server.origin);
    let first = import(&home, &config, &url).code(0);
    assert_eq!(counts(&first.json()), [1, 0, 0], "{}", first.out);
    let shown = home.run(&["agents", "show", "Route-Planner", "--json"]).code(0).json();
    assert_eq!(
        shown["executor"],
        json!({"kind": "a2a", "settings": {"url": url}}),
        "it is spoken to where it was found"
    );
    assert_eq!((&shown["capabilities"][0]["name"], &shown["tags"]), (&json!("route"), &json!(["maps"])));
    let head = server.seen.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET /team/planner/.well-known/agent-card.json HTTP/1.1"), "{head}");
    assert!(head.contains("Bearer hunter2") && head.to_lowercase().contains("a2a-version: 1.0"), "{head}");
    assert_eq!(counts(&import(&home, &config, &url).code(0).json()), [0, 1, 0], "it can be repeated");
    server.answers.lock().unwrap().insert("/team/planner/.well-known/agent-card.json", ("200 OK", card("Plans ahead")));
    let newer = import(&home, &config, &url).code(0).json();
    assert_eq!(counts(&newer), [1, 0, 0], "a newer card is taken over");
    assert_eq!((&newer["items"][0]["status"], &newer["items"][0]["revision"]), (&json!("updated"), &json!(2)));
    let shown = home.run(&["agents", "show", "Route-Planner", "--json"]).code(0).json();
    assert_eq!(shown["description"], "Plans ahead");
    // A URL that names a document is that of the card.
    let named = format!("{}/cards/planner.json", server.origin);
    import(&home, &config, &named).code(0);
    assert!(server.seen.lock().unwrap().last().unwrap().starts_with("GET /cards/planner.json "));
    // A slash at the end makes no other place.
    assert_eq!(counts(&import(&home, &config, &format!("{url}/")).code(0).json())[2], 0);
}

#[test]
fn what_is_no_card_is_told_and_redirects_are_not_followed() {
    const LARGE: usize = 4 * 1024 * 1024 + 1;
    let answers = Answers::from([
        ("/good.json", ("200 OK", card("Plans"))),
        ("/moved.json", ("302 Found\r\nLocation: /good.json", String::new())),
        ("/closed.json", ("401 Unauthorized", "who are you".to_owned())),
        ("/ill.json", ("500 Internal Server Error", String::new())),
        ("/text.json", ("200 OK", "<html>".to_owned())),
        ("/twice.json", ("200 OK", "{\"name\": 1, \"name\": 2}".to_owned())),
        ("/other.json", ("200 OK", "{\"hello\": \"world\"}".to_owned())),
        ("/large.json", ("200 OK", " ".repeat(LARGE))),
    ]);
    let server = Server::start(answers);
    let home = Home::new();
    let config = format!("egress: {{allow: [{{origin: '{}', private: true}}]}}", server.origin);
    for (path, told) in [
        ("/moved.json", "the agent answered 302 Found; redirects are not followed, so the final URL is needed"),
        ("/closed.json", "it wants credentials, which belong into the headers of its origin in the operator's file"),
        ("/ill.json", "the agent answered 500 Internal Server Error"),
        ("/text.json", "it is not JSON that can be used"),
        ("/twice.json", "the key stands twice"),
        ("/other.json", "is not an agent card: it has no name"),
        ("/large.json", "the response has more than 4194304 bytes"),
        ("/nowhere", "the agent answered 404 Not Found: nothing here"),
    ] {
        let before = server.requests();
        let reason = reason(import(&home, &config, &format!("{}{path}", server.origin)));
        assert!(reason.contains(told), "{path}: {reason}");
        assert_eq!(server.requests(), before + 1, "{path}: one request");
    }
    assert_eq!(home.run(&["agents", "list", "--json"]).code(0).json()["total"], 0);
}

#[test]
fn nothing_is_asked_that_the_operator_does_not_allow() {
    let server = Server::start(Answers::from([("/good.json", ("200 OK", card("Plans")))]));
    let home = Home::new();
    let url = format!("{}/good.json", server.origin);
    let port = server.origin.rsplit(':').next().unwrap();
    let open = format!("egress: {{allow: ['{}']}}", server.origin);
    let private = format!("egress: {{allow: [{{origin: '{}', private: true}}]}}", server.origin);
    for (config, url, told) in [
        ("{}", url.clone(), "is not allowed; to allow it, add it to egress.allow"),
        (&open, url, "is at a loopback address; to allow it, set private: true"),
        // The same address by other names is another origin.
        (&private, format!("http://localhost:{port}/good.json"), "http://localhost"),
        (&private, format!("http://[::ffff:127.0.0.1]:{port}/good.json"), "is not allowed"),
        (&private, format!("http://2130706433:{port}/good.json"), "the URL"),
        (&private, format!("http://me:pw@127.0.0.1:{port}/good.json"), "the URL"),
        (&private, format!("https://127.0.0.1:{port}/good.json"), "is not allowed"),
    ] {
        let reason = reason(import(&home, config, &url));
        assert!(reason.contains(told), "{url}: {reason}");
    }
    assert_eq!(server.requests(), 0, "nobody was asked");
}
