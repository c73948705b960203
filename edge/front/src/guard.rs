//! Guarded hosts: those that only clients with a certificate may ask. Each has a listener that asks for one, because TLS
//! must ask before it knows what will be asked for; several hosts may share one.
//!
//! It knows no route: a connection is let in for one host, and every request on it has to be for that.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::error::Error;
use crate::file;

/// A host that asks its clients for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// The host, exact and in lower case.
    pub host: String,
    /// PEM of the authorities that its clients' certificates come from.
    pub ca: PathBuf,
    /// The port of its listener. Every socket there is guarded, whatever its address.
    pub port: u16,
}

/// The guarded hosts. Cheap to share; their authorities can be read again.
#[derive(Debug)]
pub struct Guards {
    hosts: Vec<ClientAuth>,
    by_port: ArcSwap<HashMap<u16, Arc<Guard>>>,
}

/// What stands before one port.
#[derive(Debug)]
pub(crate) struct Guard {
    /// For the handshake, which does not know the host: any authority of the port.
    any: Arc<dyn ClientCertVerifier>,
    /// The authorities of each host.
    hosts: HashMap<String, Arc<dyn ClientCertVerifier>>,
}

impl Guards {
    /// No host is guarded.
    pub fn none() -> Arc<Self> {
        Arc::new(Self { hosts: Vec::new(), by_port: ArcSwap::default() })
    }

    /// Reads the authorities of each host.
    ///
    /// # Errors
    /// The first file that cannot be read, or holds no certificate of an authority.
    pub fn load(hosts: &[ClientAuth]) -> Result<Arc<Self>, Error> {
        let by_port = read(hosts)?;
        Ok(Arc::new(Self { hosts: hosts.to_vec(), by_port: ArcSwap::from_pointee(by_port) }))
    }

    /// Reads the same files again. New connections are checked by what was read.
    ///
    /// # Errors
    /// As [`Guards::load`]; then all stay as they were.
    pub fn reload(&self) -> Result<(), Error> {
        self.by_port.store(Arc::new(read(&self.hosts)?));
        Ok(())
    }

    /// What stands before a port.
    pub(crate) fn at(&self, port: u16) -> Option<Arc<Guard>> {
        self.by_port.load().get(&port).cloned()
    }

    /// Whether a host is guarded, so that no other listener may answer for it.
    pub(crate) fn holds(&self, host: &str) -> bool {
        self.hosts.iter().any(|guarded| guarded.host == host)
    }
}

impl Guard {
    /// What asks for a certificate in the handshake.
    pub(crate) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.any.clone()
    }

    /// The host that a client is let in for: the one it named in TLS, if its chain comes from that host's authorities.
    pub(crate) fn admits(&self, sni: Option<&str>, chain: &[CertificateDer<'_>]) -> Option<String> {
        let (host, verifier) = self.hosts.get_key_value(sni?)?;
        let (leaf, rest) = chain.split_first()?;
        verifier.verify_client_cert(leaf, rest, UnixTime::now()).ok()?;
        Some(host.clone())
    }
}

fn read(hosts: &[ClientAuth]) -> Result<HashMap<u16, Arc<Guard>>, Error> {
    let mut roots: HashMap<u16, RootCertStore> = HashMap::new();
    let mut verifiers: HashMap<u16, HashMap<String, Arc<dyn ClientCertVerifier>>> = HashMap::new();
    for guarded in hosts {
        let own = authorities(guarded)?;
        roots.entry(guarded.port).or_insert_with(RootCertStore::empty).extend(own.roots.iter().cloned());
        let by_host = verifiers.entry(guarded.port).or_default();
        by_host.insert(guarded.host.clone(), verifier(own, guarded)?);
    }
    let last = hosts.iter().map(|guarded| (guarded.port, guarded)).collect::<HashMap<_, _>>();
    let guard = |(port, guarded): (u16, &ClientAuth)| {
        let any = verifier(roots.remove(&port).unwrap_or_else(RootCertStore::empty), guarded)?;
        Ok((port, Arc::new(Guard { any, hosts: verifiers.remove(&port).unwrap_or_default() })))
    };
    last.into_iter().map(guard).collect()
}

fn authorities(guarded: &ClientAuth) -> Result<RootCertStore, Error> {
    let wrong = |reason: String| Error::Certificate { file: guarded.ca.clone(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&file::read(&guarded.ca)?) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("holds no certificate".to_owned())) } else { Ok(roots) }
}

fn verifier(roots: RootCertStore, guarded: &ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    built.map_err(|error| Error::Certificate { file: guarded.ca.clone(), reason: error.to_string() })
}
