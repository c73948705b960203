//! Asking for what is not kept, or no longer good enough as it is kept.

use std::borrow::Cow;
use std::sync::Arc;

use eyot_plan::body::{self, Body};
use eyot_plan::cache::life::Failure;
use eyot_plan::cache::status::STOOD_IN;
use eyot_plan::cache::update::{self, Freshened};
use eyot_plan::cache::{Kept, Rules, tags};
use eyot_plan::fault::{Code, Fault, Side};
use http::header::{CONTENT_LENGTH, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;

use super::{Behind, Hints, Want, failure, reply};
use crate::fill::Reader;
use crate::object::Object;
use crate::purges::Hash;
use crate::room::Leading;

/// What is said of an answer whose head is kept, and whose body is in slices.
const SLICES: &str = "slices";

/// What came of asking.
#[derive(Debug)]
pub(super) enum Fetched {
    /// There was no answer.
    Failed(Fault),
    /// An answer that is kept, or was.
    Object {
        object: Arc<Object>,
        /// The status that came, where it is not that of the answer.
        came: Option<StatusCode>,
        /// Whether it is kept since then.
        stored: bool,
        detail: Option<&'static str>,
        /// Who has what is still coming stay until it is answered with.
        reader: Option<Reader>,
    },
    /// An answer that is not kept.
    Passed { response: Response<Body>, detail: Option<&'static str> },
}

/// What came, for a request that left at the first of the times and was answered at the second.
struct Came {
    result: Result<Response<Body>, Fault>,
    times: (u64, u64),
    /// Whether it was asked for on a condition.
    conditional: bool,
}

impl Want {
    /// Asks for the answer, or whether `old` is still good, on behalf of all whom `leading` leads. `as_it_is`: with the
    /// request's own conditions and range, where nothing is kept to ask by; what comes is hardly kept then.
    pub(super) async fn fetch<B: Behind>(
        &self,
        behind: &mut B,
        leading: Leading,
        old: Option<Arc<Object>>,
        as_it_is: bool,
    ) -> Fetched {
        let mut headers = self.parts.headers.clone();
        let is_own = as_it_is && old.is_none();
        match &old {
            Some(object) => drop(update::conditions(&object.kept, &mut headers)),
            None if as_it_is => {}
            None => update::whole(&mut headers),
        }
        let mut came = self.once(behind, headers).await;
        if let Some(object) = old.as_ref().filter(|_| came.is_not_modified()) {
            let answer = came.result.as_ref().map(|response| response.headers().clone()).unwrap_or_default();
            let hints = came.result.as_ref().ok().and_then(|response| response.extensions().get::<Hints>().cloned());
            let rules = self.rules(&hints.unwrap_or_default());
            match update::freshen(&object.kept, &self.asking(), &answer, came.times, &rules) {
                Freshened::Kept(kept) => {
                    let object = leading.freshened(object, kept);
                    return Fetched::Object {
                        object,
                        came: Some(StatusCode::NOT_MODIFIED),
                        stored: true,
                        detail: None,
                        reader: None,
                    };
                }
                Freshened::Once(kept, reason) => {
                    self.cache.room.forget(self.id, object);
                    leading.release(came.times.1);
                    let (object, detail) = (Arc::new(Object { kept, ..Object::clone(object) }), Some(reason.label()));
                    let came = Some(StatusCode::NOT_MODIFIED);
                    return Fetched::Object { object, came, stored: false, detail, reader: None };
                }
                // What is kept is another one than the server speaks of: the whole is asked for.
                Freshened::Other => {
                    let mut headers = self.parts.headers.clone();
                    update::whole(&mut headers);
                    came = self.once(behind, headers).await;
                }
            }
        }
        if came.is_not_modified() && !came.conditional {
            let fault = Fault::new(Code::UpstreamBadResponse).because("304 for a request without conditions");
            came.result = Err(fault);
        }
        match came.result {
            Err(fault) => self.failed(leading, fault, old, came.times.1),
            Ok(response)
                if !is_own && self.is_part_of_too_much(&response) && !self.is_sliced(&response, came.times.1) =>
            {
                // Nobody waits for the whole of what is not kept anyway, and the next parts are asked for at once.
                drop(response);
                leading.release(came.times.1);
                let came = self.once(behind, self.parts.headers.clone()).await;
                let untagged = |response| self.cache.untagged(response);
                let passed = |response| Fetched::Passed { response: untagged(response), detail: Some("large") };
                came.result.map_or_else(Fetched::Failed, passed)
            }
            Ok(response) => self.came(leading, response, old, is_own, came.times),
        }
    }

    /// Whether a part was asked for of what is larger than all that is kept.
    fn is_part_of_too_much(&self, response: &Response<Body>) -> bool {
        self.parts.headers.contains_key(RANGE)
            && response.status() == StatusCode::OK
            && length(response).is_some_and(|length| length > self.cache.room.object_bytes_max())
    }

    /// Whether an answer is kept in slices.
    fn is_sliced(&self, response: &Response<Body>, now_ms: u64) -> bool {
        let hints = response.extensions().get::<Hints>().cloned().unwrap_or_default();
        let (rules, now) = (self.rules(&hints), (now_ms, now_ms));
        let kept = Kept::of(&self.asking(), response.status(), response.headers(), now, &rules);
        kept.is_ok_and(|kept| self.sliced(&kept, length(response), now_ms).is_some())
    }

    async fn once<B: Behind>(&self, behind: &mut B, headers: HeaderMap) -> Came {
        let conditional = headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE);
        let mut request = Request::new(body::empty());
        (*request.method_mut(), *request.uri_mut()) = (self.parts.method.clone(), self.parts.uri.clone());
        (*request.version_mut(), *request.headers_mut()) = (self.parts.version, headers);
        request.extensions_mut().clone_from(&self.parts.extensions);
        let asked_ms = behind.now_ms();
        let result = behind.ask(request).await;
        Came { result, times: (asked_ms, behind.now_ms()), conditional }
    }

    /// Nobody answered: what is kept stands in, if it may (RFC 5861, section 4).
    fn failed(&self, leading: Leading, fault: Fault, old: Option<Arc<Object>>, now_ms: u64) -> Fetched {
        let stands_in = |object: &Arc<Object>| {
            self.is_late_enough(object) && failure(&fault).is_some_and(|it| object.kept.life.stands_in(it, now_ms))
        };
        if let Some(object) = old.filter(stands_in) {
            leading.stood_in(&object);
            return Fetched::Object { object, came: None, stored: false, detail: Some(STOOD_IN), reader: None };
        }
        // What the request itself was at fault for is nobody else's fault: one of those who wait asks.
        if fault.code.side() != Side::Client {
            leading.fail(&fault);
        }
        Fetched::Failed(fault)
    }

    fn came(
        &self,
        leading: Leading,
        response: Response<Body>,
        old: Option<Arc<Object>>,
        is_own: bool,
        times: (u64, u64),
    ) -> Fetched {
        let status = response.status();
        let stands_in = |object: &Arc<Object>| {
            self.is_late_enough(object) && object.kept.life.stands_in(Failure::Status(status), times.1)
        };
        let stood_in = old.as_ref().filter(|object| stands_in(object));
        if let Some(object) = stood_in {
            leading.stood_in(object);
            let object = Arc::clone(object);
            return Fetched::Object { object, came: Some(status), stored: false, detail: Some(STOOD_IN), reader: None };
        }
        match self.keep(Some(leading), response, times) {
            Fetched::Passed { response, detail } => {
                // A newer answer, though it is not kept, ends an older one.
                if let Some(object) = old.filter(|_| !status.is_server_error()) {
                    self.cache.room.forget(self.id, &object);
                }
                let response = if is_own { response } else { reply::passed(response, &self.parts, times.1) };
                Fetched::Passed { response, detail }
            }
            other => other,
        }
    }

    /// The rules for an answer of which this is said.
    pub(super) fn rules(&self, hints: &Hints) -> Cow<'_, Rules> {
        let rules = &self.cache.site.rules;
        match hints.ttl_ms {
            None if !hints.aged => Cow::Borrowed(rules),
            told_ms => Cow::Owned(Rules { told_ms, aged: hints.aged, ..rules.clone() }),
        }
    }

    /// Keeps an answer if it may be kept; `leading`: on whose behalf, none if it may not be for another reason.
    pub(super) fn keep(&self, leading: Option<Leading>, mut response: Response<Body>, times: (u64, u64)) -> Fetched {
        let (site, status) = (&self.cache.site, response.status());
        let mut tags = tags::take(response.headers_mut());
        let hints = response.extensions_mut().remove::<Hints>().unwrap_or_default();
        tags.extend(hints.keys.iter().take(tags::TAGS_MAX).cloned());
        let rules = self.rules(&hints);
        let kept = Kept::of(&self.asking(), status, response.headers(), times, &rules);
        let mut keys: Vec<Hash> = tags.iter().map(|tag| Hash::key(&site.app, tag)).chain(self.also()).collect();
        let others: Vec<_> = hints.hashes.into_iter().filter(|hash| !keys.contains(hash)).collect();
        keys.extend(others);
        let (Some(leading), kept) = (leading, kept) else {
            return Fetched::Passed { response: self.cache.told(response, || keys), detail: None };
        };
        match kept {
            Ok(kept) => {
                let length = length(&response);
                if let Some(slices) = self.sliced(&kept, length, times.1) {
                    let object = leading.keep_head(kept, &keys, slices);
                    // Who wants all of it has it coming already.
                    return if self.parts.headers.contains_key(RANGE) {
                        Fetched::Object { object, came: None, stored: true, detail: Some(SLICES), reader: None }
                    } else {
                        let response = self.cache.told(response, || keys);
                        Fetched::Passed { response, detail: Some(SLICES) }
                    };
                }
                let (object, reader) = leading.breaking(&site.breaks).keep(kept, &keys, response.into_body(), length);
                Fetched::Object { object, came: None, stored: true, detail: None, reader }
            }
            Err(reason) => {
                // What was not only read says nothing of what is read next.
                if self.parts.method == Method::GET {
                    leading.release(times.1);
                }
                Fetched::Passed { response: self.cache.told(response, || keys), detail: Some(reason.label()) }
            }
        }
    }
}

impl Came {
    fn is_not_modified(&self) -> bool {
        self.result.as_ref().is_ok_and(|response| response.status() == StatusCode::NOT_MODIFIED)
    }
}

/// How long the body is, as far as that is known.
fn length(response: &Response<Body>) -> Option<u64> {
    let said = || response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    response.body().size_hint().exact().or_else(said)
}
