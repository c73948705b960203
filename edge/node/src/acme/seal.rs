//! What nodes say to each other through the origin, which is not trusted: sealed under a key that only nodes have, each
//! piece bound to what it is about.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// The key that the nodes of a fleet share.
#[derive(Clone, Debug)]
pub(super) struct Seal([u8; 32]);

/// Why nothing was sealed: the system gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("nothing can be sealed on this machine")]
pub(super) struct SealError;

impl Seal {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Seals `bytes`, which are about `about`: a random nonce, then the sealed bytes.
    pub(super) fn seal(&self, about: &str, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError)?;
        let mut sealed = bytes.to_vec();
        let key = self.key().ok_or(SealError)?;
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce_used, Aad::from(about.as_bytes()), &mut sealed).map_err(|_| SealError)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// The bytes, if they were sealed with this key and are about `about`.
    pub(super) fn open(&self, about: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = sealed.to_vec();
        let length = self.key()?.open_in_place(nonce, Aad::from(about.as_bytes()), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }

    fn key(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &self.0).ok().map(LessSafeKey::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_for_who_has_the_key_and_for_what_it_is_about_alone() {
        let (ours, theirs) = (Seal::new([1; 32]), Seal::new([2; 32]));
        let sealed = ours.seal("certificate a.example", b"the key").expect("sealed");
        assert_eq!(ours.open("certificate a.example", &sealed).as_deref(), Some(&b"the key"[..]));
        assert_ne!(ours.seal("certificate a.example", b"the key").expect("sealed"), sealed, "a nonce is used once");
        assert!(!sealed.windows(3).any(|window| window == b"key"));
        let mut changed = sealed.clone();
        changed[NONCE_LEN] ^= 1;
        for (seal, about, sealed) in [
            (&theirs, "certificate a.example", &sealed[..]),
            (&ours, "certificate b.example", &sealed),
            (&ours, "challenge", &sealed),
            (&ours, "certificate a.example", &changed),
            (&ours, "certificate a.example", &sealed[..NONCE_LEN]),
            (&ours, "certificate a.example", &sealed[..5]),
            (&ours, "certificate a.example", b""),
        ] {
            assert!(seal.open(about, sealed).is_none(), "{about}");
        }
    }
}
