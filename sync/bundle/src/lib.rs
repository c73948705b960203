//! The contract between publisher, operator, origin and node, as pure values: digests, manifests, releases, grants,
//! controls, and the trust metadata that signs them. It knows no clock, no file, no socket: bytes and `now` come in,
//! values and errors go out.

pub mod component;
pub mod control;
pub mod credential;
pub mod cron;
pub mod digest;
pub mod files;
pub mod fleet;
pub mod grant;
pub mod host;
pub mod manifest;
pub mod name;
pub mod refusal;
pub mod release;
pub mod secret;
pub mod sign;
pub mod subject;
pub mod text;
pub mod trust;
pub mod verify;
pub mod web_origin;
