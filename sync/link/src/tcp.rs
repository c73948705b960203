//! The wire's own TCP connections: to the operator's parents, and to where a person points `get`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};

/// A name must be resolved within this, in milliseconds.
const RESOLVE_MS: u64 = 5_000;
/// At most this many addresses of a name are tried.
pub(crate) const ADDRESSES_MAX: usize = 8;

/// The addresses of `host`, an address literal or a name of the system's resolver; at most `most`.
pub(crate) async fn resolve(host: &str, port: u16, most: usize) -> Result<Vec<SocketAddr>, String> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let lookup = tokio::time::timeout(Duration::from_millis(RESOLVE_MS), lookup_host((bare, port)));
    let found = match lookup.await {
        Err(_) => return Err(format!("resolving {host} took longer than {RESOLVE_MS} ms")),
        Ok(found) => found.map_err(|error| format!("{host} does not resolve: {error}"))?,
    };
    let addresses: Vec<SocketAddr> = found.take(most).collect();
    if addresses.is_empty() { Err(format!("{host} has no address")) } else { Ok(addresses) }
}

/// Connects to the first address that answers; each has so long.
pub(crate) async fn connect(addresses: &[SocketAddr], each_ms: u64) -> Result<TcpStream, String> {
    let mut failures = Vec::new();
    for &address in addresses {
        match open(address, each_ms).await {
            Ok(stream) => return Ok(stream),
            Err(cause) => failures.push(format!("{address}: {cause}")),
        }
    }
    Err(failures.join("; "))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the address is the operator's own parent or typed at the command line; no app can influence it"
)]
async fn open(address: SocketAddr, within_ms: u64) -> Result<TcpStream, String> {
    let stream = tokio::time::timeout(Duration::from_millis(within_ms), TcpStream::connect(address))
        .await
        .map_err(|_| format!("no answer within {within_ms} ms"))?
        .map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}
