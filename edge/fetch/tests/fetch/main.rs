//! The way out against real servers, good and hostile, on loopback.

mod bounds;
mod exchange;
mod harness;
mod heads;
mod hostile;
mod http3;
mod interim;
mod mutual;
mod names;
mod pooling;
mod proxied;
mod sockets;
mod tls;
mod tunnels;
