//! The ways that the workflows of the examples can go, with what agents and people say on them.

use std::fmt;

use serde_json::{Value, json};

/// A file or folder of the examples.
pub(super) fn examples(name: &str) -> String {
    format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The ids of all workflows of the examples: a file is named after the one in it.
pub(super) fn in_the_examples() -> Vec<String> {
    let entries = std::fs::read_dir(examples("workflows")).unwrap();
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// One way through a workflow.
pub(super) struct Way {
    pub(super) workflow: &'static str,
    what: &'static str,
    pub(super) input: Value,
    pub(super) context: Value,
    /// What agents hand in, by step; what is no output is an error, as a text.
    outputs: Value,
    /// What people answer, by step.
    answers: Value,
    /// How it ends.
    pub(super) status: &'static str,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.workflow, self.what)
    }
}

impl Way {
    pub(super) fn is_pulled(&self, step: &str) -> bool {
        self.outputs.get(step).is_some()
    }

    pub(super) fn answer(&self, step: &str) -> Value {
        self.answers.get(step).unwrap_or_else(|| panic!("{self}: nobody knows what to say to {step}")).clone()
    }

    /// What is handed in for a step, but for the claim.
    pub(super) fn result(&self, step: &str) -> Value {
        match self.outputs.get(step).unwrap_or_else(|| panic!("{self}: nobody can do {step}")) {
            Value::String(error) => json!({"status": "failed", "error": error, "retryable": false}),
            output => json!({"status": "done", "output": output}),
        }
    }
}

fn page(text: &str) -> Value {
    json!({"page": text, "unverified": []})
}

fn claims() -> Value {
    json!({"claims": [{"claim": "Owls see.", "verdict": "confirmed"}, {"claim": "Owls fly west.", "verdict": "wrong"}]})
}

fn reproduced(reproduced: bool) -> Value {
    json!({"reproduced": reproduced, "commands": ["run it"], "observed": "it stops", "open_questions": ["Which version?"]})
}

fn review(verdict: &str) -> Value {
    let finding = json!({"severity": "should_fix", "file": "a.rs", "problem": "the limit is off by one"});
    json!({"verdict": verdict, "findings": [finding]})
}

fn security() -> Value {
    json!({"entry_points": [{"route": "/login", "gap": false}], "findings": []})
}

fn notes() -> Value {
    json!({"notes": "Faster.", "summary": "It is faster."})
}

fn tests() -> Value {
    let promise = json!({"promise": "it holds", "test": "it_holds", "seen_failing": true});
    json!({"files": [{"path": "t.rs", "content": "fn it_holds() {}"}], "promises": [promise]})
}

fn mail() -> Value {
    json!({"subject": "News", "body": "There is some."})
}

fn story() -> Value {
    json!({"story": "The disk was full.", "chain": [{"line": "ENOSPC", "role": "cause"}]})
}

fn command() -> Value {
    let guess = json!({"hypothesis": "the disk is full", "check": "df"});
    json!({"severity": "sev2", "next_action": "make room", "reversible": false, "hypotheses": [guess]})
}

fn postmortem() -> Value {
    let follow_up = json!({"action": "watch the disk", "owner_role": "operations", "proof": "an alert"});
    json!({"summary": "full", "timeline": [{"at": "2026-01-01T00:00:00Z", "event": "full"}], "mechanism": "logs",
        "follow_ups": [follow_up]})
}

fn gate(healthy: bool) -> Value {
    json!({"act": {"done": healthy, "observed": "there is room"}, "helped": {"healthy": healthy, "observed": "so it is"}})
}

pub(super) fn ways() -> Vec<Way> {
    let way = |workflow, what, input, outputs, answers| Way {
        workflow,
        what,
        input,
        context: json!({}),
        outputs,
        answers,
        status: "COMPLETED",
    };
    let release = json!({"version": "2.1.0", "diff": "-a\n+b", "changes": "b instead of a"});
    let incident = json!({"symptoms": "it is slow", "logs": "ENOSPC", "recent_changes": ["more logs"]});
    vec![
        Way {
            context: json!({"pause_s": 0.2}),
            ..way("first-run", "hello", json!({"message": "owl"}), json!({}), json!({}))
        },
        way(
            "bug-triage",
            "reproduced",
            json!({"report": "it stops", "logs": "panic"}),
            json!({"reproduce": reproduced(true), "logs": story(), "test": tests()}),
            json!({}),
        ),
        way(
            "bug-triage",
            "not reproduced, and no logs",
            json!({"report": "it stops"}),
            json!({"reproduce": reproduced(false), "ask": mail()}),
            json!({}),
        ),
        way(
            "bug-triage",
            "the logs can't be read",
            json!({"report": "it stops", "logs": "\u{1}"}),
            json!({"reproduce": reproduced(true), "logs": "this is no log", "test": tests()}),
            json!({}),
        ),
        way(
            "content-pipeline",
            "published",
            json!({"topic": "owls", "kind": "how_to"}),
            json!({"draft": page("Owls see."), "facts": claims(), "edit": {"edited": "Owls see well."}}),
            json!({"approve": {"publish": true}}),
        ),
        way(
            "content-pipeline",
            "edited again",
            json!({"topic": "owls"}),
            json!({"draft": page("Owls see."), "facts": claims(), "edit": {"edited": "Owls see well."},
                "rework": {"edited": "Owls."}}),
            json!({"approve": {"publish": false, "comment": "shorter"}}),
        ),
        Way {
            context: json!({"watch_s": 0.2}),
            ..way(
                "incident-response",
                "healthy again",
                incident.clone(),
                json!({"command": command(), "logs": story(), "postmortem": postmortem()}),
                gate(true),
            )
        },
        Way {
            status: "FAILED",
            ..way(
                "incident-response",
                "handed over",
                incident,
                json!({"command": command(), "logs": story(), "postmortem": "nobody knows enough"}),
                gate(false),
            )
        },
        way(
            "research-report",
            "a report",
            json!({"question": "Do owls see?"}),
            json!({"sources": {"sources": [{"title": "Owls", "identifier": "doi:1", "finding": "yes", "read": "abstract"}],
                    "search_log": [{"index": "all", "query": "owls"}]},
                "write": page("They do."), "check": claims(), "edit": {"edited": "They do indeed."}}),
            json!({}),
        ),
        way(
            "review-release",
            "released",
            release.clone(),
            json!({"review": review("approve"), "security": security(), "notes": notes(), "announce": mail()}),
            json!({"approve": {"release": true}}),
        ),
        way(
            "review-release",
            "tested and not released",
            release,
            json!({"review": review("request_changes"), "security": security(), "tests": tests(), "notes": notes()}),
            json!({"approve": {"release": false, "comment": "later"}}),
        ),
    ]
}
