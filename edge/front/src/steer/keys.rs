//! The keys by which QUIC recognises what it once said: stateless resets and address tokens. All endpoints of a node
//! share them, and each generation hands them to the next; they are never any other node's.

use core::fmt;
use std::sync::Arc;

use aws_lc_rs::{hkdf, hmac};
use quinn::crypto::{HandshakeTokenKey, HmacKey};

/// The length of each key.
const KEY_BYTES: usize = 32;

/// The keys of a node's QUIC endpoints.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    reset: [u8; KEY_BYTES],
    token: [u8; KEY_BYTES],
}

impl Keys {
    /// The length of [`Keys::to_bytes`].
    pub const BYTES: usize = 2 * KEY_BYTES;

    /// New ones.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; Self::BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| std::io::Error::other("the system has no randomness"))?;
        Ok(Self::from_bytes(bytes))
    }

    /// Those that another process had.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let mut keys = Self { reset: [0; KEY_BYTES], token: [0; KEY_BYTES] };
        keys.reset.copy_from_slice(&bytes[..KEY_BYTES]);
        keys.token.copy_from_slice(&bytes[KEY_BYTES..]);
        keys
    }

    /// For the process that takes over, and nobody else.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..KEY_BYTES].copy_from_slice(&self.reset);
        bytes[KEY_BYTES..].copy_from_slice(&self.token);
        bytes
    }

    pub(crate) fn reset(&self) -> Arc<dyn HmacKey> {
        Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &self.reset))
    }

    pub(crate) fn token(&self) -> Arc<dyn HandshakeTokenKey> {
        Arc::new(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&self.token))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(masked)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_over_as_bytes_and_are_not_shown() {
        let keys = Keys::random().expect("randomness");
        assert_eq!(Keys::from_bytes(keys.to_bytes()), keys);
        assert_ne!(Keys::random().expect("randomness"), keys);
        assert_eq!(format!("{keys:?}"), "Keys(masked)");
    }
}
