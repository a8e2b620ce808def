//! What looks like a secret gets nowhere: not into a reply, a log at its most talkative, or the database.

#[path = "../../../a2a-core/src/memory/secrets/corpus.rs"]
mod corpus;

use std::path::Path;
use std::time::Duration;

use a2a_testing::embeddings::EmbeddingEndpoint;
use a2a_testing::wait::wait_for;
use serde_json::json;

use crate::world::{World, call, open, refused};

/// Every byte that a process has written into a folder.
fn bytes_of(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        all.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_stored_logged_or_told() {
    let world = World::sqlite();
    let World::Sqlite(folder) = &world else { unreachable!("it is SQLite") };
    let server = open(world.options().env("A2A_LOG", "trace")).await;
    let kept = call(&server, "memory_store", json!({"memories": [{"content": "the place of a secret"}]})).await;
    let id = kept["memories"][0]["id"].clone();
    let corpus = corpus::corpus();
    for (text, secret) in &corpus {
        let tag: String = secret.chars().take(60).collect();
        for refusal in [
            refused(&server, "memory_store", json!({"memories": [{"content": text}]})).await,
            refused(&server, "memory_store", json!({"memories": [{"content": "x", "data": {"deep": [text]}}]})).await,
            refused(&server, "memory_update", json!({"id": id, "set": {"content": text}})).await,
        ] {
            assert!(refusal.text.contains("looks like a secret"), "{refusal:?}");
            assert!(!refusal.text.contains(secret.as_str()), "told: {refusal:?}");
        }
        let done = call(&server, "memory_store", json!({"memories": [{"content": text}], "redact": true})).await;
        assert_eq!(done["failed"], 0, "{done}");
        assert!(!done.to_string().contains(tag.as_str()), "{done}");
        // Asking for it must not write it down either.
        call(&server, "memory_search", json!({"query": text.chars().take(900).collect::<String>()})).await;
    }
    server.finish().await;
    let log = server.stderr();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is talkative: {log}");
    let stored = bytes_of(folder.path());
    assert!(holds(&stored, "the place of a secret") && holds(&stored, "[redacted: "));
    for (_, secret) in &corpus {
        assert!(!log.contains(secret.as_str()), "logged: {secret}");
        assert!(!holds(&stored, secret), "stored: {secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_an_embedding_endpoint_is_neither_logged_nor_told_nor_stored() {
    const KEY: &str = "sk-endpoint-key-0123456789";
    let world = World::sqlite();
    let World::Sqlite(folder) = &world else { unreachable!("it is SQLite") };
    // It knows another key, and repeats the one that it was given.
    let endpoint = EmbeddingEndpoint::start(Some("another")).await;
    let options = world
        .options()
        .env("A2A_LOG", "trace,hyper=trace,reqwest=trace")
        .env("A2A_EMBEDDINGS_URL", &endpoint.url())
        .env("A2A_EMBEDDINGS_MODEL", "some-model")
        .env("A2A_EMBEDDINGS_KEY", KEY);
    let server = open(options).await;
    call(&server, "memory_store", json!({"memories": [{"content": "the cat sleeps"}]})).await;
    let stats = wait_for(Duration::from_secs(30), "the endpoint has refused the key", async || {
        let stats = call(&server, "registry_stats", json!({})).await;
        stats["embeddings"]["last_error"].as_str().is_some_and(|error| error.contains("401")).then_some(stats)
    })
    .await;
    assert_eq!(stats["embeddings"]["memories_waiting"], 1, "{stats}");
    assert!(stats["embeddings"]["last_error"].as_str().unwrap().contains("[redacted]"), "{stats}");
    // What it says of itself comes before what it logs.
    server.finish().await;
    let log = server.stderr();
    assert!(log.contains("memories and agents are not read by the model now"), "{log}");
    assert!(!log.contains(KEY) && !stats.to_string().contains(KEY), "{log}");
    assert!(!holds(&bytes_of(folder.path()), KEY));
}
