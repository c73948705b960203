//! Secrets: named in the config, read from files, never shown.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A secret's file larger than this is refused, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Where a secret lies: a credential of the service manager, or a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) PathBuf);

/// Why a secret cannot be named so.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is a credential's name, and there is no $CREDENTIALS_DIRECTORY; to name a file, write it with a `/`")]
pub struct NoCredentials(String);

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file could not be read or made.
    #[error("the secret in {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("the secret in {path} is {wrong}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        wrong: &'static str,
    },
}

impl Secret {
    /// The secret that `text` names: a file when it has a `/` (relative to `base`), else a credential in `credentials`.
    ///
    /// # Errors
    /// When it names a credential and there are none.
    pub fn named(text: &str, base: &Path, credentials: Option<&Path>) -> Result<Self, NoCredentials> {
        if text.contains('/') {
            return Ok(Self(base.join(text)));
        }
        credentials.map(|folder| Self(folder.join(text))).ok_or_else(|| NoCredentials(text.to_owned()))
    }

    /// The secret in `file`.
    pub fn at(file: PathBuf) -> Self {
        Self(file)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its bytes.
    ///
    /// # Errors
    /// When its file cannot be read, or is larger than 64 KiB.
    pub fn bytes(&self) -> Result<Vec<u8>, SecretError> {
        let fail = |source| SecretError::File { path: self.0.clone(), source };
        let mut bytes = Vec::new();
        let file = fs::File::open(&self.0).map_err(fail)?;
        file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > SECRET_BYTES_MAX {
            return Err(self.malformed("larger than 64 KiB"));
        }
        Ok(bytes)
    }

    /// Its text, without the newline at its end.
    ///
    /// # Errors
    /// When its file cannot be read, is empty, or is no text.
    pub fn text(&self) -> Result<String, SecretError> {
        let text = String::from_utf8(self.bytes()?).map_err(|_| self.malformed("no text"))?;
        match text.trim() {
            "" => Err(self.malformed("empty")),
            text => Ok(text.to_owned()),
        }
    }

    /// A key of 32 bytes: raw, or 64 hexadecimal digits.
    ///
    /// # Errors
    /// When its file cannot be read, or holds neither.
    pub fn key(&self) -> Result<[u8; 32], SecretError> {
        let bytes = self.bytes()?;
        if let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice()) {
            return Ok(key);
        }
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim().to_ascii_lowercase();
        let digest: Option<eyot_bundle::digest::Digest> = text.parse().ok();
        digest
            .map(|digest| *digest.as_bytes())
            .ok_or_else(|| self.malformed("no key: 32 bytes, or 64 hexadecimal digits"))
    }

    pub(crate) fn malformed(&self, wrong: &'static str) -> SecretError {
        SecretError::Malformed { path: self.0.clone(), wrong }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(in {})", self.0.display())
    }
}

/// The key in `file`, which is made when it is not there: 32 random bytes that only its owner may read.
///
/// # Errors
/// When it can neither be read nor made.
pub fn own_key(file: &Path) -> Result<[u8; 32], SecretError> {
    if file.exists() {
        return Secret(file.to_owned()).key();
    }
    match make_key(file) {
        Ok(key) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Secret(file.to_owned()).key(),
        Err(source) => Err(SecretError::File { path: file.to_owned(), source }),
    }
}

/// The text in `file`, which is made when it is not there, for its owner only to read.
///
/// # Errors
/// When it can neither be read nor made.
pub fn own_text(file: &Path, make: impl FnOnce() -> String) -> Result<String, SecretError> {
    if !file.exists() {
        match make_file(file, make().as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(SecretError::File { path: file.to_owned(), source: error });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Secret(file.to_owned()).text()
}

fn make_key(file: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| io::Error::other("no randomness"))?;
    make_file(file, &key).map(|()| key)
}

/// Makes it beside its place and puts it there whole, never over another: a crash must not leave a torn one.
fn make_file(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut aside = file.to_owned();
    aside.as_mut_os_string().push(format!(".{}.part", uuid::Uuid::now_v7()));
    let write = || {
        let mut open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        open.write_all(bytes)?;
        open.sync_all()?;
        fs::hard_link(&aside, file)
    };
    let made = write();
    let _ = fs::remove_file(&aside);
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_credential_and_a_path_is_a_file() {
        let base = Path::new("/etc/eyot");
        let credentials = Some(Path::new("/run/credentials/eyot"));
        for (text, path) in [
            ("shop-key", "/run/credentials/eyot/shop-key"),
            ("./shop-key", "/etc/eyot/./shop-key"),
            ("/keys/shop", "/keys/shop"),
        ] {
            assert_eq!(Secret::named(text, base, credentials).expect("good").path(), Path::new(path));
        }
        assert!(Secret::named("shop-key", base, None).is_err());
    }

    #[test]
    fn a_secret_of_more_than_64_kib_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = Secret(folder.path().join("secret"));
        fs::write(secret.path(), vec![b'x'; 64 << 10]).expect("written");
        assert_eq!(secret.text().expect("small enough").len(), 64 << 10);
        fs::write(secret.path(), vec![b'x'; (64 << 10) + 1]).expect("written");
        assert!(secret.text().expect_err("too large").to_string().contains("larger than 64 KiB"));
    }

    #[test]
    fn an_own_key_is_made_once_and_a_torn_one_is_refused() {
        let folder = std::env::temp_dir().join(format!("eyot-key-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&folder).expect("a folder");
        let file = folder.join("key");
        let key = own_key(&file).expect("made");
        assert_eq!(own_key(&file).expect("read"), key);
        assert_eq!(make_key(&file).expect_err("there").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1, "nothing is left beside it");
        fs::write(&file, &key[..20]).expect("torn");
        assert!(own_key(&file).is_err());
        fs::remove_dir_all(&folder).expect("removed");
    }
}
