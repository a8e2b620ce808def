//! What ships inside the program: the agents and workflows of `examples/`, and the memories that a new installation begins
//! with.

use serde_json::{Value, json};

use super::documents;

macro_rules! example {
    ($name:literal) => {
        (concat!("examples/", $name), include_str!(concat!("../../../../examples/", $name)))
    };
}

const AGENTS: [(&str, &str); 8] = [
    example!("agents/business.yaml"),
    example!("agents/data.yaml"),
    example!("agents/engineering.yaml"),
    example!("agents/operations.yaml"),
    example!("agents/product.yaml"),
    example!("agents/research.json"),
    example!("agents/security.yaml"),
    example!("agents/writing.yaml"),
];

const WORKFLOWS: [(&str, &str); 6] = [
    example!("workflows/bug-triage.yaml"),
    example!("workflows/content-pipeline.json"),
    example!("workflows/first-run.yaml"),
    example!("workflows/incident-response.yaml"),
    example!("workflows/research-report.yaml"),
    example!("workflows/review-release.yaml"),
];

/// Echoes need no model and no other program.
const ECHO: (&str, &str) = ("the echo agent", include_str!("seed/echo.yaml"));
const MEMORIES: (&str, &str) = ("the first memories", include_str!("seed/memories.yaml"));

/// The roster of the examples.
pub(crate) fn agents() -> Result<Vec<Value>, String> {
    all(&AGENTS)
}

/// The agent that gives back what it is given.
pub(crate) fn echo() -> Result<Vec<Value>, String> {
    all(&[ECHO])
}

/// The workflows of the examples.
pub(crate) fn workflows() -> Result<Vec<Value>, String> {
    all(&WORKFLOWS)
}

/// What is worth knowing about this program itself.
pub(crate) fn memories() -> Result<Vec<Value>, String> {
    all(&[MEMORIES])
}

fn all(files: &[(&str, &str)]) -> Result<Vec<Value>, String> {
    let mut documents = Vec::new();
    for (name, text) in files {
        // YAML holds JSON too.
        documents.extend(documents::parse_yaml(text.as_bytes()).map_err(|reason| format!("{name} {reason}"))?);
    }
    Ok(documents)
}

/// The parts that generated agents are put together from.
const DOMAINS: [&str; 12] = [
    "billing",
    "checkout",
    "customers",
    "deployments",
    "documents",
    "incidents",
    "inventory",
    "invoices",
    "metrics",
    "orders",
    "shipping",
    "support",
];
const TASKS: [(&str, &str, &str); 8] = [
    ("review", "quality", "Reviews {domain} changes and names what has to be repaired before they go out."),
    ("summarise", "writing", "Summarises what happened in {domain} for somebody who was away."),
    ("forecast", "data", "Forecasts {domain} for the coming weeks, with the range it is sure of."),
    ("audit", "security", "Audits who may change {domain}, and whether they still need to."),
    ("reconcile", "finance", "Reconciles {domain} between two systems and explains each difference."),
    ("triage", "operations", "Sorts what comes in about {domain} by urgency and by who can help."),
    ("plan", "product", "Plans the next steps for {domain} with their costs and risks."),
    ("translate", "writing", "Translates texts about {domain} and keeps their terms consistent."),
];

/// One of any number of agents for tests of size: the same number gives the same agent.
pub(crate) fn generated(number: usize) -> Value {
    let pick = |list_len: usize, step: usize| (number / step) % list_len;
    let domain = DOMAINS.get(pick(DOMAINS.len(), 1)).copied().unwrap_or_default();
    let (task, category, description) = TASKS.get(pick(TASKS.len(), DOMAINS.len())).copied().unwrap_or_default();
    let text = description.replace("{domain}", domain);
    json!({
        "id": format!("generated-{number:06}"),
        "name": format!("Generated {task} of {domain} {number}"),
        "version": "1.0.0",
        "description": text,
        "category": category,
        "tags": ["generated", domain, task],
        "capabilities": [{
            "name": format!("{task}_{domain}"),
            "description": text,
            "input_schema": {
                "type": "object",
                "properties": {"subject": {"type": "string", "minLength": 1}, "since": {"type": "string"}},
                "required": ["subject"],
                "additionalProperties": false,
            },
            "output_schema": {
                "type": "object",
                "properties": {"result": {"type": "string"}},
                "required": ["result"],
            },
            "example_queries": [format!("{task} {domain}"), format!("who can {task} our {domain}")],
        }],
    })
}
