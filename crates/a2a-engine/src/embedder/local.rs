//! A sentence transformer run in this process, from files on its disk.

use std::sync::Arc;
use std::time::Duration;

use a2a_core::embedding::ModelVector;
use a2a_model::{Model, ModelFolder};
use tokio::sync::OnceCell;

use super::EmbedError;

/// Few, so that a question does not wait long behind them.
pub(super) const TEXTS_MAX: usize = 4;
pub(super) const BYTES_MAX: usize = 32 * 1024;

/// The model, read at first use.
#[derive(Debug)]
pub(crate) struct Local {
    folder: ModelFolder,
    model: OnceCell<Arc<Model>>,
}

impl Local {
    pub(super) fn new(folder: ModelFolder) -> Self {
        Self { folder, model: OnceCell::new() }
    }

    pub(super) async fn embed(&self, texts: &[&str], limit: Duration) -> Result<Vec<ModelVector>, EmbedError> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let work = async {
            let model = self.model.get_or_try_init(|| self.load()).await?.clone();
            let each = move || texts.iter().map(|text| model.embed(text)).collect::<Result<Vec<_>, String>>();
            tokio::task::spawn_blocking(each).await.map_err(|error| error.to_string())?
        };
        match tokio::time::timeout(limit, work).await {
            Ok(read) => read.map_err(EmbedError::Denied),
            Err(_) => Err(EmbedError::transient(format!("it took more than {} s", limit.as_secs_f32()))),
        }
    }

    async fn load(&self) -> Result<Arc<Model>, String> {
        let folder = self.folder.clone();
        let loaded = tokio::task::spawn_blocking(move || Model::load(&folder)).await;
        loaded.map_err(|error| error.to_string())?.map(Arc::new)
    }
}
