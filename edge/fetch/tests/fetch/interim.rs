//! Interim responses: which are passed on, what they say, and how many are taken.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use eyot_fetch::Fetch;
use eyot_plan::arrival::Interim;
use eyot_plan::fault::Code;
use eyot_plan::way::Way;
use http::Response;
use http_body_util::BodyExt;

use crate::harness::*;

/// Asks, and tells what came before the final head and what that was.
async fn asked(fetch: &Fetch, way: &Way, uri: String) -> (Vec<String>, Result<(u16, String), Code>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let interim = Interim::new(move |head: Response<()>| {
        let fields: Vec<_> = head.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        tell.lock().expect("no panic").push(format!("{} {}", head.status().as_u16(), fields.join(", ")));
    });
    let answered = match fetch.send_informed(way, get(uri), &interim).await {
        Err(fault) => Err(fault.code),
        Ok(response) => {
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        }
    };
    let told = told.lock().expect("no panic").clone();
    (told, answered)
}

#[tokio::test]
async fn hints_of_http_1_pass_in_order_without_what_is_for_one_connection() {
    let server = says(concat!(
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: 1\r\ncontent-length: 5\r\n",
        "transfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 199 What\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ))
    .await;
    let fetch = fetch();
    for _ in 0..2 {
        let (told, answered) = asked(&fetch, &way(), server.http("/")).await;
        assert_eq!(
            (told.as_slice(), answered),
            (&["102 ".to_owned(), "103 link: \"</a.css>\"".to_owned()][..], ok("ok"))
        );
        until(|| fetch.idle() == 1).await;
    }
}

/// A server of HTTP/2 that says so many hints before its answer.
async fn hinting(count: usize) -> (Server, Way) {
    let (ca, mut config) = certificate(&["up.test"]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let server = raw(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(tls) = acceptor.accept(stream).await else { return };
            let Ok(mut connection) = h2::server::handshake(tls).await else { return };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                for number in 0..count {
                    let hint = Response::builder().status(103).header("x-number", number);
                    drop(respond.send_informational(hint.body(()).expect("a hint")));
                }
                if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
                    drop(stream.send_data(Bytes::from_static(b"ok"), true));
                }
            }
        }
    })
    .await;
    (server, way_tls(Some("up.test"), Some(&ca)))
}

#[tokio::test]
async fn hints_of_http_2_pass_in_order_and_a_flood_of_them_is_no_response() {
    for (count, answered) in [(0, ok("ok")), (2, ok("ok")), (64, ok("ok")), (65, Err(Code::UpstreamBadResponse))] {
        let (server, way) = hinting(count).await;
        let (told, outcome) = asked(&fetch(), &way, server.https("127.0.0.1", "/")).await;
        assert_eq!(outcome, answered, "{count}");
        let expect: Vec<_> = (0..count.min(64)).map(|number| format!("103 x-number: \"{number}\"")).collect();
        assert_eq!(told, expect);
    }
}
