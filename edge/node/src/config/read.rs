//! The walk through `node.toml`, section by section.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use eyot_bundle::grant::PrivateNet;
use eyot_bundle::name::Name;
use eyot_bundle::text::{self, Blank, Problems, Table};
use eyot_front::steer::UDP_SOCKETS_MAX;
use eyot_guest::SLOTS_MAX;
use ipnet::IpNet;

use super::acme::{Acme, ChallengeKind};
use super::secret::Secret;
use super::{
    Clients, Compile, Config, Debug, Egress, Environment, Functions, Geo, Identity, Level, Limits, Listen, Log, Origin,
    Plain, Shielding, Tls, cache, stores, tls,
};
use crate::access::Destination;

/// Where names in the document point.
pub(super) struct Place<'a> {
    environment: &'a Environment,
    /// The folder of the document.
    base: &'a Path,
}

impl Blank for Secret {
    fn blank() -> Self {
        Self(PathBuf::new())
    }
}

pub(super) fn config(environment: &Environment, base: &Path, file: &str, source: &str) -> Result<Config, Problems> {
    let place = Place { environment, base };
    text::read(file, source, |root| {
        let node = place.node(&mut root.table("node"));
        let tls = tls::read(&place, &mut root.table("tls"));
        let mut table = root.table("listen");
        let mut listen = listen(&mut table, &node.run);
        guarded(&tls, &mut listen, &table);
        if !listen.https.is_empty() && tls.certificates.is_empty() && tls.acme.is_none() {
            table.note("`https` needs a certificate: name one in `tls.certificates`, or names in `tls.acme`");
        }
        if let Some(acme) = &tls.acme {
            provable(acme, &listen, &mut table);
        }
        root.later(&["relay", "dns"]);
        Config {
            origin: place.origin(&mut root.table("origin")),
            limits: limits(&mut root.table("limits")),
            functions: place.functions(&mut root.table("functions")),
            egress: egress(&mut root.table("egress")),
            stores: stores::read(&place, &mut root.table("stores")),
            cache: cache::read(&place, &mut root.table("cache")),
            shielding: Shielding { ca: place.path(&mut root.table("shielding"), "ca").optional() },
            geo: place.geo(&mut root.table("geo")),
            log: log(&mut root.table("log")),
            debug: Debug { headers: root.table("debug").boolean("headers").or(false) },
            node,
            listen,
            tls,
        }
    })
}

impl Place<'_> {
    pub(super) fn path(&self, table: &mut Table<'_>, key: &str) -> text::Field<PathBuf> {
        table.string(key).not_empty().map(|path| self.base.join(path))
    }

    pub(super) fn secret(&self, table: &mut Table<'_>, key: &str) -> text::Field<Secret> {
        let credentials = self.environment.credentials.as_deref();
        table.string(key).not_empty().and_then(|text| Secret::named(&text, self.base, credentials))
    }

    fn node(&self, table: &mut Table<'_>) -> Identity {
        table.later(&["location"]);
        let folder = |told: &Option<PathBuf>, usual: &str| told.clone().unwrap_or_else(|| usual.into());
        Identity {
            id: table.parsed("id").required(),
            fleet: table.parsed("fleet").map(|name: Name| name.to_string()).or("eyot".to_owned()),
            region: table.string("region").not_empty().or("default".to_owned()),
            labels: table.string_map("labels").optional().unwrap_or_default(),
            state: self.path(table, "state").or(folder(&self.environment.state, "/var/lib/eyot")),
            run: self.path(table, "run").or(folder(&self.environment.run, "/run/eyot")),
            identity: self.secret(table, "identity").optional(),
        }
    }

    fn origin(&self, table: &mut Table<'_>) -> Origin {
        let https = |urls: Vec<String>| match urls.iter().find(|url| !is_origin(url)) {
            Some(url) => Err(format!("`{url}` is no origin: write `https://host:port`")),
            None => Ok(urls),
        };
        Origin {
            urls: table.strings("urls").not_empty_list().and_then(https).required(),
            ca: self.path(table, "ca").required(),
            root: self.path(table, "root").required(),
            poll_ms: table.duration_ms("poll").within(100, 3_600_000).or(20_000),
            token: self.secret(table, "token").required(),
        }
    }

    fn geo(&self, table: &mut Table<'_>) -> Geo {
        Geo { places: self.path(table, "mmdb").optional(), networks: self.path(table, "mmdb_asn").optional() }
    }

    fn functions(&self, table: &mut Table<'_>) -> Functions {
        Functions {
            slots: table.integer("slots").within(1, SLOTS_MAX).or(2048),
            threads: table.integer("threads").within(0, 1024).or(0),
            memory_bytes_max: table.size_bytes("memory").within(64 << 20, 1 << 44).optional(),
            code_bytes_max: table.size_bytes("code").within(16 << 20, 1 << 40).or(512 << 20),
            compile: self.compile(&mut table.table("compile")),
        }
    }

    /// The folder of what may be lost.
    pub(super) fn cache_folder(&self) -> PathBuf {
        self.environment.cache.clone().unwrap_or_else(|| "/var/cache/eyot".into())
    }

    fn compile(&self, table: &mut Table<'_>) -> Compile {
        let cache = self.cache_folder();
        Compile {
            processes: table.integer("processes").within(1, 64).or(1),
            memory_bytes: table.size_bytes("memory").within(256 << 20, 1 << 40).or(2 << 30),
            cpu_ms: table.duration_ms("cpu").within(1_000, 3_600_000).or(120_000),
            threads: table.integer("threads").within(1, 64).or(1),
            known: None,
            cache: self.path(table, "cache").or(cache),
            key: self.secret(table, "key").optional(),
        }
    }
}

