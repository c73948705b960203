//! What two nodes share by their identities, without ever having spoken: the key of proofs between them.

use std::fmt;

use age::secrecy::{ExposeSecret as _, SecretSlice};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hkdf, hmac};

use super::{Identity, Recipient};

/// What keys are derived with, apart from all else that identities are used for.
const SALT: &[u8] = b"eyot-shared/1";

impl Identity {
    /// A key that only this identity and the one of `other` can know (X25519, RFC 7748, section 6.1; HKDF, RFC 5869), for the
    /// use that `label` names. None: `other` is no point that has one.
    pub fn shared(&self, other: &Recipient, label: &[u8]) -> Option<Shared> {
        let own = SecretSlice::from(bech32::decode(self.to_text().expose_secret()).ok()?.1);
        let (_, other) = bech32::decode(&other.to_string()).ok()?;
        let own = PrivateKey::from_private_key(&X25519, own.expose_secret()).ok()?;
        let derive = |secret: &[u8]| {
            let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret);
            let mut key = [0; 32];
            extracted.expand(&[label], hkdf::HKDF_SHA256)?.fill(&mut key)?;
            Ok(Shared(hmac::Key::new(hmac::HMAC_SHA256, &key)))
        };
        agree(&own, UnparsedPublicKey::new(&X25519, other), Unspecified, derive).ok()
    }
}

/// A key that two identities share. It shows itself to nobody.
#[derive(Clone)]
pub struct Shared(hmac::Key);

impl Shared {
    /// The HMAC-SHA256 of `text` (RFC 2104).
    pub fn tag(&self, text: &[u8]) -> [u8; 32] {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.0, text).as_ref());
        tag
    }

    /// Whether `tag` is that of `text`, in a time that tells nothing.
    pub fn is_tag(&self, text: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, text, tag).is_ok()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_identities_share_a_key_that_no_third_has_and_each_use_has_its_own() {
        let [one, two, three] = [(); 3].map(|()| Identity::generate());
        let here = one.shared(&two.recipient(), b"use").expect("a key");
        let there = two.shared(&one.recipient(), b"use").expect("a key");
        let tag = here.tag(b"text");
        assert!(there.is_tag(b"text", &tag) && here.is_tag(b"text", &there.tag(b"text")));
        assert!(!there.is_tag(b"texT", &tag) && !there.is_tag(b"text", &tag[..31]) && !there.is_tag(b"text", b""));
        for other in [
            three.shared(&two.recipient(), b"use"),
            three.shared(&one.recipient(), b"use"),
            one.shared(&three.recipient(), b"use"),
            one.shared(&one.recipient(), b"use"),
            one.shared(&two.recipient(), b"another use"),
        ] {
            assert!(!other.expect("a key").is_tag(b"text", &tag));
        }
        assert_eq!(format!("{here:?}"), "Shared(…)");
    }
}
