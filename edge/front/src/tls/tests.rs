use core::net::Ipv6Addr;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tempfile::TempDir;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::certificates::Files;
use crate::certificates::staple_for;

/// A client that offers these signature schemes, trusts anyone, and notes what was stapled.
#[derive(Debug)]
struct Client {
    schemes: Vec<SignatureScheme>,
    stapled: Mutex<Vec<u8>>,
    provider: CryptoProvider,
}

impl ServerCertVerifier for Client {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.stapled.lock().expect("no panic") = ocsp.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

fn files(folder: &TempDir, name: &str, key: &KeyPair) -> Files {
    let path = |kind: &str| folder.path().join(format!("{name}.{kind}"));
    let certificate = CertificateParams::new(vec!["a.net".to_owned()]).expect("a name").self_signed(key);
    let certificate = certificate.expect("a certificate");
    std::fs::write(path("pem"), certificate.pem()).expect("a file");
    std::fs::write(path("key"), key.serialize_pem()).expect("a file");
    std::fs::write(path("ocsp"), staple_for(certificate.der())).expect("a file");
    Files { chain: path("pem"), key: path("key"), ocsp: Some(path("ocsp")) }
}

fn tls(files: &[Files]) -> Tls {
    let certificates = Certificates::load(files).expect("good files");
    let transport = crate::h3::transport(&crate::Settings::default());
    let keys = Keys::random().expect("randomness");
    Tls::new(certificates, TlsSettings::default(), transport, &Waiting::default(), &keys).expect("TLS")
}

#[tokio::test]
async fn a_client_gets_the_certificate_whose_algorithm_it_offers_with_its_own_staple() {
    let folder = TempDir::new().expect("a folder");
    let key = |algorithm| KeyPair::generate_for(algorithm).expect("a key");
    let files = [files(&folder, "rsa", &key(&PKCS_RSA_SHA256)), files(&folder, "ecdsa", &key(&PKCS_ECDSA_P256_SHA256))];
    let made = tls(&files).at(None, None).expect("a configuration");
    let (ecdsa, rsa) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256);
    for (schemes, expect) in [
        (vec![ecdsa, rsa], Some("ecdsa")),
        (vec![rsa, ecdsa], Some("ecdsa")),
        (vec![rsa], Some("rsa")),
        (vec![SignatureScheme::ED25519], None),
    ] {
        let client = Arc::new(Client { schemes, stapled: Mutex::default(), provider: aws_lc_rs::default_provider() });
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(client.clone())
            .with_no_client_auth();
        let (here, there) = tokio::io::duplex(1 << 16);
        let name = ServerName::try_from("a.net").expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        let ends = (connector.connect(name, here), TlsAcceptor::from(made.tcp.clone()).accept(there));
        let (stream, _) = futures_util::future::join(ends.0, ends.1).await;
        let chain = stream.as_ref().ok().and_then(|stream| stream.get_ref().1.peer_certificates()?.first().cloned());
        let pem = expect.map(|name| std::fs::read(folder.path().join(format!("{name}.pem"))).expect("a file"));
        use rustls_pki_types::pem::PemObject as _;
        assert_eq!(chain, pem.map(|pem| CertificateDer::from_pem_slice(&pem).expect("PEM")), "{expect:?}");
        let staple = expect.map(|name| std::fs::read(folder.path().join(format!("{name}.ocsp"))).expect("a file"));
        assert_eq!(*client.stapled.lock().expect("no panic"), staple.unwrap_or_default(), "{expect:?}");
        if expect.is_none() {
            // For its algorithms, not for its name, which is known.
            let error = stream.expect_err("nothing fits").to_string();
            assert!(error.contains("HandshakeFailure") || error.contains("handshake"), "{error}");
        }
    }
}

#[test]
fn so_many_local_addresses_have_a_configuration_of_their_own_and_the_rest_share_one() {
    let folder = TempDir::new().expect("a folder");
    let tls = tls(&[files(&folder, "a", &KeyPair::generate().expect("a key"))]);
    let at = |number: u128| tls.at(Some(Ipv6Addr::from_bits(number).into()), None).expect("a configuration");
    let first = at(0);
    for number in 1..MADE_MAX as u128 {
        at(number);
    }
    assert!(Arc::ptr_eq(&first.tcp, &at(0).tcp));
    assert!(Arc::ptr_eq(&at(1000).tcp, &at(2000).tcp));
    assert_eq!(tls.made.lock().expect("no panic").len(), 256 + 1);
}
