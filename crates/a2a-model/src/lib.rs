//! A sentence transformer, from the files that its authors publish: `model.safetensors`, `config.json` and `vocab.txt` of
//! a model of the shape of BERT, such as all-MiniLM-L6-v2.
//!
//! The crate is synchronous and uses the processor for as long as a text takes. The weights of the tokens, half of all,
//! stay in the file and are read row by row, so that they cost a process no memory and several processes share what the
//! system keeps of the file.

mod transformer;
mod weights;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use a2a_core::embedding::{ModelVector, WordPieces};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use self::transformer::Transformer;
use self::weights::Weights;

/// Longer texts are cut: these models were trained on sentences and paragraphs.
const TOKENS_MAX: usize = 256;
/// The files of a model beside its weights are small.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The weights.
const WEIGHTS_FILE: &str = "model.safetensors";
/// The shape.
const CONFIG_FILE: &str = "config.json";
/// The tokens.
const VOCABULARY_FILE: &str = "vocab.txt";
/// How the vectors of the tokens become that of the text; the mean, when it is not there.
const POOLING_FILE: &str = "1_Pooling/config.json";
/// What the model wants before texts; nothing, when it is not there.
const PROMPTS_FILE: &str = "config_sentence_transformers.json";
/// Parts of the weights that tell two models apart, and how long each is.
const SAMPLES: u64 = 64;
const SAMPLE_BYTES: usize = 4_096;

/// The shape of a model, as its authors write it.
#[derive(Debug, Clone, Deserialize)]
struct Shape {
    model_type: String,
    hidden_act: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    vocab_size: usize,
    layer_norm_eps: f32,
    #[serde(default)]
    position_embedding_type: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Pooling {
    #[serde(default)]
    pooling_mode_cls_token: bool,
}

/// What the authors of a model want before texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompts {
    /// Before questions.
    pub query: String,
    /// Before what answers them.
    pub document: String,
}

impl Prompts {
    /// Reads the file in which they name them. Those of a task that is not ours are left out.
    fn read(file: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(default)]
            prompts: HashMap<String, String>,
            #[serde(default)]
            default_prompt_name: Option<String>,
        }
        let Named { prompts, default_prompt_name } = serde_json::from_slice(file)?;
        let find = |names: &[&str]| {
            let default = default_prompt_name.as_deref();
            names.iter().copied().chain(default).find_map(|name| prompts.get(name)).cloned().unwrap_or_default()
        };
        Ok(Self { query: find(&["query"]), document: find(&["document", "passage"]) })
    }
}

impl Shape {
    /// What of it this program can't run.
    fn problem(&self) -> Option<String> {
        let heads = self.num_attention_heads.max(1);
        if self.model_type != "bert" || self.hidden_act != "gelu" {
            return Some(format!("is a {} with {}; only bert with gelu can be run", self.model_type, self.hidden_act));
        }
        if self.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
            return Some("has positions that are not absolute".to_owned());
        }
        let is_in = |number: usize, most: usize| (1..=most).contains(&number);
        let fits = is_in(self.hidden_size, a2a_core::embedding::MODEL_DIMENSIONS_MAX)
            && is_in(self.num_hidden_layers, 64)
            && is_in(self.num_attention_heads, 64)
            && is_in(self.intermediate_size, 32_768)
            && is_in(self.max_position_embeddings, 65_536)
            && is_in(self.vocab_size, 1_000_000)
            && self.hidden_size.is_multiple_of(heads);
        (!fits).then(|| "has a size that no sentence transformer has".to_owned())
    }
}

/// A folder with a model that can be run.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    folder: PathBuf,
    shape: Shape,
    pooling: Pooling,
    prompts: Prompts,
    name: String,
}