/// Notes when no challenge can be answered on the sockets that there are.
fn provable(acme: &Acme, listen: &Listen, table: &mut Table<'_>) {
    let answered = |kind: &ChallengeKind| match kind {
        ChallengeKind::Http01 => !listen.http.is_empty(),
        ChallengeKind::TlsAlpn01 => !listen.https.is_empty(),
    };
    if !acme.challenges.iter().any(answered) {
        table.note("no challenge of `tls.acme` is answered here: `http-01` needs `http`, `tls-alpn-01` needs `https`");
    }
}

/// Whether `url` is `https://host[:port]` and nothing more.
fn is_origin(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    bare && uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty()) && !url.contains('@')
}

/// An address and a port.
pub(super) struct Address(pub(super) SocketAddr);

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.parse().map(Self);
        parsed.map_err(|_| format!("`{text}` is no address with a port: write `192.0.2.1:443` or `[::]:443`"))
    }
}

fn addresses(table: &mut Table<'_>, key: &str) -> text::Field<Vec<SocketAddr>> {
    table.parsed_list(key).map(|list: Vec<Address>| list.into_iter().map(|address| address.0).collect())
}

/// One of `listen.admin`: a path, or a loopback address.
enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl std::str::FromStr for Door {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            Ok(_) => Err("one is not loopback: metrics and health are for this machine only"),
            Err(_) => Err("one is neither a path from `/` nor an address such as `127.0.0.1:9180`"),
        }
    }
}

fn listen(table: &mut Table<'_>, run: &Path) -> Listen {
    let usual = || vec![Door::Unix(run.join("admin.sock")), Door::Tcp(SocketAddr::from(([127, 0, 0, 1], 9180)))];
    let mut listen = Listen {
        https: addresses(table, "https").optional().unwrap_or_default(),
        http: addresses(table, "http").optional().unwrap_or_default(),
        udp_sockets: table.integer("udp_sockets").within(1, UDP_SOCKETS_MAX).or(1),
        plain: table.choice("plain", &[("redirect", Plain::Redirect), ("serve", Plain::Serve)]).or(Plain::Redirect),
        proxy_peers: proxy_peers(table),
        guarded: Vec::new(),
        admin_tcp: Vec::new(),
        admin_unix: Vec::new(),
    };
    for door in table.parsed_list("admin").optional().unwrap_or_else(usual) {
        match door {
            Door::Tcp(address) => listen.admin_tcp.push(address),
            Door::Unix(path) => listen.admin_unix.push(path),
        }
    }
    if listen.https.is_empty() && listen.http.is_empty() {
        table.note("names no address: set `https`, such as `[\"0.0.0.0:443\", \"[::]:443\"]`");
    }
    listen
}

