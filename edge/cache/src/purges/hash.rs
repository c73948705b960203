//! What a purge names, as 128 bits that only this app can mean.

use aws_lc_rs::digest::{Context, SHA256};
use http::Uri;

/// A URL or a surrogate key of one app: the first half of a SHA-256 over kind, app and value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; Self::BYTES]);

impl Hash {
    /// Its size.
    pub const BYTES: usize = 16;

    /// Of a URL in the form that `eyot_plan::request` gives it: what a request asked for, or `eyot_plan::request::url` of
    /// what somebody wrote.
    pub fn url(app: &str, url: &Uri) -> Self {
        let scheme = url.scheme_str().unwrap_or_default();
        let authority = url.authority().map_or("", http::uri::Authority::as_str);
        let path = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Self::of(b"url", [app, scheme, authority, path])
    }

    /// Of a surrogate key.
    pub fn key(app: &str, key: &str) -> Self {
        Self::of(b"key", [app, key])
    }

    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// From the hexadecimal digits that it shows itself as.
    pub fn parse(text: &str) -> Option<Self> {
        let number = u128::from_str_radix(text, 16).ok()?;
        (text.len() == 2 * Self::BYTES && !text.starts_with('+')).then(|| Self(number.to_be_bytes()))
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Each part behind its length, so that no two lists of parts are one text.
    fn of<const N: usize>(kind: &[u8], parts: [&str; N]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(kind);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut out = [0; Self::BYTES];
        out.copy_from_slice(&context.finish().as_ref()[..Self::BYTES]);
        Self(out)
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_app_and_each_kind_of_name_has_hashes_of_its_own() {
        let url = |text: &str| Hash::url("shop", &text.parse().expect("a URL"));
        let all = [
            Hash::key("shop", "a"),
            Hash::key("shop", "b"),
            Hash::key("sho", "pa"),
            Hash::key("other", "a"),
            url("https://a.example/"),
            url("https://a.example/?"),
            url("http://a.example/"),
            url("https://a.example:81/"),
            url("https://b.example/"),
            Hash::url("other", &"https://a.example/".parse().expect("a URL")),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(url("https://a.example"), url("https://a.example/"));
        for hash in all {
            assert_eq!(Hash::parse(&format!("{hash:?}")), Some(hash));
        }
        for text in ["", "0", "+0000000000000000000000000000000", "0000000000000000000000000000000g", &"0".repeat(33)] {
            assert_eq!(Hash::parse(text), None, "{text}");
        }
    }
}
