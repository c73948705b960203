//! `.eyot/dev` in an app's folder: what a node on this machine keeps between two runs, and one process at a time.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail};

/// Compiled code is kept up to this, in bytes; what was used longest ago goes first.
const CACHE_BYTES_MAX: u64 = 1 << 30;
/// What outlives a run: stores, compiled code, and the key that seals it.
const KEPT: [&str; 4] = ["cache", "compile.key", "lock", "node"];
/// What of a node's state outlives a run begins so.
const STORES: &str = "stores";

/// The folder, for one process.
#[derive(Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    /// Held as long as this lives.
    _lock: File,
}

impl Home {
    /// The folder of the app in `app`, cleared of what an earlier run left but stores and compiled code.
    pub(crate) fn open(app: &Path) -> anyhow::Result<Self> {
        let folder = shared(app)?;
        let context = || folder.display().to_string();
        let lock = File::create(folder.join("lock")).with_context(context)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("`eyot dev` runs here already: {} is its own", folder.display()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
        }
        let home = Self { folder, _lock: lock };
        home.clear().with_context(|| home.folder.display().to_string())?;
        home.prune(CACHE_BYTES_MAX);
        Ok(home)
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The node's state.
    pub(crate) fn node(&self) -> PathBuf {
        self.folder.join("node")
    }

    /// Where compiled code is kept.
    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// Removes keys and state of an earlier run.
    fn clear(&self) -> std::io::Result<()> {
        empty(&self.folder, |name| KEPT.contains(&name))?;
        let node = self.node();
        if node.exists() { empty(&node, |name| name.starts_with(STORES)) } else { Ok(()) }
    }

    /// Keeps of the compiled code what was written last. What cannot be removed stays.
    fn prune(&self, bytes_max: u64) {
        let entries = fs::read_dir(self.cache().join("compiled")).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .filter_map(|entry| {
                let facts = entry.metadata().ok()?;
                Some((facts.modified().unwrap_or(SystemTime::UNIX_EPOCH), facts.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut bytes = 0;
        for (_, length, path) in files.into_iter().rev() {
            bytes += length;
            if bytes > bytes_max {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// The folder, without having it for oneself: for compiled code, and the key that seals it.
pub(crate) fn shared(app: &Path) -> anyhow::Result<PathBuf> {
    let eyot = app.join(".eyot");
    let folder = std::path::absolute(eyot.join("dev"))?;
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    // All of it is this machine's own.
    let ignore = eyot.join(".gitignore");
    if !ignore.exists() {
        fs::write(&ignore, "*\n").with_context(|| ignore.display().to_string())?;
    }
    Ok(folder)
}

/// Removes what is in `folder`, but what is `kept` by its name.
fn empty(folder: &Path, kept: impl Fn(&str) -> bool) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&kept) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl Drop for Home {
    fn drop(&mut self) {
        // The keys of a fleet that is gone are of no use to anyone.
        let _ = self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_has_it_at_a_time_and_stores_and_compiled_code_outlive_a_run() {
        let app = tempfile::tempdir().unwrap();
        let home = Home::open(app.path()).unwrap();
        assert!(Home::open(app.path()).unwrap_err().to_string().contains("runs here already"));
        for folder in ["cache/compiled", "node/stores", "node/blobs"] {
            fs::create_dir_all(home.folder().join(folder)).unwrap();
        }
        for file in ["compile.key", "tls.key", "node/stores/x", "node/ledger.redb"] {
            fs::write(home.folder().join(file), "x").unwrap();
        }
        assert_eq!(fs::read_to_string(app.path().join(".eyot/.gitignore")).unwrap(), "*\n");
        drop(home);
        let home = Home::open(app.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(home.folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["cache", "compile.key", "lock", "node"]);
        assert!(home.node().join("stores/x").exists());
        assert!(!home.node().join("blobs").exists() && !home.node().join("ledger.redb").exists());
    }

    #[test]
    fn of_compiled_code_what_was_written_last_is_kept_up_to_its_bound() {
        let app = tempfile::tempdir().unwrap();
        let home = Home::open(app.path()).unwrap();
        let compiled = home.cache().join("compiled");
        fs::create_dir_all(&compiled).unwrap();
        for (age, name) in ["new", "old", "oldest"].iter().enumerate() {
            let file = File::create(compiled.join(name)).unwrap();
            file.set_len(10).unwrap();
            let at = SystemTime::now() - std::time::Duration::from_secs(100 * age as u64);
            file.set_modified(at).unwrap();
        }
        home.prune(20);
        assert!(compiled.join("new").exists() && compiled.join("old").exists() && !compiled.join("oldest").exists());
        assert_eq!(CACHE_BYTES_MAX, 1 << 30);
    }
}
