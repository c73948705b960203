//! `eyot dev --trust`: the local authority goes to where this system and its browsers look for those they trust.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::local::ca::Ca;
use crate::out::Out;

/// Where Debian and its like keep authorities that the owner of the machine added, and what takes them up.
const STORE: &str = "/usr/local/share/ca-certificates";
const UPDATE: &str = "update-ca-certificates";
/// The name of ours there, and in the databases of browsers.
const NAME: &str = "eyot-dev";

/// Installs the authority for the system, where this is root, and for the browsers of this user, where `certutil` is.
pub(super) fn run(ca: &Ca, out: Out) -> anyhow::Result<()> {
    let file = ca.file.display().to_string();
    out.say(format!("the local authority is {file}"));
    let system = system(&ca.file, out)?;
    let browsers = browsers(&ca.file, out);
    for line in browser_flags(&ca.spki()) {
        out.say(line);
    }
    out.result(&serde_json::json!({"event": "trusted", "ca": ca.file, "spki": ca.spki(), "system": system, "browsers": browsers}));
    if !system {
        bail!(
            "the system does not trust it yet; as root: install -m 644 {file} {STORE}/{NAME}.crt && {UPDATE}\n\
             (with sudo: sudo install -m 644 {file} {STORE}/{NAME}.crt && sudo {UPDATE})"
        );
    }
    Ok(())
}

/// Whether the system trusts it now.
fn system(file: &Path, out: Out) -> anyhow::Result<bool> {
    let installed = PathBuf::from(STORE).join(format!("{NAME}.crt"));
    let ours = std::fs::read(file)?;
    if std::fs::read(&installed).is_ok_and(|there| there == ours) {
        out.say(format!("the system trusts it: {}", installed.display()));
        return Ok(true);
    }
    if !rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    if !Path::new(STORE).is_dir() {
        bail!(
            "{STORE} is not there: install the package `ca-certificates`, or add {} by your system's way",
            file.display()
        );
    }
    std::fs::write(&installed, ours).with_context(|| installed.display().to_string())?;
    let updated = Command::new(UPDATE).output().with_context(|| format!("{UPDATE} does not start"))?;
    if !updated.status.success() {
        bail!("{UPDATE} ended with {}:\n{}", updated.status, String::from_utf8_lossy(&updated.stderr).trim_end());
    }
    out.say(format!("the system trusts it now: {}", installed.display()));
    Ok(true)
}

/// The databases of browsers that trust it now.
fn browsers(file: &Path, out: Out) -> Vec<PathBuf> {
    let mut trusted = Vec::new();
    for folder in databases() {
        let add = ["-A", "-t", "C,,", "-n", NAME];
        let database = format!("sql:{}", folder.display());
        match Command::new("certutil").args(["-d", &database]).args(add).arg("-i").arg(file).output() {
            Ok(done) if done.status.success() => {
                out.say(format!("browsers trust it by {}", folder.display()));
                trusted.push(folder);
            }
            Ok(done) => out.note(format!("{}: {}", folder.display(), String::from_utf8_lossy(&done.stderr).trim_end())),
            Err(_) => {
                out.note("browsers keep authorities of their own; `certutil` of the package libnss3-tools adds ours");
                break;
            }
        }
    }
    trusted
}

/// Where Chrome and Firefox keep the authorities that this user trusts.
fn databases() -> Vec<PathBuf> {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else { return Vec::new() };
    let profiles = [home.join(".mozilla/firefox"), home.join("snap/firefox/common/.mozilla/firefox")];
    let profiles = profiles.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let all = std::iter::once(home.join(".pki/nssdb")).chain(profiles.map(|entry| entry.path()));
    all.filter(|folder| folder.join("cert9.db").is_file()).collect()
}

/// Browsers refuse QUIC under an authority that is not public, whoever trusts it.
fn browser_flags(spki: &str) -> [String; 4] {
    [
        "browsers take HTTP/2 under a local authority, and refuse HTTP/3; Chrome takes it when it is started with"
            .to_owned(),
        format!("  --origin-to-force-quic-on=localhost:8443 --ignore-certificate-errors-spki-list={spki} \\"),
        "  --host-resolver-rules=\"MAP localhost 127.0.0.1\" --user-data-dir=$(mktemp -d)".to_owned(),
        "and `eyot get --http3` asks without a browser.".to_owned(),
    ]
}
