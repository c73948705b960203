//! The origin as its clients meet it: real sockets, a real front, the real client.

mod access;
mod durable;
mod house;
mod publish;
mod refused;
