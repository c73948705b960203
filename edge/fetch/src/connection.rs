//! One connection of any version: its handshake, its driver, and sending on it.

use std::sync::Arc;

use eyot_plan::arrival::Interim;
use eyot_plan::fault::{Code, Fault};
use http::request::Parts;
use http::{Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use crate::fresh::Fresh;
use crate::incoming::{Incoming, WireError};
use crate::key::Destination;
use crate::many::{Many, Seat};
use crate::room::Place;
use crate::stream::{HeadCount, Looked, Stream};
use crate::upload::UploadBody;
use crate::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, head};

/// All that may be read before a head is complete: interim responses, the head, and what comes with it.
const BEFORE_HEAD_BYTES_MAX: u64 = 256 << 10;

/// A connection that was just made.
pub(crate) enum Connection {
    H1(H1),
    Many(Arc<Many>),
}

/// An HTTP/1.1 connection. It is closed when this is dropped.
pub(crate) struct H1 {
    sender: http1::SendRequest<UploadBody>,
    count: Arc<HeadCount>,
    driver: AbortHandle,
    fresh: Arc<Fresh>,
    _place: Place,
}

/// The right to send one request on a connection.
pub(crate) enum Lease {
    H1(H1),
    Many(Arc<Many>, Seat),
}

/// Why a request was not answered.
pub(crate) struct Unsent {
    pub(crate) error: WireError,
    /// The body, if nothing of the request has left: it may be sent again whatever it is.
    pub(crate) body: Option<UploadBody>,
}

impl Unsent {
    /// Nothing of it has left.
    pub(crate) fn never(error: impl Into<WireError>, body: UploadBody) -> Self {
        Self { error: error.into(), body: Some(body) }
    }

    /// It may have been handled.
    pub(crate) fn failed(error: impl Into<WireError>) -> Self {
        Self { error: error.into(), body: None }
    }
}

impl Connection {
    /// Speaks HTTP on a stream, in the version that TLS agreed on.
    ///
    /// # Errors
    /// `upstream_bad_response` if the other side does not.
    pub(crate) async fn open(stream: Stream, place: Place, streams_max: usize) -> Result<Self, Fault> {
        let opened = if stream.is_h2() {
            Many::open(stream, place, streams_max).await.map(|many| Self::Many(Arc::new(many)))
        } else {
            H1::open(stream, place).await.map(Self::H1).map_err(WireError::H1)
        };
        opened.map_err(|error| Fault::new(Code::UpstreamBadResponse).because(error))
    }
}

impl H1 {
    async fn open(stream: Stream, place: Place) -> hyper::Result<Self> {
        let (count, fresh) = (Arc::new(HeadCount::default()), Arc::new(Fresh::at(stream.peer())));
        let counted = Arc::clone(&count);
        let io = TokioIo::new(Looked { inner: stream, look: move |read: &[u8]| counted.count(read.len()) });
        let mut builder = http1::Builder::new();
        builder.max_headers(HEAD_FIELDS_MAX).max_header_size(HEAD_BYTES_MAX).max_buf_size(2 * HEAD_BYTES_MAX);
        let (sender, connection) = builder.handshake(io).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "an HTTP/1.1 connection ended");
            }
        });
        Ok(Self { sender, count, driver: driver.abort_handle(), fresh, _place: place })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    async fn send(
        &mut self,
        mut request: Request<UploadBody>,
        interim: &Interim,
    ) -> Result<Response<Incoming>, Unsent> {
        let interim = interim.clone();
        hyper::ext::on_informational(&mut request, move |told| {
            let mut head = Response::new(());
            *head.status_mut() = told.status();
            *head.headers_mut() = told.headers().clone();
            head::interim(head, &interim);
        });
        self.count.begin(BEFORE_HEAD_BYTES_MAX);
        match self.sender.try_send_request(request).await {
            Ok(response) => {
                self.count.complete();
                Ok(response.map(Incoming::H1))
            }
            Err(mut error) => {
                let body = error.take_message().map(Request::into_body);
                Err(Unsent { error: error.into_error().into(), body })
            }
        }
    }

    /// Resolves when the last response is over on both sides; whether another request may follow.
    pub(crate) async fn is_ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }
}

impl Drop for H1 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Lease {
    /// Makes the head what this version wants.
    pub(crate) fn shape(&self, parts: Parts, to: &Destination) -> Result<Parts, Fault> {
        match self {
            Self::H1(_) => head::for_h1(parts, to),
            Self::Many(..) => head::for_many(parts, to),
        }
    }

    /// Sends a request and waits for the head of its response; interim ones go to `interim`. If the future is dropped,
    /// so must the lease be.
    pub(crate) async fn send(
        &mut self,
        request: Request<UploadBody>,
        interim: &Interim,
    ) -> Result<Response<Incoming>, Unsent> {
        match self {
            Self::H1(h1) => h1.send(request, interim).await,
            Self::Many(many, _) => many.send(request, interim).await,
        }
    }

    /// The address it goes to.
    pub(crate) fn fresh(&self) -> Arc<Fresh> {
        match self {
            Self::H1(h1) => Arc::clone(&h1.fresh),
            Self::Many(many, _) => Arc::clone(&many.fresh),
        }
    }

    /// Takes its connection out of use: nothing new begins on it.
    pub(crate) fn retire(self) {
        if let Self::Many(many, _) = &self {
            many.retire();
        }
    }

    /// Whether the other side has said nothing since the request began, as far as this version can tell.
    pub(crate) fn is_untouched(&self) -> bool {
        match self {
            Self::H1(h1) => h1.count.is_untouched(),
            Self::Many(..) => true,
        }
    }
}
