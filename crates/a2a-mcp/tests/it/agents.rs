//! What the tools do with agents.

use a2a_testing::stdio::{ServerOptions, ServerProcess};
use serde_json::{Value, json};

use crate::world::{World, call, deploy, document, on_both, open, refused, rows, whole_call};

on_both!(
    an_id_and_a_description_are_enough_and_the_same_again_changes_nothing,
    a_batch_is_done_in_part_or_as_a_whole,
    expected_revisions_are_held,
    a_repeated_op_id_is_not_applied_twice,
    an_agent_can_be_updated_rolled_back_and_deprecated,
    a_removed_agent_leaves_its_history_and_a_purged_one_nothing,
    lists_are_filtered_counted_and_paged,
    searches_find_what_is_needed_and_say_why,
    wrong_ids_name_the_nearest_and_starts_of_ids_are_enough,
    statistics_tell_what_is_there_and_who_called,
    lists_tell_what_is_known_of_reaching_an_agent,
    namespaces_do_not_meet,
);

async fn an_id_and_a_description_are_enough_and_the_same_again_changes_nothing(world: World) {
    let server = world.server().await;
    let small = json!({"id": "sql-tuner", "description": "Use for slow SQL."});
    let reply = whole_call(&server, "agent_deploy", json!({"agents": [small]})).await;
    assert_eq!(
        reply.structured,
        json!({
            "durability": "committed", "created": 1, "updated": 0, "unchanged": 0, "failed": 0,
            "agents": [{"id": "sql-tuner", "status": "created", "revision": 1}],
        })
    );
    assert_eq!(reply.text, "1 created (committed)\nsql-tuner created: revision 1");
    let shown = document(&server, "sql-tuner").await.unwrap();
    for (field, value) in [
        ("name", json!("sql-tuner")),
        ("version", json!("1.0.0")),
        ("category", json!("general")),
        ("enabled", json!(true)),
        ("executor", json!({"kind": "pull", "settings": {}})),
        ("revision", json!(1)),
        ("namespace", json!("default")),
    ] {
        assert_eq!(shown[field], value, "{field}: {shown}");
    }
    assert!(shown["updated_by"].as_str().unwrap().starts_with("integration-test 1.0.0 #"), "{shown}");

    let again = call(&server, "agent_deploy", json!({"agents": [small]})).await;
    assert_eq!((&again["unchanged"], &again["agents"][0]["revision"]), (&json!(1), &json!(1)));
    // What is written out as its default is the same document.
    let spelled = json!({"id": "sql-tuner", "description": "Use for slow SQL.", "category": "general", "tags": [], "config": null});
    assert_eq!(deploy(&server, spelled).await["status"], "unchanged");
    let other = world.server().await;
    assert_eq!(deploy(&other, small).await["status"], "unchanged");
    let changed = json!({"id": "sql-tuner", "description": "Use for slow queries.", "tags": ["b", "a", "b"]});
    let item = deploy(&other, changed).await;
    assert_eq!(item, json!({"id": "sql-tuner", "status": "updated", "revision": 2, "replaced_revision": 1}));
    assert_eq!(document(&other, "sql-tuner").await.unwrap()["tags"], json!(["a", "b"]));
    server.finish().await;
    other.finish().await;
}

