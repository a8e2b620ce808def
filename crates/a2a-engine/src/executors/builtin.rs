//! Deployed agents that do what this server does by itself: `echo` gives the input back, `transform` evaluates an
//! expression over it.
//!
//! `wait` and `gate` never come here, nor do `builtin:echo` and `builtin:transform`: the state machine carries them out
//! without a worker.

use std::sync::Arc;

use a2a_core::expression::Fuel;
use a2a_core::workflow::machine::transform;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

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
                // The fuel bounds how long this takes, so that it need not leave the thread.
                Ok(Operation::Transform) => match transform(&settings, &work.input, &work.run, &mut Fuel::default()) {
                    Ok(output) => Done::Completed(output),
                    Err(error) => Done::failed(error.message),
                },
                Err(missing) => missing.into(),
            }
        }
        .boxed()
    }

    fn check<'s>(&'s self, _settings: &'s Value) -> BoxFuture<'s, Result<Contact, Missing>> {
        std::future::ready(Ok(Contact::Reached { remark: None })).boxed()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
