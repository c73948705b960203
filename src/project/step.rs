//! One command of a build: run by the shell in its folder; what it says is shown only if it fails.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::Context as _;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// The last output of a build that failed, in bytes.
const LOG_BYTES_MAX: usize = 64 << 10;

/// How a command ended, and the end of what it said.
#[derive(Debug)]
pub(super) struct Ended {
    /// How.
    pub(super) status: ExitStatus,
    /// The last of both its outputs.
    pub(super) log: String,
}

/// Runs `command` in `folder`, with the programs of `tools` before those of the machine.
pub(super) async fn run(command: &str, folder: &Path, tools: &[PathBuf]) -> anyhow::Result<Ended> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(folder)
        .env("PATH", path(tools)?)
        // `wasm` names its place below the function's folder, wherever cargo puts what else is built here.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("/bin/sh in {}", folder.display()))?;
    let mut log = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        let mut piece = vec![0; 8 << 10];
        while let Ok(read @ 1..) = stdout.read(&mut piece).await {
            log.extend_from_slice(piece.get(..read).unwrap_or_default());
            let over = log.len().saturating_sub(LOG_BYTES_MAX);
            log.drain(..over);
        }
    }
    let status = child.wait().await?;
    Ok(Ended { status, log: String::from_utf8_lossy(&log).trim_end().to_owned() })
}

fn path(tools: &[PathBuf]) -> anyhow::Result<OsString> {
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let all = tools.iter().cloned().chain(std::env::split_paths(&inherited));
    std::env::join_paths(all).context("the app's folder has a `:` in its path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_what_a_build_says_the_last_64_kib_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let command = "echo first; head -c 200000 /dev/zero | tr '\\0' x; echo; echo last >&2; exit 3";
        let ended = run(command, folder.path(), &[]).await.expect("it runs");
        assert_eq!(ended.status.code(), Some(3));
        assert!(ended.log.ends_with("x\nlast") && !ended.log.contains("first"), "its end");
        // Without the newline at its end.
        assert_eq!(ended.log.len(), LOG_BYTES_MAX - 1);
        assert_eq!(LOG_BYTES_MAX, 64 << 10);
    }
}
