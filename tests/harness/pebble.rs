//! A real certificate authority that speaks ACME: pebble, and the DNS server that it asks, as Debian has them.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use eyot_link::tls::Authorities;

use super::client::{Ask, Protocol, ask};
use super::process::{Process, free_port, listens, until};
use super::tools;
use super::world::World;

/// Where the authority finds those whom it looks at.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) http: u16,
    pub(crate) tls: u16,
}

/// An authority whose every name leads to this machine.
pub(crate) struct Pebble {
    pub(crate) port: u16,
    management: u16,
    process: Option<Process>,
    _names: Process,
    dns: u16,
}

impl Pebble {
    /// Starts it: certificates are good for `validity_s` seconds.
    pub(crate) fn start(world: &World, ports: Ports, validity_s: u64) -> Self {
        let dns = free_port();
        let address = format!("127.0.0.1:{dns}");
        let mut names = Command::new(bin("pebble-challtestsrv"));
        names.args(["-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-dns01", &address]);
        names.args(["-management", &format!("127.0.0.1:{}", free_port())]);
        let names = Process::start("pebble-challtestsrv", &mut names);
        until("the DNS server listens", || listens(dns).then_some(()));
        let mut pebble = Self { port: free_port(), management: free_port(), process: None, _names: names, dns };
        pebble.restart(world, ports, validity_s);
        pebble
    }

    /// Starts it again, with other ports or validity. It forgets all that it knew.
    pub(crate) fn restart(&mut self, world: &World, ports: Ports, validity_s: u64) {
        self.stop();
        let keys = world.path("keys/origin");
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": keys.join("origin.pem"), "privateKey": keys.join("origin.key"),
            "httpPort": ports.http, "tlsPort": ports.tls, "ocspResponderURL": "",
            "externalAccountBindingRequired": false, "certificateValidityPeriod": validity_s,
        }});
        let file = world.path("pebble.json");
        fs::write(&file, config.to_string()).expect("its configuration");
        let mut command = Command::new(bin("pebble"));
        command.arg("-config").arg(file).args(["-strict", "-dnsserver", &format!("127.0.0.1:{}", self.dns)]);
        // Each name is proven anew, at once; and nonces are refused as often as pebble likes to.
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        self.process = Some(Process::start("pebble", &mut command));
        until("pebble answers", || ask(self.management(world, "/roots/0")).ok());
    }

    /// Takes it away.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// The `acme` of a node that asks it, with more of its keys.
    pub(crate) fn acme(&self, world: &World, names: &[&str], challenges: &[&str], more: &str) -> String {
        format!(
            "acme = {{ directory = \"https://127.0.0.1:{}/dir\", ca = \"{}\", names = {names:?}, \
             challenges = {challenges:?}, contact = \"mailto:ops@example.com\"{more} }}",
            self.port,
            world.ca().display(),
        )
    }

    /// Its root, PEM.
    pub(crate) fn root(&self, world: &World) -> Vec<u8> {
        ask(self.management(world, "/roots/0")).expect("its root").body.to_vec()
    }

    fn management(&self, world: &World, path: &str) -> Ask {
        let ca = fs::read(world.ca()).expect("the CA");
        let at = SocketAddr::from(([127, 0, 0, 1], self.management));
        Ask::url(&format!("https://localhost:{}{path}", self.management), Protocol::H1, Authorities::Pem(ca), at)
    }
}

/// A program of the package, which is fetched and unpacked once, into the target folder.
fn bin(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| tools::debian("pebble")).join("usr/bin").join(name)
}
