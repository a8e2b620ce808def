//! The programs of `examples/`, and what their documentation says that they print.

use std::path::Path;
use std::process::Command;

use a2a_testing::binary::server_binary;

/// What a fenced block of a document holds.
fn block<'t>(text: &'t str, fence: &str) -> &'t str {
    let (_, rest) = text.split_once(fence).unwrap();
    rest.split_once("\n```").unwrap().0.trim_start_matches('\n')
}

#[test]
fn a_release_is_reviewed_as_its_documentation_shows() {
    let name = format!("review-release{}", std::env::consts::EXE_SUFFIX);
    let program = server_binary().parent().unwrap().join("examples").join(name);
    assert!(program.is_file(), "{} is not built: cargo build -p a2a-mcp --examples", program.display());
    let done = Command::new(program).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let printed = String::from_utf8(done.stdout).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/review-release");
    let documented = std::fs::read_to_string(folder.join("README.md")).unwrap();
    assert_eq!(printed.trim_end(), block(&documented, "```text"));
}
