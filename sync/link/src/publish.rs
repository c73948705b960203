//! The calls of publishers and operators. Each is signed by the key of the client's settings.

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use http::header::{CONTENT_TYPE, HeaderValue, IF_NONE_MATCH};
use http::{Method, StatusCode};

use crate::client::{Ask, Client};
use crate::error::Error;
use crate::path;
use crate::status::{Audit, Fleet};
use crate::wire::{Apps, BLOB_BYTES_MAX, OperatorUpload, Publish, Published, Releases, RolloutRequest, Sequence};

impl Client {
    /// Whether the origin holds this blob for an app of this key.
    pub async fn has_blob(&self, digest: Digest) -> Result<bool, Error> {
        let ask = Ask { method: Method::HEAD, ..Ask::get(path::blob(digest)) };
        let answer = self.ask(&ask).await?;
        if answer.response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        answer.good().await.map(|_| true)
    }

    /// Uploads a blob, if it is not there, and gives its digest.
    pub async fn put_blob(&self, bytes: Bytes) -> Result<Digest, Error> {
        if bytes.len() as u64 > BLOB_BYTES_MAX {
            return Err(Error::Settings(format!(
                "a bundle of {} bytes is over the limit of {BLOB_BYTES_MAX}: make the component smaller",
                bytes.len()
            )));
        }
        let digest = Digest::of(&bytes);
        let headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (IF_NONE_MATCH, HeaderValue::from_static("*")),
        ];
        let ask = Ask { method: Method::PUT, path: path::blob(digest), headers, body: bytes, once: false };
        let answer = self.ask(&ask).await?;
        // RFC 9110, section 13.1.2: there already, which is as good.
        if answer.response.status() == StatusCode::PRECONDITION_FAILED {
            return Ok(digest);
        }
        answer.good().await.map(|_| digest)
    }

    /// Publishes a release: the app's new role metadata and the release document it names.
    pub async fn publish(&self, app: &Name, publish: &Publish) -> Result<Published, Error> {
        self.ask(&Ask::json(Method::POST, path::releases(app.as_str()), publish)?).await?.json().await
    }

    /// Changes the rollout of an app.
    pub async fn rollout(&self, app: &Name, request: &RolloutRequest) -> Result<Sequence, Error> {
        let ask = Ask::json(Method::POST, path::rollout(app.as_str()), request)?;
        // A step must not be taken twice because an answer was lost.
        self.ask(&Ask { once: true, ..ask }).await?.json().await
    }

    /// The releases of an app, and where its rollout stands.
    pub async fn releases(&self, app: &Name) -> Result<Releases, Error> {
        self.ask(&Ask::get(path::releases(app.as_str()))).await?.json().await
    }

    /// The apps that this key may see.
    pub async fn apps(&self) -> Result<Apps, Error> {
        self.ask(&Ask::get(path::APPS.to_owned())).await?.json().await
    }

    /// The nodes and what they report.
    pub async fn fleet(&self) -> Result<Fleet, Error> {
        self.ask(&Ask::get(path::FLEET.to_owned())).await?.json().await
    }

    /// Who did what, newest last.
    pub async fn audit(&self) -> Result<Audit, Error> {
        self.ask(&Ask::get(path::AUDIT.to_owned())).await?.json().await
    }

    /// Uploads what the operator signed offline: root steps, targets, fleet and its documents.
    pub async fn upload(&self, upload: &OperatorUpload) -> Result<Sequence, Error> {
        self.ask(&Ask::json(Method::POST, path::METADATA.to_owned(), upload)?).await?.json().await
    }
}
