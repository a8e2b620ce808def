//! Webhooks: the step is sent as one POST request, and the response is its output.
//!
//! The body is JSON: `run`, `step`, `attempt`, `idempotency_key`, `namespace`, `agent`, `capability`, `input`, and
//! `answer` when a question was answered. The header `Idempotency-Key` has `{run}:{step}`, which is the same for every
//! attempt. When the operator has a signing key for the origin, `A2A-Signature: t=<unix seconds>,v1=<hex>` has the
//! HMAC-SHA256 of `<t>.<body>`.
//!
//! | response | the step |
//! |---|---|
//! | 2xx with JSON | is done, with that as output |
//! | 2xx without a body | is done, with null as output. This is so for 202 too: nobody reports back later |
//! | 2xx with anything else, or over the limit | fails for good: the webhook has done its work, so that it is not repeated |
//! | 3xx | fails for good; redirects are not followed |
//! | 408, 409, 425, 429, 5xx, no response, a broken one, none in time | fails, and is tried again |
//! | any other 4xx | fails for good |

mod signature;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use a2a_core::json;
use a2a_core::limits::STEP_OUTPUT_BYTES_MAX;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::{Contact, Done, Execute, Missing, StepContext, StepWork, excerpt, seconds, text_setting};
use crate::egress::{BodyError, Egress, read_body_limited, transport_error};
use crate::operator::redaction::CUT;

/// A step without a limit of its own.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);
/// How much of an error response is read, for the error of the step.
const ERROR_BYTES_MAX: usize = 8 * 1024;
const ERROR_CHARS_MAX: usize = 500;
const RETRY_AFTER_CHARS_MAX: usize = 40;

/// The executor of the kind `http`.
pub(super) struct Http {
    egress: Arc<Egress>,
}

impl Http {
    pub(super) fn new(egress: Arc<Egress>) -> Self {
        Self { egress }
    }

    async fn post(&self, work: &StepWork, context: &dyn StepContext) -> Result<Value, Done> {
        let settings = work.settings();
        let url = text_setting(&settings, "url")?;
        let body = work.message().to_string();
        let (client, target) = self.egress.client(url).await.map_err(|error| {
            let (retryable, error) = (error.is_transient(), error.to_string());
            if retryable {
                context.contact(Err(&error));
            }
            Done::Failed { error, retryable }
        })?;
        let mut request = client
            .post(target)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header("Idempotency-Key", work.idempotency_key());
        if let Some(key) = self.egress.signing_key(url) {
            request = request.header("A2A-Signature", signature::header(key, SystemTime::now(), body.as_bytes()));
        }
        let response = request.body(body).send().await.map_err(|error| {
            let said = transport_error(&error);
            if error.is_connect() {
                context.contact(Err(&said));
            }
            Done::retryable(format!("the webhook gave no response: {said}"))
        })?;
        context.contact(Ok(()));
        if response.status().is_success() { output(response).await } else { Err(failure(response).await) }
    }
}

impl Http {
    /// Asks for the head of what is at the URL. Any response shows that somebody is there, and many webhooks take
    /// nothing but what a step would send.
    async fn head(&self, settings: &Value) -> Result<Contact, Missing> {
        let url = text_setting(settings, "url")?;
        let (client, target) = match self.egress.client(url).await {
            Ok(client) => client,
            Err(error) if error.is_transient() => return Ok(Contact::not_reached(error.to_string())),
            Err(error) => return Err(Missing(error.to_string())),
        };
        Ok(match client.head(target).send().await {
            Ok(response) => {
                let status = response.status();
                let remark = format!("it answers HEAD with {status}");
                Contact::Reached { remark: (!status.is_success()).then_some(remark) }
            }
            Err(error) => Contact::not_reached(transport_error(&error)),
        })
    }
}

impl Execute for Http {
    fn can_run(&self, settings: &Value) -> Result<(), Missing> {
        let url = text_setting(settings, "url")?;
        self.egress.check(url).map_err(|error| Missing(error.to_string()))
    }

    fn execute(&self, work: StepWork, context: Arc<dyn StepContext>) -> BoxFuture<'_, Done> {
        async move {
            let limit = work.timeout.unwrap_or(TIMEOUT_DEFAULT);
            let cancelled = context.cancelled();
            tokio::select! {
                biased;
                // The connection is closed, which tells the webhook.
                () = cancelled.cancelled() => Done::failed("the step is no longer wanted"),
                posted = tokio::time::timeout(limit, self.post(&work, &*context)) => match posted {
                    Ok(Ok(output)) => Done::Completed(output),
                    Ok(Err(done)) => done,
                    Err(_) => Done::retryable(format!("the webhook took longer than {}", seconds(limit))),
                },
            }
        }
        .boxed()
    }

    fn check<'s>(&'s self, settings: &'s Value) -> BoxFuture<'s, Result<Contact, Missing>> {
        self.head(settings).boxed()
    }
}

async fn output(response: Response) -> Result<Value, Done> {
    let status = response.status();
    let body = read_body_limited(response, STEP_OUTPUT_BYTES_MAX).await.map_err(|error| Done::Failed {
        retryable: matches!(error, BodyError::Broken(_)),
        error: format!("the webhook answered {}, but {error}", status.as_u16()),
    })?;
    if body.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    json::parse_strict(&body).map_err(|problem| {
        Done::failed(format!("the webhook answered {}, but not with JSON that can be kept: {problem}", status.as_u16()))
    })
}

async fn failure(response: Response) -> Done {
    let status = response.status();
    let mut error = format!("the webhook answered {}", status.as_u16());
    if let Some(reason) = status.canonical_reason() {
        error.push(' ');
        error.push_str(reason);
    }
    if status.is_redirection() {
        error.push_str("; redirects are not followed, so the agent needs the final URL");
        return Done::failed(error);
    }
    if let Some(after) = retry_after(response.headers()) {
        error.push_str(&format!(" (Retry-After: {after})"));
    }
    let said = beginning(response).await;
    if !said.is_empty() {
        error.push_str(": ");
        error.push_str(&said);
    }
    Done::Failed { error, retryable: is_retryable(status) }
}

fn is_retryable(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}

fn retry_after(headers: &HeaderMap) -> Option<String> {
    Some(excerpt(headers.get(RETRY_AFTER)?.as_bytes(), RETRY_AFTER_CHARS_MAX))
}

/// What an error response begins with; what comes after is not read.
async fn beginning(mut response: Response) -> String {
    let mut body = Vec::new();
    let is_whole = loop {
        match response.chunk().await {
            Ok(None) => break true,
            // A response that breaks off has still told its status, which is what counts.
            Err(_) => break false,
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
        }
        if body.len() > ERROR_BYTES_MAX {
            body.truncate(ERROR_BYTES_MAX);
            break false;
        }
    };
    let mut said = excerpt(&body, ERROR_CHARS_MAX);
    if !is_whole && !said.is_empty() && !said.ends_with(CUT) {
        said.push(CUT);
    }
    said
}