async fn a_batch_is_done_in_part_or_as_a_whole(world: World) {
    let server = world.server().await;
    let good = |id: &str| json!({"id": id, "description": "good"});
    let bad = json!({"id": "bad one", "description": "x"});
    let part = call(&server, "agent_deploy", json!({"agents": [good("a"), bad, good("b")]})).await;
    assert_eq!((&part["created"], &part["failed"]), (&json!(2), &json!(1)));
    let statuses: Vec<&Value> = part["agents"].as_array().unwrap().iter().map(|item| &item["status"]).collect();
    assert_eq!(statuses, ["created", "failed", "created"], "in the order of the call");
    assert!(part["agents"][1]["error"].as_str().unwrap().contains("agents[1].id: has the character ' '"), "{part}");

    let refusal =
        refused(&server, "agent_deploy", json!({"agents": [good("c"), bad, good("d")], "atomic": true})).await;
    assert!(refusal.text.starts_with("agents[1].id"), "{refusal:?}");
    let double = json!({"agents": [good("c"), good("c")], "atomic": true});
    let refusal = refused(&server, "agent_deploy", double).await;
    assert!(refusal.text.contains("agents[1].id: is the same as that of agents[0]"), "{refusal:?}");
    let all_bad = refused(&server, "agent_deploy", json!({"agents": [bad, bad]})).await;
    assert_eq!((&*all_bad.code, all_bad.retryable), ("invalid", false));
    assert_eq!(rows(&server).await.unwrap().into_keys().collect::<Vec<_>>(), ["a", "b"], "nothing of the others");

    let whole =
        call(&server, "agent_deploy", json!({"agents": [good("c"), good("a"), good("d")], "atomic": true})).await;
    assert_eq!((&whole["created"], &whole["unchanged"]), (&json!(2), &json!(1)));
    let together = json!({"agents": [good("e"), good("f")], "expected_revision": 0});
    let refusal = refused(&server, "agent_deploy", together).await;
    assert!(refusal.text.contains("expected_revision: goes with one agent only"), "{refusal:?}");
    server.finish().await;
}

async fn expected_revisions_are_held(world: World) {
    let server = world.server().await;
    let with = |text: &str, expected: i64| json!({"agents": [{"id": "a", "description": text}], "expected_revision": expected});
    let refusal = refused(&server, "agent_deploy", with("one", 3)).await;
    assert_eq!((&*refusal.code, &refusal.details["current_revision"]), ("conflict", &json!(0)), "{refusal:?}");
    assert!(refusal.text.contains("does not exist; leave expected_revision out to make it"), "{refusal:?}");
    assert_eq!(call(&server, "agent_deploy", with("one", 0)).await["created"], 1);
    let refusal = refused(&server, "agent_deploy", with("two", 0)).await;
    assert_eq!((&*refusal.code, &refusal.details["current_revision"]), ("conflict", &json!(1)), "{refusal:?}");
    assert!(refusal.text.contains("exists at revision 1; expected_revision 0 means that it must not"), "{refusal:?}");
    assert_eq!(call(&server, "agent_deploy", with("two", 1)).await["agents"][0]["revision"], 2);
    // A process that has not seen the change yet is held to the database's revision, not to its own.
    let other = world.server().await;
    assert_eq!(call(&other, "agent_deploy", with("three", 2)).await["agents"][0]["revision"], 3);
    let refusal = refused(&server, "agent_deploy", with("four", 2)).await;
    assert_eq!(refusal.details["current_revision"], 3, "{refusal:?}");

    let seen = async || document(&server, "a").await.unwrap()["revision"] == 3;
    a2a_testing::wait::wait_until(std::time::Duration::from_secs(1), "the other's change is seen", seen).await;
    let set = json!({"enabled": false});
    let refusal = refused(&server, "agent_update", json!({"id": "a", "set": set})).await;
    assert!(
        refusal.text.contains("expected_revision: is required") && refusal.text.contains("revision 3"),
        "{refusal:?}"
    );
    let refusal = refused(&server, "agent_update", json!({"id": "a", "expected_revision": 1, "set": set})).await;
    assert_eq!((&*refusal.code, &refusal.details["current_revision"]), ("conflict", &json!(3)), "{refusal:?}");
    let refusal = refused(&server, "agent_remove", json!({"ids": ["a"], "expected_revision": 1})).await;
    assert_eq!((&*refusal.code, &refusal.details["current_revision"]), ("conflict", &json!(3)), "{refusal:?}");
    assert_eq!(document(&server, "a").await.unwrap()["description"], "three");
    call(&server, "agent_remove", json!({"ids": ["a"], "expected_revision": 3})).await;
    server.finish().await;
    other.finish().await;
}

