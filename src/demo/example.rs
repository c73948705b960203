//! The example app: that of the source tree where the command is run in one, else a copy of what was built in.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Where the examples lie in the source tree.
const IN_TREE: &str = "functions/examples";

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../functions/examples/", $path)))),*]
    };
}

/// The example app, file by file.
const FILES: &[(&str, &str)] = files![
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "eyot.toml",
    "auth/Cargo.toml",
    "auth/src/main.rs",
    "auth/src/token.rs",
    "hello/Cargo.toml",
    "hello/src/main.rs",
    "html-rewrite/Cargo.toml",
    "html-rewrite/src/main.rs",
    "json-api/Cargo.toml",
    "json-api/src/main.rs",
];

/// The folder of the example app; written into `folder` where the source tree is not at hand.
pub(super) fn find(folder: &Path) -> anyhow::Result<PathBuf> {
    let in_tree = Path::new(IN_TREE);
    if in_tree.join("eyot.toml").is_file() {
        return Ok(in_tree.to_owned());
    }
    for (path, text) in FILES {
        let file = folder.join(path);
        let parent = file.parent().unwrap_or(folder);
        fs::create_dir_all(parent).and_then(|()| fs::write(&file, text)).with_context(|| file.display().to_string())?;
    }
    Ok(folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_is_a_whole_app() {
        let (_, source) = FILES.iter().find(|(path, _)| *path == "eyot.toml").unwrap();
        let manifest = eyot_bundle::manifest::Manifest::parse("eyot.toml", source).unwrap_or_else(|it| panic!("{it}"));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(IN_TREE);
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let here = FILES.iter().any(|(path, _)| path.split('/').next() == Some(&name));
            // The examples of the languages are apps of their own, and `wit` is theirs.
            let other = entry.path().join("eyot.toml").is_file() || name == "wit";
            assert!(here || other || name == "target" || name.starts_with('.'), "{name} is not built in");
        }
        assert!(!manifest.functions.is_empty());
    }
}
