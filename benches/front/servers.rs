//! The servers that are measured: ours, Caddy from Debian, and nginx where `NGINX` names one with HTTP/3. All have the
//! same certificate, listen on loopback over all three protocols, and write an access log to a file. Beside them the floor of
//! HTTP/3, which writes none.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use eyot_link::line::Protocol;

use super::cpu::Clock;
use super::fleet::{Fleet, More};
use super::process::{Process, free_port, listens, until};
use super::{Row, What, floor, tools};

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Caddy,
    Eyot,
    Floor,
    Nginx,
}

impl Name {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Caddy => "Caddy",
            Self::Eyot => "eyot",
            Self::Floor => "floor",
            Self::Nginx => "nginx",
        }
    }
}

/// A running server; it ends with its owner.
pub(crate) struct Server {
    pub(crate) name: Name,
    /// Its processes: one for all answers, or one for each.
    parts: Vec<Part>,
    /// Its access log: kept short, so that a long run fills no disk.
    log: Option<File>,
}

/// A process of a server.
pub(crate) struct Part {
    pub(crate) port: u16,
    /// The CPU clock of the process.
    pub(crate) clock: Clock,
    /// What it answers, if not all.
    only: Option<What>,
    /// A server of others; ours is the fleet's.
    _process: Option<Process>,
}

impl Server {
    /// Empties the access log.
    pub(crate) fn empty_log(&self) {
        if let Some(log) = &self.log {
            log.set_len(0).expect("a file of ours");
        }
    }

    /// The part that can do a row.
    pub(crate) fn part(&self, row: Row) -> Option<&Part> {
        let can = match self.name {
            Name::Caddy | Name::Nginx => true,
            Name::Eyot => row.what != What::File,
            Name::Floor => row.protocol == Protocol::H3,
        };
        let mut parts = self.parts.iter();
        parts.find(|part| can && part.only.is_none_or(|only| only == row.what))
    }

    /// The port that must answer a small request before anything is measured.
    pub(crate) fn port(&self) -> Option<u16> {
        self.parts.iter().find(|part| part.only.is_none()).map(|part| part.port)
    }
}

/// The fleet of our own: `/respond`, and `/proxied` from the upstream.
pub(crate) fn fleet(upstream: SocketAddr) -> Fleet {
    let tables = format!(
        "[upstreams.bulk]\nservers = [\"http://{upstream}\"]\n\
         [[routes]]\nhost = \"localhost\"\npath = \"/proxied\"\nupstream = \"bulk\"\n"
    );
    Fleet::start(&More { tables, files: Vec::new(), port: Some(upstream.port()) })
}

/// All of them: ours first. The fleet must outlive them; `/file` is a file of `body`, of which ours has none.
pub(crate) fn all(fleet: &Fleet, upstream: SocketAddr, body: &[u8]) -> Vec<Server> {
    let files = fleet.folder().join("files");
    fs::create_dir(&files).expect("a folder");
    fs::write(files.join("file"), body).expect("a file");
    let log = fleet.log().try_clone().expect("a handle");
    let ours = Part { port: fleet.port, clock: fleet.clock(), only: None, _process: None };
    let mut servers = vec![Server { name: Name::Eyot, parts: vec![ours], log: Some(log) }];
    servers.push(caddy(fleet, upstream, &files));
    if let Some(program) = std::env::var_os("NGINX").filter(|program| !program.is_empty()) {
        servers.push(nginx(Path::new(&program), fleet, upstream, &files));
    }
    let parts = [What::Small, What::Proxied].map(|what| {
        let (process, port) = floor::start(fleet, what);
        Part { port, clock: Clock::of(process.id()), only: Some(what), _process: Some(process) }
    });
    servers.push(Server { name: Name::Floor, parts: parts.into(), log: None });
    servers
}

/// Caddy with its defaults, TLS and an access log.
fn caddy(fleet: &Fleet, upstream: SocketAddr, files: &Path) -> Server {
    let (port, folder, [chain, key]) = (free_port(), fleet.folder(), fleet.certificate());
    let (log, config) = (folder.join("caddy.log"), folder.join("Caddyfile"));
    let text = format!(
        "{{\n admin off\n auto_https off\n storage file_system {folder}/caddy\n}}\n\
         https://localhost:{port} {{\n bind 127.0.0.1\n tls {chain} {key}\n\
         log {{\n output file {log} {{\n roll_disabled\n }}\n }}\n\
         handle /respond {{\n header content-type text/plain\n respond \"hello\n\" 200\n }}\n\
         handle /proxied {{\n reverse_proxy {upstream}\n }}\n\
         handle /file {{\n root * {files}\n file_server\n }}\n}}\n",
        folder = folder.display(),
        chain = chain.display(),
        key = key.display(),
        log = log.display(),
        files = files.display(),
    );
    fs::write(&config, text).expect("a configuration");
    let mut command = Command::new(tools::debian("caddy").join("usr/bin/caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&config);
    command.env("HOME", folder).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
    started(Name::Caddy, &mut command, port, &log)
}

/// nginx in one process, with all that its own documents say makes HTTP/3 fast.
fn nginx(program: &Path, fleet: &Fleet, upstream: SocketAddr, files: &Path) -> Server {
    let (port, folder, [chain, key]) = (free_port(), fleet.folder(), fleet.certificate());
    let (log, config) = (folder.join("nginx.log"), folder.join("nginx.conf"));
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|of| format!("{of}_temp_path {}/nginx-{of};\n", folder.display())).concat();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.errors;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\naccess_log {log} combined;\n{temporary}sendfile on;\nkeepalive_requests 1000000000;\nquic_gso on;\n\
         upstream bulk {{ server {upstream}; keepalive 16; }}\n\
         server {{\nlisten 127.0.0.1:{port} ssl;\nlisten 127.0.0.1:{port} quic reuseport;\nhttp2 on;\n\
         server_name localhost;\nssl_certificate {chain};\nssl_certificate_key {key};\ndefault_type text/plain;\n\
         location = /respond {{ return 200 \"hello\\n\"; }}\n\
         location = /proxied {{ proxy_pass http://bulk; proxy_http_version 1.1; proxy_set_header connection \"\"; \
         proxy_max_temp_file_size 0; }}\n\
         location = /file {{ root {files}; }}\n}}\n}}\n",
        folder = folder.display(),
        chain = chain.display(),
        key = key.display(),
        log = log.display(),
        files = files.display(),
    );
    fs::write(&config, text).expect("a configuration");
    let errors = folder.join("nginx.errors");
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-e").arg(errors).arg("-c").arg(&config);
    started(Name::Nginx, &mut command, port, &log)
}

/// Starts a server of others and waits until it listens.
fn started(name: Name, command: &mut Command, port: u16, log: &Path) -> Server {
    let mut process = Process::start(name.word(), command);
    let listening =
        until("a server listens", || listens(port).then_some(true).or_else(|| process.has_ended().then_some(false)));
    assert!(listening, "{} ended: {}", name.word(), process.log());
    let log = File::options().create(true).append(true).open(log).expect("a log");
    let part = Part { port, clock: Clock::of(process.id()), only: None, _process: Some(process) };
    Server { name, parts: vec![part], log: Some(log) }
}
