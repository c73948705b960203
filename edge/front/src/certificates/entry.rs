//! One certificate with its key, and the names it is good for.

use core::net::IpAddr;
use std::fs::File;
use std::io::Read as _;
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

use crate::error::Error;

/// What a chain or key file may measure, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One certificate with its key.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The chain and the key, as TLS wants them.
    pub(crate) key: Arc<CertifiedKey>,
    /// The DNS names, in lower case; `*.` at the start stands for one label.
    pub(crate) names: Vec<String>,
    /// The addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// When it ends.
    pub(crate) expires: SystemTime,
}

impl Entry {
    /// Reads one pair of PEM files.
    pub(crate) fn read(chain_file: &Path, key_file: &Path) -> Result<Self, Error> {
        let wrong = |file: &Path, reason: String| Error::Certificate { file: file.to_owned(), reason };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(chain_file)?)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(chain_file, error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&read(key_file)?)
            .map_err(|_| wrong(key_file, "holds no private key in PEM".to_owned()))?;
        let Some(leaf) = chain.first() else { return Err(wrong(chain_file, "holds no certificate".to_owned())) };
        let (names, addresses, expires) = describe(leaf).map_err(|reason| wrong(chain_file, reason))?;
        let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|error| wrong(key_file, error.to_string()))?;
        Ok(Self { key: Arc::new(key), names, addresses, expires })
    }

    /// Its first name, for people.
    pub(crate) fn name(&self) -> String {
        self.names.first().cloned().or_else(|| self.addresses.first().map(IpAddr::to_string)).unwrap_or_default()
    }

    pub(crate) fn is_rsa(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::RSA
    }

    /// Whether the certificate is good for a host as it stands in a URI, in lower case (RFC 9110, section 4.3.4; RFC
    /// 6125, section 6.4.3: a wildcard is one whole label).
    pub(crate) fn covers(&self, host: &str) -> bool {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = literal.parse::<IpAddr>() {
            return self.addresses.contains(&address.to_canonical());
        }
        let matches = |name: &String| match name.strip_prefix("*.") {
            Some(rest) => host.split_once('.').is_some_and(|(label, tail)| !label.is_empty() && tail == rest),
            None => name == host,
        };
        self.names.iter().any(matches)
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    // Its length is not asked for: what is no regular file has none, and others grow.
    let mut within = File::open(file).map_err(failed)?.take(FILE_BYTES_MAX + 1);
    within.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::Certificate { file: file.to_owned(), reason: "is too large".to_owned() });
    }
    Ok(bytes)
}

/// The names, addresses and end of a certificate.
fn describe(leaf: &[u8]) -> Result<(Vec<String>, Vec<IpAddr>, SystemTime), String> {
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
    Ok((names, addresses, certificate.validity.not_after.to_system_time()))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
