//! Certificates: read from files, chosen by the name a client gives in TLS, replaced all at once or not at all. What
//! they are good for stands in their subject alternative names, nowhere else.

mod entry;
mod staple;

use core::net::IpAddr;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub(crate) use entry::Entry;

use crate::acme::{Challenges, Issued};
use crate::error::Error;

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The chain, PEM.
    pub chain: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// An OCSP response to send with it, DER of at most 16 KiB.
    pub ocsp: Option<PathBuf>,
}

/// A certificate in use, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What it is good for: names and addresses.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
    /// The algorithm of its key.
    pub algorithm: &'static str,
    /// When it begins.
    pub begins: SystemTime,
    /// When it ends.
    pub expires: SystemTime,
    /// Where it came from.
    pub source: Source,
    /// Until when the OCSP response that is sent with it is good; none: none is sent.
    pub stapled_until: Option<SystemTime>,
}

/// Where a certificate came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was issued while the node ran.
    Acme,
    /// Files of the configuration.
    File,
}

impl Source {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Acme => "acme",
            Self::File => "file",
        }
    }
}

/// The certificates in use.
#[derive(Debug)]
pub struct Certificates {
    /// As they were configured.
    files: Vec<Files>,
    current: ArcSwap<Set>,
    /// Those that were issued since.
    issued: Issued,
    /// What is shown to who issues them, before all others.
    challenges: Arc<Challenges>,
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
    /// client's algorithms choose. An OCSP response that is of no use is left out, and the log says why.
    ///
    /// # Errors
    /// The first file that cannot be read, is no certificate or key, names nothing, or does not belong to its pair; or
    /// [`Error::NoCertificate`].
    pub fn load(files: &[Files]) -> Result<Arc<Self>, Error> {
        Ok(Self::of(files, Set::read(files)?))
    }

    /// No certificates, for listeners without TLS, or until some are issued. Every TLS client is refused.
    pub fn none() -> Arc<Self> {
        Self::of(&[], Set { entries: Vec::new(), by_name: HashMap::new() })
    }

    fn of(files: &[Files], set: Set) -> Arc<Self> {
        let (current, files) = (ArcSwap::from_pointee(set), files.to_vec());
        Arc::new(Self { files, current, issued: Issued::default(), challenges: Arc::default() })
    }

    /// The challenges of ACME that the same listeners answer.
    pub fn challenges(&self) -> Arc<Challenges> {
        self.challenges.clone()
    }

    /// Takes a certificate that was issued for `name`, chain and key in one PEM file, in place of the one before. New
    /// connections get it; where the configuration has one of the very name, that counts.
    ///
    /// # Errors
    /// As [`Certificates::load`], also when it is not good for the name; then all that was in use stays in use.
    pub fn install(&self, name: &str, file: &Path) -> Result<(), Error> {
        let files = Files { chain: file.to_owned(), key: file.to_owned(), ocsp: None };
        let entry = Entry::read(&files)?;
        if !entry.covers(name) {
            return Err(Error::Certificate { file: file.to_owned(), reason: format!("is not good for {name}") });
        }
        self.issued.put(name, entry);
        Ok(())
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
        self.entries().iter().map(|entry| (entry.name(), entry.facts.expires)).collect()
    }

    /// All that are in use, for people: in the order of the configuration, then those that were issued.
    pub fn shown(&self) -> Vec<Shown> {
        let (set, issued) = (self.current.load(), self.issued.all());
        let of_files = set.entries.iter().map(|entry| shown(entry, Source::File));
        of_files.chain(issued.iter().map(|entry| shown(entry, Source::Acme))).collect()
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.current.load().entries.iter().cloned().chain(self.issued.all()).collect()
    }

    /// The certificates for a client: those of the name it gave; without a name those that hold the address it came
    /// to, else the first. Empty: the name is unknown.
    pub(crate) fn candidates(&self, sni: Option<&str>, local: Option<IpAddr>) -> Vec<Arc<Entry>> {
        let set = self.current.load();
        let Some(name) = sni else {
            let nameless = set.nameless(local);
            return if nameless.is_empty() { self.issued.all().into_iter().take(1).collect() } else { nameless };
        };
        let name = name.to_ascii_lowercase();
        if let Some(found) = set.by_name.get(&name) {
            return found.clone();
        }
        if let Some(entry) = self.issued.find(&name) {
            return vec![entry];
        }
        let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        wildcard.and_then(|name| set.by_name.get(&name).cloned()).unwrap_or_default()
    }
}

impl Set {
    fn read(files: &[Files]) -> Result<Self, Error> {
        let entries = files.iter().map(|files| Entry::read(files).map(Arc::new));
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        if entries.is_empty() {
            return Err(Error::NoCertificate);
        }
        let mut by_name: HashMap<String, Vec<Arc<Entry>>> = HashMap::new();
        for entry in &entries {
            for name in &entry.facts.names {
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
        let holds = |entry: &&Arc<Entry>| local.is_some_and(|address| entry.facts.addresses.contains(&address));
        let holding: Vec<_> = self.entries.iter().filter(holds).cloned().collect();
        if holding.is_empty() { self.entries.first().cloned().into_iter().collect() } else { holding }
    }
}

fn shown(entry: &Entry, source: Source) -> Shown {
    let facts = &entry.facts;
    Shown {
        names: facts.names.iter().cloned().chain(facts.addresses.iter().map(IpAddr::to_string)).collect(),
        issuer: facts.issuer.clone(),
        algorithm: entry.algorithm(),
        begins: facts.begins,
        expires: facts.expires,
        source,
        stapled_until: entry.stapled_until().filter(|until| *until > SystemTime::now()),
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
        if let Some(proof) = self.certificates.challenges.tls(&hello) {
            return proof;
        }
        let candidates = self.certificates.candidates(hello.server_name(), self.local);
        let fits = |entry: &&Arc<Entry>| entry.key.key.choose_scheme(hello.signature_schemes()).is_some();
        // Where none fits, the library refuses the first for its algorithm; no name is unknown then.
        let chosen = candidates.iter().find(fits).or(candidates.first());
        chosen.map(|entry| entry.key_at(SystemTime::now()))
    }
}

#[cfg(test)]
mod tests;

/// An OCSP response about a certificate, for tests.
#[cfg(test)]
pub(crate) use tests::staple_for;
