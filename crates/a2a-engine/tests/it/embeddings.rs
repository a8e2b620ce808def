//! Memories that a model behind an endpoint reads in the background.

use std::path::Path;
use std::time::{Duration, Instant};

use a2a_core::ids::Actor;
use a2a_core::memory::Trust;
use a2a_core::memory::recall::{RecallPage, RecallQuery};
use a2a_core::registry::{SearchPage, SearchQuery};
use a2a_core::time::Timestamp;
use a2a_engine::config::{Config, Settings};
use a2a_engine::embedder::EmbeddingStats;
use a2a_engine::hub::{DeployOptions, Hub, MemoryStoreOptions};
use a2a_engine::operator::Secret;
use a2a_testing::embeddings::{Behaviour, EmbeddingEndpoint};
use a2a_testing::installed::sentence_transformer;
use a2a_testing::postgres::{TestDatabase, postgres_or_skip};
use a2a_testing::wait::wait_until;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);
const KEY: &str = "sk-test-0123456789";
const MODEL: &str = "first-letters";

/// A database and how to open it.
enum World {
    Postgres(TestDatabase),
    Sqlite(tempfile::TempDir),
}

impl World {
    fn hub(&self, endpoint: &EmbeddingEndpoint, model: &str) -> Hub {
        let place = match self {
            Self::Postgres(database) => Settings { database_url: Some(database.url()), ..Settings::default() },
            Self::Sqlite(folder) => Settings { data_dir: Some(folder.path().to_owned()), ..Settings::default() },
        };
        let settings = Settings {
            embeddings_url: Some(endpoint.url()),
            embeddings_model: Some(model.to_owned()),
            embeddings_key: Some(Secret::new(KEY)),
            ..place
        };
        Hub::open(Config::new(&settings).unwrap())
    }
}

macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(server) = super::postgres_or_skip().await {
                        super::$case(super::World::Postgres(super::TestDatabase::create(&server).await)).await;
                    }
                }
            )*
        }
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(super::World::Sqlite(tempfile::tempdir().unwrap())).await;
                }
            )*
        }
    };
}

on_both!(
    what_is_stored_is_read_and_recalled_by_its_meaning,
    two_processes_have_nothing_read_twice,
    reading_goes_on_where_it_has_stopped,
    another_model_reads_everything_anew,
    an_endpoint_that_fails_is_tried_again,
    agents_are_read_and_found_by_their_meaning,
);

async fn store(hub: &Hub, texts: &[String]) {
    let documents: Vec<_> = texts.iter().map(|text| json!({"content": text})).collect();
    let options = MemoryStoreOptions { namespace: None, redact: false, trust: Trust::User, derived_from: Vec::new() };
    let stored = hub.memory_store(&documents, "memories", &options, &Actor::new("test")).await.unwrap();
    stored.items.into_iter().for_each(|item| drop(item.unwrap()));
}

/// Texts of which the table knows the words, and the model the first letters.
fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("note {n} about the garden and the kitchen")).collect()
}

async fn recall(hub: &Hub, query: &str) -> RecallPage {
    let now = Timestamp::from_system_time(std::time::SystemTime::now());
    let query = RecallQuery { query: query.to_owned(), limit: 5, now, ..RecallQuery::default() };
    hub.memory_recall(&query).await.unwrap()
}

fn stats(hub: &Hub) -> EmbeddingStats {
    hub.embedding_stats().unwrap()
}

async fn all_read(hub: &Hub, count: usize) {
    wait_until(LIMIT, "all memories are read", async || stats(hub).read == count && stats(hub).waiting == 0).await;
}

