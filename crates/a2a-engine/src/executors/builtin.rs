//! What this server does by itself: `echo` gives the input back, `transform` evaluates an expression over it.
//!
//! The expression of a transform is `settings.expression` of the agent, or else `expression` of the step's input. It
//! sees that whole input as `input`, and as `value`.
//!
//! `wait` and `gate` never come here: the state machine carries them out without a worker.

use std::sync::Arc;

use a2a_core::expression::{Expression, Fuel, Scope};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{Contact, Done, Execute, Missing, StepContext, StepWork, text_setting};

/// The executor of the kind `builtin`.
pub(super) struct Builtin;

/// An operation that a worker carries out.
enum Operation {
    Echo,
    Transform,
}

fn operation(settings: &Value) -> Result<Operation, Missing> {
    match text_setting(settings, "operation")? {
        "echo" => Ok(Operation::Echo),
        "transform" => Ok(Operation::Transform),
        "wait" => Err(Missing("internal error: wait is not a worker's; a timer of the run does it".to_owned())),
        "gate" => Err(Missing("internal error: gate is not a worker's; an answer to the run does it".to_owned())),
        other => Err(Missing(format!("there is no built-in operation {other:?}"))),
    }
}

impl Execute for Builtin {
    fn can_run(&self, settings: &Value) -> Result<(), Missing> {
        operation(settings).map(|_| ())
    }

    fn execute(&self, work: StepWork, _context: Arc<dyn StepContext>) -> BoxFuture<'_, Done> {
        async move {
            let settings = work.settings();
            match operation(&settings) {
                Ok(Operation::Echo) => Done::Completed(work.input),
                Ok(Operation::Transform) => transform(&settings, &work),
                Err(missing) => missing.into(),
            }
        }
        .boxed()
    }

    fn check<'s>(&'s self, _settings: &'s Value) -> BoxFuture<'s, Result<Contact, Missing>> {
        std::future::ready(Ok(Contact::Reached { remark: None })).boxed()
    }
}

/// The fuel bounds how long this takes, so that it need not leave the thread.
fn transform(settings: &Value, work: &StepWork) -> Done {
    let text = settings.get("expression").or_else(|| work.input.get("expression")).and_then(Value::as_str);
    let Some(text) = text else {
        return Done::failed("transform has no expression; give the step an input with a text \"expression\"");
    };
    let scope = Scope::new(&Value::Null, &work.input).with_run(json!({"id": work.run})).with_value(&work.input);
    let evaluated = Expression::parse(text).and_then(|expression| expression.evaluate(&scope, &mut Fuel::default()));
    match evaluated {
        Ok(value) => Done::Completed(value),
        Err(error) => Done::failed(format!("the expression of the transform failed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executors::tests::{Watched, execute, work};

    async fn run(settings: Value, input: Value) -> Done {
        let operator = Arc::default();
        execute(operator, work("builtin", settings, input), Watched::new()).await
    }

    #[tokio::test]
    async fn echo_gives_the_input_back() {
        let input = json!({"a": [1, null, "x"]});
        assert_eq!(run(json!({"operation": "echo"}), input.clone()).await, Done::Completed(input));
    }

    #[tokio::test]
    async fn transform_takes_the_expression_of_the_agent_or_of_the_input() {
        let of_agent = run(json!({"operation": "transform", "expression": "input.n + 1"}), json!({"n": 41})).await;
        assert_eq!(of_agent, Done::Completed(json!(42)));
        let of_input = run(
            json!({"operation": "transform"}),
            json!({"expression": "input.names | join('-')", "names": ["a", "b"]}),
        );
        assert_eq!(of_input.await, Done::Completed(json!("a-b")));
    }

    #[tokio::test]
    async fn a_transform_that_can_not_be_evaluated_fails_for_good() {
        for input in [json!({}), json!({"expression": "input.("}), json!({"expression": "input.missing + 1"})] {
            let done = run(json!({"operation": "transform"}), input.clone()).await;
            assert!(matches!(done, Done::Failed { retryable: false, .. }), "{input}: {done:?}");
        }
    }

    #[tokio::test]
    async fn wait_and_gate_are_not_for_workers() {
        for operation in ["wait", "gate"] {
            let done = run(json!({"operation": operation}), json!({"seconds": 1})).await;
            let Done::Failed { error, retryable: false } = done else { panic!("{done:?}") };
            assert!(error.contains("internal error") && error.contains(operation), "{error}");
        }
    }
}
