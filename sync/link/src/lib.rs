//! The wire between node, relay, origin and command: its messages (`docs/formats.md`, section 5), the signatures of
//! publishers' requests (RFC 9421), and the client that speaks it over HTTP/3 with HTTP/2 as fallback.
//!
//! What it must never know: what a release means, who may do what, the request line. It moves signed bytes and leaves
//! judging them to `eyot-bundle`. Its sockets go to the operator's own parents (or where a person at the command line
//! points `get`), never to an address that an app can influence.

pub mod acme;
pub mod blob;
pub mod body;
pub mod client;
pub mod error;
pub mod events;
pub mod get;
pub mod line;
mod ndjson;
pub mod path;
pub mod problem;
pub mod publish;
pub mod purge;
pub mod signature;
pub mod status;
pub mod tail;
mod tcp;
pub mod tls;
pub mod watch;
pub mod wire;
