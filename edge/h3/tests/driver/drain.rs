//! Ends without loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use eyot_h3::core::code::Code;
use eyot_h3::{Error, Limits};
use http::{Request, Response};
use http_body_util::{BodyExt, Channel, Full};
use tokio::sync::Semaphore;

use crate::harness::{client_of, closed, get, listen, next, serve, text, tls};

#[tokio::test]
async fn a_drain_answers_what_is_in_flight_and_then_ends() {
    let gate = Arc::new(Semaphore::new(0));
    let (told, mut hear) = tokio::sync::mpsc::channel(8);
    let handler_gate = Arc::clone(&gate);
    let server = serve(Limits::default(), move |_, responder| {
        let (gate, told) = (Arc::clone(&handler_gate), told.clone());
        async move {
            told.send(()).await.unwrap();
            gate.acquire().await.unwrap().forget();
            responder.send(Response::new(Full::new(Bytes::from("x".repeat(100_000))))).await.unwrap();
        }
    });
    let client = server.client().await;
    let requests: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { text(client.send(get("/")).await.unwrap()).await })
        })
        .collect();
    for _ in 0..3 {
        hear.recv().await.unwrap();
    }
    server.drain.notify_one();
    while !client.is_closed() {
        tokio::task::yield_now().await;
    }
    let refused = client.send(get("/")).await;
    assert!(refused.is_err_and(|error| error.is_unprocessed()));
    gate.add_permits(3);
    for request in requests {
        assert_eq!(request.await.unwrap().len(), 100_000);
    }
    assert!(matches!(client.closed().await, Error::Closed(Code::NO_ERROR)));
    server.end().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_drains_at_once() {
    let server = serve(Limits::default(), crate::harness::echo);
    let raw = server.raw().await;
    server.drain.notify_one();
    assert_eq!(closed(&raw).await, Code::NO_ERROR.0);
    server.end().await.unwrap();
}

#[tokio::test]
async fn the_last_request_is_named_and_later_ones_are_rejected() {
    let gate = Arc::new(Semaphore::new(0));
    let handler_gate = Arc::clone(&gate);
    let server = serve(Limits::default(), move |_, responder| {
        let gate = Arc::clone(&handler_gate);
        async move {
            gate.acquire().await.unwrap().forget();
            let _ = responder.send(Response::new(Full::new(Bytes::new()))).await;
        }
    });
    let raw = server.raw().await;
    let head = crate::harness::head("GET", &[]);
    let (_first, mut answer) = crate::harness::request(&raw, &head, true).await;
    let mut control = raw.accept_uni().await.unwrap();
    // The stream's type and SETTINGS, whose length is its third byte.
    let mut start = [0; 3];
    control.read_exact(&mut start).await.unwrap();
    assert_eq!(start[..2], [0, 4]);
    control.read_exact(&mut vec![0; usize::from(start[2])]).await.unwrap();
    server.drain.notify_one();
    let mut notice = [0; 10];
    control.read_exact(&mut notice).await.unwrap();
    assert_eq!(notice, [7, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc]);
    let mut last = [0; 3];
    control.read_exact(&mut last).await.unwrap();
    assert_eq!(last, [7, 1, 4], "stream 0 was the last: 4 is the first that is not processed");
    let (_second, mut rejected) = crate::harness::request(&raw, &head, true).await;
    assert_eq!(crate::harness::reset(&mut rejected).await, Code::REQUEST_REJECTED.0);
    gate.add_permits(1);
    assert_eq!(answer.read_to_end(100).await.unwrap()[0], 1, "the first is answered");
    assert_eq!(closed(&raw).await, Code::NO_ERROR.0);
    server.end().await.unwrap();
}

