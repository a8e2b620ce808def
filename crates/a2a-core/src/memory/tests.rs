//! Documents, hashes and what storing decides.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::document::{MemoryDocument, RelationDocument};
use super::retention::{eviction_order, kept_value, strength};
use super::write::{Held, StoreDecision, TURN_REPEAT_MS, decide};
use super::*;
use crate::limits;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const DAY: i64 = 86_400_000;

fn read(value: &Value) -> Result<MemorySpec, crate::error::Problems> {
    MemorySpec::from_document(value, "", &Namespace::default(), NOW)
}

fn spec(content: &str) -> MemorySpec {
    read(&json!({"content": content})).unwrap()
}

fn memory(spec: MemorySpec) -> Memory {
    Memory {
        id: MemoryId::generate(),
        content_hash: spec.content_hash(),
        spec,
        provenance: Provenance { author: Actor::new("test"), trust: Trust::User, derived_from: [].into() },
        frequency: 1,
        accesses: 0,
        last_accessed: NOW,
        superseded_by: None,
        revision: 1,
        created_at: NOW,
        updated_at: NOW,
        updated_by: Actor::new("test"),
    }
}

#[test]
fn a_document_of_content_alone_gets_the_defaults_of_its_type() {
    for (name, kind) in MemoryType::ALL {
        let spec = read(&json!({"content": " x ", "type": name})).unwrap();
        assert_eq!((spec.kind, &*spec.content), (kind, "x"));
        assert_eq!((spec.importance, spec.decay), (kind.default_importance(), kind.default_decay()));
    }
    assert_eq!(spec("x").kind, MemoryType::Semantic);
}

