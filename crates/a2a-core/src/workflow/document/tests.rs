//! Reading and compiling workflow documents.

use std::collections::BTreeSet;

use proptest::prelude::*;
use schemars::schema_for;
use serde_json::{Value, json};

use super::*;
use crate::limits;
use crate::workflow::definition::{OnFailure, Retry};

fn read(document: &Value) -> Result<WorkflowSpec, Problems> {
    WorkflowSpec::from_document(document, "", &Namespace::default())
}

fn compile(document: &Value) -> Result<Definition, Problems> {
    Definition::from_document(document, "", &Namespace::default())
}

/// Fails unless the problems are these, each given by its path and a part of its message.
fn expect(result: Result<impl std::fmt::Debug, Problems>, expected: &[(&str, &str)]) {
    let problems = result.unwrap_err();
    for (path, part) in expected {
        let is_there = problems.0.iter().any(|problem| problem.path == *path && problem.message.contains(part));
        assert!(is_there, "{path}: {part} not in\n{}", problems.to_string().replace("; ", ";\n"));
    }
    assert_eq!(problems.0.len(), expected.len(), "{}", problems.to_string().replace("; ", ";\n"));
}

fn full() -> Value {
    json!({
        "namespace": "team", "id": "review-release", "name": "Review", "description": "Before each release.",
        "context": {"channel": "#releases"}, "result": {"notes": "{{ steps.draft.output }}"},
        "timeout_s": 3600, "max_parallel": 4,
        "steps": [
            {"name": "draft", "agent": "writer", "capability": "summarize", "input": {"of": "{{ input.pr }}"},
             "retry": {"max_attempts": 5, "backoff_ms": 10, "backoff_max_ms": 20}, "timeout_s": 60,
             "on_failure": {"compensate": "undo"}},
            {"name": "gate", "agent": "builtin:gate", "depends_on": [{"step": "draft", "required": true}],
             "input": {"question": "Go?"}, "run_if": "context.channel", "skip_if": "input.quick", "on_failure": "continue"},
            {"name": "undo", "agent": "writer", "depends_on": ["draft"]}
        ]
    })
}

#[test]
fn a_whole_document_is_read_and_written_without_loss() {
    let spec = read(&full()).unwrap();
    let written: Value = serde_json::from_str(&spec.to_json().unwrap()).unwrap();
    assert_eq!(read(&written).unwrap(), spec);
    for (field, value) in full().as_object().unwrap() {
        if field != "steps" {
            assert_eq!(&written[field], value, "{field}");
        }
    }
    assert_eq!(Definition::from_stored(&spec.to_json().unwrap()).unwrap().spec, spec);
}

#[test]
fn problems_of_the_graph_are_told_with_those_of_the_fields() {
    let document = json!({"steps": [
        {"name": "a", "agent": "w", "retry": {"max_attempts": 0}, "depends_on": ["b", "nobody"]},
        {"name": "b", "agnt": "w", "depends_on": ["a"]},
        "not a step",
        {"agent": "w", "depends_on": ["missing", 7], "input": "{{ steps.none.output }}"},
        {"name": "gate", "agent": "builtin:gate", "input": {"question": "a\u{0}b"}},
        {"name": "a", "agent": "builtin:wait", "input": {}}]});
    let expected = [
        ("id", "is required"),
        ("steps[0].retry.max_attempts", "is 0"),
        ("steps[0].depends_on[1]", "there is no step \"nobody\""),
        ("steps[0].depends_on", "depends on itself: a → b → a"),
        ("steps[1].agent", "is required"),
        ("steps[1].agnt", "did you mean \"agent\"?"),
        ("steps[2]", "must be an object"),
        ("steps[3].name", "is required"),
        ("steps[3].depends_on[0]", "there is no step \"missing\""),
        ("steps[3].depends_on[1]", "must be an object, not a number"),
        ("steps[3].input", "there is no step \"none\""),
        ("steps[4].input.question", "NUL"),
        ("steps[5].name", "is the name of steps[0] already"),
        ("steps[5].input", "needs either seconds"),
    ];
    expect(compile(&document), &expected);
    expect(compile(&json!([])), &[("", "must be an object, not a list")]);
    expect(compile(&json!({"id": "x"})), &[("steps", "is required")]);
}

