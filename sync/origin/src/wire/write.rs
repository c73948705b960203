//! What changes something: a publish, a rollout, an operator's upload, a report. What a proven key tried is audited,
//! whether it was done or not.

use eyot_bundle::name::Name;
use eyot_link::status::AuditRecord;
use eyot_link::wire::{
    OperatorUpload, Publish, Published, REPORT_BYTES_MAX, Report, RolloutRequest, Sequence, UPLOAD_BYTES_MAX,
};
use eyot_plan::body::Body;
use http::{Response, StatusCode};

use super::auth::{self, Caller};
use super::{Asked, Wire, body, json};
use crate::blobs::Blobs;
use crate::denied::Denied;
use crate::director::action_word;
use crate::heads::Heads;
use crate::job::Job;

/// A rollout's request larger than this is refused, in bytes.
const ROLLOUT_BYTES_MAX: usize = 4 << 10;

impl<H: Heads, B: Blobs> Wire<H, B> {
    pub(super) async fn publish(&self, asked: &Asked, bytes: Body, app: Name) -> Result<Response<Body>, Denied> {
        let who = auth::publisher(&asked.caller, &app)?.to_owned();
        let _upload = self.permit()?;
        let bytes = body::read(bytes, &asked.caller, UPLOAD_BYTES_MAX, self.limits.body_time_max).await?;
        let done = self.publish_now(&app, &bytes, asked.now).await;
        let result = done.as_ref().map_or_else(Denied::code, |_| "done");
        self.metrics.publish(app.as_str(), result);
        let detail = match &done {
            Ok(published) => format!("release {}, state {}", published.number, published.seq),
            Err(denied) => denied.to_string(),
        };
        self.note(&who, "publish".to_owned(), Some(app), result, detail).await;
        json(StatusCode::CREATED, &done?)
    }

    async fn publish_now(&self, app: &Name, bytes: &[u8], now: jiff::Timestamp) -> Result<Published, Denied> {
        self.catalog.count_publish(app, now).await?;
        let publish: Publish = body::parse(bytes)?;
        let view = self.catalog.run(&Job::Publish { app: app.clone(), publish }, now).await?;
        let number = view.apps.get(app).and_then(|app| app.trust.releases.keys().next_back().copied());
        Ok(Published { seq: view.seq(), number: number.unwrap_or_default() })
    }

    pub(super) async fn rollout(&self, asked: &Asked, bytes: Body, app: Name) -> Result<Response<Body>, Denied> {
        let who = auth::publisher_or_operator(&asked.caller, &app)?.to_owned();
        let bytes = body::read(bytes, &asked.caller, ROLLOUT_BYTES_MAX, self.limits.body_time_max).await?;
        let request: RolloutRequest = body::parse(&bytes)?;
        let job = Job::Rollout { app: app.clone(), request, who: who.get(..8).unwrap_or_default().to_owned() };
        let done = self.catalog.run(&job, asked.now).await;
        let result = done.as_ref().map_or_else(Denied::code, |_| "done");
        let detail = match (&done, request.release) {
            (Err(denied), _) => denied.to_string(),
            (Ok(_), Some(number)) => format!("release {number}"),
            (Ok(_), None) => String::new(),
        };
        self.note(&who, format!("rollout.{}", action_word(request.action)), Some(app), result, detail).await;
        json(StatusCode::OK, &Sequence { seq: done?.seq() })
    }

    /// What the operator signed offline. The request's own signature says who brought it; what it brings is judged by
    /// its own.
    pub(super) async fn upload(&self, asked: &Asked, bytes: Body) -> Result<Response<Body>, Denied> {
        let who = auth::operator(&asked.caller)?.to_owned();
        let _upload = self.permit()?;
        let bytes = body::read(bytes, &asked.caller, UPLOAD_BYTES_MAX, self.limits.body_time_max).await?;
        let upload: OperatorUpload = body::parse(&bytes)?;
        let names: Vec<&str> = upload.metadata.keys().map(String::as_str).take(20).collect();
        let names = names.join(" ");
        let done = self.catalog.run(&Job::Upload(upload), asked.now).await;
        let result = done.as_ref().map_or_else(Denied::code, |_| "done");
        let detail = done.as_ref().err().map_or(names, ToString::to_string);
        self.note(&who, "operator.upload".to_owned(), None, result, detail).await;
        json(StatusCode::OK, &Sequence { seq: done?.seq() })
    }

    pub(super) async fn report(&self, asked: &Asked, bytes: Body) -> Result<Response<Body>, Denied> {
        let Caller::Node(node) = &asked.caller else {
            return Err(auth::not_yours("only nodes report".to_owned()));
        };
        let bytes = body::read(bytes, &asked.caller, REPORT_BYTES_MAX, self.limits.body_time_max).await?;
        let report: Report = body::parse(&bytes)?;
        json(StatusCode::OK, &self.fleet.report(&self.catalog.heads, &asked.view, node, report, asked.now).await?)
    }

    /// A place among the uploads.
    pub(super) fn permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Denied> {
        self.uploads.try_acquire().map_err(|_| {
            Denied::request(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too many uploads at once; try again")
        })
    }

    pub(super) async fn note(&self, who: &str, action: String, app: Option<Name>, result: &str, detail: String) {
        tracing::info!(who, action, app = app.as_ref().map(Name::as_str), result, detail, "asked");
        let time = jiff::Timestamp::now();
        self.audit
            .write(AuditRecord { time, who: who.to_owned(), action, app, result: result.to_owned(), detail })
            .await;
    }
}
