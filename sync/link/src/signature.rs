//! HTTP message signatures (RFC 9421) of publishers' and operators' requests, with the same Ed25519 keys that sign TUF
//! metadata: there is no second kind of credential.
//!
//! One profile: the label `eyot`; the components `@method`, `@authority`, `@path`, `@query` and `content-digest`
//! (RFC 9530, `sha-256` only), in this order; the parameters `created`, `keyid`, `nonce`, `alg="ed25519"` and
//! `tag="eyot"`, in any order, each once. All else is refused, so there is nothing that a signature does not cover.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use eyot_bundle::digest::Digest;
use eyot_bundle::sign::{Key, PublicKey};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The field that holds the digest of the body.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// The field that holds the signature's parameters.
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// The field that holds the signature.
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// A signature is good for this long before and after its `created`, and its nonce is kept as long, in seconds.
pub const WINDOW_S: i64 = 300;

/// The components that are signed, as they stand in the parameters.
const COMPONENTS: &str = r#"("@method" "@authority" "@path" "@query" "content-digest")"#;

/// What a signature covers, besides the digest of the body.
#[derive(Clone, Copy, Debug)]
pub struct Covered<'a> {
    /// The method.
    pub method: &'a str,
    /// Host and port as in the URL.
    pub authority: &'a str,
    /// The path.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
}

/// Why a request's signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("the request is not signed")]
    Absent,
    /// It was made too long ago, or in the future.
    #[error("the signature was made more than {WINDOW_S} s from now")]
    Clock,
    /// It is not of the one profile.
    #[error("the signature fields are malformed: {0}")]
    Malformed(&'static str),
    /// It is not the key's signature over this request.
    #[error("the signature does not match the request")]
    Wrong,
}

/// The three fields of a signed request.
#[derive(Clone, Debug)]
pub struct Fields {
    /// `Content-Digest`.
    pub content_digest: HeaderValue,
    /// `Signature-Input`.
    pub signature_input: HeaderValue,
    /// `Signature`.
    pub signature: HeaderValue,
}

impl Fields {
    /// Puts them among a request's header fields.
    pub fn insert_into(self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_DIGEST, self.content_digest);
        headers.insert(SIGNATURE_INPUT, self.signature_input);
        headers.insert(SIGNATURE, self.signature);
    }
}

/// Signs a request. `created_s` is in seconds since 1970.
///
/// # Errors
/// [`SignatureError::Malformed`] if `nonce` cannot stand in a field.
pub fn sign(
    covered: &Covered<'_>,
    body: Digest,
    created_s: i64,
    nonce: &str,
    key: &Key,
) -> Result<Fields, SignatureError> {
    let key_id = key.id();
    let content_digest = format!("sha-256=:{}:", STANDARD.encode(body.as_bytes()));
    let parameters =
        format!(r#"{COMPONENTS};created={created_s};keyid="{key_id}";nonce="{nonce}";alg="ed25519";tag="eyot""#);
    let signature = key.sign(&base(covered, &content_digest, &parameters));
    let field = |text: String| HeaderValue::try_from(text).map_err(|_| SignatureError::Malformed("a field"));
    Ok(Fields {
        content_digest: field(content_digest)?,
        signature_input: field(format!("eyot={parameters}"))?,
        signature: field(format!("eyot=:{}:", STANDARD.encode(signature)))?,
    })
}

/// What a request says of its signature. It is proven only by [`Claim::check`], and its body only by its digest.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The TUF id of the key.
    pub key_id: String,
    /// Unique among the key's requests of the last [`WINDOW_S`].
    pub nonce: String,
    /// What the body must digest to.
    pub body: Digest,
    /// When it says it was made, in seconds since 1970.
    pub created_s: i64,
    base: Vec<u8>,
    signature: Vec<u8>,
}

