//! The admin: health and metrics for this machine, and for the operator's group the node's state and its levers. It has
//! a thread and a runtime of its own, so that it answers when the request line is busy.
//!
//! It must never be reachable from outside: TCP is loopback only, the rest is a socket file of mode 0660.

mod answer;
mod purge;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use eyot_front::{Certificates, Counts};
use http::{Method, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::config::Listen;
use crate::node::Node;
use crate::pull::Handle;
use crate::upgrade::Upgrades;

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a request's head may take, and a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the histograms are folded.
const UPKEEP: Duration = Duration::from_secs(1);

/// How a request is answered: the door it came through, its method, its path and query.
type Answers = Arc<dyn Fn(answer::Door, &Method, &Uri) -> Response<Full<Bytes>> + Send + Sync>;

/// The state of releases and sync, as JSON: what `/status` says under `sync`.
pub type Status = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What the admin shows.
pub struct Shown {
    /// The node.
    pub node: Arc<Node>,
    /// The certificates in use.
    pub certificates: Arc<Certificates>,
    /// The listeners' counts.
    pub counts: Arc<Counts>,
    /// What the pull says of itself.
    pub status: Status,
    /// How the certificates are that the node gets by itself.
    pub acme: Status,
    /// What the pull can be asked for.
    pub pull: Handle,
    /// Upgrades to a next process.
    pub upgrades: Arc<Upgrades>,
    /// This run of the process.
    pub boot: uuid::Uuid,
}

/// Why the admin cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// An address is taken or not allowed.
    #[error("the admin cannot listen on {place}")]
    Bind {
        /// The address or path.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its thread did not start.
    #[error("the admin's thread did not start")]
    Thread(#[source] io::Error),
}

/// The admin's bound sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    pub(crate) tcp: Vec<TcpListener>,
    pub(crate) unix: Vec<(UnixListener, PathBuf)>,
}

impl Sockets {
    /// Binds all that `listen` names.
    ///
    /// # Errors
    /// The first that cannot be bound.
    pub fn bind(listen: &Listen) -> Result<Self, AdminError> {
        Self::default().with(listen)
    }

    /// Keeps of these, which another process had, what `listen` names, and binds the rest.
    pub(crate) fn with(mut self, listen: &Listen) -> Result<Self, AdminError> {
        let fail = |place: String| move |source| AdminError::Bind { place, source };
        let mut sockets = Self::default();
        for address in &listen.admin_tcp {
            let is_it = |held: &TcpListener| held.local_addr().is_ok_and(|held| held == *address);
            if let Some(at) = self.tcp.iter().position(is_it) {
                sockets.tcp.push(self.tcp.remove(at));
                continue;
            }
            sockets.tcp.push(TcpListener::bind(address).map_err(fail(address.to_string()))?);
        }
        for path in &listen.admin_unix {
            if let Some(at) = self.unix.iter().position(|(_, held)| held == path) {
                sockets.unix.push(self.unix.remove(at));
                continue;
            }
            let bound = bind_unix(path).map_err(fail(path.display().to_string()))?;
            sockets.unix.push((bound, path.clone()));
        }
        Ok(sockets)
    }

    /// The same sockets once more.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let unix = |(socket, path): &(UnixListener, PathBuf)| Ok((socket.try_clone()?, path.clone()));
        Ok(Self {
            tcp: self.tcp.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?,
            unix: self.unix.iter().map(unix).collect::<io::Result<_>>()?,
        })
    }

    /// Where TCP is listened for.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

/// Binds a socket file, which nobody else may ever open: it gets its mode before its name. One that a dead process left
/// is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)?;
    let aside = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&aside)?;
    let named = std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o660))
        .and_then(|()| std::fs::rename(&aside, path));
    if named.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    named.map(|()| listener)
}

/// The running admin. It ends, and its socket files go, when this is dropped; files that are another process' stay.
pub struct Admin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    files: Vec<PathBuf>,
    /// Whether connections are taken.
    doors: watch::Receiver<bool>,
}

impl Admin {
    /// Starts it on its own thread.
    ///
    /// # Errors
    /// When the thread or its runtime does not start.
    pub fn start(sockets: Sockets, shown: Shown) -> Result<Self, AdminError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AdminError::Thread)?;
        let files = sockets.unix.iter().map(|(_, path)| path.clone()).collect();
        let (stop, stopped) = oneshot::channel();
        let doors = shown.upgrades.doors();
        let work = move || runtime.block_on(run(sockets, Arc::new(shown), stopped));
        let thread = std::thread::Builder::new().name("eyot-admin".to_owned()).spawn(work);
        Ok(Self { stop: Some(stop), thread: Some(thread.map_err(AdminError::Thread)?), files, doors })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was counted by the hook; there is nothing else to do about it here.
            let _ = thread.join();
        }
        let is_ours = *self.doors.borrow();
        for file in self.files.iter().filter(|_| is_ours) {
            let _ = std::fs::remove_file(file);
        }
    }
}

