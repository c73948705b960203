//! Secrets on the machine of a developer: values of its own in a file that only its owner may read, sealed to the node of
//! `eyot dev` as `eyot secret set` seals them to a fleet. No line that is shown has one of them in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret as _, SecretString};
use anyhow::{Context as _, bail};
use eyot_bundle::manifest::Manifest;
use eyot_bundle::name::Name;
use eyot_bundle::secret::{About, Recipient};
use eyot_link::tail::{Line, Lost};
use serde_json::Value;

use crate::secret::Sealed;

/// The file of values is refused above this, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Values that were given in one run and are looked for in what is shown; of more, the oldest are not.
const VALUES_MAX: usize = 4_096;
/// Shorter values are not looked for: they would be found everywhere. As on a node.
const BYTES_MIN: usize = 8;

/// Where a developer's values are.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Values {
    /// The secrets of the app, a TOML file of `NAME = "value"` with the mode 0600; default: .eyot/secrets.toml in its folder.
    #[arg(long = "secrets", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Values {
    /// The file, of an app in `folder`.
    pub(crate) fn file(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let file = self.file.clone().unwrap_or_else(|| folder.join(".eyot/secrets.toml"));
        std::path::absolute(&file).with_context(|| file.display().to_string())
    }
}

/// The values, as they are sealed.
pub(crate) struct Secrets {
    file: PathBuf,
    recipient: Recipient,
    /// What was sealed last, so that a value that is the same stays the same blob.
    sealed: BTreeMap<String, (SecretString, Sealed)>,
    /// All that were given so far: a release of before may still answer.
    given: Vec<SecretString>,
}

impl Secrets {
    /// Those of `file`, for the node of `recipient`.
    pub(crate) fn new(file: PathBuf, recipient: Recipient) -> Self {
        Self { file, recipient, sealed: BTreeMap::new(), given: Vec::new() }
    }

    /// All that the manifest names, sealed with the values of now.
    ///
    /// # Errors
    /// The first that has no value, or what is wrong with the file.
    pub(crate) fn sealed(&mut self, manifest: &Manifest) -> anyhow::Result<BTreeMap<String, Sealed>> {
        let names = manifest.secrets();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut values = read(&self.file)?;
        names
            .into_iter()
            .map(|name| Ok((name.to_owned(), self.one(&manifest.app, name, values.remove(name))?)))
            .collect()
    }

    fn one(&mut self, app: &Name, name: &str, value: Option<SecretString>) -> anyhow::Result<Sealed> {
        let Some(value) = value else {
            bail!(
                "the secret `{name}` has no value on this machine: write `{name} = \"…\"` into {}, with the mode 0600; \
                 `--secrets FILE` names another file",
                self.file.display()
            )
        };
        let before = self.sealed.get(name);
        if let Some((_, sealed)) = before.filter(|(before, _)| before.expose_secret() == value.expose_secret()) {
            return Ok(sealed.clone());
        }
        let version = before.map_or(1, |(_, sealed)| sealed.version + 1);
        let about = About { app, name, version };
        let sealed = Sealed::to(about, value.expose_secret().as_bytes(), &self.recipient)
            .with_context(|| format!("the secret `{name}`"))?;
        if value.expose_secret().len() >= BYTES_MIN {
            let over = (self.given.len() + 1).saturating_sub(VALUES_MAX);
            self.given.drain(..over);
            self.given.push(value.clone());
        }
        self.sealed.insert(name.to_owned(), (value, sealed.clone()));
        Ok(sealed)
    }

    /// The text without the values.
    pub(crate) fn masked(&self, text: &str) -> String {
        let found = |text: &str, value: &str| text.contains(value).then(|| text.replace(value, "***"));
        let mask = |text: String, value: &SecretString| found(&text, value.expose_secret()).unwrap_or(text);
        self.given.iter().fold(text.to_owned(), mask)
    }

    /// The line without the values, wherever in it they stand.
    pub(crate) fn masked_line(&self, line: Line) -> Line {
        if self.given.is_empty() {
            return line;
        }
        let masked = serde_json::to_value(&line).and_then(|value| serde_json::from_value(self.masked_value(value)));
        // What could not be masked is not shown.
        masked.unwrap_or(Line::Lost(Lost { lines: 1 }))
    }

    fn masked_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.masked(&text)),
            Value::Array(values) => values.into_iter().map(|value| self.masked_value(value)).collect(),
            Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, self.masked_value(value))).collect(),
            other => other,
        }
    }
}

