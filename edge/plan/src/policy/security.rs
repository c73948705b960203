//! Fields by which browsers take more care, said where an answer does not say its own.

use eyot_bundle::release::policy::SecurityHeaders;
use http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields, ready to be said.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// RFC 6797, section 7.2: never said without TLS.
    hsts: Option<HeaderValue>,
    others: Vec<(HeaderName, HeaderValue)>,
}

impl Security {
    /// The fields that a release names.
    pub fn new(security: &SecurityHeaders) -> Self {
        let SecurityHeaders { hsts_s, hsts_subdomains, nosniff, frame, referrer, csp } = security;
        let subdomains = if *hsts_subdomains { "; includeSubDomains" } else { "" };
        let value = |text: &str| HeaderValue::from_str(text).ok().filter(|value| !value.is_empty());
        let others = [
            (X_CONTENT_TYPE_OPTIONS, nosniff.then(|| HeaderValue::from_static("nosniff"))),
            (X_FRAME_OPTIONS, value(frame)),
            (REFERRER_POLICY, value(referrer)),
            (CONTENT_SECURITY_POLICY, csp.as_deref().and_then(value)),
        ];
        Self {
            hsts: value(&format!("max-age={hsts_s}{subdomains}")).filter(|_| *hsts_s > 0),
            others: others.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        }
    }

    /// Says them; `secure`: the request came by TLS.
    pub fn apply(&self, headers: &mut HeaderMap, secure: bool) {
        let hsts = self.hsts.iter().filter(|_| secure).map(|value| (&STRICT_TRANSPORT_SECURITY, value));
        for (name, value) in self.others.iter().map(|(name, value)| (name, value)).chain(hsts) {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    #[test]
    fn what_an_answer_says_itself_stays_and_nothing_is_said_of_tls_without_it() {
        let security = Security::new(&SecurityHeaders::default());
        let mut headers = map(&[("x-frame-options", "DENY")]);
        security.apply(&mut headers, false);
        let plain = [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "strict-origin-when-cross-origin"),
        ];
        assert_eq!(headers, map(&plain));
        security.apply(&mut headers, true);
        assert_eq!(headers["strict-transport-security"], "max-age=31536000");

        let all = SecurityHeaders {
            hsts_s: 60,
            hsts_subdomains: true,
            nosniff: false,
            frame: String::new(),
            referrer: String::new(),
            csp: Some("default-src 'self'".to_owned()),
        };
        let mut headers = HeaderMap::new();
        Security::new(&all).apply(&mut headers, true);
        let expect = [
            ("content-security-policy", "default-src 'self'"),
            ("strict-transport-security", "max-age=60; includeSubDomains"),
        ];
        assert_eq!(headers, map(&expect));
        let mut none = HeaderMap::new();
        Security::new(&SecurityHeaders { hsts_s: 0, csp: None, ..all }).apply(&mut none, true);
        assert!(none.is_empty());
    }
}
