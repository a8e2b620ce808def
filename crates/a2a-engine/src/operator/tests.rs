//! The operator's file: what it may say, and that every problem is named.

use std::path::Path;
use std::time::Duration;

use super::*;

fn parse(yaml: &str) -> Result<OperatorFile, Problems> {
    OperatorFile::parse(yaml.as_bytes(), &|name| match name {
        "TOKEN" => Some("s3cret".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    })
}

fn problems(yaml: &str) -> Vec<String> {
    parse(yaml).unwrap_err().0.iter().map(ToString::to_string).collect()
}

#[test]
fn the_example_file_is_read() {
    let example = include_bytes!("../../../../examples/config.yaml");
    let file = OperatorFile::parse(example, &|name| Some(format!("the value of {name}"))).unwrap();
    assert_eq!((file.egress.len(), file.mcp_servers.len(), file.commands.len()), (3, 1, 1));
}

#[test]
fn a_whole_file_is_read() {
    let file = parse(
        r#"
egress:
  allow:
    - https://hooks.example.com
    - origin: https://*.example.org
      headers: {Authorization: "Bearer ${TOKEN}", X-Plain: "$${TOKEN} costs $5"}
    - {origin: "http://127.0.0.1:9000", private: true}
http:
  signing_keys:
    https://hooks.example.com: ${TOKEN}
mcp:
  servers:
    files: {argv: [/bin/files, --root, /srv], env: {LEVEL: warn}, cwd: /srv, tools: [read, list]}
    search: {url: "https://hooks.example.com/mcp", headers: {Authorization: "${TOKEN}"}, tools: [search]}
commands:
  render: {argv: [/bin/render, --json], env: {LANG: C}, cwd: /srv, timeout_s: 60, output_bytes_max: 65536}
  plain: {argv: [/bin/plain]}
"#,
    )
    .unwrap();
    assert_eq!(file.egress.len(), 3);
    assert_eq!(file.egress[0].signing_key.as_ref().unwrap().expose(), "s3cret");
    assert_eq!(file.egress[1].headers.get("authorization").unwrap(), "Bearer s3cret");
    assert_eq!(file.egress[1].headers.get("x-plain").unwrap(), "${TOKEN} costs $5");
    assert!(file.egress[2].private && !file.egress[1].private);
    let McpConnection::Stdio { argv, env, cwd } = &file.mcp_servers["files"].connection else { panic!() };
    assert_eq!((argv.len(), env["LEVEL"].expose(), cwd.as_deref()), (3, "warn", Some(Path::new("/srv"))));
    let McpConnection::Http { url, headers } = &file.mcp_servers["search"].connection else { panic!() };
    assert_eq!(url, "https://hooks.example.com/mcp");
    assert_eq!(headers.get("authorization").unwrap(), "s3cret");
    assert!(file.mcp_servers["search"].tools.contains("search"));
    assert_eq!(file.commands["render"].timeout, Duration::from_secs(60));
    assert_eq!(file.commands["render"].output_bytes_max, 65536);
    assert_eq!(file.commands["plain"].timeout, Duration::from_secs(300));
    // Nothing that prints it shows a secret.
    assert!(!format!("{file:?}").contains("s3cret"), "{file:?}");
}

#[test]
fn a_file_without_content_allows_nothing() {
    for yaml in ["", "# nothing yet\n", "{}", "egress: {allow: []}\ncommands: {}"] {
        let file = parse(yaml).unwrap();
        assert!(file.egress.is_empty() && file.commands.is_empty() && file.mcp_servers.is_empty());
    }
}

#[test]
fn all_problems_are_named_at_once_with_their_paths() {
    let found = problems(
        r#"
egres: {}
egress:
  allow:
    - ftp://x.example
    - {origin: "https://a.example", privat: true}
    - {private: true}
    - https://b.example
    - https://b.example:443
    - {origin: "https://c.example", headers: {"bad name": x, Host: y, Authorization: "${MISSING}", X-Empty: "${EMPTY}"}}
    - 7
http: {signing_keys: {"https://unlisted.example": k, "https://b.example": 5}}
mcp:
  servers:
    none: {tools: [x]}
    both: {argv: [/x], url: "https://b.example", tools: [x]}
    open: {argv: [/x], tools: ["*"]}
    untold: {argv: [/x]}
    far: {url: "https://far.example/mcp", tools: [x]}
    relative: {argv: [x], tools: [x]}
commands:
  shell: {argv: "sh -c ls"}
  nothing: {argv: []}
  number: {argv: [/x, 5], cwd: here, timeout_s: 0, output_bytes_max: 99999999}
  missing: {}
  env: {argv: [/x], env: {"A=B": x, OK: "${"}}
"#,
    );
    for expected in [
        "egres: is not a field here",
        "egress.allow[0]: must start with https:// or http://",
        "egress.allow[1].privat: is not a field here",
        "egress.allow[2].origin: is required",
        "egress.allow[4]: repeats https://b.example",
        "egress.allow[5].headers[\"bad name\"]: is not the name of a header",
        "egress.allow[5].headers.Host: is a header that is set for each request",
        "egress.allow[5].headers.Authorization: needs the environment variable MISSING, which is not set",
        "egress.allow[5].headers.X-Empty: needs the environment variable EMPTY",
        "egress.allow[6]: must be an object",
        "http.signing_keys[\"https://unlisted.example\"]: is no entry of egress.allow",
        "http.signing_keys[\"https://b.example\"]: must be a text",
        "mcp.servers.none.argv: or url is required",
        "mcp.servers.both.argv: can't stand beside url",
        "mcp.servers.open.tools[0]: is *",
        "mcp.servers.untold.tools: is required",
        "mcp.servers.far.url: has an origin that is no entry of egress.allow; add https://far.example",
        "mcp.servers.relative.argv[0]: must be an absolute path",
        "commands.shell.argv: must be a list",
        "commands.nothing.argv: is empty",
        "commands.number.argv[1]: must be a text",
        "commands.number.cwd: must be an absolute path",
        "commands.number.timeout_s: is 0",
        "commands.number.output_bytes_max: is 99999999",
        "commands.missing.argv: is required",
        "commands.env.env[\"A=B\"]: is not the name of a variable",
        "commands.env.env.OK: has ${ without }",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected}\nnot in\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), 27, "{}", found.join("\n"));
}

