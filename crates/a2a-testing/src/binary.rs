//! Where the server binary is.

use std::path::PathBuf;

/// The name of the server binary.
const NAME: &str = "a2a-mcp";

/// Returns the path of the server binary that was built together with the running test.
///
/// # Panics
/// When there is none; the message says how to build it.
#[must_use]
pub fn server_binary() -> PathBuf {
    // Test runners name the binary at run time in one of these variables; plain `cargo test` sets none of them for
    // tests of other packages, and then the binary is beside the folder of the test executable.
    let named = ["CARGO_BIN_EXE_a2a-mcp", "NEXTEST_BIN_EXE_a2a-mcp", "NEXTEST_BIN_EXE_a2a_mcp"]
        .iter()
        .find_map(std::env::var_os)
        .map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        let test = std::env::current_exe().expect("the test executable has a path");
        let folder = test.parent().expect("an executable is in a folder");
        let profile = match folder.file_name() {
            Some(name) if name == "deps" || name == "examples" => folder.parent().unwrap_or(folder),
            _ => folder,
        };
        profile.join(format!("{NAME}{}", std::env::consts::EXE_SUFFIX))
    });
    assert!(
        path.is_file(),
        "the server binary {} does not exist; build it with `cargo build -p {NAME}` or run `cargo xtask test`",
        path.display()
    );
    path
}