async fn what_is_stored_is_read_and_recalled_by_its_meaning(world: World) {
    let endpoint = EmbeddingEndpoint::start(Some(KEY)).await;
    let (a, b) = (world.hub(&endpoint, MODEL), world.hub(&endpoint, MODEL));
    store(&a, &texts(0..20)).await;
    store(&a, &["zebras yawn".to_owned()]).await;
    for hub in [&a, &b] {
        all_read(hub, 21).await;
        // A busy machine may take longer than recall waits.
        wait_until(LIMIT, "the model has read the question", async || {
            recall(hub, "zeppelin yacht").await.hits.first().is_some_and(|hit| hit.similarity.is_some_and(|s| s > 0.9))
        })
        .await;
        let page = recall(hub, "zeppelin yacht").await;
        assert_eq!(&*page.hits[0].memory.spec.content, "zebras yawn");
        assert!(page.hits[0].similarity.unwrap() > 0.9, "{:?}", page.hits[0]);
    }
    assert_eq!(endpoint.given(MODEL)["zeppelin yacht"], 2, "once in each process, and kept there");
    recall(&a, "zeppelin yacht").await;
    assert_eq!(endpoint.given(MODEL)["zeppelin yacht"], 2);
    // The document changes, what it says does not.
    let asked = endpoint.requests();
    let id = recall(&a, "zebras yawn").await.hits[0].memory.id.clone();
    assert!(recall(&a, id.as_str()).await.hits[0].score > 0.99);
    assert!(endpoint.requests() <= asked + 1, "an id is no question");
    a.close().await;
    b.close().await;
}

async fn two_processes_have_nothing_read_twice(world: World) {
    let endpoint = EmbeddingEndpoint::start(Some(KEY)).await;
    let hubs = [world.hub(&endpoint, MODEL), world.hub(&endpoint, MODEL), world.hub(&endpoint, MODEL)];
    for round in 0..8 {
        let each = hubs.iter().enumerate().map(|(n, hub)| async move {
            let start = round * 150 + n * 50;
            store(hub, &texts(start..start + 50)).await;
        });
        futures_util::future::join_all(each).await;
    }
    for hub in &hubs {
        all_read(hub, 1200).await;
    }
    let given = endpoint.given(MODEL);
    assert_eq!(given.len(), 1200);
    let twice: Vec<_> = given.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for hub in hubs {
        hub.close().await;
    }
}

async fn reading_goes_on_where_it_has_stopped(world: World) {
    let endpoint = EmbeddingEndpoint::start(Some(KEY)).await;
    let first = world.hub(&endpoint, MODEL);
    store(&first, &texts(0..100)).await;
    all_read(&first, 100).await;
    endpoint.behave(Behaviour::Silent);
    let before = endpoint.requests();
    store(&first, &texts(100..200)).await;
    wait_until(LIMIT, "it is in the middle of a request", async || endpoint.requests() > before).await;
    first.close().await;
    let second = world.hub(&endpoint, MODEL);
    let asked = endpoint.requests();
    // What was read before is there without the endpoint.
    wait_until(LIMIT, "the vectors are loaded", async || stats(&second).read == 100).await;
    wait_until(LIMIT, "the turn was given back", async || endpoint.requests() > asked).await;
    endpoint.behave(Behaviour::Reads);
    all_read(&second, 200).await;
    let given = endpoint.given(MODEL);
    assert!((0..100).all(|n| given[&texts(n..n + 1)[0]] == 1), "what was kept is not read again");
    second.close().await;
}

async fn another_model_reads_everything_anew(world: World) {
    let endpoint = EmbeddingEndpoint::start(Some(KEY)).await;
    let first = world.hub(&endpoint, MODEL);
    store(&first, &texts(0..30)).await;
    store(&first, &["zebras yawn".to_owned()]).await;
    all_read(&first, 31).await;
    // Both at once, as when one client was set anew and another was not.
    endpoint.set_dimensions(96);
    let second = world.hub(&endpoint, "another");
    all_read(&second, 31).await;
    assert_eq!((stats(&first).read, endpoint.given("another").len()), (31, 31));
    wait_until(LIMIT, "it is recalled by the other model", async || {
        recall(&second, "zeppelin yacht")
            .await
            .hits
            .first()
            .is_some_and(|hit| &*hit.memory.spec.content == "zebras yawn")
    })
    .await;
    // The first one is asked for vectors that do not fit those it has: they are not compared, and the table answers.
    let page = recall(&first, "zebra yawning").await;
    assert_eq!(&*page.hits[0].memory.spec.content, "zebras yawn");
    store(&first, &["one more".to_owned()]).await;
    wait_until(LIMIT, "it says so", async || {
        stats(&first).last_error.is_some_and(|error| error.contains("96 numbers now"))
    })
    .await;
    first.close().await;
    second.close().await;
}

