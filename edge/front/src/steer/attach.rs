//! Giving the kernel the program that chooses a socket of a group.
#![allow(unsafe_code)] // `setsockopt` with `SO_ATTACH_REUSEPORT_CBPF` has no safe wrapper: `attach`, and nothing else.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use super::program::Instruction;

/// Puts `program` in the place of the one that the group of `socket` has. The kernel swaps it whole.
pub(super) fn attach(socket: &UdpSocket, program: &[Instruction]) -> io::Result<()> {
    let filter = |it: &Instruction| libc::sock_filter { code: it.code, jt: it.jt, jf: it.jf, k: it.k };
    let mut filters: Vec<_> = program.iter().map(filter).collect();
    let len = u16::try_from(filters.len()).map_err(io::Error::other)?;
    let whole = libc::sock_fprog { len, filter: filters.as_mut_ptr() };
    let length = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open while `socket` is borrowed; `whole` is a sock_fprog of the length given, and points
    // to `len` filters that live until the call, which copies them, has returned.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const whole).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