impl Claim {
    /// Reads the claim of a request.
    ///
    /// # Errors
    /// [`SignatureError::Absent`], [`SignatureError::Malformed`].
    pub fn read(covered: &Covered<'_>, headers: &HeaderMap) -> Result<Self, SignatureError> {
        if !headers.contains_key(SIGNATURE_INPUT) {
            return Err(SignatureError::Absent);
        }
        let content_digest = one(headers, &CONTENT_DIGEST)?;
        let input = one(headers, &SIGNATURE_INPUT)?;
        let parameters = input.strip_prefix("eyot=").ok_or(SignatureError::Malformed("the label is not `eyot`"))?;
        let signature = one(headers, &SIGNATURE)?;
        let signature = bytes_between(signature, "eyot=:").ok_or(SignatureError::Malformed("signature"))?;
        let body = bytes_between(content_digest, "sha-256=:")
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or(SignatureError::Malformed("content-digest is not one sha-256"))?;
        let Parameters { created_s, key_id, nonce } = Parameters::read(parameters)?;
        let base = base(covered, content_digest, parameters);
        Ok(Self { key_id, nonce, body: Digest::from_bytes(body), created_s, base, signature })
    }

    /// Proves the claim with the key that [`Self::key_id`] names. `now_s` is in seconds since 1970.
    ///
    /// # Errors
    /// [`SignatureError::Wrong`], [`SignatureError::Clock`].
    pub fn check(&self, key: PublicKey, now_s: i64) -> Result<(), SignatureError> {
        if !key.verify(&self.base, &self.signature) {
            return Err(SignatureError::Wrong);
        }
        if self.created_s.abs_diff(now_s) > WINDOW_S.unsigned_abs() {
            return Err(SignatureError::Clock);
        }
        Ok(())
    }
}

/// The parameters of the one profile.
struct Parameters {
    created_s: i64,
    key_id: String,
    nonce: String,
}

impl Parameters {
    fn read(text: &str) -> Result<Self, SignatureError> {
        let rest = text.strip_prefix(COMPONENTS).ok_or(SignatureError::Malformed("other components are signed"))?;
        let rest = rest.strip_prefix(';').ok_or(SignatureError::Malformed("no parameters"))?;
        let (mut created, mut key_id, mut nonce, mut alg, mut tag) = (None, None, None, None, None);
        for parameter in rest.split(';') {
            let (name, value) = parameter.split_once('=').ok_or(SignatureError::Malformed("a parameter"))?;
            let slot = match name {
                "alg" => &mut alg,
                "created" => &mut created,
                "keyid" => &mut key_id,
                "nonce" => &mut nonce,
                "tag" => &mut tag,
                _ => return Err(SignatureError::Malformed("an unknown parameter")),
            };
            if slot.replace(value).is_some() {
                return Err(SignatureError::Malformed("a parameter stands twice"));
            }
        }
        if alg != Some(r#""ed25519""#) || tag != Some(r#""eyot""#) {
            return Err(SignatureError::Malformed("alg or tag"));
        }
        let created = created.and_then(|text| text.parse().ok()).ok_or(SignatureError::Malformed("created"))?;
        Ok(Self {
            created_s: created,
            key_id: token(key_id, 64..=64).ok_or(SignatureError::Malformed("keyid"))?,
            nonce: token(nonce, 16..=64).ok_or(SignatureError::Malformed("nonce"))?,
        })
    }
}

/// A quoted text of letters, digits, `-` and `_`, of a length in `lengths`.
fn token(value: Option<&str>, lengths: std::ops::RangeInclusive<usize>) -> Option<String> {
    let inner = value?.strip_prefix('"')?.strip_suffix('"')?;
    let plain = inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    (plain && lengths.contains(&inner.len())).then(|| inner.to_owned())
}

/// The one value of a field that must stand once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, SignatureError> {
    let mut all = headers.get_all(name).iter();
    match (all.next().and_then(|value| value.to_str().ok()), all.next()) {
        (Some(value), None) if value.len() <= 1024 => Ok(value),
        _ => Err(SignatureError::Malformed("a field is absent, too long, or stands twice")),
    }
}

/// The bytes of `<prefix><base64>:` (RFC 8941, section 3.3.5).
fn bytes_between(text: &str, prefix: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.strip_prefix(prefix)?.strip_suffix(':')?).ok()
}

