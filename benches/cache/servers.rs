//! The servers that are measured: ours; Varnish behind hitch, which ends TLS for it; nginx with `proxy_cache`; and Caddy, which has
//! no cache: what are hits of the others are files there. All have the same certificate, listen on loopback, and write an access
//! log to a file.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use eyot_link::line::Protocol;

use super::cpu::Clock;
use super::fleet::{Fleet, More};
use super::process::{Process, free_port, listens, until};
use super::tools;
use super::tools::Tree;

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Caddy,
    Eyot,
    Nginx,
    Varnish,
}

impl Name {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Caddy => "Caddy",
            Self::Eyot => "eyot",
            Self::Nginx => "nginx",
            Self::Varnish => "Varnish",
        }
    }
}

/// A running server; it ends with its owner.
pub(crate) struct Server {
    pub(crate) name: Name,
    pub(crate) port: u16,
    /// The processes that were started; what they begin is counted with them.
    ids: Vec<u32>,
    /// Its access log: kept short, so that a long run fills no disk.
    log: Option<File>,
    _processes: Vec<Process>,
}

impl Server {
    /// Empties the access log.
    pub(crate) fn empty_log(&self) {
        if let Some(log) = &self.log {
            log.set_len(0).expect("a file of ours");
        }
    }

    /// What its processes have taken so far, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.ids.iter().flat_map(|id| clocks(*id)).map(Clock::us).sum()
    }

    pub(crate) fn speaks(&self, protocol: Protocol) -> bool {
        protocol != Protocol::H3 || matches!(self.name, Name::Caddy | Name::Eyot)
    }
}

/// The fleet of our own.
pub(crate) fn fleet(upstream: SocketAddr) -> Fleet {
    let tables = format!(
        "[upstreams.all]\nservers = [\"http://{upstream}\"]\n\
         [[routes]]\nhost = \"localhost\"\npath = \"/kept/*\"\nupstream = \"all\"\n"
    );
    Fleet::start(&More { tables, files: Vec::new(), port: Some(upstream.port()) })
}

/// All of them: ours first. The fleet must outlive them.
pub(crate) fn all(fleet: &Fleet, upstream: SocketAddr) -> Vec<Server> {
    let log = fleet.log().try_clone().expect("a handle");
    let ours =
        Server { name: Name::Eyot, port: fleet.port, ids: vec![fleet.id()], log: Some(log), _processes: Vec::new() };
    vec![ours, varnish(fleet, upstream), nginx(fleet, upstream), caddy(fleet, upstream)]
}

/// A process and those it has begun.
fn clocks(id: u32) -> Vec<Clock> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok()).flat_map(clocks);
    std::iter::once(Clock::of(id)).chain(children).collect()
}

fn wait_for(process: &mut Process, name: &str, port: u16) {
    let listening =
        until("a server listens", || listens(port).then_some(true).or_else(|| process.has_ended().then_some(false)));
    assert!(listening, "{name} ended: {}", process.log());
}

/// Varnish with its defaults, an hour of keeping, its log written by `varnishncsa`; hitch before it for TLS and HTTP/2.
fn varnish(fleet: &Fleet, upstream: SocketAddr) -> Server {
    let (port, inner, [chain, key]) = (free_port(), free_port(), fleet.certificate());
    let folder = fleet.folder().join("varnish");
    fs::create_dir(&folder).expect("a folder");
    let (tree, log) = (Tree::of("varnish"), folder.join("log"));
    let vcl = folder.join("default.vcl");
    let text = format!("vcl 4.1;\nbackend all {{ .host = \"{}\"; .port = \"{}\"; }}\n", upstream.ip(), upstream.port());
    fs::write(&vcl, text).expect("a configuration");
    let mut command = tree.command("usr/sbin/varnishd");
    command.arg("-F").arg("-n").arg(folder.join("work")).arg("-f").arg(&vcl);
    command.args(["-a", &format!("127.0.0.1:{inner},PROXY"), "-s", "malloc,512m", "-p", "feature=+http2"]);
    command
        .args(["-j", "none"])
        .arg("-p")
        .arg(format!("vmod_path={}", tree.path("usr/lib/x86_64-linux-gnu/varnish/vmods").display()));
    let mut varnishd = Process::start("varnishd", &mut command);
    wait_for(&mut varnishd, "varnishd", inner);
    let mut command = tree.command("usr/bin/varnishncsa");
    command.arg("-n").arg(folder.join("work")).arg("-w").arg(&log);
    let ncsa = Process::start("varnishncsa", &mut command);
    let pem = folder.join("both.pem");
    let both = [&key, &chain].map(|file| fs::read_to_string(file).expect("PEM")).concat();
    fs::write(&pem, both).expect("a file");
    let config = folder.join("hitch.conf");
    // It refuses to serve as root.
    let user = if rustix::process::geteuid().is_root() { "user = \"nobody\"\n" } else { "" };
    let text = format!(
        "frontend = {{ host = \"127.0.0.1\" port = \"{port}\" }}\nbackend = \"[127.0.0.1]:{inner}\"\npem-file = \"{}\"\n\
         workers = 2\nwrite-proxy-v2 = on\nalpn-protos = \"h2,http/1.1\"\ndaemon = off\nsyslog = off\n{user}",
        pem.display()
    );
    fs::write(&config, text).expect("a configuration");
    let mut command = Tree::of("hitch").command("usr/sbin/hitch");
    command.arg("--config").arg(&config);
    let mut hitch = Process::start("hitch", &mut command);
    wait_for(&mut hitch, "hitch", port);
    let ids = [&varnishd, &ncsa, &hitch].map(Process::id).to_vec();
    let log = File::options().create(true).append(true).open(log).expect("a log");
    Server { name: Name::Varnish, port, ids, log: Some(log), _processes: vec![varnishd, ncsa, hitch] }
}

