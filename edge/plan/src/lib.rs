//! The node's decisions, as pure functions: routes, admission, faults, forwarding, address policy, allowances, cohorts.
//! No I/O and no clock: what is known comes in as arguments, `now` among them, and a value goes out.

pub mod address;
pub mod allowance;
pub mod arrival;
pub mod before;
pub mod body;
pub mod cache;
pub mod cohort;
pub mod fault;
pub mod files;
pub mod forward;
pub mod policy;
pub mod proxied;
pub mod request;
pub mod routes;
pub mod upstream;
pub mod way;
pub mod windows;