async fn run(sockets: Sockets, shown: Arc<Shown>, stopped: oneshot::Receiver<()>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let answering = Arc::clone(&shown);
    let answers: Answers = Arc::new(move |door, method, uri| answer::answer(&answering, door, method, uri));
    for socket in sockets.tcp {
        let socket = socket.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(socket));
        match socket {
            Ok(socket) => {
                drop(tokio::spawn(tcp(socket, shown.upgrades.doors(), Arc::clone(&answers), Arc::clone(&room))));
            }
            Err(error) => tracing::error!(%error, "the admin cannot use a socket"),
        }
    }
    for (socket, _) in sockets.unix {
        let socket = socket.set_nonblocking(true).and_then(|()| tokio::net::UnixListener::from_std(socket));
        match socket {
            Ok(socket) => {
                drop(tokio::spawn(unix(socket, shown.upgrades.doors(), Arc::clone(&answers), Arc::clone(&room))));
            }
            Err(error) => tracing::error!(%error, "the admin cannot use a socket"),
        }
    }
    tokio::spawn(upkeep(shown));
    // Dropped, not sent: either way it is over, and the tasks end with the runtime.
    let _ = stopped.await;
}

async fn upkeep(shown: Arc<Shown>) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        shown.node.telemetry.upkeep();
        shown.node.rooms.balance();
    }
}

async fn tcp(
    socket: tokio::net::TcpListener,
    mut doors: watch::Receiver<bool>,
    answers: Answers,
    room: Arc<Semaphore>,
) {
    while let Some(accepted) = while_open(&mut doors, || socket.accept()).await {
        take(accepted.map(|(stream, _)| stream), answer::Door::Tcp, &answers, &room).await;
    }
}

async fn unix(
    socket: tokio::net::UnixListener,
    mut doors: watch::Receiver<bool>,
    answers: Answers,
    room: Arc<Semaphore>,
) {
    while let Some(accepted) = while_open(&mut doors, || socket.accept()).await {
        take(accepted.map(|(stream, _)| stream), answer::Door::Unix, &answers, &room).await;
    }
}

/// What `accept` gives while the doors are open: two processes may have the same socket, and one of them is to be asked.
async fn while_open<T, F: Future<Output = T>>(doors: &mut watch::Receiver<bool>, accept: impl Fn() -> F) -> Option<T> {
    loop {
        doors.wait_for(|open| *open).await.ok()?;
        tokio::select! {
            biased;
            closed = doors.wait_for(|open| !*open) => drop(closed.ok()?),
            accepted = accept() => return Some(accepted),
        }
    }
}

/// Serves one accepted connection, when there is room for it.
async fn take<S>(accepted: io::Result<S>, door: answer::Door, answers: &Answers, room: &Arc<Semaphore>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(stream) = accepted else {
        // Out of file descriptors, most likely: trying at once would only spin.
        tokio::time::sleep(Duration::from_millis(100)).await;
        return;
    };
    let Ok(permit) = Arc::clone(room).acquire_owned().await else { return };
    let connection = serve(stream, door, Arc::clone(answers));
    tokio::spawn(async move {
        connection.await;
        drop(permit);
    });
}

fn serve<S>(stream: S, door: answer::Door, answers: Answers) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let response = answers(door, request.method(), request.uri());
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(16 << 10);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    async move {
        // What a client of the admin does wrong is its own matter.
        let _ = connection.await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_65th_connection_waits_until_one_that_asks_nothing_is_closed_after_10_s() {
        let answers: Answers = Arc::new(|_, _, uri| Response::new(Full::from(uri.path().to_owned())));
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let connect = || async {
            let (here, there) = tokio::io::duplex(1 << 10);
            take(Ok(there), answer::Door::Unix, &answers, &room).await;
            here
        };
        let began = Instant::now();
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            silent.push(connect().await);
        }
        assert_eq!((silent.len(), began.elapsed()), (64, Duration::ZERO));
        let mut last = connect().await;
        assert!((HEAD_TIMEOUT..HEAD_TIMEOUT * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert_eq!(HEAD_TIMEOUT, Duration::from_secs(10));
        let mut said = Vec::new();
        silent[0].read_to_end(&mut said).await.expect("closed");
        last.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("sent");
        said.clear();
        last.read_to_end(&mut said).await.expect("answered");
        assert!(said.ends_with(b"/healthz"), "{}", String::from_utf8_lossy(&said));
    }
}
