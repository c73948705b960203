//! The node: the request line, the snapshot, admin. It wires the other parts together and holds little itself; they do
//! not know each other. It must never decide what `plan` decides, nor speak QUIC, TLS or WebAssembly itself.

pub mod access;
pub mod acme;
pub mod activate;
pub mod admin;
mod admit;
mod before;
pub mod blobs;
mod call;
pub mod compile;
pub mod config;
pub mod edge;
mod doors;
pub mod entry;
mod events;
mod fixed;
pub mod geo;
pub mod ledger;
mod line;
mod loan;
pub mod log;
pub mod node;
mod own;
mod proxy;
pub mod pull;
mod record;
pub mod run;
pub mod secrets;
pub mod service;
pub mod shares;
pub mod snapshot;
pub mod sockets;
pub mod stage;
pub mod status;
pub mod tap;
pub mod telemetry;
pub mod upgrade;
