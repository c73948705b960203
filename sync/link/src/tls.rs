//! TLS towards parents and for `get`: aws-lc-rs only, TLS 1.3, and exactly the authorities that were named.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::Error;

/// Whom to trust.
#[derive(Clone, Debug)]
pub enum Authorities {
    /// Whoever answers: for a person looking at a server, never for a parent.
    Anyone,
    /// The certificates of this PEM text.
    Pem(Vec<u8>),
    /// The authorities that browsers trust.
    Public,
}

/// A client's configuration without ALPN: [`with_alpn`] gives one for a protocol.
pub fn config(authorities: &Authorities) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Settings(format!("TLS cannot be set up: {error}")))?;
    let roots = match authorities {
        Authorities::Anyone => {
            let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)));
            return Ok(builder.with_no_client_auth());
        }
        Authorities::Pem(pem) => pem_roots(pem)?,
        Authorities::Public => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The same for one protocol of ALPN.
pub fn with_alpn(config: &ClientConfig, protocol: &str) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

fn pem_roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| Error::Settings(format!("the CA file is no PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| Error::Settings(format!("the CA file holds what is no authority: {error}")))?;
    }
    if roots.is_empty() {
        return Err(Error::Settings("the CA file holds no certificate".to_owned()));
    }
    Ok(roots)
}

/// Takes every certificate. The handshake's own signatures are still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
