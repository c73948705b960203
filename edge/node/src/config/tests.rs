//! Tests of the config: a table of bad ones, and what a good one means.

use std::fs;

use super::*;

fn bad() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/node_bad")
}

#[test]
fn every_bad_config_gives_all_its_errors_at_once() {
    let mut seen = 0;
    for entry in fs::read_dir(bad()).expect("the folder of bad configs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        let name = path.file_name().expect("a name").to_str().expect("text");
        let source = fs::read_to_string(&path).expect("a bad config");
        let problems = Config::parse_in(&Environment::default(), name, &source).expect_err(name);
        let expect = fs::read_to_string(path.with_extension("errors")).unwrap_or_default();
        assert_eq!(problems.to_string().trim(), expect.trim(), "{name}");
    }
    assert!(seen >= 6, "only {seen} bad configs");
}

const SMALL: &str = r#"
[node]
id = "fra-1"
[listen]
https = ["127.0.0.1:0"]
[tls]
certificates = [{ chain = "tls/shop.pem", key = "shop-key" }]
[origin]
urls = ["https://origin.example.net:7443"]
ca = "fleet-ca.pem"
root = "root.json"
token = "join-token"
"#;

#[test]
fn what_is_not_named_has_its_default() {
    let environment = Environment {
        state: Some("/state".into()),
        run: Some("/run/e".into()),
        credentials: Some("/creds".into()),
        ..Environment::default()
    };
    let config = Config::parse_in(&environment, "/etc/eyot/node.toml", SMALL).expect("a good config");
    assert_eq!(config.node.state, Path::new("/state"));
    assert_eq!(config.listen.admin_unix, [Path::new("/run/e/admin.sock")]);
    assert_eq!(config.listen.admin_tcp, ["127.0.0.1:9180".parse().expect("an address")]);
    assert_eq!(config.tls.certificates[0].chain, Path::new("/etc/eyot/tls/shop.pem"));
    assert_eq!(config.tls.certificates[0].key.path(), Path::new("/creds/shop-key"));
    assert_eq!((config.limits.cpu_us, config.limits.drain_ms, config.origin.poll_ms), (500_000, 30_000, 20_000));
    assert_eq!((config.functions.slots, config.functions.compile.cpu_ms), (2048, 120_000));
    assert_eq!(config.functions.compile.threads, 1);
    let usual = Clients {
        header_timeout_ms: 10_000,
        body_idle_ms: 30_000,
        body_rate_bytes: 256,
        send_idle_ms: 30_000,
        send_rate_bytes: 256,
        connection_idle_ms: 60_000,
        tunnel_idle_ms: 3_600_000,
    };
    assert_eq!(config.limits.clients, usual);
    assert!(!config.debug.headers && config.egress.resolvers.is_empty() && config.geo.places.is_none());
    let geo = format!("{SMALL}[geo]\nmmdb = \"city.mmdb\"\nmmdb_asn = \"/asn.mmdb\"");
    let Geo { places, networks } = Config::parse_in(&environment, "/etc/eyot/node.toml", &geo).expect("good").geo;
    assert_eq!((places, networks), (Some("/etc/eyot/city.mmdb".into()), Some("/asn.mmdb".into())));
}

#[test]
fn what_is_named_is_what_counts() {
    let more = r#"
[limits]
cpu = "250ms"
drain = "3s"
[functions]
threads = 2
memory = "1GiB"
compile = { cache = "cache", key = "./compile.key", threads = 2 }
[egress]
allow_private = [{ app = "shop", net = "10.0.0.0/8" }]
resolver = ["1.1.1.1:53"]
[log]
access = "off"
level = "debug"
[debug]
headers = true
"#;
    let environment = Environment { credentials: Some("/creds".into()), ..Environment::default() };
    let config = Config::parse_in(&environment, "x/node.toml", &format!("{SMALL}{more}")).expect("a good config");
    assert_eq!((config.limits.cpu_us, config.limits.drain_ms), (250_000, 3_000));
    assert_eq!((config.functions.threads, config.functions.memory_bytes_max), (2, Some(1 << 30)));
    assert_eq!(config.functions.compile.cache, Path::new("x/cache"));
    assert_eq!((config.functions.compile.threads, &config.functions.compile.known), (2, &None));
    assert_eq!(config.functions.compile.key.expect("named").path(), Path::new("x/./compile.key"));
    assert_eq!(config.egress.allow_private[0].1.net.to_string(), "10.0.0.0/8");
    assert_eq!(config.egress.resolvers, ["1.1.1.1:53".parse().expect("an address")]);
    assert_eq!((config.log.access, config.log.level), (Destination::Off, Level::Debug));
    assert!(config.debug.headers);
}

#[test]
fn what_is_said_of_tls_and_of_balancers_is_what_counts() {
    let listen = "https = [\"127.0.0.1:0\"]\nproxy_protocol = true\nproxy_peers = [\"10.0.0.0/8\", \"2001:db8::/32\"]";
    let chosen = r#"
certificates = [{ chain = "tls/shop.pem", key = "shop-key", ocsp = "tls/shop.ocsp" }]
min = "1.2"
resumption = "early-data"
ticket_keys = "tickets"
client_auth = [
  { host = "api.example.com", ca = "clients.pem", listen = "127.0.0.1:8443" },
  { host = "b.example.com", ca = "clients.pem", listen = "127.0.0.1:8443" },
]
"#;
    let (before, rest) = SMALL.split_once("certificates").expect("it has some");
    let after = rest.split_once('\n').expect("a line").1;
    let source = format!("{before}{chosen}{after}").replace("https = [\"127.0.0.1:0\"]", listen);
    let environment = Environment { credentials: Some("/creds".into()), ..Environment::default() };
    let config = Config::parse_in(&environment, "/etc/eyot/node.toml", &source).expect("a good config");
    let tls = &config.tls;
    assert!(tls.tls_1_2 && tls.early_data);
    assert_eq!(tls.certificates[0].ocsp.as_deref(), Some(Path::new("/etc/eyot/tls/shop.ocsp")));
    assert_eq!(tls.ticket_keys.as_ref().expect("named").path(), Path::new("/creds/tickets"));
    let hosts: Vec<_> = tls.client_auth.iter().map(|guarded| guarded.host.as_str()).collect();
    assert_eq!(hosts, ["api.example.com", "b.example.com"]);
    assert_eq!(config.listen.guarded, ["127.0.0.1:8443".parse().expect("an address")]);
    assert_eq!(config.listen.proxy_peers.len(), 2);
    let usual = Config::parse_in(&environment, "/etc/eyot/node.toml", SMALL).expect("a good config");
    assert!(!usual.tls.tls_1_2 && !usual.tls.early_data && usual.tls.ticket_keys.is_none());
    assert!(usual.listen.proxy_peers.is_empty() && usual.listen.guarded.is_empty());
}

#[test]
fn no_more_hosts_than_a_hundred_may_ask_for_a_certificate() {
    let environment = Environment { credentials: Some("/creds".into()), ..Environment::default() };
    for (hosts, fits) in [(100, true), (101, false)] {
        let host = |number| {
            format!("[[tls.client_auth]]\nhost = \"h{number}.test\"\nca = \"c.pem\"\nlisten = \"127.0.0.1:8443\"\n")
        };
        let source = format!("{SMALL}{}", (0..hosts).map(host).collect::<String>());
        let read = Config::parse_in(&environment, "/etc/eyot/node.toml", &source);
        assert_eq!(read.is_ok(), fits, "{hosts}");
        assert!(read.err().is_none_or(|problems| problems.to_string().contains("more than 100")));
    }
}
