//! Agents and workflows that try.

use std::fmt;

use a2a_core::agent::Executor;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::{kind, nothing, stored};

/// What can be named.
pub(super) struct Names {
    pub(super) command: String,
    pub(super) tool: (String, String),
    pub(super) origins: Vec<String>,
    pub(super) origin_port: u16,
    pub(super) trap_port: u16,
    /// The program of the command.
    pub(super) listed: String,
    pub(super) forbidden: String,
    /// An operator's file that is not this process's.
    pub(super) generous: String,
}

/// Agents, a workflow of them, and how it is run.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) agents: Vec<Value>,
    pub(super) workflow: Value,
    /// The workflow has a field that no workflow has.
    pub(super) has_unknown_field: bool,
    pub(super) context: Value,
    pub(super) input: Value,
    pub(super) overrides: Value,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agents, workflow, context, input, overrides, .. } = self;
        let all = json!({"agents": agents, "workflow": workflow, "context": context, "input": input,
            "overrides": overrides});
        write!(f, "{all:#}")
    }
}

impl Case {
    /// The executors of the agents, valid or not.
    pub(super) fn executors(&self) -> impl Iterator<Item = Executor> {
        self.agents.iter().filter_map(|agent| {
            let settings = agent["executor"].get("settings").cloned().unwrap_or_else(nothing);
            Some(stored(kind(agent)?, &settings))
        })
    }

    /// Inputs to execute with, as they are written.
    pub(super) fn inputs(&self) -> Vec<&Value> {
        let steps = self.workflow["steps"].as_array().unwrap();
        steps.iter().map(|step| &step["input"]).chain([&self.input]).take(2).collect()
    }
}

const KEYS: &[&str] = &[
    "name",
    "command",
    "commands",
    "argv",
    "program",
    "shell",
    "path",
    "cwd",
    "env",
    "environment",
    "A2A_CONFIG",
    "config",
    "operator",
    "operator_file",
    "url",
    "origin",
    "host",
    "endpoint",
    "server",
    "servers",
    "tool",
    "tools",
    "mcp",
    "http",
    "a2a",
    "egress",
    "allow",
    "private",
    "headers",
    "executor",
    "settings",
    "kind",
    "operation",
    "expression",
    "agent",
    "timeout_s",
    "output_bytes_max",
    "signing_keys",
    "__proto__",
    "$ref",
];

/// Values that would do harm if anybody took them for what they look like.
fn bait(names: &Names) -> BoxedStrategy<Value> {
    let Names { command, tool: (server, tool), origins, origin_port, trap_port, listed, forbidden, generous } = names;
    let mut values = vec![
        json!(command),
        json!(server),
        json!(tool),
        json!(listed),
        json!(forbidden),
        json!([forbidden]),
        json!([forbidden, "x"]),
        json!(["/bin/sh", "-c", forbidden]),
        json!(format!("/bin/sh -c {forbidden}")),
        json!(format!("{command}; {forbidden}")),
        json!(format!("{command}\n")),
        json!(format!(" {command}")),
        json!(command.to_uppercase()),
        json!(format!("../{command}")),
        json!(format!("commands.{command}")),
        json!(format!("file://{forbidden}")),
        json!("evil"),
        json!("secret"),
        json!("*"),
        json!(generous),
        json!({"A2A_CONFIG": generous}),
        json!({"argv": [forbidden], "tools": ["*"], "private": true}),
        json!({"evil": {"argv": [forbidden], "tools": ["secret"]}}),
        json!({"kind": "command", "settings": {"name": "evil", "argv": [forbidden]}}),
        json!({"allow": [{"origin": format!("http://127.0.0.1:{trap_port}"), "private": true}]}),
        json!(true),
        json!("echo"),
        json!("transform"),
        json!("{{ context }}"),
        json!("{{ context.argv }}"),
        json!("{{ input }}"),
        json!("{{ input.url }}"),
        json!("{{ run }}"),
        json!(format!("{{{{ '{forbidden}' }}}}")),
    ];
    for origin in origins {
        values.extend([json!(origin), json!(format!("{origin}/hook")), json!(format!("{origin}/away"))]);
        values.push(json!(format!("{}/hook?to=http://127.0.0.1:{trap_port}/", origin.to_uppercase())));
    }
    for host in ["127.0.0.1", "localhost", "127.1", "0x7f.1", "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0"] {
        values.extend([trap_port, origin_port].map(|port| json!(format!("http://{host}:{port}/"))));
    }
    let listed_host = format!("127.0.0.1:{origin_port}");
    values.extend([
        json!(format!("http://{listed_host}@127.0.0.1:{trap_port}/")),
        json!(format!("http://127.0.0.1:{trap_port}/#@{listed_host}")),
        json!(format!("http://127.0.0.1:{trap_port}\\@{listed_host}/")),
        json!(format!("https://{listed_host}/")),
    ]);
    // Most of these make a document invalid.
    let rare = vec![
        json!(format!("{command}\u{0}")),
        json!("{{ env.A2A_CONFIG }}"),
        json!("{{ context.__class__.__init__.__globals__ }}"),
        json!(format!("{{% include '{generous}' %}}")),
        Value::Null,
    ];
    prop_oneof![30 => select(values), 1 => any::<String>().prop_map(Value::from), 1 => select(rare)].boxed()
}

