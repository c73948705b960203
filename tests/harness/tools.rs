//! Tools of others that the tests stand on, installed into the target folder by their ordinary package clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The folder for what tests fetch and build.
pub(crate) fn target() -> PathBuf {
    let exe = Path::new(env!("CARGO_BIN_EXE_eyot"));
    exe.ancestors().nth(2).expect("target/<profile>/eyot").join("tools")
}

/// A Python that knows the packages of `peers/requirements.txt`: its arguments follow.
pub(crate) fn python(script: &str) -> Command {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    let packages = READY.get_or_init(install_python_packages);
    let mut command = Command::new("python3");
    command.arg(peers().join(script)).env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/peers")
}

fn install_python_packages() -> PathBuf {
    let list = std::fs::read_to_string(peers().join("requirements.txt")).expect("the list");
    let folder = target().join("py");
    let mark = folder.join("installed.txt");
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == list) {
        return folder;
    }
    println!("installing {} into {}", list.split_whitespace().collect::<Vec<_>>().join(", "), folder.display());
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"])
        .arg(&folder)
        .arg("--requirement")
        .arg(peers().join("requirements.txt"))
        .output()
        .expect("python3 with pip");
    assert!(output.status.success(), "pip: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(&mark, list).expect("the mark");
    folder
}

/// A package of Debian's, fetched by its client and unpacked into the target folder without being installed.
pub(crate) fn debian(package: &str) -> PathBuf {
    unpacked(package, &["download", package], OWN)
}

/// The same of a later Debian, for a program that the machine's has too old.
pub(crate) fn later_debian(package: &str) -> PathBuf {
    unpacked(&format!("{package}.later"), &["download", package], LATER)
}

/// The lists of sources, in this folder.
const OWN: &str = "apt.list";
const LATER: &str = "apt-later.list";

/// A package of Debian's with all that it depends on: its programs run from there, on the machine's C library.
pub(crate) struct Tree(PathBuf);

impl Tree {
    /// Fetches and unpacks it, if that was not done yet.
    pub(crate) fn of(package: &str) -> Self {
        let install = ["--yes", "--no-install-recommends", "--download-only", "install", package];
        Self(unpacked(&format!("{package}.tree"), &install, OWN))
    }

    /// A path in it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// One of its programs, by its path in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        // The last is the one package here that keeps libraries for itself.
        let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libraries =
            ["usr/lib/*", "lib/*", "usr/lib/*/pulseaudio"].map(|path| self.path(&path.replace('*', &architecture)));
        let mut command = Command::new(self.path(program));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).expect("no colon in the target's path"));
        command
    }
}

/// What this verb of apt-get's downloads, unpacked into a folder of that name.
fn unpacked(name: &str, verb: &[&str], list: &str) -> PathBuf {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = target().join("debs");
    let root = folder.join(name);
    if root.exists() {
        return root;
    }
    println!("fetching {name} into {}", folder.display());
    std::fs::create_dir_all(&folder).expect("a folder in target");
    let aside = tempfile::tempdir_in(&folder).expect("a folder");
    download(&folder, aside.path(), verb, list);
    let files = std::fs::read_dir(aside.path()).expect("the folder").filter_map(Result::ok).map(|file| file.path());
    let (mut found, is_package) = (false, |path: &PathBuf| path.extension().is_some_and(|ending| ending == "deb"));
    for file in files.filter(is_package) {
        found = true;
        // The C library and its loader are the machine's own.
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libc6_")) {
            continue;
        }
        let output = Command::new("dpkg-deb").arg("-x").arg(&file).arg(aside.path().join("root")).output();
        let output = output.expect("dpkg-deb");
        assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    }
    assert!(found, "{name}: apt-get {verb:?} gave no package");
    // Whole or not at all; another run may have been first.
    if let Err(error) = std::fs::rename(aside.path().join("root"), &root) {
        assert!(root.exists(), "{}: {error}", root.display());
    }
    root
}

/// Downloads into `aside`, by lists of our own in `folder`: those of the machine may be empty or old, and need no root to
/// be left alone. Where these sources cannot be had, by the machine's.
fn download(folder: &Path, aside: &Path, verb: &[&str], list: &str) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness").join(list);
    let lists = folder.join(if list == OWN { "lists" } else { "lists-later" });
    let both = [
        "Dir::State::status=/dev/null".to_owned(),
        "Debug::NoLocking=1".to_owned(),
        format!("Dir::Cache::archives={}", aside.display()),
    ];
    let own = [
        format!("Dir::Etc::sourcelist={}", sources.display()),
        "Dir::Etc::sourceparts=/nonexistent".to_owned(),
        format!("Dir::State::lists={}", lists.display()),
        format!("Dir::Cache={}", folder.join("cache").display()),
    ];
    for part in [lists.join("partial"), folder.join("cache"), aside.join("partial")] {
        std::fs::create_dir_all(part).expect("a folder in target");
    }
    let apt = |more: &[String], verb: &[&str]| {
        let options = both.iter().chain(more).flat_map(|option| ["-o", option]);
        let output = Command::new("apt-get").arg("-qq").args(options).args(verb).current_dir(aside).output();
        let output = output.expect("apt-get");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (_, update) = apt(&own, &["update"]);
    let (done, ours) = apt(&own, verb);
    if !done {
        let (done, theirs) = apt(&[], verb);
        assert!(done, "{verb:?} cannot be had.\nown lists: {update}{ours}\nthe machine's: {theirs}");
    }
}
