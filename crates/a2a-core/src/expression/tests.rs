//! What expressions give, what they refuse, and that arbitrary text does no harm.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn context() -> Value {
    json!({
        "title": "Release 1.2", "score": 7, "ratio": 0.5, "none": null, "ok": true, "empty": "", "list": [3, 1, 2],
        "tags": ["a", "b", "a"], "nested": {"deep": {"x": 1}}, "name": "fetch",
        "people": [
            {"name": "Ada", "age": 36, "team": {"id": 1}}, {"name": "Bob", "age": 20, "team": {"id": 2}},
            {"name": "Cid", "team": {"id": 1}}
        ]
    })
}

fn with_scope<T>(work: impl FnOnce(&Scope<'_>) -> T) -> T {
    let (context, input) = (context(), json!({"dry_run": false, "count": 2}));
    let output = json!({"items": [{"title": "first"}, {"title": "second"}]});
    let value = json!({"v": 1});
    let scope = Scope::new(&context, &input)
        .with_run(json!({"id": "run-1"}))
        .with_value(&value)
        .with_step("fetch", "done", Some(&output), None)
        .with_step("fetch-data", "done", Some(&output), None)
        .with_step("skipped", "skipped", None, None)
        .with_step("failed", "failed", None, Some("no route"));
    work(&scope)
}

fn run(text: &str) -> Result<Value, ExpressionError> {
    with_scope(|scope| Expression::parse(text)?.evaluate(scope, &mut Fuel::new()))
}

#[track_caller]
fn gives(cases: &[(&str, Value)]) {
    for (text, expected) in cases {
        assert_eq!(run(text).as_ref(), Ok(expected), "{text}");
    }
}

#[track_caller]
fn fails(text: &str, kind: ExpressionErrorKind, says: &str) {
    let error = run(text).expect_err(text);
    assert_eq!(error.kind, kind, "{text}: {error}");
    assert!(error.to_string().contains(says), "{text}: {error}");
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[test]
fn paths_reach_into_context_input_run_value_and_steps() {
    gives(&[
        ("context.title", json!("Release 1.2")),
        ("input.count", json!(2)),
        ("run.id", json!("run-1")),
        ("value.v", json!(1)),
        ("steps.fetch.output.items[0].title", json!("first")),
        ("steps[\"fetch-data\"].output.items[-1].title", json!("second")),
        ("steps[context.name].status", json!("done")),
        ("steps.failed.error", json!("no route")),
        ("steps.fetch.error", Value::Null),
        ("steps.fetch.error is none", json!(true)),
        ("'fetch' in steps and 'x' not in steps", json!(true)),
        ("steps | length", json!(4)),
        ("steps.fetch | keys", json!(["error", "output", "status"])),
        ("context['nested'].deep['x']", json!(1)),
        ("context.list[1:]", json!([1, 2])),
        ("context.list[:-1]", json!([3, 1])),
        ("context.list[5:2]", json!([])),
        ("context.title[0:7]", json!("Release")),
        ("'äöü'[1:2]", json!("ö")),
    ]);
}

#[test]
fn operators_work_on_json() {
    gives(&[
        ("1 + 2 * 3 - 4", json!(3)),
        ("7 / 2", json!(3.5)),
        ("7 // 2", json!(3)),
        ("-7 % 3", json!(2)),
        ("2 ** 10", json!(1024)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("18446744073709551615", json!(u64::MAX)),
        ("1 == 1.0 and 1 != '1'", json!(true)),
        ("1 < 2 <= 2 < 3", json!(true)),
        ("1 < 2 > 2", json!(false)),
        ("'a' < 'b'", json!(true)),
        ("'x' ~ 1 ~ none ~ true ~ [1, 'a'] ~ {'k': 1.5}", json!("x1nulltrue[1,\"a\"]{\"k\":1.5}")),
        ("'a' + 'b'", json!("ab")),
        ("[1] + context.list", json!([1, 3, 1, 2])),
        ("'elease' in context.title", json!(true)),
        ("2 in context.list and 9 not in context.list", json!(true)),
        ("'deep' in context.nested", json!(true)),
        ("[1, {'a': 2.0}] == [1.0, {'a': 2}]", json!(true)),
        ("context.score > 5 and not input.dry_run", json!(true)),
        ("context.empty or 'x'", json!("x")),
        ("'big' if context.score > 5 else 'small'", json!("big")),
        ("{'a': context.list, 'b': (1, 2)}", json!({"a": [3, 1, 2], "b": [1, 2]})),
        ("{{ context.score }}", json!(7)),
    ]);
}

#[test]
fn filters_and_tests_do_what_they_say() {
    gives(&[
        ("'  Ab ' | trim | lower", json!("ab")),
        ("'ß' | upper", json!("SS")),
        ("context.list | sort", json!([1, 2, 3])),
        ("context.list | sort(reverse=true) | first", json!(3)),
        (
            "context.people | sort(attribute='name', reverse=true) | map(attribute='name') | join(', ')",
            json!("Cid, Bob, Ada"),
        ),
        ("context.people | selectattr('age') | map(attribute='age') | sum", json!(56)),
        ("context.people | selectattr('age', '>', 30) | map(attribute='name')", json!(["Ada"])),
        ("context.people | rejectattr('age', 'defined') | map(attribute='name')", json!(["Cid"])),
        ("context.people | selectattr('team.id', 'eq', 1) | length", json!(2)),
        ("context.people | map(attribute='age', default=0) | max", json!(36)),
        ("context.people | unique(attribute='team.id') | length", json!(2)),
        (
            "context.people | selectattr('age') | min(attribute='age')",
            json!({"name": "Bob", "age": 20, "team": {"id": 2}}),
        ),
        ("context.tags | unique", json!(["a", "b"])),
        ("[1, 1.0, 2] | unique", json!([1, 2])),
        ("context.tags | map('upper') | join", json!("ABA")),
        ("[1, 0, none, 'x', ''] | select | length", json!(2)),
        ("[1, 2, 3, 4] | reject('even')", json!([1, 3])),
        ("[3, 1] | reverse", json!([1, 3])),
        ("'abc' | reverse", json!("cba")),
        ("2.5 | round", json!(3)),
        ("2.345 | round(2)", json!(2.35)),
        ("'12' | int + 1", json!(13)),
        ("'x' | int(default=0)", json!(0)),
        ("'1.5' | float", json!(1.5)),
        ("-3 | abs", json!(3)),
        ("1.9 | int", json!(1)),
        ("{'b': 1, 'a': [1]} | tojson", json!("{\"a\":[1],\"b\":1}")),
        ("'{\"a\": [1, 2.5, null]}' | fromjson", json!({"a": [1, 2.5, null]})),
        ("{'b': 1, 'a': 2} | items", json!([["a", 2], ["b", 1]])),
        ("{'b': 1, 'a': 2} | values", json!([2, 1])),
        ("{'a': 1} | merge({'b': 2, 'a': 3})", json!({"a": 3, "b": 2})),
        ("'a-b-c' | replace('-', '+')", json!("a+b+c")),
        ("'a, b' | split(', ')", json!(["a", "b"])),
        ("' a  b ' | split | last", json!("b")),
        ("'a long text' | truncate(7)", json!("a long…")),
        ("'short' | truncate(7)", json!("short")),
        ("context.list | contains(3)", json!(true)),
        ("12 | string", json!("12")),
        ("'abc' | length + (context.list | length)", json!(6)),
        ("context.title is startingwith 'Rel' and context.title is not endingwith 'x'", json!(true)),
        ("context.score is odd and context.score is integer and context.ratio is float", json!(true)),
        ("context.none is none and context.list is sequence and context.nested is mapping", json!(true)),
        ("[] is empty and 3 is in [1, 3]", json!(true)),
    ]);
}

#[test]
fn what_is_missing_is_an_error_unless_a_default_is_given() {
    gives(&[
        ("context.missing | default(1)", json!(1)),
        ("context.missing.deeper[0].x | default('y')", json!("y")),
        ("context.score.x | default(2)", json!(2)),
        ("context.none | default(3)", Value::Null),
        ("context.none | default(3, true)", json!(3)),
        ("context.list[9] | default(4)", json!(4)),
        ("[] | first | default(5)", json!(5)),
        ("steps.skipped.output | default({})", json!({})),
        ("steps.nobody.output | default(6)", json!(6)),
        ("context.missing is defined or context.a.b is defined", json!(false)),
        ("context.score is defined and context.missing is undefined", json!(true)),
    ]);
    use ExpressionErrorKind::Unknown;
    fails("context.titel", Unknown, "Did you mean `title`? If it may be missing, write `context.titel | default(...)`");
    fails("context.missing.deeper", Unknown, "`context.missing` is not defined");
    fails("not context.missing", Unknown, "default(...)");
    fails("context.missing or true", Unknown, "default(...)");
    fails("context.missing ~ 'x'", Unknown, "default(...)");
    fails("[context.missing]", Unknown, "at character");
    fails("steps.fetsh.output", Unknown, "there is no such step. Did you mean `fetch`?");
    fails("steps.skipped.output.x", Unknown, "the step has given no output, its status is \"skipped\"");
    fails("context.list[3]", Unknown, "the list has 3 items");
    fails("contxt.title | default(1)", Unknown, "`contxt` is not known. Did you mean `context`?");
    fails("contxt is defined", Unknown, "`contxt` is not known");
    fails("'a' if false", Unknown, "write `a if condition else b`");
}

#[test]
fn values_of_the_wrong_type_are_refused_with_a_remedy() {
    use ExpressionErrorKind::Type;
    fails("'a' + 1", Type, "use `~` to join texts");
    fails("'a' * 100", Type, "use `| int`");
    fails("[1] * 100", Type, "`*` does not go with a list and a number");
    fails("1 < 'a'", Type, "have no order");
    fails("[1, 'a'] | sort", Type, "have no order");
    fails("1 / 0", Type, "division by zero");
    fails("18446744073709551615 + 1", Type, "beyond what JSON holds");
    fails("1e308 * 10", Type, "no finite number");
    fails("1 in 5", Type, "`in` works on lists");
    fails("context.nested | first", Type, "use `items`");
    fails("'abc' | sum", Type, "use `split`");
    fails("5 | upper", Type, "use `| string`");
    fails("'{' | fromjson", Type, "the text is not JSON");
    fails("'x' | replace('', 'y')", Type, "is empty");
    fails("{1: 2}", Type, "put it in quotes");
}

#[test]
fn only_expressions_are_read() {
    use ExpressionErrorKind::{Size, Syntax, Unknown};
    for (text, kind, says) in [
        ("", Syntax, "is empty"),
        ("range(10)", Syntax, "nothing can be called"),
        ("context.items()", Syntax, "use a filter"),
        ("''.join(context.tags)", Syntax, "nothing can be called"),
        ("debug()", Syntax, "nothing can be called"),
        ("context | tojsn", Unknown, "Did you mean `tojson`?"),
        ("context | attr('x')", Unknown, "there is no filter `attr`"),
        ("context | safe", Unknown, "texts are never escaped"),
        ("context is callable", Unknown, "there is no test `callable`"),
        ("context | default", Syntax, "needs the argument `value`"),
        ("context | upper(1)", Syntax, "too many arguments"),
        ("context | join(sep=',')", Unknown, "has no argument `sep`"),
        ("context | join(*[1])", Syntax, "cannot be spread"),
        ("[] | select('nope')", Unknown, "there is no test `nope`"),
        ("[] | select(context.x)", Syntax, "written as a text"),
        ("[] | map('replace')", Syntax, "without arguments"),
        ("[] | selectattr('a', 'eq')", Syntax, "needs a value"),
        ("steps.fetch-data.output", Syntax, "steps[\"fetch-data\"]"),
        ("a = 1", Syntax, "write `==`"),
        ("a && b", Syntax, "write `and`"),
        ("a || b", Syntax, "write `or`"),
        ("!a", Syntax, "write `not`"),
        ("(1", Syntax, "close it"),
        ("1)", Syntax, "closes nothing"),
        ("[1}", Syntax, "closes nothing"),
        ("'a", Syntax, "close the text"),
        ("1 +", Syntax, "not complete"),
        ("a {{ b }}", Syntax, "at character"),
        ("{{ a }} and {{ b }}", Syntax, "bare expression"),
        ("{% if a %}", Syntax, "at character"),
        ("context.list[::2]", Syntax, "no step"),
        ("'\\x00'", Syntax, "NUL"),
        ("340282366920938463463374607431768211455", Syntax, "64-bit"),
        ("1e999", Syntax, "64-bit"),
    ] {
        let error = Expression::parse(text).expect_err(text);
        assert_eq!(error.kind, kind, "{text}: {error}");
        assert!(error.message.contains(says), "{text}: {error}");
    }
    let nested = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    for text in [
        nested("(", ")", 25),
        nested("[", "]", 1_000),
        nested("{'a':", "}", 25),
        "not ".repeat(9) + "1",
        "-".repeat(4_000) + "1",
        "1".to_owned() + &"+1".repeat(65),
        "1".to_owned() + &"+1".repeat(2_000),
        "a".to_owned() + &".a".repeat(100),
        "a".to_owned() + &"|length".repeat(100),
        "1".to_owned() + &" if 1 else 1".repeat(80),
        "[".to_owned() + &"1,".repeat(600) + "]",
        format!("'{}'", "x".repeat(EXPRESSION_BYTES_MAX)),
    ] {
        let error = Expression::parse(&text).expect_err(&text);
        assert_eq!(error.kind, Size, "{text}: {error}");
    }
    assert!(Expression::parse(&nested("(", ")", 24)).is_ok());
    assert!(Expression::parse(&format!("'{}'", "x".repeat(EXPRESSION_BYTES_MAX - 2))).is_ok());
    assert!(Expression::parse(&format!("'{}'", "x".repeat(EXPRESSION_BYTES_MAX - 1))).is_err());
}

#[test]
fn an_error_tells_its_place_on_one_line() {
    let error = run("context.title ~\n context.titel").unwrap_err();
    assert!(error.message.ends_with("(at character 18 of `context.title ~  context.titel`)"), "{error}");
    let error = Expression::parse("context.title | uper").unwrap_err();
    assert!(error.message.contains("(at character"), "{error}");
}

#[test]
fn references_name_steps_and_roots() {
    let of = |text: &str| Expression::parse(text).unwrap().references();
    let found =
        of("steps.a.output ~ steps['b-c'].status if context.x in [input.y] else (steps.d.output | default(run.id))");
    assert_eq!(found.steps.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b-c", "d"]);
    assert_eq!(found.roots.iter().map(String::as_str).collect::<Vec<_>>(), ["context", "input", "run", "steps"]);
    assert!(!found.any_step);
    assert_eq!(found.unknown_roots().count(), 0);
    assert!(of("steps[context.x].output").any_step);
    assert!(of("steps | length").any_step);
    assert_eq!(of("foo.bar | default(nope) is defined").unknown_roots().collect::<Vec<_>>(), ["foo", "nope"]);
}

#[test]
fn a_template_of_one_expression_keeps_its_type() {
    let evaluate =
        |value: Value| with_scope(|scope| Template::parse(&value).unwrap().evaluate(scope, &mut Fuel::new()));
    assert_eq!(
        evaluate(json!({
            "list": "{{ context.list }}", "number": "{{ context.score }}", "null": "{{ context.none }}",
            "text": "{{ context.score }} of {{ 10 }}: {{ context.tags }} {{ context.none }}",
            "signs": "{{ \"{{\" }} {{ '}}' }} } }} %}", "object": "{{ {'a': {'b': 1}} }}", "blank": " {{ 1 }}\n",
            "deep": [{"x": "{{ steps.fetch.output.items | map(attribute='title') | join('+') }}"}, 1.5, true, null]
        })),
        Ok(json!({
            "list": [3, 1, 2], "number": 7, "null": null, "text": "7 of 10: [\"a\",\"b\",\"a\"] null",
            "signs": "{{ }} } }} %}", "object": {"a": {"b": 1}}, "blank": 1,
            "deep": [{"x": "first+second"}, 1.5, true, null]
        }))
    );
    let constant = json!({"a": ["plain", 1, {"b": "no } } expression }}"}]});
    let template = Template::parse(&constant).unwrap();
    assert!(template.is_constant());
    assert_eq!(with_scope(|scope| template.evaluate(scope, &mut Fuel::new())), Ok(constant));
    let template = Template::parse(&json!({"a": ["{{ steps.x.output }}", "{{ foo }} {{ context }}"]})).unwrap();
    assert!(!template.is_constant());
    assert_eq!(template.references().steps.len(), 1);
    assert_eq!(template.references().unknown_roots().collect::<Vec<_>>(), ["foo"]);
}

#[test]
fn a_template_tells_all_its_problems_with_their_paths() {
    let problems = Template::parse(&json!({
        "items": [{"title": "{{ context. }}"}], "b": "{% for x in y %}", "c": "{# note #}", "d": "{{ open", "e": "{{- 1 -}}",
        "f": "{{ 1 -}}", "{{ key }}": 1, "a b": "{{ x | nope }}", "g": "fine {{ context.x }}", "h": format!("{{{{ {}", "y".repeat(9_000))
    }))
    .unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["[\"a b\"]", "b", "c", "d", "e", "f", "h", "items[0].title", "[\"{{ key }}\"]"]);
    for (path, says) in
        [("b", "statements"), ("c", "comments"), ("d", "is not closed"), ("e", "white space"), ("h", "is not closed")]
    {
        let (_, error) = problems.iter().find(|(found, _)| found == path).unwrap();
        assert!(error.message.contains(says), "{error}");
    }
    let template = Template::parse(&json!({"items": [1, {"t": "{{ context.titel }}"}]})).unwrap();
    let error = with_scope(|scope| template.evaluate(scope, &mut Fuel::new())).unwrap_err();
    assert_eq!(error.path, "items[1].t");
    assert!(error.to_string().starts_with("items[1].t: `context.titel` is not defined"), "{error}");
    let text = "{{ 1 }}".repeat(EXPRESSIONS_MAX);
    assert!(Template::parse(&json!(text)).is_ok());
    assert!(Template::parse(&json!(text + "{{ 1 }}")).is_err());
}

#[test]
fn a_result_is_bounded_in_size_and_depth() {
    let evaluate = |text: &str, context: &Value| {
        Expression::parse(text).unwrap().evaluate(&Scope::new(context, &Value::Null), &mut Fuel::new())
    };
    // Two quotes belong to the JSON of a text.
    for (length, fits) in [(VALUE_BYTES_MAX - 3, true), (VALUE_BYTES_MAX - 2, true), (VALUE_BYTES_MAX - 1, false)] {
        let context = json!("x".repeat(length));
        assert_eq!(evaluate("context", &context).is_ok(), fits, "{length}");
    }
    let nest = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let deepest = crate::limits::JSON_DEPTH_MAX;
    assert!(evaluate("context", &nest(deepest)).is_ok());
    assert_eq!(evaluate("[context]", &nest(deepest)).unwrap_err().kind, ExpressionErrorKind::Size);
    assert!(evaluate("[context]", &nest(deepest - 1)).is_ok());
}

#[test]
fn fuel_is_shared_by_the_expressions_of_a_transition_and_stays_empty() {
    let context = json!((0..1_000).collect::<Vec<_>>());
    let (scope, expression) = (Scope::new(&context, &Value::Null), Expression::parse("context | sum").unwrap());
    let mut fuel = Fuel::with_limits(10_000, 1 << 20);
    let mut evaluations = 0;
    let error = loop {
        match expression.evaluate(&scope, &mut fuel) {
            Ok(_) => evaluations += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ExpressionErrorKind::Fuel);
    assert!((2..20).contains(&evaluations), "{evaluations}");
    assert_eq!(fuel.steps_left(), 0);
    assert!(Expression::parse("1").unwrap().evaluate(&scope, &mut fuel).is_err());
}

#[test]
fn one_compiled_expression_is_evaluated_by_many_threads() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Expression>();
    shared::<Template>();
    let expression = Expression::parse("steps.fetch.output.items[0].title ~ ' ' ~ context.score").unwrap();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            let expression = expression.clone();
            threads.spawn(move || {
                with_scope(|scope| {
                    for _ in 0..2_000 {
                        assert_eq!(expression.evaluate(scope, &mut Fuel::new()), Ok(json!("first 7")));
                    }
                });
            });
        }
    });
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Words of the language in any order: far more of them pass the parser than of arbitrary characters.
fn any_expression() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "context",
        ".x",
        ".y",
        "[0]",
        "['x']",
        "[1:]",
        "steps",
        ".a.output",
        "input",
        "1",
        "2.5",
        "'s'",
        "none",
        "true",
        "(",
        ")",
        "[",
        "]",
        "{'k':",
        "}",
        ",",
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "**",
        "~",
        "==",
        "<",
        "in",
        "not",
        "and",
        "or",
        "if",
        "else",
        "is defined",
        "is in",
        "| default(1)",
        "| length",
        "| join(',')",
        "| sort",
        "| map(attribute='x')",
        "| tojson",
        "| items",
        "| replace('s', 'ss')",
        "| selectattr('x')",
        "| unique",
        "| fromjson",
        "| string",
        "| reverse",
        "| first",
        "| split",
        "| sum",
        "| truncate(3)",
        "| merge(context)",
        "| min",
        "| round",
        "| int",
        "{{",
        "}}",
        "{%",
        "\"",
        "\\",
        "é",
    ];
    prop::collection::vec(prop::sample::select(WORDS), 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn any_value_passes_through_unchanged(value in any_json()) {
        let context = json!({"x": value});
        let scope = Scope::new(&context, &Value::Null).with_step("a", "done", Some(&value), None);
        let template = Template::parse(&json!(["{{ context.x }}", {"k": "{{ steps.a.output }}"}, "{{ context.x | tojson | fromjson }}"])).unwrap();
        let nul = value.to_string().contains("\\u0000");
        match template.evaluate(&scope, &mut Fuel::new()) {
            Ok(result) => prop_assert_eq!(result, json!([value, {"k": value}, value])),
            // NUL is kept out where text becomes data.
            Err(error) => prop_assert!(nul, "{}", error),
        }
        prop_assert_eq!(Expression::parse("context.x == steps.a.output").unwrap().is_true(&scope, &mut Fuel::new()), Ok(true));
    }

    #[test]
    fn arbitrary_text_never_panics_and_always_ends(text in prop_oneof!["\\PC{0,200}", any_expression()], context in any_json()) {
        let started = Instant::now();
        let context = json!({"x": context, "y": [1, 2]});
        let scope = Scope::new(&context, &context).with_step("a", "done", Some(&context), None);
        if let Ok(expression) = Expression::parse(&text) {
            let _references = expression.references();
            match expression.evaluate(&scope, &mut Fuel::new()) {
                Ok(value) => prop_assert!(serde_json::to_vec(&value).unwrap().len() <= VALUE_BYTES_MAX),
                Err(error) => prop_assert!(!error.to_string().contains('\n')),
            }
        }
        if let Ok(template) = Template::parse(&json!({"t": text})) {
            let _either = template.evaluate(&scope, &mut Fuel::new());
        }
        prop_assert!(started.elapsed() < Duration::from_secs(2));
    }
}