/// An object of such values, one in the other.
fn hostile(names: &Names) -> BoxedStrategy<Map<String, Value>> {
    let flat = btree_map(select(KEYS), bait(names), 0..4).prop_map(object).boxed();
    let nested = (select(KEYS), flat.clone()).prop_map(|(key, inner)| object([(key, Value::from(inner))]));
    (flat, nested, any::<bool>()).prop_map(|(flat, nested, both)| merged(flat, both.then_some(nested))).boxed()
}

fn object<'k>(fields: impl IntoIterator<Item = (&'k str, Value)>) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn merged(mut fields: Map<String, Value>, more: Option<Map<String, Value>>) -> Map<String, Value> {
    fields.extend(more.into_iter().flatten());
    fields
}

/// How an agent works: often nothing but what its kind asks for, and often what is listed.
fn executor(names: &Names) -> BoxedStrategy<Value> {
    let (server, tool) = names.tool.clone();
    let urls: Vec<String> =
        names.origins.iter().flat_map(|o| ["", "/hook", "/away"].map(|p| format!("{o}{p}"))).collect();
    let listed = prop_oneof![
        Just(json!({"kind": "command", "settings": {"name": names.command}})),
        Just(json!({"kind": "mcp", "settings": {"server": &server, "tool": tool}})),
        (select(vec!["http", "a2a"]), select(urls)).prop_map(|(k, url)| json!({"kind": k, "settings": {"url": url}})),
        select(vec!["echo", "transform"]).prop_map(|o| json!({"kind": "builtin", "settings": {"operation": o}})),
    ];
    let named = prop_oneof![
        bait(names).prop_map(|name| json!({"kind": "command", "settings": {"name": name}})),
        // A listed server has tools that are not.
        (
            prop_oneof![1 => Just(json!(server)), 1 => bait(names)],
            prop_oneof![1 => Just(json!("secret")), 1 => bait(names)]
        )
            .prop_map(|(s, t)| json!({"kind": "mcp", "settings": {"server": s, "tool": t}})),
        (select(vec!["http", "a2a"]), bait(names)).prop_map(|(k, url)| json!({"kind": k, "settings": {"url": url}})),
        (bait(names), bait(names))
            .prop_map(|(o, e)| json!({"kind": "builtin", "settings": {"operation": o, "expression": e}})),
    ];
    let kinds = vec!["command", "mcp", "http", "a2a", "builtin", "pull", "shell"];
    let any = (select(kinds), hostile(names)).prop_map(|(k, settings)| json!({"kind": k, "settings": settings}));
    let more = (listed.clone(), hostile(names)).prop_map(|(mut executor, more)| {
        let settings = executor["settings"].as_object_mut().unwrap();
        for (name, value) in more {
            settings.entry(name).or_insert(value);
        }
        executor
    });
    prop_oneof![6 => listed, 3 => named, 1 => any, 1 => more].boxed()
}

