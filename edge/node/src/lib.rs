//! The node: the request line, the snapshot, admin. It wires the other parts together and holds little itself; they do
//! not know each other. It must never decide what `plan` decides, nor speak HTTP, TLS or WebAssembly itself.

pub mod access;
pub mod config;
pub mod ledger;
pub mod telemetry;
