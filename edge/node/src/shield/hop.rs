//! What one node tells another whom it asks in its stead, and the proof that it is one: a field of the request that only
//! these two can make. Pure; every byte of it is hostile until its proof is checked.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use eyot_bundle::secret::Shared;
use serde::{Deserialize, Serialize};

/// The use that the key of two nodes is derived for.
pub(super) const LABEL: &[u8] = b"shield/1";
/// The field has so many bytes at most.
const FIELD_BYTES_MAX: usize = 24 << 10;
/// How far the clocks of two nodes may be apart, and how long a request may be on its way, in milliseconds.
pub(super) const APART_MS_MAX: u64 = 60_000;

/// What is told with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hop {
    /// The node that asks.
    pub(crate) from: Name,
    /// The node that is asked.
    pub(crate) to: Name,
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// The app.
    pub(crate) app: Name,
    /// The route, by its id.
    pub(crate) route: String,
    /// What both must have from their releases for this: [`super::likeness`].
    pub(crate) like: Digest,
    /// The method.
    pub(crate) method: String,
    /// The URL that the target is to be asked for.
    pub(crate) url: String,
    /// The URL that the client asked for.
    pub(crate) asked: String,
    /// The client.
    pub(crate) client: SocketAddr,
    /// How far the node that asks is with the purges of its parents: the log and the number in it.
    pub(crate) purged: Option<(u128, u64)>,
    /// When something was purged or changed there last that others may not know to be, in milliseconds since 1970; 0: never.
    pub(crate) alone_ms: u64,
}

/// Why a field proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unproven {
    /// It is not what a node writes.
    #[error("it is not what a node writes")]
    Malformed,
    /// It is for another node.
    #[error("it is for another node")]
    Elsewhere,
    /// No node of the fleet that may ask has written it.
    #[error("no node of this fleet has written it")]
    Stranger,
    /// It is of another time.
    #[error("it is of another time")]
    Old,
}

impl Hop {
    /// The field's value. None: it would be too long.
    pub(super) fn seal(&self, key: &Shared) -> Option<String> {
        let mut text = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).ok()?);
        let tag = BASE64_URL_SAFE_NO_PAD.encode(key.tag(text.as_bytes()));
        text.push('.');
        text.push_str(&tag);
        (text.len() <= FIELD_BYTES_MAX).then_some(text)
    }

    /// What a field says, if the node that it names has written it to `me`, now. `key`: what is shared with that node, if it
    /// is one that may ask.
    pub(super) fn open<'a>(
        value: &[u8],
        me: &Name,
        key: impl FnOnce(&Name) -> Option<&'a Shared>,
        now_ms: u64,
    ) -> Result<Self, Unproven> {
        if value.len() > FIELD_BYTES_MAX {
            return Err(Unproven::Malformed);
        }
        let (text, tag) =
            std::str::from_utf8(value).ok().and_then(|it| it.split_once('.')).ok_or(Unproven::Malformed)?;
        let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| Unproven::Malformed);
        let hop: Self = serde_json::from_slice(&bytes(text)?).map_err(|_| Unproven::Malformed)?;
        let key = key(&hop.from).ok_or(Unproven::Stranger)?;
        if !key.is_tag(text.as_bytes(), &bytes(tag)?) {
            return Err(Unproven::Stranger);
        }
        if hop.to != *me {
            return Err(Unproven::Elsewhere);
        }
        if now_ms.abs_diff(hop.at_ms) > APART_MS_MAX {
            return Err(Unproven::Old);
        }
        Ok(hop)
    }
}

#[cfg(test)]
mod tests {
    use eyot_bundle::secret::Identity;

    use super::*;

    fn hop() -> Hop {
        Hop {
            from: "fra-1".parse().expect("a name"),
            to: "ams-1".parse().expect("a name"),
            at_ms: 1_000_000,
            app: "shop".parse().expect("a name"),
            route: "r1".to_owned(),
            like: Digest::of(b"like"),
            method: "GET".to_owned(),
            url: "https://shop.test/a".to_owned(),
            asked: "http://shop.test/b".to_owned(),
            client: "[2001:db8::7]:4711".parse().expect("an address"),
            purged: Some((7, 12)),
            alone_ms: 3,
        }
    }

