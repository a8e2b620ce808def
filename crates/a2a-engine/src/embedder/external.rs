//! An endpoint that speaks the protocol of OpenAI for embeddings, as Ollama, LM Studio, Voyage and others do.
//!
//! The address comes from the operator's own settings, so that it may be anywhere; what it answers is checked all the
//! same, and redirects are not followed, because what is remembered would go elsewhere.

use std::net::IpAddr;
use std::time::Duration;

use a2a_core::embedding::{MODEL_DIMENSIONS_MAX, ModelVector};
use a2a_core::error::Problem;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::EmbedError;
use crate::egress::{Origin, Reach, own_client, reach, read_body_limited, transport_error};
use crate::operator::{Redaction, Secret};

/// Most texts of one request: what every known endpoint takes.
pub(super) const TEXTS_MAX: usize = 64;
/// Most bytes of texts in one request.
pub(super) const BYTES_MAX: usize = 128 * 1024;
/// The most numbers, written out, that an answer can have for one text.
const ANSWER_BYTES_PER_TEXT: usize = MODEL_DIMENSIONS_MAX * 32;
/// What an answer has beside numbers.
const ANSWER_BYTES: usize = 64 * 1024;
/// How much of an error is told.
const SAID_CHARS_MAX: usize = 200;
/// An endpoint that asks for more is tried again all the same: somebody may have paid meanwhile.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10 * 60);

/// Where the endpoint is and what it is asked for.
#[derive(Debug, Clone)]
pub struct ExternalSettings {
    origin: Origin,
    /// Of the operation itself.
    url: Url,
    model: String,
    key: Option<Secret>,
    dimensions: Option<usize>,
    redaction: Redaction,
}

impl ExternalSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// All problems, each naming its variable.
    pub fn new(
        url: &str,
        model: Option<&str>,
        key: Option<&Secret>,
        dimensions: Option<usize>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut problem = |path: &str, message: String| problems.push(Problem { path: path.to_owned(), message });
        let read = match Origin::of_url(url).and_then(|(origin, url)| Ok((origin, operation(url)?))) {
            Ok((origin, url)) if origin.is_https() || is_near(&origin) => Some((origin, url)),
            Ok(_) => {
                problem(
                    "A2A_EMBEDDINGS_URL",
                    "must start with https://, because memories are sent there; plain http is for this machine and for \
                     addresses of private networks"
                        .to_owned(),
                );
                None
            }
            Err(message) => {
                problem("A2A_EMBEDDINGS_URL", message.replace("headers in the operator's file", "A2A_EMBEDDINGS_KEY"));
                None
            }
        };
        if model.is_none() {
            problem("A2A_EMBEDDINGS_MODEL", "is not set; name the model, such as nomic-embed-text".to_owned());
        }
        if model.is_some_and(|model| model.len() > 200 || model.chars().any(char::is_control)) {
            problem("A2A_EMBEDDINGS_MODEL", "is no name of a model".to_owned());
        }
        if key.is_some_and(|key| HeaderValue::from_str(key.expose()).is_err()) {
            problem("A2A_EMBEDDINGS_KEY", "has a character that no key has, such as a line break".to_owned());
        }
        let redaction = Redaction::new(key.map(Secret::expose)).unwrap_or_default();
        match (read, model) {
            (Some((origin, url)), Some(model)) if problems.is_empty() => {
                Ok(Self { origin, url, model: model.to_owned(), key: key.cloned(), dimensions, redaction })
            }
            _ => Err(problems),
        }
    }

    /// The identity of the vectors.
    pub(super) fn name(&self) -> String {
        let path = self.url.path().trim_end_matches("/embeddings");
        let dimensions = self.dimensions.map_or_else(String::new, |dimensions| format!(" {dimensions}"));
        format!("{}{path} {}{dimensions}", self.origin, self.model)
    }
}

/// The address of the operation: the one given may be that of the API or of the operation.
fn operation(mut url: Url) -> Result<Url, String> {
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a ? or #; give the address of the API, such as http://127.0.0.1:11434/v1".to_owned());
    }
    let path = url.path().trim_end_matches('/').trim_end_matches("/embeddings").to_owned();
    url.set_path(&format!("{path}/embeddings"));
    Ok(url)
}

