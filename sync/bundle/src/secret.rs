//! Secrets of functions: sealed by their publisher to the nodes of the fleet (age, X25519: age-encryption.org/v1), each
//! bound to its app, name and version, so that a sealed secret that was copied opens nowhere else.
//!
//! ```
//! use eyot_bundle::secret::{About, Identity, open, seal};
//!
//! let node = Identity::generate();
//! let app = "shop".parse().expect("a name");
//! let about = About { app: &app, name: "PAYMENT_KEY", version: 1 };
//! let sealed = seal(about, b"s3cret", &[node.recipient()]).expect("sealed");
//! assert_eq!(open(about, &sealed, &node).expect("ours").expose(), b"s3cret");
//! assert!(open(About { version: 2, ..about }, &sealed, &node).is_err());
//! ```

mod shared;

use std::fmt;
use std::io::{Read as _, Write as _};
use std::str::FromStr;

use age::secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::name::Name;
use crate::verify::parts::SEALED_BYTES_MAX;
pub use shared::Shared;

/// The value of a secret, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// What is sealed begins with this line.
const FORMAT: &str = "eyot-secret/1";
/// That line, and those of app, name and version, in bytes.
const HEAD_BYTES_MAX: usize = 256;

/// What a sealed secret is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About<'a> {
    /// The app it belongs to.
    pub app: &'a Name,
    /// The name that functions ask for.
    pub name: &'a str,
    /// Counted up with each value.
    pub version: u64,
}

impl About<'_> {
    fn head(&self) -> String {
        format!("{FORMAT}\n{}\n{}\n{}\n", self.app, self.name, self.version)
    }
}

/// The value of a secret. It shows itself to nobody, and its memory is cleared when it goes.
#[derive(Clone)]
pub struct Value(SecretSlice<u8>);

impl Value {
    /// Its bytes.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.expose()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(…)")
    }
}

/// What opens what was sealed to its [`Recipient`]: it stays where it was made.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

impl Identity {
    /// A new one.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// Its text, `AGE-SECRET-KEY-1…`, as a file keeps it.
    pub fn to_text(&self) -> SecretString {
        self.0.to_string()
    }

    /// Its public half.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    /// Reads what [`Identity::to_text`] wrote, or a file of `age-keygen`: lines that begin with `#` say nothing.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        match (lines.next().map(str::parse), lines.next()) {
            (Some(Ok(identity)), None) => Ok(Self(identity)),
            _ => Err(IdentityError),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(of {})", self.recipient())
    }
}

/// Why a text is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no age identity: one line `AGE-SECRET-KEY-1…`")]
pub struct IdentityError;

/// Whom something is sealed to: `age1…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(age::x25519::Recipient);

/// Why a text is no recipient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no public half of an age identity: it begins with `age1`")]
pub struct RecipientError(String);

impl FromStr for Recipient {
    type Err = RecipientError;

    fn from_str(text: &str) -> Result<Self, RecipientError> {
        text.parse().map(Self).map_err(|_| RecipientError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

impl Serialize for Recipient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Recipient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is nobody to seal it to.
    #[error("there is no node to seal it to")]
    Nobody,
    /// It has too many bytes.
    #[error("a secret has at most {VALUE_BYTES_MAX} bytes, this one has {0}")]
    TooLarge(usize),
    /// The system failed.
    #[error("nothing can be sealed on this machine")]
    Failed,
}

/// Why a sealed secret does not open. None of these names what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was sealed to others.
    #[error("it was not sealed to this node; seal it again (`eyot secret seal`) and publish")]
    NotOurs,
    /// It is no sealed secret.
    #[error("it is no sealed secret")]
    Malformed,
    /// It belongs to another app, name or version.
    #[error("it was sealed for another app, name or version")]
    Elsewhere,
}

/// Seals `value`, at most [`VALUE_BYTES_MAX`] bytes of it, to everyone in `to`.
///
/// # Errors
/// When there is nobody, or it is too large.
pub fn seal(about: About<'_>, value: &[u8], to: &[Recipient]) -> Result<Vec<u8>, SealError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(SealError::TooLarge(value.len()));
    }
    let recipients = to.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(|_| SealError::Nobody)?;
    let mut sealed = Vec::new();
    let write = || -> std::io::Result<()> {
        let mut writer = encryptor.wrap_output(&mut sealed)?;
        writer.write_all(about.head().as_bytes())?;
        writer.write_all(value)?;
        writer.finish().map(drop)
    };
    write().map_err(|_| SealError::Failed)?;
    Ok(sealed)
}

