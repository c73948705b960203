//! A server of others that does not do as it should: what it does is said by the path it is asked for. HTTP/1.1, each
//! connection a thread.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// A server that fails as it is asked to; it ends with its owner.
pub(crate) struct Faulty {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl Faulty {
    /// Starts it on a port of its own.
    pub(crate) fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Starts it again where one was before: `/well` and all else says `well`, `/reset` ends the connection, `/slow` says
    /// nothing, `/part` promises more than it sends and resets, `/short` does so and ends, `/endless` has fields without
    /// end, `/old` is HTTP/1.0 without a length, `/noise` is no HTTP, `/twice` has two lengths.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("bound");
        let (asked, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, told) = (Arc::clone(&asked), Arc::clone(&ended));
        let accepting = std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                if told.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let stream = Arc::new(stream);
                open.push(Arc::downgrade(&stream));
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || serve(&stream, &counted));
            }
            for stream in open.iter().filter_map(Weak::upgrade) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        });
        Self { address, asked, ended, accepting: Some(accepting) }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Faulty {
    #[expect(clippy::disallowed_methods, reason = "a test's own socket")]
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // It waits for a client to look.
        let _ = TcpStream::connect(self.address);
        let _ = self.accepting.take().map(std::thread::JoinHandle::join);
    }
}

/// The path of the next request; none: the client is gone.
fn asked_for(reader: &mut BufReader<&TcpStream>) -> Option<String> {
    let (mut first, mut line) = (String::new(), String::new());
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    }
    first.split(' ').nth(1).map(str::to_owned)
}

/// Serves a connection. Nobody else keeps it open, so that it can end in a reset.
fn serve(stream: &TcpStream, asked: &AtomicU64) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(path) = asked_for(&mut reader) {
        asked.fetch_add(1, Ordering::SeqCst);
        let said: &[u8] = match path.as_str() {
            "/endless" => return endless(writer),
            "/noise" => b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
            "/old" => b"HTTP/1.0 200 OK\r\nx-old: 1\r\n\r\nold",
            "/part" | "/short" => b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\npart",
            "/reset" => b"",
            "/slow" => match asked_for(&mut reader) {
                Some(_) => continue,
                None => return,
            },
            "/twice" => b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\ntwice",
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell",
        };
        if writer.write_all(said).is_err() {
            return;
        }
        match path.as_str() {
            "/noise" | "/old" | "/reset" | "/short" | "/twice" => {
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return;
            }
            "/part" => return reset(stream),
            _ => {}
        }
    }
}

/// Fields, until the other side has had enough of them.
fn endless(mut stream: &TcpStream) {
    let mut said = stream.write_all(b"HTTP/1.1 200 OK\r\n");
    let field = format!("x-more: {}\r\n", "x".repeat(1_000));
    while said.is_ok() {
        said = stream.write_all(field.as_bytes());
    }
}

/// Ends a connection with RST, and not with FIN.
fn reset(stream: &TcpStream) {
    let now = rustix::net::sockopt::set_socket_linger(stream, Some(std::time::Duration::ZERO));
    now.expect("a socket takes its linger");
}
