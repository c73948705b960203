//! The listeners, seen from outside: real sockets on ports the system chose, real clients of all three protocols.

mod connections;
mod drain;
mod exchanges;
mod floods;
mod frames;
mod guards;
mod h2spec;
mod harness;
mod hostile;
mod interim;
mod proxied;
mod restart;
mod resumption;
mod retry;
mod smuggling;
mod streams;
mod tls;
mod tunnels;
