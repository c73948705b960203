//! TLS: what is spoken over TCP (1.3, and 1.2 by choice; HTTP/2 and HTTP/1.1) and inside QUIC (1.3, HTTP/3). One
//! configuration for each local address, because the choice for a client without a name needs it and TLS does not know
//! it, and for each guarded port.

pub(crate) mod named;
pub(crate) mod tickets;

use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use quinn::crypto::rustls::QuicServerConfig;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache};

use crate::acme::ACME_TLS;
use crate::certificates::{Certificates, Chooser};
use crate::error::Error;
use crate::guard::Guard;
use crate::settings::{Resumption, TlsSettings};
use crate::steer::Keys;
use named::Naming;
use tickets::Ticketer;

/// Local addresses, at each guarded port or at all others, that have a configuration of their own; further addresses
/// share one that knows no address.
const MADE_MAX: usize = 256;

/// Sessions kept for clients that may come back with early data; the oldest give way. Each is good once.
const SESSIONS_MAX: usize = 16_384;

/// QUIC handshakes that wait to be taken; a client beyond them is not heard, and asks again.
pub(crate) struct Waiting {
    /// How many.
    pub(crate) handshakes_max: usize,
    /// What one may hold of the packets that come meanwhile, in bytes.
    pub(crate) bytes_each_max: u64,
    /// What all may hold, in bytes.
    pub(crate) bytes_max: u64,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { handshakes_max: 4096, bytes_each_max: 64 << 10, bytes_max: 16 << 20 }
    }
}

/// The configurations of all listeners.
pub(crate) struct Tls {
    certificates: Arc<Certificates>,
    settings: TlsSettings,
    tcp: ServerConfig,
    quic: ServerConfig,
    quic_base: quinn::ServerConfig,
    made: Mutex<HashMap<Place, Made>>,
}

/// A local address, and a guarded port.
type Place = (Option<IpAddr>, Option<u16>);

/// The configurations of one local address, at one guarded port or at all that are not.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) tcp: Arc<ServerConfig>,
    pub(crate) quic: Arc<quinn::ServerConfig>,
    /// What asks for a certificate here.
    pub(crate) guard: Option<Arc<Guard>>,
}

impl Tls {
    pub(crate) fn new(
        certificates: Arc<Certificates>,
        settings: TlsSettings,
        transport: quinn::TransportConfig,
        waiting: &Waiting,
        keys: &Keys,
    ) -> Result<Self, Error> {
        let both: &[_] = &[&rustls::version::TLS13, &rustls::version::TLS12];
        let tcp =
            config(&certificates, if settings.tls_1_2 { both } else { &both[..1] }, &[b"h2", b"http/1.1", ACME_TLS])?;
        let tcp = resuming(tcp, &settings, "tcp");
        let quic = config(&certificates, &both[..1], &[b"h3"])?;
        let quic = match settings.resumption {
            Resumption::Tickets => resuming(quic, &settings, "quic"),
            Resumption::EarlyData => early(quic),
        };
        let mut quic_base = quinn::ServerConfig::with_crypto(crypto(&quic)?);
        quic_base
            .transport_config(Arc::new(transport))
            .max_incoming(waiting.handshakes_max)
            .incoming_buffer_size(waiting.bytes_each_max)
            .incoming_buffer_size_total(waiting.bytes_max)
            .token_key(keys.token())
            .validation_token_config(eyot_h3::tokens());
        Ok(Self { certificates, settings, tcp, quic, quic_base, made: Mutex::default() })
    }

    /// The configurations for connections that come to this address and port.
    pub(crate) fn at(&self, local: Option<IpAddr>, port: Option<u16>) -> Result<Made, Error> {
        let guard = port.and_then(|port| self.settings.guards.at(port));
        let port = port.filter(|_| guard.is_some());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let local = if made.len() < MADE_MAX || made.contains_key(&(local, port)) { local } else { None };
        let place = (local, port);
        let is_current = |found: &&Made| found.guard.as_ref().map(Arc::as_ptr) == guard.as_ref().map(Arc::as_ptr);
        if let Some(found) = made.get(&place).filter(is_current) {
            return Ok(found.clone());
        }
        let new = self.make(local, guard)?;
        made.insert(place, new.clone());
        Ok(new)
    }

    fn make(&self, local: Option<IpAddr>, guard: Option<Arc<Guard>>) -> Result<Made, Error> {
        let chooser = Arc::new(Chooser { certificates: self.certificates.clone(), local });
        let with = |config: &ServerConfig| {
            let mut config = match &guard {
                None => config.clone(),
                Some(guard) => guarded(config, guard)?,
            };
            config.cert_resolver = chooser.clone();
            Ok::<_, Error>(config)
        };
        let mut quic = self.quic_base.clone();
        quic.crypto = crypto(&with(&self.quic)?)?;
        Ok(Made { tcp: Arc::new(with(&self.tcp)?), quic: Arc::new(quic), guard })
    }
}

fn config(
    certificates: &Arc<Certificates>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    protocols: &[&[u8]],
) -> Result<ServerConfig, Error> {
    let chooser = Chooser { certificates: certificates.clone(), local: None };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .map_err(Error::Tls)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(chooser));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// Sessions come back by tickets, without early data: nothing can be replayed.
fn resuming(mut config: ServerConfig, settings: &TlsSettings, transport: &'static str) -> ServerConfig {
    config.ticketer = Arc::new(Ticketer { tickets: settings.tickets.clone(), transport });
    config
}

/// Sessions are kept here and taken once; what comes with them early may still be a replay of what was never answered.
fn early(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    config.max_early_data_size = u32::MAX; // the only other value that QUIC has (RFC 9001, section 4.6.1)
    config
}

/// The same where a certificate is asked for. No session comes back there: one from a common listener would bring no
/// certificate, and one from here would not be checked again.
fn guarded(config: &ServerConfig, guard: &Guard) -> Result<ServerConfig, Error> {
    let mut guarded = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Error::Tls)?
        .with_client_cert_verifier(guard.verifier())
        .with_cert_resolver(config.cert_resolver.clone());
    guarded.alpn_protocols = config.alpn_protocols.clone();
    guarded.session_storage = Arc::new(NoServerSessionStorage {});
    guarded.send_tls13_tickets = 0;
    Ok(guarded)
}

fn crypto(config: &ServerConfig) -> Result<Arc<Naming<QuicServerConfig>>, Error> {
    let config = QuicServerConfig::try_from(Arc::new(config.clone()))
        .map_err(|_| Error::Tls(rustls::Error::General("no QUIC cipher suite".to_owned())))?;
    Ok(Arc::new(Naming(Arc::new(config))))
}

#[cfg(test)]
mod tests;
