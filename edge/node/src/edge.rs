//! The door to what this node knows and does for a call: who asks and from where, secrets, rates, the cache.

use std::sync::Arc;

use eyot_bundle::name::Name;
use eyot_guest::{
    Caller, Edge, Facts, Geo, Hint, Purge, PurgeError, Purged, Purging, Rate, Rated, Secret, SecretError,
};
use eyot_link::purge::{Kind, PurgeRequest};

use crate::call::Kin;
use crate::entry::Function;
use crate::geo::Databases;

/// What functions are told of this node.
#[derive(Debug)]
pub struct Here {
    /// Its id.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Where clients are.
    pub geo: Databases,
}

/// The door of one call.
pub(crate) struct Known {
    kin: Arc<Kin>,
    function: Arc<Function>,
    /// The function that calls; none: it is asked from outside.
    caller: Option<Name>,
}

impl Known {
    pub(crate) fn new(kin: Arc<Kin>, function: &Arc<Function>, caller: Option<Name>) -> Self {
        Self { kin, function: Arc::clone(function), caller }
    }
}

impl Edge for Known {
    fn facts(&self) -> Facts {
        let caller = match (&self.caller, &self.kin.client) {
            (Some(name), _) => Caller::Function(name.clone()),
            (None, Some(_)) => Caller::Public,
            (None, None) => Caller::Event,
        };
        let kin = &self.kin;
        Facts { client: kin.client.clone(), caller, node: kin.here.node.clone(), region: kin.here.region.clone() }
    }

    fn geo(&self) -> Option<Geo> {
        self.kin.here.geo.find(self.kin.client.as_ref()?.address)
    }

    fn secret(&self, name: &str) -> Result<Secret, SecretError> {
        let value = self.function.secrets.get(name).ok_or(SecretError::NoSuchSecret)?;
        Ok(Secret::new(value.clone()))
    }

    fn rate(&self, rate: &Rate<'_>) -> Rated {
        self.kin.entry.share.rate(rate)
    }

    fn hint(&self, hint: Hint) {
        // What is said of an answer to another function is nobody's.
        if self.caller.is_none() {
            self.kin.hint(hint);
        }
    }

    fn purge(&self, Purge { what, soft }: Purge) -> Purging {
        if !self.function.purges {
            return Box::pin(std::future::ready(Err(PurgeError::NotPermitted)));
        }
        let (kind, value) = match what {
            Purged::App => (Kind::App, String::new()),
            Purged::Key(key) => (Kind::Key, key),
            Purged::Url(url) => (Kind::Url, url),
        };
        let (purger, app) = (Arc::clone(&self.kin.purger), self.kin.entry.app.clone());
        Box::pin(async move {
            let done = purger.everywhere(&app, PurgeRequest { kind, value, soft }).await;
            done.map_err(|cause| {
                tracing::warn!(%app, %cause, "a function's purge was not done everywhere");
                PurgeError::Unavailable
            })
        })
    }
}