async fn a_repeated_op_id_is_not_applied_twice(world: World) {
    let server = world.server().await;
    let op_id = "0193b5a0-0000-7000-8000-000000000001";
    let first = json!({"agents": [{"id": "a", "description": "by op"}], "op_id": op_id});
    assert_eq!(call(&server, "agent_deploy", first.clone()).await["agents"][0]["revision"], 1);
    deploy(&server, json!({"id": "a", "description": "changed since"})).await;
    // The client did not get the first answer and sends the call again, through another process.
    let other = world.server().await;
    for process in [&other, &server] {
        let again = call(process, "agent_deploy", first.clone()).await;
        assert_eq!(again["agents"][0]["revision"], 1, "{again}");
        assert_eq!(document(process, "a").await.unwrap()["description"], "changed since");
    }
    let op_id = "0193b5a0-0000-7000-8000-000000000002";
    let update = json!({"id": "a", "expected_revision": 2, "set": {"tags": ["x"]}, "op_id": op_id});
    for process in [&server, &other, &server] {
        let done = call(process, "agent_update", update.clone()).await;
        assert_eq!(done["revision"], 3, "{done}");
    }
    server.finish().await;
    other.finish().await;
}

async fn an_agent_can_be_updated_rolled_back_and_deprecated(world: World) {
    let server = world.server().await;
    deploy(&server, json!({"id": "a", "description": "one", "tags": ["x"], "config": {"n": 1}})).await;
    let mut revision = 1;
    let mut update = async |change: Value| {
        let mut arguments = json!({"id": "a", "expected_revision": revision});
        arguments.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let done = call(&server, "agent_update", arguments).await;
        assert_eq!((&done["durability"], &done["status"]), (&json!("committed"), &json!("updated")));
        revision += 1;
        assert_eq!((&done["revision"], &done["replaced_revision"]), (&json!(revision), &json!(revision - 1)));
        document(&server, "a").await.unwrap()
    };
    let shown = update(json!({"set": {"description": "two", "enabled": false}})).await;
    assert_eq!(
        (&shown["description"], &shown["enabled"], &shown["tags"]),
        (&json!("two"), &json!(false), &json!(["x"]))
    );
    let shown = update(json!({"set": {"config": {"m": 2}, "tags": [], "enabled": true}})).await;
    assert_eq!((&shown["config"], &shown["tags"]), (&json!({"m": 2}), &Value::Null));
    let shown = update(json!({"set": {"deprecated": {"successor": "b", "reason": "newer"}}})).await;
    assert_eq!(shown["deprecated"], json!({"successor": "b", "reason": "newer"}));
    let row = whole_call(&server, "agent_list", json!({"deprecated": true})).await;
    assert_eq!(row.structured["agents"][0]["deprecated"], "use b");
    assert!(row.text.contains("(deprecated: use b)"), "{}", row.text);
    let shown = update(json!({"set": {"deprecated": null}})).await;
    assert_eq!(shown["deprecated"], Value::Null);
    let shown = update(json!({"rollback_to": 1})).await;
    assert_eq!((&shown["description"], &shown["config"]), (&json!("one"), &json!({"n": 1})));
    // A rollback takes changes on top.
    let shown = update(json!({"rollback_to": 2, "set": {"name": "Second"}})).await;
    assert_eq!((&shown["description"], &shown["name"]), (&json!("two"), &json!("Second")));
    for (change, part) in [
        (json!({"rollback_to": 99}), "rollback_to: there is no document of \"a\" at revision 99"),
        (json!({"set": {"id": "b"}}), "set.id: can't be changed"),
        (json!({"set": {"namespace": "b"}}), "set.namespace: can't be changed"),
    ] {
        let mut arguments = json!({"id": "a", "expected_revision": revision});
        arguments.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refusal = refused(&server, "agent_update", arguments).await;
        assert!(refusal.text.contains(part), "{part}: {refusal:?}");
    }
    let refusal = refused(&server, "agent_update", json!({"id": "aa", "expected_revision": 1, "set": {}})).await;
    assert_eq!((&*refusal.code, &refusal.details["nearest"]), ("not_found", &json!(["a"])), "{refusal:?}");
    server.finish().await;
}

