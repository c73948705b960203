//! TLS: what is spoken over TCP (1.3 and 1.2, HTTP/2 and HTTP/1.1) and inside QUIC (1.3, HTTP/3). One configuration for
//! each local address, because the choice for a client without a name needs it and TLS does not know it.

use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use quinn::crypto::rustls::QuicServerConfig;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

use crate::certificates::{Certificates, Chooser};
use crate::error::Error;
use crate::steer::Keys;

/// Local addresses that have a configuration of their own; further ones share one that knows no address.
const LOCAL_MAX: usize = 256;

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
    tcp: ServerConfig,
    quic: ServerConfig,
    quic_base: quinn::ServerConfig,
    made: Mutex<HashMap<Option<IpAddr>, Made>>,
}

/// The configurations of one local address.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) tcp: Arc<ServerConfig>,
    pub(crate) quic: Arc<quinn::ServerConfig>,
}

impl Tls {
    pub(crate) fn new(
        certificates: Arc<Certificates>,
        transport: quinn::TransportConfig,
        waiting: &Waiting,
        keys: &Keys,
    ) -> Result<Self, Error> {
        let tcp = config(&certificates, &[&rustls::version::TLS13, &rustls::version::TLS12], &[b"h2", b"http/1.1"])?;
        let quic = config(&certificates, &[&rustls::version::TLS13], &[b"h3"])?;
        let mut quic_base = quinn::ServerConfig::with_crypto(crypto(&quic)?);
        quic_base
            .transport_config(Arc::new(transport))
            .max_incoming(waiting.handshakes_max)
            .incoming_buffer_size(waiting.bytes_each_max)
            .incoming_buffer_size_total(waiting.bytes_max)
            .token_key(keys.token());
        Ok(Self { certificates, tcp, quic, quic_base, made: Mutex::default() })
    }

    /// The configurations for connections that come to this address.
    pub(crate) fn at(&self, local: Option<IpAddr>) -> Result<Made, Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let local = if made.len() < LOCAL_MAX || made.contains_key(&local) { local } else { None };
        if let Some(found) = made.get(&local) {
            return Ok(found.clone());
        }
        let chooser = Arc::new(Chooser { certificates: self.certificates.clone(), local });
        let with = |config: &ServerConfig| {
            let mut config = config.clone();
            config.cert_resolver = chooser.clone();
            config
        };
        let mut quic = self.quic_base.clone();
        quic.crypto = crypto(&with(&self.quic))?;
        let new = Made { tcp: Arc::new(with(&self.tcp)), quic: Arc::new(quic) };
        made.insert(local, new.clone());
        Ok(new)
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
    // Tickets whose keys live in this process and roll: no early data, so nothing can be replayed.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(Error::Tls)?;
    config.max_early_data_size = 0;
    Ok(config)
}

fn crypto(config: &ServerConfig) -> Result<Arc<QuicServerConfig>, Error> {
    let config = QuicServerConfig::try_from(Arc::new(config.clone()))
        .map_err(|_| Error::Tls(rustls::Error::General("no QUIC cipher suite".to_owned())))?;
    Ok(Arc::new(config))
}
