//! The server: one [`Connection`] per QUIC connection gives requests, each with the [`Responder`] that answers it.

mod connection;
mod drain;
mod early;
mod interim;
mod opening;
mod responder;

pub use connection::Connection;
pub use early::Early;
pub use interim::Interim;
pub use responder::Responder;
