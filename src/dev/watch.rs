//! Watching an app's folder: which files have changed, told when those who change them have paused for a moment. What
//! builds leave behind is not looked at.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use eyot_bundle::digest::Digest;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

/// Folders that hold no sources.
const PASSED_OVER: [&str; 10] =
    [".eyot", ".git", ".hg", ".idea", ".venv", ".vscode", "__pycache__", "node_modules", "target", "venv"];
/// Folders that are watched at most; more are not.
const FOLDERS_MAX: usize = 8_192;
/// A change is told when nothing has changed for this long,
const QUIET: Duration = Duration::from_millis(20);
/// or at the latest after this.
const QUIET_MAX: Duration = Duration::from_millis(500);
/// Files whose content is remembered.
const KNOWN_MAX: usize = 4_096;
/// The content of larger files is not looked at, in bytes.
const CONTENT_BYTES_MAX: u64 = 8 << 20;

/// What is told of a folder.
const FLAGS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR);

/// A folder that is watched, with all below it.
pub(super) struct Watch {
    kernel: AsyncFd<OwnedFd>,
    folders: HashMap<i32, PathBuf>,
    /// Folders of which one file is watched.
    files: HashMap<i32, PathBuf>,
    /// What builds write.
    outputs: BTreeSet<PathBuf>,
    /// What was in a file when it was last told, so that one that is written anew with the same content is not.
    known: HashMap<PathBuf, Option<Digest>>,
    /// What has changed and was not told yet.
    changed: BTreeSet<PathBuf>,
    /// Folders that have come since something was last told.
    fresh: BTreeSet<PathBuf>,
    /// When it is told: if nothing else changes until then, and at the latest.
    quiet: Option<(Instant, Instant)>,
    root: PathBuf,
}

impl Watch {
    /// Watches `root`, but not `outputs`: files or folders below it.
    pub(super) fn new(root: &Path, outputs: BTreeSet<PathBuf>) -> io::Result<Self> {
        let kernel = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[expect(deprecated, reason = "what is given owns its descriptor, and nothing else has it")]
        let kernel = AsyncFd::new(kernel)?;
        let (folders, files) = (HashMap::new(), HashMap::new());
        let (known, changed, fresh) = (HashMap::new(), BTreeSet::new(), BTreeSet::new());
        let (quiet, held) = (None, root.to_owned());
        let mut watch = Self { kernel, folders, files, outputs, known, changed, fresh, quiet, root: held };
        watch.add(root, &mut BTreeSet::new())?;
        Ok(watch)
    }

