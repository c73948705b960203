//! The driver over real QUIC connections on this machine.

mod drain;
mod exchange;
mod harness;
mod hostile_clients;
mod hostile_servers;