/// The value of `sealed`, if it was sealed to `identity` and is about `about`.
///
/// # Errors
/// When it does not open, or is about something else.
pub fn open(about: About<'_>, sealed: &[u8], identity: &Identity) -> Result<Value, OpenError> {
    if sealed.len() as u64 > SEALED_BYTES_MAX {
        return Err(OpenError::Malformed);
    }
    let decryptor = age::Decryptor::new(sealed).map_err(|_| OpenError::Malformed)?;
    let reader =
        decryptor.decrypt(std::iter::once(&identity.0 as &dyn age::Identity)).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => OpenError::NotOurs,
            _ => OpenError::Malformed,
        })?;
    // All its room at once: a vector that grows leaves what it held behind.
    let mut plain = Vec::with_capacity(HEAD_BYTES_MAX + VALUE_BYTES_MAX + 1);
    let most = (HEAD_BYTES_MAX + VALUE_BYTES_MAX) as u64;
    let read = reader.take(most).read_to_end(&mut plain);
    let plain = SecretSlice::from(plain);
    read.map_err(|_| OpenError::Malformed)?;
    let plain = plain.expose_secret();
    let value =
        plain.strip_prefix(about.head().as_bytes()).ok_or_else(|| match plain.starts_with(FORMAT.as_bytes()) {
            true => OpenError::Elsewhere,
            false => OpenError::Malformed,
        })?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(OpenError::Malformed);
    }
    Ok(Value(SecretSlice::from(value.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> Name {
        name.parse().expect("a name")
    }

    #[test]
    fn a_secret_opens_for_each_it_was_sealed_to_and_nobody_else() {
        let (one, two, other) = (Identity::generate(), Identity::generate(), Identity::generate());
        let app = app("shop");
        let about = About { app: &app, name: "KEY", version: 3 };
        let sealed = seal(about, b"a value\nwith\0bytes", &[one.recipient(), two.recipient()]).expect("sealed");
        for identity in [&one, &two] {
            assert_eq!(open(about, &sealed, identity).expect("ours").expose(), b"a value\nwith\0bytes");
        }
        assert_eq!(open(about, &sealed, &other).map(drop), Err(OpenError::NotOurs));
        assert!(!sealed.windows(7).any(|window| window == b"a value"));
    }

    #[test]
    fn a_copied_secret_opens_for_no_other_app_name_or_version() {
        let identity = Identity::generate();
        let (shop, bank) = (app("shop"), app("bank"));
        let about = About { app: &shop, name: "KEY", version: 3 };
        let sealed = seal(about, b"value", &[identity.recipient()]).expect("sealed");
        for other in [About { app: &bank, ..about }, About { name: "KEY2", ..about }, About { version: 30, ..about }] {
            assert_eq!(open(other, &sealed, &identity).map(drop), Err(OpenError::Elsewhere), "{other:?}");
        }
    }

    #[test]
    fn what_was_changed_or_cut_or_is_none_does_not_open() {
        let identity = Identity::generate();
        let app = app("shop");
        let about = About { app: &app, name: "KEY", version: 1 };
        let sealed = seal(about, b"value", &[identity.recipient()]).expect("sealed");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(about, &changed, &identity).is_err(), "byte {at}");
            assert!(open(about, &sealed[..at], &identity).is_err(), "cut at {at}");
        }
        // An age file of something else.
        let to: &dyn age::Recipient = &identity.recipient().0;
        let mut plain = Vec::new();
        let encryptor = age::Encryptor::with_recipients(std::iter::once(to)).expect("one");
        let mut writer = encryptor.wrap_output(&mut plain).expect("a writer");
        writer.write_all(b"value").and_then(|()| writer.finish().map(drop)).expect("sealed");
        assert_eq!(open(about, &plain, &identity).map(drop), Err(OpenError::Malformed));
    }

    #[test]
    fn a_value_has_at_most_64_kib_and_somebody_to_be_sealed_to() {
        let identity = Identity::generate();
        let app = app("shop");
        let about = About { app: &app, name: "KEY", version: 1 };
        let most = vec![7; VALUE_BYTES_MAX];
        let sealed = seal(about, &most, &[identity.recipient()]).expect("sealed");
        assert_eq!(open(about, &sealed, &identity).expect("ours").expose().len(), 64 << 10);
        let more = vec![7; VALUE_BYTES_MAX + 1];
        assert!(matches!(seal(about, &more, &[identity.recipient()]), Err(SealError::TooLarge(65_537))));
        assert!(matches!(seal(about, b"value", &[]), Err(SealError::Nobody)));
    }

    #[test]
    fn identities_and_values_do_not_show_themselves_and_read_back_from_their_text() {
        let identity = Identity::generate();
        let text = format!("# made by a test\n{}\n", identity.to_text().expose_secret());
        let again: Identity = text.parse().expect("an identity");
        assert_eq!(again.recipient(), identity.recipient());
        assert!(!format!("{identity:?}").contains("SECRET"));
        assert!("".parse::<Identity>().is_err() && "age1xyz".parse::<Recipient>().is_err());
        let recipient = serde_json::to_string(&identity.recipient()).expect("json");
        assert_eq!(serde_json::from_str::<Recipient>(&recipient).expect("read"), identity.recipient());
    }
}