impl ModelFolder {
    /// Looks at a folder without reading all of it.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let config = read(&folder.join(CONFIG_FILE))?;
        let shape: Shape = serde_json::from_slice(&config).map_err(|error| format!("{CONFIG_FILE}: {error}"))?;
        if let Some(problem) = shape.problem() {
            return Err(format!("{CONFIG_FILE}: {problem}"));
        }
        let pooling = folder.join(POOLING_FILE);
        let pooling: Pooling = if pooling.exists() {
            serde_json::from_slice(&read(&pooling)?).map_err(|error| format!("{POOLING_FILE}: {error}"))?
        } else {
            Pooling::default()
        };
        let prompts = folder.join(PROMPTS_FILE);
        let prompts = if prompts.exists() {
            Prompts::read(&read(&prompts)?).map_err(|error| format!("{PROMPTS_FILE}: {error}"))?
        } else {
            Prompts::default()
        };
        let vocabulary = read(&folder.join(VOCABULARY_FILE))?;
        Weights::open(&folder.join(WEIGHTS_FILE))?;
        let fingerprint = fingerprint(&folder.join(WEIGHTS_FILE), &[&config, &vocabulary])?;
        let base = folder.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy());
        Ok(Self { folder: folder.to_owned(), shape, pooling, prompts, name: format!("local:{fingerprint} {base}") })
    }

    /// The identity of the vectors.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its authors want before texts.
    #[must_use]
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The dimensions of its vectors.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.shape.hidden_size
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = File::open(path).map_err(failed)?.take(FILE_BYTES_MAX + 1);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} has more than {FILE_BYTES_MAX} bytes", path.display()));
    }
    Ok(bytes)
}

/// Tells models apart by their small files and by parts of their weights, in a millisecond: every process needs it at
/// its start.
fn fingerprint(weights: &Path, others: &[&[u8]]) -> Result<String, String> {
    use std::os::unix::fs::FileExt as _;
    let failed = |error: std::io::Error| format!("{}: {error}", weights.display());
    let file = File::open(weights).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut hasher = Sha256::new();
    for other in others {
        hasher.update((other.len() as u64).to_le_bytes());
        hasher.update(other);
    }
    hasher.update(length.to_le_bytes());
    let mut sample = [0; SAMPLE_BYTES];
    for part in 0..SAMPLES {
        let at = length.saturating_sub(SAMPLE_BYTES as u64) / (SAMPLES - 1) * part;
        let read = file.read_at(&mut sample, at).map_err(failed)?;
        hasher.update(sample.get(..read).unwrap_or_default());
    }
    let digits = hasher.finalize();
    Ok(digits.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// A model that reads.
#[derive(Debug)]
pub struct Model(Transformer);

impl Model {
    /// Reads the weights, which takes some tens of milliseconds.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn load(of: &ModelFolder) -> Result<Self, String> {
        let vocabulary = String::from_utf8(read(&of.folder.join(VOCABULARY_FILE))?)
            .map_err(|_not_text| format!("{VOCABULARY_FILE} is not UTF-8"))?;
        let pieces =
            WordPieces::new(&vocabulary).ok_or_else(|| format!("{VOCABULARY_FILE} is no vocabulary of BERT"))?;
        let weights = Weights::open(&of.folder.join(WEIGHTS_FILE))?;
        Transformer::new(&of.shape, of.pooling, pieces, &weights).map(Self)
    }

    /// The vector of a text, or of its beginning.
    ///
    /// # Errors
    /// When the file can't be read any more.
    pub fn embed(&self, text: &str) -> Result<ModelVector, String> {
        self.0.embed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_authors_want_before_texts_is_read() {
        let read = |file: &str| {
            let Prompts { query, document } = Prompts::read(file.as_bytes()).unwrap();
            (query, document)
        };
        let both = |query: &str, document: &str| (query.to_owned(), document.to_owned());
        assert_eq!(read(r#"{"prompts": {"query": "query: ", "passage": "passage: "}}"#), both("query: ", "passage: "));
        let tasks =
            r#"{"prompts": {"query": "q: ", "document": "d: ", "clustering": "c: "}, "similarity_fn_name": "cosine"}"#;
        assert_eq!(read(tasks), both("q: ", "d: "));
        let default = r#"{"prompts": {"query": "q: ", "any": "a: "}, "default_prompt_name": "any"}"#;
        assert_eq!(read(default), both("q: ", "a: "));
        assert_eq!(read(r#"{"__version__": {}, "default_prompt_name": null}"#), both("", ""));
        assert!(Prompts::read(b"7").is_err());
    }
}