#[test]
fn all_problems_of_a_document_are_reported_at_once() {
    let value = json!({
        "content": "  ", "type": "dream", "importance": 1.5, "decay": -0.1, "expires_at": "soon", "agent": "a b",
        "supersedes": ["mem-a", "b c"], "relations": [{"kind": "", "to": "mem-b"}, {"kind": "x"}], "step": "s",
        "user": "a\nb", "contnt": 1
    });
    let text = read(&value).unwrap_err().to_string();
    for part in [
        "content: is empty",
        "type: is \"dream\"; use one of: conversation",
        "importance: is 1.5; use a number from 0 to 1",
        "decay: is -0.1",
        "expires_at: is not a time",
        "agent: has the character ' '",
        "supersedes[1]: has the character ' '",
        "relations[0].kind: is required",
        "relations[1].to: is required",
        "step: is a step of no run",
        "user: holds a control character",
        "contnt: is not a field here; did you mean \"content\"?",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}

#[test]
fn sizes_are_limited_exactly() {
    for (length, fits) in [(-1, true), (0, true), (1, false)] {
        let content = "x".repeat(limits::MEMORY_CONTENT_BYTES_MAX.strict_add_signed(length));
        assert_eq!(read(&json!({"content": content})).is_ok(), fits, "{length}");
        let key = "x".repeat(limits::MEMORY_KEY_CHARS_MAX.strict_add_signed(length));
        assert_eq!(read(&json!({"content": "x", "key": key})).is_ok(), fits, "{length}");
        let ids = vec!["mem-a"; limits::MEMORY_RELATIONS_MAX.strict_add_signed(length)];
        assert_eq!(read(&json!({"content": "x", "supersedes": ids})).is_ok(), fits, "{length}");
    }
    let data = json!({"x": "y".repeat(limits::DOCUMENT_BYTES_MAX)});
    assert!(read(&json!({"content": "x", "data": data})).unwrap_err().to_string().contains("the whole document has"));
}

#[test]
fn the_schema_names_the_fields_that_the_reader_knows() {
    let schema = serde_json::to_value(schemars::schema_for!(MemoryDocument)).unwrap();
    let text = read(&json!({"content": "x", "@": 1})).unwrap_err().to_string();
    for name in schema["properties"].as_object().unwrap().keys() {
        assert!(text.contains(name.as_str()), "{name}: {text}");
    }
    let known = text.split("known fields: ").nth(1).unwrap().split(", ").count();
    assert_eq!(known, schema["properties"].as_object().unwrap().len());
    let _fields_of_a_relation = RelationDocument { kind: String::new(), to: String::new() };
}

#[test]
fn expiry_is_a_time_or_a_span() {
    assert_eq!(read(&json!({"content": "x", "expires_in_s": 60})).unwrap().expires_at, Some(Timestamp(NOW.0 + 60_000)));
    let at = "2030-01-01T00:00:00Z";
    assert_eq!(read(&json!({"content": "x", "expires_at": at})).unwrap().expires_at, Timestamp::parse(at));
    assert!(read(&json!({"content": "x", "expires_at": at, "expires_in_s": 1})).is_err());
    assert!(read(&json!({"content": "x", "expires_at": "2001-01-01T00:00:00Z"})).is_err());
    let spec = read(&json!({"content": "x", "expires_in_s": 60})).unwrap();
    assert_eq!(spec.patched(&json!({"expires_at": null}), "", NOW).unwrap().expires_at, None);
}

#[test]
fn a_patch_changes_everything_but_what_was_said() {
    let old = spec("the sky is blue");
    let new =
        old.patched(&json!({"importance": 0.9, "tags": ["sky"], "relations": [{"kind": "x", "to": "mem-a"}]}), "", NOW);
    let new = new.unwrap();
    assert_eq!((new.importance, new.tags.len(), new.relations.len()), (0.9, 1, 1));
    assert_eq!(new.content_hash(), old.content_hash());
    for fixed in ["content", "type", "key", "agent", "namespace", "session"] {
        let error = old.patched(&json!({fixed: "other"}), "", NOW).unwrap_err().to_string();
        assert!(error.contains("can't be changed"), "{error}");
    }
}

#[test]
fn the_hash_tells_apart_what_differs_in_meaning() {
    let base = json!({"content": "we  deploy\non Tuesdays", "user": "u"});
    let hash = |extra: Value| {
        let mut value = base.clone();
        value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        read(&value).unwrap().content_hash()
    };
    let same = hash(json!({}));
    for extra in [
        json!({"content": "we deploy on Tuesdays"}),
        json!({"importance": 0.1, "tags": ["x"]}),
        json!({"session": "s"}),
    ] {
        assert_eq!(hash(extra.clone()), same, "{extra}");
    }
    for extra in [
        json!({"content": "We deploy on tuesdays"}),
        json!({"type": "preference"}),
        json!({"agent": "a"}),
        json!({"user": "v"}),
        json!({"user": null, "agent": "u"}),
        json!({"key": "k"}),
        json!({"data": {"a": 1}}),
        json!({"namespace": "n"}),
    ] {
        assert_ne!(hash(extra.clone()), same, "{extra}");
    }
    let turn = |session: &str| hash(json!({"type": "conversation", "session": session}));
    assert_ne!(turn("a"), turn("b"));
}

fn held(id: &str, spec: &MemorySpec, trust: Trust) -> Held {
    Held {
        id: MemoryId::from_stored(id),
        revision: 3,
        trust,
        content_hash: spec.content_hash(),
        created_at: NOW,
        last_accessed: NOW,
        expires_at: None,
        superseded: false,
    }
}

#[test]
fn what_is_told_twice_is_kept_once() {
    let spec = spec("x");
    let first = held("mem-a", &spec, Trust::User);
    let later = Timestamp(NOW.0 + 400 * DAY);
    let again = |held: &[Held]| decide(&spec, Trust::External, [], held, |_| false, later);
    assert_eq!(again(std::slice::from_ref(&first)), StoreDecision::Repeat { id: first.id.clone() });
    let create = StoreDecision::Create { trust: Trust::External, supersede: Vec::new() };
    assert_eq!(again(&[Held { superseded: true, ..first.clone() }]), create);
    assert_eq!(again(&[Held { expires_at: Some(later), ..first }]), create);
}

#[test]
fn a_turn_that_is_repeated_later_is_a_turn_of_its_own() {
    let spec = read(&json!({"content": "yes", "type": "conversation", "session": "s"})).unwrap();
    let first = held("mem-a", &spec, Trust::User);
    for (after, repeats) in [(TURN_REPEAT_MS, true), (TURN_REPEAT_MS + 1, false)] {
        let decision =
            decide(&spec, Trust::User, [], std::slice::from_ref(&first), |_| false, Timestamp(NOW.0 + after));
        assert_eq!(matches!(decision, StoreDecision::Repeat { .. }), repeats);
    }
}

#[test]
fn a_key_and_an_id_supersede_what_is_trusted_no_more() {
    let old = spec("deploys are on Tuesday");
    let new = read(&json!({"content": "deploys are on Thursday", "key": "deploy-day"})).unwrap();
    let there = [held("mem-a", &old, Trust::User)];
    let by_key = |trust, from: &[Trust]| decide(&new, trust, from.iter().copied(), &there, |_| true, NOW);
    assert_eq!(
        by_key(Trust::User, &[]),
        StoreDecision::Create { trust: Trust::User, supersede: vec![(there[0].id.clone(), 3)] }
    );
    for (trust, from) in [(Trust::Agent, &[][..]), (Trust::Operator, &[Trust::External])] {
        assert!(matches!(by_key(trust, from), StoreDecision::TrustTooLow { .. }));
    }
    let named = read(&json!({"content": "x", "supersedes": ["mem-a", "mem-gone"]})).unwrap();
    assert_eq!(
        decide(&named, Trust::User, [], &there, |_| false, NOW),
        StoreDecision::Missing { ids: vec![MemoryId::from_stored("mem-gone")] }
    );
    let again = Held { superseded: true, ..there[0].clone() };
    let named = read(&json!({"content": "x", "supersedes": ["mem-a"]})).unwrap();
    assert_eq!(
        decide(&named, Trust::External, [], &[again], |_| false, NOW),
        StoreDecision::Create { trust: Trust::External, supersede: Vec::new() }
    );
}

#[test]
fn expired_memories_go_first_and_then_those_worth_least() {
    let plain = memory(spec("plain"));
    let important = memory(MemorySpec { importance: 1.0, ..spec("important") });
    let old = Memory { last_accessed: Timestamp(NOW.0 - 2_000 * DAY), ..memory(spec("old")) };
    let superseded = Memory { superseded_by: Some(important.id.clone()), ..important.clone() };
    let expired = memory(MemorySpec { expires_at: Some(NOW), importance: 1.0, ..spec("expired") });
    let mut all = [&important, &plain, &superseded, &expired, &old];
    all.sort_by(|a, b| eviction_order(a, b, NOW));
    let order: Vec<&MemoryId> = all.iter().map(|m| &m.id).collect();
    assert_eq!(order, [&expired.id, &superseded.id, &old.id, &plain.id, &important.id]);
    assert!(std::ptr::eq(all[1], &superseded));
    assert!((strength(&plain, NOW) - 1.0).abs() < 1e-6 && strength(&old, NOW) < 0.1);
    assert!(kept_value(&Memory { accesses: 20, ..plain.clone() }, NOW) > kept_value(&plain, NOW));
}

proptest! {
    #[test]
    fn trust_never_rises(own in 0..4usize, from in prop::collection::vec(0..4usize, 0..5), there in 0..4usize, same in any::<bool>()) {
        let level = |i: usize| Trust::ALL[i].1;
        let old = spec("old");
        let new = read(&json!({"content": if same { "old" } else { "new" }, "key": "k"})).unwrap();
        let hash = if same { new.content_hash() } else { old.content_hash() };
        let there = Held { content_hash: hash, ..held("mem-a", &old, level(there)) };
        let trusts: Vec<Trust> = from.iter().map(|i| level(*i)).collect();
        match decide(&new, level(own), trusts.clone(), std::slice::from_ref(&there), |_| true, NOW) {
            StoreDecision::Create { trust, supersede } => {
                prop_assert!(trust <= level(own) && trusts.iter().all(|from| trust <= *from));
                prop_assert!(supersede.is_empty() || there.trust <= trust);
            }
            StoreDecision::Repeat { .. } => prop_assert!(same),
            StoreDecision::TrustTooLow { needed, offered, .. } => prop_assert!(offered < needed),
            StoreDecision::Missing { .. } => prop_assert!(false),
        }
    }
}
