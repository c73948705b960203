//! What a function says that stands before a target: an answer of its own, or that the request goes on, with which changes.
//!
//! It goes on only by a field that nobody sends by accident and that nothing from outside can bring: `eyot-next: 1`.

use http::header::{SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, StatusCode};

use crate::fault::{Code, Fault};

/// The request goes on.
const NEXT: HeaderName = HeaderName::from_static("eyot-next");
/// Fields of the request that go no further, by name.
const REMOVE: HeaderName = HeaderName::from_static("eyot-remove");
/// What follows is a field of the request as it goes on.
const REQUEST: &str = "eyot-request-";
/// What follows is a field of the answer, whoever gives it.
const RESPONSE: &str = "eyot-response-";

/// What frames a message, belongs to one hop, or is the node's to say.
const OURS: [&str; 18] = [
    "alt-svc",
    "cache-status",
    "cdn-loop",
    "connection",
    "content-length",
    "early-data",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-connection",
    "proxy-status",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-request-id",
];

/// What is changed of a request that goes on, and of its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    remove: Vec<HeaderName>,
    request: HeaderMap,
    response: HeaderMap,
}

/// What a function said by a response with this status and these fields: the changes with which the request goes on, or
/// none where the response is the answer.
///
/// # Errors
/// `function_gave_no_response` for what contradicts itself, or changes what it may not: the request does not go on then.
pub fn read(status: StatusCode, headers: &HeaderMap) -> Result<Option<Changes>, Fault> {
    let mut next = headers.get_all(NEXT).iter();
    let Some(first) = next.next() else { return Ok(None) };
    if first != "1" || next.next().is_some() || !matches!(status, StatusCode::OK | StatusCode::NO_CONTENT) {
        return Err(wrong("`eyot-next: 1`, once and with the status 200 or 204, passes a request on"));
    }
    let mut changes = Changes::default();
    for (name, value) in headers {
        let text = name.as_str();
        if let Some(name) = text.strip_prefix(REQUEST) {
            changes.request.append(field(name)?, value.clone());
        } else if let Some(name) = text.strip_prefix(RESPONSE) {
            changes.response.append(field(name)?, value.clone());
        } else if *name == REMOVE {
            let names = value.to_str().map_err(|_| wrong("`eyot-remove` lists names of fields"))?;
            for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                changes.remove.push(field(&name.to_ascii_lowercase())?);
            }
        }
    }
    Ok(Some(changes))
}

/// The name of a field that a function may change.
fn field(name: &str) -> Result<HeaderName, Fault> {
    let ours = OURS.contains(&name) || name.starts_with("eyot-") || name.starts_with("x-forwarded-");
    match HeaderName::try_from(name) {
        Ok(name) if !ours => Ok(name),
        _ => Err(wrong(format_args!(
            "`{}` is no field that a function changes",
            name.chars().take(80).collect::<String>()
        ))),
    }
}

fn wrong(cause: impl std::fmt::Display) -> Fault {
    Fault::new(Code::FunctionGaveNoResponse).because(cause)
}

impl Changes {
    /// Changes the fields of the request: those that are set take the place of those of their name.
    pub fn request(&self, headers: &mut HeaderMap) {
        for name in self.remove.iter().chain(self.request.keys()) {
            headers.remove(name);
        }
        for (name, value) in &self.request {
            headers.append(name, value.clone());
        }
    }

    /// Changes the fields of the answer likewise; cookies, and what it varies by, are added to its own.
    pub fn response(&self, headers: &mut HeaderMap) {
        for name in self.response.keys().filter(|name| !matches!(**name, SET_COOKIE | VARY)) {
            headers.remove(name);
        }
        for (name, value) in &self.response {
            headers.append(name, value.clone());
        }
    }
}

