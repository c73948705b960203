//! Secrets in files: private keys as PEM, kept by a passphrase in the age format (age-encryption.org) or plain.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::OnceLock;

use age::secrecy::{ExposeSecret as _, SecretString};
use anyhow::{Context as _, bail};
use eyot_bundle::sign::Key;

/// A file of secrets larger than this is refused, in bytes.
const SECRET_BYTES_MAX: u64 = 256 << 10;
/// The passphrase, where no one can be asked.
const PASSPHRASE: &str = "EYOT_PASSPHRASE";

/// How secrets are kept.
#[derive(Clone)]
pub(crate) enum Lock {
    /// Encrypted by a passphrase.
    Passphrase(SecretString),
    /// As they are.
    Plain,
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(…)",
            Self::Plain => "Plain",
        })
    }
}

/// The passphrase for new secrets: from the environment, or asked for twice.
pub(crate) fn new_passphrase() -> anyhow::Result<SecretString> {
    if let Some(passphrase) = passphrase_of_environment()? {
        return Ok(passphrase);
    }
    typed_twice(ask)
}

/// A passphrase that is long enough, and is answered twice.
fn typed_twice(mut ask: impl FnMut(&str) -> anyhow::Result<SecretString>) -> anyhow::Result<SecretString> {
    let first = ask("A new passphrase for these keys: ")?;
    if first.expose_secret().chars().count() < 12 {
        bail!("the passphrase has fewer than 12 characters; take four or more words");
    }
    if ask("Once more: ")?.expose_secret() != first.expose_secret() {
        bail!("the two are not the same");
    }
    Ok(first)
}

/// The text of the secret in `file`, decrypted where it is encrypted.
pub(crate) fn read(file: &Path) -> anyhow::Result<String> {
    let context = || format!("the secret in {}", file.display());
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).with_context(context)?;
    opened.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(context)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        bail!("{} has more than {SECRET_BYTES_MAX} bytes and holds no secret of ours", file.display());
    }
    if bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----") {
        bytes = decrypt(&bytes, file)?;
    }
    String::from_utf8(bytes).with_context(context)
}

/// The signing key in `file`.
pub(crate) fn key(file: &Path) -> anyhow::Result<Key> {
    Key::from_pem(&read(file)?).with_context(|| format!("the key in {}", file.display()))
}

/// Writes a new secret that only its owner may read. An existing file is not touched.
pub(crate) fn write_new(file: &Path, text: &str, lock: &Lock) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let bytes = match lock {
        Lock::Plain => text.as_bytes().to_vec(),
        Lock::Passphrase(passphrase) => {
            let recipient = age::scrypt::Recipient::new(passphrase.clone());
            age::encrypt_and_armor(&recipient, text.as_bytes())?.into_bytes()
        }
    };
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut opened = opened.with_context(|| format!("the new secret {}", file.display()))?;
    opened.write_all(&bytes).and_then(|()| opened.sync_all()).with_context(|| format!("{}", file.display()))
}

fn decrypt(bytes: &[u8], file: &Path) -> anyhow::Result<Vec<u8>> {
    let passphrase = passphrase(file)?;
    age::decrypt(&age::scrypt::Identity::new(passphrase), bytes)
        .with_context(|| format!("{} cannot be decrypted; is it this passphrase?", file.display()))
}

/// The passphrase of existing secrets: from the environment, or asked for once.
fn passphrase(file: &Path) -> anyhow::Result<SecretString> {
    static ASKED: OnceLock<SecretString> = OnceLock::new();
    if let Some(passphrase) = passphrase_of_environment()? {
        return Ok(passphrase);
    }
    if let Some(passphrase) = ASKED.get() {
        return Ok(passphrase.clone());
    }
    let passphrase = ask(&format!("The passphrase of {}: ", file.display()))?;
    Ok(ASKED.get_or_init(|| passphrase).clone())
}

fn passphrase_of_environment() -> anyhow::Result<Option<SecretString>> {
    match std::env::var(PASSPHRASE) {
        Ok(passphrase) if passphrase.is_empty() => bail!("${PASSPHRASE} is empty"),
        Ok(passphrase) => Ok(Some(SecretString::from(passphrase))),
        Err(_) => Ok(None),
    }
}

/// Asks on the terminal, without showing what is typed.
pub(crate) fn ask(question: &str) -> anyhow::Result<SecretString> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let none = || format!("there is no terminal to ask on; set ${PASSPHRASE}");
    let mut terminal = fs::OpenOptions::new().read(true).write(true).open("/dev/tty").with_context(none)?;
    let before = tcgetattr(&terminal).with_context(none)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    terminal.write_all(question.as_bytes())?;
    tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
    let line = read_line(&mut terminal);
    tcsetattr(&terminal, OptionalActions::Flush, &before)?;
    terminal.write_all(b"\n")?;
    line.map(SecretString::from)
}

fn read_line(terminal: &mut fs::File) -> anyhow::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while terminal.read(&mut byte)? == 1 && byte[0] != b'\n' && line.len() < 1024 {
        line.push(byte[0]);
    }
    String::from_utf8(line).context("the passphrase is no UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_kept_by_a_passphrase_opens_by_it_and_by_no_other() {
        let mut recipient = age::scrypt::Recipient::new(SecretString::from("four words make it".to_owned()));
        recipient.set_work_factor(2);
        let sealed = age::encrypt_and_armor(&recipient, b"secret").unwrap();
        assert!(!sealed.contains("secret"));
        let open = |text: &str| {
            let identity = age::scrypt::Identity::new(SecretString::from(text.to_owned()));
            age::decrypt(&identity, sealed.as_bytes()).ok()
        };
        assert_eq!(open("four words make it").as_deref(), Some(&b"secret"[..]));
        assert_eq!(open("four words made it"), None);
    }

    #[test]
    fn a_new_secret_is_for_its_owner_only_and_never_written_over() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.key");
        let key = Key::generate().unwrap();
        write_new(&file, &key.to_pem().unwrap(), &Lock::Plain).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(super::key(&file).unwrap().id(), key.id());
        assert!(write_new(&file, "x", &Lock::Plain).is_err());
    }

    #[test]
    fn a_typed_passphrase_has_12_characters_and_is_the_same_twice() {
        for (first, second, good) in [
            ("elevenchars", "elevenchars", false),
            ("twelve chars", "twelve chars", true),
            ("twelve chars", "twelve char5", false),
            ("älf\u{f6}r\u{fc}chars", "", false),
        ] {
            let mut answers = [second, first].to_vec();
            let typed = typed_twice(|_| Ok(SecretString::from(answers.pop().expect("asked twice").to_owned())));
            assert_eq!(typed.is_ok(), good, "{first}, {second}");
        }
    }

    #[test]
    fn a_secret_of_more_than_256_kib_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.key");
        fs::write(&file, "x".repeat(256 << 10)).unwrap();
        assert_eq!(read(&file).unwrap().len(), 256 << 10);
        fs::write(&file, "x".repeat((256 << 10) + 1)).unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("more than 262144 bytes"));
    }
}
