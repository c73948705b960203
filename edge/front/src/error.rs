//! Why listening cannot begin, or certificates cannot be used.

use core::net::SocketAddr;
use std::io;
use std::path::PathBuf;

/// Why listening cannot begin, or certificates cannot be used. What a single client does is never an error here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be bound.
    #[error("cannot listen on {address}/{transport}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// `tcp` or `udp`.
        transport: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A certificate or key is of no use.
    #[error("{file}: {reason}", file = .file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A challenge of ACME cannot be answered.
    #[error("no certificate can be made for the challenge of {name}: {reason}")]
    Challenge {
        /// The name that is to be proven.
        name: String,
        /// What failed.
        reason: String,
    },
    /// There is no certificate at all.
    #[error("there is no certificate to listen for TLS with")]
    NoCertificate,
    /// A file could not be read.
    #[error("cannot read {file}", file = .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A bound socket could not be used.
    #[error("cannot use the socket")]
    Socket(#[source] io::Error),
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}
