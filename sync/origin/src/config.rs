//! `origin.toml`: what an operator sets. Read by text, with all mistakes at once; it opens no file.

use std::net::SocketAddr;
use std::path::PathBuf;

use eyot_bundle::name::Name;
use eyot_bundle::text::{self, Problems, Table};

/// An origin's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the wire is served, over HTTP/3 and HTTP/2.
    pub listen: Vec<SocketAddr>,
    /// The directory of its state.
    pub state: PathBuf,
    /// Where health and metrics are answered.
    pub admin: Vec<AdminAddress>,
    /// The fleet's name.
    pub fleet: Name,
    /// The first trusted TUF root, made by the operator.
    pub root: PathBuf,
    /// The certificate chain of the wire: a path, or the name of a systemd credential.
    pub tls_chain: String,
    /// Its key, likewise.
    pub tls_key: String,
    /// The online keys.
    pub keys: Keys,
    /// How long what is signed online is believed.
    pub expiry: Expiry,
    /// What one app may use.
    pub quotas: Quotas,
}

/// Where health and metrics are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A socket in the file system, made with mode 0660.
    Unix(PathBuf),
}

/// The online keys: each a path, or the name of a systemd credential, of PEM PKCS#8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Signs `timestamp`.
    pub timestamp: String,
    /// Signs `snapshot`.
    pub snapshot: String,
    /// Signs `director`.
    pub director: String,
}

/// How long what is signed online is believed, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Of `timestamp`; it is signed anew each hour, or each quarter of this if that is shorter.
    pub timestamp_ms: u64,
    /// Of `snapshot`.
    pub snapshot_ms: u64,
    /// Of `director`.
    pub director_ms: u64,
}

/// What one app may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// All its bundles together, in bytes.
    pub bundles_bytes: u64,
    /// Tries to publish within an hour, refused ones among them.
    pub publishes_per_hour: u32,
}

/// An hour, a day, in milliseconds.
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

impl Config {
    /// Reads the configuration. `file` is its name in problems.
    ///
    /// # Errors
    /// All that is wrong, with lines.
    pub fn parse(file: &str, source: &str) -> Result<Self, Problems> {
        text::read(file, source, |root| {
            let mut origin = root.table("origin");
            let mut tls = root.table("tls");
            let config = Self {
                listen: origin.parsed_list("listen").not_empty_list().or(Vec::new()),
                state: origin.string("state").map(PathBuf::from).required(),
                admin: admin(&mut origin),
                fleet: origin.parsed("fleet").required(),
                root: origin.string("root").map(PathBuf::from).required(),
                tls_chain: tls.string("chain").not_empty().required(),
                tls_key: tls.string("key").not_empty().required(),
                keys: keys(&mut root.table("keys")),
                expiry: expiry(&mut root.table("expiry")),
                quotas: quotas(&mut root.table("quotas")),
            };
            if config.listen.is_empty() {
                origin.note("`listen` must name at least one address: listen = [\"0.0.0.0:7443\"]");
            }
            engine(&mut root.table("blobs"), "files", &["s3"], &["url", "bucket"]);
            engine(&mut root.table("heads"), "redb", &["postgres", "s3"], &["url", "bucket"]);
            config
        })
    }
}

fn admin(origin: &mut Table<'_>) -> Vec<AdminAddress> {
    let field = origin
        .strings("admin")
        .and_then(|texts| texts.iter().map(|text| admin_address(text)).collect::<Result<Vec<_>, String>>());
    field.or(Vec::new())
}

fn admin_address(text: &str) -> Result<AdminAddress, String> {
    if text.starts_with('/') {
        return Ok(AdminAddress::Unix(text.into()));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(AdminAddress::Tcp(address)),
        Ok(_) => Err(format!("`{text}` is not a loopback address: health and metrics have no login")),
        Err(_) => Err(format!("`{text}` is neither a path such as `/run/eyot-origin/admin.sock` nor `127.0.0.1:9280`")),
    }
}

fn keys(keys: &mut Table<'_>) -> Keys {
    Keys {
        timestamp: keys.string("timestamp").not_empty().required(),
        snapshot: keys.string("snapshot").not_empty().required(),
        director: keys.string("director").not_empty().required(),
    }
}

fn expiry(expiry: &mut Table<'_>) -> Expiry {
    let mut time = |key, default_ms| expiry.duration_ms(key).within(60_000, 365 * DAY_MS).or(default_ms);
    Expiry {
        timestamp_ms: time("timestamp", DAY_MS),
        snapshot_ms: time("snapshot", 7 * DAY_MS),
        director_ms: time("director", 7 * DAY_MS),
    }
}

fn quotas(quotas: &mut Table<'_>) -> Quotas {
    Quotas {
        bundles_bytes: quotas.size_bytes("bundles_bytes").or(10 << 30),
        publishes_per_hour: quotas.integer("publishes_per_hour").or(60),
    }
}

/// An engine that has one choice in this version, and the keys of the later ones.
fn engine(table: &mut Table<'_>, only: &str, later: &[&str], later_keys: &[&str]) {
    let field = table.string("engine").and_then(|engine| match engine.as_str() {
        name if name == only => Ok(()),
        name if later.contains(&name) => Err(format!("`{name}` comes with a later version; write `{only}`")),
        name => Err(format!("`{name}` is no engine; write `{only}`")),
    });
    field.or(());
    table.later(later_keys);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[origin]
listen = ["0.0.0.0:7443"]
state = "/var/lib/eyot-origin"
admin = ["/run/eyot-origin/admin.sock", "127.0.0.1:9280"]
fleet = "example"
root = "/etc/eyot/root.json"
[tls]
chain = "/etc/eyot/origin.pem"
key = "origin-key"
[keys]
timestamp = "tuf-timestamp"
snapshot = "tuf-snapshot"
director = "tuf-director"
[expiry]
timestamp = "24h"
[blobs]
engine = "files"
[quotas]
bundles_bytes = "1GiB"
"#;

    #[test]
    fn a_full_configuration_is_read_and_what_is_absent_has_its_default() {
        let config = Config::parse("origin.toml", GOOD).expect("a good configuration");
        assert_eq!(config.quotas, Quotas { bundles_bytes: 1 << 30, publishes_per_hour: 60 });
        assert_eq!(config.expiry.director_ms, 7 * DAY_MS);
        assert_eq!(config.admin[1], AdminAddress::Tcp("127.0.0.1:9280".parse().expect("an address")));
    }

    #[test]
    fn all_mistakes_come_at_once_with_their_lines() {
        let bad = GOOD
            .replace("fleet = \"example\"", "fleeet = \"example\"")
            .replace("127.0.0.1:9280", "0.0.0.0:9280")
            .replace("engine = \"files\"", "engine = \"s3\"\nbucket = \"b\"")
            .replace("\"24h\"", "\"1s\"");
        let problems = Config::parse("origin.toml", &bad).expect_err("five mistakes").to_string();
        for part in [
            "origin.toml:6: `origin.fleeet`",
            "`origin.fleet` is missing",
            "loopback",
            "comes with a later",
            "`expiry.timestamp`",
        ] {
            assert!(problems.contains(part), "{part} is not in:\n{problems}");
        }
    }

    #[test]
    fn an_empty_text_names_everything_that_is_needed() {
        let problems = Config::parse("origin.toml", "").expect_err("nothing is there").to_string();
        for key in ["listen", "origin.state", "origin.root", "tls.chain", "keys.director"] {
            assert!(problems.contains(key), "{key} is not in:\n{problems}");
        }
    }
}
