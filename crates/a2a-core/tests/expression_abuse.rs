//! Expressions written to exhaust time or memory: each ends in time, within its memory, and with an error that says what
//! to do. A binary of its own, because the allocator that measures belongs to the whole process.

#![cfg(test)]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use a2a_core::expression::{Expression, ExpressionErrorKind, Fuel, Scope, Template};
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The fuel of a transition, and what a test itself holds meanwhile.
const MEMORY_BYTES_MAX: usize = 34 * 1024 * 1024;
/// Far beyond what is needed, for builds without optimisation on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Tests of one process run side by side, and what another allocates would be counted.
static ALONE: Mutex<()> = Mutex::new(());

fn measured<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let started = Instant::now();
    let result = work();
    let (elapsed, peak) = (started.elapsed(), MEMORY.peak_usage().saturating_sub(before));
    let name: String = name.chars().take(100).collect();
    assert!(elapsed < TIME_MAX, "{name} took {elapsed:?}");
    assert!(peak < MEMORY_BYTES_MAX, "{name} used {peak} bytes");
    println!("{:>9} KiB {:>6} ms  {name}", peak / 1024, elapsed.as_millis());
    result
}

/// Near a megabyte each, of the shapes that cost most beside their size as JSON.
fn context() -> Value {
    json!({
        "text": "ab".repeat(500_000),
        "upper": "ΐ".repeat(300_000),
        "quotes": "\"\\\u{1}".repeat(100_000),
        "numbers": (0..150_000).map(|n| n * 7919 % 150_001).collect::<Vec<u64>>(),
        "same": vec![1; 400_000],
        "texts": (0..20_000).map(|n| format!("{}{n}", "x".repeat(40))).collect::<Vec<_>>(),
        "objects": vec![json!({"a": 1}); 120_000],
        "empties": vec![json!({}); 300_000],
        "lists": vec![json!([]); 300_000],
        "wide": (0..60_000).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>(),
        "json": serde_json::to_string(&vec![json!({"a": 1}); 120_000]).unwrap(),
        "brackets": format!("[{}]", vec!["[]"; 300_000].join(",")),
        "deep": "[".repeat(500_000),
        "words": "a ".repeat(400_000),
        "long": "x".repeat(900),
    })
}

/// `x` joined with itself by an operator, as often as the language allows.
fn chain(x: &str, operator: &str) -> String {
    vec![x; 40].join(&format!(" {operator} "))
}

fn corpus() -> Vec<String> {
    let mut corpus = vec![
        chain("context.text", "~"),
        chain("context.text", "+"),
        chain("context.numbers", "+"),
        format!("({}) | length", chain("context.numbers", "+")),
        format!("({}) ~ ''", chain("context.numbers", "+")),
        format!("'x' in ({})", chain("context.objects", "+")),
        chain("context.objects", "=="),
        chain("context.text", "=="),
        chain("(context.text in context.text)", "and"),
        chain("(context.text | upper | length)", "+"),
        chain("(context.upper | upper | length)", "+"),
        chain("(context.numbers | sort | length)", "+"),
        chain("(context.texts | sort | length)", "+"),
        chain("(context.objects | tojson | length)", "+"),
        chain("(context.json | fromjson | length)", "+"),
        chain("(context.wide | items | length)", "+"),
        format!("[{}]", vec!["context.objects"; 100].join(",")),
        format!("{{{}}}", (0..60).map(|n| format!("'k{n}': context.text")).collect::<Vec<_>>().join(",")),
        format!("[{}] | join('') | length", vec!["context.text"; 100].join(",")),
        format!("context{}", "|tojson".repeat(60)),
        format!("'\"'{}", "|tojson".repeat(60)),
        format!("'x'{}", "|replace('x', 'xxxxxxxxxx')".repeat(60)),
        format!("'x'{}", "|replace('x', context.text)".repeat(20)),
        format!("context.words{}", "|split|join('  ')".repeat(30)),
        format!("context.numbers{}", "|map('string')".repeat(60)),
        format!("context.objects{}", "|map('items')|map('first')".repeat(30)),
        format!("context.text{}", "|reverse".repeat(60)),
    ];
    for text in [
        "context",
        "steps",
        "[steps, steps, steps]",
        "context.text * 1000000",
        "[1] * 100000000",
        "[0] * 100000000 ~ ''",
        "[[0] * 100000000] == [[0] * 100000000]",
        "2 ** 100000000",
        "10 ** 10 ** 10 ** 10",
        "9 ** 9 ** 9 % 7",
        "1e308 ** 1e308",
        "context.text | replace('a', context.text)",
        "context.text | replace('ab', '')",
        "context.text | split('a')",
        "context.text | split('zz')",
        "context.words | split | unique",
        "context.words | split | sort | join(context.text)",
        "context.numbers | join(context.text)",
        "context.same | join(context.long)",
        "context.numbers | map('string') | join(',')",
        "context.numbers | map('tojson')",
        "context.numbers | unique",
        "context.texts | unique | sort(reverse=true) | last",
        "context.objects | unique",
        "context.objects | map(attribute='a') | sum",
        "context.objects | map(attribute='b', default=context.text)",
        "context.objects | map(attribute='b', default=context.objects) | tojson",
        "context.objects | selectattr('a', 'in', context.numbers)",
        "context.numbers | select('in', context.numbers) | length",
        "context.objects | sort(attribute='a.b.c.d')",
        "context.empties | tojson | fromjson",
        "context.lists | tojson | fromjson",
        "context.objects | reverse | tojson(indent=true)",
        "context.json | fromjson",
        "context.brackets | fromjson",
        "context.deep | fromjson",
        "context.wide | items | map('last') | max",
        "context.wide | merge(context.wide) | merge(context.wide)",
        "context.wide | values | sort | first",
        "context.upper | upper ~ context.upper",
        "context.upper | upper | lower | length",
        "context.quotes | tojson | tojson",
        "context.quotes ~ [context.quotes]",
        "context.text | truncate(10, context.text)",
        "context.text | truncate(9999999999, context.text)",
        "context.text[500000:] ~ context.text[:500000]",
        "context.numbers[1:] + context.numbers[:1] == context.numbers",
        "context.textt",
        "context.wide.k999999999",
    ] {
        corpus.push(text.to_owned());
    }
    corpus
}