#[tokio::test]
async fn a_request_that_a_server_did_not_process_may_be_sent_again() {
    let tls = tls();
    let endpoint = listen(&tls);
    let (client, quinn) = tokio::join!(client_of(&tls, endpoint.local_addr().unwrap()), next(&endpoint));
    let sending = client.clone();
    let first = tokio::spawn(async move { sending.send(get("/")).await });
    let (mut send, _recv) = quinn.accept_bi().await.unwrap();
    let sending = client.clone();
    let second = tokio::spawn(async move { sending.send(get("/")).await });
    let _second = quinn.accept_bi().await.unwrap();
    // Stream 0 is still answered, stream 4 is not.
    let _control = crate::harness::uni(&quinn, &[0, 4, 0, 7, 1, 4]).await;
    let error = second.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Refused) && error.is_unprocessed());
    assert!(client.is_closed());
    send.write_all(&crate::harness::headers(&[(":status", "200")])).await.unwrap();
    send.finish().unwrap();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    assert!(client.send(get("/")).await.is_err_and(|error| error.is_unprocessed()));
    drop(client);
    assert_eq!(closed(&quinn).await, Code::NO_ERROR.0);
}

#[tokio::test]
async fn the_last_clone_closes_the_connection_once_its_body_is_read() {
    let server = serve(Limits::default(), crate::harness::echo);
    let client = server.client().await;
    let body = "x".repeat(1_000_000);
    let response = client.send(crate::harness::post("/", body.clone())).await.unwrap();
    drop(client);
    assert_eq!(text(response).await, body);
    server.end().await.unwrap();
}

#[tokio::test]
async fn under_load_each_request_is_answered_or_surely_not_processed() {
    let processed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&processed);
    let server = serve(Limits::default(), move |request, responder| {
        counter.fetch_add(1, Ordering::Relaxed);
        crate::harness::echo(request, responder)
    });
    let client = server.client().await;
    let senders: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut answered = 0;
                loop {
                    match client.send(crate::harness::post("/", "body")).await {
                        Ok(response) => assert_eq!(text(response).await, "body"),
                        Err(error) if error.is_unprocessed() => return answered,
                        Err(error) => panic!("{error}"),
                    }
                    answered += 1;
                }
            })
        })
        .collect();
    while processed.load(Ordering::Relaxed) < 100 {
        tokio::task::yield_now().await;
    }
    server.drain.notify_one();
    let mut answered = 0;
    for sender in senders {
        answered += sender.await.unwrap();
    }
    assert_eq!(answered, processed.load(Ordering::Relaxed));
    server.end().await.unwrap();
}

#[tokio::test]
async fn a_drain_waits_for_a_request_whose_body_outlives_its_response() {
    let (told, mut hear) = tokio::sync::mpsc::channel(1);
    let server = serve(Limits::default(), move |request, responder| {
        let told = told.clone();
        async move {
            responder.send(Response::new(Full::new(Bytes::from("early")))).await.unwrap();
            let body = request.into_body().collect().await.map(|body| body.to_bytes());
            told.send(body).await.unwrap();
        }
    });
    let client = server.client().await;
    let (mut send, body) = Channel::<Bytes, Error>::new(1);
    let response = client.send(Request::post("https://localhost/").body(body).unwrap()).await.unwrap();
    assert_eq!(text(response).await, "early");
    server.drain.notify_one();
    while !client.is_closed() {
        tokio::task::yield_now().await;
    }
    send.send_data(Bytes::from("late")).await.unwrap();
    drop(send);
    assert_eq!(hear.recv().await.unwrap().unwrap(), "late");
    server.end().await.unwrap();
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_client_that_left_without_a_word() {
    let gate = Arc::new(Semaphore::new(0));
    let (told, mut hear) = tokio::sync::mpsc::channel(1);
    let handler_gate = Arc::clone(&gate);
    let server = serve(Limits::default(), move |_, responder| {
        let (gate, told) = (Arc::clone(&handler_gate), told.clone());
        async move {
            told.send(()).await.unwrap();
            gate.acquire().await.unwrap().forget();
            let _ = responder.send(Response::new(Full::new(Bytes::from("unheard")))).await;
        }
    });
    // What the server sends passes on: how the connection ended can be seen, and that it did not time out.
    let between = crate::harness::Between::new(server.address).await;
    let raw = crate::harness::raw(&server.tls, between.address).await;
    let (_send, _answer) = crate::harness::request(&raw, &crate::harness::head("GET", &[]), true).await;
    hear.recv().await.unwrap();
    between.mute();
    server.drain.notify_one();
    gate.add_permits(1);
    assert_eq!(closed(&raw).await, Code::NO_ERROR.0, "closed by the server, and not lost");
    server.end().await.unwrap();
}
