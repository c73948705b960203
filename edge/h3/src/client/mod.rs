//! The client: one [`Connection`] carries many requests at once.

mod exchange;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime};

use crate::core::code::Code;
use crate::core::peer::Role;
use crate::driver::shared::Shared;
use crate::driver::{streams, varint};
use crate::{Error, Limits, RecvBody, client_transport};

/// Connects to `address` from a fresh UDP socket, and expects a certificate for `name`, which is a host name or an
/// address without brackets. `config` is used with [`crate::ALPN`] alone. It waits as long as QUIC does: see
/// [`client_transport`].
pub async fn connect(config: Arc<rustls::ClientConfig>, address: SocketAddr, name: &str) -> Result<Connection, Error> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).map_err(unbegun)?;
    connect_on(socket, config, address, name, Limits::default()).await
}

/// The same from a bound socket of the address's family, with limits of one's own.
pub async fn connect_on(
    socket: UdpSocket,
    config: Arc<rustls::ClientConfig>,
    address: SocketAddr,
    name: &str,
    limits: Limits,
) -> Result<Connection, Error> {
    socket.set_nonblocking(true).map_err(unbegun)?;
    let mut config = Arc::unwrap_or_clone(config);
    config.alpn_protocols = vec![crate::ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(config).map_err(|error| unbegun(io::Error::other(error)))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(client_transport()));
    let runtime = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, runtime).map_err(unbegun)?;
    let connecting = endpoint.connect_with(config, address, name);
    let quinn = connecting.map_err(|error| unbegun(io::Error::other(error)))?.await?;
    Ok(Connection::new(quinn, endpoint, limits))
}

fn unbegun(error: io::Error) -> Error {
    Error::Socket(Arc::new(error))
}

/// A connection to a server. Clones are the same connection; when the last clone and the last body are gone, it is
/// closed with H3_NO_ERROR.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

/// What must live as long as a request does.
struct Inner {
    shared: Arc<Shared>,
    /// The socket's owner.
    _endpoint: Endpoint,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.quinn.close(varint(Code::NO_ERROR), b"");
    }
}

impl Connection {
    fn new(quinn: quinn::Connection, endpoint: Endpoint, limits: Limits) -> Self {
        let shared = Shared::new(quinn, Role::Client, limits);
        tokio::spawn(streams::run(Arc::clone(&shared)));
        Self { inner: Arc::new(Inner { shared, _endpoint: endpoint }) }
    }

    /// Sends a request and gives the response as soon as its head is there; interim responses are passed over. The URI
    /// must be absolute. The body goes on being sent meanwhile, until the server stops it. Waits where the server allows
    /// no more requests at once.
    ///
    /// A CONNECT with a [`Protocol`](crate::Protocol) among its extensions waits until the server has said that it takes
    /// it. If the response is 2xx, the two bodies are the tunnel, and each ends by itself.
    ///
    /// Dropping the future, or the response's body before its end, cancels the request with H3_REQUEST_CANCELLED.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<RecvBody>, Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        exchange::run(&self.inner, request, drop).await
    }

    /// The same; interim responses (1xx) are given to `interim` as they come, at most
    /// [`Limits::extra_frames_max`](crate::Limits) of them.
    pub async fn send_informed<B>(
        &self,
        request: Request<B>,
        interim: impl FnMut(Response<()>),
    ) -> Result<Response<RecvBody>, Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        exchange::run(&self.inner, request, interim).await
    }

    /// Whether no new request can be sent: the connection is lost or closed, or the server goes away.
    pub fn is_closed(&self) -> bool {
        self.inner.shared.quinn.close_reason().is_some() || self.inner.shared.goaway_in.borrow().is_some()
    }

    /// Resolves when the connection is over.
    pub async fn closed(&self) -> Error {
        let error = self.inner.shared.quinn.closed().await;
        self.inner.shared.error(error)
    }

    /// Closes the connection, whatever is in flight.
    pub fn close(&self) {
        self.inner.shared.quinn.close(varint(Code::NO_ERROR), b"");
    }

    /// The server's address.
    pub fn remote_address(&self) -> SocketAddr {
        self.inner.shared.quinn.remote_address()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.remote_address()).finish_non_exhaustive()
    }
}