/// The signature base of RFC 9421, section 2.5.
fn base(covered: &Covered<'_>, content_digest: &str, parameters: &str) -> Vec<u8> {
    let authority = covered.authority.to_ascii_lowercase();
    // RFC 9421, section 2.2.3: the default port is left out. Every scheme here is https.
    let authority = authority.strip_suffix(":443").unwrap_or(&authority);
    format!(
        "\"@method\": {}\n\"@authority\": {authority}\n\"@path\": {}\n\"@query\": ?{}\n\"content-digest\": {content_digest}\n\"@signature-params\": {parameters}",
        covered.method,
        covered.path,
        covered.query.unwrap_or_default(),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const COVERED: Covered<'_> =
        Covered { method: "POST", authority: "origin.example:7443", path: "/v1/apps/shop/releases", query: None };

    fn key() -> Key {
        Key::from_pem(
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n",
        )
        .expect("the key of RFC 8032, section 7.1")
    }

    fn signed() -> HeaderMap {
        let mut headers = HeaderMap::new();
        let body = Digest::of(b"body");
        sign(&COVERED, body, NOW, "0123456789abcdef", &key()).expect("a signature").insert_into(&mut headers);
        headers
    }

    fn check(covered: &Covered<'_>, headers: &HeaderMap, now_s: i64) -> Result<Digest, SignatureError> {
        let claim = Claim::read(covered, headers)?;
        claim.check(key().public(), now_s).map(|()| claim.body)
    }

    #[test]
    fn a_signed_request_is_proven_within_its_window_and_only_there() {
        let headers = signed();
        assert_eq!(check(&COVERED, &headers, NOW), Ok(Digest::of(b"body")));
        for off in [-WINDOW_S, WINDOW_S] {
            assert!(check(&COVERED, &headers, NOW + off).is_ok());
        }
        for off in [-WINDOW_S - 1, WINDOW_S + 1, i64::MAX - NOW] {
            assert_eq!(check(&COVERED, &headers, NOW + off), Err(SignatureError::Clock));
        }
        assert_eq!(check(&COVERED, &HeaderMap::new(), NOW), Err(SignatureError::Absent));
    }

    #[test]
    fn a_signature_is_for_one_method_authority_path_query_and_body() {
        let headers = signed();
        let others = [
            Covered { method: "PUT", ..COVERED },
            Covered { authority: "other.example:7443", ..COVERED },
            Covered { path: "/v1/apps/other/releases", ..COVERED },
            Covered { query: Some("x=1"), ..COVERED },
        ];
        for other in others {
            assert_eq!(check(&other, &headers, NOW), Err(SignatureError::Wrong), "{other:?}");
        }
        let mut swapped = headers;
        let digest = format!("sha-256=:{}:", STANDARD.encode(Digest::of(b"other").as_bytes()));
        swapped.insert(CONTENT_DIGEST, HeaderValue::try_from(digest).expect("a field"));
        assert_eq!(check(&COVERED, &swapped, NOW), Err(SignatureError::Wrong));
    }

    #[test]
    fn what_is_not_of_the_one_profile_is_refused_before_any_key_is_asked() {
        let good = signed();
        let input = good[SIGNATURE_INPUT].to_str().expect("text").to_owned();
        let bad = [
            input.replace("eyot=(", "sig1=("),
            input.replace(" \"content-digest\"", ""),
            input.replace(";alg=\"ed25519\"", ""),
            input.replace("ed25519", "hmac-sha256"),
            format!("{input};created=1"),
            format!("{input};expires=1"),
            input.replace("0123456789abcdef", "short"),
            input.replace("0123456789abcdef", "0123456789abcde\\"),
            input.replace("created=", "created=x"),
        ];
        for input in bad {
            let mut headers = good.clone();
            headers.insert(SIGNATURE_INPUT, HeaderValue::try_from(&input).expect("a field"));
            assert!(matches!(check(&COVERED, &headers, NOW), Err(SignatureError::Malformed(_))), "{input}");
        }
        let mut twice = good;
        let value = twice[SIGNATURE].clone();
        twice.append(SIGNATURE, value);
        assert!(matches!(check(&COVERED, &twice, NOW), Err(SignatureError::Malformed(_))));
    }
}
