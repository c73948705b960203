//! Interim responses: said while the answer is made, in order, and not without end.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use eyot_h3::Limits;
use eyot_h3::server::Interim;
use http::Response;
use http_body_util::Full;
use tokio::sync::{Semaphore, mpsc};

use crate::harness::{PATIENCE, get, head, request, serve, text, uni};

fn hints(link: &str) -> Response<()> {
    Response::builder().status(103).header("link", link).body(()).unwrap()
}

fn of(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

fn answer(text: &'static str) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from(text)))
}

#[tokio::test]
async fn they_come_while_the_answer_is_made_and_in_order() {
    let release = Arc::new(Semaphore::new(0));
    let released = Arc::clone(&release);
    let server = serve(Limits::default(), move |_, mut responder| {
        let released = Arc::clone(&released);
        async move {
            assert!(responder.interim().send(of(100)));
            responder.inform(hints("/first")).await.unwrap();
            let interim = responder.interim();
            assert!(interim.send(hints("/second")));
            // The client has the second, so this one is said while it is waited for.
            let other = async {
                released.acquire().await.unwrap().forget();
                let sent = tokio::spawn(async move { interim.send(hints("/third")) });
                assert!(sent.await.unwrap());
                released.acquire().await.unwrap().forget();
            };
            tokio::select! {
                () = responder.gone() => panic!("the client waits"),
                () = other => {}
            }
            // These come with the answer.
            assert!(responder.interim().send(hints("/last")));
            responder.send(answer("final")).await.unwrap();
        }
    });
    let client = server.client().await;
    let mut told = Vec::new();
    let response = client.send_informed(get("/"), |interim| {
        let link = interim.headers().get("link").map(|it| it.to_str().unwrap().to_owned());
        told.push((interim.status().as_u16(), link.unwrap_or_default()));
        if told.len() >= 3 {
            release.add_permits(1);
        }
    });
    let response = tokio::time::timeout(PATIENCE, response).await.expect("they come without the answer").unwrap();
    let told: Vec<_> = told.iter().map(|(status, link)| (*status, &link[..])).collect();
    assert_eq!(told, [(100, ""), (103, "/first"), (103, "/second"), (103, "/third"), (103, "/last")]);
    assert_eq!(text(response).await, "final");
    release.add_permits(2);
    assert_eq!(text(client.send(get("/")).await.unwrap()).await, "final", "who does not ask is told nothing else");
}

#[tokio::test]
async fn what_is_none_or_too_late_or_too_much_is_not_sent() {
    let kept: Arc<Mutex<Option<Interim>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let server = serve(Limits::default(), move |request, mut responder| {
        let keep = Arc::clone(&keep);
        async move {
            let interim = responder.interim();
            for status in [101, 200, 404] {
                assert!(!interim.send(of(status)), "{status}");
            }
            let large = "x".repeat(60_000);
            if request.uri().path() == "/large" {
                // Its Huffman code is seven bits a letter.
                let sent = [&large[..], &large[..10_000], &large[..30_000], "/"].map(|link| interim.send(hints(link)));
                assert_eq!(sent, [true, true, false, true]);
                return responder.send(answer("large")).await.unwrap();
            }
            if request.uri().path() == "/late" {
                responder.send(answer("late")).await.unwrap();
                *keep.lock().unwrap() = Some(interim);
                return;
            }
            let sent = std::iter::repeat_with(|| interim.send(hints("/"))).take_while(|sent| *sent).take(1000).count();
            assert_eq!(sent, 16);
            responder.send(answer("final")).await.unwrap();
        }
    });
    let client = server.client().await;
    let mut told = 0;
    let response = client.send_informed(get("/"), |_| told += 1).await.unwrap();
    assert_eq!(text(response).await, "final");
    assert_eq!(told, 16);
    assert_eq!(text(client.send(get("/late")).await.unwrap()).await, "late");
    let late = kept.lock().unwrap().take().unwrap();
    assert!(!late.send(hints("/")), "the answer has begun");
    assert_eq!(text(client.send(get("/large")).await.unwrap()).await, "large");
}

#[tokio::test]
async fn a_client_is_told_no_more_than_it_takes() {
    let (told, mut hear) = mpsc::channel(1);
    let server = serve(Limits::default(), move |_, mut responder| {
        let told = told.clone();
        async move {
            let long = hints(&"x".repeat(200));
            let informed = responder.inform(long.clone()).await;
            told.send((responder.interim().send(long), informed.is_err())).await.unwrap();
            let trailers = http::HeaderMap::from_iter([(http::header::ETAG, "y".repeat(200).parse().unwrap())]);
            let body = http_body_util::BodyExt::with_trailers(Full::new(Bytes::new()), async { Some(Ok(trailers)) });
            assert!(matches!(responder.send(Response::new(body)).await, Err(eyot_h3::Error::PeerLimit)));
        }
    });
    let raw = server.raw().await;
    // SETTINGS_MAX_FIELD_SECTION_SIZE of 200.
    let _control = uni(&raw, &[0, 4, 3, 6, 0x40, 200]).await;
    // One of the server's answers means that it has read what came before.
    let (_send, mut recv) = request(&raw, &crate::harness::headers(&[]), true).await;
    crate::harness::reset(&mut recv).await;
    let (_send, mut recv) = request(&raw, &head("GET", &[]), true).await;
    assert_eq!(hear.recv().await, Some((false, true)));
    crate::harness::reset(&mut recv).await;
}