    fn keys() -> (Shared, Shared) {
        let [one, two, three] = [(); 3].map(|()| Identity::generate());
        let shared = |one: &Identity, two: &Identity| one.shared(&two.recipient(), LABEL).expect("a key");
        (shared(&one, &two), shared(&one, &three))
    }

    #[test]
    fn what_a_node_writes_its_reader_believes_for_a_minute() {
        let ((key, _), hop) = (keys(), hop());
        let field = hop.seal(&key).expect("a field");
        for (now_ms, believed) in
            [(1_000_000, true), (1_060_000, true), (940_000, true), (1_060_001, false), (0, false)]
        {
            let opened = Hop::open(field.as_bytes(), &hop.to, |from| (*from == hop.from).then_some(&key), now_ms);
            assert_eq!(opened, if believed { Ok(hop.clone()) } else { Err(Unproven::Old) }, "{now_ms}");
        }
        let elsewhere = Hop::open(field.as_bytes(), &hop.from, |_| Some(&key), hop.at_ms);
        assert_eq!(elsewhere, Err(Unproven::Elsewhere));
        assert_eq!(Hop::open(field.as_bytes(), &hop.to, |_| None, hop.at_ms), Err(Unproven::Stranger));
    }

    #[test]
    fn what_was_changed_in_any_byte_or_written_by_another_proves_nothing() {
        let ((key, other), hop) = (keys(), hop());
        let field = hop.seal(&key).expect("a field");
        for at in 0..field.len() {
            for other in [b'A', b'.', b'0', 0xff] {
                let mut changed = field.clone().into_bytes();
                if changed[at] == other {
                    continue;
                }
                changed[at] = other;
                let opened = Hop::open(&changed, &hop.to, |_| Some(&key), hop.at_ms);
                assert!(matches!(opened, Err(Unproven::Malformed | Unproven::Stranger)), "byte {at}: {opened:?}");
            }
            assert!(Hop::open(&field.as_bytes()[..at], &hop.to, |_| Some(&key), hop.at_ms).is_err(), "cut at {at}");
        }
        assert_eq!(Hop::open(field.as_bytes(), &hop.to, |_| Some(&other), hop.at_ms), Err(Unproven::Stranger));
        // Each fact is part of what is proven.
        let tag = field.split_once('.').expect("a proof").1;
        for changed in [
            Hop { route: "r2".to_owned(), ..hop.clone() },
            Hop { url: "https://shop.test/c".to_owned(), ..hop.clone() },
            Hop { client: "192.0.2.1:1".parse().expect("an address"), ..hop.clone() },
            Hop { purged: None, ..hop.clone() },
            Hop { alone_ms: 0, ..hop.clone() },
            Hop { at_ms: hop.at_ms + 1, ..hop.clone() },
        ] {
            let other = changed.seal(&other).expect("a field");
            let forged = format!("{}.{tag}", other.split_once('.').expect("a proof").0);
            assert_eq!(Hop::open(forged.as_bytes(), &hop.to, |_| Some(&key), hop.at_ms), Err(Unproven::Stranger));
        }
    }

    #[test]
    fn what_is_no_field_of_a_node_is_refused_before_anything_is_computed() {
        let (key, _) = keys();
        let long = "A".repeat(FIELD_BYTES_MAX + 1);
        let nobody = "e30.AAAA";
        for field in ["", ".", "a.b", "e30", nobody, &long] {
            let opened = Hop::open(field.as_bytes(), &hop().to, |_| Some(&key), 0);
            assert_eq!(opened, Err(Unproven::Malformed), "{field:.10}");
        }
        let too_long = Hop { url: "u".repeat(FIELD_BYTES_MAX), ..hop() };
        assert_eq!(too_long.seal(&key), None);
    }
}
