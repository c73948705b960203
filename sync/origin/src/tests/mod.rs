//! The origin as its clients meet it: real sockets, a real front, the real client.

mod access;
mod durable;
mod ending;
pub(crate) mod house;
mod most;
mod publish;
mod purges;
mod refused;
mod turns;
