//! Has the model read memories and agents, in the background.
//!
//! What has no vector is known from memory; the database says whose turn it is and what others have read since. A
//! vector is put into the database first and into memory after; the change log tells other processes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::agent::{Agent, ContentHash};
use a2a_core::embedding::ModelVector;
use a2a_core::ids::{AgentKey, MemoryId};
use a2a_core::memory::Memory;
use a2a_core::memory::recall::passage;
use a2a_core::registry::{agent_passage, agent_passage_hash};
use a2a_store::agent_cache::AgentVector;
use a2a_store::error::StoreError;
use a2a_store::feed::Cache;
use a2a_store::memory_view::MemoryView;
use a2a_store::store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{EmbedError, Embeddings};

/// A process that has died without a word keeps its turn for so long. Longer than any request, so that nobody else asks
/// for the same.
const TURN: Duration = Duration::from_secs(90);
/// A request is begun only with so much of the turn left.
const TURN_LEFT: Duration = Duration::from_secs(45);
/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(40);
/// While it is another process' turn, this one looks again so often.
const OTHERS_TURN: Duration = Duration::from_secs(2);
/// What comes shortly after each other is read together.
const GATHER: Duration = Duration::from_millis(30);
/// How much of a memory or an agent is read. Models read some hundred words, or a few thousand.
const TEXT_BYTES_MAX: usize = 8 * 1024;
/// How much of one that was refused, probably for its length.
const SHORT_TEXT_BYTES_MAX: usize = 1_000;
/// What was refused and is not tried again by this process.
const REFUSED_MAX: usize = 10_000;
/// How often a process says that it uses its model, and cleans up after others.
const USED_EVERY: Duration = Duration::from_secs(10 * 60);
/// Vectors of a model that no process was set to use for so long are deleted.
const UNUSED_FOR: Duration = Duration::from_secs(60 * 60);
/// Pause after a failure, doubled at each further one.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The same when somebody has to change a setting first.
const RETRY_DENIED: Duration = Duration::from_secs(60);
const RELEASE_LIMIT: Duration = Duration::from_millis(300);

/// What the model does not take.
pub(super) type Refused = HashSet<Item>;

/// Something that the model reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Item {
    /// What a memory says never changes.
    Memory(MemoryId),
    /// An agent as it is, by the hash of its passage.
    Agent(AgentKey, ContentHash),
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(id) => id.fmt(f),
            Self::Agent(key, _) => key.fmt(f),
        }
    }
}

/// The background task and what it works with.
pub(crate) struct Reader {
    embeddings: Arc<Embeddings>,
    store: Store,
    agents: Arc<Cache>,
    view: Arc<MemoryView>,
    /// Tells the feed that there is something to announce.
    committed: Arc<Notify>,
    shutdown: CancellationToken,
    /// Names this process.
    holder: String,
    turn_until: Option<Instant>,
    used_at: Option<Instant>,
    pruned_at: Option<Instant>,
}

/// What is to be read.
struct Passage {
    item: Item,
    text: String,
}

impl Passage {
    fn of_memory(memory: &Arc<Memory>) -> Self {
        Self { item: Item::Memory(memory.id.clone()), text: cut(passage(&memory.spec), TEXT_BYTES_MAX).to_owned() }
    }

    fn of_agent(agent: &Arc<Agent>) -> Self {
        let passage = agent_passage(&agent.spec);
        let item = Item::Agent(agent.key(), agent_passage_hash(&passage));
        Self { item, text: cut(&passage, TEXT_BYTES_MAX).to_owned() }
    }
}

/// What the model has made of some of it.
#[derive(Default)]
struct Vectors {
    memories: Vec<(MemoryId, ModelVector)>,
    agents: Vec<AgentVector>,
}

impl Vectors {
    fn of(read: impl Iterator<Item = (Item, ModelVector)>) -> Self {
        let mut vectors = Self::default();
        for (item, vector) in read {
            match item {
                Item::Memory(id) => vectors.memories.push((id, vector)),
                Item::Agent(key, passage_hash) => vectors.agents.push(AgentVector { key, passage_hash, vector }),
            }
        }
        vectors
    }

    fn first(&self) -> Option<&ModelVector> {
        let of_agents = || self.agents.first().map(|agent| &agent.vector);
        self.memories.first().map(|(_, vector)| vector).or_else(of_agents)
    }

    fn items(&self) -> HashSet<Item> {
        let memories = self.memories.iter().map(|(id, _)| Item::Memory(id.clone()));
        memories.chain(self.agents.iter().map(|agent| Item::Agent(agent.key.clone(), agent.passage_hash))).collect()
    }
}

