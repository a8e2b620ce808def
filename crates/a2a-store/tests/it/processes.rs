//! Signs of life of processes, and resetting a database.

use a2a_store::store::ProcessInfo;

use crate::document::{put, revisions};
use crate::world::{World, commit_one, on_both};

on_both!(
    a_process_is_listed_until_it_leaves,
    those_that_are_silent_for_long_are_taken_away,
    a_reset_database_is_a_new_one,
    operations_are_counted_by_name,
);

fn info(id: &str) -> ProcessInfo {
    ProcessInfo {
        id: id.to_owned(),
        kind: "serve".to_owned(),
        host: "machine".to_owned(),
        pid: 7,
        version: "1.0.0".to_owned(),
        schema: "2026".to_owned(),
        mode: "persisted".to_owned(),
        namespace: "default".to_owned(),
        client: None,
    }
}

async fn a_process_is_listed_until_it_leaves(world: World) {
    let store = world.store().await;
    store.process_beat(&info("a")).await.unwrap();
    store.process_beat(&info("b")).await.unwrap();
    let named = ProcessInfo { client: Some("cursor 1".to_owned()), ..info("b") };
    store.process_beat(&named).await.unwrap();
    let listed = store.process_list().await.unwrap();
    assert_eq!(listed.iter().map(|seen| seen.info.id.as_str()).collect::<Vec<_>>(), ["a", "b"], "oldest first");
    assert_eq!(listed[1].info, named);
    assert!(listed.iter().all(|seen| (0..60_000).contains(&seen.silent_ms)), "{listed:?}");
    store.process_leave("a").await.unwrap();
    store.process_leave("a").await.unwrap();
    assert_eq!(store.process_list().await.unwrap().len(), 1);
}

async fn those_that_are_silent_for_long_are_taken_away(world: World) {
    let store = world.store().await;
    for id in ["old", "recent"] {
        store.process_beat(&info(id)).await.unwrap();
    }
    let age = |id: &str, minutes: i64| {
        if world.is_postgres() {
            format!("UPDATE processes SET seen_at = now() - {minutes} * interval '1 minute' WHERE id = '{id}'")
        } else {
            format!("UPDATE processes SET seen_at = seen_at - {} WHERE id = '{id}'", minutes * 60_000)
        }
    };
    world.execute(&age("old", 11)).await;
    world.execute(&age("recent", 2)).await;
    store.process_beat(&info("new")).await.unwrap();
    let listed = store.process_list().await.unwrap();
    let mut ids: Vec<&str> = listed.iter().map(|seen| seen.info.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["new", "recent"]);
    let recent = listed.iter().find(|seen| seen.info.id == "recent").unwrap();
    assert!((110_000..200_000).contains(&recent.silent_ms), "{recent:?}");
    // One that comes back is listed again.
    store.process_beat(&info("old")).await.unwrap();
    assert_eq!(store.process_list().await.unwrap().len(), 3);
}

async fn a_reset_database_is_a_new_one(world: World) {
    let store = world.store().await;
    commit_one(&store, put("a", 1)).await;
    commit_one(&store, put("a", 2)).await;
    let epoch = world.texts("SELECT epoch FROM store_meta").await;
    let steps = store.migrate_status().await.unwrap();
    let ran = store.migrate_reset().await.unwrap();
    assert_eq!(ran, steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>());
    assert_ne!(world.texts("SELECT epoch FROM store_meta").await, epoch);
    assert_eq!(revisions(&commit_one(&store, put("a", 3)).await), (1, None));
}

async fn operations_are_counted_by_name(world: World) {
    let store = world.store().await;
    for n in 0..3 {
        commit_one(&store, put("a", n)).await;
    }
    store.health().await.unwrap();
    let timings = store.operation_timings();
    let calls = |name: &str| timings.iter().find(|timing| timing.operation == name).map(|timing| timing.calls);
    assert_eq!((calls("agent_commit"), calls("health"), calls("prune")), (Some(3), Some(1), None));
    assert!(timings.iter().all(|timing| timing.longest <= timing.total && timing.errors == 0), "{timings:?}");
    assert!(timings.is_sorted_by_key(|timing| std::cmp::Reverse(timing.total)));
}
