use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_cert::der::{Decode as _, Encode as _};

use super::*;
use crate::certificates::{Certificates, Chooser};

fn challenge(name: &str, token: &str) -> Challenge {
    Challenge::new(name, token, &format!("{token}.thumb_print-1")).expect("a challenge")
}

fn asks(method: &str, uri: &str) -> request::Parts {
    Request::builder().method(method).uri(uri).body(()).expect("a request").into_parts().0
}

#[test]
fn what_cannot_be_a_challenge_is_none() {
    let long = "x".repeat(129);
    let cases = [
        ("a.example", "tok_en-1", "tok_en-1.thumb", true),
        ("localhost", "t", "t.x", true),
        ("A.example", "t", "t.x", false),
        ("", "t", "t.x", false),
        ("a/b", "t", "t.x", false),
        (&"a".repeat(254), "t", "t.x", false),
        ("a.example", "", ".x", false),
        ("a.example", "t", "t.", false),
        ("a.example", "t", "u.x", false),
        ("a.example", "t", "tx", false),
        ("a.example", "../t", "../t.x", false),
        ("a.example", "t", "t.x\r\ny", false),
        ("a.example", &long, &format!("{long}.x"), false),
        ("a.example", "t", &format!("t.{long}"), false),
    ];
    for (name, token, answer, expect) in cases {
        assert_eq!(Challenge::new(name, token, answer).is_some(), expect, "{name} {token} {answer}");
    }
}

#[tokio::test]
async fn http_01_is_answered_for_its_host_its_token_and_reading_alone() {
    let challenges = Challenges::default();
    challenges.put(challenge("a.example", "one")).expect("held");
    challenges.put(challenge("b.example", "two")).expect("held");
    for (method, uri, expect) in [
        ("GET", "http://a.example/.well-known/acme-challenge/one", Some("one.thumb_print-1")),
        ("HEAD", "http://A.example:80/.well-known/acme-challenge/one", Some("one.thumb_print-1")),
        ("GET", "http://a.example/.well-known/acme-challenge/one?x=y", Some("one.thumb_print-1")),
        ("GET", "http://b.example/.well-known/acme-challenge/one", None),
        ("GET", "http://a.example/.well-known/acme-challenge/two", None),
        ("GET", "http://a.example/.well-known/acme-challenge/one/", None),
        ("GET", "http://a.example/.well-known/acme-challenge/", None),
        ("GET", "http://a.example/one", None),
        ("POST", "http://a.example/.well-known/acme-challenge/one", None),
    ] {
        let answer = challenges.http(&asks(method, uri));
        let text = match answer {
            None => None,
            Some(response) => {
                assert_eq!(response.headers()[CONTENT_TYPE], "application/octet-stream");
                Some(response.into_body().collect().await.expect("whole").to_bytes())
            }
        };
        assert_eq!(text.as_deref(), expect.map(str::as_bytes), "{method} {uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_challenge_is_answered_for_ten_minutes_or_until_256_later_ones_or_its_removal() {
    let challenges = Challenges::default();
    let asked = |token: &str| {
        challenges.http(&asks("GET", &format!("http://a.example/.well-known/acme-challenge/{token}"))).is_some()
    };
    challenges.put(challenge("a.example", "first")).expect("held");
    challenges.put(challenge("a.example", "second")).expect("held");
    challenges.remove(&challenge("a.example", "second"));
    assert!(asked("first") && !asked("second"));
    tokio::time::advance(Duration::from_secs(599)).await;
    assert!(asked("first"));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!asked("first"));
    for count in 0..257 {
        challenges.put(challenge("a.example", &format!("t{count}"))).expect("held");
    }
    assert!(!asked("t0") && asked("t1") && asked("t256"));
}

/// Takes every certificate and keeps it.
#[derive(Debug)]
struct Keeper(std::sync::Mutex<Option<Vec<u8>>>);

impl ServerCertVerifier for Keeper {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().expect("whole") = Some(leaf.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Shakes hands as a client that offers `protocols` for `name`; the certificate it was shown and the protocol.
fn shake(certificates: &Arc<Certificates>, name: &str, protocols: &[&[u8]]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let keeper = Arc::new(Keeper(std::sync::Mutex::default()));
    let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(keeper.clone())
        .with_no_client_auth();
    client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let chooser = Chooser { certificates: certificates.clone(), local: None };
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(chooser));
    server.alpn_protocols = vec![b"h2".to_vec(), ACME_TLS.to_vec()];
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).expect("a client");
    let mut server = rustls::ServerConnection::new(Arc::new(server)).expect("a server");
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("memory");
        server.read_tls(&mut wire.as_slice()).expect("memory");
        server.process_new_packets().ok()?;
        wire.clear();
        server.write_tls(&mut wire).expect("memory");
        client.read_tls(&mut wire.as_slice()).expect("memory");
        client.process_new_packets().ok()?;
    }
    let leaf = keeper.0.lock().expect("whole").take()?;
    Some((leaf, client.alpn_protocol().map(<[u8]>::to_vec)))
}

#[tokio::test]
async fn tls_alpn_01_shows_the_digest_of_the_answer_to_who_speaks_nothing_else() {
    let certificates = Certificates::none();
    certificates.challenges().put(challenge("a.example", "old")).expect("held");
    certificates.challenges().put(challenge("a.example", "one")).expect("held");
    let (leaf, protocol) = shake(&certificates, "a.example", &[ACME_TLS]).expect("a handshake");
    assert_eq!(protocol.as_deref(), Some(ACME_TLS));
    let leaf = x509_cert::Certificate::from_der(&leaf).expect("a certificate");
    let extensions = leaf.tbs_certificate.extensions.as_ref().expect("extensions");
    let identifier = extensions.iter().find(|it| it.extn_id.to_string() == "1.3.6.1.5.5.7.1.31").expect("the digest");
    assert!(identifier.critical);
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, b"one.thumb_print-1");
    let expect = x509_cert::der::asn1::OctetString::new(digest.as_ref()).expect("bytes").to_der().expect("DER");
    assert_eq!(identifier.extn_value.as_bytes(), expect);
    for (name, protocols) in [
        ("b.example", &[ACME_TLS][..]),
        ("a.example", &[ACME_TLS, b"h2"]),
        ("a.example", &[b"h2", ACME_TLS]),
        ("a.example", &[b"h2"]),
        ("a.example", &[]),
    ] {
        assert!(shake(&certificates, name, protocols).is_none(), "{name} {protocols:?}: it has no other certificate");
    }
}
