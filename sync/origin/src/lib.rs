//! The origin: it keeps releases and bundles, signs what is current, and tells nodes at once. It serves the wire of
//! `docs/formats.md`, section 5.
//!
//! It is not trusted. What publishers and operators signed it checks with the same code as nodes, and what it signs
//! itself (`timestamp`, `snapshot`, controls) can delay, pause or go back within what they signed, and nothing more.
//! It must never hold a publisher's or an offline key.

mod acme;
mod admin;
mod audit;
pub mod blobs;
pub mod catalog;
pub mod config;
pub mod denied;
mod director;
mod fleet;
pub mod heads;
mod job;
mod metrics;
mod nonces;
mod purges;
mod run;
pub mod signer;
mod tails;
mod turns;
mod uploads;
mod view;
mod wire;

pub use run::{Bound, Error, run};

#[cfg(test)]
mod tests;