/// nginx in one process, which keeps on disk, as it does; the folder is on the same disk as all else here.
fn nginx(fleet: &Fleet, upstream: SocketAddr) -> Server {
    let (port, [chain, key]) = (free_port(), fleet.certificate());
    let folder = fleet.folder().join("nginx");
    fs::create_dir(&folder).expect("a folder");
    let (log, config) = (folder.join("log"), folder.join("nginx.conf"));
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|of| format!("{of}_temp_path {}/{of};\n", folder.display())).concat();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/errors;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\naccess_log {log} combined;\n{temporary}sendfile on;\nkeepalive_requests 1000000000;\n\
         proxy_cache_path {folder}/kept levels=1:2 keys_zone=kept:64m max_size=1g inactive=1h use_temp_path=off;\n\
         open_file_cache max=10000;\n\
         upstream all {{ server {upstream}; keepalive 16; }}\n\
         server {{\nlisten 127.0.0.1:{port} ssl http2;\n\
         server_name localhost;\nssl_certificate {chain};\nssl_certificate_key {key};\n\
         location / {{ proxy_pass http://all; proxy_http_version 1.1; proxy_set_header connection \"\"; proxy_cache kept; \
         proxy_cache_lock on; }}\n}}\n}}\n",
        folder = folder.display(),
        log = log.display(),
        chain = chain.display(),
        key = key.display(),
    );
    fs::write(&config, text).expect("a configuration");
    let mut command = Tree::of("nginx").command("usr/sbin/nginx");
    command.arg("-p").arg(&folder).arg("-e").arg(folder.join("errors")).arg("-c").arg(&config);
    one(Name::Nginx, &mut command, port, &log)
}

/// Caddy with its defaults: files of `/kept/<bytes>`, and all below from the upstream.
fn caddy(fleet: &Fleet, upstream: SocketAddr) -> Server {
    let (port, [chain, key]) = (free_port(), fleet.certificate());
    let folder = fleet.folder().join("caddy");
    let files = folder.join("files/kept");
    fs::create_dir_all(&files).expect("a folder");
    for bytes in [1 << 10, 64 << 10, 1 << 20] {
        fs::write(files.join(format!("{bytes}")), vec![b'e'; bytes]).expect("a file");
    }
    let (log, config) = (folder.join("log"), folder.join("Caddyfile"));
    let text = format!(
        "{{\n admin off\n auto_https off\n storage file_system {folder}/state\n}}\n\
         https://localhost:{port} {{\n bind 127.0.0.1\n tls {chain} {key}\n\
         log {{\n output file {log} {{\n roll_disabled\n }}\n }}\n\
         handle /kept/1024/* {{\n reverse_proxy {upstream}\n }}\n\
         handle {{\n root * {folder}/files\n file_server\n }}\n}}\n",
        folder = folder.display(),
        chain = chain.display(),
        key = key.display(),
        log = log.display(),
    );
    fs::write(&config, text).expect("a configuration");
    let mut command = Command::new(tools::debian("caddy").join("usr/bin/caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&config);
    command.env("HOME", &folder).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
    one(Name::Caddy, &mut command, port, &log)
}

/// Starts a server of one process and waits until it listens.
fn one(name: Name, command: &mut Command, port: u16, log: &Path) -> Server {
    let mut process = Process::start(name.word(), command);
    wait_for(&mut process, name.word(), port);
    let log = File::options().create(true).append(true).open(log).expect("a log");
    Server { name, port, ids: vec![process.id()], log: Some(log), _processes: vec![process] }
}
