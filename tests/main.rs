//! The tests of the whole: one binary, a file a topic. They start the real command, as its users do.

#![expect(clippy::panic, clippy::print_stdout, reason = "a test fails by a panic, and says what it measured")]

mod acme;
mod attacks;
mod caching;
mod certs;
mod clients;
mod compile;
mod components;
mod config;
mod demo;
mod dev;
mod drain;
mod events;
mod functions;
mod harness;
mod hostile;
mod kill;
mod languages;
mod logs;
mod policy;
mod protocols;
mod publish;
mod purge;
mod quic_errors;
mod secrets;
mod service;
mod stores;
mod suites;
mod systemd;
mod tidy;
mod trust;
mod units;
mod upgrade;
mod upstreams;
mod websocket;
