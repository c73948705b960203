//! What is kept of ACME under the node's state: the key of the account at each directory, and for each name its
//! certificate with its key. Each file is replaced whole or not at all, and is its owner's alone.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use eyot_bundle::digest::Digest;
use instant_acme::AccountCredentials;

use crate::ledger::durable;

/// A file larger than this is none, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// What the first line of a certificate's file begins with; what stands outside of PEM is passed over by who reads it.
const DIRECTORY: &str = "directory: ";

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens the folder `acme` in `state`, or makes it.
    pub(super) fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("acme");
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        durable::sync_folder(state)?;
        Ok(Self { folder })
    }

    /// The account at a directory, if there is one that can be read.
    pub(super) fn account(&self, directory: &str) -> Option<AccountCredentials> {
        let bytes = read(&self.account_file(directory)).ok()?;
        let account = serde_json::from_slice(&bytes);
        account.map_err(|error| tracing::warn!(%error, "the ACME account cannot be read; a new one is made")).ok()
    }

    pub(super) fn put_account(&self, directory: &str, account: &AccountCredentials) -> io::Result<()> {
        durable::replace(&self.account_file(directory), &serde_json::to_vec(account)?)
    }

    /// Forgets the account at a directory, which does not know it any more.
    pub(super) fn forget_account(&self, directory: &str) -> io::Result<()> {
        fs::remove_file(self.account_file(directory))
    }

    /// The file of a name's certificate. Names have no `/` and do not begin with a dot.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    /// A name's certificate, chain and key in PEM, and the directory that it came from.
    pub(super) fn certificate(&self, name: &str) -> io::Result<(String, String)> {
        let text = String::from_utf8(read(&self.file(name))?).map_err(io::Error::other)?;
        Ok((directory_of(&text).to_owned(), text))
    }

    /// Writes a name's next certificate beside the one that is kept; its file. Where it came from stays with it.
    pub(super) fn put_next(&self, name: &str, directory: &str, pem: &str) -> io::Result<PathBuf> {
        let text = if pem.starts_with(DIRECTORY) { pem.to_owned() } else { format!("{DIRECTORY}{directory}\n{pem}") };
        let next = self.next(name);
        durable::replace(&next, text.as_bytes())?;
        Ok(next)
    }

    /// Puts the next certificate in the place of the one that is kept.
    pub(super) fn keep_next(&self, name: &str) -> io::Result<()> {
        fs::rename(self.next(name), self.file(name))?;
        durable::sync_folder(&self.folder)
    }

    fn next(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem.next"))
    }

    fn account_file(&self, directory: &str) -> PathBuf {
        let digest = Digest::of(directory.as_bytes()).to_string();
        self.folder.join(format!("account-{}.json", digest.get(..16).unwrap_or(&digest)))
    }
}

/// The directory that a certificate's text says it came from; empty: none.
pub(super) fn directory_of(text: &str) -> &str {
    text.lines().next().and_then(|line| line.strip_prefix(DIRECTORY)).unwrap_or_default()
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(io::Error::other("it is larger than 64 KiB")) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ACCOUNT: &str = r#"{"id":"https://ca/1","key_pkcs8":"AAAA","directory":"https://ca/dir"}"#;

    #[test]
    fn accounts_and_certificates_are_their_owners_alone_and_come_back() {
        let state = tempfile::tempdir().expect("a folder");
        let store = Store::open(state.path()).expect("made");
        let account: AccountCredentials = serde_json::from_str(ACCOUNT).expect("an account");
        store.put_account("https://ca/dir", &account).expect("kept");
        store.put_next("a.example", "https://ca/dir", "PEM").expect("written");
        assert!(store.certificate("a.example").is_err(), "not kept yet");
        store.keep_next("a.example").expect("kept");
        let store = Store::open(state.path()).expect("there");
        assert!(store.account("https://ca/dir").is_some());
        assert!(store.account("https://other/dir").is_none(), "an account is of one directory");
        let (directory, text) = store.certificate("a.example").expect("kept");
        assert_eq!((&*directory, &*text), ("https://ca/dir", "directory: https://ca/dir\nPEM"));
        store.put_next("b.example", "https://other/dir", &text).expect("written");
        store.keep_next("b.example").expect("kept");
        store.put_next("b.example", "https://other/dir", "never kept").expect("written");
        assert_eq!(store.certificate("b.example").expect("kept").0, "https://ca/dir", "where it came from stays");
        let folder = state.path().join("acme");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for entry in fs::read_dir(&folder).expect("the folder") {
            let path = entry.expect("an entry").path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        store.forget_account("https://ca/dir").expect("forgotten");
        assert!(store.account("https://ca/dir").is_none());
        fs::write(store.file("a.example"), vec![b'x'; (64 << 10) + 1]).expect("written");
        assert!(store.certificate("a.example").is_err(), "too large");
    }
}
