//! `agents check`, and what lists show of it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::json;

use super::*;

/// A webhook that answers everything with this status.
fn webhook(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), status);
        }
    });
    origin
}

fn answer(mut stream: TcpStream, status: &str) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.extend_from_slice(&byte);
    }
    // Whoever asked may have gone.
    let _gone = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

fn row<'v>(list: &'v Value, id: &str) -> &'v Value {
    list["agents"].as_array().unwrap().iter().find(|row| row["id"] == id).unwrap()
}

#[test]
fn agents_are_contacted_and_lists_show_what_came_of_it() {
    let home = Home::new();
    let (good, odd) = (webhook("200 OK"), webhook("405 Method Not Allowed"));
    let gone = format!("http://127.0.0.1:{}", closed_port());
    let allowed = [&good, &odd, &gone].map(|origin| json!({"origin": origin, "private": true}));
    let config = json!({"egress": {"allow": allowed}});
    let config = home.write("config.yaml", &config.to_string());
    let run = |args: &[&str]| home.run_with(&[("A2A_CONFIG", &config)], args);
    let agent = |id: &str, url: &str| json!({"id": id, "description": "d", "executor": {"kind": "http", "settings": {"url": url}}});
    let elsewhere = agent("elsewhere", "https://hooks.example.com/x");
    let agents = json!([agent("good", &good), agent("odd", &odd), elsewhere, {"id": "pull", "description": "d"}]);
    let file = home.write("agents.json", &agents.to_string());
    run(&["agents", "deploy", &file]).code(0);

    let before = run(&["agents", "list", "--json"]).code(0).json();
    assert!(before["agents"].as_array().unwrap().iter().all(|row| row["status"] == "declared"), "{before}");

    let checked = run(&["agents", "check"]).code(0);
    let lines: Vec<&str> = checked.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", checked.out);
    assert!(lines[0].starts_with("ID") && lines[0].contains("RESULT"));
    assert!(
        lines[1].starts_with("elsewhere  http")
            && lines[1].contains("not checked")
            && lines[1].contains("egress.allow")
    );
    assert!(lines[2].starts_with("good") && lines[2].ends_with("reachable"), "{}", lines[2]);
    assert!(lines[3].starts_with("odd") && lines[3].contains("405 Method Not Allowed"), "{}", lines[3]);

    // Other processes know it, also after this one has ended.
    let after = run(&["agents", "list", "--json"]).code(0).json();
    let status = |list: &Value, id: &str| row(list, id)["status"].as_str().unwrap().to_owned();
    assert_eq!((status(&after, "good"), status(&after, "odd")), ("reachable".to_owned(), "reachable".to_owned()));
    assert_eq!((status(&after, "elsewhere"), status(&after, "pull")), ("declared".to_owned(), "declared".to_owned()));
    assert!(row(&after, "good")["last_checked"].as_str().unwrap().starts_with("20"), "{after}");
    assert!(row(&after, "elsewhere").get("last_checked").is_none(), "{after}");
    assert_eq!(row(&after, "good")["revision"], 1);
    let table = run(&["agents", "list"]).code(0).out;
    assert!(table.contains("STATUS") && table.contains(" ago") | table.contains("just now"), "{table}");
    let shown = run(&["agents", "show", "odd"]).code(0).out;
    assert!(shown.contains("# reachable, last checked") && shown.contains("405"), "{shown}");
    // It is a comment, so that what is shown can be deployed again.
    let again = home.run_with_input(&["agents", "deploy", "-", "--json"], &shown).code(0).json();
    assert_eq!(again["unchanged"], 1, "{again}");
    let found = run(&["agents", "list", "--status", "reachable", "--json"]).code(0).json();
    assert_eq!(found["total"], 2);
    run(&["agents", "list", "--status", "alive"]).code(2);

    // A change makes it declared again, and a check finds out that nobody is there.
    home.write("agents.json", &json!([agent("good", &gone)]).to_string());
    run(&["agents", "deploy", &file]).code(0);
    assert_eq!(status(&run(&["agents", "list", "--json"]).code(0).json(), "good"), "declared");
    let failed = run(&["agents", "check", "good", "pull", "--json"]).code(1).json();
    assert_eq!(
        (&failed["unreachable"], &failed["not_checked"], &failed["reachable"]),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!(row(&failed, "good")["status"], "unreachable");
    assert!(row(&failed, "good")["detail"].as_str().unwrap().contains("refused"), "{failed}");
    assert!(row(&failed, "pull")["detail"].as_str().unwrap().contains("asks for its work"), "{failed}");
    let lost = run(&["agents", "list", "--status", "unreachable", "--json"]).code(0).json();
    assert_eq!((&lost["total"], &lost["agents"][0]["id"]), (&json!(1), &json!("good")));
    assert!(lost["agents"][0]["status_detail"].as_str().unwrap().contains("refused"), "{lost}");

    // Without what it needs nothing is said anew, and nothing is forgotten.
    let blind = home.run(&["agents", "check", "good"]).code(0);
    assert!(blind.out.contains("not checked (unreachable "), "{}", blind.out);
    let missing = run(&["agents", "check", "nothing"]).code(1);
    assert!(missing.err.contains("there is no agent \"nothing\""), "{}", missing.err);
}

#[test]
fn a_namespace_without_agents_to_contact_says_so() {
    let home = Home::new();
    home.run_with_input(&["agents", "deploy", "-"], "id: pull\ndescription: d\n").code(0);
    for args in [&["agents", "check"][..], &["agents", "check", "--namespace", "elsewhere"]] {
        let checked = home.run(args).code(0);
        assert!(checked.out.is_empty() && checked.err.contains("pull agents"), "{}", checked.err);
    }
    assert_eq!(home.run(&["agents", "check", "--json"]).code(0).json()["agents"], json!([]));
    let nowhere = format!("postgres://x@127.0.0.1:{}/x", closed_port());
    home.run(&["agents", "check", "--database-url", &nowhere]).code(3);
}

#[cfg(unix)]
#[test]
fn nothing_logs_a_secret_of_the_operators_file() {
    const SCRIPT: &str = r#"
        while read -r line; do
            id=${line#*\"id\":}; id=${id%%[,\}]*}
            case "$line" in
            *'"initialize"'*)
                result='{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}'
                echo '{"jsonrpc":"2.0","id":'$id',"result":'$result'}' ;;
            *'"id"'*) echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32601,"message":"not with '$KEY'"}}' ;;
            esac
        done"#;
    let home = Home::new();
    let server = json!({"argv": ["/bin/sh", "-c", SCRIPT], "env": {"KEY": "the-key-of-the-server"}, "tools": ["t"]});
    let config = home.write("config.yaml", &json!({"mcp": {"servers": {"s": server}}}).to_string());
    let run = |args: &[&str]| home.run_with(&[("A2A_CONFIG", &config), ("A2A_LOG", "trace,rmcp=trace")], args);
    let executor = json!({"kind": "mcp", "settings": {"server": "s", "tool": "t"}});
    let agents = json!([{"id": "tool", "description": "d", "executor": executor}]);
    let file = home.write("agents.json", &agents.to_string());
    run(&["agents", "deploy", &file]);
    let checked = run(&["agents", "check"]);
    for text in [&checked.out, &checked.err] {
        assert!(!text.contains("the-key-of-the-server"), "{text}");
    }
    assert!(checked.out.contains("[redacted]"), "{}{}", checked.out, checked.err);
    assert!(checked.err.contains("rmcp") && checked.err.contains("not with [redacted]"), "{}", checked.err);
}
