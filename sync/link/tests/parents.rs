//! The client against parents that are slow, broken or hostile: real sockets, and a parent that plays a script.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_link::client::{Client, Parents, Token};
use eyot_link::error::Error;
use eyot_link::wire::{Action, LISTING_BYTES_MAX, METADATA_BYTES_MAX, RolloutRequest};
use http::header::{AUTHORIZATION, CONTENT_RANGE, RANGE};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a parent does with its n-th request.
type Script = fn(usize, &Request<Incoming>) -> Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// A parent that speaks HTTP/2 only.
struct Parent {
    address: SocketAddr,
    ca_pem: String,
    asked: Arc<AtomicUsize>,
}

async fn parent(script: Script) -> Parent {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let ca_pem = made.cert.pem();
    let chain = vec![CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| {
                    let response = script(count.fetch_add(1, Ordering::SeqCst), &request);
                    std::future::ready(Ok::<_, Infallible>(response))
                });
                let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Parent { address, ca_pem, asked }
}

fn client(parents: &[&Parent]) -> Client {
    Client::new(Parents {
        urls: parents.iter().map(|parent| format!("https://{}", parent.address)).collect(),
        ca_pem: parents.iter().map(|parent| parent.ca_pem.as_str()).collect::<String>().into_bytes(),
        token: Some(Token::new("0123456789abcdef\n").expect("a token")),
        signer: None,
    })
    .expect("a client")
}

fn full(bytes: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, std::io::Error> {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn status(code: u16, text: &'static str) -> Response<UnsyncBoxBody<Bytes, std::io::Error>> {
    let mut response = Response::new(full(text));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    response
}

/// A body without an end.
fn endless() -> UnsyncBoxBody<Bytes, std::io::Error> {
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move { while sender.send_data(Bytes::from(vec![b'x'; 64 << 10])).await.is_ok() {} });
    body.boxed_unsync()
}

fn blob() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test]
async fn a_parent_without_http_3_is_asked_over_http_2_from_then_on() {
    let parent = parent(|_, request| {
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer 0123456789abcdef");
        status(200, "{}")
    })
    .await;
    let client = client(&[&parent]);
    for _ in 0..3 {
        assert_eq!(client.metadata("timestamp.json").await.expect("an answer").as_deref(), Some(&b"{}"[..]));
    }
    assert_eq!(parent.asked.load(Ordering::SeqCst), 3);
    assert!(!format!("{client:?}").contains("0123456789abcdef"), "the token is masked");
}