/// Whether texts stay on this machine or in a network of the operator's own.
pub(super) fn is_near(origin: &Origin) -> bool {
    let is_near = |address: IpAddr| matches!(reach(address), Reach::Private(_));
    origin.host() == "localhost" || origin.address().is_some_and(is_near)
}

#[derive(Serialize)]
struct Question<'t> {
    model: &'t str,
    input: &'t [&'t str],
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    /// Which of the texts it is of; the protocol does not promise their order.
    index: Option<usize>,
    embedding: Vec<f32>,
}

/// The endpoint.
#[derive(Debug)]
pub(crate) struct External {
    settings: ExternalSettings,
    client: OnceCell<Client>,
}

impl External {
    pub(super) fn new(settings: ExternalSettings) -> Self {
        Self { settings, client: OnceCell::new() }
    }

    pub(super) async fn embed(&self, texts: &[&str], limit: Duration) -> Result<Vec<ModelVector>, EmbedError> {
        match tokio::time::timeout(limit, self.ask(texts)).await {
            Ok(answered) => answered,
            Err(_) => Err(EmbedError::transient(format!("no answer within {} s", limit.as_secs_f32()))),
        }
    }

    async fn ask(&self, texts: &[&str]) -> Result<Vec<ModelVector>, EmbedError> {
        let settings = &self.settings;
        let client = self.client.get_or_try_init(|| own_client(settings.origin.is_https())).await;
        let client = client.map_err(|error| EmbedError::Denied(error.to_string()))?;
        let question = Question { model: &settings.model, input: texts, dimensions: settings.dimensions };
        let body = serde_json::to_vec(&question).map_err(|error| EmbedError::Denied(error.to_string()))?;
        let mut request = client.post(settings.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(key) = &settings.key
            && let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
        {
            // Not shown by whoever logs headers.
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        let response = request.send().await.map_err(|error| EmbedError::transient(transport_error(&error)))?;
        let (status, after) = (response.status(), retry_after(&response));
        let body = read_body_limited(response, ANSWER_BYTES + texts.len() * ANSWER_BYTES_PER_TEXT).await;
        let body = match body {
            Ok(body) => body,
            Err(error) => return Err(EmbedError::transient(error.to_string())),
        };
        if status != StatusCode::OK {
            return Err(self.failed(status, after, &body));
        }
        let wrong = |what: &str| EmbedError::transient(format!("the answer is no list of vectors: {what}"));
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| wrong(&error.to_string()))?;
        in_order(answer, texts.len()).map_err(|what| wrong(&what))
    }

    fn failed(&self, status: StatusCode, after: Option<Duration>, body: &[u8]) -> EmbedError {
        let said = said(body).map_or_else(String::new, |said| format!(": {}", self.settings.redaction.text(&said)));
        let reason = format!("the endpoint answers {}{said}", status.as_u16());
        match status.as_u16() {
            400 | 413 | 422 => EmbedError::Refused(reason),
            408 | 409 | 425 | 429 | 500.. => EmbedError::Transient { reason, after },
            300..400 => EmbedError::Denied(format!("{reason}, a redirect, which is not followed")),
            _ => EmbedError::Denied(reason),
        }
    }
}

/// The vectors in the order of the texts.
fn in_order(answer: Answer, count: usize) -> Result<Vec<ModelVector>, String> {
    if answer.data.len() != count {
        return Err(format!("{} of them for {count} texts", answer.data.len()));
    }
    let dimensions = answer.data.first().map_or(0, |item| item.embedding.len());
    let mut vectors: Vec<Option<ModelVector>> = vec![None; count];
    for (place, item) in answer.data.into_iter().enumerate() {
        if item.embedding.len() != dimensions {
            return Err(format!("one has {} numbers and another one {dimensions}", item.embedding.len()));
        }
        let vector = ModelVector::of(&item.embedding).ok_or_else(|| {
            format!("one of {dimensions} numbers has no direction, or more than {MODEL_DIMENSIONS_MAX}")
        })?;
        match vectors.get_mut(item.index.unwrap_or(place)) {
            Some(empty @ None) => *empty = Some(vector),
            _ => return Err("their indices are not those of the texts".to_owned()),
        }
    }
    Ok(vectors.into_iter().flatten().collect())
}

/// What an endpoint says about an error, on one line.
fn said(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = body.get("error").unwrap_or(&body);
    let text = error.get("message").unwrap_or(error).as_str()?;
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut cut: String = line.chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX).collect();
    if cut.len() < line.len() {
        cut.push(crate::operator::CUT);
    }
    Some(cut).filter(|cut| !cut.is_empty())
}

fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(text.trim().parse().ok()?).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, key: Option<&str>) -> Result<ExternalSettings, Vec<Problem>> {
        let key = key.map(Secret::new);
        ExternalSettings::new(url, Some("m"), key.as_ref(), None)
    }

    #[test]
    fn the_address_may_be_that_of_the_api_or_of_the_operation() {
        for url in ["http://localhost:11434/v1", "http://localhost:11434/v1/", "http://localhost:11434/v1/embeddings"] {
            let settings = read(url, None).unwrap();
            assert_eq!(settings.url.as_str(), "http://localhost:11434/v1/embeddings");
            assert_eq!(settings.name(), "http://localhost:11434/v1 m");
        }
        assert_eq!(read("https://api.openai.com/v1", None).unwrap().name(), "https://api.openai.com/v1 m");
    }

    #[test]
    fn memories_do_not_leave_the_own_network_in_plain_text() {
        for url in ["http://127.0.0.1:1/v1", "http://192.168.1.9:1234/v1", "http://[::1]:5/v1", "https://a.example/v1"]
        {
            assert!(read(url, None).is_ok(), "{url}");
        }
        for url in
            ["http://a.example/v1", "http://8.8.8.8/v1", "ftp://a/", "https://u:p@a.example/", "https://a.example/?x=1"]
        {
            let problems = read(url, None).unwrap_err();
            assert_eq!(problems[0].path, "A2A_EMBEDDINGS_URL", "{url}");
        }
    }

    #[test]
    fn a_key_is_in_no_name_and_no_debug_text() {
        let settings = read("https://a.example/v1", Some("sk-very-secret-1")).unwrap();
        assert!(!format!("{settings:?} {}", settings.name()).contains("very-secret"));
        assert_eq!(read("https://a.example/v1", Some("two\nlines")).unwrap_err()[0].path, "A2A_EMBEDDINGS_KEY");
    }

    #[test]
    fn what_an_endpoint_says_is_one_line_without_the_key() {
        let external = External::new(read("https://a.example/v1", Some("sk-very-secret-1")).unwrap());
        let body = br#"{"error": {"message": "Incorrect API key\nprovided: sk-very-secret-1."}}"#;
        let error = external.failed(StatusCode::UNAUTHORIZED, None, body);
        let said = "the endpoint answers 401: Incorrect API key provided: [redacted].";
        assert_eq!(error, EmbedError::Denied(said.to_owned()));
    }

    #[test]
    fn answers_are_put_in_order_and_checked() {
        let answer = |text: &str| in_order(serde_json::from_str(text).unwrap(), 2);
        let swapped = answer(r#"{"data": [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [1, 0]}]}"#);
        let wanted = [[1.0, 0.0], [0.0, 1.0]].map(|direction| ModelVector::of(&direction).unwrap());
        assert_eq!(swapped.unwrap(), wanted);
        let without = answer(r#"{"data": [{"embedding": [1, 0]}, {"embedding": [0, 1]}]}"#);
        assert_eq!(without.unwrap(), wanted);
        for wrong in [
            r#"{"data": [{"index": 0, "embedding": [1, 0]}]}"#,
            r#"{"data": [{"index": 0, "embedding": [1, 0]}, {"index": 0, "embedding": [0, 1]}]}"#,
            r#"{"data": [{"index": 0, "embedding": [1, 0]}, {"index": 2, "embedding": [0, 1]}]}"#,
            r#"{"data": [{"index": 0, "embedding": [1, 0]}, {"index": 1, "embedding": [0, 1, 0]}]}"#,
            r#"{"data": [{"index": 0, "embedding": [1, 0]}, {"index": 1, "embedding": [0, 0]}]}"#,
            r#"{"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]}"#,
        ] {
            assert!(answer(wrong).is_err(), "{wrong}");
        }
    }
}
