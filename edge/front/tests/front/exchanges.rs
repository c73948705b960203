//! What an answer gets to see, and what a client gets of it: the same over all protocols.

use eyot_front::{Plain, Settings};
use eyot_plan::arrival::{Arrival, Protocol};
use eyot_plan::body::{self, Body};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{ALL, AnyBody, BoxError, Front, nothing, read, tcp, text};

/// A body of these pieces, then trailers.
fn pieces(pieces: &[&'static str], trailers: Option<HeaderMap>) -> AnyBody {
    let mut frames: Vec<Result<Frame<bytes::Bytes>, BoxError>> =
        pieces.iter().map(|piece| Ok(Frame::data(bytes::Bytes::from_static(piece.as_bytes())))).collect();
    frames.extend(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

fn problem(text: &str) -> (String, String) {
    let problem: serde_json::Value = serde_json::from_str(text).expect("a problem document");
    let field = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    (field("code"), field("request_id"))
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let front = Front::answering(|arrival: Arrival| async move {
        let mut response = Response::new(arrival.request.into_body());
        response.headers_mut().insert("trailer", "x-sum".parse().expect("a value"));
        response
    });
    for protocol in ALL {
        let mut client = front.client(protocol).await;
        let trailers = HeaderMap::from_iter([("x-sum".parse().expect("a name"), "42".parse().expect("a value"))]);
        let request = Request::post("https://a.net/").header("te", "trailers").header("trailer", "x-sum");
        let request = request.body(pieces(&["hello ", "world"], Some(trailers))).expect("a request");
        let response = client.send(request).await.expect("a response");
        let body = response.into_body().collect().await.expect("a whole body");
        assert_eq!(body.trailers().map(|trailers| trailers["x-sum"].clone()), Some("42".parse().expect("a value")));
        assert_eq!(body.to_bytes(), "hello world", "{protocol:?}");
    }
    front.ended().await;
}

#[tokio::test]
async fn an_arrival_says_where_it_came_from_and_a_response_announces_http_3() {
    let front = Front::answering(|arrival: Arrival| async move {
        let request = &arrival.request;
        let tls = arrival.tls.as_ref().map(|tls| (tls.version.label(), tls.sni.as_deref().unwrap_or("-")));
        let (version, sni) = tls.unwrap_or(("-", "-"));
        let client = arrival.client.ip();
        let seen = format!("{:?} {} {sni} {version} {client}", arrival.protocol, request.uri());
        assert!(!request.headers().contains_key("host"));
        Response::new(body::full(seen))
    });
    for protocol in ALL {
        let mut client = front.client(protocol).await;
        let response = client.get("https://A.net:443/x/../y?z").await.expect("a response");
        let headers = response.headers().clone();
        assert_eq!(
            read(response).await.expect("a body"),
            format!("{protocol:?} https://a.net/y?z a.net 1.3 127.0.0.1")
        );
        assert!(headers.contains_key("date") && !headers.contains_key("server"), "{protocol:?}");
        let alt_svc = headers.get("alt-svc").map(|value| value.to_str().expect("text").to_owned());
        let announced = format!("h3=\":{}\"; ma=86400", front.tls.port());
        assert_eq!(alt_svc, (protocol != Protocol::H3).then_some(announced), "{protocol:?}");
    }
    front.ended().await;
}

#[tokio::test]
async fn a_host_that_the_certificate_does_not_hold_is_misdirected() {
    let front = Front::answering(|_| async { text("served") });
    for protocol in ALL {
        let mut client = front.client(protocol).await;
        for (uri, expect) in [
            ("https://a.net/", StatusCode::OK),
            ("https://x.a.net/", StatusCode::OK),
            ("https://127.0.0.1/", StatusCode::OK),
            ("https://b.net/", StatusCode::MISDIRECTED_REQUEST),
            ("https://x.y.a.net/", StatusCode::MISDIRECTED_REQUEST),
        ] {
            let response = client.get(uri).await.expect("a response");
            assert_eq!(response.status(), expect, "{protocol:?} {uri}");
            let text = read(response).await.expect("a body");
            assert!(expect == StatusCode::OK || problem(&text).0 == "misdirected");
        }
    }
    front.ended().await;
}

#[tokio::test]
async fn a_refusal_is_a_problem_document_with_the_id_of_its_request() {
    let front = Front::answering(|_| async { text("served") });
    for protocol in ALL {
        let mut client = front.client(protocol).await;
        let request = Request::get("https://a.net/").header("expect", "tea").body(nothing()).expect("a request");
        let response = client.send(request).await.expect("a response");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{protocol:?}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(response.headers().contains_key("proxy-status"));
        let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
        assert_eq!(problem(&read(response).await.expect("a body")), ("bad_request".to_owned(), id));
    }
    front.ended().await;
}

#[tokio::test]
async fn a_panic_ends_its_request_alone() {
    let settings = Settings::default();
    let counts = settings.counts.clone();
    let front = Front::with(settings, |arrival: Arrival| async move {
        match arrival.request.uri().path() {
            "/panic" => panic!("a panic of this test"),
            "/late" => {
                let late = futures_util::stream::once(async { panic!("a panic of this test") });
                Response::new(StreamBody::new(late).boxed_unsync())
            }
            _ => text("served"),
        }
    });
    for protocol in ALL {
        let mut client = front.client(protocol).await;
        let response = client.get("https://a.net/panic").await.expect("a response");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{protocol:?}");
        assert_eq!(problem(&read(response).await.expect("a body")).0, "internal_error");
        let response = client.get("https://a.net/").await.expect("the connection lives");
        assert_eq!(read(response).await.expect("a body"), "served");
        let broken = match client.get("https://a.net/late").await {
            Ok(response) => read(response).await.is_err(),
            Err(_) => true,
        };
        assert!(broken, "{protocol:?}");
    }
    assert_eq!(counts.panics(), 6);
    front.ended().await;
}

#[tokio::test]
async fn a_head_that_lies_about_its_body_never_reaches_a_client_as_whole() {
    let front = Front::answering(|arrival: Arrival| async move {
        let (length, data) = match arrival.request.uri().path() {
            "/more" => ("3", "hello"),
            "/fewer" => ("7", "hello"),
            _ => ("5", "hello"),
        };
        let stream = futures_util::stream::iter([Ok(Frame::data(bytes::Bytes::from_static(data.as_bytes())))]);
        let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
        response.headers_mut().insert("content-length", length.parse().expect("a value"));
        response
    });
    for protocol in ALL {
        for (path, expect) in [("/right", Some("hello")), ("/more", None), ("/fewer", None)] {
            let mut client = front.client(protocol).await;
            let found = match client.get(&format!("https://a.net{path}")).await {
                Ok(response) => read(response).await.ok(),
                Err(_) => None,
            };
            assert_eq!(found.as_deref(), expect, "{protocol:?} {path}");
        }
    }
    front.ended().await;
}

/// An answer that sets whatever could confuse the wire.
fn confusing(path: &str) -> Response<Body> {
    let response = Response::builder().header("connection", "x-a, upgrade").header("keep-alive", "5");
    let response = response.header("transfer-encoding", "gzip").header("upgrade", "h2c").header("x-kept", "1");
    let response = match path {
        "/interim" => response.status(103),
        "/lengths" => response.header("content-length", "1").header("content-length", "2"),
        "/no-number" => response.header("content-length", "-1"),
        "/phrase" => response.extension(hyper::ext::ReasonPhrase::from_static(b"Fine")),
        "/version" => response.version(http::Version::HTTP_3),
        _ => response,
    };
    response.body(body::full("hello")).expect("a response")
}

#[tokio::test]
async fn an_answer_cannot_set_what_belongs_to_the_connection() {
    let front = Front::answering(|arrival: Arrival| async move { confusing(arrival.request.uri().path()) });
    for protocol in ALL {
        let mut client = front.client(protocol).await;
        for path in ["/", "/lengths", "/no-number", "/phrase", "/version"] {
            let response = client.get(&format!("https://a.net{path}")).await.expect("a response");
            let headers = response.headers().clone();
            for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
                assert!(!headers.contains_key(name), "{protocol:?} {path} {name}");
            }
            assert_eq!(
                (&headers["x-kept"], &headers["content-length"]),
                (&"1".parse().expect("a value"), &"5".parse().expect("a value"))
            );
            assert_eq!(read(response).await.expect("a body"), "hello", "{protocol:?} {path}");
        }
        let response = client.get("https://a.net/interim").await.expect("a response");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{protocol:?}");
    }
    front.ended().await;
}

#[tokio::test]
async fn a_response_that_has_no_body_ends_with_its_head() {
    let front = Front::answering(|arrival: Arrival| async move {
        let mut response = text("hello");
        *response.status_mut() = match arrival.request.uri().path() {
            "/204" => StatusCode::NO_CONTENT,
            "/304" => StatusCode::NOT_MODIFIED,
            _ => StatusCode::OK,
        };
        response
    });
    for protocol in ALL {
        let mut client = front.client(protocol).await;
        for (method, path, length) in
            [(Method::HEAD, "/", Some("5")), (Method::GET, "/204", None), (Method::GET, "/", Some("5"))]
        {
            let request = Request::builder().method(&method).uri(format!("https://a.net{path}"));
            let response = client.send(request.body(nothing()).expect("a request")).await.expect("a response");
            let found = response.headers().get("content-length").map(|value| value.to_str().expect("text").to_owned());
            assert_eq!(found.as_deref(), length, "{protocol:?} {method} {path}");
            let expect = if method == Method::GET && path == "/" { "hello" } else { "" };
            assert_eq!(read(response).await.expect("a body"), expect, "{protocol:?} {method} {path}");
        }
        let response = client.get("https://a.net/304").await.expect("a response");
        assert_eq!(
            (response.status(), read(response).await.expect("a body")),
            (StatusCode::NOT_MODIFIED, String::new())
        );
    }
    front.ended().await;
}

/// What a plain listener says to these bytes until it closes.
async fn plain(front: &Front, request: &str) -> String {
    let mut stream = tcp(front.plain).await.expect("a listener");
    stream.write_all(request.as_bytes()).await.expect("it is read");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("text");
    said
}

#[tokio::test]
async fn a_plain_listener_sends_everyone_to_https() {
    let front = Front::answering(|_| async { text("served") });
    let said = plain(&front, "GET /x?y HTTP/1.1\r\nhost: Shop.example:80\r\nconnection: close\r\n\r\n").await;
    let location = format!("location: https://shop.example:{}/x?y\r\n", front.tls.port());
    assert!(said.starts_with("HTTP/1.1 308 ") && said.contains(&location) && !said.contains("alt-svc"), "{said}");
    let said = plain(&front, "GET / HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    assert_eq!(front.arrivals.load(std::sync::atomic::Ordering::Relaxed), 0);
    front.ended().await;
}

#[tokio::test]
async fn a_plain_listener_serves_where_it_is_told_to() {
    let settings = Settings { plain: Plain::Serve, ..Settings::default() };
    let front = Front::with(settings, |arrival: Arrival| async move {
        Response::new(body::full(format!("{} {:?}", arrival.request.uri(), arrival.tls)))
    });
    let said = plain(&front, "GET /x HTTP/1.1\r\nhost: any.example\r\nconnection: close\r\n\r\n").await;
    assert!(said.ends_with("\r\n\r\nhttp://any.example/x None"), "{said}");
    front.ended().await;
}
