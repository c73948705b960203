//! The systemd units: systemd's own tools must find them right, and the node's sandbox tight.

use std::path::Path;
use std::process::{Command, Output};

/// The exposure that `systemd-analyze security` may give the units, in tenths.
const EXPOSURE_TENTHS_MAX: u32 = 13;

fn analyze(arguments: &[&str]) -> Option<Output> {
    let output = Command::new("systemd-analyze").args(arguments).env("SYSTEMD_COLORS", "0").output();
    match output {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("no systemd-analyze on this machine: the units are not checked");
            None
        }
        Err(error) => panic!("systemd-analyze: {error}"),
    }
}

fn unit(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name).display().to_string()
}

#[test]
fn the_units_of_node_and_origin_are_exposed_by_no_more_than_they_promise() {
    for name in ["eyot-node.service", "eyot-origin.service"] {
        let Some(output) = analyze(&["security", "--offline=true", "--no-pager", &unit(name)]) else { return };
        let text = String::from_utf8_lossy(&output.stdout);
        let line =
            text.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{text}"));
        let level = line.split(": ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a level");
        let tenths: u32 = level.replace('.', "").parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(tenths <= EXPOSURE_TENTHS_MAX, "{name}: {line}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut paths = Vec::new();
    for name in ["eyot-node.service", "eyot-node.socket", "eyot-origin.service"] {
        let text = std::fs::read_to_string(unit(name)).expect("the unit");
        let text = text.replace("/usr/bin/eyot", env!("CARGO_BIN_EXE_eyot"));
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a copy");
        paths.push(path.display().to_string());
    }
    let arguments: Vec<&str> = std::iter::once("verify").chain(paths.iter().map(String::as_str)).collect();
    let Some(output) = analyze(&arguments) else { return };
    let words = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = words.lines().filter(|line| line.contains("eyot")).collect();
    assert!(output.status.success() && ours.is_empty(), "{words}");
}
