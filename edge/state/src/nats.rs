//! The engine `nats`: one bucket of JetStream's key-value store for each store of an app. The names of buckets hold those
//! of app and store with a `_` between, which is in neither.

mod bucket;
mod queues;
mod seen;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{ConnectOptions, Event, ServerAddr};
use tokio::sync::{OnceCell, watch};
use tokio::time::timeout;

use crate::ask::Bound;
use crate::error::Error;
use crate::stores::OpenError;
pub(crate) use bucket::Bucket;
pub use queues::{Ended, MESSAGE_BYTES_MAX, Message, Queue, Queues, Worker};

/// How long a connection is waited for, when there is none.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
/// How long a server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// How long after a failure the next connection is tried, at most.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// What waits to be sent.
const WAITING_MAX: usize = 256;

/// The NATS that the operator runs.
#[derive(Clone)]
pub struct Nats {
    /// Its URLs, with `,` between: `nats://…` or `tls://…`.
    pub url: String,
    /// What a `.creds` file holds.
    pub credentials: Option<String>,
    /// The servers that keep each bucket, 1 to 5.
    pub replicas: usize,
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may hold a password.
        f.debug_struct("Nats").field("replicas", &self.replicas).finish_non_exhaustive()
    }
}

/// The servers, and the buckets that were opened there. As many as releases have named.
pub(crate) struct Servers {
    addresses: Vec<ServerAddr>,
    credentials: Option<String>,
    replicas: usize,
    context: OnceCell<Context>,
    connected: watch::Sender<bool>,
    buckets: Mutex<HashMap<String, Arc<Bucket>>>,
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").finish_non_exhaustive()
    }
}

impl Servers {
    pub(crate) fn new(nats: Nats) -> Result<Self, OpenError> {
        let parse = |url: &str| url.trim().parse::<ServerAddr>();
        let addresses = nats.url.split(',').map(parse).collect::<Result<Vec<_>, _>>();
        let addresses = addresses.map_err(|_| OpenError("the URL of NATS is none: `nats://host:4222`".to_owned()))?;
        if let Some(credentials) = &nats.credentials {
            let refuse =
                |_| OpenError("the credentials of NATS are none: they are what a `.creds` file holds".to_owned());
            ConnectOptions::with_credentials(credentials).map_err(refuse)?;
        }
        Ok(Self {
            addresses,
            credentials: nats.credentials,
            replicas: nats.replicas,
            context: OnceCell::new(),
            connected: watch::Sender::new(false),
            buckets: Mutex::default(),
        })
    }

    /// The bucket of a store, from now on as its release says.
    pub(crate) fn bucket(self: &Arc<Self>, bound: &Bound) -> Arc<Bucket> {
        let name = format!("eyot_{}_{}", bound.app, bound.store);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Bucket::new(self, &name, bound.spec));
        let bucket = Arc::clone(buckets.entry(name.clone()).or_insert_with(new));
        bucket.wants(bound.spec);
        bucket
    }

    /// The way to the servers, when there is a connection. Nothing is to wait for one: what was asked long ago is not
    /// wanted any more.
    async fn context(&self) -> Result<&Context, Error> {
        let context = self.context.get_or_try_init(|| self.begin()).await?;
        let mut connected = self.connected.subscribe();
        let is_there = timeout(CONNECTED_WITHIN, connected.wait_for(|connected| *connected)).await;
        match is_there {
            Ok(Ok(_)) => Ok(context),
            _ => Err(Error::unavailable("NATS is away")),
        }
    }

    /// Begins to connect, and goes on for ever.
    async fn begin(&self) -> Result<Context, Error> {
        let refuse = |error: &dyn fmt::Display| {
            tracing::error!(%error, "NATS cannot be connected to");
            Error::unavailable("NATS is away")
        };
        let options = match &self.credentials {
            Some(credentials) => ConnectOptions::with_credentials(credentials).map_err(|error| refuse(&error))?,
            None => ConnectOptions::new(),
        };
        let connected = self.connected.clone();
        let options = options
            .name("eyot")
            .retry_on_initial_connect()
            .connection_timeout(CONNECTED_WITHIN)
            .request_timeout(Some(ANSWER_WITHIN))
            .client_capacity(WAITING_MAX)
            .max_reconnects(None)
            .reconnect_delay_callback(|tries| {
                let tries = u32::try_from(tries).unwrap_or(u32::MAX);
                Duration::from_millis(100).saturating_mul(tries).min(RETRY_MAX)
            })
            .event_callback(move |event| {
                noted(&connected, &event);
                std::future::ready(())
            });
        let client = options.connect(self.addresses.clone()).await.map_err(|error| refuse(&error))?;
        Ok(ContextBuilder::new().timeout(ANSWER_WITHIN).build(client))
    }
}

fn noted(connected: &watch::Sender<bool>, event: &Event) {
    match event {
        Event::Connected => {
            connected.send_replace(true);
            tracing::info!("connected to NATS");
        }
        Event::Disconnected | Event::Closed => {
            connected.send_replace(false);
            tracing::warn!("the connection to NATS is lost; it is made again");
        }
        other => tracing::warn!(event = %other, "NATS said something"),
    }
}
