//! What old and new process say to each other: one JSON document behind its length, and sockets by `SCM_RIGHTS`, some at
//! a time, each lot with one byte. Both ends are ours, but of two versions: a word that is not known ends the upgrade.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as Blocking;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

/// The format of what is said, and that of a process whose successor must relay datagrams: who does not know how to is
/// not to take over.
pub(super) const FORMAT: u32 = 1;
pub(super) const FORMAT_RELAYS: u32 = 2;
/// A document of more bytes is none.
const BYTES_MAX: u32 = 1 << 20;
/// Sockets that are handed over at once, and in all.
const LOT: usize = 64;
const SOCKETS_MAX: usize = 4096;

/// A word.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Word {
    /// Old to new: what is handed over; the sockets follow, in the order of their counts.
    Hello(Hello),
    /// New to old: all that is active is compiled.
    Prepared,
    /// Old to new: the ledger is free.
    Take,
    /// New to old: everything is loaded and listens.
    Ready,
    /// Old to new: new connections come to you.
    Go,
    /// New to old: it has served for a while.
    Proven,
    /// Old to new: everything is yours, and will not be taken back.
    Keep,
    /// New to old: it cannot be.
    Failed {
        /// Why.
        why: String,
    },
}

/// What is handed over beside the sockets.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) format: u32,
    /// The version that hands over.
    pub(super) version: String,
    /// Whether the new process is of the odd generation.
    pub(super) odd: bool,
    /// The keys of QUIC, base64.
    pub(super) keys: Hidden,
    /// The keys of session tickets, base64, where they are of no file.
    #[serde(default)]
    pub(super) tickets: Option<Hidden>,
    /// UDP sockets, in the order in which they were bound.
    pub(super) datagrams: usize,
    /// TCP listeners.
    pub(super) streams: usize,
    /// Where the sockets are nobody's but this line's. Of a version that does not say it, they may be a manager's.
    #[serde(default)]
    pub(super) bound: Vec<SocketAddr>,
    /// The admin's TCP listeners.
    pub(super) admin_tcp: usize,
    /// The admin's socket files.
    pub(super) admin_unix: Vec<PathBuf>,
    /// Whether the last of the sockets is a line by which datagrams are relayed.
    #[serde(default)]
    pub(super) relays: bool,
    /// Whether one more is a line by which the old process asks the stores that it gives away.
    #[serde(default)]
    pub(super) stores: bool,
}

/// Keys on their way: said, and never shown.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Hidden(pub(super) String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(..)")
    }
}

impl Hello {
    fn sockets(&self) -> usize {
        let counts = [self.datagrams, self.streams, self.admin_tcp, self.admin_unix.len(), usize::from(self.relays)];
        let counts = counts.into_iter().chain([usize::from(self.stores)]);
        counts.fold(0, usize::saturating_add)
    }
}

fn encode(word: &Word) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(word)?;
    let length = u32::try_from(text.len()).ok().filter(|length| *length <= BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("too much to say"))?;
    Ok([&length.to_be_bytes(), text.as_slice()].concat())
}

fn length(bytes: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(bytes);
    if length > BYTES_MAX {
        return Err(io::Error::other("more is said than can be heard"));
    }
    usize::try_from(length).map_err(io::Error::other)
}

/// Says a word.
pub(super) async fn say(line: &mut UnixStream, word: &Word) -> io::Result<()> {
    line.write_all(&encode(word)?).await
}

/// Hears the next word; an error when the other side has ended.
pub(super) async fn hear(line: &mut UnixStream) -> io::Result<Word> {
    let mut head = [0; 4];
    line.read_exact(&mut head).await?;
    let mut text = vec![0; length(head)?];
    line.read_exact(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}

/// Says a word where no runtime is left.
pub(super) fn say_last(line: &Blocking, word: &Word) -> io::Result<()> {
    use std::io::Write as _;
    line.set_nonblocking(false)?;
    let mut line = line;
    line.write_all(&encode(word)?)
}

/// Hands sockets over.
pub(super) async fn hand(line: &UnixStream, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    for lot in sockets.chunks(LOT) {
        line.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LOT))];
            let mut rights = SendAncillaryBuffer::new(&mut space);
            if !rights.push(SendAncillaryMessage::ScmRights(lot)) {
                return Err(io::Error::other("no room for the sockets"));
            }
            Ok(sendmsg(line, &[IoSlice::new(&[0])], &mut rights, SendFlags::empty())?)
        })
        .await?;
    }
    Ok(())
}