/// What a round has found.
enum Round {
    /// Something was read; there may be more.
    Read,
    /// There is nothing to read.
    Idle,
    /// Another process reads.
    OthersTurn,
    /// The process ends.
    Ending,
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("{0}")]
    Embed(#[from] EmbedError),
    #[error("the database: {0}")]
    Store(#[from] StoreError),
}

impl Reader {
    pub(crate) fn new(
        embeddings: Arc<Embeddings>,
        store: Store,
        agents: Arc<Cache>,
        view: Arc<MemoryView>,
        committed: Arc<Notify>,
        shutdown: CancellationToken,
    ) -> Self {
        let holder = uuid::Uuid::new_v4().to_string();
        Self {
            embeddings,
            store,
            agents,
            view,
            committed,
            shutdown,
            holder,
            turn_until: None,
            used_at: None,
            pruned_at: None,
        }
    }

    /// Reads what there is to read until the process ends.
    pub(crate) async fn run(mut self) {
        let (shutdown, view, agents) = (self.shutdown.clone(), self.view.clone(), self.agents.clone());
        let mut loaded = view.loaded();
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = loaded.wait_for(|loaded| *loaded) => {}
        }
        let mut retry = RETRY_MIN;
        loop {
            let pause = match self.round().await {
                Ok(Round::Ending) => break,
                Ok(Round::Read) => {
                    retry = RETRY_MIN;
                    *self.embeddings.last_error.lock() = None;
                    continue;
                }
                Ok(Round::OthersTurn) => OTHERS_TURN,
                Ok(Round::Idle) => {
                    *self.embeddings.last_error.lock() = None;
                    tokio::select! {
                        () = shutdown.cancelled() => break,
                        () = view.news() => GATHER,
                        () = agents.news() => GATHER,
                        () = tokio::time::sleep(USED_EVERY) => continue,
                    }
                }
                Err(error) => {
                    let pause = self.failed(&error, retry);
                    retry = (retry * 2).min(RETRY_MAX);
                    // Another process may have more luck, or another key.
                    self.release().await;
                    pause
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.75..1.25))) => {}
            }
        }
        self.release().await;
    }

    fn failed(&self, error: &ReadError, retry: Duration) -> Duration {
        let (text, model) = (error.to_string(), self.embeddings.name());
        let mut last = self.embeddings.last_error.lock();
        // Once for each reason: an outage may last, and the log of a client is read by people.
        if last.as_ref() != Some(&text) {
            tracing::warn!(%error, %model, "memories and agents are not read by the model now; the table is used for them");
            *last = Some(text);
        }
        match error {
            ReadError::Embed(EmbedError::Transient { after: Some(after), .. }) => retry.max(*after),
            ReadError::Embed(EmbedError::Denied(_)) => RETRY_DENIED,
            _ => retry,
        }
    }

    /// One round, which ends with what is read being kept.
    async fn round(&mut self) -> Result<Round, ReadError> {
        let model = self.embeddings.name().clone();
        if self.used_at.is_none_or(|at| at.elapsed() >= USED_EVERY) {
            self.store.embedding_model_used(&model).await?;
            self.used_at = Some(Instant::now());
        }
        let batch = self.unread();
        if batch.is_empty() {
            return self.clean_up().await;
        }
        let is_own_turn = self.take_turn().await?;
        // Another process may have had its turn since this one has heard of it.
        let there = self.stored(&model, &batch).await?;
        self.check_dimensions(there.first())?;
        self.show(&there);
        if !is_own_turn {
            return Ok(Round::OthersTurn);
        }
        let known = there.items();
        let mut parts: Vec<Vec<Passage>> =
            vec![batch.into_iter().filter(|passage| !known.contains(&passage.item)).collect()];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            if !self.take_turn().await? {
                return Ok(Round::OthersTurn);
            }
            let texts: Vec<&str> = part.iter().map(|passage| passage.text.as_str()).collect();
            let answered = tokio::select! {
                () = self.shutdown.cancelled() => return Ok(Round::Ending),
                answered = self.embeddings.read_documents(&texts, REQUEST_LIMIT) => answered,
            };
            match answered {
                Ok(vectors) => self.keep(part, vectors).await?,
                Err(EmbedError::Refused(reason)) => self.divide(part, &reason, &mut parts),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Round::Read)
    }

    /// Deletes what models have made that nobody uses, when this one has read everything.
    async fn clean_up(&mut self) -> Result<Round, ReadError> {
        if self.pruned_at.is_some_and(|at| at.elapsed() < USED_EVERY) {
            return Ok(Round::Idle);
        }
        if !self.store.embedding_models_prune(UNUSED_FOR).await? {
            return Ok(Round::Read);
        }
        self.pruned_at = Some(Instant::now());
        Ok(Round::Idle)
    }

    /// What the model has still to read, as much as one request takes.
    fn unread(&self) -> Vec<Passage> {
        let (count_max, bytes_max) = self.embeddings.embedder.batch();
        let refused = self.embeddings.refused.lock();
        let is_wanted = |passage: &Passage| !refused.contains(&passage.item);
        // Agents first, because they are few.
        let agents = self.agents.read();
        let mut batch: Vec<Passage> =
            agents.without_model_vector().map(Passage::of_agent).filter(is_wanted).take(count_max).collect();
        drop(agents);
        let memories = self.view.read();
        let lacking = memories.without_model_vector(|id| !refused.contains(&Item::Memory(id.clone())));
        batch.extend(lacking.take(count_max - batch.len()).map(Passage::of_memory));
        drop(memories);
        let mut bytes = 0;
        // The first one is always taken: it is not longer than a request may be.
        batch.retain(|passage| {
            bytes += passage.text.len();
            bytes <= bytes_max
        });
        batch
    }

    /// What the database has of a batch.
    async fn stored(&self, model: &str, batch: &[Passage]) -> Result<Vectors, StoreError> {
        let (mut memories, mut agents) = (Vec::new(), Vec::new());
        for passage in batch {
            match &passage.item {
                Item::Memory(id) => memories.push(id.clone()),
                Item::Agent(key, _) => agents.push(key.clone()),
            }
        }
        Ok(Vectors {
            memories: self.store.memory_vectors_read(model, &memories).await?,
            agents: self.store.agent_vectors_read(model, &agents).await?,
        })
    }

    fn show(&self, vectors: &Vectors) {
        self.view.set_model_vectors(&vectors.memories);
        self.agents.set_model_vectors(&vectors.agents);
    }

    /// Whether it is this process' turn for long enough.
    async fn take_turn(&mut self) -> Result<bool, StoreError> {
        if self.turn_until.is_some_and(|until| until.saturating_duration_since(Instant::now()) > TURN_LEFT) {
            return Ok(true);
        }
        let asked = Instant::now();
        let is_own = self.store.embedding_claim(self.embeddings.name(), &self.holder, TURN).await?;
        self.turn_until = is_own.then(|| asked + TURN);
        Ok(is_own)
    }

    async fn release(&mut self) {
        if self.turn_until.take().is_none() {
            return;
        }
        let released = self.store.embedding_release(self.embeddings.name(), &self.holder);
        match tokio::time::timeout(RELEASE_LIMIT, released).await {
            Ok(Ok(())) => {}
            // It ends by itself.
            Ok(Err(error)) => tracing::debug!(%error, "the turn was not given back"),
            Err(_) => tracing::debug!("the turn was not given back in time"),
        }
    }

    async fn keep(&self, part: Vec<Passage>, vectors: Vec<ModelVector>) -> Result<(), ReadError> {
        self.check_dimensions(vectors.first())?;
        let read = Vectors::of(part.into_iter().map(|passage| passage.item).zip(vectors));
        self.store.memory_vectors_put(self.embeddings.name(), &read.memories).await?;
        self.store.agent_vectors_put(self.embeddings.name(), &read.agents).await?;
        self.show(&read);
        self.committed.notify_one();
        Ok(())
    }

    /// A model that has changed under its name must not be mixed with what it was.
    fn check_dimensions(&self, vector: Option<&ModelVector>) -> Result<(), EmbedError> {
        let of_memories = self.view.read().model_dimensions();
        let known = of_memories.or_else(|| self.agents.read().model_dimensions());
        match (vector.map(ModelVector::dimensions), known) {
            (Some(now), Some(known)) if now != known => Err(EmbedError::Denied(format!(
                "its vectors have {now} numbers now, and those that are kept have {known}: it is another model under the \
                 same name; set A2A_EMBEDDINGS_DIMENSIONS to {now} to have everything read anew"
            ))),
            _ => Ok(()),
        }
    }

    /// Finds out which of the texts is not taken.
    fn divide(&self, mut part: Vec<Passage>, reason: &str, parts: &mut Vec<Vec<Passage>>) {
        if part.len() > 1 {
            let rest = part.split_off(part.len() / 2);
            parts.extend([rest, part]);
            return;
        }
        let Some(Passage { item, text }) = part.pop() else { return };
        if text.len() > SHORT_TEXT_BYTES_MAX {
            parts.push(vec![Passage { item, text: cut(&text, SHORT_TEXT_BYTES_MAX).to_owned() }]);
            return;
        }
        tracing::warn!(%item, %reason, "the model does not take it; the table is used for it");
        let mut refused = self.embeddings.refused.lock();
        if refused.len() >= REFUSED_MAX {
            refused.clear();
        }
        refused.insert(item);
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}
