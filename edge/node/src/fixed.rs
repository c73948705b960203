//! Targets that need nobody: fixed responses and redirects.

use eyot_plan::body::{self, Body};
use eyot_plan::fault::{Code, Fault};
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, Uri};

use crate::entry::{Redirect, Respond};

/// The fixed response.
pub(crate) fn respond(fixed: &Respond) -> Response<Body> {
    let mut response = Response::new(body::full(fixed.body.clone()));
    *response.status_mut() = fixed.status;
    *response.headers_mut() = fixed.headers.clone();
    if !fixed.body.is_empty() {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().entry(CONTENT_TYPE).or_insert(text);
    }
    response
}

/// The redirect of a request for `uri`.
///
/// # Errors
/// `bad_request`, if the request's path makes no field of it.
pub(crate) fn redirect(redirect: &Redirect, uri: &Uri) -> Result<Response<Body>, Fault> {
    let location = HeaderValue::from_str(&location(&redirect.to, uri))
        .map_err(|_| Fault::new(Code::BadRequest).because("the path does not go into `Location`"))?;
    let mut response = Response::new(body::empty());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// `to` with the request's path and query in it. A path that would come first is kept from naming a host: `//evil.test`
/// is a URL of another place (RFC 3986, section 4.2).
fn location(to: &str, uri: &Uri) -> String {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut out = String::with_capacity(to.len() + uri.path().len() + query.len());
    let mut rest = to;
    while let Some(at) = rest.find('{') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = after.strip_prefix("{path}") {
            let path = if out.is_empty() { one_slash(uri.path()) } else { uri.path() };
            // `https://host/` and a path make one slash, not two.
            out.push_str(if out.ends_with('/') { path.trim_start_matches('/') } else { path });
            rest = after;
        } else if let Some(after) = after.strip_prefix("{query}") {
            out.push_str(&query);
            rest = after;
        } else {
            out.push('{');
            rest = &after[1..];
        }
    }
    out.push_str(rest);
    out
}

/// `path` from the last of its leading slashes on.
fn one_slash(path: &str) -> &str {
    let slashes = path.bytes().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
    &path[slashes.saturating_sub(1)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_takes_path_and_query_along_and_never_another_host() {
        for (to, uri, expect) in [
            ("https://www.a.test{path}{query}", "https://a.test/x/y?q=1", "https://www.a.test/x/y?q=1"),
            ("https://www.a.test{path}", "https://a.test/x?q=1", "https://www.a.test/x"),
            ("https://www.a.test/{path}", "https://a.test/x", "https://www.a.test/x"),
            ("/new", "https://a.test/old?q", "/new"),
            ("/new{query}", "https://a.test/old", "/new"),
            ("{path}", "https://a.test//evil.test/x", "/evil.test/x"),
            ("{path}{query}", "https://a.test/%7Bquery%7D?a", "/%7Bquery%7D?a"),
            ("/a{b}{path", "https://a.test/x", "/a{b}{path"),
        ] {
            assert_eq!(location(to, &uri.parse().expect("a URI")), expect, "{to} {uri}");
        }
    }
}
