//! From a document to a definition: names become positions, texts become expressions, and every problem is told.

use std::collections::HashMap;

use serde_json::Value;

use super::graph::{self, StepSet};
use super::{builtin, builtin_ids, is_reserved};
use crate::error::{Problem, Problems};
use crate::expression::{Expression, ExpressionError, ROOTS, References, Template};
use crate::ids::StepName;
use crate::input::did_you_mean;
use crate::json_text::JsonText;
use crate::workflow::definition::{CompiledStep, Definition, OnFailure, StepSpec, WorkflowSpec};
use crate::workflow::machine::{BuiltinOperation, builtin_input_problem};

/// Most steps of a cycle that are named.
const CYCLE_SHOWN: usize = 12;

pub(super) fn compile(spec: WorkflowSpec, path: &str) -> Result<Definition, Problems> {
    let mut compiler = Compiler::new(&spec.steps, path);
    compiler.check_cycles();
    compiler.check_compensations();
    compiler.check_agents();
    let steps: Vec<Option<CompiledStep>> =
        spec.steps.iter().enumerate().map(|(order, step)| compiler.step(order, step)).collect();
    let (result, result_reads) = compiler.result(spec.result.as_ref());
    if !compiler.problems.is_empty() {
        return Err(Problems(compiler.problems));
    }
    let steps: Option<Vec<CompiledStep>> = steps.into_iter().collect();
    let steps = steps.ok_or_else(|| Problems::one(path, "could not be compiled"))?.into();
    Ok(Definition { spec, steps, result, result_reads: result_reads.into() })
}

struct Compiler<'a> {
    steps: &'a [StepSpec],
    path: String,
    positions: HashMap<&'a str, usize>,
    depends_on: Vec<Vec<(usize, bool)>>,
    dependents: Vec<Vec<usize>>,
    sorted: Vec<usize>,
    ancestors: Vec<StepSet>,
    /// The compensation of each step.
    compensate: Vec<Option<usize>>,
    /// Targets of compensations, and what depends on them.
    is_compensation: StepSet,
    problems: Vec<Problem>,
}

impl<'a> Compiler<'a> {
    fn new(steps: &'a [StepSpec], path: &str) -> Self {
        let mut compiler = Self {
            steps,
            path: if path.is_empty() { String::new() } else { format!("{path}.") },
            positions: graph::positions(steps),
            depends_on: Vec::with_capacity(steps.len()),
            dependents: Vec::new(),
            sorted: Vec::new(),
            ancestors: Vec::new(),
            compensate: Vec::with_capacity(steps.len()),
            is_compensation: StepSet::new(steps.len()),
            problems: Vec::new(),
        };
        for (order, step) in steps.iter().enumerate() {
            compiler.link(order, step);
        }
        compiler.dependents = graph::dependents(&compiler.depends_on);
        compiler.sorted = graph::topological(&compiler.depends_on, &compiler.dependents);
        compiler.ancestors = graph::ancestors(&compiler.depends_on, &compiler.sorted);
        let mut unseen: Vec<usize> = compiler.compensate.iter().copied().flatten().collect();
        while let Some(order) = unseen.pop() {
            if !compiler.is_compensation.contains(order) {
                compiler.is_compensation.insert(order);
                unseen.extend(compiler.dependents.get(order).into_iter().flatten());
            }
        }
        compiler
    }

    fn problem(&mut self, order: usize, field: &str, message: String) {
        let dot = if field.is_empty() { "" } else { "." };
        self.problems.push(Problem { path: format!("{}steps[{order}]{dot}{field}", self.path), message });
    }

