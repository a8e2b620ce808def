//! A corpus of secrets, and a list of innocent sentences.

use serde_json::json;

use super::corpus::{MIXED, corpus, random};
use super::*;
use crate::ids::Namespace;
use crate::time::Timestamp;

const INNOCENT: &str = include_str!("innocent.txt");

#[test]
fn every_secret_of_the_corpus_is_found_and_cut_out() {
    let corpus = corpus();
    assert!(corpus.len() > 55, "{}", corpus.len());
    for (text, secret) in corpus {
        let found = find(&text);
        assert!(!found.is_empty(), "nothing found in {text}");
        let clean = redacted(&text).unwrap();
        assert!(!clean.contains(&secret), "{secret} is left in {clean}");
        // What is left says something still, and what was cut is not found again.
        assert!(clean.contains("[redacted: "), "{clean}");
        assert_eq!(find(&clean), Vec::new(), "{clean}");
    }
}

#[test]
fn no_innocent_sentence_is_suspected() {
    let sentences: Vec<&str> = INNOCENT.lines().filter(|line| !line.is_empty()).collect();
    assert!(sentences.len() >= 200, "{}", sentences.len());
    let suspected: Vec<(&str, Vec<Secret>)> =
        sentences.into_iter().map(|s| (s, find(s))).filter(|(_, found)| !found.is_empty()).collect();
    assert!(suspected.is_empty(), "{suspected:#?}");
}

#[test]
fn a_document_is_refused_without_telling_the_secret_or_stored_without_it() {
    let token = ["gh", "p_", &random(36, MIXED, 7)].concat();
    let value = json!({
        "content": format!("first line\nuse {token} here"),
        "data": {"password": "Xk29fLm4Qz", "list": [token.clone()]},
        "tags": [token.clone()],
    });
    let mut spec = MemorySpec::from_document(&value, "", &Namespace::default(), Timestamp(0)).unwrap();
    let problems = spec.refuse_secrets("memories[0]").unwrap_err();
    let text = problems.to_string();
    assert!(!text.contains(&token) && !text.contains("Xk29fLm4Qz"), "{text}");
    for part in [
        "memories[0].content: holds what looks like a secret (GitHub token, line 2)",
        "data.password",
        "data.list[0]",
        "tags",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
    assert_eq!(spec.redact_secrets(), 4);
    assert_eq!(spec.refuse_secrets(""), Ok(()));
    let json = spec.to_json().unwrap();
    assert!(!json.contains(&token) && !json.contains("Xk29fLm4Qz") && json.contains("first line"), "{json}");
}

#[test]
fn any_text_can_be_searched_for_secrets() {
    for text in
        ["", "é", "://@", "a://é:ü@b", "-----BEGIN PRIVATE KEY-----", "=", "password=", "日本: 語", "eyJ.eyJ.", "\u{0}"]
    {
        let _found = redacted(text);
    }
}
