//! What nodes ask of the origin to get certificates as one fleet: whose turn it is, and the bytes they seal for each
//! other.

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::client::{Ask, Client};
use crate::error::Error;
use crate::path;
use crate::wire::Base64;

/// What nodes seal for each other is at most this, in bytes, before base64.
pub const SEALED_BYTES_MAX: usize = 64 << 10;

/// What one node says to the others through the origin, which cannot read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The sealed bytes.
    pub sealed: Base64,
}

/// `POST /v1/acme/lease`: which one node of the fleet orders certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// Whether it is wanted, or given back.
    pub hold: bool,
}

/// What that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseAnswer {
    /// Whether the node that asked has it: for ten minutes from now.
    pub held: bool,
}

/// `GET /v1/acme/certificates/{name}`, and with the version that is replaced the body of a PUT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedCertificate {
    /// Counted up from 1 with each PUT. In a PUT: the one that was seen; 0: none.
    pub version: u64,
    /// The chain and its key, sealed.
    pub sealed: Base64,
}

impl Client {
    /// Asks to be the node that orders certificates, or gives that back. Whether this node is it now.
    pub async fn acme_lease(&self, hold: bool) -> Result<bool, Error> {
        let ask = Ask::json(Method::POST, path::ACME_LEASE.to_owned(), &LeaseRequest { hold })?;
        let answer: LeaseAnswer = self.ask(&ask).await?.json().await?;
        Ok(answer.held)
    }

    /// Has a sealed challenge told to all nodes.
    pub async fn acme_challenge(&self, sealed: Vec<u8>) -> Result<(), Error> {
        let body = Sealed { sealed: Base64(sealed) };
        self.ask(&Ask::json(Method::POST, path::ACME_CHALLENGES.to_owned(), &body)?).await?.good().await.map(drop)
    }

    /// The sealed certificate of `name` and its version, if there is one.
    pub async fn acme_certificate(&self, name: &str) -> Result<Option<SealedCertificate>, Error> {
        let answer = self.ask(&Ask::get(path::acme_certificate(name))).await?;
        if answer.response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        answer.json().await.map(Some)
    }

    /// Puts a sealed certificate in the place of the version that was seen; 0: none. Refused with 409 if that is not
    /// the newest any more.
    pub async fn put_acme_certificate(&self, name: &str, certificate: &SealedCertificate) -> Result<(), Error> {
        let ask = Ask::json(Method::PUT, path::acme_certificate(name), certificate)?;
        self.ask(&ask).await?.good().await.map(drop)
    }
}
