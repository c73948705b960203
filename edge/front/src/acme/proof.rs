//! The certificate of TLS-ALPN-01: self-signed, for the one name, with the digest of the answer in it (RFC 8737, section
//! 3).

use std::sync::Arc;

use ::aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::Challenge;
use crate::error::Error;

/// Makes it, with a key of its own.
pub(super) fn certificate(challenge: &Challenge) -> Result<Arc<CertifiedKey>, Error> {
    let failed =
        |error: rcgen::Error| Error::Challenge { name: challenge.name().to_owned(), reason: error.to_string() };
    let digest = digest(&SHA256, challenge.answer().as_bytes());
    let mut params = CertificateParams::new([challenge.name().to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = KeyPair::generate().map_err(failed)?;
    let chain = vec![params.self_signed(&key).map_err(failed)?.der().clone()];
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    // The library cannot read the extension, and so cannot compare the two; they were made for each other.
    let key = any_ecdsa_type(&key.into())
        .map_err(|error| Error::Challenge { name: challenge.name().to_owned(), reason: error.to_string() })?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}
