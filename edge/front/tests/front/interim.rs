//! Interim responses: said over each protocol while the answer is made, and 100 only to who waits for it.

use bytes::Bytes;
use eyot_plan::arrival::{Arrival, Protocol};
use eyot_plan::body;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::harness::{BoxError, Front, text};

fn head(status: u16, link: &str) -> Response<()> {
    let response = Response::builder().status(status).header("link", link).header("connection", "x");
    response.header("content-length", "5").body(()).expect("a head")
}

/// Says hints and what nobody may say, waits until it is told to, hints from another task, and answers.
fn hinting() -> (Front, mpsc::UnboundedSender<()>) {
    let (release, released) = mpsc::unbounded_channel();
    let released = std::sync::Arc::new(tokio::sync::Mutex::new(released));
    let front = Front::answering(move |arrival: Arrival| {
        let released = released.clone();
        async move {
            arrival.interim.send(head(103, "</a>"));
            for status in [100, 101, 200] {
                arrival.interim.send(head(status, "</never>"));
            }
            released.lock().await.recv().await;
            let late = arrival.interim.clone();
            let saying = tokio::spawn(async move { late.send(head(103, "</b>")) });
            saying.await.expect("no panic");
            text("served")
        }
    });
    (front, release)
}

#[tokio::test]
async fn hints_reach_a_client_of_http_1_1_before_the_answer_is_made_and_the_connection_goes_on() {
    let (front, release) = hinting();
    let mut stream = front.raw("a.net", "http/1.1").await.expect("TLS");
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a.net\r\n\r\n").await.expect("it is read");
        let first = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        let mut said = vec![0; first.len()];
        stream.read_exact(&mut said).await.expect("a hint");
        assert_eq!(String::from_utf8_lossy(&said), first);
        release.send(()).expect("it waits");
        let mut said = Vec::new();
        while !said.ends_with(b"served") {
            said.push(stream.read_u8().await.expect("a response"));
        }
        let said = String::from_utf8_lossy(&said);
        assert!(said.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </b>\r\n\r\nHTTP/1.1 200 OK\r\n"), "{said}");
    }
    stream.write_all(b"GET / HTTP/1.0\r\nhost: a.net\r\n\r\n").await.expect("it is read");
    release.send(()).expect("it waits");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("a response");
    assert!(said.starts_with("HTTP/1.0 200 OK\r\n") || said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
    front.ended().await;
}

#[tokio::test]
async fn hints_reach_a_client_of_http_2_before_the_answer_is_made() {
    let (front, release) = hinting();
    let stream = front.raw("a.net", "h2").await.expect("TLS");
    let (mut sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::get("https://a.net/").body(()).expect("a request");
    let (mut response, _) = sender.send_request(request, true).expect("it is sent");
    for link in ["</a>", "</b>"] {
        let hint = std::future::poll_fn(|cx| response.poll_informational(cx)).await.expect("a hint").expect("no error");
        assert_eq!(
            (hint.status(), &hint.headers()["link"]),
            (StatusCode::EARLY_HINTS, &link.parse().expect("a value"))
        );
        assert!(!hint.headers().contains_key("connection") && !hint.headers().contains_key("content-length"));
        let _ = release.send(());
    }
    assert_eq!(response.await.expect("a response").status(), 200);
    front.ended().await;
}

#[tokio::test]
async fn hints_reach_a_client_of_http_3_before_the_answer_is_made() {
    let (front, release) = hinting();
    let config = std::sync::Arc::new(front.trust(&["h3"]));
    let client = eyot_h3::client::connect(config, front.tls, "a.net").await.expect("HTTP/3");
    let mut hints = Vec::new();
    let request = Request::get("https://a.net/").body(body::empty()).expect("a request");
    let response = client.send_informed(request, |head| {
        hints.push((head.status(), head.headers()["link"].clone()));
        let _ = release.send(());
    });
    assert_eq!(response.await.expect("a response").status(), 200);
    let expect = ["</a>", "</b>"].map(|link| (StatusCode::EARLY_HINTS, link.parse().expect("a value")));
    assert_eq!(hints, expect);
    front.ended().await;
}

/// Reads its body only for `/read`.
fn reading() -> Front {
    Front::answering(|arrival: Arrival| async move {
        if arrival.request.uri().path() == "/read" {
            let whole = arrival.request.into_body().collect().await.expect("a whole body").to_bytes();
            return Response::new(body::full(whole));
        }
        text("unread")
    })
}

#[tokio::test]
async fn a_client_of_http_1_1_is_told_to_go_on_only_when_its_body_is_read() {
    let front = reading();
    for (path, expect) in [("/read", "HTTP/1.1 100 Continue\r\n"), ("/not", "HTTP/1.1 200 OK\r\n")] {
        let mut stream = front.raw("a.net", "http/1.1").await.expect("TLS");
        let request =
            format!("POST {path} HTTP/1.1\r\nhost: a.net\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it is read");
        let mut said = vec![0; expect.len()];
        stream.read_exact(&mut said).await.expect("an answer");
        assert_eq!(String::from_utf8_lossy(&said), expect);
    }
    front.ended().await;
}

#[tokio::test]
async fn a_client_of_http_2_is_told_to_go_on_only_when_its_body_is_read() {
    let front = reading();
    for (path, expects, is_told) in [("/read", true, true), ("/read", false, false), ("/not", true, false)] {
        let stream = front.raw("a.net", "h2").await.expect("TLS");
        let (mut sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut request = Request::post(format!("https://a.net{path}")).body(()).expect("a request");
        if expects {
            request.headers_mut().insert("expect", "100-continue".parse().expect("a value"));
        }
        let (mut response, mut upload) = sender.send_request(request, false).expect("it is sent");
        if is_told {
            let told =
                std::future::poll_fn(|cx| response.poll_informational(cx)).await.expect("100").expect("no error");
            assert_eq!(told.status(), StatusCode::CONTINUE);
        }
        let _ = upload.send_data(Bytes::from_static(b"hello"), true);
        assert!(is_told || std::future::poll_fn(|cx| response.poll_informational(cx)).await.is_none(), "{path}");
        assert_eq!(response.await.expect("a response").status(), 200);
    }
    front.ended().await;
}

#[tokio::test]
async fn a_client_of_http_3_is_told_to_go_on_only_when_its_body_is_read() {
    let front = reading();
    let config = std::sync::Arc::new(front.trust(&["h3"]));
    let client = eyot_h3::client::connect(config, front.tls, "a.net").await.expect("HTTP/3");
    for (path, is_told) in [("/read", true), ("/not", false)] {
        let (mut upload, body) = Channel::<Bytes, BoxError>::new(1);
        let (tell, mut told) = mpsc::unbounded_channel();
        let request = Request::post(format!("https://a.net{path}")).header("expect", "100-continue");
        let request = request.body(body).expect("a request");
        let client = client.clone();
        let asking = tokio::spawn(async move {
            client.send_informed(request, |head| tell.send(head.status()).unwrap_or_default()).await
        });
        assert_eq!(told.recv().await, is_told.then_some(StatusCode::CONTINUE), "{path}");
        if is_told {
            upload.send_data(Bytes::from_static(b"hello")).await.expect("it is taken");
        }
        drop(upload);
        assert_eq!(asking.await.expect("no panic").expect("a response").status(), 200);
    }
    front.ended().await;
}

#[tokio::test]
async fn protocols_have_the_same_arrivals_whether_hints_are_said_or_not() {
    let front = Front::answering(|arrival: Arrival| async move {
        for _ in 0..1000 {
            arrival.interim.send(head(103, "</a>"));
        }
        text("served")
    });
    for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
        let mut client = front.client(protocol).await;
        let response = client.get("https://a.net/").await.expect("a response");
        assert_eq!(crate::harness::read(response).await.expect("a body"), "served", "{protocol:?}");
    }
    front.ended().await;
}
