//! What the database itself refuses fails alone.

use a2a_core::agent::AgentSpec;
use a2a_core::change::Outcome;
use a2a_core::json_text::JsonText;
use a2a_store::Unit;

use crate::document::{expecting, key, put, put_spec, remove, revisions, spec};
use crate::process::{Process, finish};
use crate::world::{World, commit_all, commit_units, newest, on_both};

const BATCH: usize = 64;

on_both!(
    one_bad_row_of_a_batch_fails_alone,
    several_bad_rows_fail_alone,
    a_unit_with_a_bad_row_fails_as_a_whole,
    the_writer_tells_each_caller_its_own,
);

/// A document that no table takes: the check of ids was gone around.
fn bad() -> AgentSpec {
    spec("", "bad")
}

fn is_rejected(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Rejected { .. })
}

async fn one_bad_row_of_a_batch_fails_alone(world: World) {
    let store = world.store().await;
    for position in 0..BATCH {
        let changes = (0..BATCH)
            .map(|n| if n == position { put_spec(bad()) } else { put(&format!("good-{n}"), position) })
            .collect();
        let outcomes = commit_all(&store, changes).await;
        for (n, outcome) in outcomes.iter().enumerate() {
            if n == position {
                assert!(is_rejected(outcome), "{position}: {outcome:?}");
            } else {
                let revision = i64::try_from(position).unwrap() + 1 - i64::from(n < position);
                assert_eq!(revisions(outcome).0, revision, "{n} of the batch with the bad row at {position}");
            }
        }
    }
    assert_eq!(world.count("SELECT count(*) FROM agents").await, i64::try_from(BATCH).unwrap());
    let writes = i64::try_from(BATCH * (BATCH - 1)).unwrap();
    assert_eq!(world.count("SELECT count(*) FROM change_log").await, writes);
    assert_eq!(world.count("SELECT sum(revision) FROM agents").await, writes);
}

async fn several_bad_rows_fail_alone(world: World) {
    let store = world.store().await;
    let is_bad = |n: usize| [0, 1, 31, 32, 40, 63].contains(&n);
    let changes: Vec<_> =
        (0..BATCH).map(|n| if is_bad(n) { put_spec(bad()) } else { put(&format!("good-{n}"), n) }).collect();
    let outcomes = commit_all(&store, changes).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(is_rejected(outcome), is_bad(n), "{n}: {outcome:?}");
        assert_eq!(outcome.is_success(), !is_bad(n));
    }
    // Each rejected alone, and with what depends on the order around them.
    assert!(is_rejected(&commit_all(&store, vec![put_spec(bad())]).await[0]));
    let changes = vec![put("x", 1), put_spec(bad()), expecting(1, put("x", 2)), remove("x")];
    let outcomes = commit_all(&store, changes).await;
    assert_eq!(revisions(&outcomes[2]), (2, Some(1)));
    assert_eq!(outcomes[3], Outcome::Removed { revision: 3, purged: false });
}

async fn a_unit_with_a_bad_row_fails_as_a_whole(world: World) {
    let store = world.store().await;
    let units = vec![
        Unit::one(put("before", 1)),
        Unit { changes: vec![put("left", 1), put_spec(bad()), put("right", 1)] },
        Unit::one(put("after", 1)),
    ];
    let outcomes = commit_units(&store, units).await;
    assert!(outcomes[0][0].is_success() && outcomes[2][0].is_success());
    assert_eq!(outcomes[1].len(), 3);
    assert!(outcomes[1].iter().all(is_rejected), "{:?}", outcomes[1]);
    for id in ["left", "right", ""] {
        assert!(newest(&store, &key(id)).await.is_none(), "{id:?}");
    }
}

async fn the_writer_tells_each_caller_its_own(world: World) {
    let process = Process::start(&world.location()).await;
    let submits = (0..BATCH).map(|n| {
        let change = if n % 9 == 4 { put_spec(bad()) } else { put(&format!("good-{n}"), n) };
        process.submit(change)
    });
    let outcomes = futures_util::future::join_all(submits).await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let outcome = outcome.unwrap();
        assert_eq!(is_rejected(&outcome), n % 9 == 4, "{n}: {outcome:?}");
        if let Outcome::Rejected { reason } = outcome {
            assert!(!reason.contains("agents") && !reason.contains("CHECK"), "no SQL for callers: {reason}");
        }
    }
    let stored = finish(&world, vec![process]).await;
    assert_eq!(stored.len(), (0..BATCH).filter(|n| n % 9 != 4).count());
}

/// Only Postgres has no place for NUL, and checks the JSON that it is given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_rejects_nul_and_broken_json_alone() {
    let Some(world) = World::postgres().await else { return };
    let store = world.store().await;
    let nul_name = AgentSpec { name: "a\0b".into(), ..spec("nul-name", 1) };
    let nul_config = AgentSpec { config: JsonText::from_stored("{\"a\": \"\0\"}"), ..spec("nul-config", 1) };
    let nul_id = spec("nul\0id", 1);
    for (n, document) in [nul_name, nul_config, nul_id].into_iter().enumerate() {
        let Ok(put_bad) = a2a_core::change::AgentPut::new(document, true) else {
            // A text that is no JSON does not even become a change.
            continue;
        };
        let bad = crate::document::change(a2a_core::change::Mutation::AgentPut(Box::new(put_bad)));
        let outcomes = commit_all(&store, vec![put("left", n), bad, put("right", n)]).await;
        assert!(outcomes[0].is_success() && outcomes[2].is_success(), "{outcomes:?}");
        assert!(is_rejected(&outcomes[1]), "{outcomes:?}");
    }
}
