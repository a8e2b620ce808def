//! Holds the map of the code (`crates/README.md`) and the direction of dependencies against the tree.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of the dependencies in one table of a manifest.
fn dependencies(manifest: &str, table: &str) -> BTreeSet<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != format!("[{table}]"))
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn crates() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn only_the_store_and_its_tests_know_diesel_and_only_the_faces_serve_rmcp() {
    for name in crates() {
        let used = dependencies(&read(&format!("crates/{name}/Cargo.toml")), "dependencies");
        for dependency in &used {
            if dependency.starts_with("diesel") {
                assert!(["a2a-store", "a2a-testing"].contains(&name.as_str()), "{name} depends on {dependency}");
            }
            if dependency == "clap" {
                assert!(["a2a-mcp", "xtask"].contains(&name.as_str()), "{name} depends on {dependency}");
            }
            if dependency == "rmcp" {
                assert!(["a2a-engine", "a2a-mcp", "xtask"].contains(&name.as_str()), "{name} depends on {dependency}");
            }
        }
    }
}

#[test]
fn the_engine_ships_the_client_of_rmcp_and_not_its_server() {
    let shared = read("Cargo.toml");
    let engine = read("crates/a2a-engine/Cargo.toml");
    // What the workspace switches on, every crate gets.
    for manifest in [shared.as_str(), engine.split("[dev-dependencies]").next().unwrap()] {
        let line = manifest.lines().find(|line| line.starts_with("rmcp =")).unwrap();
        assert!(!line.contains("server"), "{line}");
    }
}

#[test]
fn dependencies_between_crates_point_one_way() {
    let order = ["a2a-core", "a2a-store", "a2a-engine", "a2a-mcp"];
    for (position, name) in order.iter().enumerate() {
        let used = dependencies(&read(&format!("crates/{name}/Cargo.toml")), "dependencies");
        for above in &order[position..] {
            assert!(!used.contains(*above), "{name} depends on {above}");
        }
        assert!(!used.contains("a2a-testing"), "{name} ships test support");
    }
    let core = dependencies(&read("crates/a2a-core/Cargo.toml"), "dependencies");
    for io in ["tokio", "tokio-postgres", "rmcp"] {
        assert!(!core.contains(io), "a2a-core depends on {io}");
    }
}

#[test]
fn every_dependency_has_its_reason_in_the_map() {
    let map = read("crates/README.md");
    let reasons: BTreeSet<&str> = map
        .lines()
        .skip_while(|line| !line.starts_with("## Dependencies"))
        .filter_map(|line| line.strip_prefix('|')?.split('|').next())
        .flat_map(|cell| cell.split(','))
        .map(str::trim)
        .collect();
    for name in dependencies(&read("Cargo.toml"), "workspace.dependencies") {
        assert!(
            name.starts_with("a2a-") || reasons.contains(name.as_str()),
            "{name} has no reason in crates/README.md"
        );
    }
}

#[test]
fn every_file_of_the_map_exists() {
    let map = read("crates/README.md");
    let mut krate = String::new();
    let mut seen = 0;
    for line in map.lines().skip_while(|line| !line.starts_with("## File by file")) {
        if line.starts_with("## Dependencies") {
            break;
        }
        let Some(cell) = line.strip_prefix('|').and_then(|rest| rest.split('|').next()) else { continue };
        if let Some(name) = crates().into_iter().find(|name| name == cell.trim()) {
            krate = name;
        }
        for path in cell.split('`').skip(1).step_by(2) {
            let file = root().join("crates").join(&krate).join("src").join(path);
            assert!(file.exists(), "{} is on the map and not in the tree", file.display());
            seen += 1;
        }
    }
    assert!(seen > 30, "the map has only {seen} files; was its form changed?");
}
