//! Every guest of `tests/guests` on a real runtime, with real doors: each ends as the contract says, and its neighbours do
//! not notice.

#[path = "../../../../tests/guests/make.rs"]
mod guests;
mod harness;

mod account;
mod bodies;
mod bounds;
mod doors;
mod examples;
mod given;
mod hostile;
mod reuse;
mod shares;
mod stores;
mod tasks;
