//! The project's own sources, as the other checks read them.

use std::path::{Path, PathBuf};

/// One file of ours.
pub(super) struct Source {
    /// Its path from the project's root.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Where the project stands.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files under `folder` whose names end with `ending`, without what was built.
pub(super) fn files(folder: &str, ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root().join(folder), ending, &mut found);
    assert!(!found.is_empty(), "no {ending} under {folder}: a check that reads nothing checks nothing");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(folder: &Path, ending: &str, found: &mut Vec<Source>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder entry").path()).collect();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            walk(&path, ending, found);
        } else if path.is_file() && name.ends_with(ending) {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let path = path.strip_prefix(root()).expect("a path under the root").display().to_string();
            found.push(Source { path, text });
        }
    }
}

impl Source {
    /// Whether it is part of what ships, not of its tests.
    pub(super) fn ships(&self) -> bool {
        !["/tests/", "/benches/"].iter().any(|part| self.path.contains(part)) && !self.path.ends_with("/tests.rs")
    }

    /// Its lines with their numbers, without comments and without the unit tests at its end.
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("\n#[cfg(test)]\nmod ").unwrap_or(self.text.len());
        self.text[..end].lines().enumerate().map(|(index, line)| (index + 1, line)).filter(|(_, line)| {
            let line = line.trim_start();
            !line.starts_with("//")
        })
    }
}