async fn a_removed_agent_leaves_its_history_and_a_purged_one_nothing(world: World) {
    let server = world.server().await;
    for text in ["one", "two"] {
        deploy(&server, json!({"id": "a", "description": text})).await;
    }
    let removed = call(&server, "agent_remove", json!({"ids": ["a", "b"]})).await;
    assert_eq!((&removed["removed"], &removed["failed"]), (&json!(1), &json!(1)));
    // The failed ones come first.
    assert_eq!(removed["agents"][1], json!({"id": "a", "status": "removed", "revision": 3}));
    assert_eq!(removed["agents"][0]["status"], "failed");
    assert_eq!(document(&server, "a").await, None);
    let again = refused(&server, "agent_remove", json!({"ids": ["a"]})).await;
    assert_eq!(again.code, "not_found", "{again:?}");

    let item = deploy(&server, json!({"id": "a", "description": "three"})).await;
    assert_eq!((&item["status"], &item["revision"]), (&json!("created"), &json!(4)), "the revision goes on");
    let rollback = json!({"id": "a", "expected_revision": 4, "rollback_to": 1});
    assert_eq!(call(&server, "agent_update", rollback).await["revision"], 5);
    assert_eq!(document(&server, "a").await.unwrap()["description"], "one");

    let purged = call(&server, "agent_remove", json!({"ids": ["a"], "purge": true})).await;
    assert_eq!(purged["agents"][0]["status"], "purged");
    let after = deploy(&server, json!({"id": "a", "description": "four"})).await;
    assert_eq!(after["status"], "created");
    let revision = after["revision"].as_i64().unwrap();
    assert!(revision > 5, "no process may take the new agent for an older one: {after}");
    let rollback = json!({"id": "a", "expected_revision": revision, "rollback_to": 1});
    let refusal = refused(&server, "agent_update", rollback).await;
    assert!(refusal.text.contains("there is no document"), "{refusal:?}");
    let fresh = world.server().await;
    assert_eq!(rows(&fresh).await.unwrap(), rows(&server).await.unwrap());
    fresh.finish().await;
    server.finish().await;
}

