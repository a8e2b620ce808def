//! Workflows and runs as Mermaid flowcharts, <https://mermaid.js.org/syntax/flowchart.html>.

use std::fmt::Write as _;

use crate::workflow::definition::{Definition, OnFailure};
use crate::workflow::run::{RunState, Step, StepStatus, Wait};

/// Colours that can be told apart on light and on dark ground.
const CLASSES: [(&str, &str); 5] = [
    ("done", "fill:#2e7d32,color:#fff"),
    ("failed", "fill:#c62828,color:#fff"),
    ("working", "fill:#1565c0,color:#fff"),
    ("waiting", "fill:#f9a825,color:#000"),
    ("over", "fill:#757575,color:#fff"),
];

/// Draws a run with the state of each step.
#[must_use]
pub fn of_run(state: &RunState) -> String {
    draw(&state.run.definition, Some(&state.steps))
}

/// Draws what a run would execute.
#[must_use]
pub fn of_definition(definition: &Definition) -> String {
    draw(definition, None)
}

fn draw(definition: &Definition, steps: Option<&[Step]>) -> String {
    let mut text = String::from("flowchart TD\n");
    let mut classes: Vec<(&str, Vec<usize>)> = CLASSES.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for (order, spec) in definition.spec.steps.iter().enumerate() {
        let step = steps.and_then(|steps| steps.get(order));
        let state = step.map_or_else(String::new, |step| format!("<br/>{}", escaped(&described(step))));
        let (name, agent) = (escaped(spec.name.as_str()), escaped(spec.agent.as_str()));
        let _infallible = writeln!(text, "    s{order}[\"<b>{name}</b><br/>{agent}{state}\"]");
        if let Some(class) = step.and_then(|step| class_of(step.status))
            && let Some((_, members)) = classes.iter_mut().find(|(name, _)| *name == class)
        {
            members.push(order);
        }
    }
    for (order, compiled) in definition.steps.iter().enumerate() {
        for (dependency, required) in &compiled.depends_on {
            let arrow = if *required { "-->|required|" } else { "-->" };
            let _infallible = writeln!(text, "    s{dependency} {arrow} s{order}");
        }
        let on_failure = definition.spec.steps.get(order).map(|spec| &spec.on_failure);
        if let (Some(OnFailure::Compensate(_)), Some(target)) = (on_failure, compiled.compensate) {
            let _infallible = writeln!(text, "    s{order} -.->|on failure| s{target}");
        }
    }
    for (name, members) in classes.iter().filter(|(_, members)| !members.is_empty()) {
        if let Some((_, style)) = CLASSES.iter().find(|(known, _)| known == name) {
            let members: Vec<String> = members.iter().map(|order| format!("s{order}")).collect();
            let _infallible = writeln!(text, "    classDef {name} {style}\n    class {} {name}", members.join(","));
        }
    }
    text
}

fn class_of(status: StepStatus) -> Option<&'static str> {
    match status {
        StepStatus::Pending => None,
        StepStatus::Ready | StepStatus::Running => Some("working"),
        StepStatus::Waiting => Some("waiting"),
        StepStatus::Completed => Some("done"),
        StepStatus::Failed => Some("failed"),
        StepStatus::Skipped | StepStatus::Cancelled => Some("over"),
    }
}

fn described(step: &Step) -> String {
    let mut text = step.status.to_string();
    match &step.wait {
        Some(Wait::Answer { .. }) => text.push_str(" for an answer"),
        Some(Wait::Retry) => text.push_str(" to try again"),
        Some(Wait::Timer) => text.push_str(" for a time"),
        None => {}
    }
    if let Some(percent) = step.progress.as_ref().and_then(|progress| progress.percent) {
        let _infallible = write!(text, " {percent} %");
    }
    if step.attempt > 1 {
        let _infallible = write!(text, ", attempt {}", step.attempt);
    }
    text
}

/// A text inside the quotes of a label. Mermaid takes entity codes there, and nothing that is not a letter, a digit or
/// a harmless sign goes in as it is.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_alphanumeric() || matches!(c, ' ' | '.' | '_' | '-' | ',' | '%' | ':') => escaped.push(c),
            c if c.is_control() => escaped.push(' '),
            c => {
                let _infallible = write!(escaped, "#{};", u32::from(c));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workflow::machine::fixtures::Sim;

    #[test]
    fn a_run_is_drawn_with_the_state_of_each_step() {
        let mut sim = Sim::new(&json!({"steps": [
            {"name": "draft", "agent": "writer", "on_failure": {"compensate": "undo"}},
            {"name": "gate", "agent": "builtin:gate", "input": {"question": "Go?"}},
            {"name": "end", "agent": "x", "depends_on": [{"step": "draft", "required": true}, "gate"]},
            {"name": "undo", "agent": "x"}]}));
        sim.done("draft", &json!(1));
        let drawn = of_run(&sim.state);
        for line in [
            "flowchart TD",
            r#"    s0["<b>draft</b><br/>writer<br/>COMPLETED"]"#,
            r#"    s1["<b>gate</b><br/>builtin:gate<br/>WAITING for an answer"]"#,
            r#"    s3["<b>undo</b><br/>x<br/>PENDING"]"#,
            "    s0 -->|required| s2",
            "    s1 --> s2",
            "    s0 -.->|on failure| s3",
            "    class s0 done",
            "    class s1 waiting",
        ] {
            assert!(drawn.lines().any(|drawn| drawn == line), "{line} not in\n{drawn}");
        }
        assert!(!of_definition(&sim.state.run.definition).contains("PENDING"));
    }

    #[test]
    fn texts_cannot_leave_their_labels() {
        assert_eq!(escaped("a\"]; click <b>\n#"), "a#34;#93;#59; click #60;b#62; #35;");
    }
}
