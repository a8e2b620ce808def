//! The configuration of clients, written as a user has it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::cli::{Ended, Home};

const PASSWORD: &str = "hunter2-is-no-secret";

/// A home in which clients keep their files.
struct User(Home);

impl User {
    fn new(folders: &[&str]) -> Self {
        let home = Home::new();
        for folder in folders {
            std::fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        Self(home)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.0.command(&[&["init"], args].concat());
        command.env_remove("CLAUDE_CONFIG_DIR");
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.command(args).output().unwrap().into()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    /// The files beside one that hold what it was.
    fn backups(&self, name: &str) -> Vec<PathBuf> {
        let path = self.path(name);
        let start = format!("{}.", path.file_name().unwrap().to_str().unwrap());
        let entries = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|other| other.file_name().unwrap().to_str().unwrap().starts_with(&start)).collect()
    }
}

#[test]
fn every_client_that_is_found_starts_this_program_and_it_answers() {
    let user = User::new(&[".cursor", ".config/Claude", ".config/Code"]);
    let done = user.run(&["--json"]).code(0).json();
    let status: Vec<(&str, &str)> = done["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["client"].as_str().unwrap(), item["status"].as_str().unwrap()))
        .collect();
    let expected = [("claude-desktop", "added"), ("claude-code", "skipped"), ("cursor", "added"), ("vscode", "added")];
    assert_eq!(status, expected);
    assert!(done["check"]["tools"].as_u64().unwrap() > 10 && done["check"]["error"].is_null(), "{done}");
    for (file, key) in [
        (".config/Claude/claude_desktop_config.json", "mcpServers"),
        (".cursor/mcp.json", "mcpServers"),
        (".config/Code/User/mcp.json", "servers"),
    ] {
        let entry = user.json(file)[key]["a2a"].clone();
        assert_eq!(entry["command"], env!("CARGO_BIN_EXE_a2a-mcp"), "{file}");
        assert_eq!(entry["args"], serde_json::json!(["serve"]));
        assert_eq!(entry["env"]["A2A_DATA_DIR"], user.path("data").to_str().unwrap());
    }
    assert!(!user.path(".claude.json").exists());
    let again = user.run(&[]).code(0);
    assert!(again.out.contains("a2a is in") && !again.out.contains("restart"), "{}", again.out);
    assert!(user.backups(".cursor/mcp.json").is_empty());
}

#[test]
fn what_is_there_stays_with_its_mode_and_a_copy_and_can_be_had_back() {
    let user = User::new(&[".config/Code/User"]);
    let before = "{\n\t// my servers\n\t\"servers\": {\n\t\t\"other\": {\"command\": \"x\", \"env\": {\"KEY\": \"abc\"}},\n\t},\n}\n";
    let file = ".config/Code/User/mcp.json";
    user.0.write(file, before);
    std::fs::set_permissions(user.path(file), std::fs::Permissions::from_mode(0o640)).unwrap();
    let done = user.run(&["vscode"]).code(0);
    assert!(done.out.contains("a2a added to") && done.out.contains("ok: it starts and answers"), "{}", done.out);
    let after = user.read(file);
    assert!(
        after.contains("// my servers")
            && after.contains("\t\t\"other\": {\"command\": \"x\", \"env\": {\"KEY\": \"abc\"}},")
    );
    assert!(after.contains("\n\t\t\"a2a\": {\n\t\t\t\"type\": \"stdio\""), "{after}");
    assert_eq!(user.mode(file), 0o640);
    let backups = user.backups(file);
    assert_eq!(backups.len(), 1);
    assert_eq!(std::fs::read_to_string(&backups[0]).unwrap(), before);
    let removed = user.run(&["vscode", "--remove"]).code(0);
    assert!(removed.out.contains("a2a removed from"), "{}", removed.out);
    assert_eq!(user.read(file), before);
    let gone = user.run(&["vscode", "--remove"]).code(0);
    assert!(gone.out.contains("a2a is not in"), "{}", gone.out);
}

#[test]
fn a_password_is_passed_on_and_never_printed() {
    let user = User::new(&[".cursor"]);
    let url = |password: &str| format!("postgres://me:{password}@127.0.0.1:9/a2a?connect_timeout=1");
    let run =
        |args: &[&str], url: &str| -> Ended { user.command(args).env("DATABASE_URL", url).output().unwrap().into() };
    let dry = run(&["cursor", "--dry-run"], &url(PASSWORD)).code(0);
    assert!(dry.out.contains("+") && dry.out.contains("postgres://…@127.0.0.1:9/a2a"), "{}", dry.out);
    assert!(!user.path(".cursor/mcp.json").exists());
    // Nobody listens there, so that the check fails; the file is written all the same.
    let done = run(&["cursor"], &url(PASSWORD)).code(1);
    assert!(done.out.contains("check") && done.out.contains("FAILED"), "{}", done.out);
    assert_eq!(user.json(".cursor/mcp.json")["mcpServers"]["a2a"]["env"]["DATABASE_URL"], url(PASSWORD).as_str());
    assert_eq!(user.mode(".cursor/mcp.json"), 0o600);
    let other = run(&["cursor", "--dry-run"], &url("another-password")).code(0);
    assert!(other.out.contains("a value changes that is not shown"), "{}", other.out);
    std::fs::set_permissions(user.path(".cursor/mcp.json"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = run(&["cursor"], &url("another-password")).code(1);
    assert!(open.out.contains("chmod 600"), "{}", open.out);
    let json = run(&["cursor", "--json"], &url(PASSWORD)).code(1);
    for ended in [dry, done, other, open, json] {
        for text in [ended.out, ended.err] {
            assert!(!text.contains(PASSWORD) && !text.contains("another-password"), "{text}");
        }
    }
}

#[test]
fn a_shared_file_refers_to_the_url() {
    let user = User::new(&["project"]);
    for (client, file, reference) in [
        ("claude-code", ".mcp.json", "${DATABASE_URL}"),
        ("cursor", ".cursor/mcp.json", "${env:DATABASE_URL}"),
        ("vscode", ".vscode/mcp.json", "${input:a2a-database-url}"),
    ] {
        let mut command = user.command(&[client, "--scope", "project"]);
        let path = user.path("shared.db");
        command.current_dir(user.path("project")).env("DATABASE_URL", format!("sqlite:{}", path.display()));
        Ended::from(command.output().unwrap()).code(0);
        let text = user.read(&format!("project/{file}"));
        assert!(text.contains(reference) && !text.contains("shared.db"), "{text}");
        assert!(path.exists(), "the check used the real one");
    }
    let none = user.run(&["claude-desktop", "--scope", "project"]).code(1);
    assert!(none.out.contains("has no configuration of a project"), "{}", none.out);
}

#[test]
fn what_is_not_understood_is_left_untouched() {
    let user = User::new(&[]);
    let text = "{\n  \"mcpServers\": {\n    \"x\": }\n}";
    user.0.write(".claude.json", text);
    let failed = user.run(&["claude-code"]).code(1);
    assert!(failed.out.contains("line 3, column 10") && failed.out.contains("nothing was changed"), "{}", failed.out);
    assert_eq!(user.read(".claude.json"), text);
    assert!(user.backups(".claude.json").is_empty());
    let link = user.path("real.json");
    std::fs::write(&link, "{}").unwrap();
    std::fs::create_dir(user.path(".cursor")).unwrap();
    std::os::unix::fs::symlink(&link, user.path(".cursor/mcp.json")).unwrap();
    user.run(&["cursor"]).code(0);
    assert!(user.path(".cursor/mcp.json").is_symlink() && user.read("real.json").contains("a2a"));
}

#[test]
fn what_can_not_work_is_told_before_anything_is_written() {
    let user = User::new(&[".cursor"]);
    let relative: Ended = user.command(&["cursor"]).env("DATABASE_URL", "sqlite:a.db").output().unwrap().into();
    assert!(relative.code(2).err.contains("write the whole path"));
    assert!(user.run(&["cursor", "--name", "a b"]).code(2).err.contains("--name"));
    assert!(user.run(&["emacs"]).code(2).err.contains("claude-desktop"));
    assert!(!user.path(".cursor/mcp.json").exists());
    // Written as asked, and the check tells that it can't be started.
    let missing = user.run(&["cursor", "--command", "/nowhere/a2a-mcp"]).code(1);
    assert!(missing.out.contains("FAILED: /nowhere/a2a-mcp serve"), "{}", missing.out);
    let nobody = User::new(&[]).run(&[]).code(1);
    assert!(nobody.out.contains("no client was set up; name one"), "{}", nobody.out);
}

#[test]
fn claude_code_has_a_configuration_of_one_user_in_one_project() {
    let user = User::new(&["project", "other", ".cursor"]);
    let project = user.path("project").canonicalize().unwrap().to_str().unwrap().to_owned();
    let before = "{\n  \"numStartups\": 3,\n  \"projects\": {\n    \"/elsewhere\": {\"mcpServers\": {}, \"history\": \
        [\"hunter2\"]}\n  },\n  \"mcpServers\": {\"mine\": {\"command\": \"x\"}}\n}\n";
    user.0.write(".claude.json", before);
    let run = |args: &[&str]| -> Ended {
        let mut command = user.command(&[&["claude-code", "--scope", "local"], args].concat());
        let url = format!("sqlite:{}", user.path("mine.db").display());
        command.current_dir(user.path("project")).env("DATABASE_URL", url).output().unwrap().into()
    };
    let dry = run(&["--dry-run"]).code(0);
    assert!(
        dry.out.contains("a2a would be added") && dry.out.contains("+") && dry.out.contains(&project),
        "{}",
        dry.out
    );
    assert!(!dry.out.contains("hunter2"), "what is none of its business is not shown: {}", dry.out);
    assert_eq!(user.read(".claude.json"), before);

    run(&[]).code(0);
    let after = user.json(".claude.json");
    let entry = &after["projects"][&project]["mcpServers"]["a2a"];
    assert_eq!((&entry["type"], &entry["command"]), (&"stdio".into(), &env!("CARGO_BIN_EXE_a2a-mcp").into()));
    assert!(entry["env"]["DATABASE_URL"].as_str().unwrap().ends_with("mine.db"), "nobody else reads it: {entry}");
    assert!(after["mcpServers"]["a2a"].is_null() && after["projects"]["/elsewhere"]["mcpServers"]["a2a"].is_null());
    for kept in ["\"numStartups\": 3,", "\"/elsewhere\": {\"mcpServers\": {}, \"history\": [\"hunter2\"]}"] {
        assert!(user.read(".claude.json").contains(kept), "{kept}");
    }
    let text = user.read(".claude.json");
    assert!(run(&[]).code(0).out.contains("a2a is in"));
    assert_eq!(user.read(".claude.json"), text, "it can be repeated");

    // Each scope is for itself.
    let everywhere = user.run(&["claude-code", "--remove"]).code(0);
    assert!(everywhere.out.contains("a2a is not in"), "{}", everywhere.out);
    let mut doctor = user.0.command(&["doctor", "--json"]);
    doctor.env_remove("CLAUDE_CONFIG_DIR").current_dir(user.path("project"));
    let report = Ended::from(doctor.output().unwrap()).json().to_string();
    assert!(report.contains("another database") && report.contains("mine.db"), "{report}");
    assert!(run(&["--remove"]).code(0).out.contains("a2a removed from"));
    let removed = user.json(".claude.json");
    assert_eq!(removed["projects"][&project], serde_json::json!({"mcpServers": {}}));
    assert!(run(&["--remove"]).code(0).out.contains("a2a is not in"));

    let cursor = user.run(&["cursor", "--scope", "local"]).code(1);
    assert!(cursor.out.contains("has no configuration of one user in a project"), "{}", cursor.out);
    user.0.write(".claude.json", "{\"projects\": []}");
    let wrong = run(&[]).code(1);
    assert!(wrong.out.contains("has \"projects\", which is not an object"), "{}", wrong.out);
}
