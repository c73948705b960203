//! Upstreams, decided: which server is asked, which are healthy, what is tried again, and when an upstream is left alone.
//!
//! Nothing here has a clock or a lot of its own: `now_ms` is any clock that does not go back, in milliseconds, the same in
//! every call, and random numbers come in as arguments.

mod balance;
mod breaker;
mod budget;
pub mod hash;
mod health;
pub mod retry;
mod servers;

pub use balance::draw;
pub use health::Outcome;
pub use servers::{Ask, Chosen, Servers, Unavailable};