    fn name(&self, order: usize) -> &'a str {
        self.steps.get(order).map_or("", |step| step.name.as_str())
    }

    /// Names that others can use; what stands for one that could not be read is none.
    fn names(&self) -> impl Iterator<Item = &'a str> {
        self.steps.iter().map(|step| step.name.as_str()).filter(|name| !name.contains('['))
    }

    /// Finds the steps that a step names.
    fn link(&mut self, order: usize, step: &'a StepSpec) {
        if let Some(first) = self.positions.get(step.name.as_str()).copied().filter(|first| *first != order) {
            self.problem(
                order,
                "name",
                format!("{:?} is the name of steps[{first}] already; names are unique", step.name),
            );
        }
        let mut depends_on = Vec::with_capacity(step.depends_on.len());
        for (i, dependency) in step.depends_on.iter().enumerate() {
            if let Some(position) = self.find(order, &dependency.step, &format!("depends_on[{i}]"), "depend on") {
                depends_on.push((position, dependency.required));
            }
        }
        self.depends_on.push(depends_on);
        let compensate = match &step.on_failure {
            OnFailure::Compensate(target) => self.find(order, target, "on_failure.compensate", "compensate"),
            OnFailure::Fail | OnFailure::Continue => None,
        };
        self.compensate.push(compensate);
    }

    fn find(&mut self, order: usize, name: &StepName, field: &str, verb: &str) -> Option<usize> {
        match self.positions.get(name.as_str()).copied() {
            Some(position) if position == order => {
                self.problem(order, field, format!("a step can't {verb} itself"));
                None
            }
            Some(position) => Some(position),
            None => {
                let hint = did_you_mean(name.as_str(), self.names());
                self.problem(order, field, format!("there is no step {name:?}{hint}"));
                None
            }
        }
    }

    fn check_cycles(&mut self) {
        if self.sorted.len() == self.steps.len() {
            return;
        }
        let cycles = graph::cycles(&self.depends_on, &self.sorted);
        let mut is_told = StepSet::new(self.steps.len());
        for order in self.sorted.iter().chain(cycles.iter().flatten()) {
            is_told.insert(*order);
        }
        for cycle in &cycles {
            let Some(first) = cycle.first().copied() else { continue };
            let mut names: Vec<&str> = cycle.iter().take(CYCLE_SHOWN).map(|order| self.name(*order)).collect();
            if cycle.len() > CYCLE_SHOWN {
                names.push("…");
            }
            names.push(self.name(first));
            let message = format!("depends on itself: {}; take one of these dependencies away", names.join(" → "));
            self.problem(first, "depends_on", message);
        }
        for order in (0..self.steps.len()).filter(|order| !is_told.contains(*order)) {
            self.problem(order, "depends_on", "can't be reached: what it depends on is part of a cycle".to_owned());
        }
    }

    fn check_compensations(&mut self) {
        for (order, step) in self.steps.iter().enumerate() {
            let OnFailure::Compensate(target) = &step.on_failure else { continue };
            let Some(Some(position)) = self.compensate.get(order).copied() else { continue };
            if self.ancestors.get(order).is_some_and(|ancestors| ancestors.contains(position)) {
                let message = format!(
                    "can't be reached: it depends on {target:?}, which runs only after it has failed; let {target:?} depend \
                     on this step, or neither on the other"
                );
                self.problem(order, "on_failure.compensate", message);
            } else if self.requires(position, order) {
                let message = format!(
                    "{target:?} requires this step to be done, so it would be skipped when this one has failed; take \
                     required away there"
                );
                self.problem(order, "on_failure.compensate", message);
            } else if self.is_compensation.contains(order) {
                let message = "a compensation, or what depends on one, can't have a compensation itself".to_owned();
                self.problem(order, "on_failure.compensate", message);
            }
        }
    }

    fn requires(&self, order: usize, other: usize) -> bool {
        self.depends_on.get(order).is_some_and(|depends_on| depends_on.contains(&(other, true)))
    }

    fn check_agents(&mut self) {
        for (order, step) in self.steps.iter().enumerate() {
            if is_reserved(&step.agent) && builtin(&step.agent).is_none() {
                let known: Vec<&str> = builtin_ids().collect();
                let hint = did_you_mean(step.agent.as_str(), builtin_ids());
                let message =
                    format!("there is no built-in agent {:?}{hint}; there are {}", step.agent, known.join(", "));
                self.problem(order, "agent", message);
            }
            let Ok(Value::Object(input)) = step.input.value() else { continue };
            // What a template makes of it is known when the step runs.
            let is_known = !step.input.as_str().contains("{{") && !step.input.as_str().contains("{%");
            let wrong = match step.agent.as_str() {
                "builtin:wait" if input.contains_key("seconds") == input.contains_key("until") => {
                    "needs either seconds, such as 90, or until, such as \"2026-01-31T08:00:00Z\"".to_owned()
                }
                "builtin:gate" if !input.contains_key("question") => {
                    "needs a question, such as \"May it be released?\", and may have a schema of the answer".to_owned()
                }
                agent if is_known => {
                    let operation = BuiltinOperation::ALL.iter().find(|(name, _)| agent == format!("builtin:{name}"));
                    match operation.and_then(|(_, operation)| builtin_input_problem(*operation, &step.input)) {
                        Some(wrong) => wrong,
                        None => continue,
                    }
                }
                _ => continue,
            };
            match wrong.strip_prefix("input").and_then(|rest| rest.split_once(": ")) {
                Some((field, message)) => self.problem(order, &format!("input{field}"), message.to_owned()),
                None => self.problem(order, "input", wrong),
            }
        }
    }

    fn step(&mut self, order: usize, step: &StepSpec) -> Option<CompiledStep> {
        let mut conditions = References::default();
        let mut condition = |compiler: &mut Self, field: &str, text: Option<&str>| -> Option<Option<Expression>> {
            let Some(text) = text else { return Some(None) };
            match Expression::parse(text) {
                Ok(expression) => {
                    conditions.merge(expression.references());
                    compiler.check_references(order, field, &expression.references());
                    Some(Some(expression))
                }
                Err(error) => {
                    compiler.problem(order, field, error.message);
                    None
                }
            }
        };
        let run_if = condition(self, "run_if", step.run_if.as_deref());
        let skip_if = condition(self, "skip_if", step.skip_if.as_deref());
        let input = match template(&step.input) {
            Ok(template) => {
                self.check_references(order, "input", &template.references());
                Some(template)
            }
            Err(errors) => {
                for (path, error) in errors {
                    self.problem(order, &joined("input", &path), error.message);
                }
                None
            }
        };
        let input = input?;
        Some(CompiledStep {
            depends_on: self.depends_on.get(order)?.clone().into(),
            dependents: self.dependents.get(order)?.clone().into(),
            compensate: self.compensate.get(order).copied().flatten(),
            is_compensation: self.is_compensation.contains(order),
            condition_reads: self.reads(order, &conditions).into(),
            input_reads: self.reads(order, &input.references()).into(),
            run_if: run_if?,
            skip_if: skip_if?,
            input,
        })
    }

    /// Whether a step is done for sure when the one at `order` begins. A compensation runs after everything else.
    fn can_read(&self, order: usize, other: usize) -> bool {
        self.ancestors.get(order).is_some_and(|ancestors| ancestors.contains(other))
            || (self.is_compensation.contains(order) && !self.is_compensation.contains(other))
    }

    fn check_references(&mut self, order: usize, field: &str, references: &References) {
        self.check_roots(&format!("steps[{order}].{field}"), references);
        for name in &references.steps {
            let position = self.positions.get(name.as_str()).copied();
            match position {
                Some(position) if self.can_read(order, position) => {}
                Some(position) if position == order => {
                    self.problem(order, field, "reads its own output, which is not there before it is done".to_owned());
                }
                Some(position) if self.ancestors.get(position).is_some_and(|a| a.contains(order)) => {
                    let message = format!("reads steps.{name}, which is done after this step");
                    self.problem(order, field, message);
                }
                // On a cycle nothing is known; the cycle is told.
                Some(_) if !self.sorted.contains(&order) => {}
                Some(_) => {
                    let message =
                        format!("reads steps.{name}, which may not be done by then; add {name:?} to depends_on");
                    self.problem(order, field, message);
                }
                None => {
                    let message = self.no_such_step(name);
                    self.problem(order, field, message);
                }
            }
        }
    }

    fn no_such_step(&self, name: &str) -> String {
        let hint = did_you_mean(name, self.names());
        format!("reads steps.{name}, but there is no step {name:?}{hint}")
    }

    fn check_roots(&mut self, field: &str, references: &References) {
        let seen_here = || ROOTS.iter().copied().filter(|root| *root != "value");
        for root in references.roots.iter().filter(|root| !seen_here().any(|known| known == root.as_str())) {
            let hint = did_you_mean(root, seen_here());
            let known: Vec<&str> = seen_here().collect();
            let message = format!("{root:?} is not known here{hint}; known are {}", known.join(", "));
            self.problems.push(Problem { path: format!("{}{field}", self.path), message });
        }
    }

    /// The steps that must be loaded for an expression of a step.
    fn reads(&self, order: usize, references: &References) -> Vec<usize> {
        self.positions_read(references, |other| self.can_read(order, other))
    }

    fn positions_read(&self, references: &References, can_read: impl Fn(usize) -> bool) -> Vec<usize> {
        if references.any_step {
            return (0..self.steps.len()).filter(|other| can_read(*other)).collect();
        }
        let mut reads: Vec<usize> =
            references.steps.iter().filter_map(|name| self.positions.get(name.as_str()).copied()).collect();
        reads.sort_unstable();
        reads
    }

    fn result(&mut self, text: Option<&JsonText>) -> (Option<Template>, Vec<usize>) {
        let Some(text) = text else {
            return (None, self.last_steps());
        };
        let template = match template(text) {
            Ok(template) => template,
            Err(errors) => {
                let at = |path: &str| format!("{}{}", self.path, joined("result", path));
                let problems =
                    errors.into_iter().map(|(path, error)| Problem { path: at(&path), message: error.message });
                self.problems.extend(problems.collect::<Vec<_>>());
                return (None, Vec::new());
            }
        };
        let references = template.references();
        self.check_roots("result", &references);
        for name in &references.steps {
            if !self.positions.contains_key(name.as_str()) {
                let message = self.no_such_step(name);
                self.problems.push(Problem { path: format!("{}result", self.path), message });
            }
        }
        let reads = self.positions_read(&references, |_| true);
        (Some(template), reads)
    }

    /// Steps that nothing depends on, except compensations.
    fn last_steps(&self) -> Vec<usize> {
        let is_normal = |order: &usize| !self.is_compensation.contains(*order);
        (0..self.steps.len())
            .filter(is_normal)
            .filter(|order| !self.dependents.get(*order).into_iter().flatten().any(is_normal))
            .collect()
    }
}

fn template(text: &JsonText) -> Result<Template, Vec<(String, ExpressionError)>> {
    // A text that was written as JSON is JSON.
    Template::parse(&text.value().unwrap_or(Value::Null))
}

/// The path of a problem inside a field.
fn joined(field: &str, rest: &str) -> String {
    let dot = if rest.is_empty() || rest.starts_with('[') { "" } else { "." };
    format!("{field}{dot}{rest}")
}
