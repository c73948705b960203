//! Builds the guests once for all tests: `#[path = "…/tests/guests/make.rs"] mod guests;`, then `guests::wasm("hello")`.
//!
//! They are kept in `target/guests/<digest of their sources>/`; whoever comes first builds, the others wait for a lock.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The component of a guest: a file of `src/bin` or `wat`.
#[allow(dead_code, reason = "a test takes the bytes or the path")]
pub(crate) fn wasm(name: &str) -> Vec<u8> {
    let path = path(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Where the component of a guest is.
pub(crate) fn path(name: &str) -> PathBuf {
    folder().join(format!("{name}.wasm"))
}

/// The folder of all components, built if it is not there.
fn folder() -> PathBuf {
    static FOLDER: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    FOLDER.get_or_init(|| make(&root())).clone()
}

/// The workspace, from whichever of its crates this is part of.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().find(|folder| folder.join("tests/guests/Cargo.toml").exists());
    root.expect("a crate of this workspace").to_owned()
}

fn make(root: &Path) -> PathBuf {
    let sources = root.join("tests/guests");
    let made = root.join("target/guests");
    let folder = made.join(digest(&sources));
    fs::create_dir_all(&made).expect("target/guests");
    let lock = File::create(made.join("lock")).expect("target/guests/lock");
    lock.lock().expect("a lock on target/guests");
    if !folder.exists() {
        let aside = made.join("part");
        let _ = fs::remove_dir_all(&aside);
        fs::create_dir_all(&aside).expect("target/guests/part");
        build(&sources, &made.join("build"), &aside);
        fs::rename(&aside, &folder).expect("a place in target/guests");
    }
    folder
}

/// The digest of all that decides what is built.
fn digest(sources: &Path) -> String {
    let mut files = vec![sources.join("Cargo.toml"), sources.join("Cargo.lock")];
    for folder in ["src", "src/bin", "wat"] {
        let entries = fs::read_dir(sources.join(folder)).expect("sources of the guests");
        files.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()));
    }
    files.sort();
    let mut hasher = eyot_bundle::digest::Hasher::default();
    for file in files {
        hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update(&fs::read(&file).expect("a source of the guests"));
    }
    hasher.finish().to_string()[..16].to_owned()
}

fn build(sources: &Path, target: &Path, to: &Path) {
    let run = |command: &mut Command| {
        let done = command.current_dir(sources).output().expect("a toolchain");
        assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    // Adds the target where it is missing; without rustup it has to be there.
    let _ = Command::new("rustup").args(["target", "add", "wasm32-wasip2"]).current_dir(sources).output();
    run(Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--quiet", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET"));
    for entry in fs::read_dir(target.join("wasm32-wasip2/release")).expect("what was built") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            fs::copy(&path, to.join(path.file_name().expect("a file"))).expect("copied");
        }
    }
    for entry in fs::read_dir(sources.join("wat")).expect("components by hand") {
        let path = entry.expect("an entry").path();
        let wasm = wat::parse_file(&path).unwrap_or_else(|error| panic!("{error}"));
        fs::write(to.join(path.file_stem().expect("a file")).with_extension("wasm"), wasm).expect("written");
    }
}
