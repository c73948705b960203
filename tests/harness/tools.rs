//! Tools of others that the tests stand on, installed into the target folder by their ordinary package clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

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