fn agent(names: &Names, id: &'static str) -> BoxedStrategy<Value> {
    let config = hostile(names);
    (executor(names), config, bait(names), proptest::bool::weighted(0.05), hostile(names))
        .prop_map(move |(executor, config, text, more, unknown)| {
            let text = text.as_str().filter(|text| !text.is_empty()).unwrap_or("x").to_owned();
            let mut document =
                json!({"id": id, "description": "x", "instructions": text, "config": config, "executor": executor});
            if more {
                document.as_object_mut().unwrap().extend(unknown);
            }
            document
        })
        .boxed()
}

/// Who does a step: mostly an agent that may be there.
fn worker(names: &Names) -> BoxedStrategy<Value> {
    let ids = vec!["alpha", "beta", "gamma", "builtin:echo", "builtin:transform"];
    let tries = vec![
        format!("command:{}", names.command),
        format!("builtin:{}", names.command),
        "builtin:command".to_owned(),
        "builtin:http".to_owned(),
        "/bin/sh".to_owned(),
    ];
    prop_oneof![20 => select(ids).prop_map(Value::from), 1 => select(tries).prop_map(Value::from), 1 => bait(names)]
        .boxed()
}

fn input(names: &Names) -> BoxedStrategy<Value> {
    let expression = bait(names).prop_map(|e| json!({"expression": e}));
    prop_oneof![4 => hostile(names).prop_map(Value::from), 2 => bait(names), 1 => expression,
        1 => Just(json!({"a": 1, "b": 2})), 1 => Just(json!("{{ steps.s0.output }}"))]
    .boxed()
}

fn steps(names: &Names) -> BoxedStrategy<Vec<Value>> {
    vec((worker(names), input(names), any::<bool>()), 1..4)
        .prop_map(|steps| {
            let step = |(order, (agent, input, after)): (usize, (Value, Value, bool))| {
                let after: Vec<String> = (0..order).filter(|_| after).map(|order| format!("s{order}")).collect();
                json!({"name": format!("s{order}"), "agent": agent, "input": input, "depends_on": after,
                    "retry": {"max_attempts": 1}, "on_failure": "continue", "timeout_s": 20})
            };
            steps.into_iter().enumerate().map(step).collect()
        })
        .boxed()
}

/// Changes of one step, some of which no step has.
fn overrides(names: &Names) -> BoxedStrategy<Value> {
    let change = (worker(names), input(names), proptest::bool::weighted(0.2), hostile(names)).prop_map(
        |(agent, input, more, unknown)| {
            let change = object([("agent", agent), ("input", input)]);
            Value::from(merged(change, more.then_some(unknown)))
        },
    );
    prop_oneof![1 => Just(nothing()), 2 => change.prop_map(|change| json!({"s0": change}))].boxed()
}

pub(super) fn case(names: &Names) -> BoxedStrategy<Case> {
    let agents = ["alpha", "beta", "gamma"].map(|id| agent(names, id));
    let contexts = (hostile(names), hostile(names));
    let unknown = (0..10_u8, select(KEYS), bait(names));
    (agents, steps(names), contexts, input(names), overrides(names), unknown)
        .prop_map(|(agents, steps, (defaults, context), input, overrides, (place, key, value))| {
            let mut workflow = json!({"id": "w", "steps": steps, "context": defaults, "timeout_s": 60});
            let known = ["id", "steps", "context", "timeout_s", "name", "agent", "capability"];
            // In one of ten cases the workflow itself says more, in another one its first step does.
            let target = match place {
                0 => Some(&mut workflow),
                1 => Some(&mut workflow["steps"][0]),
                _ => None,
            };
            let target = target.filter(|_| !known.contains(&key));
            let has_unknown_field = target.is_some();
            if let Some(target) = target {
                target[key] = value;
            }
            // What replaces the context must have its fields.
            let context = context.into_iter().filter(|(name, _)| defaults.contains_key(name)).collect();
            let context = Value::Object(context);
            Case { agents: agents.into(), workflow, has_unknown_field, context, input, overrides }
        })
        .boxed()
}
