//! Listeners: TLS, certificates, HTTP/1.1, HTTP/2 and HTTP/3 become arrivals, and answers go back. For the node and the
//! origin. It knows no route and no target: an [`eyot_plan::arrival::Answer`] is all it asks.

mod acme;
mod begin;
mod certificates;
mod connection;
mod counts;
mod drain;
mod error;
mod exchange;
mod file;
mod guard;
mod h1;
mod h2;
mod h3;
mod interim;
mod last;
mod listen;
mod permits;
mod proxy;
mod request_body;
mod response_body;
mod run;
mod settings;
mod sockets;
mod stall;
pub mod steer;
mod tls;
mod tunnel;
mod turn;

pub use acme::{Challenge, Challenges};
pub use certificates::{Certificates, Files, Shown, Source};
pub use counts::Counts;
pub use drain::Ending;
pub use error::Error;
pub use guard::{ClientAuth, Guards};
pub use run::run;
pub use settings::{Plain, Resumption, Settings, TlsSettings};
pub use sockets::{Addresses, Lineage, Sockets};
pub use tls::tickets::Tickets;
pub use turn::Turn;