async fn lists_are_filtered_counted_and_paged(world: World) {
    let server = world.server().await;
    let agents: Vec<Value> = (0..50)
        .map(|n| {
            let tags = [format!("mod{}", n % 3), "all".to_owned()];
            json!({
                "id": format!("agent-{n:02}"), "description": format!("Number {n}."), "tags": tags,
                "category": if n % 2 == 0 { "even" } else { "odd" }, "enabled": n % 10 != 0,
                "capabilities": [{"name": format!("cap{}", n % 5)}],
                "deprecated": if n == 7 { json!({"reason": "seven"}) } else { Value::Null },
            })
        })
        .collect();
    call(&server, "agent_deploy", json!({"agents": agents, "atomic": true})).await;
    for (filter, total) in [
        (json!({}), 50),
        (json!({"category": "EVEN"}), 25),
        (json!({"tags": ["mod0", "mod1"]}), 34),
        (json!({"tags_all": ["mod0", "all"]}), 17),
        (json!({"tags_none": ["mod0"]}), 33),
        (json!({"enabled": false}), 5),
        (json!({"deprecated": true}), 1),
        (json!({"deprecated": false}), 49),
        (json!({"capability": "cap1"}), 10),
        (json!({"executor": "pull"}), 50),
        (json!({"executor": "http"}), 0),
        (json!({"text": "number 7"}), 1),
        (json!({"category": "odd", "tags": ["mod1"], "capability": "cap1", "enabled": true}), 2),
    ] {
        let mut all = filter.clone();
        all["limit"] = json!(200);
        let page = call(&server, "agent_list", all).await;
        assert_eq!((&page["total"], page["agents"].as_array().unwrap().len()), (&json!(total), total), "{filter}");
    }
    let facets = call(&server, "agent_list", json!({"facets": true, "limit": 0})).await["facets"].clone();
    assert_eq!(facets["categories"], json!([["even", 25], ["odd", 25]]));
    assert_eq!(facets["tags"], json!([["all", 50], ["mod0", 17], ["mod1", 17], ["mod2", 16]]));

    // Pages stay stable while agents come and go.
    let first = call(&server, "agent_list", json!({"limit": 20})).await;
    assert!(first["hint"].is_string(), "{first}");
    call(&server, "agent_remove", json!({"ids": ["agent-03", "agent-25"]})).await;
    deploy(&server, json!({"id": "agent-000", "description": "before"})).await;
    deploy(&server, json!({"id": "agent-30a", "description": "between"})).await;
    let mut seen: Vec<String> = Vec::new();
    let mut page = first;
    loop {
        let ids = page["agents"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned());
        seen.extend(ids);
        let Some(cursor) = page["next_cursor"].as_str().map(str::to_owned) else { break };
        page = call(&server, "agent_list", json!({"limit": 20, "cursor": cursor})).await;
    }
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(seen, sorted, "in the order of ids, and none twice");
    assert!(seen.contains(&"agent-30a".to_owned()) && !seen.contains(&"agent-25".to_owned()));
    assert_eq!(seen.len(), 50);
    let cursor = call(&server, "agent_list", json!({"limit": 5})).await["next_cursor"].clone();
    let refusal = refused(&server, "agent_list", json!({"limit": 5, "cursor": cursor, "category": "odd"})).await;
    assert!(refusal.text.starts_with("cursor: "), "{refusal:?}");
    server.finish().await;
}

async fn searches_find_what_is_needed_and_say_why(world: World) {
    let server = world.server().await;
    let agents = json!([
        {"id": "sql-tuner", "description": "Finds slow queries.", "instructions": "Read the execution plan of the database."},
        {"id": "release-notes", "name": "Release notes", "description": "Writes what changed.", "tags": ["git"]},
        {"id": "old", "description": "Finds slow queries too.", "enabled": false},
    ]);
    call(&server, "agent_deploy", json!({"agents": agents})).await;
    let best = async |arguments: Value| call(&server, "agent_search", arguments).await["agents"][0].clone();
    for (query, expected) in [
        ("sql-tuner", "sql-tuner"),
        ("Release Notes", "release-notes"),
        ("a query is slow", "sql-tuner"),
        ("execution plan", "sql-tuner"),
        ("changes", "release-notes"),
        ("relaese notes", "release-notes"),
        ("sql-t", "sql-tuner"),
    ] {
        let hit = best(json!({"query": query})).await;
        assert_eq!(hit["id"], expected, "{query}: {hit}");
        assert!(hit["why"].as_str().is_some_and(|why| !why.is_empty()), "{query}: {hit}");
        assert!(hit["score"].as_f64().is_some_and(|score| score > 0.0 && score <= 1.0), "{query}: {hit}");
    }
    assert_eq!(call(&server, "agent_search", json!({"query": "slow"})).await["total"], 1);
    assert_eq!(call(&server, "agent_search", json!({"query": "slow", "include_disabled": true})).await["total"], 2);
    assert_eq!(call(&server, "agent_search", json!({"query": "slow", "tags": ["git"]})).await["total"], 0);
    let none = whole_call(&server, "agent_search", json!({"query": "volcano"})).await;
    assert_eq!(none.structured["total"], 0);
    assert!(none.text.starts_with("no agent fits"), "{}", none.text);
    server.finish().await;
}

