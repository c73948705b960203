//! A Redis server that keeps what it acknowledges.

use std::process::Command;

use super::process::{Process, free_port, listens, until};
use super::tools::Tree;

/// A running server. It keeps what it has in its folder.
pub(crate) struct Redis {
    folder: tempfile::TempDir,
    port: u16,
    pub(crate) process: Process,
}

fn start(folder: &tempfile::TempDir, port: u16) -> Process {
    let mut command: Command = Tree::of("redis-server").command("usr/bin/redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--requirepass", Redis::PASSWORD]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir"]).arg(folder.path());
    let process = Process::start("redis", &mut command);
    until("Redis listens", || listens(port).then_some(()));
    process
}

impl Redis {
    /// What it is asked with.
    pub(crate) const PASSWORD: &str = "correct horse";

    pub(crate) fn new() -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let process = start(&folder, port);
        Self { folder, port, process }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it again, where it was.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = start(&self.folder, self.port);
    }
}
