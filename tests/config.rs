//! Bad configurations and manifests: all mistakes at once, with file and line, and exit code 64.

use std::path::{Path, PathBuf};

use crate::harness::world::eyot;

/// The rows of a folder of bad texts: the file, and the lines of what is said of it.
fn rows(folder: &str) -> Vec<(PathBuf, Vec<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = entries.map(|entry| entry.expect("an entry").path());
    let mut rows = Vec::new();
    for file in files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let errors = std::fs::read_to_string(file.with_extension("errors")).expect("what is said of it");
        rows.push((file, errors.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()));
    }
    assert!(!rows.is_empty(), "{} is empty", folder.display());
    rows
}

fn check(folder: &str, arguments: &[&str], flag: &str) {
    for (file, errors) in rows(folder) {
        let output = eyot().args(arguments).arg(flag).arg(&file).output().expect("eyot");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{}: {said}", file.display());
        for error in &errors {
            assert!(said.contains(error.as_str()), "{}: `{error}` is not in\n{said}", file.display());
            assert!(said.contains(&format!("{}:", file.display())), "{said}");
        }
        assert_eq!(said.matches(&format!("{}:", file.display())).count(), errors.len(), "{}\n{said}", file.display());
    }
}

#[test]
fn each_bad_node_config_is_told_all_its_mistakes_at_once() {
    check("node_bad", &["node", "check"], "--config");
}

#[test]
fn each_bad_manifest_is_told_all_its_mistakes_at_once() {
    check("manifest_bad", &["build"], "--app");
}

#[test]
fn every_example_config_of_the_documents_is_good() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(&examples).expect("the examples") {
        let path = entry.expect("an entry").path();
        // Each is named after the verb that reads it.
        let verb = path.file_stem().expect("a name").to_str().expect("text").to_owned();
        let credentials = tempfile::tempdir().expect("a folder");
        for (name, text) in [("tls-key", "key"), ("node-token", "token")] {
            std::fs::write(credentials.path().join(name), text).expect("a credential");
        }
        let mut check = eyot();
        check.args([&verb, "check", "--config"]).arg(&path).env("CREDENTIALS_DIRECTORY", credentials.path());
        let output = check.output().expect("eyot");
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        seen.push(verb);
    }
    seen.sort();
    assert_eq!(seen, ["node", "origin"]);
}
