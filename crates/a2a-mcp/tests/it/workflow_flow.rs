//! Runs across processes: saved in one, pulled and done in others, looked at anywhere.

use std::time::Duration;

use a2a_testing::stdio::ServerProcess;
use a2a_testing::wait::{wait_for, wait_until};
use serde_json::{Value, json};

use crate::world::{World, call, deploy, document as document_of, on_both, open, refused, whole_call};

on_both!(
    a_run_is_carried_by_several_sessions_to_its_end,
    an_output_that_does_not_fit_is_refused_and_the_claim_stays,
    a_claim_that_is_over_is_refused,
    a_step_is_taken_once,
    a_question_goes_to_a_person_and_its_answer_to_the_next_worker,
    an_answer_to_one_question_is_not_taken_for_another,
    a_cancelled_run_takes_nothing_any_more,
    a_failed_run_goes_on_where_it_failed,
    a_run_that_was_compensated_is_not_retried,
    a_fork_keeps_what_was_done_before,
    a_paused_run_hands_out_nothing,
    an_idempotency_key_starts_one_run,
    an_invocation_hands_over_to_the_next,
    steps_of_a_worker_that_was_killed_go_to_others,
    steps_of_a_session_that_ends_are_free_at_once,
    a_result_is_kept_although_the_session_ends_with_it,
);

/// How long anything may take to be seen by another process.
const SOON: Duration = Duration::from_secs(20);

