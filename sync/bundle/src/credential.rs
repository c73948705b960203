//! Hashes of passwords and tokens, so that a release has none that can be used. Each is compared in constant time.
//!
//! A password is `pbkdf2-sha256$<iterations>$<salt>$<hash>` (RFC 8018, section 5.2; salt and hash in base64): guessing one
//! costs work. A token is `sha256$<64 hexadecimal digits>`: it is long and random, so one round is enough.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::digest::Digest;

/// Fewer rounds than this cost nobody anything.
pub const ITERATIONS_MIN: u32 = 10_000;
/// More rounds than this cost the node too much.
pub const ITERATIONS_MAX: u32 = 1_000_000;
const SALT_BYTES_MIN: usize = 8;
const SALT_BYTES_MAX: usize = 64;
const HASH_BYTES: usize = 32;

/// The hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: [u8; HASH_BYTES],
}

/// The hash of a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Digest);

/// Why a text is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CredentialError(&'static str);

impl Password {
    /// The hash of `password` with this salt, after so many rounds.
    ///
    /// # Errors
    /// When the rounds or the salt are outside their bounds.
    pub fn of(password: &[u8], salt: &[u8], iterations: u32) -> Result<Self, CredentialError> {
        let mut hash = [0; HASH_BYTES];
        let made = Self::new(iterations, salt.to_vec(), hash)?;
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, made.iterations, salt, password, &mut hash);
        Ok(Self { hash, ..made })
    }

    fn new(iterations: u32, salt: Vec<u8>, hash: [u8; HASH_BYTES]) -> Result<Self, CredentialError> {
        let within = (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations);
        let iterations = NonZeroU32::new(iterations).filter(|_| within);
        let iterations = iterations.ok_or(CredentialError("the rounds are outside 10000 to 1000000"))?;
        if !(SALT_BYTES_MIN..=SALT_BYTES_MAX).contains(&salt.len()) {
            return Err(CredentialError("the salt is outside 8 to 64 bytes"));
        }
        Ok(Self { iterations, salt, hash })
    }

    /// Whether this is the password. It takes as long as the rounds take, whatever is asked.
    pub fn is(&self, password: &[u8]) -> bool {
        pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, self.iterations, &self.salt, password, &self.hash).is_ok()
    }
}

impl FromStr for Password {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let form =
            CredentialError("is no hash of a password: `pbkdf2-sha256$<rounds>$<salt>$<hash>`, see docs/policy.md");
        let mut parts = text.split('$');
        let (Some("pbkdf2-sha256"), Some(rounds), Some(salt), Some(hash), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(form);
        };
        let plain = |text: &str| STANDARD_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| form.clone());
        let iterations = rounds.parse().map_err(|_| form.clone())?;
        let hash = plain(hash)?.try_into().map_err(|_| form.clone())?;
        Self::new(iterations, plain(salt)?, hash)
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, hash) = (STANDARD_NO_PAD.encode(&self.salt), STANDARD_NO_PAD.encode(self.hash));
        write!(f, "pbkdf2-sha256${}${salt}${hash}", self.iterations)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Token {
    /// The hash of `token`.
    pub fn of(token: &[u8]) -> Self {
        Self(Digest::of(token))
    }

    /// Whether both are hashes of the same token.
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl FromStr for Token {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let digest = text.strip_prefix("sha256$").and_then(|digits| digits.parse().ok());
        digest
            .map(Self)
            .ok_or(CredentialError("is no hash of a token: `sha256$<64 hexadecimal digits>`, see docs/policy.md"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hashlib.pbkdf2_hmac("sha256", b"open sesame", b"0123456789abcdef", 10000)` of Python.
    const MADE: &str = "pbkdf2-sha256$10000$MDEyMzQ1Njc4OWFiY2RlZg$I1fRzPdik5F+m1JYkXkqwnEmFt/dm1VokeoVyG9DVvs";

    #[test]
    fn a_password_is_known_by_the_hash_that_others_make_of_it() {
        let made = Password::of(b"open sesame", b"0123456789abcdef", 10_000).unwrap();
        assert_eq!(made.to_string(), MADE);
        let read: Password = MADE.parse().unwrap();
        assert!(read.is(b"open sesame"));
        for other in [&b"open sesam"[..], b"open sesame ", b"Open sesame", b""] {
            assert!(!read.is(other));
        }
        assert!(format!("{MADE}=").parse::<Password>().is_ok(), "padded, as others write base64");
        assert_eq!(format!("{read:?}"), "Password(…)");
    }

    #[test]
    fn a_token_is_known_by_its_digest() {
        let token: Token = "sha256$ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".parse().unwrap();
        assert!(token.is(&Token::of(b"abc")) && !token.is(&Token::of(b"abd")));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let rounds = |rounds: &str| MADE.replace("$10000$", &format!("${rounds}$"));
        let texts = ["9999", "1000001", "-1", "", "4294967297"].map(rounds);
        for text in
            texts.iter().map(String::as_str).chain(["", "secret", "pbkdf2-sha256$10000$MDEy$MDEy", "$$$", "sha256$abc"])
        {
            assert!(text.parse::<Password>().is_err(), "{text}");
        }
        for text in ["", "abc", "sha256$abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"] {
            assert!(text.parse::<Token>().is_err(), "{text}");
        }
    }
}