/// Hears the first word and takes the sockets that follow; blocks.
pub(super) fn take(mut line: &Blocking) -> io::Result<(Hello, Vec<OwnedFd>)> {
    let mut head = [0; 4];
    line.read_exact(&mut head)?;
    let mut text = vec![0; length(head)?];
    line.read_exact(&mut text)?;
    let hello = match serde_json::from_slice(&text)? {
        Word::Hello(hello) if hello.format == if hello.relays { FORMAT_RELAYS } else { FORMAT } => hello,
        _ => return Err(io::Error::other("the old process speaks another language")),
    };
    let count = hello.sockets();
    if count > SOCKETS_MAX {
        return Err(io::Error::other("too many sockets"));
    }
    let mut sockets = Vec::new();
    while sockets.len() < count {
        let before = sockets.len();
        lot(line.as_fd(), &mut sockets)?;
        if sockets.len() == before {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
    }
    Ok((hello, sockets))
}

fn lot(line: BorrowedFd<'_>, sockets: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LOT))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(line, &mut [IoSliceMut::new(&mut byte)], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            sockets.extend(fds);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn hello(datagrams: usize) -> Hello {
        Hello {
            format: FORMAT,
            version: "0.1.0".to_owned(),
            odd: true,
            keys: Hidden(String::new()),
            tickets: None,
            datagrams,
            streams: 0,
            bound: Vec::new(),
            admin_tcp: 0,
            admin_unix: Vec::new(),
            relays: false,
            stores: false,
        }
    }

    #[tokio::test]
    async fn words_and_a_hundred_sockets_arrive_in_order() {
        let (old, new) = Blocking::pair().expect("a pair");
        old.set_nonblocking(true).expect("a socket");
        let mut old = UnixStream::from_std(old).expect("a runtime");
        let bound: Vec<_> = (0..100).map(|_| UdpSocket::bind("127.0.0.1:0").expect("loopback")).collect();
        let taking = tokio::task::spawn_blocking(move || take(&new));
        say(&mut old, &Word::Hello(hello(100))).await.expect("said");
        hand(&old, &bound.iter().map(AsFd::as_fd).collect::<Vec<_>>()).await.expect("handed over");
        let (said, sockets) = taking.await.expect("no panic").expect("taken");
        assert_eq!(said, hello(100));
        let address = |socket: UdpSocket| socket.local_addr().expect("bound");
        let taken: Vec<_> = sockets.into_iter().map(|socket| address(UdpSocket::from(socket))).collect();
        assert_eq!(taken, bound.into_iter().map(address).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_is_too_long_of_another_format_or_cut_off_is_an_error() {
        let other = encode(&Word::Hello(Hello { format: 2, ..hello(0) })).expect("short");
        let crowd = encode(&Word::Hello(hello(SOCKETS_MAX + 1))).expect("short");
        let lacking = encode(&Word::Hello(hello(1))).expect("short");
        for (bytes, what) in [
            (vec![0xff; 8], "too long"),
            ((BYTES_MAX + 1).to_be_bytes().to_vec(), "one byte too long"),
            (vec![0, 0, 0, 2, b'{', b'}'], "no word"),
            (encode(&Word::Take).expect("short"), "another word"),
            (other, "another format"),
            (crowd, "too many sockets"),
            (lacking, "no sockets"),
            (vec![0, 0], "cut off"),
        ] {
            let (old, new) = Blocking::pair().expect("a pair");
            std::io::Write::write_all(&mut &old, &bytes).expect("room");
            drop(old);
            assert!(take(&new).is_err(), "{what}");
        }
        let (old, new) = Blocking::pair().expect("a pair");
        new.set_nonblocking(true).expect("a socket");
        drop(old);
        assert!(hear(&mut UnixStream::from_std(new).expect("a runtime")).await.is_err());
    }
}
