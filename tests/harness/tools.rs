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
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = target().join("debs");
    let root = folder.join(package);
    if root.exists() {
        return root;
    }
    println!("fetching {package} into {}", folder.display());
    let aside = tempfile::tempdir_in({
        std::fs::create_dir_all(&folder).expect("a folder in target");
        &folder
    })
    .expect("a folder");
    download(&folder, aside.path(), package);
    let run = |command: &mut Command| {
        let output = command.current_dir(aside.path()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let mut files = std::fs::read_dir(aside.path()).expect("the folder").filter_map(Result::ok).map(|file| file.path());
    let file = files.find(|path| path.extension().is_some_and(|ending| ending == "deb")).expect("a package");
    run(Command::new("dpkg-deb").arg("-x").arg(file).arg("root"));
    // Whole or not at all; another run may have been first.
    if let Err(error) = std::fs::rename(aside.path().join("root"), &root) {
        assert!(root.exists(), "{}: {error}", root.display());
    }
    root
}

/// Downloads a package into `aside`, by lists of our own in `folder`: those of the machine may be empty or old, and need
/// no root to be left alone. Where these sources cannot be had, by the machine's.
fn download(folder: &Path, aside: &Path, package: &str) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/apt.list");
    let ours = [
        format!("Dir::Etc::sourcelist={}", sources.display()),
        "Dir::Etc::sourceparts=/nonexistent".to_owned(),
        format!("Dir::State::lists={}", folder.join("lists").display()),
        format!("Dir::Cache={}", folder.join("cache").display()),
        "Dir::State::status=/dev/null".to_owned(),
        "Debug::NoLocking=1".to_owned(),
    ];
    for part in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(folder.join(part)).expect("a folder in target");
    }
    let apt = |options: &[String], verb: &[&str]| {
        let options = options.iter().flat_map(|option| ["-o", option]);
        let output = Command::new("apt-get").arg("-qq").args(options).args(verb).current_dir(aside).output();
        let output = output.expect("apt-get");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (_, update) = apt(&ours, &["update"]);
    let (done, own) = apt(&ours, &["download", package]);
    if !done {
        let (done, theirs) = apt(&["Debug::NoLocking=1".to_owned()], &["download", package]);
        assert!(done, "{package} cannot be had.\nown lists: {update}{own}\nthe machine's: {theirs}");
    }
}
