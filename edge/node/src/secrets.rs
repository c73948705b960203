//! Secrets of functions on this node: opened with its own identity when a release is made ready, kept in memory alone.
//!
//! A process that dies leaves a core of registers and no memory: see [`no_core`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use age::secrecy::ExposeSecret as _;
use eyot_bundle::name::Name;
use eyot_bundle::refusal::{Reason, Refusal};
use eyot_bundle::release::upstream::ClientCertificate;
use eyot_bundle::release::{Function, Release, Secret};
use eyot_bundle::secret::{self, About, Identity, Recipient, Value};

use crate::blobs::Blobs;
use crate::config::secret::{SecretError, own_text};
use crate::config::{self, Config};

/// The name of the identity's file in the node's state, where the configuration names none.
const IDENTITY: &str = "identity.age";

/// A function's secrets by the name it asks for.
pub type Secrets = BTreeMap<String, Arc<Value>>;

/// What opens secrets: this node's identity, and the blobs that hold them sealed.
#[derive(Clone, Debug)]
pub struct Vault {
    identity: Arc<Identity>,
    blobs: Blobs,
}

impl Vault {
    /// The vault of the node with this identity.
    pub fn new(identity: Identity, blobs: Blobs) -> Self {
        Self { identity: Arc::new(identity), blobs }
    }

    /// What secrets are sealed to for this node.
    pub fn recipient(&self) -> Recipient {
        self.identity.recipient()
    }

    /// The secrets of all functions of `release`, whose blobs are here.
    ///
    /// # Errors
    /// `missing_blob`; `incompatible` for what was not sealed to this node, or was sealed for something else.
    pub fn open(&self, release: &Release) -> Result<BTreeMap<Name, Secrets>, Refusal> {
        let all = release.functions.iter().filter(|(_, function)| !function.secrets.is_empty());
        all.map(|(name, function)| Ok((name.clone(), self.of(release, function)?))).collect()
    }

    fn of(&self, release: &Release, function: &Function) -> Result<Secrets, Refusal> {
        let open = |(name, sealed): (&String, &Secret)| Ok((name.clone(), self.one(&release.app, name, sealed)?));
        function.secrets.iter().map(open).collect()
    }

    fn one(&self, app: &Name, name: &str, sealed: &Secret) -> Result<Arc<Value>, Refusal> {
        let refuse = |reason, text: String| Refusal::new(reason, format!("secret `{name}`: {text}"));
        let bytes = read(&self.blobs.path(sealed.sealed.sha256), sealed.sealed.size);
        let bytes = bytes.map_err(|error| refuse(Reason::MissingBlob, error.to_string()))?;
        let value = secret::open(About { app, name, version: sealed.version }, &bytes, &self.identity);
        value.map(Arc::new).map_err(|error| refuse(Reason::Incompatible, error.to_string()))
    }

    /// The keys by which this node says who it is to the upstreams of `release`, whose blobs are here, by upstream.
    ///
    /// # Errors
    /// As [`Vault::open`]; `incompatible` for a key that does not fit its certificate, too.
    pub fn client_keys(&self, release: &Release) -> Result<BTreeMap<Name, Arc<Value>>, Refusal> {
        let all = release.upstreams.iter();
        let all = all.filter_map(|(name, upstream)| Some((name, upstream.tls.as_ref()?.client.as_ref()?)));
        let open = |(name, client): (&Name, &ClientCertificate)| {
            let of = |it: Refusal| Refusal::new(it.reason, format!("upstream `{name}`: {}", it.detail));
            let key = self.one(&release.app, &client.secret, &client.key).map_err(of)?;
            let fits = eyot_fetch::fits(&client.chain, key.expose());
            fits.map_err(|text| of(Refusal::new(Reason::Incompatible, text)))?;
            Ok((name.clone(), key))
        };
        all.map(open).collect()
    }
}

