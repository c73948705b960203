//! JSON Web Tokens signed by Ed25519: who the bearer is, if the token holds.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;

/// Longer tokens are not looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 8 << 10;

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// When it ends, in seconds since 1970. A token without an end is none.
    exp: u64,
    #[serde(default)]
    nbf: u64,
}

/// The subject of a token that `key` (base64url) signed and that holds at `now`, in seconds since 1970.
pub fn verify(token: &str, key: &str, now: u64) -> Result<String, &'static str> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err("too long");
    }
    let claims = signed(token, key)?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| "its claims are incomplete")?;
    match claims {
        Claims { exp, .. } if now >= exp => Err("it has ended"),
        Claims { nbf, .. } if now < nbf => Err("it has not begun"),
        Claims { sub, .. } => Ok(sub),
    }
}

/// What was signed, if the signature holds.
fn signed(token: &str, key: &str) -> Result<Vec<u8>, &'static str> {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("it is no token");
    };
    let decode = |text| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| "it is no base64url");
    // What the token says of its own algorithm is not a choice: it has to be the one that is expected.
    let said: Header = serde_json::from_slice(&decode(header)?).map_err(|_| "its header is incomplete")?;
    if said.alg != "EdDSA" {
        return Err("it is not signed by Ed25519");
    }
    let key: [u8; 32] = decode(key)?.try_into().map_err(|_| "the key is none")?;
    let key = VerifyingKey::from_bytes(&key).map_err(|_| "the key is none")?;
    let signature = Signature::from_slice(&decode(signature)?).map_err(|_| "its signature is none")?;
    let text = &token.as_bytes()[..header.len() + 1 + claims.len()];
    key.verify_strict(text, &signature).map_err(|_| "its signature does not hold")?;
    decode(claims)
}
