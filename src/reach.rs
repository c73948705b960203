//! How a verb reaches the origin, and as whom.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use eyot_bundle::sign::Key;
use eyot_link::client::{Client, Parents};

use crate::keyfile;

/// Where the origin is, and who asks.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Reach {
    /// The origin's URL; default: `publish.origin` of eyot.toml.
    #[arg(long, env = "EYOT_ORIGIN", value_name = "URL")]
    pub(crate) origin: Option<String>,
    /// The fleet's CA in PEM; default: `publish.ca` of eyot.toml.
    #[arg(long, env = "EYOT_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The key that signs, PEM or age-encrypted.
    #[arg(long, env = "EYOT_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

impl Reach {
    /// The key that was named.
    pub(crate) fn key(&self) -> anyhow::Result<Key> {
        match &self.key {
            Some(file) => keyfile::key(file),
            None => bail!("no key is named; say `--key FILE`, or set $EYOT_KEY"),
        }
    }

    /// A client that signs by the key that was named.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        self.client_as(self.key()?)
    }

    /// A client that signs by `signer`.
    pub(crate) fn client_as(&self, signer: Key) -> anyhow::Result<Client> {
        let Some(origin) = &self.origin else {
            bail!("no origin is named; say `--origin URL`, set $EYOT_ORIGIN, or write `publish.origin` into eyot.toml");
        };
        let Some(ca) = &self.ca else {
            bail!("no CA is named; say `--ca FILE`, set $EYOT_CA, or write `publish.ca` into eyot.toml");
        };
        let ca_pem = std::fs::read(ca).with_context(|| format!("the fleet's CA {}", ca.display()))?;
        let parents = Parents { urls: vec![origin.clone()], ca_pem, token: None, signer: Some(signer) };
        Ok(Client::new(parents)?)
    }
}
