//! What a build needs on the machine, looked at before the build: what is missing is said with what to install. What a
//! language keeps in the project's own folder (`node_modules`, a virtual environment) is installed there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::step;
use crate::out::Progress;

/// What Rust builds components for.
const RUST_TARGET: &str = "wasm32-wasip2";
/// The oldest Node.js that the tools for JavaScript run on.
const NODE_MIN: (u32, u32) = (20, 0);
/// The oldest Python that the tools for Python and C run on.
const PYTHON_MIN: (u32, u32) = (3, 10);
/// Where Python's packages of a function are, in its folder.
const VENV: &str = ".venv";
/// In it: the text of the requirements that it holds.
const VENV_MARK: &str = "eyot-requirements.txt";

/// Sees to it that `command` can be built in `folder`; the folders of programs that the build is to find first.
pub(super) async fn ready(command: &str, folder: &Path, progress: &Progress) -> anyhow::Result<Vec<PathBuf>> {
    let mut tools = Vec::new();
    if command.contains("cargo ") {
        rust(command, folder, progress).await?;
    }
    if folder.join("package.json").is_file() {
        node(folder, progress).await?;
        tools.push(absolute(&folder.join("node_modules/.bin"))?);
    }
    if folder.join("requirements.txt").is_file() {
        python(folder, progress).await?;
        tools.push(absolute(&folder.join(VENV).join("bin"))?);
    }
    Ok(tools)
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

/// Whether the toolchain of `language` was found good for the builds of `folder` already: each look takes the time of some
/// programs, which who saves a file waits for. Nothing bad is remembered.
#[derive(Clone, Copy)]
struct Seen<'a> {
    language: &'static str,
    folder: &'a Path,
}

impl Seen<'_> {
    fn all() -> MutexGuard<'static, BTreeSet<(&'static str, PathBuf)>> {
        static SEEN: Mutex<BTreeSet<(&'static str, PathBuf)>> = Mutex::new(BTreeSet::new());
        SEEN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_good(self) -> bool {
        Self::all().contains(&(self.language, self.folder.to_owned()))
    }

    fn good(self) {
        Self::all().insert((self.language, self.folder.to_owned()));
    }
}

/// What a program prints, where there is such a program.
async fn printed(program: &str, args: &[&str], folder: &Path) -> anyhow::Result<Option<String>> {
    match Command::new(program).args(args).current_dir(folder).output().await {
        Ok(output) if output.status.success() => Ok(Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())),
        Ok(output) => bail!("`{program}`: {}", String::from_utf8_lossy(&output.stderr).trim_end()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| program.to_owned()),
    }
}

