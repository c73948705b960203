//! The templates of `functions/templates`, built in: which files each has, and how the app's name gets into them.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use eyot_bundle::name::Name;

/// What stands in the files of a template for the app's name.
const PLACEHOLDER: &str = "app-name";

/// A language that a function can be begun in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Template {
    C,
    Javascript,
    Python,
    Rust,
    Typescript,
}

/// A file: where it goes in the app's folder, and what is in it.
type File = (&'static str, &'static [u8]);

macro_rules! files {
    ($folder:literal: $($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../functions/", $folder, "/", $path)))),*]
    };
}

/// What every app has.
const EVERY: &[File] = files!["templates": "tests.toml"];
/// What a component may import and export, for the languages whose tools read that.
const WIT: &[File] = files!["templates": "wit/deps/clocks.wit", "wit/deps/http.wit", "wit/deps/io.wit"];
/// The same, of the interfaces that WASI's releases do not have.
const WIT_BESIDE: &[File] = files!["wit": "deps/config.wit", "deps/edge.wit", "deps/keyvalue.wit", "deps/logging.wit"];
const WORLD: &[File] = files!["templates": "wit/world.wit"];

const C: &[File] = files![
    "templates/c": "README.md", "bindings/function.c", "bindings/function.h", "bindings/function_component_type.o",
    "bindings/generate.sh", "eyot.toml", "gitignore", "main.c", "requirements.txt", "wit/world.wit",
];
const JAVASCRIPT: &[File] =
    files!["templates/javascript": "README.md", "eyot.toml", "gitignore", "package.json", "src/index.js"];
const PYTHON: &[File] = files!["templates/python": "README.md", "app.py", "eyot.toml", "gitignore", "requirements.txt"];
const RUST: &[File] = files!["templates/rust": "Cargo.toml", "README.md", "eyot.toml", "gitignore", "src/main.rs"];
const TYPESCRIPT: &[File] = files![
    "templates/typescript": "README.md", "eyot.toml", "gitignore", "package.json", "src/index.ts", "tsconfig.json",
];

impl Template {
    /// As it is typed.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Javascript => "javascript",
            Self::Python => "python",
            Self::Rust => "rust",
            Self::Typescript => "typescript",
        }
    }

    /// What must be on the machine before it can be built.
    pub(super) fn needs(self) -> &'static str {
        match self {
            Self::C | Self::Python => "Python 3.10 or later with venv and pip",
            Self::Javascript | Self::Typescript => "Node.js 20 or later and npm",
            Self::Rust => "Rust by rustup",
        }
    }

    /// Its files, with their places in the app's folder.
    fn files(self) -> Vec<(String, &'static [u8])> {
        let parts: &[&[File]] = match self {
            Self::C => &[C, WIT],
            Self::Javascript => &[JAVASCRIPT, WORLD, WIT],
            Self::Python => &[PYTHON, WORLD, WIT],
            Self::Rust => &[RUST],
            Self::Typescript => &[TYPESCRIPT, WORLD, WIT],
        };
        let beside = if self == Self::Rust { &[][..] } else { WIT_BESIDE };
        let place = |path: &str| if path == "gitignore" { ".gitignore".to_owned() } else { path.to_owned() };
        let own = EVERY.iter().chain(parts.iter().copied().flatten()).map(|(path, bytes)| (place(path), *bytes));
        own.chain(beside.iter().map(|(path, bytes)| (format!("wit/{path}"), *bytes))).collect()
    }

    /// Writes it, with the app's name in it; the files by name.
    pub(super) fn write(self, name: &Name, folder: &Path) -> anyhow::Result<Vec<String>> {
        let mut written = Vec::new();
        for (path, bytes) in self.files() {
            let file = folder.join(&path);
            let parent = file.parent().unwrap_or(folder);
            let named = match std::str::from_utf8(bytes) {
                Ok(text) => text.replace(PLACEHOLDER, name.as_str()).into_bytes(),
                Err(_) => bytes.to_vec(),
            };
            let done = fs::create_dir_all(parent).and_then(|()| fs::write(&file, named));
            done.with_context(|| file.display().to_string())?;
            written.push(path);
        }
        written.sort();
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use eyot_bundle::manifest::Manifest;

    use super::*;

    #[test]
    fn each_is_an_app_of_the_name_that_was_given() {
        for template in Template::value_variants() {
            let folder = tempfile::tempdir().unwrap();
            let written = template.write(&"my-shop-2".parse().unwrap(), folder.path()).unwrap();
            for file in ["README.md", "eyot.toml", "tests.toml", ".gitignore"] {
                assert!(written.iter().any(|path| path == file), "{template:?} has no {file}: {written:?}");
            }
            for path in &written {
                let bytes = fs::read(folder.path().join(path)).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains(PLACEHOLDER), "{template:?} {path} keeps `{PLACEHOLDER}`");
            }
            let source = fs::read_to_string(folder.path().join("eyot.toml")).unwrap();
            let manifest =
                Manifest::parse("eyot.toml", &source).unwrap_or_else(|error| panic!("{template:?}: {error}"));
            assert_eq!(manifest.app.as_str(), "my-shop-2");
            let (function, source) = manifest.functions.first_key_value().expect("a function");
            assert_eq!(function.as_str(), "my-shop-2");
            assert!(source.build.is_some(), "{template:?} says how it is built");
        }
    }

    #[test]
    fn every_file_of_the_templates_goes_into_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions/templates");
        let mut bytes = Vec::new();
        for template in Template::value_variants() {
            bytes.extend(template.files().into_iter().map(|(_, bytes)| bytes));
        }
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path != root.join("README.md") {
                    let text = fs::read(&path).unwrap();
                    assert!(bytes.contains(&text.as_slice()), "{} goes into no template", path.display());
                }
            }
        }
    }
}
