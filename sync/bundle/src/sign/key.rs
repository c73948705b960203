//! Ed25519 keys as TUF names them. Private halves are PEM PKCS#8 outside and masked in `Debug`.

use std::fmt;

use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::canonical::covered;
use crate::digest::Digest;

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
/// PKCS#8 v1 of an Ed25519 key up to its 32 bytes of seed (RFC 8410).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness.
    #[error("no key could be made: the system gave no randomness")]
    Random,
    /// The text is no Ed25519 key.
    #[error("this is no Ed25519 private key in PEM (PKCS#8)")]
    Text,
}

/// A signing key.
pub struct Key {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl Key {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate().map_err(|_| KeyError::Random).and_then(Self::of)
    }

    /// The key in `text`: one PEM block of PKCS#8, version 1 or 2.
    ///
    /// # Errors
    /// [`KeyError::Text`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let inner = text.trim().strip_prefix(PEM_BEGIN).and_then(|rest| rest.strip_suffix(PEM_END));
        let inner: String = inner.ok_or(KeyError::Text)?.split_ascii_whitespace().collect();
        let der = STANDARD.decode(inner).map_err(|_| KeyError::Text)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| KeyError::Text)?;
        Self::of(pair)
    }

    fn of(pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let raw = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Text)?;
        Ok(Self { pair, public: PublicKey(raw) })
    }

    /// The key as PEM. Whoever reads it holds the key.
    ///
    /// # Errors
    /// [`KeyError::Text`] if the library does not give its seed.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let seed = self.pair.seed().map_err(|_| KeyError::Text)?;
        let seed: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(|_| KeyError::Text)?;
        let der = [&PKCS8_PREFIX[..], seed.as_ref()].concat();
        Ok(format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", STANDARD.encode(der)))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The TUF id of the public half.
    pub fn id(&self) -> String {
        self.public.id()
    }

    /// The signature over `bytes`, 64 bytes.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(bytes).as_ref().to_vec()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

/// The public half of a [`Key`], 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key whose 32 bytes are `hex`.
    pub fn from_hex(hex: &str) -> Option<Self> {
        hex.parse::<Digest>().ok().map(|bytes| Self(*bytes.as_bytes()))
    }

    /// Its bytes in lower-case hexadecimal digits, as TUF writes them.
    pub fn to_hex(self) -> String {
        Digest::from_bytes(self.0).to_string()
    }

    /// The TUF key id: SHA-256 over the canonical JSON of the key object, as securesystemslib has it.
    pub fn id(self) -> String {
        let bytes = covered(&self.object()).expect("an object of texts is canonical JSON");
        Digest::of(&bytes).to_string()
    }

    /// Whether `signature` is this key's over `bytes`.
    pub fn verify(self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(bytes, signature).is_ok()
    }

    /// The TUF key object.
    pub(super) fn object(self) -> Value {
        json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": self.to_hex()}})
    }

    /// The key in a TUF key object, if it is an Ed25519 one.
    pub(crate) fn of(key: &sigstore_tuf::Key) -> Option<Self> {
        (key.keytype == "ed25519").then(|| Self::from_hex(&key.keyval.public)).flatten()
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> serde::Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Digest::deserialize(deserializer).map(|bytes| Self(*bytes.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seed of RFC 8032, section 7.1, test 1, in PKCS#8.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpe\nzJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    #[test]
    fn a_key_reads_back_from_pem_and_signs_as_rfc_8032_says() {
        let key = Key::from_pem(PEM).unwrap();
        assert_eq!(key.public().to_hex(), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(key.sign(b"")[..4], [0xe5, 0x56, 0x43, 0x00]);
        let again = Key::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(again.public(), key.public());
        assert!(key.public().verify(b"a", &again.sign(b"a")) && !key.public().verify(b"b", &again.sign(b"a")));
    }

    #[test]
    fn an_id_is_what_tuf_makes_of_the_key_object() {
        let key = Key::generate().unwrap();
        let object: sigstore_tuf::Key = serde_json::from_value(key.public().object()).unwrap();
        assert_eq!(object.key_id().unwrap(), key.id());
        assert_eq!(PublicKey::of(&object), Some(key.public()));
    }

    #[test]
    fn the_seed_is_never_shown() {
        let key = Key::from_pem(PEM).unwrap();
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("Key({})", key.id()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let cut = PEM.replace("MC4C", "MC4D");
        for text in ["", "-----BEGIN PRIVATE KEY-----", &cut, &PEM.replace("PRIVATE", "PUBLIC")] {
            assert_eq!(Key::from_pem(text).err(), Some(KeyError::Text), "{text}");
        }
    }
}
