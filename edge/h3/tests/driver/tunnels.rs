//! Extended CONNECT (RFC 9220): tunnels through one stream.

use std::time::Duration;

use bytes::Bytes;
use eyot_h3::core::code::Code;
use eyot_h3::server::Responder;
use eyot_h3::{Error, Limits, Protocol, RecvBody};
use futures_util::FutureExt as _;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Channel, Full};
use tokio::sync::mpsc;

use crate::harness::{
    PATIENCE, Server, client_of, client_with, closed, headers, listen, next, request, reset, serve, text, tls, uni,
};

fn offering<H, F>(handler: H) -> Server
where
    H: Fn(Request<RecvBody>, Responder) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    serve(Limits { connect_protocol: true, ..Limits::default() }, handler)
}

fn tunnel<B: Body>(body: B) -> Request<B> {
    let request = Request::connect("https://localhost/chat").extension(Protocol::WEBSOCKET);
    request.header("sec-websocket-version", "13").body(body).unwrap()
}

/// The next part of a body.
async fn part(body: &mut RecvBody) -> Option<Result<Bytes, Error>> {
    body.frame().await.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
}

#[tokio::test]
async fn a_tunnel_carries_both_ways_at_once_and_each_end_ends_by_itself() {
    let server = offering(|request, responder| async move {
        assert_eq!(request.method(), Method::CONNECT);
        assert_eq!(request.uri(), "https://localhost/chat");
        assert_eq!(request.extensions().get(), Some(&Protocol::WEBSOCKET));
        assert_eq!(request.headers()["sec-websocket-version"], "13");
        let mut up = request.into_body();
        let (mut down, body) = Channel::<Bytes, Error>::new(1);
        tokio::spawn(async move {
            while let Some(part) = part(&mut up).await {
                down.send_data(part.unwrap()).await.unwrap();
            }
            down.send_data(Bytes::from("the last word")).await.unwrap();
        });
        let response = Response::builder().header("content-length", "3").body(body).unwrap();
        responder.send(response).await.unwrap();
    });
    let client = server.client().await;
    let (mut up, body) = Channel::<Bytes, Error>::new(1);
    let response = client.send(tunnel(body)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("content-length"), "a tunnel has no length");
    let mut down = response.into_body();
    for word in ["one", "two", "three"] {
        up.send_data(Bytes::from(word)).await.unwrap();
        assert_eq!(part(&mut down).await.unwrap().unwrap(), word);
    }
    drop(up);
    assert_eq!(part(&mut down).await.unwrap().unwrap(), "the last word");
    assert!(part(&mut down).await.is_none());
}

#[tokio::test]
async fn a_tunnel_that_breaks_off_at_one_end_does_so_at_the_other() {
    let (told, mut hear) = mpsc::channel(4);
    let server = offering(move |request, responder| {
        let told = told.clone();
        async move {
            let mut up = request.into_body();
            let (mut down, body) = Channel::<Bytes, std::io::Error>::new(1);
            let sending = tokio::spawn(responder.send(Response::new(body)));
            down.send_data(Bytes::from("open")).await.unwrap();
            match part(&mut up).await {
                Some(Ok(_)) => down.abort(std::io::Error::other("broken")),
                other => told.send(("up", other.unwrap().unwrap_err())).await.unwrap(),
            }
            if let Err(error) = sending.await.unwrap() {
                told.send(("down", error)).await.unwrap();
            }
        }
    });
    let client = server.client().await;
    let open = async || {
        let (up, body) = Channel::<Bytes, std::io::Error>::new(1);
        let mut down = client.send(tunnel(body)).await.unwrap().into_body();
        assert_eq!(part(&mut down).await.unwrap().unwrap(), "open");
        (up, down)
    };
    let (mut up, mut down) = open().await;
    up.send_data(Bytes::from("break")).await.unwrap();
    let broken = part(&mut down).await.unwrap();
    assert!(matches!(broken, Err(Error::Reset(Code::REQUEST_CANCELLED))), "{broken:?}");
    assert!(matches!(hear.recv().await, Some(("down", Error::Body(_)))));
    let (up, _down) = open().await;
    up.abort(std::io::Error::other("broken"));
    let broken = hear.recv().await;
    assert!(matches!(broken, Some(("up", Error::Reset(Code::REQUEST_CANCELLED)))), "{broken:?}");
    let (_up, down) = open().await;
    drop(down);
    let broken = hear.recv().await;
    assert!(matches!(broken, Some((_, Error::Reset(Code::REQUEST_CANCELLED) | Error::Stopped(_)))), "{broken:?}");
}

