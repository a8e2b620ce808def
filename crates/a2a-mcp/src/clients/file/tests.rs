use super::*;

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_the_client_writes_meanwhile_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.json");
    for (before, meanwhile) in [(Some("old"), Some("newer")), (Some("old"), None), (None, Some("newer"))] {
        let write = |text: Option<&str>| match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => drop(std::fs::remove_file(&path)),
        };
        write(before);
        let found = Found::read(&path).unwrap();
        write(meanwhile);
        assert!(matches!(found.replace("ours", false, Timestamp(1)), Err(ReplaceError::Changed)));
        let expected: &[&str] = if meanwhile.is_some() { &["mcp.json"] } else { &[] };
        assert_eq!(names(folder.path()), expected, "nothing is left lying around");
        assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), meanwhile);
    }
}

#[test]
fn a_new_file_with_a_url_is_private_and_an_old_one_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made").join("mcp.json");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let replace = |holds_url| Found::read(&path).unwrap().replace("{}", holds_url, Timestamp(2)).unwrap();
    assert_eq!(replace(true), None);
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
    let kept = replace(true).unwrap();
    assert_eq!(mode(), 0o604);
    assert_eq!(std::fs::metadata(kept).unwrap().permissions().mode() & 0o777, 0o600);
}