#[test]
fn problems_do_not_repeat_secrets() {
    for yaml in [
        "egress: {allow: [{origin: 'https://a.example', headers: {X: \"${hunter2!}\"}}]}",
        "egress: {allow: [{origin: 'https://a.example', headers: {X: \"hunter2\\n\"}}]}",
        "egress: {allow: ['https://user:hunter2@a.example']}",
        "egress: {allow: ['https://a.example/hunter2']}",
        "http: {signing_keys: {'https://a.example': [hunter2]}}",
        "http: {signing_keys: {'https://a.example': \"hunter2\nhttp: {}",
        "http: {signing_keys: {'https://a.example': hunter2}}\nhttp: {}",
    ] {
        let found = problems(yaml).join("\n");
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[cfg(unix)]
mod on_disk {
    use std::fs::{Permissions, create_dir, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_that_others_can_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        write(&path, "commands: {a: {argv: [/bin/a]}}").unwrap();
        for bad in [0o622, 0o666, 0o620, 0o602] {
            mode(&path, bad);
            let problem = OperatorFile::read(&path).unwrap_err().to_string();
            assert!(problem.contains("chmod go-w") && problem.contains("config.yaml"), "{bad:o}: {problem}");
        }
        mode(&path, 0o644);
        let file = OperatorFile::read(&path).unwrap();
        assert!(file.place().to_string().contains("config.yaml"));
    }

    #[test]
    fn a_folder_where_others_can_replace_the_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a2a");
        create_dir(&inner).unwrap();
        let path = inner.join("config.yaml");
        write(&path, "").unwrap();
        mode(&path, 0o600);
        mode(&inner, 0o777);
        assert!(OperatorFile::read(&path).unwrap_err().to_string().contains("in a folder where other users"));
        mode(&inner, 0o1777);
        OperatorFile::read(&path).unwrap();
        // A link from a safe place to an unsafe one is no better.
        mode(&inner, 0o777);
        let link = folder.path().join("link.yaml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(OperatorFile::read(&link).is_err());
    }

    #[test]
    fn what_is_no_file_of_settings_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(OperatorFile::read(folder.path()).unwrap_err().to_string().contains("is not a file"));
        assert!(OperatorFile::find(Some(&folder.path().join("absent.yaml"))).is_err());
        assert!(OperatorFile::find(Some(Path::new("config.yaml"))).unwrap_err().to_string().contains("absolute"));
        let path = folder.path().join("big.yaml");
        write(&path, vec![b'#'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1]).unwrap();
        mode(&path, 0o600);
        assert!(OperatorFile::read(&path).unwrap_err().to_string().contains("more than"));
    }

    #[test]
    fn problems_name_the_file_and_the_place_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        write(&path, "commands: {a: {argv: [relative]}}").unwrap();
        mode(&path, 0o600);
        let problem = OperatorFile::read(&path).unwrap_err().to_string();
        assert!(problem.starts_with(&format!("{}: commands.a.argv[0]: ", path.display())), "{problem}");
    }
}

#[test]
fn what_the_file_keeps_secret_is_taken_out_of_texts() {
    let file = OperatorFile::parse(
        br#"
egress:
  allow:
    - origin: https://a.example
      headers: {Authorization: "Bearer ${TOKEN}", X-Key: literal-key, Accept: application/json}
    - {origin: "https://b.example", headers: {Authorization: "Basic dXNlcjpiYXNpYy1wYXNzd29yZA=="}}
http: {signing_keys: {"https://a.example": signing-key}}
mcp:
  servers:
    files: {argv: [/bin/files], env: {DATABASE: "postgres://u:db%2Dpassword@h/d", PATH: /usr/bin, SHORT: short}, tools: [t]}
    search: {url: "https://a.example/mcp", headers: {X-Search: search-key}, tools: [t]}
commands: {c: {argv: [/bin/c], env: {KEY: "in ${TOKEN} between", HOME: "${TOKEN_HOME}"}}}
"#,
        &|name| Some(format!("value-of-{name}")),
    )
    .unwrap();
    for secret in [
        "Bearer value-of-TOKEN",
        "value-of-TOKEN",
        "literal-key",
        "dXNlcjpiYXNpYy1wYXNzd29yZA==",
        "basic-password",
        "signing-key",
        "postgres://u:db%2Dpassword@h/d",
        "db-password",
        "search-key",
        "in value-of-TOKEN between",
    ] {
        let without = file.redaction().text(secret);
        assert!(without.contains("[redacted]") && without.len() <= "Bearer [redacted]==".len(), "{secret}: {without}");
    }
    for public in ["application/json", "/usr/bin", "short", "Bearer", "Basic", "/bin/files"] {
        assert_eq!(file.redaction().text(public), public);
    }
    assert!(!format!("{file:?}").contains("value-of"));
}