/// Whom the PROXY protocol is spoken with: nobody, unless it is chosen.
fn proxy_peers(table: &mut Table<'_>) -> Vec<IpNet> {
    let is_chosen = table.boolean("proxy_protocol").or(false);
    let peers = table.parsed_list("proxy_peers").not_empty_list().optional();
    match (is_chosen, peers) {
        (true, Some(peers)) => peers.into_iter().map(|Net(net)| net).collect(),
        (true, None) => {
            table.note(
                "`proxy_protocol` needs `proxy_peers`: the networks of your balancers, such as `[\"10.0.0.0/8\"]`",
            );
            Vec::new()
        }
        (false, Some(_)) => {
            table.note("`proxy_peers` says nothing without `proxy_protocol = true`");
            Vec::new()
        }
        (false, None) => Vec::new(),
    }
}

/// A network.
struct Net(IpNet);

impl std::str::FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("`{text}` is no network: `10.0.0.0/8`"))
    }
}

/// Adds the listeners of the hosts that ask for a certificate, whose ports are theirs alone.
fn guarded(tls: &Tls, listen: &mut Listen, table: &Table<'_>) {
    for address in tls.client_auth.iter().map(|guarded| guarded.listen) {
        if listen.https.iter().chain(&listen.http).any(|other| other.port() == address.port()) {
            table.note(format!("port {} is one of `tls.client_auth` and can be no other's", address.port()));
        }
        if !listen.guarded.contains(&address) {
            listen.guarded.push(address);
        }
    }
}

fn limits(table: &mut Table<'_>) -> Limits {
    Limits {
        cpu_us: table.duration_us("cpu").within(1_000, 3_600_000_000).or(500_000),
        wall_ms: table.duration_ms("wall").within(1, 3_600_000).or(60_000),
        memory_bytes: table.size_bytes("memory").within(1 << 20, 4 << 30).or(512 << 20),
        connections_max: table.integer("connections").within(1, 10_000_000).or(50_000),
        connections_per_address_max: table.integer("connections_per_address").within(1, 10_000_000).or(256),
        requests_queued_max: table.integer("requests_queued").within(0, 1_000_000).or(4096),
        queue_wait_ms: table.duration_ms("queue_wait").within(0, 60_000).or(1_000),
        drain_ms: table.duration_ms("drain").within(0, 3_600_000).or(30_000),
        clients: clients(table),
    }
}

fn clients(table: &mut Table<'_>) -> Clients {
    const HOUR_MS: u64 = 3_600_000;
    let mut rate =
        |key| table.size_bytes(key).within(1, 1 << 20).map(|bytes| u32::try_from(bytes).unwrap_or(1)).or(256);
    let (body_rate_bytes, send_rate_bytes) = (rate("body_rate"), rate("send_rate"));
    Clients {
        header_timeout_ms: table.duration_ms("header_timeout").within(1_000, HOUR_MS / 12).or(10_000),
        body_idle_ms: table.duration_ms("body_idle").within(1_000, HOUR_MS).or(30_000),
        body_rate_bytes,
        send_idle_ms: table.duration_ms("send_idle").within(1_000, HOUR_MS).or(30_000),
        send_rate_bytes,
        connection_idle_ms: table.duration_ms("connection_idle").within(1_000, HOUR_MS).or(60_000),
        tunnel_idle_ms: table.duration_ms("tunnel_idle").within(1_000, 24 * HOUR_MS).or(HOUR_MS),
    }
}

fn egress(table: &mut Table<'_>) -> Egress {
    let mut opened = table.tables("allow_private");
    let net = |table: &mut Table<'_>| {
        let app = table.parsed("app").required();
        let parse = |text: String| text.parse().map(Some).map_err(|_| format!("`{text}` is no network: `10.0.0.0/8`"));
        let net = table.string("net").and_then(parse).required()?;
        Some((app, PrivateNet { net, ports: Vec::new() }))
    };
    Egress { allow_private: opened.iter_mut().filter_map(net).collect(), resolvers: resolvers(table) }
}

fn resolvers(table: &mut Table<'_>) -> Vec<SocketAddr> {
    if table.is_list("resolver") {
        return addresses(table, "resolver").not_empty_list().optional().unwrap_or_default();
    }
    table.choice("resolver", &[("system", ())]).or(());
    Vec::new()
}

fn log(table: &mut Table<'_>) -> Log {
    let destinations = [("journal", Destination::Journal), ("stdout", Destination::Stdout), ("off", Destination::Off)];
    let levels =
        [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace].map(|level| (level.word(), level));
    Log {
        access: table.choice("access", &destinations).or(Destination::Journal),
        level: table.choice("level", &levels).or(Level::Info),
    }
}