async fn wrong_ids_name_the_nearest_and_starts_of_ids_are_enough(world: World) {
    let server = world.server().await;
    let agents = ["data-loader", "data-cleaner", "release-notes"].map(|id| json!({"id": id, "description": "d"}));
    call(&server, "agent_deploy", json!({"agents": agents})).await;
    assert_eq!(call(&server, "agent_list", json!({"ids": ["rel"]})).await["agents"][0]["id"], "release-notes");
    let refusal = refused(&server, "agent_list", json!({"ids": ["data-loder"]})).await;
    assert!(refusal.text.contains("there is no agent \"data-loder\"; nearest: data-loader"), "{refusal:?}");
    let refusal = refused(&server, "agent_list", json!({"ids": ["data-"]})).await;
    assert!(refusal.text.contains("fits several agents") && refusal.text.contains("data-cleaner"), "{refusal:?}");
    let some = call(&server, "agent_list", json!({"ids": ["data-loader", "nothing"]})).await;
    assert_eq!((&some["total"], some["missing"].as_array().unwrap().len()), (&json!(1), 1));
    server.finish().await;
}

async fn statistics_tell_what_is_there_and_who_called(world: World) {
    let server = world.server().await;
    deploy(&server, json!({"id": "a", "description": "d", "category": "x", "tags": ["t"]})).await;
    deploy(&server, json!({"id": "b", "description": "d", "enabled": false})).await;
    let stats = call(&server, "registry_stats", json!({})).await;
    assert_eq!((&stats["agents"]["total"], &stats["agents"]["disabled"]), (&json!(2), &json!(1)));
    assert_eq!(stats["agents"]["categories"], json!([["general", 1], ["x", 1]]));
    assert_eq!(stats["storage"]["mode"], "persisted");
    assert_eq!((&stats["database"]["reachable"], &stats["database"]["agents"]), (&json!(true), &json!(2)));
    assert_eq!(stats["feed"]["connected"], true);
    let location = stats["storage"]["location"].as_str().unwrap();
    assert!(!location.contains("password") && !location.contains('@'), "{location}");
    if let World::Sqlite(_) = world {
        assert!(location.ends_with("a2a.db"), "{location}");
    }
    // What tools were called is written with a delay of a second at most.
    let counted = async || {
        let stats = call(&server, "registry_stats", json!({})).await;
        let usage = stats["usage"].as_array().cloned().unwrap_or_default();
        usage.iter().any(|row| row["tool"] == "agent_deploy" && row["calls"] == 2 && row["errors"] == 0)
    };
    a2a_testing::wait::wait_until(std::time::Duration::from_secs(5), "the usage is written", counted).await;
    server.finish().await;
}

async fn lists_tell_what_is_known_of_reaching_an_agent(world: World) {
    let (server, other) = (world.server().await, world.server().await);
    for (id, kind) in [("echo", "builtin"), ("idle", "pull"), ("worker", "pull")] {
        let settings = if kind == "builtin" { json!({"operation": "echo"}) } else { json!({}) };
        deploy(&server, json!({"id": id, "description": "d", "executor": {"kind": kind, "settings": settings}})).await;
    }
    call(&server, "work_next", json!({"agents": ["worker"]})).await;
    let listed = async |server: &ServerProcess, arguments: Value| call(server, "agent_list", arguments).await;
    for server in [&server, &other] {
        a2a_testing::wait::wait_until(std::time::Duration::from_secs(5), "the contact", async || {
            listed(server, json!({"status": "reachable"})).await["total"] == 2
        })
        .await;
        let reply = whole_call(server, "agent_list", json!({})).await;
        let agents = &reply.structured["agents"];
        // What runs in every process has no time, and what is only declared is not told at all.
        assert_eq!((&agents[0]["status"], agents[0].get("last_checked")), (&json!("reachable"), None), "{agents}");
        assert_eq!((agents[1].get("status"), agents[1].get("last_checked")), (None, None), "{agents}");
        assert_eq!(agents[2]["status"], "reachable");
        assert!(agents[2]["last_checked"].as_str().unwrap().ends_with('Z'), "{agents}");
        assert_eq!(agents[2]["revision"], 1, "no change of the agent");
        let line = reply.text.lines().find(|line| line.starts_with("worker")).unwrap();
        assert!(line.contains("(reachable ") && line.contains(" ago") | line.contains("just now"), "{line}");
        let full = listed(server, json!({"ids": ["idle", "worker"], "detail": "full"})).await;
        assert_eq!(
            (&full["agents"][0]["status"], &full["agents"][1]["status"]),
            (&json!("declared"), &json!("reachable"))
        );
        let found = call(server, "agent_search", json!({"query": "worker"})).await;
        assert_eq!(found["agents"][0]["status"], "reachable", "{found}");
        let stats = call(server, "registry_stats", json!({})).await;
        assert_eq!((&stats["agents"]["reachable"], &stats["agents"]["unreachable"]), (&json!(2), &json!(0)));
    }
    let refusal = refused(&server, "agent_list", json!({"status": "alive"})).await;
    assert!(refusal.text.contains("declared, reachable"), "{refusal:?}");
    server.finish().await;
    other.finish().await;
}