    /// Watches `file` too, which may lie elsewhere or not be there yet; where its folder is not, it is not watched.
    pub(super) fn also(&mut self, file: &Path) -> io::Result<()> {
        let Some(folder) = file.parent() else { return Ok(()) };
        match inotify::add_watch(self.kernel.get_ref(), folder, FLAGS) {
            Ok(id) if self.folders.contains_key(&id) => Ok(()),
            Ok(id) => {
                self.files.insert(id, file.to_owned());
                Ok(())
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::ACCESS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Other builds write elsewhere.
    pub(super) fn outputs(&mut self, outputs: BTreeSet<PathBuf>) {
        self.outputs = outputs;
    }

    /// Watches a folder and those below it, and notes the files that are in it.
    fn add(&mut self, folder: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            if self.folders.len() >= FOLDERS_MAX {
                return Err(io::Error::other(format!("more than {FOLDERS_MAX} folders are there")));
            }
            match inotify::add_watch(self.kernel.get_ref(), &folder, FLAGS) {
                Ok(id) => drop(self.folders.insert(id, folder.clone())),
                // It is gone already, or is another's: who removes what is watched changes it.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::ACCESS) => continue,
                Err(error) => return Err(error.into()),
            }
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (path, is_folder) = (entry.path(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
                if self.is_passed_over(&path) {
                    continue;
                }
                if is_folder {
                    folders.push(path);
                } else {
                    files.insert(path);
                }
            }
        }
        Ok(())
    }

    /// A folder is not where it was: what happens in it happens elsewhere.
    fn leave(&mut self, folder: &Path) {
        let kernel = self.kernel.get_ref();
        self.folders.retain(|id, path| {
            let is_left = path.starts_with(folder);
            if is_left {
                let _ = inotify::remove_watch(kernel, *id);
            }
            !is_left
        });
    }

    fn is_passed_over(&self, path: &Path) -> bool {
        let Some(name) = path.file_name() else { return true };
        let bytes = name.as_bytes();
        // What editors leave beside a file while they write it.
        let is_editors = bytes.ends_with(b"~") || bytes.starts_with(b".#") || name == OsStr::new("4913");
        let is_swap = path.extension().is_some_and(|it| ["swp", "swx", "part", "tmp"].iter().any(|swap| it == *swap));
        PASSED_OVER.iter().any(|passed| name == OsStr::new(passed))
            || is_editors
            || is_swap
            || self.outputs.contains(path)
    }

    /// Waits until files change, and for a moment of quiet; which. The root stands for all of them, where the kernel lost
    /// count. Safe to drop and call again: what was read is kept here meanwhile.
    pub(super) async fn changed(&mut self) -> io::Result<BTreeSet<PathBuf>> {
        loop {
            match self.quiet {
                None => self.read().await?,
                Some((soon, last)) => match timeout_at(soon.min(last), self.read()).await {
                    Ok(read) => read?,
                    Err(_) => match self.news() {
                        Some(changed) => return Ok(changed),
                        None => continue,
                    },
                },
            }
            let now = Instant::now();
            let last = self.quiet.map_or(now + QUIET_MAX, |(_, last)| last);
            self.quiet = Some((now + QUIET, last));
        }
    }

    /// It is quiet: all that has changed since it was last told.
    fn news(&mut self) -> Option<BTreeSet<PathBuf>> {
        self.quiet = None;
        self.fresh.clear();
        let changed = std::mem::take(&mut self.changed);
        let changed: BTreeSet<_> = changed.into_iter().filter(|path| self.is_news(path)).collect();
        (!changed.is_empty()).then_some(changed)
    }

    /// Whether a file holds something else than when it was last told.
    fn is_news(&mut self, path: &Path) -> bool {
        let small = fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.len() <= CONTENT_BYTES_MAX);
        if !small && path.exists() {
            return true;
        }
        let content = fs::read(path).ok().map(|bytes| Digest::of(&bytes));
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(path.to_owned(), content) != Some(content)
    }

    /// Notes what the kernel tells next. Safe to drop and call again.
    async fn read(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.kernel.readable().await?;
            let told = told(ready.get_inner());
            ready.clear_ready();
            drop(ready);
            let mut changed = BTreeSet::new();
            for (folder, flags, name) in told? {
                self.take(folder, flags, name, &mut changed)?;
            }
            if !changed.is_empty() {
                self.changed.append(&mut changed);
                return Ok(());
            }
        }
    }

    fn take(
        &mut self,
        folder: i32,
        flags: ReadFlags,
        name: Option<PathBuf>,
        changed: &mut BTreeSet<PathBuf>,
    ) -> io::Result<()> {
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            changed.insert(self.root.clone());
            return Ok(());
        }
        if flags.contains(ReadFlags::IGNORED) {
            self.folders.remove(&folder);
            self.files.remove(&folder);
            return Ok(());
        }
        if let Some(file) = self.files.get(&folder) {
            if file.file_name() == name.as_deref().map(Path::as_os_str) && !flags.contains(ReadFlags::CREATE) {
                changed.insert(file.clone());
            }
            return Ok(());
        }
        let Some(path) = self.folders.get(&folder).zip(name).map(|(folder, name)| folder.join(name)) else {
            return Ok(());
        };
        if self.is_passed_over(&path) {
            return Ok(());
        }
        if flags.contains(ReadFlags::ISDIR) {
            if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                self.fresh.insert(path.clone());
                return self.add(&path, changed);
            }
            self.leave(&path);
            // What came and went is no news: cargo makes `target` beside its place, under a name that nobody knows.
            if self.fresh.remove(&path) {
                changed.retain(|other| !other.starts_with(&path));
                self.changed.retain(|other| !other.starts_with(&path));
            } else {
                changed.insert(path);
            }
        } else if !flags.contains(ReadFlags::CREATE) {
            // Who creates a file writes it next.
            changed.insert(path);
        }
        Ok(())
    }
}

