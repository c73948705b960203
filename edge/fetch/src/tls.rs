//! TLS towards upstreams: which authorities are trusted, and the configurations made from them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use eyot_plan::way::Way;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

/// Configurations kept at most; past it they are made again.
const KEPT_MAX: usize = 512;
/// Sessions remembered for each at most.
const SESSIONS_MAX: usize = 32;

/// Which versions of HTTP are offered to a server (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offer {
    /// HTTP/2, else HTTP/1.1.
    All,
    /// HTTP/1.1 alone: for a tunnel that the server does not take over HTTP/2.
    Http1,
    /// HTTP/3 alone, over QUIC.
    Http3,
}

/// Whom a connection trusts, who it says it is, and what it offers.
type Trust = ([u8; 32], Offer);

/// The configurations by app, authorities, oldest version and certificate: sessions of one app are none of another's.
pub(crate) struct Tls {
    public: Arc<RootCertStore>,
    kept: Mutex<HashMap<Trust, Arc<ClientConfig>>>,
}

impl Tls {
    /// Trusts the public roots, and `ca` (PEM) beside them.
    pub(crate) fn new(ca: Option<&str>) -> Result<Self, Error> {
        let mut public = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(ca) = ca {
            add(&mut public, ca).map_err(Error::Authorities)?;
        }
        let this = Self { public: Arc::new(public), kept: Mutex::default() };
        let builder = ClientConfig::builder_with_provider(provider());
        builder.with_safe_default_protocol_versions().map_err(Error::Tls)?;
        Ok(this)
    }

    /// The configuration of a way: its own authorities instead of the public ones, if it names some; and its
    /// certificate, if it has one.
    pub(crate) fn configuration(&self, way: &Way, offer: Offer) -> Result<Arc<ClientConfig>, String> {
        let key = (way.trust(), offer);
        if let Some(kept) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(kept));
        }
        let roots = match way.tls.as_ref().and_then(|tls| tls.ca.as_deref()) {
            None => Arc::clone(&self.public),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                add(&mut roots, ca)?;
                Arc::new(roots)
            }
        };
        let made = Arc::new(configure(roots, way, offer)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&made));
        Ok(made)
    }
}

fn add(roots: &mut RootCertStore, pem: &str) -> Result<(), String> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.len() == before { Err("there is none in it".to_owned()) } else { Ok(()) }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Who the node says it is: a certificate, with those between it and its authority, and the key that fits it, both in
/// PEM.
///
/// # Errors
/// What is wrong with them, in words that tell nothing of the key.
fn certified(chain: &str, key: &[u8]) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let chain = chain.map_err(|_| "the client certificate is no PEM of certificates".to_owned())?;
    if chain.is_empty() {
        return Err("there is no client certificate in its file".to_owned());
    }
    // What the parser says of it may quote it.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "the client key is no PEM of a private key".to_owned())?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the client key does not fit the client certificate".to_owned(),
        other => format!("the client certificate and its key cannot be used: {other}"),
    })
}

/// Whether `key`, PEM, is that of the certificate which `chain`, PEM, begins with, so that a way may have both.
///
/// # Errors
/// Why it is not, in words that tell nothing of the key.
pub fn fits(chain: &str, key: &[u8]) -> Result<(), String> {
    certified(chain, key).map(drop)
}

fn configure(roots: Arc<RootCertStore>, way: &Way, offer: Offer) -> Result<ClientConfig, String> {
    let tls = way.tls.as_ref();
    let takes_1_2 = tls.is_none_or(|tls| tls.min_version.takes_1_2());
    let versions = if takes_1_2 { &[&TLS13, &TLS12][..] } else { &[&TLS13] };
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots);
    let mut config = match tls.and_then(|tls| tls.client.as_ref()) {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let key = way.client_key.as_ref().ok_or("the client certificate has no key")?;
            let certified = certified(&client.chain, key.expose())?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    let versions: &[&str] = match offer {
        Offer::All => &["h2", "http/1.1"],
        Offer::Http1 => &["http/1.1"],
        Offer::Http3 => &["h3"],
    };
    config.alpn_protocols = versions.iter().map(|version| version.as_bytes().to_vec()).collect();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use eyot_bundle::release::upstream::Timeouts;

    use super::*;

    fn way(app: usize) -> Way {
        Way::new(format!("a{app}").parse().expect("a name"), Vec::new(), Timeouts::default())
    }

    #[test]
    fn so_many_configurations_are_kept_and_those_that_no_longer_fit_are_made_anew() {
        let tls = Tls::new(None).expect("the defaults");
        let first = tls.configuration(&way(0), Offer::All).expect("a configuration");
        for app in 0..KEPT_MAX {
            tls.configuration(&way(app), Offer::All).expect("a configuration");
        }
        let again = tls.configuration(&way(0), Offer::All).expect("a configuration");
        assert!(Arc::ptr_eq(&first, &again), "all of them fit");
        for app in KEPT_MAX..KEPT_MAX * 2 + 1 {
            tls.configuration(&way(app), Offer::All).expect("a configuration");
            assert!(tls.kept.lock().expect("no panic").len() <= KEPT_MAX);
        }
        let again = tls.configuration(&way(0), Offer::All).expect("a configuration");
        assert!(!Arc::ptr_eq(&first, &again), "it made room");
    }
}