async fn an_endpoint_that_fails_is_tried_again(world: World) {
    let endpoint = EmbeddingEndpoint::start(Some(KEY)).await;
    let hub = world.hub(&endpoint, MODEL);
    let mut count = 0;
    for (behaviour, told) in [
        (Behaviour::Status(429, Some(1)), "429"),
        (Behaviour::Status(500, None), "500: not now, [redacted]"),
        (Behaviour::Endless, "more than"),
        (Behaviour::Garbled, "no list of vectors"),
        (Behaviour::Uneven, "and another one"),
    ] {
        endpoint.behave(behaviour.clone());
        store(&hub, &texts(count..count + 3)).await;
        count += 3;
        wait_until(LIMIT, &format!("{behaviour:?} is told"), async || {
            stats(&hub).last_error.is_some_and(|error| error.contains(told) && !error.contains(KEY))
        })
        .await;
        assert_eq!(stats(&hub).waiting, 3);
        // What is not read is recalled all the same.
        assert!(recall(&hub, &format!("note {}", count - 1)).await.total > 0);
        endpoint.behave(Behaviour::Reads);
        all_read(&hub, count).await;
        assert_eq!(stats(&hub).last_error, None);
    }
    // One text that is not taken does not keep the others from being read.
    endpoint.behave(Behaviour::RefusesWord("unreadable".to_owned()));
    let mut mixed = texts(count..count + 20);
    mixed.insert(7, format!("an unreadable text {}", "and so on ".repeat(300)));
    mixed.insert(11, format!("a long text {} that is unreadable", "and so on ".repeat(300)));
    store(&hub, &mixed).await;
    wait_until(LIMIT, "all others are read", async || stats(&hub).refused == 1 && stats(&hub).waiting == 1).await;
    assert_eq!(stats(&hub).read, count + 21, "the second one was read as far as it is taken");
    hub.close().await;
}

async fn deploy(hub: &Hub, id: &str, description: &str) {
    let document = json!({"id": id, "name": id, "description": description});
    let deployed =
        hub.agent_deploy(&[document], "agents", &DeployOptions::default(), &Actor::new("test")).await.unwrap();
    deployed.into_iter().for_each(|item| drop(item.unwrap()));
}

async fn search(hub: &Hub, need: &str) -> SearchPage {
    let query = SearchQuery { query: need.to_owned(), limit: 5, ..SearchQuery::default() };
    hub.agent_search(&query).await.unwrap()
}

/// Waits until the model has read all agents, and the question too, which a busy machine may do later than search waits.
async fn found_first(hub: &Hub, need: &str, id: &str) {
    wait_until(LIMIT, &format!("{need} finds {id}"), async || {
        let first = search(hub, need).await.hits.into_iter().next();
        first.is_some_and(|hit| hit.agent.spec.id.as_str() == id && hit.reason.contains("similar 1.00"))
    })
    .await;
}

