//! The driver over real QUIC connections on this machine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod at_once;
mod drain;
mod exchange;
mod harness;
mod hostile_clients;
mod hostile_servers;