#[test]
fn what_a_document_leaves_out_has_its_default() {
    let spec = read(&json!({"id": "w", "steps": [{"name": "a", "agent": "x"}]})).unwrap();
    assert_eq!((&*spec.name, &*spec.description, spec.context.as_str()), ("w", "", "{}"));
    let step = &spec.steps[0];
    assert_eq!(step.retry, Retry { max_attempts: 3, backoff_ms: 1_000, backoff_max_ms: 60_000 });
    assert_eq!((&step.on_failure, step.input.as_str(), step.timeout_s), (&OnFailure::Fail, "{}", None));
}

#[test]
fn all_problems_of_a_document_are_reported_at_once() {
    let document = json!({
        "name": " ", "context": [], "timeout_s": 0, "max_paralel": 1,
        "steps": [
            {"agent": "a b", "depends_on": ["x y", {"required": true}, 3]},
            {"name": "a.b", "agent": "x", "on_failure": "ignore"},
            {"name": "c", "retry": {"max_attempts": 101, "backof_ms": 1}, "on_failure": {"compensat": "d"}},
            "d",
            {"name": "e", "agent": "x", "depends_on": ["c", "c"], "run_if": " ", "on_failure": 1,
             "retry": {"backoff_ms": 10, "backoff_max_ms": 5}},
            {"name": "c", "agent": "x"},
            {"name": "e", "agent": "x"}
        ]
    });
    expect(
        read(&document),
        &[
            ("id", "is required"),
            ("name", "is empty"),
            ("context", "must be an object"),
            ("timeout_s", "from 1 to"),
            ("max_paralel", r#"did you mean "max_parallel"?"#),
            ("steps[0].name", "is required"),
            ("steps[0].agent", "has the character ' '"),
            ("steps[0].depends_on[0]", "has the character ' '"),
            ("steps[0].depends_on[1].step", "is required"),
            ("steps[0].depends_on[2]", "must be an object"),
            ("steps[1].name", "has the character '.'"),
            ("steps[1].on_failure", r#"use "fail", "continue" or"#),
            ("steps[2].agent", "is required"),
            ("steps[2].retry.max_attempts", "is 101; use a number from 1 to 100"),
            ("steps[2].retry.backof_ms", "backoff_ms"),
            ("steps[2].on_failure.compensate", "is required"),
            ("steps[2].on_failure.compensat", "compensate"),
            ("steps[3]", "must be an object, not a text"),
            ("steps[4].depends_on[1]", "listed twice"),
            ("steps[4].run_if", "is empty"),
            ("steps[4].on_failure", "must not be a number"),
            ("steps[4].retry.backoff_max_ms", "less than backoff_ms"),
            ("steps[5].name", "is the name of steps[2] already"),
            ("steps[6].name", "is the name of steps[4] already"),
        ],
    );
    expect(read(&json!({"id": "w"})), &[("steps", "is required")]);
    expect(read(&json!({"id": "w", "steps": []})), &[("steps", "is required")]);
}

#[test]
fn the_number_of_steps_is_limited_exactly() {
    let document = |n: usize| {
        let steps: Vec<Value> = (0..n).map(|i| json!({"name": format!("s{i}"), "agent": "x"})).collect();
        json!({"id": "w", "steps": steps})
    };
    for n in [limits::WORKFLOW_STEPS_MAX - 1, limits::WORKFLOW_STEPS_MAX] {
        assert!(compile(&document(n)).is_ok(), "{n}");
    }
    expect(read(&document(limits::WORKFLOW_STEPS_MAX + 1)), &[("steps", "has 501 items")]);
}

#[test]
fn the_size_the_depth_and_the_names_are_limited_exactly() {
    let sized = |n: usize| json!({"id": "w", "context": {"x": "y".repeat(n)}, "steps": [{"name": "a", "agent": "x"}]});
    let rest = read(&sized(0)).unwrap().to_json().unwrap().len();
    let room = limits::DOCUMENT_BYTES_MAX - rest;
    assert!(read(&sized(room - 1)).is_ok() && read(&sized(room)).is_ok());
    expect(read(&sized(room + 1)), &[("", "the whole document has 262145 bytes")]);

    let deep = |n: usize| {
        let input = (0..n).fold(json!(1), |inner, _| json!([inner]));
        json!({"id": "w", "steps": [{"name": "a", "agent": "x", "input": input}]})
    };
    assert!(read(&deep(limits::JSON_DEPTH_MAX)).is_ok());
    expect(read(&deep(limits::JSON_DEPTH_MAX + 1)), &[("steps[0].input", "nested deeper than 64")]);

    let named = |n: usize| json!({"id": "w", "steps": [{"name": "n".repeat(n), "agent": "x"}]});
    assert!(read(&named(limits::STEP_NAME_CHARS_MAX)).is_ok());
    expect(read(&named(limits::STEP_NAME_CHARS_MAX + 1)), &[("steps[0].name", "has 65 characters")]);
}

#[test]
fn numbers_are_limited_exactly() {
    let limits: [(&str, i64, i64); 5] = [
        ("timeout_s", 1, limits::TIMEOUT_S_MAX.into()),
        ("max_parallel", 1, 500),
        ("/max_attempts", 1, limits::ATTEMPTS_MAX.into()),
        ("/backoff_ms", 0, limits::BACKOFF_MS_MAX.into()),
        ("/backoff_max_ms", 0, limits::BACKOFF_MS_MAX.into()),
    ];
    for (field, least, most) in limits {
        for number in [least - 1, least, least + 1, most - 1, most, most + 1] {
            let mut document = json!({"id": "w", "steps": [{"name": "a", "agent": "x", "retry": {"backoff_ms": 0}}]});
            match field.strip_prefix('/') {
                Some(field) => document["steps"][0]["retry"][field] = json!(number),
                None => document[field] = json!(number),
            }
            assert_eq!(read(&document).is_ok(), (least..=most).contains(&number), "{field} {number}");
        }
    }
}

#[test]
fn nul_characters_are_refused_with_their_place() {
    let document = json!({"id": "w", "steps": [{"name": "a", "agent": "x", "input": {"list": ["ok", "a\0b"]}}]});
    expect(read(&document), &[("steps[0].input.list[1]", "NUL")]);
}

#[test]
fn all_problems_of_the_graph_and_its_expressions_are_reported_at_once() {
    let document = json!({"id": "w", "result": "{{ steps.nobody.output }} {{ inputs.x }}", "steps": [
        {"name": "fetch", "agent": "x", "depends_on": ["fetsh", "fetch"]},
        {"name": "a", "agent": "builtin:ecko", "depends_on": ["c"]},
        {"name": "b", "agent": "x", "depends_on": ["a"]},
        {"name": "c", "agent": "x", "depends_on": ["b"]},
        {"name": "behind", "agent": "x", "depends_on": ["c"]},
        {"name": "reads", "agent": "x", "input": {"list": ["{{ steps.fetch.output }}", "{{ 1 + }}"]},
         "run_if": "steps.fetch.output and contxt.x", "skip_if": "x is nothing"},
        {"name": "late", "agent": "x", "depends_on": ["early"]},
        {"name": "early", "agent": "x", "run_if": "steps.late.output", "skip_if": "steps.early.output"},
        {"name": "wait", "agent": "builtin:wait"},
        {"name": "gate", "agent": "builtin:gate", "input": {"ask": 1}},
        {"name": "fails", "agent": "x", "on_failure": {"compensate": "undu"}},
        {"name": "undo", "agent": "x", "on_failure": {"compensate": "fetch"}},
        {"name": "fails2", "agent": "x", "on_failure": {"compensate": "undo"}}
    ]});
    expect(
        compile(&document),
        &[
            ("steps[0].depends_on[0]", r#"there is no step "fetsh"; did you mean "fetch"?"#),
            ("steps[0].depends_on[1]", "can't depend on itself"),
            ("steps[1].depends_on", "a → c → b → a"),
            ("steps[1].agent", r#"did you mean "builtin:echo"?"#),
            ("steps[4].depends_on", "can't be reached"),
            ("steps[5].run_if", r#""contxt" is not known here; did you mean "context"?"#),
            ("steps[5].run_if", r#"add "fetch" to depends_on"#),
            ("steps[5].skip_if", "nothing"),
            ("steps[5].input.list[1]", ""),
            ("steps[7].run_if", "is done after this step"),
            ("steps[7].skip_if", "its own output"),
            ("steps[8].input", "needs either seconds"),
            ("steps[9].input", "needs a question"),
            ("steps[10].on_failure.compensate", r#"did you mean "undo"?"#),
            ("steps[11].on_failure.compensate", "can't have a compensation itself"),
            ("result", r#"there is no step "nobody""#),
            ("result", r#"did you mean "input"?"#),
        ],
    );
}

#[test]
fn what_a_built_in_step_can_not_do_is_told_before_it_runs() {
    let step = |name: &str, agent: &str, input: Value| json!({"name": name, "agent": agent, "input": input});
    let document = json!({"id": "w", "steps": [
        step("a", "builtin:transform", json!({"expression": "input.("})),
        step("b", "builtin:transform", json!({"n": 1})),
        step("c", "builtin:wait", json!({"seconds": -1})),
        step("d", "builtin:wait", json!({"until": "tomorrow"})),
        step("e", "builtin:gate", json!({"question": 5})),
        step("f", "builtin:gate", json!({"question": "Go?", "schema": {"type": "bool"}})),
    ]});
    expect(
        compile(&document),
        &[
            ("steps[0].input.expression", ""),
            ("steps[1].input.expression", "is required"),
            ("steps[2].input.seconds", "must be a number of seconds"),
            ("steps[3].input.until", "must be a time such as"),
            ("steps[4].input.question", "must be a text"),
            ("steps[5].input.schema.type", ""),
        ],
    );
    let known_later = json!({"id": "w", "steps": [
        step("a", "builtin:transform", json!({"expression": "{{ input.e }}"})),
        step("b", "builtin:transform", json!({"expression": "input.n + 1", "n": "{{ input.n }}"})),
        step("c", "builtin:wait", json!({"seconds": "{{ input.s }}"})),
        step("d", "builtin:wait", json!({"until": "2999-01-31T08:00:00Z"})),
        step("e", "builtin:gate", json!({"question": "{{ input.q }}?"})),
    ]});
    assert!(compile(&known_later).is_ok());
}

#[test]
fn a_step_that_depends_on_its_own_compensation_is_refused() {
    let document = json!({"id": "w", "steps": [
        {"name": "undo", "agent": "x"},
        {"name": "a", "agent": "x", "depends_on": ["undo"], "on_failure": {"compensate": "undo"}}]});
    expect(compile(&document), &[("steps[1].on_failure.compensate", "can't be reached")]);
}

#[test]
fn a_compensation_that_would_be_skipped_is_refused() {
    let steps = |required: bool| {
        json!({"id": "w", "steps": [
            {"name": "charge", "agent": "x", "on_failure": {"compensate": "refund"}},
            {"name": "refund", "agent": "x", "depends_on": [{"step": "charge", "required": required}]},
        ]})
    };
    expect(compile(&steps(true)), &[("steps[0].on_failure.compensate", "take required away")]);
    assert!(compile(&steps(false)).is_ok());
}

#[test]
fn each_of_several_cycles_is_told() {
    let document = json!({"id": "w", "steps": [
        {"name": "a", "agent": "x", "depends_on": ["b"]}, {"name": "b", "agent": "x", "depends_on": ["a"]},
        {"name": "c", "agent": "x", "depends_on": ["d", "a"]}, {"name": "d", "agent": "x", "depends_on": ["c"]}]});
    let problems = compile(&document).unwrap_err().to_string();
    assert!(problems.contains("a → b → a"), "{problems}");
    // Behind the first cycle; once that is mended the second one is told.
    assert!(problems.contains("steps[2]") && problems.contains("steps[3]"), "{problems}");
}

#[test]
fn transitive_dependencies_may_be_read_and_a_compensation_may_read_what_came_before() {
    let document = json!({"id": "w", "steps": [
        {"name": "c", "agent": "x", "depends_on": ["b"], "input": "{{ steps.a.output }}",
         "on_failure": {"compensate": "undo"}},
        {"name": "b", "agent": "x", "depends_on": ["a"]},
        {"name": "a", "agent": "x"},
        {"name": "undo", "agent": "x", "input": "{{ steps.a.output }} {{ steps.c.error }}"},
        {"name": "any", "agent": "x", "depends_on": ["b"], "run_if": "steps[input.name].output"}]});
    let definition = compile(&document).unwrap();
    assert_eq!(&*definition.steps[0].input_reads, [2]);
    assert_eq!(&*definition.steps[3].input_reads, [0, 2]);
    assert_eq!(&*definition.steps[4].condition_reads, [1, 2]);
    assert_eq!(&*definition.result_reads, [0, 4]);
    assert_eq!((definition.steps[0].compensate, definition.steps[3].is_compensation), (Some(3), true));
}

#[test]
fn paths_begin_with_the_place_of_the_document() {
    let document = json!({"id": "w", "steps": [{"name": "a", "agent": "x", "depends_on": ["b"]}]});
    let spec = WorkflowSpec::from_document(&document, "workflow", &Namespace::default()).unwrap();
    expect(Definition::compile(spec, "workflow"), &[("workflow.steps[0].depends_on[0]", "there is no step")]);
}

fn object(value: Value) -> serde_json::Map<String, Value> {
    value.as_object().cloned().unwrap()
}

#[test]
fn overrides_change_steps_field_by_field() {
    let spec = read(&full()).unwrap();
    let overrides = object(json!({
        "draft": {"input": {"style": "short"}, "retry": {"max_attempts": 1}, "timeout_s": null, "agent": "other"},
        "gate": {"run_if": null, "skip_if": "true", "input": {"question": "Really?"}}}));
    let changed = with_overrides(&spec, &overrides, "overrides").unwrap();
    assert_eq!(changed.steps[0].input.value().unwrap(), json!({"of": "{{ input.pr }}", "style": "short"}));
    assert_eq!(changed.steps[0].retry, Retry { max_attempts: 1, backoff_ms: 10, backoff_max_ms: 20 });
    assert_eq!((changed.steps[0].timeout_s, changed.steps[0].agent.as_str()), (None, "other"));
    assert_eq!((changed.steps[1].run_if.as_deref(), changed.steps[1].skip_if.as_deref()), (None, Some("true")));
    assert_eq!(changed.steps[2], spec.steps[2]);
    let wrong = object(json!({"darft": {}, "gate": {"name": "x", "timeout_s": -1}, "undo": 1}));
    expect(
        with_overrides(&spec, &wrong, "overrides"),
        &[
            ("overrides.darft", r#"did you mean "draft"?"#),
            ("overrides.gate.name", "is not a field here"),
            ("overrides.gate.timeout_s", "from 1 to"),
            ("overrides.undo", "must be an object"),
        ],
    );
}

#[test]
fn the_context_of_a_run_replaces_fields_of_that_of_the_workflow() {
    let mut document = full();
    document["context"] = json!({"a": 1, "b": {"c": 1}});
    let spec = read(&document).unwrap();
    assert_eq!(merged_context(&spec, None, "context").unwrap(), spec.context);
    let merged = merged_context(&spec, Some(&object(json!({"b": {"d": 2}, "e": 3}))), "context").unwrap();
    assert_eq!(merged.value().unwrap(), json!({"a": 1, "b": {"d": 2}, "e": 3}));
    let large = object(json!({"x": "y".repeat(limits::DOCUMENT_BYTES_MAX)}));
    expect(merged_context(&spec, Some(&large), "context"), &[("context", "bytes")]);
}

#[test]
fn the_built_in_agents_are_known_and_no_other_id_is() {
    use crate::workflow::machine::builtin_operation;
    for id in builtin_ids() {
        let agent = AgentId::parse(id).unwrap();
        assert!(is_reserved(&agent) && builtin(&agent).is_some_and(|e| builtin_operation(&e).is_some()), "{id}");
    }
    assert!(builtin(&AgentId::parse("echo").unwrap()).is_none());
}

fn field_names(schema: &Value) -> BTreeSet<String> {
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_schema_and_the_reader_know_the_same_fields() {
    let schema = schema_for!(WorkflowDocument).to_value();
    // The reader names the fields it knows when it meets one that it does not know.
    let known = |document: &Value, path: &str| -> BTreeSet<String> {
        let problems = read(document).unwrap_err();
        let problem = problems.0.iter().find(|problem| problem.path == path).unwrap();
        let (_, names) = problem.message.split_once("known fields: ").unwrap();
        names.split(", ").map(str::to_owned).collect()
    };
    assert_eq!(field_names(&schema), known(&json!({"zzzzqqqq": 1}), "zzzzqqqq"));
    let step = &schema["properties"]["steps"]["items"];
    let steps = |step: Value| json!({"steps": [step]});
    assert_eq!(field_names(step), known(&steps(json!({"zzzzqqqq": 1})), "steps[0].zzzzqqqq"));
    let retry = &step["properties"]["retry"];
    let wrong_retry = steps(json!({"retry": {"zzzzqqqq": 1}}));
    assert_eq!(field_names(retry), known(&wrong_retry, "steps[0].retry.zzzzqqqq"));
    let dependency = &step["properties"]["depends_on"]["items"]["anyOf"][1];
    let wrong_dependency = steps(json!({"depends_on": [{"zzzzqqqq": 1}]}));
    assert_eq!(field_names(dependency), known(&wrong_dependency, "steps[0].depends_on[0].zzzzqqqq"));
    assert_eq!(schema["required"], json!(["id", "steps"]));
    assert_eq!(step["required"], json!(["name", "agent"]));
    let bytes = schema.to_string().len();
    assert!(bytes < 2_600, "{bytes} bytes of every session's context: {schema}");
}

/// JSON in which the names of fields and the words of documents are likely.
fn random_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "id",
        "steps",
        "name",
        "agent",
        "input",
        "depends_on",
        "step",
        "required",
        "retry",
        "max_attempts",
        "on_failure",
        "compensate",
        "fail",
        "continue",
        "a",
        "b",
        "builtin:wait",
        "builtin:gate",
        "run_if",
        "{{ steps.a.output }}",
        "{{ 1 +",
        "steps.b",
        "context",
        "result",
        "seconds",
        "question",
        "x y",
        "\0",
        "é",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 5, move |inner| {
        let fields = prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner.clone(), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(Value::from),
            fields.prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

/// Whether some step depends on itself, found by walking from each one to all it depends on.
fn is_cyclic(depends_on: &[BTreeSet<usize>]) -> bool {
    (0..depends_on.len()).any(|start| {
        let mut seen = BTreeSet::new();
        let mut unseen: Vec<usize> = depends_on[start].iter().copied().collect();
        while let Some(at) = unseen.pop() {
            if seen.insert(at) {
                unseen.extend(&depends_on[at]);
            }
        }
        seen.contains(&start)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn no_document_whatever_it_holds_does_harm(document in random_json(), step in random_json(), other in random_json()) {
        for document in [document, json!({"id": "w", "steps": [step, {"name": "b", "agent": "x", "input": other}]})] {
            match compile(&document) {
                Ok(definition) => {
                    let written = definition.spec.to_json().unwrap();
                    prop_assert_eq!(&Definition::from_stored(&written).unwrap().spec, &definition.spec);
                }
                Err(problems) => prop_assert!(!problems.0.is_empty()),
            }
        }
    }

    #[test]
    fn a_graph_is_accepted_exactly_when_it_has_no_cycle(
        edges in prop::collection::vec((0..9_usize, 0..9_usize), 0..14),
        reads in prop::collection::vec((0..9_usize, 0..9_usize), 0..4),
    ) {
        let mut depends_on = vec![BTreeSet::new(); 9];
        for (from, to) in edges.into_iter().filter(|(from, to)| from != to) {
            depends_on[from].insert(to);
        }
        let document = |reads: &[(usize, usize)]| {
            let steps: Vec<Value> = depends_on.iter().enumerate().map(|(i, on)| {
                let names: Vec<String> = on.iter().map(|d| format!("s{d}")).collect();
                let read: Vec<String> =
                    reads.iter().filter(|(from, _)| *from == i).map(|(_, to)| format!("{{{{ steps.s{to}.status }}}}")).collect();
                json!({"name": format!("s{i}"), "agent": "x", "depends_on": names, "input": read})
            }).collect();
            json!({"id": "w", "steps": steps})
        };
        prop_assert_eq!(compile(&document(&[])).is_err(), is_cyclic(&depends_on));
        if !is_cyclic(&depends_on) {
            // A step may read what must be done before it, and nothing else.
            let can_read = |from: usize, to: usize| {
                let mut unseen: Vec<usize> = depends_on[from].iter().copied().collect();
                while let Some(at) = unseen.pop() {
                    if at == to {
                        return true;
                    }
                    unseen.extend(&depends_on[at]);
                }
                false
            };
            let all_readable = reads.iter().all(|(from, to)| can_read(*from, *to));
            prop_assert_eq!(compile(&document(&reads)).is_ok(), all_readable);
        }
    }
}
