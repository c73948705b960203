//! The arrows between the crates, and the libraries that only some of them may know.

use std::collections::BTreeSet;

use super::source::{Source, files, root};

/// Which crate of ours may depend on which: the arrows of `ARCHITECTURE.md`.
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("eyot", "", &["node", "origin", "link", "bundle"]),
    ("node", "edge/node", &["front", "guest", "cache", "fetch", "state", "dns", "link", "plan", "bundle"]),
    ("origin", "sync/origin", &["front", "link", "plan", "bundle"]),
    ("front", "edge/front", &["h3", "plan"]),
    ("guest", "edge/guest", &["plan", "bundle"]),
    ("cache", "edge/cache", &["plan"]),
    ("fetch", "edge/fetch", &["h3", "plan"]),
    ("link", "sync/link", &["h3", "bundle"]),
    ("state", "edge/state", &["plan", "bundle"]),
    ("plan", "edge/plan", &["bundle"]),
    ("h3", "edge/h3", &[]),
    ("bundle", "sync/bundle", &[]),
];

/// Libraries that only these crates may know.
const ONLY: &[(&str, &[&str])] = &[
    ("wasmtime", &["guest"]),
    ("wasmtime-wasi", &["guest"]),
    ("wasmtime-wasi-http", &["guest"]),
    ("quinn", &["h3", "front"]),
    ("hickory-resolver", &["fetch"]),
    ("redb", &["node", "origin", "state"]),
    ("async-nats", &["state"]),
    ("redis", &["state"]),
    ("sigstore-tuf", &["bundle"]),
    ("hyper", &["front", "fetch", "link", "node", "origin"]),
];

/// Libraries that the pure crates must not know.
const IMPURE: &[&str] = &["tokio", "wasmtime", "quinn", "hyper", "reqwest", "rustix", "socket2", "tracing"];

/// The names of the crate's dependencies, without those of its tests.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let path = root().join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let manifest: toml::Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    manifest["dependencies"].as_table().expect("a table").keys().cloned().collect()
}

#[test]
fn every_arrow_between_crates_points_the_way_the_architecture_says() {
    for (name, folder, allowed) in ARROWS {
        for dependency in dependencies(folder) {
            if let Some(ours) = dependency.strip_prefix("eyot-") {
                assert!(allowed.contains(&ours), "{name} must not know {ours}");
            }
        }
    }
}

#[test]
fn every_crate_of_the_house_is_in_the_table_of_arrows() {
    for part in ["edge", "sync"] {
        for entry in std::fs::read_dir(root().join(part)).expect("the part") {
            let folder = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            assert!(ARROWS.iter().any(|row| row.1 == format!("{part}/{folder}")), "{part}/{folder} has no arrows");
        }
    }
}

#[test]
fn a_library_with_a_home_is_known_only_there() {
    for (name, folder, _) in ARROWS {
        let known = dependencies(folder);
        for (library, homes) in ONLY {
            assert!(!known.contains(*library) || homes.contains(name), "{name} must not know {library}");
        }
    }
}

#[test]
fn the_pure_crates_know_no_runtime_no_file_no_socket_and_no_clock() {
    for (name, folder) in [("plan", "edge/plan"), ("bundle", "sync/bundle")] {
        for library in IMPURE {
            assert!(!dependencies(folder).contains(*library), "{name} must not know {library}");
        }
        for source in files(&format!("{folder}/src"), ".rs").into_iter().filter(Source::ships) {
            for (number, line) in source.code() {
                for word in [
                    "std::fs",
                    "std::net",
                    "std::process",
                    "std::thread",
                    "Instant::now",
                    "SystemTime::now",
                    "Timestamp::now",
                ] {
                    assert!(!line.contains(word), "{}:{number}: `{word}` in a pure crate", source.path);
                }
            }
        }
    }
}

#[test]
fn a_dependency_stands_once_in_the_root_manifest() {
    for (_, folder, _) in ARROWS.iter().filter(|row| !row.1.is_empty()) {
        let path = root().join(folder).join("Cargo.toml");
        let manifest: toml::Table =
            std::fs::read_to_string(&path).expect("the manifest").parse().expect("a manifest of ours parses");
        for section in ["dependencies", "dev-dependencies"] {
            for (name, value) in manifest.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                let inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(inherited, "{folder}: {section}.{name} does not say `workspace = true`");
            }
        }
    }
}
