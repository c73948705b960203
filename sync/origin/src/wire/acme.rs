//! The rows of the wire by which nodes get certificates as one fleet. They are for nodes alone.

use eyot_bundle::name::Name;
use eyot_link::acme::{LeaseAnswer, LeaseRequest, SEALED_BYTES_MAX, Sealed, SealedCertificate};
use eyot_plan::body::Body;
use http::{Response, StatusCode};

use super::auth::{self, Caller};
use super::{Asked, Wire, body, json};
use crate::acme::{self, CHALLENGE_BYTES_MAX};
use crate::blobs::Blobs;
use crate::denied::Denied;
use crate::heads::Heads;

/// The request for the lease is no larger than this, in bytes.
const LEASE_BYTES_MAX: usize = 1 << 10;

impl<H: Heads, B: Blobs> Wire<H, B> {
    pub(super) async fn acme_lease(&self, asked: &Asked, bytes: Body) -> Result<Response<Body>, Denied> {
        let node = node(asked)?;
        let bytes = body::read(bytes, &asked.caller, LEASE_BYTES_MAX, self.limits.body_time_max).await?;
        let LeaseRequest { hold } = body::parse(&bytes)?;
        let held = acme::lease(&self.catalog.heads, node, hold).await?;
        json(StatusCode::OK, &LeaseAnswer { held })
    }

    pub(super) async fn acme_challenge(&self, asked: &Asked, bytes: Body) -> Result<Response<Body>, Denied> {
        node(asked)?;
        let bytes = body::read(bytes, &asked.caller, in_json(CHALLENGE_BYTES_MAX), self.limits.body_time_max).await?;
        let sealed: Sealed = body::parse(&bytes)?;
        self.acme.tell(&self.catalog.heads, sealed, asked.now).await?;
        json(StatusCode::OK, &serde_json::json!({}))
    }

    pub(super) async fn acme_certificate(&self, asked: &Asked, name: &str) -> Result<Response<Body>, Denied> {
        node(asked)?;
        json(StatusCode::OK, &acme::certificate(&self.catalog.heads, name).await?)
    }

    pub(super) async fn put_acme_certificate(
        &self,
        asked: &Asked,
        bytes: Body,
        name: &str,
    ) -> Result<Response<Body>, Denied> {
        let node = node(asked)?.to_string();
        let bytes = body::read(bytes, &asked.caller, in_json(SEALED_BYTES_MAX), self.limits.body_time_max).await?;
        let certificate: SealedCertificate = body::parse(&bytes)?;
        let done = acme::put(&self.catalog.heads, name, certificate).await;
        let result = done.as_ref().map_or_else(Denied::code, |_| "done");
        let detail = done.as_ref().err().map_or_else(|| name.to_owned(), ToString::to_string);
        self.note(&node, "acme.certificate".to_owned(), None, result, detail).await;
        json(StatusCode::OK, &serde_json::json!({ "version": done? }))
    }
}

fn node(asked: &Asked) -> Result<&Name, Denied> {
    match &asked.caller {
        Caller::Node(node) => Ok(node),
        Caller::Signer { .. } => Err(auth::not_yours("only nodes order certificates".to_owned())),
    }
}

/// What so many bytes may measure as base64 in JSON.
const fn in_json(bytes: usize) -> usize {
    bytes / 3 * 4 + (1 << 10)
}
