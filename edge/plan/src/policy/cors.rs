//! Which pages of other origins may ask, and read what is answered (Fetch standard, sections 3.3 and 4.9).

use eyot_bundle::host::HostPattern;
use eyot_bundle::release::policy;
use eyot_bundle::web_origin::{WebOrigin, WebOriginError};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN,
};
use http::{HeaderMap, HeaderValue, Method};

use super::varies_by;

/// Methods that need no leave (Fetch standard, section 2.2.1).
const SAFELISTED: [Method; 3] = [Method::GET, Method::HEAD, Method::POST];

/// What a route says of pages of other origins.
#[derive(Clone, Debug)]
pub struct Cors {
    /// None: all.
    origins: Option<Vec<WebOrigin>>,
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age_s: u64,
}

/// The method that a preflight asks for (Fetch standard, section 4.9); none: it is no preflight.
pub fn preflight(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    Method::from_bytes(headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

impl Cors {
    /// What a release says, for a route that takes these `methods` (none: all).
    ///
    /// # Errors
    /// When an origin is none.
    pub fn new(cors: &policy::Cors, methods: &[String]) -> Result<Self, WebOriginError> {
        let policy::Cors { origins, methods: named, headers, expose, credentials, max_age_s } = cors;
        let any = origins.iter().any(|origin| origin == "*");
        let parsed = origins.iter().filter(|_| !any).map(|origin| origin.parse()).collect::<Result<_, _>>()?;
        let list = |names: &[String]| HeaderValue::from_str(&names.join(", ")).ok().filter(|list| !list.is_empty());
        let plain = SAFELISTED.map(|method| method.to_string());
        let methods = [named, methods, &plain[..]].into_iter().find(|list| !list.is_empty()).and_then(list);
        Ok(Self {
            origins: if any { None } else { Some(parsed) },
            methods: methods.unwrap_or_else(|| HeaderValue::from_static("")),
            headers: list(headers),
            expose: list(expose),
            credentials: *credentials,
            max_age_s: *max_age_s,
        })
    }

    /// The fields of the answer to a preflight with these fields; the answer has the status 204 and no body. Who is not
    /// allowed finds nothing in it that allows.
    pub fn preflight(&self, request: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.origin(request, &mut headers) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            if let Some(allowed) = &self.headers {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
            }
            headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age_s.into());
        }
        headers
    }

    /// Says in an answer who may read it. What its target says of that does not count: one place decides.
    pub fn actual(&self, request: &HeaderMap, headers: &mut HeaderMap) {
        for name in [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ] {
            headers.remove(name);
        }
        if self.origin(request, headers)
            && let Some(expose) = &self.expose
        {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    /// Whether the request's origin is allowed, and says so. Where it matters which origin asks, the answer varies by it,
    /// also for who is of none (Fetch standard, section 3.3.5).
    fn origin(&self, request: &HeaderMap, headers: &mut HeaderMap) -> bool {
        let Some(origins) = &self.origins else {
            // With `*` no credentials come along (Fetch standard, section 3.3.5); the release was checked for that.
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            return true;
        };
        varies_by(headers, &ORIGIN);
        let mut all = request.get_all(ORIGIN).iter();
        let (Some(origin), None) = (all.next(), all.next()) else { return false };
        if !is_among(origins, origin) {
            return false;
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        true
    }
}

/// Whether an `Origin` is of these. It is compared whole, as a scheme, a host and a port; `null` is of none.
fn is_among(origins: &[WebOrigin], origin: &HeaderValue) -> bool {
    let Some(origin) = origin.to_str().ok().and_then(|text| text.parse::<WebOrigin>().ok()) else { return false };
    let HostPattern::Exact(host) = &origin.host else { return false };
    origins.iter().any(|one| one.scheme == origin.scheme && one.port == origin.port && one.host.matches(host))
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let (headers, expose) = (texts(&["x-a", "x-b"]), texts(&["x-c"]));
        let cors =
            policy::Cors { origins: texts(origins), headers, expose, credentials, max_age_s: 600, methods: vec![] };
        Cors::new(&cors, &texts(&["GET", "PUT"])).expect("good")
    }

    #[test]
    fn an_origin_is_allowed_as_a_whole_or_not_at_all() {
        let named = cors(&["https://app.example", "https://*.app.example:8443", "http://localhost:3000"], true);
        for (origin, expect) in [
            ("https://app.example", true),
            ("https://app.example:443", true),
            ("http://localhost:3000", true),
            ("https://a.app.example:8443", true),
            ("https://a.b.app.example:8443", true),
            ("https://a.app.example", false),
            ("http://app.example", false),
            ("https://app.example:8443", false),
            ("https://app.example.evil.test", false),
            ("https://evilapp.example", false),
            ("https://app.example@evil.test", false),
            ("https://app.example/", false),
            ("https://APP.example", false),
            ("https://*.app.example:8443", false),
            ("https://*", false),
            ("null", false),
            ("", false),
            ("app.example", false),
        ] {
            let mut headers = HeaderMap::new();
            named.actual(&map(&[("origin", origin)]), &mut headers);
            let yes = [
                ("vary", "origin"),
                ("access-control-allow-origin", origin),
                ("access-control-allow-credentials", "true"),
                ("access-control-expose-headers", "x-c"),
            ];
            assert_eq!(headers, if expect { map(&yes) } else { map(&[("vary", "origin")]) }, "{origin}");
        }
        let mut twice = HeaderMap::new();
        named.actual(&map(&[("origin", "https://app.example"), ("origin", "https://evil.test")]), &mut twice);
        assert_eq!(twice, map(&[("vary", "origin")]));
    }

    #[test]
    fn what_a_target_says_of_who_may_read_does_not_count() {
        let said = [
            ("access-control-allow-origin", "https://evil.test"),
            ("access-control-allow-credentials", "true"),
            ("vary", "accept"),
        ];
        for (of, request, expect) in [
            (
                cors(&["https://app.example"], false),
                &[("origin", "https://evil.test")][..],
                &[("vary", "accept"), ("vary", "origin")][..],
            ),
            (cors(&["https://app.example"], false), &[], &[("vary", "accept"), ("vary", "origin")]),
            (
                cors(&["*"], false),
                &[],
                &[("vary", "accept"), ("access-control-allow-origin", "*"), ("access-control-expose-headers", "x-c")],
            ),
        ] {
            let mut headers = map(&said);
            of.actual(&map(request), &mut headers);
            assert_eq!(headers, map(expect));
        }
    }

    #[test]
    fn a_preflight_is_told_what_its_page_may_send() {
        for (method, fields, expect) in [
            (
                Method::OPTIONS,
                &[("origin", "https://a.test"), ("access-control-request-method", "PUT")][..],
                Some(Method::PUT),
            ),
            (Method::OPTIONS, &[("origin", "https://a.test")], None),
            (Method::OPTIONS, &[("access-control-request-method", "PUT")], None),
            (Method::GET, &[("origin", "https://a.test"), ("access-control-request-method", "PUT")], None),
            (Method::OPTIONS, &[("origin", "https://a.test"), ("access-control-request-method", "P T")], None),
        ] {
            assert_eq!(preflight(&method, &map(fields)), expect, "{method} {fields:?}");
        }
        let headers = cors(&["https://app.example"], false).preflight(&map(&[("origin", "https://app.example")]));
        let expect = [
            ("vary", "origin"),
            ("access-control-allow-origin", "https://app.example"),
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-headers", "x-a, x-b"),
            ("access-control-max-age", "600"),
        ];
        assert_eq!(headers, map(&expect));
        let none = cors(&["https://app.example"], false).preflight(&map(&[("origin", "https://evil.test")]));
        assert_eq!(none, map(&[("vary", "origin")]), "nothing that allows");
    }
}
