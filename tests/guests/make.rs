//! Builds the guests, and the examples of `functions/examples`, once for all tests:
//! `#[path = "…/tests/guests/make.rs"] mod guests;`, then `guests::wasm("hello")`.
//!
//! They are kept in `target/guests/<digest of their sources>/`; whoever comes first builds, the others wait for a lock.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The component of a guest: a file of `src/bin` or `wat`.
#[allow(dead_code, reason = "a test takes the bytes or the path, of guests or of examples")]
pub(crate) fn wasm(name: &str) -> Vec<u8> {
    fs::read(path(name)).expect("a guest of this name")
}

/// Where the component of a guest is.
#[allow(dead_code, reason = "a test takes the bytes or the path, of guests or of examples")]
pub(crate) fn path(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| make(&root().join("tests/guests"), "guests"));
    folder.join(name).with_extension("wasm")
}

/// Where the component of an example is.
#[allow(dead_code, reason = "a test takes the bytes or the path, of guests or of examples")]
pub(crate) fn example(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| make(&root().join("functions/examples"), "functions"));
    folder.join(name).with_extension("wasm")
}

/// The workspace, from whichever of its crates this is part of.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().find(|folder| folder.join("tests/guests/Cargo.toml").exists());
    root.expect("a crate of this workspace").to_owned()
}

/// The folder of the components of `sources`, built if it is not there.
fn make(sources: &Path, kind: &str) -> PathBuf {
    let made = root().join("target").join(kind);
    let folder = made.join(digest(&[sources, &root().join("functions/wit")]));
    fs::create_dir_all(&made).expect("a folder in target");
    let lock = File::create(made.join("lock")).expect("a lock in target");
    lock.lock().expect("the lock");
    if !folder.exists() {
        let aside = made.join("part");
        let _ = fs::remove_dir_all(&aside);
        fs::create_dir_all(&aside).expect("a folder in target");
        build(sources, &made.join("build"), &aside);
        fs::rename(&aside, &folder).expect("a place in target");
    }
    folder
}

/// The digest of all that decides what is built.
fn digest(sources: &[&Path]) -> String {
    let root = root();
    let (mut folders, mut files) = (sources.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>(), Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                files.push(path);
            } else if path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            }
        }
    }
    files.sort();
    let mut hasher = eyot_bundle::digest::Hasher::default();
    for file in files {
        hasher.update(file.strip_prefix(&root).expect("below").as_os_str().as_encoded_bytes());
        hasher.update(&fs::read(&file).expect("a source"));
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
    let Ok(by_hand) = fs::read_dir(sources.join("wat")) else { return };
    for entry in by_hand {
        let path = entry.expect("an entry").path();
        let wasm = wat::parse_file(&path).expect("a component");
        fs::write(to.join(path.file_stem().expect("a file")).with_extension("wasm"), wasm).expect("written");
    }
}