async fn namespaces_do_not_meet(world: World) {
    let mut options = world.options();
    options.envs.push(("A2A_NAMESPACE".into(), "team".into()));
    let (server, team) = (world.server().await, open(options).await);
    deploy(&server, json!({"id": "a", "description": "everybody's"})).await;
    let done = call(&team, "agent_deploy", json!({"agents": [{"id": "a", "description": "the team's"}]})).await;
    assert_eq!(done["created"], 1);
    assert_eq!(document(&server, "a").await.unwrap()["description"], "everybody's");
    assert_eq!(document(&team, "a").await.unwrap()["description"], "the team's");
    let named =
        async || call(&team, "agent_list", json!({"namespace": "default"})).await["agents"][0]["description"].clone();
    let seen = async || named().await == "everybody's";
    a2a_testing::wait::wait_until(std::time::Duration::from_secs(1), "the other's agent is seen", seen).await;
    call(&team, "agent_remove", json!({"ids": ["a"]})).await;
    assert_eq!(document(&team, "a").await, None);
    assert!(document(&server, "a").await.is_some());
    let refusal = refused(&server, "agent_list", json!({"namespace": "not good"})).await;
    assert!(refusal.text.contains("namespace: has the character ' '"), "{refusal:?}");
    server.finish().await;
    team.finish().await;
}

#[tokio::test]
async fn in_memory_mode_a_write_is_accepted_and_no_file_is_written() {
    for envs in [[("A2A_STORAGE", "memory")], [("USE_PERSISTED_REGISTRY", "false")]] {
        let home = tempfile::tempdir().unwrap();
        let server = open(ServerOptions::new(&["serve"], &envs).home(home.path())).await;
        let reply = whole_call(&server, "agent_deploy", json!({"agents": [{"id": "a", "description": "d"}]})).await;
        assert_eq!(reply.structured["durability"], "accepted");
        for word in ["committed", "deployed", "stored"] {
            assert!(!reply.text.contains(word), "{}", reply.text);
        }
        assert!(reply.text.contains("in memory only"), "{}", reply.text);
        let update = json!({"id": "a", "expected_revision": 1, "set": {"tags": ["x"]}});
        let update = whole_call(&server, "agent_update", update).await;
        assert_eq!((&update.structured["durability"], &update.structured["revision"]), (&json!("accepted"), &json!(2)));
        assert_eq!(call(&server, "registry_stats", json!({})).await["storage"]["mode"], "memory");
        let removed = call(&server, "agent_remove", json!({"ids": ["a"]})).await;
        assert_eq!(removed["durability"], "accepted");
        server.finish().await;
        let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn agents_are_there_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(&["serve"], &[]).home(home.path());
    let first: ServerProcess = open(options.clone()).await;
    deploy(&first, json!({"id": "kept", "description": "in the default file", "config": {"n": 1}})).await;
    let before = document(&first, "kept").await;
    first.finish().await;
    let second = open(options).await;
    assert_eq!(document(&second, "kept").await, before);
    second.finish().await;
}