async fn agents(server: &ServerProcess) {
    let schema = json!({
        "type": "object", "properties": {"verdict": {"enum": ["good", "bad"]}, "note": {"type": "string"}},
        "required": ["verdict"], "additionalProperties": false,
    });
    let capabilities = json!([{
        "name": "review", "output_schema": schema,
        "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    }]);
    let reviewer = json!({
        "id": "reviewer", "description": "Reviews.", "instructions": "Read it twice.", "capabilities": capabilities,
    });
    deploy(server, reviewer).await;
    deploy(server, json!({"id": "writer", "description": "Writes.", "instructions": "Be brief."})).await;
}

fn document() -> Value {
    json!({
        "id": "two-and-a-gate",
        "description": "Write and review, then ask.",
        "context": {"tone": "dry"},
        "steps": [
            {"name": "write", "agent": "writer", "input": {"topic": "{{ input.topic }}", "tone": "{{ context.tone }}"}},
            {"name": "count", "agent": "builtin:echo", "input": {"letters": "{{ input.topic | length }}"}},
            {"name": "review", "agent": "reviewer", "capability": "review", "depends_on": ["write"],
             "input": {"text": "{{ steps.write.output.text }}"}},
            {"name": "mend", "agent": "writer", "depends_on": ["review"],
             "run_if": "steps.review.output.verdict == 'bad'", "input": {"text": "{{ steps.write.output.text }}"}},
            {"name": "approve", "agent": "builtin:gate", "depends_on": ["mend", "count"],
             "input": {"question": "Print {{ steps.write.output.text }}?",
                       "schema": {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}}},
        ],
        "result": {"text": "{{ steps.write.output.text }}", "ok": "{{ steps.approve.output.ok }}",
                   "letters": "{{ steps.count.output.letters }}"},
    })
}

/// Takes a step for an agent, and waits for one.
async fn take(server: &ServerProcess, agent: &str) -> Value {
    wait_until(SOON, "the agent is seen", async || document_of(server, agent).await.is_some()).await;
    let taken = call(server, "work_next", json!({"agents": [agent], "wait_s": 20})).await;
    assert!(taken["claim"].is_string(), "no work for {agent}: {taken}");
    taken
}

async fn hand_in(server: &ServerProcess, taken: &Value, output: Value) -> Value {
    call(server, "work_finish", json!({"claim": taken["claim"], "status": "done", "output": output})).await
}

/// Waits until a run stands somewhere, as another process sees it.
async fn until(server: &ServerProcess, run: &Value, status: &str) -> Value {
    let look = async || {
        let shown = call(server, "workflow_status", json!({"run": run, "wait_s": 1})).await;
        (shown["run"]["status"] == status).then_some(shown)
    };
    wait_for(SOON, &format!("{run} is {status}"), look).await
}

fn step<'v>(shown: &'v Value, name: &str) -> &'v Value {
    let rows = shown["steps"].as_array().unwrap();
    rows.iter().find(|row| row["step"] == name).unwrap_or_else(|| panic!("no step {name} in {shown}"))
}

async fn started(server: &ServerProcess, arguments: Value) -> Value {
    call(server, "workflow_run", arguments).await["run"].clone()
}

async fn one_step(server: &ServerProcess, more: Value) -> Value {
    agents(server).await;
    let mut step = json!({"name": "only", "agent": "writer", "input": {"topic": "x"}});
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    started(server, json!({"steps": [step]})).await
}

async fn a_run_is_carried_by_several_sessions_to_its_end(world: World) {
    let (a, b) = (world.server().await, world.server().await);
    agents(&a).await;
    let saved = call(&a, "workflow_save", document()).await;
    assert_eq!((&saved["status"], &saved["revision"]), (&json!("created"), &json!(1)));
    assert_eq!(saved.get("warnings"), None, "{saved}");
    assert_eq!(call(&a, "workflow_save", document()).await["status"], "unchanged");
    let begun = call(&a, "workflow_run", json!({"workflow": "two-and", "input": {"topic": "owls"}})).await;
    let run = &begun["run"];
    assert!(begun["waits_for"][0].as_str().unwrap().contains("call work_next"), "{begun}");

    // The other process does the work.
    let writing = take(&b, "writer").await;
    assert_eq!(writing["input"], json!({"topic": "owls", "tone": "dry"}));
    assert_eq!(writing["brief"]["text"], "Be brief.");
    assert_eq!((&writing["step"]["run"], &writing["step"]["step"]), (run, &json!("write")));
    let noted = call(&b, "work_update", json!({"claim": writing["claim"], "progress": "half", "percent": 50})).await;
    assert_eq!(noted["claim"], "kept");
    let look = async || {
        let shown = call(&a, "workflow_status", json!({"run": run})).await;
        step(&shown, "write")["why"].as_str().unwrap_or_default().contains("50 %, says \"half\"").then_some(shown)
    };
    let shown = wait_for(SOON, "the progress is seen", look).await;
    assert_eq!(step(&shown, "review")["why"], "after write");
    // No row of the run has changed since it was made: what it does now is known from its steps.
    let listed = call(&a, "workflow_status", json!({"status": "RUNNING"})).await;
    assert_eq!((&listed["total"], &listed["runs"][0]["run"]), (&json!(1), run), "{listed}");
    assert_eq!(listed["runs"][0]["created_by"], shown["run"]["created_by"], "{listed}");
    assert!(shown["run"]["created_by"].is_string(), "{shown}");
    hand_in(&b, &writing, json!({"text": "Owls see."})).await;

    let reviewing = take(&a, "reviewer").await;
    assert_eq!(reviewing["input"], json!({"text": "Owls see."}));
    assert_eq!(reviewing["output_schema"]["required"], json!(["verdict"]));
    assert!(reviewing["next"].as_str().unwrap().contains("output_schema"), "{reviewing}");
    hand_in(&a, &reviewing, json!({"verdict": "good"})).await;

    let waiting = until(&b, run, "WAITING").await;
    assert_eq!(step(&waiting, "mend")["status"], "SKIPPED");
    let asked = step(&waiting, "approve");
    let why = asked["why"].as_str().unwrap();
    assert!(why.contains("\"Print Owls see.?\"") && why.contains("workflow_signal run="), "{why}");
    let wrong = refused(&b, "workflow_signal", json!({"run": run, "answer": {"ok": "perhaps"}})).await;
    assert!(wrong.text.contains("answer.ok"), "{wrong:?}");
    call(&b, "workflow_signal", json!({"run": run, "step": "approve", "answer": {"ok": true}})).await;

    let ended = until(&a, run, "COMPLETED").await;
    assert_eq!(ended["run"]["result"], json!({"text": "Owls see.", "ok": true, "letters": 4}));
    let full = whole_call(&b, "workflow_status", json!({"run": run, "detail": "full", "mermaid": true})).await;
    assert_eq!(full.structured["run"]["outputs"]["review"], json!({"verdict": "good"}));
    assert!(full.structured["mermaid"].as_str().unwrap().starts_with("flowchart"), "{full:?}");
    assert!(full.text.contains("<step-output step=\"write\" agent=\"writer\">"), "{}", full.text);
    let one = call(&a, "workflow_status", json!({"run": run, "step": "write"})).await;
    assert_eq!((&one["step"]["input"]["topic"], &one["step"]["output"]["text"]), (&json!("owls"), &json!("Owls see.")));
    let text = call(&a, "workflow_status", json!({"run": run, "step": "write", "part": "output", "offset": 9})).await;
    assert_eq!(text["text"], "Owls see.\"}");
    let list = call(&b, "workflow_status", json!({"status": "COMPLETED", "workflow": "two-and-a-gate"})).await;
    assert_eq!((&list["total"], &list["runs"][0]["run"], &list["runs"][0]["steps"]), (&json!(1), run, &json!("5/5")));
    let templates = call(&b, "workflow_status", json!({"list": "workflows"})).await;
    assert_eq!(templates["workflows"][0]["id"], "two-and-a-gate");
    a.finish().await;
    b.finish().await;
}

async fn an_output_that_does_not_fit_is_refused_and_the_claim_stays(world: World) {
    let a = world.server().await;
    agents(&a).await;
    let invoked = call(&a, "agent_invoke", json!({"agent": "reviewer", "input": {"text": "x"}})).await;
    assert!(invoked["next"].as_str().unwrap().contains("workflow_status"), "{invoked}");
    let wrong = refused(&a, "agent_invoke", json!({"agent": "reviewer", "input": {"txt": "x"}})).await;
    assert_eq!(wrong.code, "invalid");
    let taken = take(&a, "reviewer").await;
    for (output, part) in [(json!({"verdict": "fine"}), "output.verdict"), (json!("good"), "output:")] {
        let arguments = json!({"claim": taken["claim"], "status": "done", "output": output});
        let refusal = refused(&a, "work_finish", arguments).await;
        assert_eq!(refusal.code, "invalid");
        assert!(refusal.text.contains(part) && refusal.text.contains("claim stays"), "{refusal:?}");
    }
    hand_in(&a, &taken, json!({"verdict": "good"})).await;
    let shown = until(&a, &invoked["run"], "COMPLETED").await;
    assert_eq!(shown["run"]["result"], json!({"verdict": "good"}));
    a.finish().await;
}

async fn a_claim_that_is_over_is_refused(world: World) {
    let (a, b) = (world.server().await, world.server().await);
    let run = one_step(&a, json!({})).await;
    let taken = take(&b, "writer").await;
    call(&b, "work_finish", json!({"claim": taken["claim"], "status": "released"})).await;
    let again = take(&a, "writer").await;
    assert_ne!(taken["claim"], again["claim"]);
    for (tool, more) in [
        ("work_finish", json!({"status": "done", "output": "late"})),
        ("work_update", json!({"progress": "late"})),
        ("work_update", json!({"question": "late?"})),
    ] {
        let mut arguments = more;
        arguments["claim"] = taken["claim"].clone();
        let refusal = refused(&b, tool, arguments).await;
        assert_eq!((refusal.code.as_str(), refusal.retryable), ("claim_over", false), "{refusal:?}");
        assert!(refusal.text.contains("work_next"), "{refusal:?}");
    }
    hand_in(&a, &again, json!("in time")).await;
    assert_eq!(until(&b, &run, "COMPLETED").await["run"]["result"], "in time");
    let made_up = refused(&a, "work_finish", json!({"claim": "nonsense", "status": "released"})).await;
    assert!(made_up.text.contains("copy it from"), "{made_up:?}");
    a.finish().await;
    b.finish().await;
}

async fn a_step_is_taken_once(world: World) {
    let servers = world.servers(3).await;
    agents(&servers[0]).await;
    let steps: Vec<Value> = (0..12).map(|n| json!({"name": format!("s{n}"), "agent": "writer"})).collect();
    let run = started(&servers[0], json!({"steps": steps})).await;
    let taking = servers.iter().flat_map(|server| std::iter::repeat_n(server, 4));
    let taken = futures_util::future::join_all(taking.map(|server| take(server, "writer"))).await;
    let mut names: Vec<&str> = taken.iter().map(|taken| taken["step"]["step"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 12, "each step once");
    let none = call(&servers[1], "work_next", json!({})).await;
    assert_eq!(none.get("claim"), None, "{none}");
    for (n, taken) in taken.iter().enumerate() {
        hand_in(&servers[n % 3], taken, json!(n)).await;
    }
    until(&servers[2], &run, "COMPLETED").await;
    for server in servers {
        server.finish().await;
    }
}

async fn a_question_goes_to_a_person_and_its_answer_to_the_next_worker(world: World) {
    let (a, b) = (world.server().await, world.server().await);
    let run = one_step(&a, json!({})).await;
    let taken = take(&a, "writer").await;
    let schema = json!({"type": "string", "enum": ["red", "blue"]});
    let asked = json!({"claim": taken["claim"], "question": "Which colour?", "answer_schema": schema,
                       "checkpoint": {"page": 3}});
    assert_eq!(call(&a, "work_update", asked).await["claim"], "ended");
    let waiting = until(&b, &run, "WAITING").await;
    assert!(step(&waiting, "only")["why"].as_str().unwrap().contains("\"Which colour?\""), "{waiting}");
    let wrong = refused(&b, "workflow_signal", json!({"run": run, "answer": "green"})).await;
    assert_eq!(wrong.code, "invalid");
    call(&b, "workflow_signal", json!({"run": run, "answer": "red"})).await;
    let again = take(&b, "writer").await;
    assert_eq!((&again["answer"], &again["checkpoint"]["page"]), (&json!("red"), &json!(3)));
    hand_in(&b, &again, json!("a red page")).await;
    until(&a, &run, "COMPLETED").await;
    // Refused, it fails and nothing tries again.
    let run =
        started(&a, json!({"steps": [{"name": "ask", "agent": "builtin:gate", "input": {"question": "May I?"}}]}))
            .await;
    until(&b, &run, "WAITING").await;
    call(&b, "workflow_signal", json!({"run": run, "refuse": true, "answer": "not today"})).await;
    let failed = until(&a, &run, "FAILED").await;
    assert!(failed["run"]["error"].as_str().unwrap().contains("not today"), "{failed}");
    a.finish().await;
    b.finish().await;
}

async fn an_answer_to_one_question_is_not_taken_for_another(world: World) {
    let a = world.server().await;
    let run = one_step(&a, json!({})).await;
    let mut numbers = Vec::new();
    for question in ["First?", "Second?"] {
        let taken = take(&a, "writer").await;
        call(&a, "work_update", json!({"claim": taken["claim"], "question": question})).await;
        let asked = call(&a, "workflow_status", json!({"run": run, "step": "only"})).await["step"].clone();
        numbers.push(asked["question_number"].clone());
        let how = format!("question={} ", numbers[numbers.len() - 1]);
        assert!(asked["why"].as_str().unwrap().contains(&how), "{asked}");
        if question == "First?" {
            let answer = json!({"run": run, "step": "only", "question": numbers[0], "answer": 1});
            call(&a, "workflow_signal", answer).await;
        }
    }
    let late = json!({"run": run, "step": "only", "question": numbers[0], "answer": 2});
    let refusal = refused(&a, "workflow_signal", late).await;
    assert_eq!((refusal.code.as_str(), refusal.retryable), ("conflict", false));
    let named = format!("question={}", numbers[1]);
    assert!(refusal.text.contains("Second?") && refusal.text.contains(&named), "{refusal:?}");
    call(&a, "workflow_signal", json!({"run": run, "question": numbers[1], "answer": 3})).await;
    assert_eq!(take(&a, "writer").await["answer"], 3);
    a.finish().await;
}

async fn a_cancelled_run_takes_nothing_any_more(world: World) {
    let (a, b) = (world.server().await, world.server().await);
    let run = one_step(&a, json!({})).await;
    let taken = take(&b, "writer").await;
    let done = call(&a, "workflow_control", json!({"run": run, "action": "cancel", "reason": "enough"})).await;
    assert_eq!(done["status"], "CANCELLED");
    let late = json!({"claim": taken["claim"], "status": "done", "output": "late"});
    assert_eq!(refused(&b, "work_finish", late).await.code, "claim_over");
    until(&b, &run, "CANCELLED").await;
    let again = refused(&b, "workflow_control", json!({"run": run, "action": "retry"})).await;
    assert_eq!(again.code, "refused");
    a.finish().await;
    b.finish().await;
}

async fn a_failed_run_goes_on_where_it_failed(world: World) {
    let (a, b) = (world.server().await, world.server().await);
    agents(&a).await;
    let steps = json!([
        {"name": "first", "agent": "writer", "retry": {"max_attempts": 1}},
        {"name": "second", "agent": "writer", "depends_on": ["first"], "retry": {"max_attempts": 1}},
    ]);
    let run = started(&a, json!({"steps": steps})).await;
    hand_in(&a, &take(&a, "writer").await, json!("kept")).await;
    let taken = take(&b, "writer").await;
    let failed = json!({"claim": taken["claim"], "status": "failed", "error": "no ink", "retryable": false});
    call(&b, "work_finish", failed).await;
    let shown = until(&a, &run, "FAILED").await;
    assert!(step(&shown, "second")["why"].as_str().unwrap().contains("\"no ink\""), "{shown}");
    call(&a, "workflow_control", json!({"run": run, "action": "retry"})).await;
    let again = take(&b, "writer").await;
    assert_eq!(again["step"]["step"], "second");
    hand_in(&b, &again, json!("done")).await;
    until(&a, &run, "COMPLETED").await;
    let full = call(&a, "workflow_status", json!({"run": run, "detail": "full"})).await;
    assert_eq!(full["run"]["outputs"], json!({"first": "kept", "second": "done"}));
    a.finish().await;
    b.finish().await;
}

async fn a_run_that_was_compensated_is_not_retried(world: World) {
    let a = world.server().await;
    agents(&a).await;
    let steps = json!([
        {"name": "book", "agent": "builtin:echo"},
        {"name": "pay", "agent": "writer", "depends_on": ["book"], "on_failure": {"compensate": "unbook"}},
        {"name": "unbook", "agent": "builtin:echo", "depends_on": ["book"]},
    ]);
    let run = started(&a, json!({"steps": steps})).await;
    let taken = take(&a, "writer").await;
    let failed = json!({"claim": taken["claim"], "status": "failed", "error": "no money", "retryable": false});
    call(&a, "work_finish", failed).await;
    until(&a, &run, "FAILED").await;
    let refusal = refused(&a, "workflow_control", json!({"run": run, "action": "retry"})).await;
    assert_eq!(refusal.code, "refused");
    for part in ["compensation has completed", "action=fork", "workflow_run"] {
        assert!(refusal.text.contains(part), "{part}: {refusal:?}");
    }
    call(&a, "workflow_control", json!({"run": run, "action": "fork", "from": "book"})).await;
    hand_in(&a, &take(&a, "writer").await, json!("paid")).await;
    a.finish().await;
}

async fn a_fork_keeps_what_was_done_before(world: World) {
    let a = world.server().await;
    agents(&a).await;
    let steps = json!([
        {"name": "first", "agent": "writer"},
        {"name": "second", "agent": "writer", "depends_on": ["first"], "input": {"of": "{{ steps.first.output }}"}},
    ]);
    let run = started(&a, json!({"steps": steps})).await;
    hand_in(&a, &take(&a, "writer").await, json!("base")).await;
    hand_in(&a, &take(&a, "writer").await, json!("one")).await;
    until(&a, &run, "COMPLETED").await;
    let forked = call(&a, "workflow_control", json!({"run": run, "action": "fork", "from": "second"})).await;
    assert_ne!(forked["run"], run);
    let taken = take(&a, "writer").await;
    assert_eq!((&taken["step"]["step"], &taken["input"]["of"]), (&json!("second"), &json!("base")));
    hand_in(&a, &taken, json!("two")).await;
    assert_eq!(until(&a, &forked["run"], "COMPLETED").await["run"]["result"], "two");
    let wrong = refused(&a, "workflow_control", json!({"run": run, "action": "fork", "from": "third"})).await;
    assert_eq!(wrong.code, "not_found");
    a.finish().await;
}

async fn a_paused_run_hands_out_nothing(world: World) {
    let (a, b) = (world.server().await, world.server().await);
    let run = one_step(&a, json!({})).await;
    let paused = call(&b, "workflow_control", json!({"run": run, "action": "pause"})).await;
    assert_eq!(paused["paused"], true);
    assert_eq!(call(&b, "work_next", json!({})).await.get("claim"), None);
    let shown = call(&b, "workflow_status", json!({"run": run})).await;
    assert!(step(&shown, "only")["why"].as_str().unwrap().contains("resume"), "{shown}");
    call(&a, "workflow_control", json!({"run": run, "action": "resume"})).await;
    hand_in(&b, &take(&b, "writer").await, json!(1)).await;
    until(&a, &run, "COMPLETED").await;
    a.finish().await;
    b.finish().await;
}

async fn an_idempotency_key_starts_one_run(world: World) {
    let (a, b) = (world.server().await, world.server().await);
    let arguments = json!({"steps": [{"name": "e", "agent": "builtin:echo", "input": 1}], "idempotency_key": "k"});
    let runs = futures_util::future::join_all((0..6).map(|n| {
        let server = if n % 2 == 0 { &a } else { &b };
        call(server, "workflow_run", arguments.clone())
    }));
    let runs = runs.await;
    assert!(runs.iter().all(|run| run["run"] == runs[0]["run"]), "{runs:?}");
    assert_eq!(runs.iter().filter(|run| run["existing"] == true).count(), 5);
    until(&b, &runs[0]["run"], "COMPLETED").await;
    a.finish().await;
    b.finish().await;
}

async fn an_invocation_hands_over_to_the_next(world: World) {
    let a = world.server().await;
    agents(&a).await;
    let echo = json!({"id": "echo", "description": "Echoes.",
                      "executor": {"kind": "builtin", "settings": {"operation": "echo"}}});
    deploy(&a, echo).await;
    let first = call(&a, "agent_invoke", json!({"agent": "echo", "input": {"note": "{{ not an expression }}"}})).await;
    assert_eq!((&first["status"], &first["output"]["note"]), (&json!("COMPLETED"), &json!("{{ not an expression }}")));
    let second = call(&a, "agent_invoke", json!({"agent": "writer", "input": {}, "handoff_from": first["run"]})).await;
    let taken = take(&a, "writer").await;
    assert_eq!(taken["step"]["run"], second["run"]);
    assert_eq!(taken["context"]["handoff"]["result"]["note"], "{{ not an expression }}");
    hand_in(&a, &taken, json!("taken over")).await;
    until(&a, &second["run"], "COMPLETED").await;
    a.finish().await;
}

async fn steps_of_a_worker_that_was_killed_go_to_others(world: World) {
    let mut options = world.options();
    options.envs.push(("A2A_LEASE_MS".to_owned(), "1000".to_owned()));
    let (a, b) = (open(options.clone()).await, open(options).await);
    let run = one_step(&a, json!({})).await;
    let lost = take(&b, "writer").await;
    b.kill();
    let again = take(&a, "writer").await;
    assert_ne!(lost["claim"], again["claim"]);
    assert_eq!(again["step"]["attempt"], "2 of 3");
    hand_in(&a, &again, json!("after all")).await;
    assert_eq!(until(&a, &run, "COMPLETED").await["run"]["result"], "after all");
    a.finish().await;
}

/// A lease lasts 45 seconds; nobody waits for its end.
async fn steps_of_a_session_that_ends_are_free_at_once(world: World) {
    let b = world.server().await;
    agents(&b).await;
    for is_told in [false, true] {
        let steps = json!([{"name": "only", "agent": "writer", "retry": {"max_attempts": 1}}]);
        let run = started(&b, json!({"steps": steps})).await;
        let a = world.server().await;
        let taken = take(&a, "writer").await;
        if is_told {
            a.terminate()
        } else {
            a.close_stdin().await
        }
        assert!(a.wait_exit(SOON).await.is_some());
        let again = call(&b, "work_next", json!({"agents": ["writer"], "wait_s": 5})).await;
        assert_eq!(again["step"]["attempt"], "1 of 1", "no failure is counted: {again}");
        let attempt = |taken: &Value| -> u32 {
            let claim = taken["claim"].as_str().unwrap();
            claim.rsplit(':').next().unwrap().parse().unwrap()
        };
        assert_eq!(attempt(&again), attempt(&taken) + 1);
        let shown = call(&b, "workflow_status", json!({"run": run, "step": "only"})).await;
        assert_eq!(shown["step"]["failures"], 0, "{shown}");
        hand_in(&b, &again, json!("done by another")).await;
        until(&b, &run, "COMPLETED").await;
    }
    b.finish().await;
}

async fn a_result_is_kept_although_the_session_ends_with_it(world: World) {
    let b = world.server().await;
    for _ in 0..3 {
        let run = one_step(&b, json!({})).await;
        let a = world.server().await;
        let taken = take(&a, "writer").await;
        let arguments = json!({"claim": taken["claim"], "status": "done", "output": "just in time"});
        let call = json!({"name": "work_finish", "arguments": arguments});
        let _pending = a.request_start("tools/call", call).await.unwrap();
        a.close_stdin().await;
        assert!(a.wait_exit(SOON).await.is_some());
        assert_eq!(until(&b, &run, "COMPLETED").await["run"]["result"], "just in time");
    }
    b.finish().await;
}
