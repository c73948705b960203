//! TLS towards upstreams: which authorities are trusted, and the configurations made from them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use eyot_plan::way::Way;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

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
}

/// Whom a connection trusts, and what it offers.
type Trust = ([u8; 32], Offer);

/// The configurations by app and authorities: sessions of one app are none of another's.
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
        configure(Arc::clone(&this.public), Offer::All).map_err(Error::Tls)?;
        Ok(this)
    }

    /// The configuration of a way: its own authorities instead of the public ones, if it names some.
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
        let made = Arc::new(configure(roots, offer).map_err(|error| error.to_string())?);
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

fn configure(roots: Arc<RootCertStore>, offer: Offer) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    let versions: &[&str] = match offer {
        Offer::All => &["h2", "http/1.1"],
        Offer::Http1 => &["http/1.1"],
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
        let app = format!("a{app}").parse().expect("a name");
        Way { app, private: Vec::new(), tls: None, timeouts: Timeouts::default(), bound: None }
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