/// All that waits to be read: the folder's watch, what happened, and to which name in it.
fn told(kernel: &OwnedFd) -> io::Result<Vec<(i32, ReadFlags, Option<PathBuf>)>> {
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut reader = inotify::Reader::new(kernel, &mut buffer);
    let mut told = Vec::new();
    loop {
        match reader.next() {
            Ok(event) => {
                let name = event.file_name().map(|name| PathBuf::from(OsStr::from_bytes(name.to_bytes())));
                told.push((event.wd(), event.events(), name));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(told),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &Path, text: &str) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[tokio::test]
    async fn what_is_saved_is_told_and_what_builds_leave_behind_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(&path("src/main.rs"), "one");
        write(&path("target/x.d"), "one");
        let mut watch = Watch::new(folder.path(), BTreeSet::from([path("dist"), path("app.wasm")])).unwrap();
        for passed in ["target/x.d", "dist/app.js", "app.wasm", ".git/index", "src/main.rs~", "src/.main.rs.swp"] {
            write(&path(passed), "two");
        }
        write(&path("src/main.rs"), "two");
        assert_eq!(watch.changed().await.unwrap(), BTreeSet::from([path("src/main.rs")]));
        // The same once more is no news; written aside and moved in place is.
        write(&path("src/main.rs"), "two");
        write(&path("src/new~"), "three");
        fs::rename(path("src/new~"), path("src/main.rs")).unwrap();
        assert_eq!(watch.changed().await.unwrap(), BTreeSet::from([path("src/main.rs")]));
        // A folder that is made is watched at once.
        write(&path("src/deep/er/lib.rs"), "one");
        assert_eq!(watch.changed().await.unwrap(), BTreeSet::from([path("src/deep/er/lib.rs")]));
        write(&path("src/deep/er/lib.rs"), "two");
        assert_eq!(watch.changed().await.unwrap(), BTreeSet::from([path("src/deep/er/lib.rs")]));
        // As cargo makes it: beside its place, and with its first files before it is there.
        fs::remove_dir_all(path("target")).unwrap();
        write(&path("target8a31f2/CACHEDIR.TAG"), "one");
        fs::rename(path("target8a31f2"), path("target")).unwrap();
        write(&path("src/main.rs"), "four");
        assert_eq!(watch.changed().await.unwrap(), BTreeSet::from([path("src/main.rs")]));
        write(&path("target/.rustc_info.json"), "one");
        write(&path("src/main.rs"), "five");
        assert_eq!(watch.changed().await.unwrap(), BTreeSet::from([path("src/main.rs")]));
        // A folder that was there before is told.
        fs::rename(path("src/deep"), path("src/other")).unwrap();
        let told = watch.changed().await.unwrap();
        assert_eq!(told, BTreeSet::from([path("src/deep"), path("src/other/er/lib.rs")]));
        fs::remove_file(path("src/main.rs")).unwrap();
        assert_eq!(watch.changed().await.unwrap(), BTreeSet::from([path("src/main.rs")]));
        // One file elsewhere, and nothing beside it.
        let elsewhere = tempfile::tempdir().unwrap();
        let file = elsewhere.path().join("secrets.toml");
        watch.also(&file).unwrap();
        write(&elsewhere.path().join("beside"), "one");
        write(&file, "one");
        assert_eq!(watch.changed().await.unwrap(), BTreeSet::from([file]));
    }

    #[tokio::test]
    async fn of_a_file_over_8_mib_the_content_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path(), BTreeSet::new()).unwrap();
        let file = folder.path().join("large");
        let save = |bytes| fs::File::create(&file).unwrap().set_len(bytes).unwrap();
        for (bytes, is_told) in [(8 << 20, true), (8 << 20, false), ((8 << 20) + 1, true), ((8 << 20) + 1, true)] {
            save(bytes);
            // What follows it is told with it, or alone.
            write(&folder.path().join("next"), &format!("{bytes} {is_told}"));
            let told = watch.changed().await.unwrap();
            assert_eq!(told.contains(&file), is_told, "{bytes}: {told:?}");
            fs::remove_file(folder.path().join("next")).unwrap();
            watch.changed().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_tree_of_more_than_8192_folders_is_not_watched() {
        let folder = tempfile::tempdir().unwrap();
        for at in 1..8_192 {
            fs::create_dir(folder.path().join(format!("a{at}"))).unwrap();
        }
        let watch = || Watch::new(folder.path(), BTreeSet::new());
        assert_eq!(watch().unwrap().folders.len(), 8_192);
        fs::create_dir(folder.path().join("target")).unwrap();
        assert!(watch().is_ok(), "what is passed over does not count");
        fs::create_dir(folder.path().join("a0")).unwrap();
        assert!(watch().err().is_some_and(|error| error.to_string().contains("more than 8192 folders")));
    }

    #[tokio::test]
    async fn a_change_is_told_also_to_who_is_always_called_away_before_it_is_quiet() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("main.rs");
        let mut watch = Watch::new(folder.path(), BTreeSet::new()).unwrap();
        write(&file, "one");
        // Requests come in all the time, and each is a line to be shown.
        let line = Duration::from_millis(1);
        for _ in 0..5_000 {
            if let Ok(changed) = tokio::time::timeout(line, watch.changed()).await {
                return assert_eq!(changed.unwrap(), BTreeSet::from([file]));
            }
        }
        panic!("it was never told");
    }
}
