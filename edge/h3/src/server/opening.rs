//! A request stream whose head has not come yet.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Method, Request};
use http_body_util::Full;
use quinn::{RecvStream, SendStream};
use tokio::time::{Sleep, sleep};

use super::{Early, Responder};
use crate::core::code::{Code, Failure, Scope};
use crate::core::message::{Event, Message};
use crate::core::priority::Priority;
use crate::driver::recv::{Incoming, Item};
use crate::driver::send::Outgoing;
use crate::driver::shared::{Shared, Ticket, lock};
use crate::{Error, RecvBody};

/// A request stream whose head has not come yet. It resolves to the request, or to nothing if none comes.
pub(super) struct Opening {
    parts: Option<Parts>,
    /// Whether the stream came before the handshake was over.
    early: bool,
    /// Until when the head must be there; set when it was not there at once.
    deadline: Option<Pin<Box<Sleep>>>,
    shared: Arc<Shared>,
}

struct Parts {
    incoming: Incoming,
    outgoing: Outgoing,
    ticket: Arc<Ticket>,
}

impl Opening {
    pub(super) fn new(send: SendStream, recv: RecvStream, shared: &Arc<Shared>) -> Self {
        let message = Message::request(shared.limits.bounds());
        let place = lock(&shared.schedule).enter(u64::from(send.id()));
        let early = recv.is_0rtt();
        let incoming = Incoming::new(recv, message, Arc::clone(shared), Code::NO_ERROR);
        let outgoing = Outgoing::new(send, Arc::clone(shared), Code::INTERNAL_ERROR).at(place);
        let parts = Parts { incoming, outgoing, ticket: Arc::new(shared.ticket()) };
        Self { parts: Some(parts), early, deadline: None, shared: Arc::clone(shared) }
    }

    /// The head is complete.
    fn request(
        &self,
        mut parts: Parts,
        mut request: Request<()>,
        cx: &mut Context<'_>,
    ) -> Option<(Request<RecvBody>, Responder)> {
        let ended = match parts.incoming.poll_end(cx) {
            Ok(ended) => ended,
            Err(error) => {
                parts.give_up(&error);
                return None;
            }
        };
        let mut priority = Priority::of(request.headers());
        if *request.method() == Method::CONNECT {
            // RFC 9218, section 11: a tunnel has no end that others could wait for.
            priority.incremental = Some(true);
        }
        parts.outgoing.asked(priority);
        if self.early && self.shared.proven.borrow().is_none() {
            request.extensions_mut().insert(Early::new(&self.shared));
        }
        let method = request.method().clone();
        let Parts { incoming, outgoing, ticket } = parts;
        if ended {
            let responder = Responder::new(outgoing, ticket, method);
            return Some((request.map(|()| RecvBody::empty()), responder));
        }
        let incoming = Arc::new(Mutex::new(incoming));
        let body = RecvBody::new(Arc::clone(&incoming), Some(Arc::clone(&ticket) as Arc<_>));
        Some((request.map(|()| body), Responder::new(outgoing.beside(incoming), ticket, method)))
    }

    /// The head is too large: it is answered without being read.
    fn refuse(&self, mut parts: Parts) {
        parts.incoming.stop(Code::NO_ERROR);
        let responder = Responder::new(parts.outgoing, parts.ticket, Method::GET);
        let response = (self.shared.limits.too_large)().map(Full::new);
        // Bounded by the requests that the transport lets a peer have at once.
        tokio::spawn(async move {
            let _ = responder.send(response).await;
        });
    }
}

impl Parts {
    /// There will be no request.
    fn give_up(mut self, error: &Error) {
        match error {
            Error::Peer(Failure { scope: Scope::Stream, code, .. }) => {
                self.outgoing.on_drop(*code);
                self.outgoing.broken_off();
            }
            Error::Reset(_) => {
                self.outgoing.on_drop(Code::REQUEST_CANCELLED);
                self.outgoing.broken_off();
            }
            _ => {}
        }
    }

    fn too_late(mut self) {
        self.incoming.stop(Code::REQUEST_INCOMPLETE);
        self.outgoing.on_drop(Code::REQUEST_INCOMPLETE);
    }
}

impl Future for Opening {
    type Output = Option<(Request<RecvBody>, Responder)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut parts) = self.parts.take() else { return Poll::Ready(None) };
        match parts.incoming.poll(cx) {
            Poll::Ready(Ok(Item::Event(Event::Request(request)))) => {
                return Poll::Ready(self.request(parts, request, cx));
            }
            Poll::Ready(Ok(Item::Event(Event::TooLarge))) => self.refuse(parts),
            // Nothing else comes before a head.
            Poll::Ready(Ok(Item::Event(_) | Item::End)) => {}
            Poll::Ready(Err(error)) => parts.give_up(&error),
            Poll::Pending => {
                let time_max = self.shared.limits.header_time_max;
                let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(time_max)));
                if deadline.as_mut().poll(cx).is_ready() {
                    parts.too_late();
                    return Poll::Ready(None);
                }
                self.parts = Some(parts);
                return Poll::Pending;
            }
        }
        Poll::Ready(None)
    }
}
