//! Clients that are not ours: aioquic, libcurl by pycurl, and the machine's curl.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::tools::python;

/// What a peer saw.
#[derive(Debug, Deserialize)]
pub(crate) struct Seen {
    pub(crate) error: Option<String>,
    pub(crate) status: u16,
    pub(crate) protocol: String,
    pub(crate) headers: std::collections::BTreeMap<String, String>,
    pub(crate) trailers: std::collections::BTreeMap<String, String>,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// A request over HTTP/3 by aioquic, with these trailers as `name=value`.
pub(crate) fn aioquic(ca: &Path, url: &str, method: &str, body_bytes: usize, trailers: &[&str]) -> Seen {
    let mut command = python("aioquic_client.py");
    command.arg(ca).args([url, method, &body_bytes.to_string()]).args(trailers);
    told(command)
}

/// A request by libcurl, over `h3`, `h2` or `h1`.
pub(crate) fn pycurl(protocol: &str, ca: &Path, url: &str, method: &str, body_bytes: usize) -> Seen {
    let mut command = python("pycurl_client.py");
    command.arg(protocol).arg(ca).args([url, method, &body_bytes.to_string()]);
    told(command)
}

/// What a client prints: one document of JSON.
pub(crate) fn told<T: DeserializeOwned>(mut command: std::process::Command) -> T {
    let output = command.output().expect("python3");
    let (told, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{command:?}: {error}\n{told}{complained}"))
}

/// The body that all peers send: byte i is i modulo 251.
pub(crate) fn body(bytes: usize) -> Vec<u8> {
    (0..=250_u8).cycle().take(bytes).collect()
}
