//! The tests of the whole: one binary, a file a topic. They start the real command, as its users do.

mod config;
mod demo;
mod drain;
mod harness;
mod hostile;
mod kill;
mod protocols;
mod publish;
mod tidy;
mod trust;
mod units;
mod upstreams;
