//! What a process that has just started answers.

use std::time::Duration;

use a2a_core::ids::Actor;
use a2a_core::memory::Trust;
use a2a_core::memory::recall::{MemoryListQuery, RecallQuery};
use a2a_core::time::Timestamp;
use a2a_engine::config::{Config, Settings};
use a2a_engine::error::HubError;
use a2a_engine::hub::{Hub, MemoryStoreOptions};
use serde_json::json;

const MEMORIES: usize = 6_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_right_after_the_start_finds_what_is_there_or_says_that_it_can_not_yet() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { data_dir: Some(folder.path().to_owned()), ..Settings::default() };
    let config = Config::new(&settings).unwrap();
    let hub = Hub::open(config.clone());
    for start in (0..MEMORIES).step_by(1_000) {
        let documents: Vec<_> = (start..start + 1_000)
            .map(|n| json!({"content": format!("drawer {n} holds the spare parts of machine number {n}")}))
            .collect();
        let options =
            MemoryStoreOptions { namespace: None, redact: false, trust: Trust::User, derived_from: Vec::new() };
        let stored = hub.memory_store(&documents, "memories", &options, &Actor::new("test")).await.unwrap();
        assert_eq!(stored.items.len(), 1_000);
    }
    hub.close().await;
    let now = Timestamp::from_system_time(std::time::SystemTime::now());
    let (mut found, mut not_ready) = (0, 0);
    // From no time at all to as much as it needs.
    for limit in [0, 1, 2, 5, 10, 20, 40, 80, 160, 30_000].map(Duration::from_millis) {
        let hub = Hub::open(Config { ready_timeout: limit, ..config.clone() });
        let query = RecallQuery { query: "drawer 4711".to_owned(), limit: 1, now, ..RecallQuery::default() };
        match hub.memory_recall(&query).await {
            Ok(page) => {
                found += 1;
                assert_eq!(page.total, MEMORIES, "all of them speak of drawers");
                assert!(page.hits[0].memory.spec.content.starts_with("drawer 4711 "), "{:?}", page.hits[0]);
            }
            Err(error @ HubError::NotReady { .. }) => {
                not_ready += 1;
                assert_eq!(error.code(), "not_ready");
            }
            Err(error) => panic!("{error}"),
        }
        let list = MemoryListQuery { limit: 1, now, ..MemoryListQuery::default() };
        match hub.memory_list(&list).await {
            Ok(page) => assert_eq!(page.total, MEMORIES),
            Err(error) => assert_eq!(error.code(), "not_ready"),
        }
        hub.close().await;
    }
    assert!(found >= 1 && not_ready >= 1, "{found} {not_ready}");
}
