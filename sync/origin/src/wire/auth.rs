//! Who asks: a node by its bearer token, whose digest stands in the fleet document; a publisher or an operator by a
//! signature (RFC 9421) of a key that the operator's metadata names.

use eyot_bundle::digest::Digest;
use eyot_bundle::name::Name;
use eyot_link::signature::{Claim, Covered, SignatureError};
use http::StatusCode;
use http::header::AUTHORIZATION;
use http::request::Parts;
use jiff::Timestamp;

use crate::denied::Denied;
use crate::nonces::Nonces;
use crate::view::{Holder, View};

/// A token longer than this is none, in bytes.
const TOKEN_BYTES_MAX: usize = 256;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// A node.
    Node(Name),
    /// A publisher or an operator.
    Signer {
        /// The TUF id of the key.
        id: String,
        /// What it may do.
        holder: Holder,
        /// What the body must digest to.
        body: Digest,
    },
}

impl Caller {
    /// Whether this caller may see and change `app` as its publisher, or see it as the operator.
    pub(crate) fn sees(&self, app: &Name) -> bool {
        match self {
            Self::Node(_) => true,
            Self::Signer { holder, .. } => holder.operator || holder.apps.contains(app),
        }
    }
}

impl Caller {
    /// Whether this caller may read the target at `path`: of an app that it sees, or a fleet document if it is a node or
    /// an operator. The nodes everyone may see who signs: secrets are sealed to them.
    pub(crate) fn sees_target(&self, path: &str) -> bool {
        let app = match path.split_once('/') {
            Some(("releases", rest)) => rest.split('/').next(),
            Some(("control", rest)) => rest.strip_suffix(".json"),
            _ => None,
        };
        match (self, app.and_then(|app| app.parse().ok())) {
            (_, Some(app)) => self.sees(&app),
            (Self::Node(_), None) => true,
            (Self::Signer { .. }, None) if path == "fleet/nodes.json" => true,
            (Self::Signer { holder, .. }, None) => holder.operator,
        }
    }
}

impl Caller {
    /// A key that is only there to purge may ask for nothing else.
    pub(crate) fn may_ask(&self, path: &str) -> Result<(), Denied> {
        match self {
            Self::Signer { holder, .. } if !holder.operator && holder.apps.is_empty() => {
                let is_purge = path.starts_with("/v1/apps/") && path.ends_with("/purge");
                let refused = || not_yours("this key may purge, and nothing else".to_owned());
                is_purge.then_some(()).ok_or_else(refused)
            }
            _ => Ok(()),
        }
    }
}

/// Finds out who asks.
pub(crate) fn caller(view: &View, nonces: &Nonces, parts: &Parts, now: Timestamp) -> Result<Caller, Denied> {
    if parts.headers.contains_key(AUTHORIZATION) {
        return node(view, parts).map(Caller::Node);
    }
    let covered = Covered {
        method: parts.method.as_str(),
        authority: parts.uri.authority().map_or("", http::uri::Authority::as_str),
        path: parts.uri.path(),
        query: parts.uri.query(),
    };
    let claim = Claim::read(&covered, &parts.headers).map_err(|error| unproven(error, now))?;
    if claim.created_s < nonces.since_s() {
        let detail = "the request was signed before this origin started, which forgot earlier ones: sign it again";
        return Err(unauthorized("clock", detail.to_owned()));
    }
    let Some(holder) = view.keys.get(&claim.key_id) else {
        let detail = format!("the key {} is neither an operator's nor a publisher's here", claim.key_id);
        return Err(unauthorized("unknown_key", detail));
    };
    claim.check(holder.key, now.as_second()).map_err(|error| unproven(error, now))?;
    nonces.take(&claim.key_id, &claim.nonce, now.as_second())?;
    Ok(Caller::Signer { id: claim.key_id, holder: holder.clone(), body: claim.body })
}

fn node(view: &View, parts: &Parts) -> Result<Name, Denied> {
    let unknown = || unauthorized("unknown_token", "no node of this fleet has this token".to_owned());
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(unknown()) };
    let token = value.as_bytes().strip_prefix(b"Bearer ").filter(|token| token.len() <= TOKEN_BYTES_MAX);
    // The digest is looked up, not the token: what time the lookup takes says nothing of a token.
    let digest = Digest::of(token.ok_or_else(unknown)?);
    view.tokens.get(&digest).cloned().ok_or_else(unknown)
}

fn unproven(error: SignatureError, now: Timestamp) -> Denied {
    match error {
        SignatureError::Absent => {
            let detail = "nodes send their token, publishers and operators sign";
            unauthorized("unsigned", detail.to_owned())
        }
        SignatureError::Clock => unauthorized("clock", format!("{error}; here it is {now}")),
        SignatureError::Malformed(_) | SignatureError::Wrong => unauthorized("signature", error.to_string()),
    }
}

fn unauthorized(code: &'static str, detail: String) -> Denied {
    Denied::request(StatusCode::UNAUTHORIZED, code, detail)
}

/// The signer, if it is one of `app`'s publishers.
pub(crate) fn publisher<'a>(caller: &'a Caller, app: &Name) -> Result<&'a str, Denied> {
    match caller {
        Caller::Signer { id, holder, .. } if holder.apps.contains(app) => Ok(id),
        _ => Err(not_yours(format!("the key is no publisher of `{app}`; the operator adds it with `eyot app add`"))),
    }
}

/// The signer, if it is one of `app`'s publishers or an operator.
pub(crate) fn publisher_or_operator<'a>(caller: &'a Caller, app: &Name) -> Result<&'a str, Denied> {
    match caller {
        Caller::Signer { id, holder, .. } if holder.operator => Ok(id),
        caller => publisher(caller, app),
    }
}

/// The signer, if it may purge what is kept of `app`.
pub(crate) fn purger<'a>(caller: &'a Caller, app: &Name) -> Result<&'a str, Denied> {
    match caller {
        Caller::Signer { id, holder, .. } if holder.purges.contains(app) => Ok(id),
        caller => publisher_or_operator(caller, app),
    }
}

/// The signer, if it is an operator.
pub(crate) fn operator(caller: &Caller) -> Result<&str, Denied> {
    match caller {
        Caller::Signer { id, holder, .. } if holder.operator => Ok(id),
        _ => Err(not_yours("only an operator's key may do this".to_owned())),
    }
}

/// Whoever asks does not hold what it asks for.
pub(crate) fn not_yours(detail: String) -> Denied {
    Denied::request(StatusCode::FORBIDDEN, "not_yours", detail)
}