/// The values in `file`; none where it is not there. What is wrong with it is said without what is in it.
fn read(file: &Path) -> anyhow::Result<BTreeMap<String, SecretString>> {
    let context = || format!("the secrets of this machine, {}", file.display());
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).with_context(context),
    };
    let facts = opened.metadata().with_context(context)?;
    check(&facts, file)?;
    let mut text = String::new();
    opened.take(FILE_BYTES_MAX).read_to_string(&mut text).with_context(context)?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.lines().count().max(1));
        anyhow::anyhow!("{}:{line}: it is no TOML of `NAME = \"value\"`", file.display())
    })?;
    let value = |(name, value)| match value {
        toml::Value::String(text) => Ok((name, text.into())),
        _ => bail!("{}: the value of `{name}` is no text in quotes", file.display()),
    };
    table.into_iter().map(value).collect()
}

fn check(facts: &fs::Metadata, file: &Path) -> anyhow::Result<()> {
    let name = file.display();
    if facts.mode() & 0o077 != 0 {
        bail!("{name} may be read by others than its owner, and holds secrets: `chmod 600 {name}`");
    }
    if facts.len() > FILE_BYTES_MAX {
        bail!("{name} has more than {FILE_BYTES_MAX} bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use eyot_bundle::secret::{self, Identity};

    use super::*;

    const VALUE: &str = "correct horse";

    fn manifest() -> Manifest {
        let source = "app = \"shop\"\nhosts = [\"shop.test\"]\n[functions.pay]\npath = \".\"\nwasm = \"a.wasm\"\n\
             secrets = [\"KEY\"]\n[[routes]]\nhost = \"shop.test\"\npath = \"/*\"\nfunction = \"pay\"\n";
        Manifest::parse("eyot.toml", source).unwrap()
    }

    fn write(folder: &Path, text: &str, mode: u32) -> PathBuf {
        let file = folder.join("secrets.toml");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_value_is_sealed_to_the_node_anew_when_it_changes_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let node = Identity::generate();
        let file = write(folder.path(), &format!("KEY = \"{VALUE}\"\nOTHER = \"x\"\n"), 0o600);
        let mut secrets = Secrets::new(file, node.recipient());
        let open = |sealed: &Sealed| {
            let app = "shop".parse().unwrap();
            let about = About { app: &app, name: "KEY", version: sealed.version };
            secret::open(about, &sealed.sealed.0, &node).unwrap().expose().to_vec()
        };
        let first = secrets.sealed(&manifest()).unwrap();
        assert_eq!((first.len(), open(&first["KEY"])), (1, VALUE.as_bytes().to_vec()));
        let again = secrets.sealed(&manifest()).unwrap();
        assert_eq!(again["KEY"].sealed.0, first["KEY"].sealed.0);
        write(folder.path(), "KEY = \"battery staple\"\n", 0o600);
        let second = secrets.sealed(&manifest()).unwrap();
        assert_eq!((second["KEY"].version, open(&second["KEY"])), (2, b"battery staple".to_vec()));
        let text = secrets.masked("a correct horse has no battery staple, KEY");
        assert_eq!(text, "a *** has no ***, KEY");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_and_no_value_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets.toml");
        let error = || {
            let mut secrets = Secrets::new(file.clone(), Identity::generate().recipient());
            format!("{:#}", secrets.sealed(&manifest()).expect_err("an error"))
        };
        let missing = error();
        assert!(
            missing.contains("`KEY`") && missing.contains("secrets.toml") && missing.contains("--secrets"),
            "{missing}"
        );
        for (text, mode, words) in [
            (format!("OTHER = \"{VALUE}\"\n"), 0o600, "`KEY` has no value"),
            (format!("KEY = \"{VALUE}\"\n"), 0o640, "chmod 600"),
            (format!("KEY = \"{VALUE}\"\n"), 0o604, "chmod 600"),
            (format!("A = \"b\"\nKEY = {VALUE}\n"), 0o600, "secrets.toml:2: it is no TOML"),
            (format!("KEY = [\"{VALUE}\"]\n"), 0o600, "`KEY` is no text"),
            (format!("# {}\n", "x".repeat(1 << 20)), 0o600, "more than 1048576 bytes"),
        ] {
            write(folder.path(), &text, mode);
            let error = error();
            assert!(error.contains(words) && !error.contains(VALUE), "{words}: {error}");
        }
    }

    #[test]
    fn a_line_is_shown_without_the_values_wherever_they_stand() {
        let folder = tempfile::tempdir().unwrap();
        let value = "a \\\"quoted\\\" value";
        let file = write(folder.path(), &format!("KEY = \"{value}\"\n"), 0o600);
        let mut secrets = Secrets::new(file, Identity::generate().recipient());
        secrets.sealed(&manifest()).unwrap();
        let line = |path: &str| -> Line {
            serde_json::from_value(serde_json::json!({
                "event": "request", "time": "2026-11-22T12:00:00Z", "id": "1", "app": "shop", "method": "GET", "host": "h",
                "path": path, "target": "function:pay", "status": 200, "wall_us": 1,
            }))
            .unwrap()
        };
        assert_eq!(secrets.masked_line(line("/?key=a \"quoted\" value")), line("/?key=***"));
        assert_eq!(secrets.masked_line(line("/other")), line("/other"));
    }
}
