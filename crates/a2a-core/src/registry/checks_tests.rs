//! Facts about contacts with agents.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::fixtures::{AgentBuilder, agent, ids, key, registry};
use super::{Filters, ListQuery, Registry};
use crate::agent::ExecutorKind;
use crate::agent_check::{AgentCheck, AgentStatus};
use crate::change::Committed;
use crate::ids::{Actor, Revision};
use crate::time::Timestamp;

fn check(reachable: bool, at: i64, revision: Revision) -> AgentCheck {
    let detail = (!reachable).then(|| "no connection".into());
    AgentCheck { reachable, detail, checked_at: Timestamp(at), checked_by: Actor::new("test"), revision }
}

fn changed(id: &str, revision: Revision, at: i64) -> AgentBuilder {
    agent(id).revision(revision).updated_at(at)
}

fn status(registry: &Registry, id: &str) -> Option<AgentStatus> {
    let key = key(id);
    let agent = registry.get(&key.namespace, id)?;
    Some(registry.contact(agent).status)
}

fn with_status(registry: &Registry, status: AgentStatus) -> Vec<String> {
    let filters = Filters { status: Some(status), ..Filters::default() };
    let page = registry.list(&ListQuery { filters, limit: 100, ..ListQuery::default() }).unwrap();
    assert_eq!(page.total, page.agents.len());
    ids(&page.agents).into_iter().map(str::to_owned).collect()
}

#[test]
fn an_agent_is_declared_until_somebody_has_contact_with_it() {
    let mut registry = registry([changed("a", 1, 10)]);
    assert_eq!(status(&registry, "a"), Some(AgentStatus::Declared));
    assert!(registry.apply_check(&key("a"), check(false, 20, 1)));
    let agent = registry.get(&key("a").namespace, "a").unwrap();
    let contact = registry.contact(agent);
    assert_eq!((contact.status, contact.last_checked()), (AgentStatus::Unreachable, Some(Timestamp(20))));
    assert_eq!(contact.detail(), Some("no connection"));
    assert!(registry.apply_check(&key("a"), check(true, 30, 2)));
    assert_eq!(status(&registry, "a"), Some(AgentStatus::Reachable));
}

#[test]
fn an_older_contact_changes_nothing() {
    let mut registry = registry([changed("a", 1, 10)]);
    assert!(registry.apply_check(&key("a"), check(true, 20, 5)));
    for revision in [4, 5] {
        assert!(!registry.apply_check(&key("a"), check(false, 30, revision)));
    }
    assert_eq!(status(&registry, "a"), Some(AgentStatus::Reachable));
}

#[test]
fn a_change_of_the_agent_makes_earlier_contacts_worthless() {
    let mut registry = registry([changed("a", 1, 10)]);
    assert!(registry.apply_check(&key("a"), check(true, 20, 5)));
    assert!(registry.apply(changed("a", 2, 21).committed(), Timestamp(0)));
    assert_eq!((status(&registry, "a"), registry.checks().count()), (Some(AgentStatus::Declared), 0));
    assert!(!registry.apply_check(&key("a"), check(true, 20, 6)), "it was before the change");
    // The same instant is not before it.
    assert!(registry.apply_check(&key("a"), check(false, 21, 1)));
    // What the caller holds is the state that the answer is about.
    let earlier = changed("a", 1, 10).build();
    assert_eq!(registry.contact(&earlier).status, AgentStatus::Unreachable);
    let later = changed("a", 3, 22).build();
    assert_eq!(registry.contact(&later).status, AgentStatus::Declared);
}

#[test]
fn who_is_removed_or_not_there_has_no_contact() {
    let mut registry = registry([changed("a", 1, 10), changed("b", 1, 10)]);
    for id in ["a", "b"] {
        assert!(registry.apply_check(&key(id), check(true, 20, 1)));
    }
    registry.apply(Committed::Removed(key("a"), 2), Timestamp(0));
    registry.forget(&key("b"));
    assert_eq!(registry.checks().count(), 0);
    for id in ["a", "b", "never-seen"] {
        assert!(!registry.apply_check(&key(id), check(true, 30, 2)), "{id}");
    }
    registry.forget_removed_before(Timestamp(1));
    assert_eq!(registry.checks().count(), 0);
}

#[test]
fn what_runs_in_every_process_is_reachable_without_a_contact() {
    let mut registry = registry([changed("a", 1, 10).executor(ExecutorKind::Builtin)]);
    assert!(!registry.apply_check(&key("a"), check(false, 20, 1)));
    let contact = registry.contact(registry.get(&key("a").namespace, "a").unwrap());
    assert_eq!((contact.status, contact.check), (AgentStatus::Reachable, None));
    assert_eq!(with_status(&registry, AgentStatus::Reachable), ["a"]);
    assert_eq!(registry.stats(None).reachable, 1);
}

proptest! {
    /// Lists and counts by status are what a walk over the agents gives, whatever has happened before.
    #[test]
    fn lists_by_status_equal_a_walk(operations in prop::collection::vec((0..6_usize, 0..5_u8, 0..40_i64), 0..120)) {
        let mut registry = Registry::new();
        let mut agents: BTreeMap<String, (i64, Option<AgentCheck>)> = BTreeMap::new();
        let mut revision = 0;
        for (n, what, at) in operations {
            let id = format!("a{n}");
            revision += 1;
            match what {
                0 => {
                    registry.apply(changed(&id, revision, at).committed(), Timestamp(0));
                    let known = agents.remove(&id).and_then(|(_, known)| known);
                    agents.insert(id, (at, known.filter(|check| check.checked_at.0 >= at)));
                }
                1 => {
                    registry.apply(Committed::Removed(key(&id), revision), Timestamp(0));
                    agents.remove(&id);
                }
                2 => {
                    registry.forget_check(&key(&id));
                    if let Some((_, known)) = agents.get_mut(&id) {
                        *known = None;
                    }
                }
                _ => {
                    let contact = check(what == 3, at, revision);
                    let applied = registry.apply_check(&key(&id), contact.clone());
                    let known = agents.get_mut(&id).filter(|(updated_at, _)| at >= *updated_at);
                    prop_assert_eq!(applied, known.is_some());
                    if let Some((_, known)) = known {
                        *known = Some(contact);
                    }
                }
            }
            for (_, status) in AgentStatus::ALL {
                let expected: Vec<String> = agents
                    .iter()
                    .filter(|(_, (_, check))| {
                        status == match check {
                            None => AgentStatus::Declared,
                            Some(check) if check.reachable => AgentStatus::Reachable,
                            Some(_) => AgentStatus::Unreachable,
                        }
                    })
                    .map(|(id, _)| id.clone())
                    .collect();
                prop_assert_eq!(with_status(&registry, status), expected);
            }
            let stats = registry.stats(None);
            prop_assert_eq!(stats.reachable, with_status(&registry, AgentStatus::Reachable).len());
            prop_assert_eq!(stats.unreachable, with_status(&registry, AgentStatus::Unreachable).len());
            prop_assert_eq!(registry.checks().count(), agents.values().filter(|(_, check)| check.is_some()).count());
        }
    }
}
