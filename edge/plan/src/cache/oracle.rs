//! The same answers judged by another implementation of RFC 9111 (`http-cache-semantics`), where the two should agree:
//! well-formed fields, once each. What is left out here we do otherwise on purpose: `proxy-revalidate` does not end freshness
//! (section 5.2.2.8), any final status with an explicit time is kept (section 3), `Set-Cookie` too where a time is explicit
//! (section 7.3), and a guess is bounded by a day.

use std::time::{Duration, SystemTime};

use http::header::{AGE, AUTHORIZATION, CACHE_CONTROL, DATE, ETAG, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use proptest::collection::btree_set;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::life::Use;
use super::{Asking, Kept, Rules, date};

const NOW_S: u64 = 1_900_000_000;

/// An answer, as its fields say it.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    directives: Vec<String>,
    expires_in_s: Option<i64>,
    modified_ago_s: Option<u64>,
    age_s: Option<u64>,
    is_tagged: bool,
    is_authorized: bool,
}

fn answers() -> impl Strategy<Value = Answer> {
    let words = [
        "public",
        "private",
        "no-store",
        "no-cache",
        "must-revalidate",
        "max-age=0",
        "max-age=60",
        "s-maxage=30",
        "s-maxage=600",
    ];
    let status = select(vec![200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501]);
    let directives = btree_set(select(words.to_vec()), 0..4);
    let times = (of(-100_i64..100), of(0_u64..60_000), of(0_u64..100));
    (status, directives, times, any::<bool>(), any::<bool>()).prop_map(
        |(status, directives, times, is_tagged, is_authorized)| {
            let mut named = std::collections::BTreeSet::new();
            // Each directive once.
            let directives =
                directives.into_iter().filter(|word| named.insert(word.split('=').next())).map(str::to_owned);
            let (expires_in_s, tens, age_s) = times;
            // In whole seconds, a tenth of it too.
            let modified_ago_s = tens.map(|tens| tens * 10);
            Answer {
                status,
                directives: directives.collect(),
                expires_in_s,
                modified_ago_s,
                age_s,
                is_tagged,
                is_authorized,
            }
        },
    )
}

impl Answer {
    fn headers(&self) -> HeaderMap {
        let at = |ago: i64| date::format(i64::try_from(NOW_S).expect("small") - ago);
        let signed = |seconds: u64| i64::try_from(seconds).expect("small");
        let control = Some(self.directives.join(", ")).filter(|text| !text.is_empty());
        let fields: [(HeaderName, Option<String>); 6] = [
            (DATE, Some(at(0))),
            (CACHE_CONTROL, control),
            (EXPIRES, self.expires_in_s.map(|seconds| at(-seconds))),
            (LAST_MODIFIED, self.modified_ago_s.map(|seconds| at(signed(seconds)))),
            (AGE, self.age_s.map(|seconds| seconds.to_string())),
            (ETAG, self.is_tagged.then(|| "\"1\"".to_owned())),
        ];
        let there = fields.into_iter().filter_map(|(name, value)| Some((name, value?.parse().expect("a value"))));
        there.collect()
    }

    fn request(&self) -> Request<()> {
        let request = Request::get("https://a.example/");
        let request = if self.is_authorized { request.header(AUTHORIZATION, "Basic eA==") } else { request };
        request.body(()).expect("a request")
    }

    /// Whether it answers so long after it came without being asked for, as we have it.
    fn answers_by_us(&self, after_s: u64) -> bool {
        let (request, now_ms) = (self.request(), NOW_S * 1000);
        let asking = Asking { method: &Method::GET, uri: request.uri(), headers: request.headers() };
        let status = StatusCode::from_u16(self.status).expect("a status");
        let kept = Kept::of(&asking, status, &self.headers(), (now_ms, now_ms), &Rules::default());
        kept.is_ok_and(|kept| kept.life.judge(None, false, now_ms + after_s * 1000) == Use::Fresh)
    }

    /// The same as the other has it.
    fn answers_by_other(&self, after_s: u64) -> bool {
        let came = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_S);
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).expect("a status");
        *response.headers_mut() = self.headers();
        let policy = CachePolicy::new_options(&self.request(), &response, came, CacheOptions::default());
        let before = policy.before_request(&self.request(), came + Duration::from_secs(after_s));
        policy.is_storable() && matches!(before, BeforeRequest::Fresh(_))
    }
}

proptest! {
    #[test]
    fn what_answers_without_being_asked_for_is_what_another_implementation_lets_answer(
        answer in answers(),
        after_s in select(vec![0_u64, 1, 29, 30, 31, 59, 60, 61, 599, 600, 601, 10_000]),
    ) {
        prop_assert_eq!(answer.answers_by_us(after_s), answer.answers_by_other(after_s), "{:?} after {} s", answer, after_s);
    }
}
