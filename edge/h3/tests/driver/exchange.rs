//! Requests and responses, both sides ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use eyot_h3::core::code::Code;
use eyot_h3::{Error, Limits};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Channel, Empty, Full, StreamBody};

use crate::harness::{echo, get, post, serve, text};

#[tokio::test]
async fn a_request_is_answered() {
    let server = serve(Limits::default(), |request, responder| async move {
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.uri(), "https://localhost/a?b=c");
        assert_eq!(request.headers()["x-asked"], "yes");
        assert!(request.body().is_end_stream());
        let response = Response::builder().status(418).header("x-told", "no").body(Full::new(Bytes::from("tea")));
        responder.send(response.unwrap()).await.unwrap();
    });
    let client = server.client().await;
    let mut request = get("/a?b=c");
    request.headers_mut().insert("x-asked", HeaderValue::from_static("yes"));
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), 418);
    assert_eq!(response.headers()["x-told"], "no");
    assert_eq!(response.headers()["content-length"], "3");
    assert_eq!(text(response).await, "tea");
    drop(client);
    server.end().await.unwrap();
}

#[tokio::test]
async fn bodies_and_trailers_come_back() {
    let server = serve(Limits::default(), echo);
    let client = server.client().await;
    for size in [0, 1, 1000, 1025, 65_536, 1_000_000] {
        let body: Vec<u8> = (0..size).map(|at: usize| at.to_le_bytes()[0]).collect();
        let response = client.send(post("/", body.clone())).await.unwrap();
        assert_eq!(response.body().size_hint().exact(), Some(size as u64));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body, "{size}");
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    let body = Full::new(Bytes::from("half")).with_trailers(std::future::ready(Some(Ok(trailers.clone()))));
    let response = client.send(Request::post("https://localhost/").body(body).unwrap()).await.unwrap();
    let whole = response.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers(), Some(&trailers));
    assert_eq!(whole.to_bytes(), "half");
}

/// 100 MiB, made as they are taken; counts what is made.
fn large(made: Arc<AtomicUsize>) -> impl Body<Data = Bytes, Error = Error> + Send + 'static {
    const PIECE: usize = 64 << 10;
    let piece = Bytes::from(vec![7; PIECE]);
    StreamBody::new(futures_util::stream::iter((0..LARGE / PIECE).map(move |_| {
        made.fetch_add(PIECE, Ordering::Relaxed);
        Ok(Frame::data(piece.clone()))
    })))
}

const LARGE: usize = 100 << 20;

/// What may be between the two ends: the send window, the stream's receive window, one batch, and some rounding.
const BETWEEN_MAX: usize = 4 << 20;

/// Reads a large body; at no time is more of it made than may be between the two ends.
async fn drink(mut body: eyot_h3::RecvBody, made: &AtomicUsize) -> usize {
    let mut taken = 0;
    while let Some(frame) = body.frame().await {
        taken += frame.unwrap().into_data().unwrap().len();
        let between = made.load(Ordering::Relaxed) - taken;
        assert!(between <= BETWEEN_MAX, "{between} bytes are held");
    }
    taken
}

#[tokio::test]
async fn a_large_response_is_made_no_faster_than_it_is_taken() {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let server = serve(Limits::default(), move |_, responder| {
        let body = large(Arc::clone(&counter));
        async move { responder.send(Response::new(body)).await.unwrap() }
    });
    let client = server.client().await;
    let response = client.send(get("/")).await.unwrap();
    assert_eq!(drink(response.into_body(), &made).await, LARGE);
}

#[tokio::test]
async fn a_large_request_is_made_no_faster_than_it_is_taken() {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let server = serve(Limits::default(), move |request, responder| {
        let made = Arc::clone(&counter);
        async move {
            let taken = drink(request.into_body(), &made).await;
            responder.send(Response::new(Full::new(Bytes::from(taken.to_string())))).await.unwrap();
        }
    });
    let client = server.client().await;
    let body = large(Arc::clone(&made));
    let response = client.send(Request::post("https://localhost/").body(body).unwrap()).await.unwrap();
    assert_eq!(text(response).await, LARGE.to_string());
}

#[tokio::test]
async fn many_requests_run_at_once_on_one_connection() {
    let server = serve(Limits::default(), echo);
    let client = server.client().await;
    let requests = (0..500).map(|at| {
        let client = client.clone();
        async move {
            let body = at.to_string().repeat(at);
            let response = client.send(post("/", body.clone())).await.unwrap();
            assert_eq!(text(response).await, body);
        }
    });
    futures_util::future::join_all(requests).await;
}

#[tokio::test]
async fn head_and_empty_responses_have_no_body() {
    let server = serve(Limits::default(), |request, responder| async move {
        let status = request.uri().path()[1..].parse::<u16>().unwrap();
        let body = Full::new(Bytes::from("not to be seen"));
        let _ = responder.send(Response::builder().status(status).body(body).unwrap()).await;
    });
    let client = server.client().await;
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304)] {
        let uri = format!("https://localhost/{status}");
        let request = Request::builder().method(method).uri(uri).body(Empty::new()).unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(text(response).await, "");
    }
}

#[tokio::test]
async fn interim_responses_are_passed_over() {
    let server = serve(Limits::default(), |_, mut responder| async move {
        for status in [100, 103] {
            responder.inform(Response::builder().status(status).body(()).unwrap()).await.unwrap();
        }
        let refused = responder.inform(Response::builder().status(101).body(()).unwrap()).await;
        assert!(matches!(refused, Err(Error::Unsendable(_))));
        responder.send(Response::new(Full::new(Bytes::from("final")))).await.unwrap();
    });
    let response = server.client().await.send(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, "final");
}

