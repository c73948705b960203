//! `tls`: certificates, what is spoken, how clients come back, and which hosts ask theirs for a certificate.

use std::net::SocketAddr;
use std::path::PathBuf;

use eyot_bundle::host::HostPattern;
use eyot_bundle::text::{Blank, Table};

use super::acme::{self, Acme};
use super::read::{Address, Place};
use super::secret::Secret;

/// Hosts that ask for a certificate.
const CLIENT_AUTH_MAX: usize = 100;

/// The certificates, and what TLS does.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Chain and key, both PEM.
    pub certificates: Vec<Certificate>,
    /// Those that the node gets by itself.
    pub acme: Option<Acme>,
    /// Whether TLS 1.2 is spoken over TCP, beside 1.3.
    pub tls_1_2: bool,
    /// Whether clients may come back with early data over HTTP/3.
    pub early_data: bool,
    /// The keys of session tickets, shared by the nodes of a region; none: this process makes its own.
    pub ticket_keys: Option<Secret>,
    /// The hosts that ask their clients for a certificate.
    pub client_auth: Vec<ClientAuth>,
}

/// One certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain's file.
    pub chain: PathBuf,
    /// Its key.
    pub key: Secret,
    /// An OCSP response that goes with it, DER.
    pub ocsp: Option<PathBuf>,
}

/// A host that asks its clients for a certificate.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    /// The host, exact.
    pub host: String,
    /// PEM of the authorities that its clients' certificates come from.
    pub ca: PathBuf,
    /// Where it is listened for, over TCP and UDP. The port is for such hosts alone.
    pub listen: SocketAddr,
}

/// A host without a wildcard.
struct Exact(String);

impl Blank for Exact {
    fn blank() -> Self {
        Self(String::new())
    }
}

impl std::str::FromStr for Exact {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(HostPattern::Exact(host)) => Ok(Self(host)),
            _ => Err(format!("`{text}` is no exact host, such as `api.example.com`")),
        }
    }
}

/// Reads the table.
pub(super) fn read(place: &Place<'_>, table: &mut Table<'_>) -> Tls {
    let mut certificates = table.tables("certificates");
    let certificate = |table: &mut Table<'_>| Certificate {
        chain: place.path(table, "chain").required(),
        key: place.secret(table, "key").required(),
        ocsp: place.path(table, "ocsp").optional(),
    };
    let certificates = certificates.iter_mut().map(certificate).collect();
    Tls {
        certificates,
        acme: table.has("acme").then(|| acme::read(place, &mut table.table("acme"))),
        tls_1_2: table.choice("min", &[("1.2", true), ("1.3", false)]).or(false),
        early_data: table.choice("resumption", &[("tickets", false), ("early-data", true)]).or(false),
        ticket_keys: place.secret(table, "ticket_keys").optional(),
        client_auth: client_auth(place, table),
    }
}

fn client_auth(place: &Place<'_>, table: &mut Table<'_>) -> Vec<ClientAuth> {
    let mut tables = table.tables("client_auth");
    if let Some(over) = tables.get(CLIENT_AUTH_MAX) {
        over.note(format!("is one of more than {CLIENT_AUTH_MAX}"));
    }
    let mut hosts: Vec<ClientAuth> = Vec::new();
    for table in &mut tables {
        let host = table.parsed::<Exact>("host").required().0;
        if !host.is_empty() && hosts.iter().any(|other| other.host == host) {
            table.note(format!("`{host}` has its authorities already"));
        }
        let ca = place.path(table, "ca").required();
        if let Some(Address(listen)) = table.parsed("listen").and_then(fixed).required() {
            hosts.push(ClientAuth { host, ca, listen });
        }
    }
    hosts
}

/// Which socket is guarded is known by its port, so the system may not choose it.
fn fixed(address: Address) -> Result<Option<Address>, &'static str> {
    if address.0.port() == 0 { Err("needs a port of its own") } else { Ok(Some(address)) }
}
