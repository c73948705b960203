//! Certificates: read from files, chosen by the name a client gives in TLS, replaced all at once or not at all. What
//! they are good for stands in their subject alternative names, nowhere else.

mod entry;

use core::net::IpAddr;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub(crate) use entry::Entry;

use crate::error::Error;

/// The certificates in use.
#[derive(Debug)]
pub struct Certificates {
    /// Chain and key, as they were configured.
    files: Vec<(PathBuf, PathBuf)>,
    current: ArcSwap<Set>,
}

/// Certificates that came into use together.
#[derive(Debug)]
struct Set {
    /// In the order of the configuration.
    entries: Vec<Arc<Entry>>,
    /// By name as it stands in the certificate (`a.example`, `*.example`); what is not RSA comes first.
    by_name: HashMap<String, Vec<Arc<Entry>>>,
}

impl Certificates {
    /// Reads certificate chains and their keys, both PEM, ECDSA, Ed25519 or RSA. Several may have the same name: the
    /// client's algorithms choose.
    ///
    /// # Errors
    /// The first file that cannot be read, is no certificate or key, names nothing, or does not belong to its pair; or
    /// [`Error::NoCertificate`].
    pub fn load(files: &[(PathBuf, PathBuf)]) -> Result<Arc<Self>, Error> {
        let set = Set::read(files)?;
        Ok(Arc::new(Self { files: files.to_vec(), current: ArcSwap::from_pointee(set) }))
    }

    /// No certificates: for listeners without TLS only. Every TLS client is refused.
    pub fn none() -> Arc<Self> {
        let set = Set { entries: Vec::new(), by_name: HashMap::new() };
        Arc::new(Self { files: Vec::new(), current: ArcSwap::from_pointee(set) })
    }

    /// Reads the same files again. New connections get what was read.
    ///
    /// # Errors
    /// As [`Certificates::load`]; then all that was in use stays in use.
    pub fn reload(&self) -> Result<(), Error> {
        if !self.files.is_empty() {
            self.current.store(Arc::new(Set::read(&self.files)?));
        }
        Ok(())
    }

    /// Each certificate's first name and when it ends.
    pub fn expiries(&self) -> Vec<(String, SystemTime)> {
        self.current.load().entries.iter().map(|entry| (entry.name(), entry.expires)).collect()
    }

    /// The certificates for a client: those of the name it gave; without a name those that hold the address it came
    /// to, else the first. Empty: the name is unknown.
    pub(crate) fn candidates(&self, sni: Option<&str>, local: Option<IpAddr>) -> Vec<Arc<Entry>> {
        let set = self.current.load();
        let Some(name) = sni else { return set.nameless(local) };
        let name = name.to_ascii_lowercase();
        let wildcard = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let found = set.by_name.get(&name).or_else(|| set.by_name.get(&wildcard()?));
        found.cloned().unwrap_or_default()
    }
}

impl Set {
    fn read(files: &[(PathBuf, PathBuf)]) -> Result<Self, Error> {
        let entries = files.iter().map(|(chain, key)| Entry::read(chain, key).map(Arc::new));
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        if entries.is_empty() {
            return Err(Error::NoCertificate);
        }
        let mut by_name: HashMap<String, Vec<Arc<Entry>>> = HashMap::new();
        for entry in &entries {
            for name in &entry.names {
                by_name.entry(name.clone()).or_default().push(entry.clone());
            }
        }
        for list in by_name.values_mut() {
            list.sort_by_key(|entry| entry.is_rsa());
        }
        Ok(Self { entries, by_name })
    }

    fn nameless(&self, local: Option<IpAddr>) -> Vec<Arc<Entry>> {
        let local = local.map(|address| address.to_canonical());
        let holds = |entry: &&Arc<Entry>| local.is_some_and(|address| entry.addresses.contains(&address));
        let holding: Vec<_> = self.entries.iter().filter(holds).cloned().collect();
        if holding.is_empty() { self.entries.first().cloned().into_iter().collect() } else { holding }
    }
}

/// Chooses for connections that came to one local address, which TLS itself does not know.
#[derive(Debug)]
pub(crate) struct Chooser {
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) local: Option<IpAddr>,
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.certificates.candidates(hello.server_name(), self.local);
        let fits = |entry: &&Arc<Entry>| entry.key.key.choose_scheme(hello.signature_schemes()).is_some();
        candidates.iter().find(fits).map(|entry| entry.key.clone())
    }
}

#[cfg(test)]
mod tests;
