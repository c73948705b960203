//! The tests of the whole: one binary, a file a topic. They start the real command, as its users do.

mod harness;
mod tidy;
mod units;