/// Makes the fields of a request ready for who only sees its head.
pub fn head(headers: &HeaderMap) -> HeaderMap {
    let mut head = headers.clone();
    head.remove(http::header::CONTENT_LENGTH);
    head.remove(http::header::TRAILER);
    head.remove(http::header::EXPECT);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, text) in fields {
            headers.append(HeaderName::try_from(*name).expect("a name"), text.parse().expect("a value"));
        }
        headers
    }

    fn said(status: u16, fields: &[(&str, &str)]) -> Result<Option<Changes>, Code> {
        read(StatusCode::from_u16(status).expect("a status"), &map(fields)).map_err(|fault| fault.code)
    }

    #[test]
    fn only_one_field_passes_a_request_on_and_what_contradicts_it_does_not() {
        for (status, fields) in [
            (200, &[][..]),
            (204, &[("eyot-request-x-user", "a"), ("eyot-response-x", "b"), ("eyot-remove", "c")]),
            (200, &[("x-eyot-next", "1"), ("next", "1")]),
            (302, &[("location", "/login")]),
        ] {
            assert_eq!(said(status, fields), Ok(None), "{status} {fields:?} is an answer");
        }
        for (status, fields) in
            [(200, &[("eyot-next", "1")][..]), (204, &[("Eyot-Next", "1"), ("content-type", "a/b")])]
        {
            assert_eq!(said(status, fields), Ok(Some(Changes::default())), "{status} {fields:?}");
        }
        for (status, fields) in [
            (403, &[("eyot-next", "1")][..]),
            (201, &[("eyot-next", "1")]),
            (200, &[("eyot-next", "true")]),
            (200, &[("eyot-next", "0")]),
            (200, &[("eyot-next", "1"), ("eyot-next", "1")]),
            (200, &[("eyot-next", "1"), ("eyot-request-host", "evil.test")]),
            (200, &[("eyot-next", "1"), ("eyot-request-content-length", "0")]),
            (200, &[("eyot-next", "1"), ("eyot-request-x-forwarded-for", "1.1.1.1")]),
            (200, &[("eyot-next", "1"), ("eyot-request-eyot-next", "1")]),
            (200, &[("eyot-next", "1"), ("eyot-request-", "1")]),
            (200, &[("eyot-next", "1"), ("eyot-response-alt-svc", "clear")]),
            (200, &[("eyot-next", "1"), ("eyot-response-transfer-encoding", "chunked")]),
            (200, &[("eyot-next", "1"), ("eyot-remove", "x-a, Via")]),
            (200, &[("eyot-next", "1"), ("eyot-remove", "not a name")]),
        ] {
            assert_eq!(said(status, fields), Err(Code::FunctionGaveNoResponse), "{status} {fields:?}");
        }
    }

    #[test]
    fn what_it_sets_takes_the_place_of_what_was_there_and_cookies_are_added() {
        let changes = said(
            204,
            &[
                ("eyot-next", "1"),
                ("eyot-request-x-user", "alice"),
                ("eyot-request-accept", "a"),
                ("eyot-request-accept", "b"),
                ("eyot-remove", "Cookie, authorization"),
                ("eyot-response-set-cookie", "new=1"),
                ("eyot-response-vary", "origin"),
                ("eyot-response-x-by", "auth"),
                ("x-other", "1"),
            ],
        );
        let changes = changes.expect("good").expect("it goes on");
        let mut request =
            map(&[("x-user", "forged"), ("x-user", "twice"), ("cookie", "a"), ("authorization", "b"), ("accept", "*")]);
        changes.request(&mut request);
        assert_eq!(request, map(&[("x-user", "alice"), ("accept", "a"), ("accept", "b")]));
        let mut response = map(&[("set-cookie", "old=1"), ("vary", "accept"), ("x-by", "target"), ("x-kept", "1")]);
        changes.response(&mut response);
        let expect = [
            ("set-cookie", "old=1"),
            ("set-cookie", "new=1"),
            ("vary", "accept"),
            ("vary", "origin"),
            ("x-by", "auth"),
            ("x-kept", "1"),
        ];
        assert_eq!(response, map(&expect));
    }

    #[test]
    fn who_sees_only_the_head_is_told_of_no_body() {
        assert_eq!(head(&map(&[("content-length", "5"), ("trailer", "x"), ("cookie", "a")])), map(&[("cookie", "a")]));
    }
}