fn read(path: &Path, size: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// This node's identity: the one its configuration names, else its own, which is made when it is not there.
///
/// # Errors
/// When it can neither be read nor made.
pub fn identity(config: &Config) -> Result<Identity, SecretError> {
    let own = config::secret::Secret::at(config.node.state.join(IDENTITY));
    let (secret, text) = match &config.node.identity {
        Some(secret) => (secret.clone(), secret.text()?),
        None => {
            let make = || Identity::generate().to_text().expose_secret().to_owned();
            let text = own_text(own.path(), make)?;
            (own, text)
        }
    };
    text.parse().map_err(|_| secret.malformed("no age identity, one line `AGE-SECRET-KEY-1…`"))
}

/// The public half of this node's identity: what its operator puts into the fleet.
///
/// # Errors
/// As [`identity`].
pub fn recipient(config: &Config) -> Result<Recipient, SecretError> {
    std::fs::create_dir_all(&config.node.state)
        .map_err(|source| SecretError::File { path: config.node.state.clone(), source })?;
    Ok(identity(config)?.recipient())
}

/// Sees to it that a core of this process holds no memory, and so no secret (core(5), `coredump_filter`): only the headers
/// of files that are mapped.
///
/// # Errors
/// When the system does not let it.
pub fn no_core() -> std::io::Result<()> {
    std::fs::write("/proc/self/coredump_filter", "0x10")
}

/// `text` without the values of `secrets`; none: there was none in it. Values of fewer than 8 bytes are not looked for:
/// they would be found everywhere.
pub(crate) fn without(secrets: &Secrets, text: &str) -> Option<String> {
    const BYTES_MIN: usize = 8;
    let values = secrets.values().filter_map(|value| std::str::from_utf8(value.expose()).ok());
    let mut clean: Option<String> = None;
    for value in values.filter(|value| value.len() >= BYTES_MIN) {
        if clean.as_deref().unwrap_or(text).contains(value) {
            clean = Some(clean.as_deref().unwrap_or(text).replace(value, "***"));
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use eyot_bundle::digest::Digest;
    use eyot_bundle::release::Bundle;
    use eyot_bundle::release::upstream::{Upstream, UpstreamTls};

    use super::*;

    #[test]
    fn what_a_function_says_is_logged_without_its_secrets() {
        let node = Identity::generate();
        let app: Name = "shop".parse().expect("a name");
        let secrets: Secrets = [("KEY", "correct horse"), ("OTHER", "battery"), ("PIN", "1234")]
            .map(|(name, value)| {
                let about = About { app: &app, name, version: 1 };
                let sealed = secret::seal(about, value.as_bytes(), &[node.recipient()]).expect("sealed");
                (name.to_owned(), Arc::new(secret::open(about, &sealed, &node).expect("ours")))
            })
            .into();
        assert_eq!(without(&secrets, "nothing of 1234 is here"), None);
        let clean = without(&secrets, "a correct horse, correct horse");
        assert_eq!(clean.as_deref(), Some("a ***, ***"));
    }

    #[test]
    fn a_release_is_ready_only_where_its_secrets_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::open(folder.path()).expect("blobs");
        let (ours, theirs) = (Identity::generate(), Identity::generate());
        let document = serde_json::json!({
            "format": 1, "app": "shop", "number": 7, "created": "2026-11-22T12:00:00Z", "hosts": [], "routes": [],
            "functions": {"cart": {"bundle": {"sha256": Digest::of(b"component"), "size": 9}, "world": ""}},
        });
        let mut release: Release = serde_json::from_value(document).expect("a release");
        let vault = Vault::new(ours.clone(), blobs.clone());
        let mut keep = |app: &str, to: &Identity| {
            let about = About { app: &app.parse().expect("a name"), name: "KEY", version: 2 };
            let sealed = secret::seal(about, b"value", &[to.recipient()]).expect("sealed");
            let bundle = Bundle { sha256: Digest::of(&sealed), size: sealed.len() as u64 };
            std::fs::create_dir_all(blobs.path(bundle.sha256).parent().expect("a folder")).expect("made");
            std::fs::write(blobs.path(bundle.sha256), sealed).expect("written");
            let function = release.functions.values_mut().next().expect("one");
            function.secrets.insert("KEY".to_owned(), Secret { sealed: bundle, version: 2 });
            vault.open(&release)
        };
        let opened = keep("shop", &ours).expect("it opens");
        assert_eq!(opened.values().next().expect("one")["KEY"].expose(), b"value");
        assert_eq!(keep("shop", &theirs).expect_err("not ours").reason, Reason::Incompatible);
        assert_eq!(keep("bank", &ours).expect_err("another's").reason, Reason::Incompatible);
        std::fs::remove_dir_all(folder.path().join("blobs/sha256")).expect("gone");
        assert_eq!(vault.open(&release).expect_err("gone").reason, Reason::MissingBlob);
    }

    #[test]
    fn a_release_is_ready_only_where_the_keys_of_its_certificates_open_and_fit() {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::open(folder.path()).expect("blobs");
        let (ours, theirs) = (Identity::generate(), Identity::generate());
        let document = serde_json::json!({
            "format": 1, "app": "shop", "number": 7, "created": "2026-11-22T12:00:00Z", "hosts": [], "routes": [],
        });
        let mut release: Release = serde_json::from_value(document).expect("a release");
        let vault = Vault::new(ours.clone(), blobs.clone());
        let made = || rcgen::generate_simple_self_signed(vec!["us.test".to_owned()]).expect("a certificate");
        let (one, other) = (made(), made());
        let mut keep = |key: &str, to: &Identity| {
            let about = About { app: &"shop".parse().expect("a name"), name: "API_KEY", version: 2 };
            let sealed = secret::seal(about, key.as_bytes(), &[to.recipient()]).expect("sealed");
            let bundle = Bundle { sha256: Digest::of(&sealed), size: sealed.len() as u64 };
            std::fs::create_dir_all(blobs.path(bundle.sha256).parent().expect("a folder")).expect("made");
            std::fs::write(blobs.path(bundle.sha256), sealed).expect("written");
            let key = Secret { sealed: bundle, version: 2 };
            let client = ClientCertificate { chain: one.cert.pem(), secret: "API_KEY".to_owned(), key };
            let tls = Some(UpstreamTls { client: Some(client), ..UpstreamTls::default() });
            release.upstreams.insert("api".parse().expect("a name"), Upstream { tls, ..Upstream::default() });
            vault.client_keys(&release).map(|keys| keys["api"].expose().to_vec())
        };
        let (fits, does_not) = (one.signing_key.serialize_pem(), other.signing_key.serialize_pem());
        assert_eq!(keep(&fits, &ours), Ok(fits.clone().into_bytes()));
        let refusal = keep(&does_not, &ours).expect_err("another certificate's");
        assert_eq!(refusal.reason, Reason::Incompatible);
        assert!(refusal.detail.contains("`api`") && refusal.detail.contains("does not fit"), "{refusal}");
        let refusal = keep(&fits, &theirs).expect_err("not ours");
        assert!(refusal.reason == Reason::Incompatible && refusal.detail.contains("secret `API_KEY`"), "{refusal}");
    }
}
