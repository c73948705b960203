//! `eyot:edge`: what the node knows of a call and does for it. What a guest gives is checked here, so that whoever
//! implements the door gets nothing malformed.

use wasmtime::component::Linker;

use super::{Hosts, Lent, View};
use crate::clock;
use crate::doors::{Caller, Hint, Purge, PurgeError, Purged, Rate, SecretError};
use bindings::eyot::edge::{budget, cache, client, here, rate_limit, secrets};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../functions/wit",
        inline: "
            package eyot:given;
            world given {
                import eyot:edge/client@0.1.0;
                import eyot:edge/here@0.1.0;
                import eyot:edge/budget@0.1.0;
                import eyot:edge/secrets@0.1.0;
                import eyot:edge/rate-limit@0.1.0;
                import eyot:edge/cache@0.1.0;
            }
        ",
        world: "eyot:given/given",
        imports: {
            "eyot:edge/cache.purge": async | trappable,
            default: trappable,
        },
        require_store_data_send: true,
    });
}

/// A key of a rate limit or of the cache is no longer, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// Keys of one response, or of one object.
pub(super) const KEYS_MAX: usize = 64;
/// A window lasts at least and at most, in milliseconds.
const WINDOW_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
/// A response is kept at most a year, in milliseconds.
const KEEP_MS_MAX: u64 = 366 * 86_400_000;
/// A URL to purge is no longer, in bytes.
const URL_BYTES_MAX: usize = 2_048;

pub(super) fn add_to_linker<T: Hosts>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    client::add_to_linker::<T, Lent>(linker, T::view)?;
    here::add_to_linker::<T, Lent>(linker, T::view)?;
    budget::add_to_linker::<T, Lent>(linker, T::view)?;
    secrets::add_to_linker::<T, Lent>(linker, T::view)?;
    rate_limit::add_to_linker::<T, Lent>(linker, T::view)?;
    cache::add_to_linker::<T, Lent>(linker, T::view)
}

impl client::Host for View<'_> {
    fn current(&mut self) -> wasmtime::Result<Option<client::Connection>> {
        let client = self.host.edge.facts().client;
        Ok(client.map(|it| client::Connection {
            address: it.address.to_string(),
            protocol: match it.protocol {
                eyot_plan::arrival::Protocol::H1 => client::Protocol::H1,
                eyot_plan::arrival::Protocol::H2 => client::Protocol::H2,
                eyot_plan::arrival::Protocol::H3 => client::Protocol::H3,
            },
            tls: it.tls.map(|tls| client::Tls {
                version: tls.version.label().to_owned(),
                sni: tls.sni,
                early_data: it.early,
            }),
        }))
    }

    fn geo(&mut self) -> wasmtime::Result<Option<client::Location>> {
        Ok(self.host.edge.geo().map(|geo| client::Location {
            country: geo.country,
            region: geo.region,
            city: geo.city,
            latitude: geo.latitude,
            longitude: geo.longitude,
            asn: geo.asn,
        }))
    }
}

impl here::Host for View<'_> {
    fn called_by(&mut self) -> wasmtime::Result<here::Caller> {
        Ok(match self.host.edge.facts().caller {
            Caller::Event => here::Caller::Event,
            Caller::Function(name) => here::Caller::Function(name.to_string()),
            Caller::Public => here::Caller::Public,
        })
    }

    fn current(&mut self) -> wasmtime::Result<here::Place> {
        let facts = self.host.edge.facts();
        let function = self.host.function.as_deref();
        Ok(here::Place {
            node: facts.node,
            region: facts.region,
            app: function.map(|function| function.app.to_string()).unwrap_or_default(),
            release: function.map_or(0, |function| function.release),
            function: function.map(|function| function.name.to_string()).unwrap_or_default(),
            request_id: self.host.request_id.clone(),
        })
    }
}

