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