async fn agents_are_read_and_found_by_their_meaning(world: World) {
    let endpoint = EmbeddingEndpoint::start(Some(KEY)).await;
    let (a, b) = (world.hub(&endpoint, MODEL), world.hub(&endpoint, MODEL));
    for n in 0..20 {
        deploy(&a, &format!("garden{n}"), "a gardener with a green garden").await;
    }
    // Its passage begins with its name.
    deploy(&a, "zebra", "yawns yellow").await;
    for hub in [&a, &b] {
        wait_until(LIMIT, "all agents are read", async || {
            (stats(hub).agents_read, stats(hub).agents_waiting) == (21, 0)
        })
        .await;
        found_first(hub, "zeppelin yacht yoga", "zebra").await;
    }
    let given = endpoint.given(MODEL);
    let twice: Vec<_> = given.iter().filter(|(text, count)| text.contains("garden") && **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    // What has changed is read anew, in both.
    deploy(&a, "zebra", "quotes quiet queens").await;
    for hub in [&a, &b] {
        found_first(hub, "zoo quartz quail quiz", "zebra").await;
    }
    // Whoever writes an id asks the model nothing.
    let asked = endpoint.requests();
    assert!(search(&a, "zebra").await.hits[0].score > 0.99);
    assert_eq!(endpoint.requests(), asked);
    // Without the endpoint the table answers.
    endpoint.behave(Behaviour::Silent);
    assert!(search(&a, "somebody for the garden").await.total >= 20);
    a.close().await;
    b.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_in_this_process_reads_memories_and_questions() {
    let Some(model) = sentence_transformer(Path::new(env!("CARGO_TARGET_TMPDIR"))) else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings =
        Settings { data_dir: Some(folder.path().to_owned()), embeddings_dir: Some(model), ..Settings::default() };
    let hub = Hub::open(Config::new(&settings).unwrap());
    store(&hub, &texts(0..30)).await;
    store(&hub, &["physicians must not prescribe it to expectant mothers".to_owned()]).await;
    all_read(&hub, 31).await;
    assert!(stats(&hub).model.starts_with("local:"), "{:?}", stats(&hub));
    wait_until(LIMIT, "the model has read the question", async || {
        let page = recall(&hub, "may a pregnant woman take this drug").await;
        let first = page.hits.first().map(|hit| hit.memory.spec.content.to_string());
        first.is_some_and(|text| text.starts_with("physicians")) && page.hits[0].similarity.is_some_and(|s| s > 0.4)
    })
    .await;
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recall_does_not_wait_for_an_endpoint_that_is_gone() {
    let world = World::Sqlite(tempfile::tempdir().unwrap());
    let endpoint = EmbeddingEndpoint::start(Some(KEY)).await;
    let hub = world.hub(&endpoint, MODEL);
    store(&hub, &texts(0..10)).await;
    all_read(&hub, 10).await;
    endpoint.behave(Behaviour::Silent);
    let start = Instant::now();
    assert!(recall(&hub, "the kitchen").await.total > 0, "the table answers");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let asked = endpoint.requests();
    for n in 0..50 {
        assert!(recall(&hub, &format!("the kitchen {n}")).await.total > 0);
    }
    assert!(start.elapsed() < Duration::from_secs(2), "after a failure it is not asked: {:?}", start.elapsed());
    assert!(endpoint.requests() <= asked + 1);
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_gets_the_prefixes_that_it_wants() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = EmbeddingEndpoint::start(Some(KEY)).await;
    let hub = |document: &str| {
        let settings = Settings {
            data_dir: Some(folder.path().to_owned()),
            embeddings_url: Some(endpoint.url()),
            embeddings_model: Some(MODEL.to_owned()),
            embeddings_key: Some(Secret::new(KEY)),
            embeddings_query_prefix: Some("query: ".to_owned()),
            embeddings_document_prefix: Some(document.to_owned()),
            ..Settings::default()
        };
        Hub::open(Config::new(&settings).unwrap())
    };
    let first = hub("passage: ");
    store(&first, &["zebras yawn".to_owned()]).await;
    all_read(&first, 1).await;
    recall(&first, "zeppelin yacht").await;
    wait_until(LIMIT, "the question is asked", async || {
        !endpoint.given(MODEL).contains_key("zeppelin yacht")
            && endpoint.given(MODEL).contains_key("query: zeppelin yacht")
    })
    .await;
    first.close().await;
    // Behind another prefix it is another model.
    let second = hub("text: ");
    all_read(&second, 1).await;
    let given = endpoint.given(MODEL);
    assert!(["passage: zebras yawn", "text: zebras yawn"].iter().all(|text| given[*text] == 1), "{given:?}");
    second.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_told_without_the_key() {
    let world = World::Sqlite(tempfile::tempdir().unwrap());
    let endpoint = EmbeddingEndpoint::start(Some("another key")).await;
    let hub = world.hub(&endpoint, MODEL);
    store(&hub, &texts(0..1)).await;
    wait_until(LIMIT, "it is told", async || {
        let error = stats(&hub).last_error;
        error.as_deref() == Some("the endpoint answers 401: Incorrect API key provided: [redacted]")
    })
    .await;
    assert!(endpoint.requests() <= 2, "nothing is gained by asking again soon");
    hub.close().await;
}
