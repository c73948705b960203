//! Running a function: the only crate that knows wasmtime.
//!
//! A [`Call`] names a function by the digest of its code, brings the request and the doors it may use, and gets a response
//! or a [`Fault`](eyot_plan::fault::Fault). Each call has an instance of its own on one of the guest threads, which are
//! apart from the threads that do I/O, and spends CPU, memory, time and subrequests within its budget. Whatever a guest
//! does, it ends within that budget and its neighbours do not notice.
//!
//! This crate must never know where a request came from, who else is asked, or what a release is: fetching, logging and
//! the app's share of the node come in through the traits of [`Doors`]. WIT types never leave it.

mod account;
mod answer;
mod blame;
mod call;
mod charged;
mod clock;
mod code;
mod doors;
mod egress;
mod engine;
mod flow;
mod guest;
mod host;
mod kept;
mod load;
mod p2;
mod p3;
mod pipe;
mod room;
mod runtime;
mod settings;
mod slots;
mod state;
mod stdio;
mod threads;
mod tick;
mod tree;
mod world;

pub mod artefacts;
pub mod compile;
pub mod known;

pub use call::{Call, Function, Meter, Remaining};
pub use doors::{
    Caller, Client, Closed, Current, Doors, Edge, Entering, Facts, Fetch, FetchTimeouts, Fetching, Geo, Hint, Limit,
    Log, LogLevel, LogStream, Looked, Looking, Made, Making, Object, Objects, Page, Purge, PurgeError, Purged, Purging,
    Rate, Rated, Secret, SecretError, Slot, Store, StoreError, Stores, Storing, Unmade,
};
pub use runtime::{Runtime, WeakRuntime};
pub use settings::{Error, SLOTS_MAX, Settings};
pub use slots::slots_below;
pub use tree::{Sender, Tree};