/// The two first numbers of a version, as in `v20.11.1` and `Python 3.11.7`.
fn version(text: &str) -> Option<(u32, u32)> {
    let begin = text.find(|letter: char| letter.is_ascii_digit())?;
    let mut numbers = text.get(begin..)?.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A toolchain that can build components.
async fn rust(command: &str, folder: &Path, progress: &Progress) -> anyhow::Result<()> {
    let seen = Seen { language: if command.contains(RUST_TARGET) { RUST_TARGET } else { "rust" }, folder };
    if seen.is_good() {
        return Ok(());
    }
    if printed("cargo", &["--version"], folder).await?.is_none() {
        bail!("`cargo` is not found: install Rust from https://rustup.rs, then `rustup target add {RUST_TARGET}`");
    }
    if !command.contains(RUST_TARGET) {
        seen.good();
        return Ok(());
    }
    let libraries = printed("rustc", &["--print", "target-libdir", "--target", RUST_TARGET], folder).await;
    if matches!(libraries, Ok(Some(libraries)) if Path::new(&libraries).is_dir()) {
        seen.good();
        return Ok(());
    }
    progress.now(format!("adding the Rust target {RUST_TARGET}"));
    let add = format!("rustup target add {RUST_TARGET}");
    let added = step::run(&add, folder, &[]).await?;
    match added.status.code() {
        Some(0) => Ok(()),
        // The shell's word for a command that is not there.
        Some(127) => bail!(
            "the Rust target {RUST_TARGET} is missing, and this Rust is not rustup's: install it as your system has it, \
             or Rust from https://rustup.rs"
        ),
        _ => bail!("the Rust target {RUST_TARGET} is missing, and `{add}` failed:\n{}", added.log),
    }
}

/// Node.js with npm, of an age that will do.
async fn node_programs(folder: &Path) -> anyhow::Result<()> {
    let seen = Seen { language: "node", folder };
    if seen.is_good() {
        return Ok(());
    }
    let install = "install Node.js 20 or later with npm: https://nodejs.org, or your system's `nodejs` and `npm`";
    for program in ["node", "npm"] {
        let Some(found) = printed(program, &["--version"], folder).await? else {
            bail!("`{program}` is not found: {install}")
        };
        if program == "node" && version(&found).is_none_or(|found| found < NODE_MIN) {
            bail!("Node.js {found} is too old: {install}");
        }
    }
    seen.good();
    Ok(())
}

/// Node.js, and what package.json asks for.
async fn node(folder: &Path, progress: &Progress) -> anyhow::Result<()> {
    node_programs(folder).await?;
    // npm writes this file when it has installed all; what asks for something else since then is newer.
    let installed = modified(&folder.join("node_modules/.package-lock.json"));
    let (wanted, lock) = (modified(&folder.join("package.json")), modified(&folder.join("package-lock.json")));
    if installed.is_some() && installed >= wanted.max(lock) {
        return Ok(());
    }
    let install = if lock.is_some() && lock >= wanted { "npm ci" } else { "npm install" };
    progress.now(format!("{install} in {}", folder.display()));
    let done = step::run(&format!("{install} --no-audit --no-fund --loglevel=error"), folder, &[]).await?;
    if !done.status.success() {
        bail!("`{install}` in {} ended with {}:\n{}", folder.display(), done.status, done.log);
    }
    Ok(())
}

fn modified(file: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(file).and_then(|meta| meta.modified()).ok()
}

/// Python of an age that will do.
async fn python_program(folder: &Path) -> anyhow::Result<()> {
    let seen = Seen { language: "python", folder };
    if seen.is_good() {
        return Ok(());
    }
    let install = "install Python 3.10 or later: https://python.org, or your system's `python3`, `python3-venv` and `python3-pip`";
    let Some(found) = printed("python3", &["--version"], folder).await? else {
        bail!("`python3` is not found: {install}")
    };
    if version(&found).is_none_or(|found| found < PYTHON_MIN) {
        bail!("{found} is too old: {install}");
    }
    seen.good();
    Ok(())
}

/// Python, and what requirements.txt asks for, in a virtual environment of the function's own.
async fn python(folder: &Path, progress: &Progress) -> anyhow::Result<()> {
    python_program(folder).await?;
    let wanted = fs::read_to_string(folder.join("requirements.txt")).context("requirements.txt")?;
    let mark = folder.join(VENV).join(VENV_MARK);
    if fs::read_to_string(&mark).is_ok_and(|held| held == wanted) {
        return Ok(());
    }
    progress.now(format!("installing requirements.txt into {}", folder.join(VENV).display()));
    let made = step::run(&format!("python3 -m venv --clear {VENV}"), folder, &[]).await?;
    if !made.status.success() {
        bail!("`python3 -m venv` failed (Debian and Ubuntu: `apt install python3-venv`):\n{}", made.log);
    }
    let pip = format!("{VENV}/bin/python3 -m pip install --quiet --disable-pip-version-check -r requirements.txt");
    let done = step::run(&pip, folder, &[]).await?;
    if !done.status.success() {
        bail!("`{pip}` in {} ended with {}:\n{}", folder.display(), done.status, done.log);
    }
    fs::write(&mark, wanted).with_context(|| mark.display().to_string())
}

/// What a command that ended may have wanted: the shell says so by this status, and the log by its last line.
pub(super) fn advice(code: Option<i32>, log: &str) -> &'static str {
    match code {
        Some(127) if log.contains("not found") => {
            "\n(a program is missing: install it, or name it in package.json or requirements.txt beside the function)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_print_them() {
        for (text, expect) in [
            ("v20.20.2", Some((20, 20))),
            ("Python 3.11.7", Some((3, 11))),
            ("3.9.0+", Some((3, 9))),
            ("11.19.1", Some((11, 19))),
            ("node", None),
            ("", None),
        ] {
            assert_eq!(version(text), expect, "{text}");
        }
        assert!(version("v18.19.0") < Some(NODE_MIN) && version("Python 3.9.2") < Some(PYTHON_MIN));
    }

    #[tokio::test]
    async fn an_old_toolchain_is_named_with_what_to_install() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("requirements.txt"), "").unwrap();
        assert!(printed("eyot-no-such-program", &[], folder.path()).await.unwrap().is_none());
        let wrong = printed("/bin/sh", &["-c", "echo why >&2; exit 3"], folder.path()).await;
        assert!(wrong.unwrap_err().to_string().contains("why"));
    }
}
