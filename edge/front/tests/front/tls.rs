//! Names and certificates, seen by clients.

use std::sync::Arc;

use eyot_front::{Settings, TlsSettings};
use eyot_plan::arrival::Protocol;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::harness::{ALL, Front, read, tcp, text};

#[tokio::test]
async fn an_unknown_name_is_refused_and_a_known_one_gets_its_own_certificate() {
    let front = Front::answering(|_| async { text("served") });
    for protocol in ALL {
        assert!(front.client_of(protocol, "c.net").await.is_err(), "{protocol:?}");
    }
    for (name, file) in [("a.net", "a"), ("x.a.net", "a"), ("b.net", "b"), ("127.0.0.1", "a")] {
        let stream = front.raw(name, "h2").await.expect("TLS");
        let chain = stream.get_ref().1.peer_certificates().expect("a certificate").to_vec();
        assert_eq!(chain[0], front.certificate(file), "{name}");
    }
    let mut client = front.client_of(Protocol::H3, "127.0.0.1").await.expect("a connection without a name");
    assert_eq!(read(client.get("https://127.0.0.1/").await.expect("a response")).await.expect("a body"), "served");
    front.ended().await;
}

#[tokio::test]
async fn a_reload_reaches_new_connections_of_all_protocols() {
    let front = Front::answering(|_| async { text("served") });
    let old = front.certificate("a");
    front.renew(&["a.net", "new.net"]);
    let now = front.raw("a.net", "h2").await;
    assert!(now.is_err(), "the old certificate is served, and the client trusts only the new one");
    front.certificates.reload().expect("good files");
    assert_ne!(old, front.certificate("a"));
    for protocol in ALL {
        for name in ["a.net", "new.net"] {
            let mut client = front.client_of(protocol, name).await.expect("a connection");
            let response = client.get(&format!("https://{name}/")).await.expect("a response");
            assert_eq!(read(response).await.expect("a body"), "served", "{protocol:?} {name}");
        }
    }
    front.ended().await;
}

#[tokio::test]
async fn tls_1_2_is_spoken_over_tcp_by_choice_only_and_no_protocol_means_http_1() {
    for (tls_1_2, version, spoken) in [
        (false, &rustls::version::TLS12, false),
        (false, &rustls::version::TLS13, true),
        (true, &rustls::version::TLS12, true),
        (true, &rustls::version::TLS13, true),
    ] {
        let settings = Settings { tls: TlsSettings { tls_1_2, ..TlsSettings::default() }, ..Settings::default() };
        let front = Front::with(settings, |_| async { text("served") });
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates([front.certificate("a")]);
        let config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
        let config = config.expect("a version").with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("a.net").expect("a name");
        let stream = tcp(front.tls).await.expect("a listener");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        assert_eq!(stream.is_ok(), spoken, "{tls_1_2} {version:?}: {:?}", stream.err());
        if let Ok(stream) = stream {
            assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
            let io = hyper_util::rt::TokioIo::new(stream);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("HTTP/1");
            let connection = tokio::spawn(connection);
            let request = http::Request::get("/").header("host", "a.net").body(crate::harness::nothing()).expect("one");
            assert_eq!(sender.send_request(request).await.expect("a response").status(), 200);
            connection.abort();
        }
        front.ended().await;
    }
}

#[tokio::test]
async fn a_client_that_asks_for_an_unknown_name_is_told_so_over_tcp_and_quic() {
    let front = Front::answering(|_| async { text("served") });
    let refused = front.raw("c.net", "h2").await.expect_err("an unknown name");
    let told = refused.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let alert = rustls::AlertDescription::UnrecognisedName;
    assert_eq!(told, Some(&rustls::Error::AlertReceived(alert)));
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(front.trust(&["h3"])).expect("TLS 1.3");
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
    let connecting = endpoint.connect_with(quinn::ClientConfig::new(Arc::new(tls)), front.tls, "c.net");
    match connecting.expect("a name").await.expect_err("an unknown name") {
        quinn::ConnectionError::ConnectionClosed(close) => {
            assert_eq!(close.error_code, quinn::TransportErrorCode::crypto(alert.into()));
        }
        other => panic!("{other}"),
    }
    front.ended().await;
}

/// What `openssl s_client` says of a handshake; none where it is not installed.
async fn openssl(front: &Front, arguments: &'static [&'static str]) -> Option<String> {
    let address = front.tls.to_string();
    let asked = move || {
        let mut command = std::process::Command::new("openssl");
        command.args(["s_client", "-brief", "-connect", &address]).args(arguments);
        let output = command.stdin(std::process::Stdio::null()).output().ok()?;
        Some(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    tokio::task::spawn_blocking(asked).await.expect("no panic")
}

#[tokio::test]
async fn openssl_agrees_on_versions_and_names() {
    let front = Front::answering(|_| async { text("served") });
    for (arguments, says) in [
        (&["-servername", "a.net", "-tls1_3"][..], "Protocol version: TLSv1.3"),
        (&["-servername", "a.net", "-tls1_2"], "alert protocol version"),
        (&["-servername", "c.net"], "unrecognized name"),
        (&["-noservername"], "Protocol version: TLSv1.3"),
    ] {
        let Some(said) = openssl(&front, arguments).await else { return };
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    front.ended().await;
}