#[tokio::test]
async fn a_body_flows_both_ways_at_once() {
    let server = serve(Limits::default(), echo);
    let client = server.client().await;
    let (mut send, body) = Channel::<Bytes, Error>::new(1);
    let response = client.send(Request::post("https://localhost/").body(body).unwrap()).await.unwrap();
    let mut body = response.into_body();
    for word in ["one", "two", "three"] {
        send.send_data(Bytes::from(word)).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), word);
    }
    drop(send);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_response_body_that_breaks_off_resets_the_stream() {
    let server = serve(Limits::default(), |_, responder| async move {
        let frames = [Ok(Frame::data(Bytes::from("half"))), Err(std::io::Error::other("broken"))];
        let result = responder.send(Response::new(StreamBody::new(futures_util::stream::iter(frames)))).await;
        assert!(matches!(result, Err(Error::Body(_))));
    });
    let client = server.client().await;
    let result = match client.send(get("/")).await {
        Ok(response) => response.into_body().collect().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(matches!(result, Err(Error::Reset(Code::INTERNAL_ERROR))), "{result:?}");
}

#[tokio::test]
async fn a_body_that_does_not_keep_its_length_resets_the_stream() {
    for promised in [3, 5] {
        let server = serve(Limits::default(), move |_, responder| async move {
            let response = Response::builder().header("content-length", promised).body(Full::new(Bytes::from("four")));
            assert!(matches!(responder.send(response.unwrap()).await, Err(Error::Length)));
        });
        let result = server.client().await.send(get("/")).await;
        assert!(matches!(result, Err(Error::Reset(Code::INTERNAL_ERROR))), "{result:?}");
    }
}

#[tokio::test]
async fn a_request_body_that_breaks_off_fails_the_request_at_both_ends() {
    let (told, mut hear) = tokio::sync::mpsc::channel(1);
    let server = serve(Limits::default(), move |request, responder| {
        let told = told.clone();
        async move {
            let result = request.into_body().collect().await;
            told.send(matches!(result, Err(Error::Reset(Code::REQUEST_CANCELLED)))).await.unwrap();
            drop(responder);
        }
    });
    let client = server.client().await;
    let (mut send, body) = Channel::<Bytes, std::io::Error>::new(1);
    let sending = tokio::spawn(async move {
        send.send_data(Bytes::from("half")).await.unwrap();
        send.abort(std::io::Error::other("broken"));
    });
    let result = client.send(Request::post("https://localhost/").body(body).unwrap()).await;
    assert!(matches!(result, Err(Error::Body(_) | Error::Reset(_))), "{result:?}");
    assert!(hear.recv().await.unwrap());
    sending.await.unwrap();
}

#[tokio::test]
async fn a_responder_that_is_dropped_resets_the_stream() {
    let server = serve(Limits::default(), |_, responder| async move { drop(responder) });
    let result = server.client().await.send(get("/")).await;
    assert!(matches!(result, Err(Error::Reset(Code::INTERNAL_ERROR))), "{result:?}");
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let (told, mut hear) = tokio::sync::mpsc::channel(8);
    let server = serve(Limits::default(), move |request, mut responder| {
        let told = told.clone();
        async move {
            told.send("here").await.unwrap();
            if request.uri().path() == "/answered" {
                let (send, body) = Channel::<Bytes, Error>::new(1);
                let result = responder.send(Response::new(body)).await;
                assert!(matches!(result, Err(Error::Stopped(Code::REQUEST_CANCELLED))), "{result:?}");
                drop(send);
            } else {
                responder.gone().await;
            }
            drop(request);
            told.send("gone").await.unwrap();
        }
    });
    let client = server.client().await;
    for path in ["/", "/answered"] {
        for payload in [false, true] {
            let (mut send, body) = Channel::<Bytes, Error>::new(1);
            let send = payload.then_some(async move { send.send_data(Bytes::from("some")).await.map(|()| send) });
            let request = Request::post(format!("https://localhost{path}")).body(body).unwrap();
            let sending = client.clone();
            let request = tokio::spawn(async move { sending.send(request).await });
            let send = match send {
                Some(send) => Some(send.await.unwrap()),
                None => None,
            };
            assert_eq!(hear.recv().await, Some("here"));
            if path == "/answered" {
                drop(request.await.unwrap().unwrap());
            } else {
                request.abort();
            }
            assert_eq!(hear.recv().await, Some("gone"), "{path} {payload}");
            drop(send);
        }
    }
    tokio::spawn(async move { client.send(get("/")).await });
    assert_eq!(hear.recv().await, Some("here"));
}

#[tokio::test]
async fn a_response_that_does_not_wait_for_the_body_stops_it() {
    let server = serve(Limits::default(), |_, responder| async move {
        responder.send(Response::new(Full::new(Bytes::from("enough")))).await.unwrap();
    });
    let client = server.client().await;
    let body = large(Arc::default());
    let response = client.send(Request::post("https://localhost/").body(body).unwrap()).await.unwrap();
    assert_eq!(text(response).await, "enough");
    assert_eq!(text(client.send(get("/")).await.unwrap()).await, "enough", "the connection lives");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_from_a_server_that_is_not_there() {
    let server = serve(Limits::default(), echo);
    let stranger = crate::harness::tls();
    let error = crate::harness::try_client_of(&stranger, server.address).await.unwrap_err();
    assert!(error.is_tls(), "{error}");
}