#[tokio::test]
async fn a_tunnel_that_is_refused_has_an_answer_like_any_other() {
    let server = offering(|_, responder| async move {
        responder.send(Response::builder().status(403).body(Full::new(Bytes::from("no"))).unwrap()).await.unwrap();
    });
    let client = server.client().await;
    let response = client.send(tunnel(Full::default())).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["content-length"]), (403, &"2".parse().unwrap()));
    assert_eq!(text(response).await, "no");
}

#[tokio::test]
async fn a_server_that_does_not_offer_it_is_not_asked_and_refuses_who_asks_all_the_same() {
    let server = serve(Limits::default(), crate::harness::echo);
    let client = server.client().await;
    let refused = client.send(tunnel(Full::default())).await;
    assert!(refused.is_err_and(|error| matches!(error, Error::ConnectProtocol) && error.is_unprocessed()));
    let server = serve(Limits::default(), crate::harness::echo);
    let raw = server.raw().await;
    let connect = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/")];
    let bytes = headers(&[&connect[..], &[(":authority", "localhost")]].concat());
    let (_send, mut recv) = request(&raw, &bytes, false).await;
    assert_eq!(Code(reset(&mut recv).await), Code::MESSAGE_ERROR);
}

#[tokio::test]
async fn a_client_waits_until_the_server_has_said_that_it_takes_it() {
    let tls = tls();
    for (setting, is_offered) in [(1, true), (0, false)] {
        let endpoint = listen(&tls);
        let (client, quinn) = tokio::join!(client_of(&tls, endpoint.local_addr().unwrap()), next(&endpoint));
        let sending = client.clone();
        let mut sent = Box::pin(async move { sending.send(tunnel(Full::default())).await });
        assert!(sent.as_mut().now_or_never().is_none());
        // An ordinary request does not wait: it has the first stream.
        let sending = client.clone();
        let other = tokio::spawn(async move { sending.send(crate::harness::get("/")).await });
        let (mut send, _recv) = quinn.accept_bi().await.unwrap();
        assert_eq!(u64::from(send.id()), 0);
        send.write_all(&headers(&[(":status", "200")])).await.unwrap();
        other.await.unwrap().unwrap();
        assert!(sent.as_mut().now_or_never().is_none());
        let _control = uni(&quinn, &[0, 4, 2, 8, setting]).await;
        if is_offered {
            let answer = async {
                let (mut send, _recv) = quinn.accept_bi().await.unwrap();
                send.write_all(&headers(&[(":status", "200")])).await.unwrap();
                send
            };
            let (response, _send) = tokio::join!(sent, answer);
            assert_eq!(response.unwrap().status(), 200);
        } else {
            assert!(sent.await.is_err_and(|error| matches!(error, Error::ConnectProtocol)));
        }
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_without_end() {
    let tls = tls();
    let endpoint = listen(&tls);
    let limits = Limits { header_time_max: Duration::from_millis(50), ..Limits::default() };
    let address = endpoint.local_addr().unwrap();
    let (client, _quinn) = tokio::join!(client_with(&tls, address, limits), next(&endpoint));
    let sent = tokio::time::timeout(PATIENCE, client.send(tunnel(Full::default()))).await.expect("it ends");
    assert!(sent.is_err_and(|error| matches!(error, Error::ConnectProtocol)));
}

#[tokio::test]
async fn trailers_in_a_tunnel_end_the_connection() {
    let server = offering(|request, responder| async move {
        let _ = responder.send(Response::new(request.into_body())).await;
    });
    let raw = server.raw().await;
    let connect = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/")];
    let head = headers(&[&connect[..], &[(":authority", "localhost")]].concat());
    let _streams = request(&raw, &[head, headers(&[("x", "y")])].concat(), true).await;
    assert_eq!(Code(closed(&raw).await), Code::FRAME_UNEXPECTED);
}