impl budget::Host for View<'_> {
    fn left(&mut self) -> wasmtime::Result<budget::Remaining> {
        let account = &self.host.account;
        let remaining = account.remaining();
        Ok(budget::Remaining {
            cpu_us: remaining.cpu_us,
            subrequests: remaining.subrequests,
            memory_bytes: self.memory_bytes_left,
            wall_ms: account.limits.wall_ms.saturating_sub(clock::ms(account.began.elapsed())),
        })
    }
}

impl secrets::Host for View<'_> {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Vec<u8>, secrets::Error>> {
        Ok(match self.host.edge.secret(&name) {
            Ok(secret) => Ok(secret.expose().to_vec()),
            Err(SecretError::NoSuchSecret) => Err(secrets::Error::NoSuchSecret),
            Err(SecretError::Unavailable) => Err(secrets::Error::Unavailable),
        })
    }
}

impl rate_limit::Host for View<'_> {
    fn take(
        &mut self,
        key: String,
        limit: u32,
        window_ms: u64,
        cost: u32,
    ) -> wasmtime::Result<Result<rate_limit::Outcome, rate_limit::Error>> {
        if key.len() > KEY_BYTES_MAX || limit == 0 || cost == 0 || !WINDOW_MS.contains(&window_ms) {
            return Ok(Err(rate_limit::Error::Invalid));
        }
        let rated = self.host.edge.rate(&Rate { key: &key, limit, window_ms, cost });
        Ok(Ok(rate_limit::Outcome { allowed: rated.allowed, remaining: rated.remaining, reset_ms: rated.reset_ms }))
    }
}

type Cached = wasmtime::Result<Result<(), cache::Error>>;

impl cache::Host for View<'_> {
    fn add_keys(&mut self, keys: Vec<String>) -> Cached {
        if keys.len() > KEYS_MAX || !keys.iter().all(|key| is_key(key)) {
            return Ok(Err(cache::Error::Invalid));
        }
        self.host.edge.hint(Hint::Keys(keys));
        Ok(Ok(()))
    }

    fn keep(&mut self, ms: u64) -> Cached {
        if ms > KEEP_MS_MAX {
            return Ok(Err(cache::Error::Invalid));
        }
        self.host.edge.hint(Hint::Ttl(ms));
        Ok(Ok(()))
    }

    async fn purge(&mut self, what: cache::Target, soft: bool) -> Cached {
        let what = match what {
            cache::Target::App => Purged::App,
            cache::Target::Key(key) if is_key(&key) => Purged::Key(key),
            cache::Target::Url(url) if is_url(&url) => Purged::Url(url),
            cache::Target::Key(_) | cache::Target::Url(_) => return Ok(Err(cache::Error::Invalid)),
        };
        let purged = self.host.purge(Purge { what, soft }).await;
        Ok(purged.map_err(|error| match error {
            PurgeError::NotPermitted => cache::Error::NotPermitted,
            PurgeError::Unavailable => cache::Error::Unavailable,
        }))
    }
}

pub(super) fn is_key(key: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len()) && !key.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn is_url(url: &str) -> bool {
    url.len() <= URL_BYTES_MAX
        && url.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_cache_is_a_word_and_a_url_is_absolute() {
        let (long, longer) = ("k".repeat(KEY_BYTES_MAX), "k".repeat(KEY_BYTES_MAX + 1));
        for (key, good) in [("shop:7", true), ("é", true), (&long, true), (&longer, false), ("", false), ("a b", false)]
        {
            assert_eq!(is_key(key), good, "{key}");
        }
        assert!(!is_key("a\u{7f}"));
        for (url, good) in [
            ("https://shop.example/a?b", true),
            ("http://shop.example:8080", true),
            ("ftp://shop.example/", false),
            ("/a", false),
            ("https:///a", false),
        ] {
            assert_eq!(is_url(url), good, "{url}");
        }
        assert!(!is_url(&format!("https://shop.example/{}", "x".repeat(URL_BYTES_MAX))));
    }
}