#[test]
fn no_expression_exceeds_its_time_or_its_memory() {
    let _alone = ALONE.lock().unwrap();
    let context = context();
    let (shared, mut ended) = (Scope::new(&context, &context).with_step("a", "done", Some(&context), None), [0, 0]);
    for text in corpus() {
        let result = measured(&text, || {
            let value = Expression::parse(&text)?.evaluate(&shared, &mut Fuel::new());
            value.map(|value| serde_json::to_vec(&value).unwrap().len())
        });
        match result {
            Ok(bytes) => {
                assert!(bytes <= a2a_core::expression::VALUE_BYTES_MAX, "{text} gave {bytes} bytes");
                ended[0] += 1;
            }
            Err(error) => {
                assert!(error.message.len() < 1_000, "{error}");
                assert!(error.message.contains([';', '.', '`']), "{error}");
                ended[1] += 1;
            }
        }
    }
    assert!(ended[0] >= 10 && ended[1] >= 30, "the corpus holds both: {ended:?}");

    // As one template, where all share their fuel.
    let template = json!(
        corpus()
            .iter()
            .filter(|text| Expression::parse(text).is_ok())
            .map(|text| format!("{{{{ {text} }}}}"))
            .collect::<Vec<_>>()
    );
    let template = Template::parse(&template).unwrap();
    assert!(measured("all in one template", || template.evaluate(&shared, &mut Fuel::new())).is_err());
    let large = json!(vec!["{{ context.text }}{{ context.text }}"; 200]);
    let large = Template::parse(&large).unwrap();
    let error = measured("large texts", || large.evaluate(&shared, &mut Fuel::new())).unwrap_err();
    assert_eq!(error.kind, ExpressionErrorKind::Size);
    let many = Template::parse(&json!(vec!["{{ context.objects }}"; 400])).unwrap();
    let error = measured("many objects", || many.evaluate(&shared, &mut Fuel::new())).unwrap_err();
    assert_eq!(error.kind, ExpressionErrorKind::Fuel);

    // What the parser is given.
    for text in [
        "(".repeat(4_000),
        "[".repeat(4_000) + &"]".repeat(4_000),
        "{".repeat(2_000),
        "-".repeat(4_096),
        "not ".repeat(1_024),
        "a if ".repeat(800),
        "1 if 1 else ".repeat(300) + "1",
        "a.".repeat(2_000) + "a",
        "a[".repeat(1_300),
        "a|".repeat(2_000),
        "a is ".repeat(800),
        "'".repeat(4_096),
        "\\".repeat(4_096),
        "9".repeat(4_096),
        "x".repeat(1_000_000),
        "[0]*100000000 ~ ''".to_owned(),
        "[[0]*100000000]*100000000 == [[0]*100000000]*100000000".to_owned(),
        "'x'*1000*1000*1000".to_owned(),
    ] {
        let _either = measured(&text, || Expression::parse(&text).map(|expression| expression.references()));
        let template = json!(format!("{{{{{text}}}}}"));
        let _either = measured(&text, || Template::parse(&template).is_ok());
    }
    for text in [
        "{{".repeat(500_000),
        "{{ '".repeat(250_000),
        "{{ a }}".repeat(150_000),
        "{".repeat(1_000_000),
        "{ {".repeat(300_000),
    ] {
        let text = json!(text);
        let _either = measured("a long text of braces", || Template::parse(&text).is_ok());
    }
}

#[test]
fn the_deepest_expressions_fit_a_small_stack() {
    let _alone = ALONE.lock().unwrap();
    let nested = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let deepest = vec![
        nested("(", ")", 24),
        nested("[", "]", 24),
        nested("{'a': ", "}", 24),
        nested("(not not (", "))", 12),
        nested("(1 if 1 else [", "])", 12),
        nested("[][", "]", 24),
        nested("(1 | default(", "))", 12),
        "1".to_owned() + &"+1".repeat(63),
        "1".to_owned() + &"~1".repeat(63),
        "1 and ".repeat(63) + "1",
        "context".to_owned() + &".a".repeat(60) + " | default(1)",
        "1".to_owned() + &"|string".repeat(63),
        "1 if 0 else ".repeat(62) + "1",
        "-".repeat(8) + "1",
        "not ".repeat(500) + "1",
        "a.".repeat(250) + "a",
        "1 if 0 else ".repeat(127) + "1",
    ];
    let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(move || {
        let context = json!({});
        let mut accepted = 0;
        for expression in deepest.iter().filter_map(|text| Expression::parse(text).ok()) {
            let _either = expression.evaluate(&Scope::new(&context, &context), &mut Fuel::new());
            accepted += 1;
        }
        accepted
    });
    assert!(thread.unwrap().join().unwrap() >= 14, "the deepest are accepted");
}
