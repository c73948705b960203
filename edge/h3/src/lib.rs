//! HTTP/3 (RFC 9114) with static QPACK (RFC 9204) on quinn: server and client.
//!
//! [`core`] is the protocol without I/O; [`server`] and [`client`] drive it over a QUIC connection. It knows nothing of
//! eyot: no route, no fault, no function. What a peer sends is bounded before it is kept: see [`Limits`].

pub mod client;
pub mod core;
mod driver;
mod error;
mod limits;
pub mod patience;
pub mod server;
mod tokens;
mod transport;

pub use core::head::Protocol;
pub use driver::recv::RecvBody;
pub use error::Error;
pub use limits::Limits;
pub use tokens::tokens;
pub use transport::{client_transport, server_transport};

/// The name of HTTP/3 in TLS (RFC 9114, section 3.1).
pub const ALPN: &[u8] = b"h3";
