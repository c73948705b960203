//! Hosts that ask their clients for a certificate, on listeners of their own.

use std::sync::Arc;

use eyot_front::{ClientAuth, Guards, Settings, TlsSettings};
use eyot_plan::arrival::Protocol;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;

use crate::harness::{ALL, BoxError, Client, Front, listening, text};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key")).expect("an authority")
}

/// What a client with a certificate of this authority shows.
fn client_key(authority: &Authority) -> Arc<SingleCertAndKey> {
    let key = KeyPair::generate().expect("a key");
    let parameters = CertificateParams::new(vec!["client".to_owned()]).expect("a name");
    let chain = vec![parameters.signed_by(&key, authority).expect("a certificate").der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).expect("a pair");
    Arc::new(SingleCertAndKey::from(key))
}

/// A front whose second TLS port is for `a.net` and `b.net`, each with its own authority.
struct Guarded {
    front: Front,
    common: std::net::SocketAddr,
    guarded: std::net::SocketAddr,
    guards: Arc<Guards>,
    folder: TempDir,
}

impl Guarded {
    fn new(a: &Authority, b: &Authority) -> Self {
        let folder = TempDir::new().expect("a folder");
        let sockets = listening(2);
        let (common, guarded) = (sockets.tls_addresses()[0], sockets.tls_addresses()[1]);
        let host = |host: &str, authority: &Authority| {
            let ca = folder.path().join(host);
            std::fs::write(&ca, authority.pem()).expect("a file");
            ClientAuth { host: host.to_owned(), ca, port: guarded.port() }
        };
        let guards = Guards::load(&[host("a.net", a), host("b.net", b)]).expect("authorities");
        let tls = TlsSettings { guards: Arc::clone(&guards), ..TlsSettings::default() };
        let settings = Settings { tls, plain: eyot_front::Plain::Serve, ..Settings::default() };
        let front = Front::on(sockets, settings, |_| async { text("served") });
        Self { front, common, guarded, guards, folder }
    }

    /// What a client gets that connects to `name` and then asks for `host`.
    async fn ask(
        &self,
        protocol: Protocol,
        key: Option<&Arc<SingleCertAndKey>>,
        name: &str,
        host: &str,
    ) -> Result<u16, BoxError> {
        let mut config = self.front.trust(&[]);
        if let Some(key) = key {
            config.client_auth_cert_resolver = Arc::clone(key) as _;
        }
        let mut client = self.front.client_with(protocol, name, config).await?;
        Ok(client.get(&format!("https://{host}/")).await?.status().as_u16())
    }
}

#[tokio::test]
async fn a_guarded_host_answers_those_with_a_certificate_of_its_authority_and_its_port_nobody_else() {
    let (ours, other, stranger) = (authority(), authority(), authority());
    let mut house = Guarded::new(&ours, &other);
    house.front.tls = house.guarded;
    let (right, wrong) = (client_key(&ours), client_key(&stranger));
    let of_b = client_key(&other);
    for protocol in ALL {
        for (key, name, host, expect) in [
            (None, "a.net", "a.net", None),
            (Some(&wrong), "a.net", "a.net", None),
            (Some(&right), "a.net", "a.net", Some(200)),
            (Some(&of_b), "a.net", "a.net", Some(421)), // good at the port, not for this host
            (Some(&of_b), "b.net", "b.net", Some(200)),
            (Some(&right), "b.net", "b.net", Some(421)),
            (Some(&right), "a.net", "x.a.net", Some(421)), // its certificate is good for it, its port is not
            (Some(&right), "x.a.net", "x.a.net", Some(421)),
            (Some(&right), "x.a.net", "a.net", Some(421)), // what it named is what it was let in for
            (Some(&right), "c.net", "a.net", None),
        ] {
            let got = house.ask(protocol, key, name, host).await;
            assert_eq!(got.as_ref().ok().copied(), expect, "{protocol:?} {name} {host}: {got:?}");
        }
    }
    house.front.ended().await;
}

#[tokio::test]
async fn no_other_listener_answers_for_a_guarded_host() {
    let (ours, other) = (authority(), authority());
    let house = Guarded::new(&ours, &other);
    let right = client_key(&ours);
    for protocol in ALL {
        for (key, host, expect) in [(None, "a.net", 421), (Some(&right), "a.net", 421), (None, "x.a.net", 200)] {
            let got = house.ask(protocol, key, host, host).await.expect("an answer");
            assert_eq!(got, expect, "{protocol:?} {host}");
        }
    }
    let stream = crate::harness::tcp(house.front.plain).await.expect("a listener");
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("HTTP/1");
    tokio::spawn(connection);
    for (host, expect) in [("a.net", 421), ("A.net.", 421), ("x.a.net", 200)] {
        let request = http::Request::get("/").header("host", host).body(crate::harness::nothing()).expect("one");
        assert_eq!(sender.send_request(request).await.expect("a response").status(), expect, "{host}");
    }
    drop(sender);
    house.front.ended().await;
}

#[tokio::test]
async fn a_session_of_a_common_listener_opens_no_guarded_one() {
    let (ours, other) = (authority(), authority());
    let mut house = Guarded::new(&ours, &other);
    for protocol in ALL {
        let config = house.front.trust(&[]); // with the sessions that it will get
        for (at, is_let_in) in [(house.common, true), (house.common, true), (house.guarded, false)] {
            house.front.tls = at;
            let asked = async {
                let mut client = house.front.client_with(protocol, "a.net", config.clone()).await?;
                Ok::<_, BoxError>(client.get("https://a.net/").await?.status().as_u16())
            };
            assert_eq!(asked.await.is_ok(), is_let_in, "{protocol:?}");
        }
    }
    house.front.ended().await;
}

#[tokio::test]
async fn authorities_are_read_again_for_new_connections_and_bad_ones_change_nothing() {
    let (ours, other, next) = (authority(), authority(), authority());
    let mut house = Guarded::new(&ours, &other);
    house.front.tls = house.guarded;
    let (before, after) = (client_key(&ours), client_key(&next));
    let file = house.folder.path().join("a.net");
    for (pem, is_good) in [("broken".to_owned(), false), (next.pem(), true)] {
        std::fs::write(&file, pem).expect("a file");
        assert_eq!(house.guards.reload().is_ok(), is_good);
        for protocol in ALL {
            for (key, is_let_in) in [(&before, !is_good), (&after, is_good)] {
                let got = house.ask(protocol, Some(key), "a.net", "a.net").await;
                assert_eq!(got.as_ref().is_ok_and(|status| *status == 200), is_let_in, "{protocol:?}: {got:?}");
            }
        }
    }
    house.front.ended().await;
}

#[tokio::test]
async fn a_guarded_listener_does_not_announce_the_common_one() {
    let (ours, other) = (authority(), authority());
    let mut house = Guarded::new(&ours, &other);
    let right = client_key(&ours);
    for (at, host, announced) in [(house.common, "x.a.net", true), (house.guarded, "a.net", false)] {
        house.front.tls = at;
        let mut config = house.front.trust(&[]);
        config.client_auth_cert_resolver = Arc::clone(&right) as _;
        let mut client: Client = house.front.client_with(Protocol::H2, host, config).await.expect("a connection");
        let response = client.get(&format!("https://{host}/")).await.expect("a response");
        assert_eq!(response.headers().contains_key("alt-svc"), announced, "{host}");
    }
    house.front.ended().await;
}
