//! The part of the feed that follows contacts with agents. It comes after the agents, because a contact counts for the
//! agent as it is.

use std::collections::{HashMap, HashSet};

use a2a_core::agent_check::AgentCheck;
use a2a_core::ids::{AgentKey, Revision};
use a2a_core::time::Timestamp;

use crate::agent_check::StoredCheck;
use crate::error::StoreError;
use crate::feed::{Cache, FETCH_KEYS_MAX, FeedRow, FeedSession};

/// Contacts put into the cache under one lock.
const APPLY_CHECKS_MAX: usize = 256;

/// Puts committed contacts into the cache, which refuses whatever is not newer.
pub(crate) fn apply(cache: &Cache, checks: Vec<StoredCheck>) {
    let mut checks = checks.into_iter();
    while checks.len() > 0 {
        let mut cache = cache.write();
        for (key, check) in checks.by_ref().take(APPLY_CHECKS_MAX) {
            cache.apply_check(&key, check);
        }
    }
}

/// Reads what the log says is newer than what the cache has.
pub(crate) async fn apply_changes(
    session: &mut FeedSession,
    cache: &Cache,
    rows: &[FeedRow],
) -> Result<(), StoreError> {
    let wanted: HashSet<AgentKey> = {
        let cache = cache.read();
        let is_news =
            |key: &AgentKey, revision: Revision| cache.check_revision(key).is_none_or(|known| known < revision);
        rows.iter()
            .filter_map(|row| match row {
                FeedRow::AgentCheck(key, revision) if is_news(key, *revision) => Some(key.clone()),
                _ => None,
            })
            .collect()
    };
    let wanted: Vec<AgentKey> = wanted.into_iter().collect();
    for part in wanted.chunks(FETCH_KEYS_MAX) {
        apply(cache, session.fetch_checks(part).await?);
    }
    Ok(())
}

/// What the cache has before the database is read for a comparison.
pub(crate) type Known = HashMap<AgentKey, (Revision, Timestamp)>;

pub(crate) fn known(cache: &Cache) -> Known {
    let of = |check: &AgentCheck| (check.revision, check.checked_at);
    cache.read().checks().map(|(key, check)| (key, of(check))).collect()
}

/// Takes over what the database has. Of what the cache had before and the database has not, or has otherwise, the
/// database has gone back.
pub(crate) fn reconcile(cache: &Cache, before: &Known, stored: Vec<StoredCheck>) {
    let there: HashMap<&AgentKey, (Revision, Timestamp)> =
        stored.iter().map(|(key, check)| (key, (check.revision, check.checked_at))).collect();
    let has_gone_back = |key: &AgentKey, (revision, at): (Revision, Timestamp)| {
        there.get(key).is_none_or(|there| there.0 < revision || (there.0 == revision && there.1 != at))
    };
    let lost: Vec<&AgentKey> =
        before.iter().filter(|(key, known)| has_gone_back(key, **known)).map(|(key, _)| key).collect();
    for part in lost.chunks(APPLY_CHECKS_MAX) {
        let mut cache = cache.write();
        for key in part {
            cache.forget_check(key);
        }
    }
    apply(cache, stored);
}
