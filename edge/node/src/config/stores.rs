//! `stores`: the engines that keep the stores of apps, beside the file of the node itself.

use std::fmt;

use eyot_bundle::text::Table;

use super::read::Place;
use super::secret::Secret;

/// The engines of the fleet that this node may ask.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    /// NATS with JetStream.
    pub nats: Option<Nats>,
    /// Redis or Valkey.
    pub redis: Option<Redis>,
}

/// NATS with JetStream.
#[derive(Clone, Debug)]
pub struct Nats {
    /// Its URLs, with `,` between.
    pub url: Url,
    /// A `.creds` file.
    pub credentials: Option<Secret>,
    /// The servers that keep each bucket.
    pub replicas: usize,
}

/// Redis or Valkey.
#[derive(Clone, Debug)]
pub struct Redis {
    /// Its URL.
    pub url: Url,
    /// The password.
    pub password: Option<Secret>,
}

/// A URL, which may hold a password: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(pub String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url(..)")
    }
}

/// Reads the table.
pub(super) fn read(place: &Place<'_>, table: &mut Table<'_>) -> Stores {
    Stores {
        nats: table.has("nats").then(|| nats(place, &mut table.table("nats"))),
        redis: table.has("redis").then(|| redis(place, &mut table.table("redis"))),
    }
}

fn nats(place: &Place<'_>, table: &mut Table<'_>) -> Nats {
    let told = |text: String| match text.split(',').all(|url| is_of(url.trim(), &["nats://", "tls://"])) {
        true => Ok(text),
        false => Err("is no URL of NATS: `nats://host:4222` or `tls://host:4222`, several with `,` between"),
    };
    Nats {
        url: Url(table.string("url").and_then(told).required()),
        credentials: place.secret(table, "credentials").optional(),
        replicas: table.integer("replicas").within(1, 5).or(1),
    }
}

fn redis(place: &Place<'_>, table: &mut Table<'_>) -> Redis {
    let told = |text: String| match is_of(&text, &["redis://", "rediss://"]) {
        true => Ok(text),
        false => Err("is no URL of Redis: `redis://host:6379`, or `rediss://host:6379` for TLS"),
    };
    Redis {
        url: Url(table.string("url").and_then(told).required()),
        password: place.secret(table, "password").optional(),
    }
}

fn is_of(url: &str, schemes: &[&str]) -> bool {
    schemes.iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}
