//! Vectors of questions, within the time that recall may wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::embedding::ModelVector;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::Embeddings;

/// Questions whose vectors are kept: pages and repeats of a session.
const KNOWN_MAX: usize = 256;
/// Questions that are read at once; more are answered by the table.
const AT_ONCE: usize = 8;
/// A question whose vector comes later than recall waits still fills the cache, unless it takes longer than this.
const LIMIT: Duration = Duration::from_secs(10);
/// After a failure nothing is asked for a time, so that recall does not wait for an endpoint that is not there.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What is known of questions.
#[derive(Debug)]
pub(super) struct Questions {
    /// The last used one at the back.
    known: Mutex<VecDeque<(String, Arc<ModelVector>)>>,
    places: Arc<Semaphore>,
    /// Until when nothing is asked, and for how long the next time.
    paused: Mutex<Option<(Instant, Duration)>>,
}

impl Default for Questions {
    fn default() -> Self {
        Self { known: Mutex::default(), places: Arc::new(Semaphore::new(AT_ONCE)), paused: Mutex::default() }
    }
}

impl Questions {
    fn find(&self, question: &str) -> Option<Arc<ModelVector>> {
        let mut known = self.known.lock();
        let place = known.iter().position(|(text, _)| text == question)?;
        let found = known.remove(place)?;
        let vector = Arc::clone(&found.1);
        known.push_back(found);
        Some(vector)
    }

    fn keep(&self, question: String, vector: Arc<ModelVector>) {
        *self.paused.lock() = None;
        let mut known = self.known.lock();
        if known.len() >= KNOWN_MAX {
            known.pop_front();
        }
        known.push_back((question, vector));
    }

    fn failed(&self) {
        let mut paused = self.paused.lock();
        let pause = paused.map_or(PAUSE_MIN, |(_, pause)| (pause * 2).min(PAUSE_MAX));
        *paused = Some((Instant::now() + pause, pause));
    }

    fn is_paused(&self) -> bool {
        self.paused.lock().is_some_and(|(until, _)| Instant::now() < until)
    }
}

impl Embeddings {
    /// The vector of a question; `None` when it is not there within the time that recall may wait.
    pub(crate) async fn question(self: &Arc<Self>, question: &str) -> Option<Arc<ModelVector>> {
        let question = question.trim();
        if question.is_empty() {
            return None;
        }
        if let Some(known) = self.questions.find(question) {
            return Some(known);
        }
        if self.questions.is_paused() {
            return None;
        }
        let place = self.questions.places.clone().try_acquire_owned().ok()?;
        let (tell, told) = oneshot::channel();
        let (this, question) = (self.clone(), question.to_owned());
        // A task of its own: what comes too late for this call is there for the next one.
        tokio::spawn(async move {
            let _place = place;
            match this.read_question(&question, LIMIT).await {
                Ok(vector) => {
                    let Some(vector) = vector.map(Arc::new) else { return };
                    this.questions.keep(question, Arc::clone(&vector));
                    // Nobody may be waiting any more.
                    let _late = tell.send(vector);
                }
                Err(error) => {
                    tracing::debug!(%error, "a question was not read by the model");
                    this.questions.failed();
                }
            }
        });
        match tokio::time::timeout(self.embedder.question_limit(), told).await {
            Ok(vector) => vector.ok(),
            Err(_) => {
                self.questions.failed();
                None
            }
        }
    }
}
