//! Rooms over a disk tier: what they keep there answers again, and nothing else of it does.

mod broken;
mod purged;
mod slices;
mod survives;
mod tool;
