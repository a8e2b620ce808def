//! The program `a2a-mcp`; all of it is in the library.

fn main() -> std::process::ExitCode {
    a2a_mcp::cli::main()
}
