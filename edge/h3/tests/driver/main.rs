//! The driver over real QUIC connections on this machine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod alive;
mod at_once;
mod conformance;
mod drain;
mod early;
mod exchange;
mod harness;
mod hostile_clients;
mod hostile_servers;
mod interim;
mod noise;
mod priority;
mod replay;
mod room;
mod slow;
mod tunnels;
