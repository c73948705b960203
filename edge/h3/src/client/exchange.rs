//! One request and its response.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Inner;
use crate::core::code::{Code, Failure};
use crate::core::encode;
use crate::core::message::{Event, Message};
use crate::driver::recv::{Incoming, Item};
use crate::driver::send::{Outgoing, promise};
use crate::driver::shared::{Shared, lock};
use crate::{Error, RecvBody};

/// Sends a request and waits for the head of its response; interim ones go to `interim`.
pub(super) async fn run<B>(
    inner: &Arc<Inner>,
    request: Request<B>,
    interim: impl FnMut(Response<()>),
) -> Result<Response<RecvBody>, Error>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let shared = &inner.shared;
    let (mut head, body) = request.into_parts();
    let payload = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    let tunnel = head.method == Method::CONNECT;
    let length = if tunnel { None } else { promise(&mut head.headers, &body, payload) };
    let encoded = encode::request(&head).map_err(Error::Unsendable)?;
    if tunnel {
        offered(shared).await?;
    }
    if !shared.takes(encoded.section_bytes) {
        return Err(Error::PeerLimit);
    }
    let (send, recv) = open(shared).await?;
    let id = u64::from(send.id());
    let ticket = shared.ticket();
    let message = Message::response(&head.method, shared.limits.bounds());
    let mut incoming = Incoming::new(recv, message, Arc::clone(shared), Code::REQUEST_CANCELLED);
    let mut outgoing = Outgoing::new(send, Arc::clone(shared), Code::REQUEST_CANCELLED);
    let keep = Arc::clone(inner);
    let mut upload = Upload::begin(async move {
        let result = outgoing.send(encoded, body, length).await;
        drop((outgoing, keep, ticket));
        result
    })
    .await;
    let response = tokio::select! {
        biased;
        response = response(&mut incoming, interim) => response.map_err(|error| unless_refused(shared, id, error))?,
        error = upload.failed() => return Err(error),
        error = refused(shared, id) => return Err(error),
    };
    let incoming = Arc::new(Mutex::new(incoming));
    let keep = Keep { _inner: Arc::clone(inner), upload, incoming: Arc::clone(&incoming) };
    Ok(response.map(|()| RecvBody::new(incoming, Some(Arc::new(keep)))))
}

/// Waits for the server's settings: an extended CONNECT may be sent only once it has said that it takes it (RFC 9220,
/// section 3).
async fn offered(shared: &Shared) -> Result<(), Error> {
    let mut settings = shared.settings.subscribe();
    let settled = settings.wait_for(Option::is_some);
    tokio::select! {
        biased;
        settled = timeout(shared.limits.header_time_max, settled) => match settled {
            Ok(Ok(settings)) if settings.is_some_and(|it| it.connect_protocol) => Ok(()),
            _ => Err(Error::ConnectProtocol),
        },
        _ = shared.quinn.closed() => Err(Error::Refused),
    }
}

/// Opens a stream, unless the server goes away.
async fn open(shared: &Shared) -> Result<(quinn::SendStream, quinn::RecvStream), Error> {
    let mut goaway = shared.goaway_in.subscribe();
    tokio::select! {
        biased;
        () = told(&mut goaway) => Err(Error::Refused),
        // Without a stream nothing was sent.
        streams = shared.quinn.open_bi() => streams.map_err(|_| Error::Refused),
    }
}

/// Resolves when the server says that it goes away.
async fn told(goaway: &mut watch::Receiver<Option<u64>>) {
    let _ = goaway.wait_for(Option::is_some).await;
}

/// Resolves when the server says that it does not process the request `id`.
async fn refused(shared: &Shared, id: u64) -> Error {
    let mut goaway = shared.goaway_in.subscribe();
    let told = goaway.wait_for(|goaway| goaway.is_some_and(|refused| id >= refused)).await.is_ok();
    if told { Error::Refused } else { std::future::pending().await }
}

/// The error, unless the server has said that it does not process the request `id`.
fn unless_refused(shared: &Shared, id: u64, error: Error) -> Error {
    if shared.goaway_in.borrow().is_some_and(|refused| id >= refused) { Error::Refused } else { error }
}

/// The head of the final response.
async fn response(incoming: &mut Incoming, mut interim: impl FnMut(Response<()>)) -> Result<Response<()>, Error> {
    loop {
        match poll_fn(|cx| incoming.poll(cx)).await? {
            Item::Event(Event::Interim(response)) => interim(response),
            Item::Event(Event::Response(response)) => return Ok(response),
            Item::Event(Event::TooLarge) => {
                incoming.stop(Code::EXCESSIVE_LOAD);
                return Err(Error::TooLarge);
            }
            Item::Event(_) | Item::End => return Err(Error::Peer(Failure::malformed("a response without a head"))),
        }
    }
}

/// The sending of a request, which goes on beside its response.
struct Upload {
    task: Option<JoinHandle<Result<(), Error>>>,
    /// How it ended, if it ended at once.
    result: Option<Result<(), Error>>,
}

impl Upload {
    /// Sends what can be sent at once; the rest in a task of its own.
    async fn begin(send: impl Future<Output = Result<(), Error>> + Send + 'static) -> Self {
        let mut send = Box::pin(send);
        match poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx))).await {
            Poll::Ready(result) => Self { task: None, result: Some(result) },
            Poll::Pending => Self { task: Some(tokio::spawn(send)), result: None },
        }
    }

    /// Resolves if the sending fails in a way that ends the request. A server that wants no more of the body does not:
    /// its response comes all the same.
    async fn failed(&mut self) -> Error {
        if let Some(task) = &mut self.task {
            let result = task.await;
            self.task = None;
            self.result = result.ok();
        }
        match self.result.take() {
            Some(Err(error)) if !matches!(error, Error::Stopped(_)) => error,
            _ => std::future::pending().await,
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What lives as long as the response's body.
struct Keep {
    _inner: Arc<Inner>,
    upload: Upload,
    incoming: Arc<Mutex<Incoming>>,
}

impl Drop for Keep {
    fn drop(&mut self) {
        // The response came whole: what is still being sent may go on to its end.
        if lock(&self.incoming).is_whole() {
            self.upload.task = None;
        }
    }
}
