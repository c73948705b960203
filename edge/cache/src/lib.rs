//! The cache of a node: what was answered is kept, in memory and on disk, and answers again.
//!
//! It keeps, finds and shares; whether an answer may be kept, and whether what is kept may answer, is decided by
//! `eyot_plan::cache`. It knows no route, no upstream and no function: who is asked for what is not kept is the request
//! line's to say ([`answer::Behind`]). Beside answers it has what functions keep by names of their own ([`named`]).

pub mod answer;
pub mod balance;
pub mod disk;
pub mod fill;
pub mod flight;
pub mod meta;
pub mod named;
pub mod object;
pub mod purges;
pub mod room;
pub mod rooms;
pub mod source;
pub mod stored;
mod tee;
