//! A URL that somebody wrote, in the one form that requests have: what a purge names must be what a request asked for.

use http::uri::{Scheme, Uri};

use super::authority::Authority;
use super::path;

/// The absolute form of a URL as [`super::normalise`] gives it to a request for it: scheme and host in lower case, the
/// scheme's own port left out, the path normalised, a path of nothing written `/`.
///
/// # Errors
/// What is wrong with it, in a few words.
pub fn url(uri: &Uri) -> Result<Uri, &'static str> {
    let (scheme, port) = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => (Scheme::HTTPS, 443),
        Some(scheme) if *scheme == Scheme::HTTP => (Scheme::HTTP, 80),
        _ => return Err("a URL begins with `https://` or `http://`"),
    };
    let authority = Authority::parse(uri.authority().ok_or("a URL has a host")?.as_str(), port)?;
    let path = match path::normalise(uri.path(), uri.query())? {
        Some(path) => path,
        None => uri.path_and_query().map_or_else(|| "/".to_owned(), |path| path.as_str().to_owned()),
    };
    // `http` writes no `/` before a query that follows the host at once.
    let path = if path.starts_with('?') { format!("/{path}") } else { path };
    let uri = Uri::builder().scheme(scheme).authority(authority.to_string()).path_and_query(path);
    uri.build().map_err(|_| "it is no URL")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::super::{Way, normalise};
    use super::*;
    use crate::arrival::Protocol;

    fn read(text: &str) -> Result<String, String> {
        let uri = text.parse::<Uri>().map_err(|error| error.to_string())?;
        url(&uri).map(|uri| uri.to_string()).map_err(str::to_owned)
    }

    /// Written, and the form that it has.
    const SAME: &[(&str, &str)] = &[
        ("https://shop.example.com/a?b=C", "https://shop.example.com/a?b=C"),
        ("HTTPS://SHOP.example.com:443/a", "https://shop.example.com/a"),
        ("http://shop.example.com.:80", "http://shop.example.com/"),
        ("http://shop.example.com:8080/", "http://shop.example.com:8080/"),
        ("https://shop.example.com/a/../%7eb/%2f", "https://shop.example.com/~b/%2F"),
        ("https://shop.example.com?q", "https://shop.example.com/?q"),
        ("https://shop.example.com/a#part", "https://shop.example.com/a"),
        ("https://[2001:DB8::0]:443/", "https://[2001:db8::]/"),
    ];

    #[test]
    fn a_url_that_was_written_is_that_of_a_request_for_it_over_each_protocol() {
        for (written, expect) in SAME {
            assert_eq!(read(written), Ok((*expect).to_owned()), "{written}");
            let uri: Uri = written.parse().expect("a URL");
            let secure = uri.scheme() == Some(&Scheme::HTTPS);
            for protocol in [Protocol::H2, Protocol::H3] {
                let (parts, ()) = Request::get(uri.clone()).body(()).expect("a request").into_parts();
                let way = Way { protocol, secure, header_bytes_max: 65_536 };
                let (parts, _) = normalise(parts, None, &way).expect("a good request");
                assert_eq!(parts.uri.to_string(), *expect, "{written}");
            }
        }
    }

    #[test]
    fn what_no_request_can_ask_for_is_no_url() {
        for bad in [
            "/a",
            "ftp://shop.example.com/",
            "shop.example.com",
            "https://u@shop.example.com/",
            "https://127.1/",
            "https://shop.example.com/%0",
            "https://shop.example.com/%00",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
