//! What functions ask for by themselves, through the cache of their app: what one of them was answered answers the next,
//! as far as who answered lets others have it.

use std::sync::Arc;

use eyot_cache::answer::{Answered, Behind, Cache};
use eyot_fetch::Fetch;
use eyot_guest::Sender;
use eyot_plan::arrival::Protocol;
use eyot_plan::body::Body;
use eyot_plan::fault::Fault;
use eyot_plan::forward::{self, Facts, Trail};
use eyot_plan::request;
use eyot_plan::way::Way;
use http::{HeaderValue, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{CACHE_STATUS, Caching, settled};
use crate::call::Kin;
use crate::doors::Loan;
use crate::purge::now_ms;
use crate::telemetry::{Telemetry, Text};

/// What requests of functions are counted under, where those of clients have their route.
pub(super) const FETCHES: Text = Text::const_str("fetch");

/// A function's way out, for one request.
pub(crate) struct Out {
    from: Arc<Asker>,
    way: Way,
    /// Whose it is; none: nobody waits for it, and nothing is lent with it.
    sender: Option<Sender>,
    /// Whether it goes to this fleet.
    is_ours: bool,
    /// Of a request that nobody waits for.
    _permit: Option<OwnedSemaphorePermit>,
}

/// What it must know of the call that it comes from. It holds nothing of the call itself: a fetch may outlive that, and the
/// call's record is written when the last that is of it is gone.
struct Asker {
    fetch: Fetch,
    fleet: String,
    protocol: Protocol,
    request_id: String,
    trail: Trail,
    telemetry: Arc<Telemetry>,
    app: Text,
    later: Arc<Semaphore>,
}

impl Out {
    /// The way out of a call, for a request of `sender`.
    pub(crate) fn new(kin: &Kin, way: Way, sender: Sender, is_ours: bool) -> Self {
        let from = Asker {
            fetch: kin.fetch.clone(),
            fleet: kin.fleet.clone(),
            protocol: kin.protocol,
            request_id: kin.request_id.clone(),
            trail: kin.trail.clone(),
            telemetry: Arc::clone(&kin.telemetry),
            app: kin.entry.label.clone(),
            later: Arc::clone(&kin.later),
        };
        Self { from: Arc::new(from), way, sender: Some(sender), is_ours, _permit: None }
    }

    /// The same way for requests of no call.
    fn of_nobody(&self, permit: Option<OwnedSemaphorePermit>) -> Self {
        let (from, way, is_ours) = (Arc::clone(&self.from), self.way.clone(), self.is_ours);
        Self { from, way, sender: None, is_ours, _permit: permit }
    }

    /// Answers `request`, whose origin the function may ask, from what is kept or from there.
    pub(crate) async fn fetch(
        mut self,
        caching: Option<Arc<Caching>>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Fault> {
        let request = settled(request).await;
        // A URL that is not in its one form is sent as it is, and nothing is kept of it.
        let plain = request::url(request.uri()).ok().filter(|url| url == request.uri());
        let Some((caching, url)) = caching.zip(plain) else { return self.ask(request).await };
        let cache = Cache {
            room: Arc::clone(&caching.room),
            site: Arc::clone(&caching.site),
            public: url,
            tells: false,
            not_before_ms: 0,
        };
        let Answered { result, status } = cache.answer(&mut self, request).await;
        caching.count(&self.from.telemetry, &self.from.app, &FETCHES, status.result());
        result.map(|mut response| {
            let said = HeaderValue::try_from(status.to_string()).ok();
            said.map(|status| response.headers_mut().insert(CACHE_STATUS, status));
            response
        })
    }
}

impl Behind for Out {
    type Later = Self;

    async fn ask(&mut self, mut request: Request<Body>) -> Result<Response<Body>, Fault> {
        let loan = self.sender.as_ref().map(|sender| Loan::of(sender, self.is_ours));
        let (loan, lends) = loan.unzip();
        let Asker { fleet, protocol, request_id, trail, .. } = &*self.from;
        let facts = Facts { fleet, protocol: *protocol, request_id, trail, client: None, lends };
        forward::request_out(request.headers_mut(), &facts);
        let mut answer = self.from.fetch.send(&self.way, request).await;
        if let Some(loan) = loan {
            loan.settle(&answer);
        }
        if let Ok(response) = &mut answer {
            forward::response_in(response.headers_mut());
        }
        answer
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }

    fn later(&self) -> Option<Self> {
        let permit = Arc::clone(&self.from.later).try_acquire_owned().ok()?;
        Some(self.of_nobody(Some(permit)))
    }

    fn reader(&self) -> Option<Self> {
        Some(self.of_nobody(None))
    }
}
