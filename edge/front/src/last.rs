//! The last connections of a listener. A socket that is closed resets the connections that wait there, and those whose
//! handshake is not over: their clients believe that they are connected. So the kernel is first told to begin no more.

use std::io;
use std::os::fd::AsFd;

use socket2::{SockFilter, SockRef};

/// Where the flags are in the header of TCP, and two of them (RFC 9293, section 3.1).
const FLAGS_AT: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// Operations of classic BPF: `linux/bpf_common.h`.
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Passes all but what begins a connection.
const PROGRAM: [SockFilter; 5] = [
    SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_AT),
    SockFilter::new(AND, 0, 0, SYN | ACK),
    SockFilter::new(JUMP_EQUAL, 0, 1, SYN),
    SockFilter::new(RETURN, 0, 0, 0),
    SockFilter::new(RETURN, 0, 0, u32::MAX),
];

/// From now on what would begin a connection at this socket is not heard: its client asks again, and when the socket is
/// closed it is refused. Those that have begun go on. It stays with the socket, whoever has it.
///
/// # Errors
/// When the system takes no such program.
pub(crate) fn begins(listener: &impl AsFd) -> io::Result<()> {
    SockRef::from(listener).attach_filter(&PROGRAM)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "a client of the tests, not a way out")]
    fn connect(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
        TcpStream::connect_timeout(&address, patience)
    }

    #[test]
    fn connections_that_have_begun_go_on_and_no_other_begins() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(any) else { continue };
            let address = listener.local_addr().expect("bound");
            let mut waits = connect(address, Duration::from_secs(60)).expect("connected");
            begins(&listener).expect("a program");
            let late = connect(address, Duration::from_millis(50)).expect_err("it is not heard");
            assert_eq!(late.kind(), ErrorKind::TimedOut, "{any}");
            let (mut accepted, _) = listener.accept().expect("it has begun before");
            drop(listener);
            waits.write_all(b"ask").expect("sent");
            let mut asked = [0; 3];
            accepted.read_exact(&mut asked).expect("it came");
            accepted.write_all(&asked).expect("sent");
            waits.read_exact(&mut asked).expect("it came");
            let refused = connect(address, Duration::from_secs(60)).expect_err("it is closed");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{any}");
        }
    }
}
