//! The authority of this machine's developer: it signs the certificates that `eyot dev` and `eyot test` serve with. It is
//! made once, and kept in the user's data folder, so that it has to be trusted only once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use eyot_bundle::digest::Digest;
use eyot_bundle::host::HostPattern;
use rcgen::{KeyPair, PublicKeyData as _};

use crate::keyfile::{self, Lock};
use crate::keys::certificates::{Authority, Pair};

/// Its certificate.
const PEM: &str = "dev-ca.pem";
/// Its key, which only its owner may read.
const KEY: &str = "dev-ca.key";
/// The key of the certificates it signs: always the same, so that a browser can be told of it once.
const SERVER_KEY: &str = "dev-server.key";
/// What every certificate holds.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The authority, and where its certificate lies.
pub(crate) struct Ca {
    authority: Authority,
    server: KeyPair,
    /// The certificate.
    pub(crate) file: PathBuf,
}

impl Ca {
    /// The authority of this user; made when there is none.
    pub(crate) fn of_user() -> anyhow::Result<Self> {
        Self::in_folder(&data_folder()?)
    }

    fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        let (file, key, server) = (folder.join(PEM), folder.join(KEY), folder.join(SERVER_KEY));
        if !file.exists() {
            make(folder, &file, &key)?;
        }
        if !server.exists() {
            keyfile::write_new(&server, &KeyPair::generate()?.serialize_pem(), &Lock::Plain)?;
        }
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("{}", path.display()));
        let authority = Authority::load(&read(&file)?, &read(&key)?);
        let authority =
            authority.with_context(|| format!("{} and its key; remove both for new ones", file.display()))?;
        let server = KeyPair::from_pem(&read(&server)?).with_context(|| server.display().to_string())?;
        Ok(Self { authority, server, file })
    }

    /// Its certificate in PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.authority.pem
    }

    /// What Chrome is told of the key of its certificates, to believe them over QUIC.
    pub(crate) fn spki(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(Digest::of(&self.server.subject_public_key_info()).as_bytes())
    }

    /// A certificate for this machine's own names, `hosts`, and `more` names.
    pub(crate) fn server(&self, hosts: &[HostPattern], more: &[String]) -> anyhow::Result<Pair> {
        let own = LOCAL.iter().map(|name| (*name).to_owned());
        let mut names: Vec<String> = own.chain(hosts.iter().filter_map(name)).chain(more.iter().cloned()).collect();
        names.sort();
        names.dedup();
        self.authority.server_of(&names, &self.server)
    }
}

/// The name in a certificate that stands for a host; none stands for all.
fn name(host: &HostPattern) -> Option<String> {
    match host {
        HostPattern::Any => None,
        HostPattern::Exact(host) => Some(host.trim_matches(['[', ']']).to_owned()),
        HostPattern::Suffix(_) => Some(host.to_string()),
    }
}

/// `$XDG_DATA_HOME/eyot`, or `~/.local/share/eyot`.
fn data_folder() -> anyhow::Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    Ok(data.context("neither $HOME nor $XDG_DATA_HOME says where the local authority is to be kept")?.join("eyot"))
}

fn make(folder: &Path, file: &Path, key: &Path) -> anyhow::Result<()> {
    let user = std::env::var("USER").unwrap_or_else(|_| "this user".to_owned());
    let authority = Authority::named(&format!("eyot dev of {user}"))?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    // A key whose certificate was not written is of no use, and in the way.
    let _ = fs::remove_file(key);
    keyfile::write_new(key, &authority.key(), &Lock::Plain)?;
    fs::write(file, &authority.pem).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_made_once_and_its_key_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let first = Ca::in_folder(&folder.path().join("eyot")).unwrap();
        let again = Ca::in_folder(&folder.path().join("eyot")).unwrap();
        assert_eq!((first.pem(), first.spki()), (again.pem(), again.spki()));
        for key in [KEY, SERVER_KEY] {
            let mode = fs::metadata(folder.path().join("eyot").join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let hosts = ["*", "*.shop.test", "shop.test", "[::1]", "10.0.0.1"].map(|host| host.parse().unwrap());
        assert!(again.server(&hosts, &["a.b.shop.test".to_owned()]).unwrap().pem.contains("BEGIN CERTIFICATE"));
    }
}
