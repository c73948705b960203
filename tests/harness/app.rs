//! An app's folder, written for a test: a manifest, and components that are built already.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::guests;

/// An app's folder.
pub(crate) struct App {
    folder: tempfile::TempDir,
    name: String,
    hosts: Vec<String>,
    body: String,
}

impl App {
    /// An app with these hosts, and nothing else yet.
    pub(crate) fn new(name: &str, hosts: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Self { folder, name: name.to_owned(), hosts, body: String::new() }
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// With a function whose component is that of a guest, and more lines of its table.
    pub(crate) fn function(mut self, name: &str, guest: &str, more: &str) -> Self {
        fs::copy(guests::path(guest), self.component(name)).expect("the component");
        let _ = write!(self.body, "[functions.{name}]\npath = \".\"\nwasm = \"{name}.wasm\"\n{more}\n");
        self
    }

    /// The component of a function, to be changed.
    pub(crate) fn component(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.wasm"))
    }

    /// With an upstream; unless it says so, it has as long to be connected to as a busy machine needs.
    pub(crate) fn upstream(mut self, name: &str, server: &str, more: &str) -> Self {
        let more = if more.is_empty() { "timeouts = { connect = \"60s\" }" } else { more };
        let _ = write!(self.body, "[upstreams.{name}]\nservers = [\"{server}\"]\n{more}\n");
        self
    }

    /// With a route, and what answers it as a line of its table.
    pub(crate) fn route(mut self, host: &str, path: &str, answer: &str) -> Self {
        let _ = write!(self.body, "[[routes]]\nhost = \"{host}\"\npath = \"{path}\"\n{answer}\n");
        self
    }

    /// With a table, as its text.
    pub(crate) fn table(mut self, text: &str) -> Self {
        let _ = writeln!(self.body, "{text}");
        self
    }

    /// Writes the manifest.
    pub(crate) fn written(self) -> Self {
        let hosts = self.hosts.iter().map(|host| format!("\"{host}\"")).collect::<Vec<_>>().join(", ");
        let text = format!("app = \"{}\"\nhosts = [{hosts}]\n{}", self.name, self.body);
        fs::write(self.folder().join("eyot.toml"), text).expect("eyot.toml");
        self
    }

    /// Changes the manifest's text.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let path = self.folder().join("eyot.toml");
        let text = fs::read_to_string(&path).expect("eyot.toml");
        assert!(text.contains(from), "no `{from}` in\n{text}");
        fs::write(path, text.replace(from, to)).expect("eyot.toml");
    }
}
