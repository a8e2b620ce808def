//! A small JSON-RPC server over stdin and stdout, for the stdio driver's own tests.
//!
//! Its first argument makes it misbehave in one way; without one it is clean.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    reason = "writing to stdout and stderr is what it is for"
)]

use std::io::{BufRead as _, Write as _};

use serde_json::{Value, json};

fn main() {
    let fault = std::env::args().nth(1).unwrap_or_default();
    eprintln!("peer started");
    if fault == "banner" {
        println!("Welcome!");
    }
    let stdin = std::io::stdin();
    let mut held = None;
    for line in stdin.lock().lines() {
        let line = line.expect("stdin is text");
        let Ok(request) = serde_json::from_str::<Value>(&line) else {
            say(&json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "parse error"}}));
            continue;
        };
        let (Some(id), Some(method)) = (request.get("id"), request.get("method")) else { continue };
        let params = request.get("params").cloned().unwrap_or_default();
        match method.as_str().unwrap_or_default() {
            // The first of two is answered after the second, so that the driver must match by id.
            "swap" => match held.take() {
                None => held = Some((id.clone(), params)),
                Some((first_id, first_params)) => {
                    answer(id, &params);
                    answer(&first_id, &first_params);
                }
            },
            "fail" => say(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "unknown"}})),
            "silence" => {}
            "env" => answer(id, &json!(std::env::vars().collect::<std::collections::BTreeMap<_, _>>())),
            "notify" => {
                say(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}));
                say(&json!({"jsonrpc": "2.0", "id": 7, "method": "ping"}));
                answer(id, &json!({}));
            }
            "tools/call" => answer(
                id,
                &json!({"content": [{"type": "text", "text": "done"}], "structuredContent": params, "isError": false}),
            ),
            _ => answer(id, &params),
        }
        match fault.as_str() {
            "version" => say(&json!({"jsonrpc": "1.0", "method": "x"})),
            "twice" => answer(id, &json!({})),
            "both" => say(&json!({"jsonrpc": "2.0", "id": 99, "result": 1, "error": {"code": 1, "message": "x"}})),
            "half" => {
                print!("{{\"jsonrpc\"");
                std::io::stdout().flush().expect("stdout is open");
            }
            _ => {}
        }
    }
}

fn answer(id: &Value, result: &Value) {
    say(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
}

fn say(message: &Value) {
    println!("{message}");
}
