//! Vectors of memories and agents by a model that the operator has chosen, in the place of the built-in table.
//!
//! - `Embedder` turns texts into vectors: `external` asks an endpoint that speaks the protocol of OpenAI, `local`
//!   runs a model in this process.
//! - `reader` has the model read memories and agents in the background, in one process at a time, and keeps the vectors in the
//!   database, from where every process has them. Nothing that is stored waits for it.
//! - `questions` has it read what recall and search are asked, within a short time; without an answer they use the table.

mod external;
#[cfg(feature = "local-model")]
mod local;
#[cfg(feature = "local-model")]
pub mod pull;
mod questions;
pub(crate) mod reader;

use std::sync::Arc;
use std::time::Duration;

use a2a_core::embedding::ModelVector;
use parking_lot::Mutex;

use self::external::External;
pub use self::external::ExternalSettings;
#[cfg(feature = "local-model")]
use self::local::Local;
use self::questions::Questions;
#[cfg(feature = "local-model")]
pub use a2a_model::ModelFolder;

/// Where the model is that reads memories and agents.
#[derive(Debug, Clone)]
pub enum ModelPlace {
    /// Behind an endpoint.
    External(ExternalSettings),
    /// Run in this process.
    #[cfg(feature = "local-model")]
    Local(ModelFolder),
}

/// What some models want before each text, such as `query: ` and `passage: `. They were trained to tell questions from what
/// answers them by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// Before questions and needs.
    pub query: String,
    /// Before memories and agents.
    pub document: String,
}

/// Which model reads memories and agents, and how.
#[derive(Debug, Clone)]
pub struct EmbedderSettings {
    /// The model.
    pub place: ModelPlace,
    /// What is put before each text.
    pub prefixes: Prefixes,
}

impl EmbedderSettings {
    /// The identity of the vectors: those with different names are never compared. It holds no secret. Behind another prefix
    /// a model makes other vectors, which are as those of another model.
    #[must_use]
    pub fn name(&self) -> String {
        let model = match &self.place {
            ModelPlace::External(settings) => settings.name(),
            #[cfg(feature = "local-model")]
            ModelPlace::Local(folder) => folder.name().to_owned(),
        };
        let prefix = &self.prefixes.document;
        if prefix.is_empty() { model } else { format!("{model} {prefix:?}") }
    }
}

/// Why there are no vectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// It may work later.
    #[error("{reason}")]
    Transient {
        /// What happened.
        reason: String,
        /// How long the endpoint wants to be left alone.
        after: Option<Duration>,
    },
    /// These texts are not taken; others may be.
    #[error("{0}")]
    Refused(String),
    /// Nothing works until somebody changes a setting.
    #[error("{0}")]
    Denied(String),
}

impl EmbedError {
    fn transient(reason: impl Into<String>) -> Self {
        Self::Transient { reason: reason.into(), after: None }
    }
}

/// Turns texts into vectors of one model.
#[derive(Debug)]
pub(crate) enum Embedder {
    External(External),
    #[cfg(feature = "local-model")]
    Local(Local),
}

impl Embedder {
    fn new(place: &ModelPlace) -> Self {
        match place {
            ModelPlace::External(settings) => Self::External(External::new(settings.clone())),
            #[cfg(feature = "local-model")]
            ModelPlace::Local(folder) => Self::Local(Local::new(folder.clone())),
        }
    }

    /// One vector for each text, all of the same dimensions.
    pub(crate) async fn embed(&self, texts: &[&str], limit: Duration) -> Result<Vec<ModelVector>, EmbedError> {
        match self {
            Self::External(external) => external.embed(texts, limit).await,
            #[cfg(feature = "local-model")]
            Self::Local(local) => local.embed(texts, limit).await,
        }
    }

    /// Most texts and bytes that one call takes.
    fn batch(&self) -> (usize, usize) {
        match self {
            Self::External(_) => (external::TEXTS_MAX, external::BYTES_MAX),
            #[cfg(feature = "local-model")]
            Self::Local(_) => (local::TEXTS_MAX, local::BYTES_MAX),
        }
    }

    /// How long recall waits for the vector of a question.
    fn question_limit(&self) -> Duration {
        match self {
            Self::External(_) => Duration::from_millis(300),
            // The first one loads the model.
            #[cfg(feature = "local-model")]
            Self::Local(_) => Duration::from_millis(200),
        }
    }
}

/// How the model is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingStats {
    /// The identity of its vectors.
    pub model: String,
    /// Memories that it has read.
    pub read: usize,
    /// Memories that it has still to read.
    pub waiting: usize,
    /// Of those the ones that it does not take.
    pub refused: usize,
    /// Agents that it has read.
    pub agents_read: usize,
    /// Agents that it has still to read.
    pub agents_waiting: usize,
    /// What went wrong the last time, while it lasts.
    pub last_error: Option<String>,
}

/// The model of this process.
#[derive(Debug)]
pub(crate) struct Embeddings {
    name: Arc<str>,
    embedder: Embedder,
    prefixes: Prefixes,
    questions: Questions,
    last_error: Mutex<Option<String>>,
    refused: Mutex<reader::Refused>,
}

impl Embeddings {
    pub(crate) fn new(settings: &EmbedderSettings) -> Self {
        Self {
            name: settings.name().into(),
            embedder: Embedder::new(&settings.place),
            prefixes: settings.prefixes.clone(),
            questions: Questions::default(),
            last_error: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// The identity of its vectors.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What is known of it, with how many memories and agents it has read of how many.
    pub(crate) fn stats(&self, (read, all): (usize, usize), (agents_read, agents): (usize, usize)) -> EmbeddingStats {
        EmbeddingStats {
            model: self.name.to_string(),
            read,
            waiting: all.saturating_sub(read),
            agents_read,
            agents_waiting: agents.saturating_sub(agents_read),
            refused: self.refused.lock().iter().filter(|item| matches!(item, reader::Item::Memory(_))).count(),
            last_error: self.last_error.lock().clone(),
        }
    }

    /// Has it read what is remembered.
    pub(crate) async fn read_documents(&self, texts: &[&str], limit: Duration) -> Result<Vec<ModelVector>, EmbedError> {
        let prefixed: Vec<String> = texts.iter().map(|text| format!("{}{text}", self.prefixes.document)).collect();
        let prefixed: Vec<&str> = prefixed.iter().map(String::as_str).collect();
        self.embedder.embed(&prefixed, limit).await
    }

    /// Has it read what is asked.
    async fn read_question(&self, question: &str, limit: Duration) -> Result<Option<ModelVector>, EmbedError> {
        let prefixed = format!("{}{question}", self.prefixes.query);
        Ok(self.embedder.embed(&[prefixed.as_str()], limit).await?.into_iter().next())
    }

    /// Has it read a few words, for a diagnosis.
    pub(crate) async fn probe(&self) -> Result<usize, EmbedError> {
        const LIMIT: Duration = Duration::from_secs(10);
        let vector = self.read_question("when do we deploy", LIMIT).await?;
        Ok(vector.as_ref().map_or(0, ModelVector::dimensions))
    }
}
