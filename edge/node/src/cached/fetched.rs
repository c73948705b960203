//! What functions ask for by themselves, through the cache of their app: what one of them was answered answers the next,
//! as far as who answered lets others have it.

use std::sync::Arc;

use eyot_cache::answer::{Answered, Behind, Cache};
use eyot_fetch::Fetch;
use eyot_guest::Sender;
use eyot_plan::body::Body;
use eyot_plan::fault::Fault;
use eyot_plan::forward::{self, Facts, Trail};
use eyot_plan::request;
use eyot_plan::way::Way;
use http::{HeaderValue, Request, Response};
use tokio::sync::OwnedSemaphorePermit;

use super::{CACHE_STATUS, Caching, settled};
use crate::call::Kin;
use crate::doors::Loan;
use crate::purge::now_ms;
use crate::telemetry::Text;

/// What requests of functions are counted under, where those of clients have their route.
const FETCHES: Text = Text::const_str("fetch");

/// A function's way out, for one request.
pub(crate) struct Out {
    pub(crate) kin: Arc<Kin>,
    pub(crate) way: Way,
    /// Whose it is; none: nobody waits for it, and nothing is lent with it.
    pub(crate) sender: Option<Sender>,
    /// Whether it goes to this fleet.
    pub(crate) is_ours: bool,
    /// Of a request that nobody waits for.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

impl Out {
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
        let cache = Cache { room: Arc::clone(&caching.room), site: Arc::clone(&caching.site), public: url };
        let Answered { result, status } = cache.answer(&mut self, request).await;
        caching.count(&self.kin.telemetry, &self.kin.entry.label, &FETCHES, status.result());
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
        let Kin { fleet, protocol, request_id, trail, .. } = &*self.kin;
        let facts = Facts { fleet, protocol: *protocol, request_id, trail: trail as &Trail, client: None, lends };
        forward::request_out(request.headers_mut(), &facts);
        let fetch: &Fetch = &self.kin.fetch;
        let mut answer = fetch.send(&self.way, request).await;
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
        let permit = Arc::clone(&self.kin.later).try_acquire_owned().ok()?;
        let (kin, way, is_ours) = (Arc::clone(&self.kin), self.way.clone(), self.is_ours);
        Some(Self { kin, way, sender: None, is_ours, _permit: Some(permit) })
    }
}
