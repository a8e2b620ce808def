//! What a list shows when not all of it is there, or not all of it fits.

use a2a_core::ids::Actor;
use a2a_engine::config::{Config, Settings};
use a2a_engine::hub::DeployOptions;
use serde_json::json;

use super::*;

async fn hub(documents: &[Value]) -> Hub {
    let settings = Settings { storage: Some("memory".to_owned()), ..Settings::default() };
    let hub = Hub::open(Config::new(&settings).unwrap());
    let deployed = hub.agent_deploy(documents, "agents", &DeployOptions::default(), &Actor::new("test")).await.unwrap();
    assert!(deployed.iter().all(Result::is_ok));
    hub
}

fn asked(ids: &[&str]) -> ListCall {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let query = ListQuery { ids, limit: LIMIT_DEFAULT, ..ListQuery::default() };
    ListCall { query, detail: Detail::Row, namespace: None }
}

async fn listed(hub: &Hub, call: ListCall) -> (Value, String) {
    let reply = list(hub, call).await.unwrap();
    (serde_json::to_value(&reply.result).unwrap(), reply.text)
}

fn ids_of(result: &Value) -> Vec<&str> {
    result["agents"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn ids_alone_give_what_the_same_ids_give_with_an_open_filter() {
    let hub = hub(&["c", "a", "b", "d"].map(|id| json!({"id": id, "description": "d", "tags": ["t"]}))).await;
    for ids in [&["c", "a", "c"][..], &["d"], &["b", "none", "A"]] {
        let direct = listed(&hub, asked(ids)).await;
        let mut filtered = asked(ids);
        filtered.query.filters.tags_any = vec!["t".to_owned()];
        assert_eq!(direct, listed(&hub, filtered).await, "{ids:?}");
    }
    let (result, text) = listed(&hub, asked(&["c", "a", "none"])).await;
    assert_eq!((ids_of(&result), &result["total"]), (vec!["a", "c"], &json!(2)));
    assert_eq!(result["missing"], json!(["there is no agent \"none\""]));
    assert!(text.starts_with("2 of 2 agents\n") && text.ends_with("\nmissing: there is no agent \"none\""), "{text}");
}

#[tokio::test]
async fn nothing_but_missing_ids_is_an_error_that_names_the_nearest() {
    let hub = hub(&["loader", "cleaner"].map(|id| json!({"id": id, "description": "d"}))).await;
    for (ids, nearest) in [(&["loadr"][..], "loader"), (&["loadr", "cleanr"], "cleaner")] {
        let error = list(&hub, asked(ids)).await.err().unwrap();
        assert_eq!(error.code(), "not_found");
        let result = serde_json::to_value(error.into_result()).unwrap();
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("there is no agent \"loadr\"; nearest: loader"), "{text}");
        assert!(text.contains(&format!("nearest: {nearest}")), "{text}");
    }
}

#[tokio::test]
async fn a_page_of_long_rows_ends_where_the_result_is_full_and_goes_on_after_it() {
    let tags: Vec<String> = (0..64).map(|n| format!("{n:02}{}", "t".repeat(60))).collect();
    let documents: Vec<Value> =
        (0..30).map(|n| json!({"id": format!("agent-{n:02}"), "description": "d", "tags": tags})).collect();
    let hub = hub(&documents).await;
    let names: Vec<&str> = documents.iter().map(|document| document["id"].as_str().unwrap()).collect();
    for ids in [&[][..], &names] {
        let mut seen = Vec::new();
        let mut cursor = None;
        loop {
            let mut call = asked(ids);
            call.query.limit = 30;
            call.query.cursor = cursor;
            let (result, text) = listed(&hub, call).await;
            assert!(result.to_string().len() <= RESULT_BYTES_MAX && text.len() <= RESULT_BYTES_MAX);
            assert_eq!(result["total"], 30);
            seen.extend(ids_of(&result).into_iter().map(str::to_owned));
            cursor = result["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, names);
    }
}

#[tokio::test]
async fn many_missing_ids_do_not_fill_the_result() {
    let hub = hub(&[json!({"id": "there", "description": "d"})]).await;
    let mut ids: Vec<String> = (0..199).map(|n| format!("{n:0>128}")).collect();
    ids.push("there".to_owned());
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (result, text) = listed(&hub, asked(&ids)).await;
    assert_eq!((ids_of(&result), result["missing"].as_array().unwrap().len()), (vec!["there"], 199));
    assert!(result.to_string().len() <= RESULT_BYTES_MAX && text.len() <= RESULT_BYTES_MAX);
}
