//! Who the node says it is, and how old the TLS may be that it speaks.

use std::sync::Arc;

use eyot_bundle::digest::Digest;
use eyot_bundle::release::upstream::{ClientCertificate, Http, TlsVersion, UpstreamTls};
use eyot_bundle::release::{Bundle, Secret};
use eyot_bundle::secret::{self, About, Identity, Value};
use eyot_plan::body;
use eyot_plan::fault::Code;
use eyot_plan::way::Way;
use http::Response;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::harness::*;
use crate::http3::{beside_tcp, echo, quic};

/// A certificate for `127.0.0.1`, signed by itself, and its key, as PEM.
struct Identified {
    chain: String,
    key: String,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

fn identified() -> Identified {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    Identified { chain, key, der: made.cert.der().clone(), key_der: made.signing_key.serialize_der() }
}

/// A key as a node has it: sealed by its publisher, opened.
fn opened(key: &str) -> Arc<Value> {
    let (node, app) = (Identity::generate(), "a".parse().expect("a name"));
    let about = About { app: &app, name: "API_KEY", version: 1 };
    let sealed = secret::seal(about, key.as_bytes(), &[node.recipient()]).expect("sealed");
    Arc::new(secret::open(about, &sealed, &node).expect("ours"))
}

/// The way to a server of this authority, as this one.
fn way_as(ca: &str, chain: &str, key: &str) -> Way {
    let sealed = Bundle { sha256: Digest::of(b"sealed"), size: 6 };
    let key_of = Secret { sealed, version: 1 };
    let client = ClientCertificate { chain: chain.to_owned(), secret: "API_KEY".to_owned(), key: key_of };
    let tls = UpstreamTls { ca: Some(ca.to_owned()), client: Some(client), ..UpstreamTls::default() };
    Way { tls: Some(tls), client_key: Some(opened(key)), ..way() }
}

/// A server's TLS that asks each client for one of these certificates. Without one a client comes in only if `is_open`.
fn asking_config(own: &Identified, clients: &[&Identified], is_open: bool) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    clients.iter().for_each(|client| roots.add(client.der.clone()).expect("an authority"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = if is_open { verifier.allow_unauthenticated() } else { verifier };
    let key = PrivateKeyDer::try_from(own.key_der.clone()).expect("a key");
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![own.der.clone()], key)
        .expect("a certificate and its key")
}

/// An HTTPS server with that, which tells each client which it gave by its place.
async fn asking(own: &Identified, clients: &[&Identified], is_open: bool, alpn: &'static str) -> Server {
    let mut config = asking_config(own, clients, is_open);
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let known: Arc<[_]> = clients.iter().map(|client| client.der.clone()).collect();
    raw(move |stream, _| {
        let (acceptor, known) = (acceptor.clone(), Arc::clone(&known));
        async move {
            let Ok(tls) = acceptor.accept(stream).await else { return };
            let given = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let place = given.and_then(|given| known.iter().position(|known| known == given));
            let text = place.map_or("nobody".to_owned(), |place| place.to_string());
            serve(tls, alpn == "h2", move |_| std::future::ready(Response::new(body::full(text.clone())))).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_server_that_asks_who_we_are_is_told_and_lets_in_nobody_else() {
    let (own, us, others) = (identified(), identified(), identified());
    for alpn in ["h2", "http/1.1"] {
        let server = asking(&own, &[&us], false, alpn).await;
        let uri = server.https("127.0.0.1", "/");
        assert_eq!(outcome(&fetch(), &way_as(&own.chain, &us.chain, &us.key), get(&uri)).await, ok("0"), "{alpn}");
        // With TLS 1.3 a client learns only after its handshake that it is not let in.
        for way in [way_tls(None, Some(&own.chain)), way_as(&own.chain, &others.chain, &others.key)] {
            let code = outcome(&fetch(), &way, get(&uri)).await.expect_err("not let in");
            assert!([Code::UpstreamTls, Code::UpstreamBadResponse].contains(&code), "{alpn}: {code:?}");
        }
    }
}

#[tokio::test]
async fn a_server_over_quic_is_told_too_and_lets_in_nobody_else() {
    let (own, us, others) = (identified(), identified(), identified());
    let config = asking_config(&own, &[&us], false);
    let (tcp, socket) = beside_tcp(config.clone(), "h2").await;
    let server = quic(config, socket, echo);
    let uri = tcp.https("127.0.0.1", "/");
    let over_quic = |way: Way| {
        let mut way = Way { http: Http::H3, ..way };
        way.timeouts.connect_ms = 60_000;
        way
    };
    let good = over_quic(way_as(&own.chain, &us.chain, &us.key));
    assert_eq!(outcome(&fetch(), &good, get(&uri)).await, ok(""));
    assert_eq!((server.connections(), tcp.connections()), (1, 0));
    for way in [way_tls(None, Some(&own.chain)), way_as(&own.chain, &others.chain, &others.key)] {
        let code = outcome(&fetch(), &over_quic(way), get(&uri)).await.expect_err("not let in");
        assert!([Code::UpstreamTls, Code::UpstreamBadResponse].contains(&code), "{code:?}");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn connections_and_sessions_are_those_of_one_certificate() {
    let (own, one, other) = (identified(), identified(), identified());
    for alpn in ["h2", "http/1.1"] {
        let server = asking(&own, &[&one, &other], true, alpn).await;
        let fetch = fetch();
        let ways = [
            (way_as(&own.chain, &one.chain, &one.key), "0", 1),
            (way_as(&own.chain, &other.chain, &other.key), "1", 2),
            (way_tls(None, Some(&own.chain)), "nobody", 3),
            (way_as(&own.chain, &one.chain, &one.key), "0", 3),
            (way_as(&own.chain, &other.chain, &other.key), "1", 3),
        ];
        for (way, expect, connections) in ways {
            assert_eq!(outcome(&fetch, &way, get(server.https("127.0.0.1", "/"))).await, ok(expect), "{alpn}");
            until(|| fetch.idle() == server.connections()).await;
            assert_eq!(server.connections(), connections, "{alpn}: {expect}");
        }
    }
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_refused_and_nothing_quotes_it() {
    let (us, others) = (identified(), identified());
    let broken = us.key.replace("-----END PRIVATE KEY-----", "");
    for (chain, key, expect) in [
        (&us.chain, &us.key, None),
        (&format!("{}{}", us.chain, others.chain), &us.key, None),
        (&us.chain, &others.key, Some("does not fit")),
        (&format!("{}{}", others.chain, us.chain), &us.key, Some("does not fit")),
        (&us.chain, &us.chain, Some("no PEM of a private key")),
        (&us.chain, &broken, Some("no PEM of a private key")),
        (&us.chain, &String::new(), Some("no PEM of a private key")),
        (&us.key, &us.key, Some("no client certificate")),
        (&String::new(), &us.key, Some("no client certificate")),
    ] {
        let said = eyot_fetch::fits(chain, key.as_bytes()).err();
        assert_eq!(said.is_some(), expect.is_some(), "{said:?}");
        assert!(said.is_none_or(|said| expect.is_some_and(|expect| said.contains(expect))), "{expect:?}");
    }
    let server = asking(&us, &[&us], true, "h2").await;
    let wrong = way_as(&us.chain, &us.chain, &others.key);
    for way in [wrong.clone(), Way { client_key: None, ..wrong }] {
        let fault = fetch().send(&way, get(server.https("127.0.0.1", "/"))).await.expect_err("no key");
        assert_eq!(fault.code, Code::UpstreamTls);
        let secret = others.key.lines().nth(1).expect("a line of the key");
        assert!(!format!("{way:?} {fault:?} {fault}").contains(secret));
    }
}

#[tokio::test]
async fn a_server_that_speaks_only_what_is_too_old_is_not_spoken_to() {
    let own = identified();
    let least = |min_version| {
        let tls = UpstreamTls { ca: Some(own.chain.clone()), min_version, ..UpstreamTls::default() };
        Way { tls: Some(tls), ..way() }
    };
    let rows: [(&[&SupportedProtocolVersion], _, _); 4] = [
        (&[&rustls::version::TLS12], TlsVersion::V1_2, ok("hello")),
        (&[&rustls::version::TLS12], TlsVersion::V1_3, Err(Code::UpstreamTls)),
        (&[&rustls::version::TLS13], TlsVersion::V1_2, ok("hello")),
        (&[&rustls::version::TLS13], TlsVersion::V1_3, ok("hello")),
    ];
    let fetch = fetch();
    for (versions, min_version, expect) in rows {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(own.key_der.clone()).expect("a key");
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
        let config =
            config.with_no_client_auth().with_single_cert(vec![own.der.clone()], key).expect("a key that fits");
        let server = https(config, "h2", |_| std::future::ready(Response::new(body::full("hello")))).await;
        let found = outcome(&fetch, &least(min_version), get(server.https("127.0.0.1", "/"))).await;
        assert_eq!(found, expect, "{versions:?} {min_version:?}");
    }
}
