//! The stores of apps: keys and values, kept by one of three engines that are all asked the same way.
//!
//! - [`Engine::Node`](eyot_bundle::release::Engine): a file of this node, which one process has at a time;
//! - `Nats`: buckets of JetStream's key-value store, for the fleet;
//! - `Redis`: Redis or Valkey, for the fleet.
//!
//! Each store is one app's: what an engine knows it by holds the names of app and store behind their lengths, so that no
//! app can name another's. Everything is bounded, in bytes and in time. Where the engines are is told by whoever runs the
//! node. This crate knows nothing of functions, routes and who asks.

mod ask;
mod error;
mod nats;
mod node;
mod redis;
mod store;
mod stores;

pub use ask::{BATCH_BYTES_MAX, BATCH_KEYS_MAX, Bound, Current, KEY_BYTES_MAX, PAGE_KEYS, Page};
pub use error::Error;
pub use nats::{Ended, MESSAGE_BYTES_MAX, Message, Nats, Queue, Queues, Worker};
pub use node::{Clock, Line};
pub use redis::Redis;
pub use store::{ANSWER_WITHIN, Store};
pub use stores::{OpenError, Options, Stores};
