//! Clients that come back: by tickets at any node with the same keys, and with early data by choice.

use std::path::Path;
use std::sync::Arc;

use eyot_front::{Resumption, Settings, Tickets, TlsSettings};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::HandshakeKind;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use crate::harness::{Front, tcp, text};

fn front(tickets: Arc<Tickets>, resumption: Resumption) -> Front {
    let tls = TlsSettings { tickets, resumption, ..TlsSettings::default() };
    Front::with(Settings { tls, ..Settings::default() }, |arrival| async move {
        text(if arrival.early { "early" } else { "proven" })
    })
}

fn of_file(folder: &Path, name: &str, key: &str) -> Arc<Tickets> {
    let file = folder.join(name);
    std::fs::write(&file, key.repeat(32)).expect("a file");
    Tickets::load(&file).expect("a key")
}

/// Asks over HTTP/1.1 until the connection is closed, so that what comes after the handshake is read.
async fn over_tcp(front: &Front, config: &Arc<rustls::ClientConfig>) -> std::io::Result<Option<HandshakeKind>> {
    let name = rustls_pki_types::ServerName::try_from("a.net").expect("a name");
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp(front.tls).await?).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a.net\r\nconnection: close\r\n\r\n").await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    assert!(response.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&response));
    Ok(stream.get_ref().1.handshake_kind())
}

#[tokio::test]
async fn a_client_comes_back_to_another_node_that_has_the_key_and_to_no_other() {
    let folder = TempDir::new().expect("a folder");
    let keys = |name: &str, key: &str| of_file(folder.path(), name, key);
    let (one, two) = (front(keys("1", "5b"), Resumption::Tickets), front(keys("2", "5b"), Resumption::Tickets));
    let three = front(keys("3", "6c"), Resumption::Tickets);
    // It trusts the certificate of the first alone, so only a session can bring it to another.
    let tcp = Arc::new(one.trust(&["http/1.1"]));
    assert_eq!(over_tcp(&one, &tcp).await.expect("one"), Some(HandshakeKind::Full));
    assert_eq!(over_tcp(&two, &tcp).await.expect("two"), Some(HandshakeKind::Resumed));
    assert!(over_tcp(&three, &tcp).await.is_err());
    let quic = Arc::new(QuicClientConfig::try_from(one.trust(&["h3"])).expect("TLS 1.3"));
    for (front, is_let_in) in [(&one, true), (&two, true), (&three, false)] {
        assert_eq!(over_quic(front, &quic).await.is_ok(), is_let_in);
    }
    for front in [one, two, three] {
        front.ended().await;
    }
}

/// `GET https://a.net/` as one HEADERS frame with static names (RFC 9114, section 7.2.2; RFC 9204, appendix A).
const GET: &[u8] = &[1, 12, 0, 0, 0xd1, 0xd7, 0xc1, 0x50, 5, b'a', b'.', b'n', b'e', b't'];

/// Asks over HTTP/3, as early as it may; what was said, and whether it was asked before the handshake was over.
async fn over_quic(
    front: &Front,
    config: &Arc<QuicClientConfig>,
) -> Result<(String, bool), Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into())?;
    let crypto: Arc<dyn quinn::crypto::ClientConfig> = Arc::<QuicClientConfig>::clone(config);
    let connecting = endpoint.connect_with(quinn::ClientConfig::new(crypto), front.tls, "a.net")?;
    let (quic, is_early) = match connecting.into_0rtt() {
        Ok((quic, _)) => (quic, true),
        Err(connecting) => (connecting.await?, false),
    };
    let (mut send, mut recv) = quic.open_bi().await?;
    send.write_all(GET).await?;
    send.finish()?;
    let response = recv.read_to_end(1 << 16).await?;
    quic.close(0x100_u32.into(), b"");
    endpoint.wait_idle().await;
    Ok((String::from_utf8_lossy(&response).into_owned(), is_early))
}

#[tokio::test]
async fn an_early_request_is_marked_and_there_is_none_without_the_choice() {
    for (resumption, early) in [(Resumption::EarlyData, true), (Resumption::Tickets, false)] {
        let front = front(Tickets::of_process(), resumption);
        let mut config = front.trust(&["h3"]);
        config.enable_early_data = true;
        let config = Arc::new(QuicClientConfig::try_from(config).expect("TLS 1.3"));
        let (first, is_early) = over_quic(&front, &config).await.expect("a connection");
        assert!(first.contains("proven") && !is_early, "{first:?}");
        let (second, is_early) = over_quic(&front, &config).await.expect("a connection");
        assert_eq!((is_early, second.contains("early")), (early, early), "{resumption:?}: {second:?}");
        assert_ne!(second.contains("early"), second.contains("proven"));
        // Over TCP there are tickets all the same, and never early data.
        let mut config = front.trust(&["http/1.1"]);
        config.enable_early_data = true;
        let config = Arc::new(config);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            assert_eq!(over_tcp(&front, &config).await.expect("a connection"), Some(kind), "{resumption:?}");
        }
        front.ended().await;
    }
}
