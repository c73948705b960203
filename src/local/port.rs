//! The port of a node on this machine: one that is free for both TCP and UDP.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

use anyhow::bail;

/// Where to begin to look.
const FIRST: u16 = 8443;
/// How many are tried.
const TRIES_MAX: u16 = 100;

/// Which port.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Port {
    /// Any.
    Any,
    /// 8443, or the next that is free.
    Usual,
    /// This one.
    This(u16),
}

impl Port {
    /// The port, which is free now.
    pub(crate) fn choose(self) -> anyhow::Result<u16> {
        match self {
            Self::Any => any(),
            Self::This(port) if is_free(port) => Ok(port),
            Self::This(port) => bail!("port {port} is busy: end what listens there, or choose another by --port"),
            Self::Usual => match (FIRST..FIRST + TRIES_MAX).find(|port| is_free(*port)) {
                Some(port) => Ok(port),
                None => bail!("no port from {FIRST} to {} is free; choose another by --port", FIRST + TRIES_MAX - 1),
            },
        }
    }
}

/// Whether this machine has IPv6.
pub(super) fn has_six() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// Whether nobody has it. The node itself binds with SO_REUSEPORT and would not notice.
fn is_free(port: u16) -> bool {
    let (four, six) = ((Ipv4Addr::LOCALHOST, port), (Ipv6Addr::LOCALHOST, port));
    let is_free = TcpListener::bind(four).is_ok() && UdpSocket::bind(four).is_ok();
    is_free && (!has_six() || (TcpListener::bind(six).is_ok() && UdpSocket::bind(six).is_ok()))
}

fn any() -> anyhow::Result<u16> {
    for _ in 0..TRIES_MAX {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("no port is free for both TCP and UDP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_has_is_not_chosen() {
        let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        assert!(Port::This(port).choose().unwrap_err().to_string().contains(&port.to_string()));
        let any = Port::Any.choose().unwrap();
        assert_eq!(Port::This(any).choose().unwrap(), any);
    }
}
