//! What the topics share: the size of the run, the processes under test, the clients that ask them.

pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod faulty;
pub(crate) mod front;
pub(crate) mod nats;
pub(crate) mod nspawn;
pub(crate) mod pebble;
pub(crate) mod peers;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod relay;
pub(crate) mod scripted;
pub(crate) mod size;
pub(crate) mod tools;
pub(crate) mod upstream;
pub(crate) mod world;

#[path = "../guests/make.rs"]
pub(crate) mod guests;
