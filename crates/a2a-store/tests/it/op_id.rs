//! A write that is sent again under its name is not applied again.

use std::sync::Arc;

use a2a_core::change::{Change, Outcome};
use a2a_store::Unit;
use a2a_store::store::Store;

use crate::document::{expecting, key, purge, put, remove, revisions, update};
use crate::world::{World, commit_all, commit_one, newest, on_both};

on_both!(
    each_kind_of_write_is_applied_once,
    a_retry_after_later_writes_tells_what_it_did_then,
    a_retry_of_what_was_not_committed_is_committed,
    an_atomic_unit_is_applied_once,
    a_unit_that_was_committed_is_never_told_to_be_aborted,
    a_batch_that_was_committed_in_part_is_completed,
);

async fn again(store: &Store, units: Vec<Unit>) -> Vec<Vec<Outcome>> {
    store.commit(units.into(), true, &|_| None).await.unwrap()
}

async fn once_more(store: &Store, change: &Change) -> Outcome {
    again(store, vec![Unit::one(change.clone())]).await.remove(0).remove(0)
}

/// Everything that a second application would change.
async fn traces(world: &World) -> Vec<i64> {
    let mut found = Vec::new();
    for query in [
        "SELECT coalesce(sum(revision), 0) FROM agents",
        "SELECT count(*) FROM agent_history",
        "SELECT count(*) FROM change_log",
        "SELECT count(*) FROM applied_ops",
        "SELECT coalesce(sum(revision), 0) FROM tombstones",
    ] {
        found.push(world.count(query).await);
    }
    found
}

async fn each_kind_of_write_is_applied_once(world: World) {
    let store = world.store().await;
    let writes = [
        put("one", 1),
        put("one", 2),
        expecting(2, put("one", 3)),
        update("one", 4),
        remove("one"),
        expecting(0, put("one", 5)),
        expecting(6, remove("one")),
        purge("one"),
        put("one", 6),
        expecting(9, purge("one")),
    ];
    for change in &writes {
        let first = commit_one(&store, change.clone()).await;
        assert!(first.is_success(), "{first:?}");
        let before = traces(&world).await;
        let purged = matches!(&first, Outcome::Removed { purged: true, .. });
        for _ in 0..3 {
            let second = once_more(&store, change).await;
            assert_eq!(second, first, "purged: {purged}");
            assert_eq!(traces(&world).await, before);
        }
    }
}

async fn a_retry_after_later_writes_tells_what_it_did_then(world: World) {
    let store = world.store().await;
    let writes = [put("late", 1), expecting(1, put("late", 2)), remove("late"), put("late", 4), put("late", 5)];
    let outcomes = commit_all(&store, writes.to_vec()).await;
    let before = traces(&world).await;
    for (change, outcome) in writes.iter().zip(&outcomes) {
        assert_eq!(&once_more(&store, change).await, outcome);
    }
    let units = writes.iter().cloned().map(Unit::one).collect();
    assert_eq!(again(&store, units).await.concat(), outcomes, "all in one batch");
    assert_eq!(traces(&world).await, before);

    let purged = purge("late");
    let outcome = commit_one(&store, purged.clone()).await;
    let reborn = put("late", 7);
    commit_one(&store, reborn.clone()).await;
    let before = traces(&world).await;
    assert_eq!(once_more(&store, &purged).await, outcome);
    // Its content was erased since, which is all that can be told of it.
    assert_eq!(once_more(&store, &writes[0]).await, Outcome::NotFound);
    assert_eq!(traces(&world).await, before);
    assert_eq!(newest(&store, &key("late")).await.unwrap().0.revision, 7);
}

async fn a_retry_of_what_was_not_committed_is_committed(world: World) {
    let store = world.store().await;
    let refused = expecting(7, put("fresh", 1));
    assert_eq!(commit_one(&store, refused.clone()).await, Outcome::Conflict { current: 0 });
    assert_eq!(once_more(&store, &refused).await, Outcome::Conflict { current: 0 });
    let new = put("fresh", 1);
    assert_eq!(revisions(&once_more(&store, &new).await), (1, None));
    assert_eq!(revisions(&once_more(&store, &new).await), (1, None));
    assert_eq!(traces(&world).await, [1, 0, 1, 1, 0]);
}

async fn an_atomic_unit_is_applied_once(world: World) {
    let store = world.store().await;
    commit_all(&store, vec![put("a", 1), put("b", 1), put("c", 1)]).await;
    let unit = Unit { changes: vec![expecting(1, put("a", 2)), remove("b"), purge("c"), put("d", 1)] };
    let units: Arc<[Unit]> = vec![unit].into();
    let first = store.commit(units.clone(), false, &|_| None).await.unwrap();
    assert!(first[0].iter().all(Outcome::is_success));
    let before = traces(&world).await;
    assert_eq!(store.commit(units.clone(), true, &|_| None).await.unwrap(), first);
    assert_eq!(traces(&world).await, before);
}

/// What was unchanged leaves no trace of the write, and may be another thing by the time of the retry.
async fn a_unit_that_was_committed_is_never_told_to_be_aborted(world: World) {
    let store = world.store().await;
    commit_one(&store, put("same", 1)).await;
    let unit = Unit { changes: vec![put("new", 1), expecting(1, put("same", 1))] };
    let units: Arc<[Unit]> = vec![unit].into();
    let first = store.commit(units.clone(), false, &|_| None).await.unwrap();
    assert_eq!(revisions(&first[0][0]), (1, None));
    assert_eq!(first[0][1], Outcome::Unchanged { revision: 1 });
    commit_one(&store, put("same", 2)).await;
    let before = traces(&world).await;
    assert_eq!(store.commit(units, true, &|_| None).await.unwrap(), first);
    assert_eq!(traces(&world).await, before);
}

async fn a_batch_that_was_committed_in_part_is_completed(world: World) {
    let store = world.store().await;
    let done = put("done", 1);
    let outcome = commit_one(&store, done.clone()).await;
    let outcomes = again(&store, vec![Unit::one(done), Unit::one(put("rest", 1))]).await.concat();
    assert_eq!(outcomes[0], outcome);
    assert_eq!(revisions(&outcomes[1]), (1, None));
    assert_eq!(world.count("SELECT count(*) FROM change_log").await, 2);
}
