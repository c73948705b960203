//! One certificate with its key, and the names it is good for.

use core::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::SignatureAlgorithm;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::Files;
use super::staple::Staple;
use crate::error::Error;
use crate::file::read;

/// One certificate with its key.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The chain and the key, as TLS wants them.
    pub(crate) key: Arc<CertifiedKey>,
    /// The same with a staple, and that.
    stapled: Option<(Arc<CertifiedKey>, Staple)>,
    /// What it says of itself.
    pub(crate) facts: Facts,
}

/// What a certificate says of itself.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The DNS names, in lower case; `*.` at the start stands for one label.
    pub(crate) names: Vec<String>,
    /// The addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Who signed it.
    pub(crate) issuer: String,
    /// Its serial number, the contents of its INTEGER.
    serial: Vec<u8>,
    /// When it begins.
    pub(crate) begins: SystemTime,
    /// When it ends.
    pub(crate) expires: SystemTime,
}

impl Entry {
    /// Reads a pair of PEM files, and the staple beside them. One that is of no use is left out: a certificate without
    /// it still serves.
    pub(crate) fn read(files: &Files) -> Result<Self, Error> {
        let wrong = |file: &Path, reason: String| Error::Certificate { file: file.to_owned(), reason };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(&files.chain)?)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(&files.chain, error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
            .map_err(|_| wrong(&files.key, "holds no private key in PEM".to_owned()))?;
        let Some(leaf) = chain.first() else { return Err(wrong(&files.chain, "holds no certificate".to_owned())) };
        let facts = describe(leaf).map_err(|reason| wrong(&files.chain, reason))?;
        let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|error| wrong(&files.key, error.to_string()))?;
        let staple = files.ocsp.as_deref().and_then(|file| staple(file, &facts));
        let stapled = staple.map(|staple| {
            let key = CertifiedKey { ocsp: Some(staple.response.clone()), ..key.clone() };
            (Arc::new(key), staple)
        });
        Ok(Self { key: Arc::new(key), stapled, facts })
    }

    /// The chain and the key for a handshake at this time: with the staple, as long as that is good.
    pub(crate) fn key_at(&self, now: SystemTime) -> Arc<CertifiedKey> {
        match &self.stapled {
            Some((key, staple)) if staple.is_fresh(now) => key.clone(),
            _ => self.key.clone(),
        }
    }

    /// Until when its staple is good.
    pub(crate) fn stapled_until(&self) -> Option<SystemTime> {
        self.stapled.as_ref().map(|(_, staple)| staple.until)
    }

    /// Its first name, for people.
    pub(crate) fn name(&self) -> String {
        let Facts { names, addresses, .. } = &self.facts;
        names.first().cloned().or_else(|| addresses.first().map(IpAddr::to_string)).unwrap_or_default()
    }

    /// The algorithm of its key, for people.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self.key.key.algorithm() {
            SignatureAlgorithm::ECDSA => "ECDSA",
            SignatureAlgorithm::ED25519 => "Ed25519",
            SignatureAlgorithm::RSA => "RSA",
            _ => "unknown",
        }
    }

    pub(crate) fn is_rsa(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::RSA
    }

    /// Whether the certificate is good for a host as it stands in a URI, in lower case (RFC 9110, section 4.3.4; RFC
    /// 6125, section 6.4.3: a wildcard is one whole label).
    pub(crate) fn covers(&self, host: &str) -> bool {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = literal.parse::<IpAddr>() {
            return self.facts.addresses.contains(&address.to_canonical());
        }
        let matches = |name: &String| match name.strip_prefix("*.") {
            Some(rest) => host.split_once('.').is_some_and(|(label, tail)| !label.is_empty() && tail == rest),
            None => name == host,
        };
        self.facts.names.iter().any(matches)
    }
}

/// The staple in a file, if it may be sent one day.
fn staple(file: &Path, facts: &Facts) -> Option<Staple> {
    let staple = read(file).map_err(|error| error.to_string());
    let staple = staple.and_then(|bytes| Staple::read(&bytes, &facts.serial).map_err(str::to_owned));
    staple.map_err(|reason| tracing::warn!(file = %file.display(), reason, "an OCSP response is left out")).ok()
}

/// What stands in a certificate.
fn describe(leaf: &[u8]) -> Result<Facts, String> {
    let unreadable = |error: x509_cert::der::Error| format!("is no X.509 certificate: {error}");
    let certificate = x509_cert::Certificate::from_der(leaf).map_err(unreadable)?.tbs_certificate;
    let alternatives = certificate.get::<SubjectAltName>().map_err(unreadable)?;
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for name in alternatives.map(|(_, names)| names.0).unwrap_or_default() {
        match name {
            GeneralName::DnsName(name) => names.push(name.as_str().to_ascii_lowercase()),
            GeneralName::IpAddress(bytes) => addresses.extend(address(bytes.as_bytes())),
            _ => {}
        }
    }
    if names.is_empty() && addresses.is_empty() {
        return Err("has no subject alternative names".to_owned());
    }
    Ok(Facts {
        names,
        addresses,
        issuer: certificate.issuer.to_string(),
        serial: certificate.serial_number.as_bytes().to_vec(),
        begins: certificate.validity.not_before.to_system_time(),
        expires: certificate.validity.not_after.to_system_time(),
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
