//! Asking the node of this machine through its admin's socket file.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// An answer of more bytes is none.
const BYTES_MAX: u64 = 4 << 20;
/// How long the admin may say nothing.
const SILENCE: Duration = Duration::from_secs(10);

/// Which node.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Admin {
    /// The node's admin socket; default: `admin.sock` in $RUNTIME_DIRECTORY, or in /run/eyot.
    #[arg(long, value_name = "SOCKET")]
    admin: Option<PathBuf>,
}

impl Admin {
    fn socket(&self) -> PathBuf {
        let folder = std::env::var("RUNTIME_DIRECTORY").unwrap_or_else(|_| "/run/eyot".to_owned());
        let first = || Path::new(folder.split(':').next().unwrap_or("/run/eyot")).join("admin.sock");
        self.admin.clone().unwrap_or_else(first)
    }

    /// Status and body of one request.
    pub(crate) fn ask(&self, method: &str, path: &str) -> anyhow::Result<(u16, String)> {
        ask(&self.socket(), method, path)
    }

    /// The document that is answered with 200; else what the node says is the error.
    pub(crate) fn document(&self, method: &str, path: &str) -> anyhow::Result<Value> {
        match self.ask(method, path)? {
            (200, text) => serde_json::from_str(&text).context("the node's admin speaks no JSON"),
            (_, why) => bail!("{}", why.trim()),
        }
    }
}

/// Status and body of one request to the admin at `socket`.
pub(crate) fn ask(socket: &Path, method: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let place = || format!("the node's admin at {}", socket.display());
    let mut stream = UnixStream::connect(socket).with_context(place)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        .with_context(place)?;
    let mut text = String::new();
    stream.take(BYTES_MAX).read_to_string(&mut text).with_context(place)?;
    let (head, body) = text.split_once("\r\n\r\n").with_context(place)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(place)?;
    Ok((status, body.to_owned()))
}