#[tokio::test]
async fn a_parent_that_fails_leads_to_the_next_which_is_asked_first_then() {
    let failing = parent(|_, _| status(503, r#"{"code":"overloaded"}"#)).await;
    let good = parent(|_, _| status(200, "{}")).await;
    let two = client(&[&failing, &good]);
    for _ in 0..3 {
        two.metadata("timestamp.json").await.expect("an answer");
    }
    assert_eq!((failing.asked.load(Ordering::SeqCst), good.asked.load(Ordering::SeqCst)), (1, 3));
    let error = client(&[&failing]).metadata("timestamp.json").await.expect_err("it fails");
    assert!(error.code() == Some("overloaded") && error.is_passing(), "{error}");
    let strange = Parent { address: good.address, ca_pem: failing.ca_pem.clone(), asked: Arc::clone(&good.asked) };
    let error = client(&[&strange]).metadata("timestamp.json").await.expect_err("another CA");
    let told = error.to_string();
    assert!(told.contains("h3:") && told.contains("h2:") && told.contains("certificate"), "{told}");
}

#[tokio::test]
async fn what_must_not_be_done_twice_is_not_sent_twice() {
    let failing = parent(|_, _| status(500, "")).await;
    let other = parent(|_, _| status(200, r#"{"seq":1}"#)).await;
    let client = client(&[&failing, &other]);
    let app = "shop".parse().expect("a name");
    let request = RolloutRequest { action: Action::Promote, release: None };
    assert!(matches!(client.rollout(&app, &request).await, Err(Error::Refused { status: 500, .. })));
    assert_eq!((failing.asked.load(Ordering::SeqCst), other.asked.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn what_is_larger_than_it_may_be_is_not_taken() {
    let parent = parent(|_, _| Response::new(endless())).await;
    let client = client(&[&parent]);
    for (error, limit) in [
        (client.metadata("timestamp.json").await.expect_err("no end"), METADATA_BYTES_MAX),
        (
            client.target("control/shop.json", Digest::of(b"x"), usize::MAX).await.expect_err("no end"),
            METADATA_BYTES_MAX,
        ),
        (client.target("control/shop.json", Digest::of(b"x"), 1000).await.expect_err("no end"), 1000),
        (client.fleet().await.expect_err("no end"), LISTING_BYTES_MAX),
    ] {
        assert!(matches!(error, Error::TooLarge { limit_bytes, .. } if limit_bytes == limit as u64), "{error}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let into = folder.path().join("blob");
    let error = client.blob(Digest::of(b"x"), 1000, &into).await.expect_err("no end");
    assert!(matches!(error, Error::TooLarge { limit_bytes: 1000, .. }), "{error}");
    assert_eq!(std::fs::metadata(&into).expect("the file").len(), 0);
}

#[tokio::test]
async fn of_a_problem_document_no_more_than_16_kib_is_read() {
    let parent = parent(|count, _| {
        let problem = r#"{"code":"over_quota"}"#;
        let spaces = [0, (16 << 10) - problem.len(), (16 << 10) - problem.len() + 1];
        let body = spaces.get(count).map(|spaces| full(" ".repeat(*spaces) + problem)).unwrap_or_else(endless);
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    })
    .await;
    let client = client(&[&parent]);
    for code in [Some("over_quota"), Some("over_quota"), None, None] {
        let error = client.metadata("timestamp.json").await.expect_err("refused");
        assert!(matches!(error, Error::Refused { status: 403, .. }), "{error}");
        assert_eq!(error.code().filter(|code| !code.is_empty()), code);
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_in_the_time_it_has_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let get = eyot_link::get::Get {
        url: url.parse().expect("a URL"),
        protocol: eyot_link::line::Protocol::H1,
        connect: None,
        authorities: eyot_link::tls::Authorities::Public,
        method: http::Method::GET,
        headers: http::HeaderMap::new(),
        body: eyot_link::body::empty(),
        patience: eyot_link::line::Patience::default(),
        head_ms: 10,
    };
    let error = eyot_link::get::get(get).await.expect_err("nobody accepts");
    assert!(matches!(error, Error::Silent { .. }), "{error}");
}

#[tokio::test]
async fn a_download_that_ends_early_goes_on_where_it_was() {
    let parent = parent(|_, request| {
        let blob = blob();
        let range = request.headers().get(RANGE).map(|range| range.to_str().expect("text").to_owned());
        let from = range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let from: usize = from.unwrap_or(0);
        let to = blob.len().min(from + 500_000);
        let mut response = Response::new(full(blob[from..to].to_vec()));
        if range.is_some() {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
            response.headers_mut().insert(CONTENT_RANGE, range.parse().expect("a field"));
        }
        response
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let into = folder.path().join("blob");
    let blob = blob();
    client(&[&parent]).blob(Digest::of(&blob), blob.len() as u64, &into).await.expect("the blob");
    assert_eq!(std::fs::read(&into).expect("the file"), blob);
}

#[tokio::test]
async fn a_parent_that_ignores_ranges_or_lies_about_them_costs_only_time() {
    let plain = parent(|_, _| Response::new(full(blob()))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let into = folder.path().join("blob");
    let blob = blob();
    std::fs::write(&into, &blob[..1000]).expect("a beginning");
    client(&[&plain]).blob(Digest::of(&blob), blob.len() as u64, &into).await.expect("the blob");
    assert_eq!(std::fs::read(&into).expect("the file"), blob);
    let wrong = parent(|_, _| Response::new(full(vec![0; 1_200_000]))).await;
    let fresh = folder.path().join("fresh");
    let error = client(&[&wrong]).blob(Digest::of(&blob), blob.len() as u64, &fresh).await.expect_err("other bytes");
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    assert_eq!(std::fs::metadata(&fresh).expect("the file").len(), 0);
    let never = parent(|_, _| status(200, "")).await;
    let error = client(&[&never]).blob(Digest::of(&blob), blob.len() as u64, &fresh).await.expect_err("nothing comes");
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    assert_eq!(never.asked.load(Ordering::SeqCst), 5, "tries are bounded");
}

#[tokio::test]
async fn a_watch_that_ends_or_talks_nonsense_is_an_error() {
    let parent = parent(|count, _| match count {
        0 => status(200, "{\"seq\":7}\n{\"later\":1}\n"),
        1 => status(200, "nonsense\n"),
        2 => Response::new(endless()),
        _ => status(403, r#"{"code":"not_yours","detail":"no"}"#),
    })
    .await;
    let client = client(&[&parent]);
    let mut stream = client.watch(0, None).await.expect("a stream");
    stream.next().await.expect("a line");
    assert!(matches!(stream.next().await, Err(Error::Broken { .. })));
    assert!(matches!(client.watch(0, None).await.expect("a stream").next().await, Err(Error::Malformed { .. })));
    assert!(matches!(client.watch(0, None).await.expect("a stream").next().await, Err(Error::TooLarge { .. })));
    assert!(matches!(client.watch(0, None).await, Err(Error::Refused { status: 403, .. })));
}

#[test]
fn settings_that_cannot_work_are_refused_before_anything_is_asked() {
    let parents = |url: &str, ca: &str| Parents {
        urls: vec![url.to_owned()],
        ca_pem: ca.as_bytes().to_vec(),
        token: None,
        signer: None,
    };
    let ca = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).expect("a certificate").cert.pem();
    assert!(Client::new(parents("https://a:1", &ca)).is_ok());
    for bad in [
        parents("http://a:1", &ca),
        parents("a", &ca),
        parents("https://a:1/path", &ca),
        parents("https://a:1", ""),
        parents("https://a:1", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        Parents { urls: Vec::new(), ..parents("https://a:1", &ca) },
    ] {
        assert!(matches!(Client::new(bad), Err(Error::Settings(_))));
    }
    for bad in ["", "short", "white space in the token", &"x".repeat(257)] {
        assert!(Token::new(bad).is_err(), "{bad}");
    }
}
