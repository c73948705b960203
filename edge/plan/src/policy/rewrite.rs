//! The path that a target is asked for, where a route says another than the request's. What a request brings can neither
//! name a host nor leave the place where it is put: it was normalised before, and no `..` is left in it.

use eyot_bundle::release::PathPattern;
use http::Uri;
use http::uri::PathAndQuery;

/// `uri` with its path as `to` says it, at the route for `at`; the query stays. None if that makes no URI.
pub fn uri(to: &str, at: &PathPattern, uri: &Uri) -> Option<Uri> {
    let mut text = path(to, at, uri.path());
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

/// The path that `to` makes of a request's: `{path}` is all of it, `{rest}` what stands for the `*` of the route.
pub fn path(to: &str, at: &PathPattern, path: &str) -> String {
    let rest = match at {
        PathPattern::Exact(_) => "",
        PathPattern::Prefix(prefix) => path.strip_prefix(prefix.as_str()).unwrap_or_default(),
    };
    let mut out = String::with_capacity(to.len() + path.len());
    let mut left = to;
    while let Some(open) = left.find('{') {
        out.push_str(&left[..open]);
        left = &left[open..];
        let (value, after) = match left.strip_prefix("{path}") {
            Some(after) => (path, after),
            None => (rest, left.strip_prefix("{rest}").unwrap_or_default()),
        };
        // `/x/` and a path make one slash, not two; and a path that comes first begins with one: `//a` names a host
        // (RFC 3986, section 4.2).
        let value = if out.ends_with('/') { value.trim_start_matches('/') } else { value };
        let value = if out.is_empty() { value.trim_start_matches('/') } else { value };
        if out.is_empty() {
            out.push('/');
        }
        out.push_str(value);
        left = after;
    }
    out.push_str(left);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_put_where_the_route_says_and_its_query_stays() {
        for (to, at, from, expect) in [
            ("/v2{rest}", "/api/*", "https://a.test/api/x/y?q=1", "https://a.test/v2/x/y?q=1"),
            ("/v2{rest}", "/api/*", "https://a.test/api", "https://a.test/v2"),
            ("/v2/{rest}", "/api/*", "https://a.test/api/x", "https://a.test/v2/x"),
            ("{rest}", "/api/*", "https://a.test/api/x", "https://a.test/x"),
            ("{rest}", "/api/*", "https://a.test/api", "https://a.test/"),
            ("{rest}", "/api/*", "https://a.test/api?", "https://a.test/?"),
            ("{rest}", "/api/*", "https://a.test/api//evil.test/x", "https://a.test/evil.test/x"),
            ("/{rest}", "/api/*", "https://a.test/api//evil.test/x", "https://a.test/evil.test/x"),
            ("{path}", "/*", "https://a.test//evil.test", "https://a.test/evil.test"),
            ("/v2{path}", "/api/*", "https://a.test/api/x%2Fy;z", "https://a.test/v2/api/x%2Fy;z"),
            ("/index.html", "/*", "https://a.test/any/thing?q", "https://a.test/index.html?q"),
            ("/fixed{rest}", "/one", "https://a.test/one?q", "https://a.test/fixed?q"),
            ("/a{rest}/b", "/*", "https://a.test/x", "https://a.test/a/x/b"),
        ] {
            let at = at.parse().expect("a pattern");
            let made = uri(to, &at, &from.parse().expect("a URI")).map(|uri| uri.to_string());
            assert_eq!(made.as_deref(), Some(expect), "{to} {from}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_the_host_stays_and_the_path_begins_with_one_slash(
            to in "(/[a-z]{1,3})?/?(\\{rest\\})", rest in "(/{1,3}[a-z.%25;@:]{0,4}){0,4}",
        ) {
            let at: PathPattern = "/api/*".parse().expect("a pattern");
            let Ok(from) = format!("https://a.test/api{rest}").parse::<Uri>() else { return Ok(()) };
            let made = uri(&to, &at, &from).expect("a URI");
            prop_assert_eq!(made.host(), Some("a.test"));
            prop_assert!(made.path().starts_with('/') && !made.path().starts_with("//"), "{}", made);
        }
    }
}
