//! The part of the feed that follows memories and what agents have experienced.
//!
//! They are loaded after everything else is served, with another connection than the feed's: what is read later than the
//! position of the feed is newer, and the cache refuses whatever is not.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use a2a_core::ids::{AgentKey, MemoryId, Revision};
use a2a_core::memory::command::MemoryCommitted;
use a2a_core::memory::recall::CommittedMemory;
use a2a_core::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::agent_cache::Cache;
use crate::agent_vectors;
use crate::error::StoreError;
use crate::feed::{FETCH_KEYS_MAX, FeedRow, FeedSession};
use crate::memory_view::MemoryView;
use crate::store::{MemoryVersion, Store};

fn committed(version: MemoryVersion) -> CommittedMemory {
    match version.removed_at {
        None => CommittedMemory::Memory(version.memory),
        Some(_) => CommittedMemory::Removed(version.memory.id.clone(), version.memory.revision),
    }
}

/// Loads everything, and tries again until it is there.
pub(crate) async fn load_all(store: Store, agents: Arc<Cache>, view: Arc<MemoryView>, shutdown: CancellationToken) {
    const RETRY: Duration = Duration::from_millis(250);
    loop {
        let loaded = tokio::select! {
            () = shutdown.cancelled() => return,
            loaded = load(&store, &view) => loaded,
        };
        match loaded {
            Ok(()) => break,
            Err(error) => tracing::warn!(%error, "the memories can't be loaded; trying again"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    view.all_loaded();
    // It ends by itself, and early at shutdown; nobody has to wait for it but recall.
    tokio::task::spawn_blocking({
        let (view, shutdown) = (view.clone(), shutdown.clone());
        move || view.make_searchable(&shutdown)
    });
    // Search and recall work without.
    while let Err(error) = adopt_all_vectors(&store, &agents, &view).await {
        tracing::warn!(%error, "the vectors of the model can't be loaded; trying again");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn adopt_all_vectors(store: &Store, agents: &Cache, view: &MemoryView) -> Result<(), StoreError> {
    agent_vectors::adopt(store, agents).await?;
    adopt_vectors(store, view).await
}

/// Reads chunk after chunk, while another thread puts the one before into the index.
async fn load(store: &Store, view: &Arc<MemoryView>) -> Result<(), StoreError> {
    let failed = |error: tokio::task::JoinError| StoreError::Task(error.to_string());
    for experience in store.experiences_read(None).await? {
        view.apply([MemoryCommitted::Experience(Arc::new(experience))]);
    }
    let mut loading = tokio::task::spawn_blocking(|| {});
    let mut after = String::new();
    loop {
        let chunk = store.memories_after(&after).await?;
        let Some(last) = chunk.last() else { break };
        after = last.memory.id.to_string();
        // No more chunks than one wait in memory.
        loading.await.map_err(failed)?;
        let view = view.clone();
        loading = tokio::task::spawn_blocking(move || view.load(chunk.into_iter().map(committed).collect()));
    }
    loading.await.map_err(failed)
}

/// Reads what the log says is newer than what the cache has.
pub(crate) async fn apply_changes(
    session: &mut FeedSession,
    view: &MemoryView,
    rows: &[FeedRow],
) -> Result<(), StoreError> {
    let mut memories: HashMap<&MemoryId, Revision> = HashMap::new();
    let mut agents: HashSet<&AgentKey> = HashSet::new();
    {
        let (index, experiences) = (view.read(), view.experiences());
        let is_news =
            |id: &MemoryId, revision: Revision| index.known_revision(id.as_str()).is_none_or(|known| known < revision);
        let has_learned =
            |agent: &AgentKey, revision: Revision| experiences.get(agent).is_none_or(|known| known.revision < revision);
        for row in rows {
            match row {
                FeedRow::Memory(id, revision) if is_news(id, *revision) => {
                    let newest = memories.entry(id).or_insert(*revision);
                    *newest = (*newest).max(*revision);
                }
                FeedRow::Personality(agent, revision) if has_learned(agent, *revision) => {
                    agents.insert(agent);
                }
                _ => {}
            }
        }
    }
    let wanted: Vec<(MemoryId, Revision)> = memories.into_iter().map(|(id, revision)| (id.clone(), revision)).collect();
    for part in wanted.chunks(FETCH_KEYS_MAX) {
        let ids: Vec<MemoryId> = part.iter().map(|(id, _)| id.clone()).collect();
        let (found, _) = session.fetch_memories(&ids, &[]).await?;
        let there: HashSet<MemoryId> = found.iter().map(|version| version.memory.id.clone()).collect();
        let purged = part.iter().filter(|(id, _)| !there.contains(id));
        let purged = purged.map(|(id, revision)| CommittedMemory::Removed(id.clone(), *revision));
        view.apply_memories(found.into_iter().map(committed).chain(purged).collect());
    }
    let agents: Vec<AgentKey> = agents.into_iter().cloned().collect();
    for part in agents.chunks(FETCH_KEYS_MAX) {
        let (_, found) = session.fetch_memories(&[], part).await?;
        view.apply(found.into_iter().map(Arc::new).map(MemoryCommitted::Experience));
    }
    Ok(())
}

/// Takes over the vectors that the log says are there.
pub(crate) async fn apply_vectors(store: &Store, view: &MemoryView, rows: &[FeedRow]) -> Result<(), StoreError> {
    if view.model().is_none() {
        return Ok(());
    }
    let told = |row: &FeedRow| if let FeedRow::MemoryEmbedding(id) = row { Some(id.clone()) } else { None };
    let told: Vec<MemoryId> = rows.iter().filter_map(told).collect();
    let unknown: Vec<MemoryId> = {
        let index = view.read();
        told.into_iter().filter(|id| !index.has_model_vector(id.as_str())).collect()
    };
    read_vectors(store, view, &unknown).await
}

/// Takes over the vectors that the database has of memories that have none here.
async fn adopt_vectors(store: &Store, view: &MemoryView) -> Result<(), StoreError> {
    if view.model().is_none() {
        return Ok(());
    }
    let lacking: Vec<MemoryId> = view.read().without_model_vector(|_| true).map(|memory| memory.id.clone()).collect();
    read_vectors(store, view, &lacking).await
}

async fn read_vectors(store: &Store, view: &MemoryView, ids: &[MemoryId]) -> Result<(), StoreError> {
    let Some(model) = view.model() else { return Ok(()) };
    for part in ids.chunks(FETCH_KEYS_MAX) {
        view.set_model_vectors(&store.memory_vectors_read(model, part).await?);
    }
    Ok(())
}

/// What the cache has before the database is read for a comparison.
#[derive(Debug)]
pub(crate) struct Known {
    memories: HashMap<MemoryId, (Revision, Timestamp)>,
    experiences: HashMap<AgentKey, (Revision, Timestamp)>,
}

pub(crate) fn known(view: &MemoryView) -> Known {
    let memories = view.read().iter().map(|m| (m.id.clone(), (m.revision, m.updated_at))).collect();
    let experiences = view.experiences().iter().map(|(key, e)| (key.clone(), (e.revision, e.updated_at))).collect();
    Known { memories, experiences }
}

/// Takes over what the database has. Of what the cache had before and the database has not, or has older or otherwise,
/// the database has gone back.
pub(crate) async fn reconcile(store: &Store, view: &MemoryView, before: &Known) -> Result<(), StoreError> {
    let stored = store.memory_revisions().await?;
    let mut wanted: Vec<MemoryId> = Vec::new();
    let mut lost: Vec<MemoryId> = Vec::new();
    for row in &stored {
        match before.memories.get(&row.id) {
            Some((revision, at)) if *revision == row.revision && *at == row.updated_at => {}
            Some((revision, _)) if *revision >= row.revision => {
                lost.push(row.id.clone());
                wanted.push(row.id.clone());
            }
            _ => wanted.push(row.id.clone()),
        }
    }
    let there: HashSet<&MemoryId> = stored.iter().map(|row| &row.id).collect();
    lost.extend(before.memories.keys().filter(|id| !there.contains(id)).cloned());
    if !lost.is_empty() {
        view.update(|index| {
            for id in &lost {
                // What this process has written meanwhile is newer than what is compared.
                let is_as_before = |(revision, _): &(Revision, Timestamp)| {
                    index.get(id.as_str()).is_some_and(|memory| memory.revision == *revision)
                };
                if before.memories.get(id).is_some_and(is_as_before) {
                    index.forget(id.as_str());
                }
            }
        });
    }
    for part in wanted.chunks(FETCH_KEYS_MAX) {
        view.apply_memories(store.memories_read(part).await?.into_iter().map(committed).collect());
    }
    let stored = store.experiences_read(None).await?;
    let there: HashMap<&AgentKey, (Revision, Timestamp)> =
        stored.iter().map(|e| (&e.agent, (e.revision, e.updated_at))).collect();
    view.update_experiences(|experiences| {
        experiences.retain(|key, known| {
            let is_as_before = before.experiences.get(key).is_some_and(|(revision, _)| known.revision == *revision);
            let has_gone_back = there.get(key).is_none_or(|(revision, at)| {
                *revision < known.revision || (*revision == known.revision && *at != known.updated_at)
            });
            !(is_as_before && has_gone_back)
        });
    });
    view.apply(stored.into_iter().map(Arc::new).map(MemoryCommitted::Experience));
    adopt_vectors(store, view).await
}
