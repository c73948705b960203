//! Which role may list which target path. Fixed here, and by the paths of the operator's delegation: both must agree.

use std::collections::{BTreeMap, BTreeSet};

use sigstore_tuf::metadata::{DelegatedRole, Targets};

use crate::digest::Digest;
use crate::name::Name;
use crate::refusal::{Reason, Refusal};

/// Files that one role may list.
const FILES_MAX: usize = 20_000;
/// Roles that `targets` may hand on.
const DELEGATIONS_MAX: usize = 20_000;

/// A file that a role lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFile {
    /// Its path: `releases/shop/417.json`.
    pub path: String,
    /// The digest of its bytes.
    pub sha256: Digest,
    /// Their count.
    pub length: u64,
}

impl TargetFile {
    /// The file at `path` that has these `bytes`.
    pub fn new(path: impl Into<String>, bytes: &[u8]) -> Self {
        Self { path: path.into(), sha256: Digest::of(bytes), length: bytes.len() as u64 }
    }

    /// A file as TUF has it, if a sha256 of it is given.
    pub(crate) fn of(path: &str, file: &sigstore_tuf::TargetFile) -> Option<Self> {
        let sha256 = file.hashes.get("sha256")?.parse().ok()?;
        Some(Self { path: path.to_owned(), sha256, length: file.length })
    }

    /// Its name on the wire, under `/v1/targets/`: `releases/shop/<sha256>.417.json`.
    pub fn wire_path(&self) -> String {
        match self.path.rsplit_once('/') {
            Some((folder, name)) => format!("{folder}/{}.{name}", self.sha256),
            None => format!("{}.{}", self.sha256, self.path),
        }
    }

    /// Checks `bytes` against it.
    ///
    /// # Errors
    /// [`Reason::DigestMismatch`].
    pub fn check(&self, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.len() as u64 == self.length && Digest::of(bytes) == self.sha256 {
            return Ok(());
        }
        Err(Refusal::new(Reason::DigestMismatch, format!("{} is not what its role lists", self.path)))
    }
}

/// The role of an app's publishers: `app-shop`.
pub fn app_role(app: &Name) -> String {
    format!("app-{app}")
}

/// The app of such a role.
pub fn app_of_role(role: &str) -> Option<Name> {
    role.strip_prefix("app-")?.parse().ok()
}

/// The number in `releases/<app>/<number>.json`, written as numbers are.
pub(super) fn release_number(app: &Name, path: &str) -> Option<u64> {
    let digits =
        path.strip_prefix("releases/")?.strip_prefix(app.as_str())?.strip_prefix('/')?.strip_suffix(".json")?;
    digits.parse().ok().filter(|number: &u64| *number > 0 && number.to_string() == digits)
}

/// Whether `role` may list `path`, whatever the operator's delegation says.
fn owns(role: &str, path: &str) -> bool {
    let plain = |rest: Option<&str>| rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('/'));
    match (role, app_of_role(role)) {
        ("director", _) => plain(path.strip_prefix("control/")),
        ("fleet", _) => plain(path.strip_prefix("fleet/")),
        (_, Some(app)) => release_number(&app, path).is_some(),
        _ => false,
    }
}

/// Refuses a delegated role that lists what is not its own, or hands anything on.
pub(super) fn only_its_own(role: &str, targets: &Targets) -> Result<(), Refusal> {
    if targets.targets.len() > FILES_MAX {
        return Err(Refusal::new(Reason::Parse, format!("{role} lists more than {FILES_MAX} files")));
    }
    if let Some(path) = targets.targets.keys().find(|path| !owns(role, path)) {
        let path: String = path.chars().take(120).collect();
        return Err(Refusal::new(Reason::WrongKey, format!("{role} lists {path}, which is not its own")));
    }
    if targets.delegations.as_ref().is_some_and(|delegations| !delegations.roles.is_empty()) {
        return Err(Refusal::new(Reason::WrongKey, format!("{role} hands on to other roles, which only targets may")));
    }
    Ok(())
}

/// Refuses `targets` that hand on one role twice, or too many.
pub(super) fn sound_delegations(targets: &Targets) -> Result<(), Refusal> {
    let roles = targets.delegations.as_ref().map_or(&[][..], |delegations| &delegations.roles);
    let mut seen = BTreeSet::new();
    match roles.iter().find(|role| !seen.insert(role.name.as_str())) {
        Some(role) => Err(Refusal::new(Reason::Parse, format!("targets hand on {} twice", role.name))),
        None if roles.len() > DELEGATIONS_MAX => {
            Err(Refusal::new(Reason::Parse, format!("targets hand on more than {DELEGATIONS_MAX} roles")))
        }
        None => Ok(()),
    }
}

/// The files of `role` that its delegation lets it list and no delegation before it takes away: the pre-order walk of
/// TUF, section 5.6.7, for one level. An earlier role that matches and ends the search, or lists the path, wins.
pub(super) fn reachable(
    role: &str,
    targets: &Targets,
    delegations: &[DelegatedRole],
    lists: impl Fn(&str, &str) -> bool,
) -> BTreeMap<String, TargetFile> {
    let reaches = |path: &str| {
        for delegated in delegations {
            let matches = may_match(delegated, path) && delegated.matches_path(path).unwrap_or(false);
            if delegated.name == role {
                return matches;
            }
            if matches && (delegated.terminating || lists(&delegated.name, path)) {
                return false;
            }
        }
        false
    };
    let own = targets.targets.iter().filter(|(path, _)| owns(role, path) && reaches(path));
    own.filter_map(|(path, file)| Some((path.clone(), TargetFile::of(path, file)?))).collect()
}

/// Whether a pattern begins as `path` does: cheap, and enough to pass over the delegations of all other apps.
fn may_match(delegated: &DelegatedRole, path: &str) -> bool {
    let literal = |pattern: &str| pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    let begins = |pattern: &String| path.as_bytes().starts_with(&pattern.as_bytes()[..literal(pattern)]);
    delegated.path_hash_prefixes.is_some() || delegated.paths.iter().flatten().any(begins)
}
