//! Another process: this binary again, which runs one of its tests with a folder to do it in.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FOLDER: &str = "EYOT_TEST_FOLDER";

/// The folder that this process was started to work in.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Runs `test` as another process, by way of `through` if that is not empty.
pub(crate) fn command(test: &str, folder: &Path, through: &[&str]) -> Command {
    let binary = std::env::current_exe().expect("this binary");
    let mut words: Vec<_> = through.iter().map(PathBuf::from).collect();
    words.push(binary);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["--exact", test, "--nocapture", "--test-threads", "1"]);
    command.env(FOLDER, folder).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}
