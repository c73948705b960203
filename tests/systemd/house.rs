//! A machine with origin and node, made as docs/operate.md says, of the units as they are shipped and the examples of their
//! configuration.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::clients::Client;
use crate::harness::app::App;
use crate::harness::client::Protocol;
use crate::harness::nspawn::Machine;
use crate::harness::process::until;
use crate::harness::upstream::Upstream;
use crate::harness::world::{eyot, good};

pub(super) const NODE: &str = "eyot-node.service";
pub(super) const ORIGIN: &str = "eyot-origin.service";
pub(super) const PROGRAM: &str = "/usr/bin/eyot";
/// As the example of the origin's configuration has it.
const ORIGIN_URL: &str = "https://127.0.0.1:7443";
/// Where dynamic users begin (systemd.exec, DynamicUser).
const DYNAMIC_UID_MIN: u32 = 61184;

/// A machine with origin and node, and an app with a function, an upstream and a fixed answer.
pub(super) struct House {
    pub(super) machine: Machine,
    folder: tempfile::TempDir,
    ca: Vec<u8>,
    pub(super) upstream: Upstream,
}

impl House {
    /// As docs/operate.md says, step by step.
    pub(super) fn new() -> Self {
        let machine = Machine::boot();
        let network = machine.network();
        let upstream = std::thread::spawn(move || {
            network.enter();
            Upstream::start()
        });
        let upstream = upstream.join().expect("no panic");
        let mut house = Self { machine, folder: tempfile::tempdir().expect("a folder"), ca: Vec::new(), upstream };
        let keys = house.keys();
        let mut init = eyot();
        init.args(["keys", "init", "--plain", "--fleet", "test", "--node", "a=eu-test", "--keys"]).arg(&keys);
        good(with(init, &["--origin-name", "127.0.0.1", "--origin-name", "shop.test"]));
        house.ca = fs::read(keys.join("fleet-ca.pem")).expect("the CA");
        house.install();
        house.machine.systemctl(&["daemon-reload"]);
        house.machine.systemctl(&["enable", "--now", "eyot-origin"]);
        house.operate(["keys", "upload"], &[]);
        house.machine.systemctl(&["enable", "--now", "eyot-node.socket", "eyot-node"]);
        house.publish();
        house
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// Puts program, units, configuration and credentials where they belong.
    fn install(&self) {
        let (here, keys) = (Path::new(env!("CARGO_MANIFEST_DIR")), self.keys());
        self.replace_program(&fs::read(env!("CARGO_BIN_EXE_eyot")).expect("the program"));
        for unit in [NODE, "eyot-node.socket", ORIGIN] {
            self.put(&here.join("systemd").join(unit), &format!("/etc/systemd/system/{unit}"));
        }
        for (from, to) in [
            ("root.json", "root.json"),
            ("fleet-ca.pem", "fleet-ca.pem"),
            ("origin/origin.pem", "origin.pem"),
            ("origin/origin.pem", "tls.pem"),
            ("origin/timestamp.key", "credentials/tuf-timestamp"),
            ("origin/snapshot.key", "credentials/tuf-snapshot"),
            ("origin/director.key", "credentials/tuf-director"),
            ("origin/origin.key", "credentials/origin-key"),
            ("origin/origin.key", "credentials/tls-key"),
            ("nodes/a.token", "credentials/node-token"),
        ] {
            self.put(&keys.join(from), &format!("/etc/eyot/{to}"));
        }
        for file in ["origin.toml", "node.toml"] {
            let mut text = fs::read_to_string(here.join("docs/examples").join(file)).expect("the example");
            for (example, ours) in [
                ("\"example\"", "\"test\""),
                ("\"fra-1\"", "\"a\""),
                ("origin.example.net", "127.0.0.1"),
                ("# headers = false", "headers = true"),
            ] {
                text = text.replace(example, ours);
            }
            fs::write(self.machine.path(format!("/etc/eyot/{file}")), text).expect("written");
        }
    }

    fn put(&self, from: &Path, to: &str) {
        let to = self.machine.path(to);
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        fs::copy(from, &to).unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
    }

    /// Our command, from outside of the machine but for its network, with the origin's URL and the operator's keys.
    fn operate(&self, verb: [&str; 2], more: &[&str]) {
        let mut command = eyot();
        command.args(verb).args(["--origin", ORIGIN_URL, "--keys"]).arg(self.keys()).args(more);
        good(self.machine.connected(&command));
    }

    fn publish(&self) {
        let (keys, url) = (self.keys(), self.upstream.url());
        let publisher = keys.join("publisher.pub").display().to_string();
        let private = format!("127.0.0.1/32={}", self.upstream.address.port());
        let grant = ["shop", "--host", "shop.test", "--key", &publisher, "--private", &private];
        self.operate(["app", "add"], &grant);
        let app = App::new("shop", &["shop.test"])
            .function("env", "env", "env = { WORD = \"word-1\" }")
            .upstream("api", &url, "")
            .route("shop.test", "/env", "function = \"env\"")
            .route("shop.test", "/up/*", "upstream = \"api\"")
            .route("shop.test", "/fixed", "respond = { status = 200, body = \"fixed\" }")
            .written();
        let mut publish = eyot();
        publish.args(["publish", "--no-build", "--origin", ORIGIN_URL, "--app"]).arg(app.folder());
        publish.arg("--ca").arg(keys.join("fleet-ca.pem")).arg("--key").arg(keys.join("publisher.key"));
        good(self.machine.connected(publish.arg("--root").arg(keys.join("root.json"))));
        let client = self.client();
        until("the release answers", || {
            let answer = client.asks(Protocol::H2, "/env").ok()?;
            (answer.header("eyot-release") == Some("shop/1")).then_some(())
        });
    }

    /// Puts another file in the program's place, as a package manager does: aside, then by its name.
    pub(super) fn replace_program(&self, bytes: &[u8]) {
        let aside = self.machine.path("/usr/bin/eyot.new");
        fs::write(&aside, bytes).expect("written");
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).expect("ours");
        fs::rename(&aside, self.machine.path(PROGRAM)).expect("replaced");
    }

    pub(super) fn main(&self, unit: &str) -> u32 {
        self.machine.show(unit, "MainPID").parse().expect("a number")
    }

    pub(super) fn client(&self) -> Client {
        Client { network: self.machine.network(), ca: self.ca.clone() }
    }

    /// What must be true of a main process at all times.
    pub(super) fn is_well(&self, unit: &str) {
        assert_eq!(self.machine.show(unit, "ActiveState"), "active", "{unit}");
        let here = self.machine.here(self.main(unit)).unwrap_or_else(|| panic!("{unit} has no main process"));
        let status = fs::read_to_string(format!("/proc/{here}/status")).expect("it runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{status}"));
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let uids = field("Uid:");
        let uid: u32 = uids[0].parse().expect("a number");
        assert!(uid >= DYNAMIC_UID_MIN && uids.iter().all(|other| *other == uids[0]), "{unit}: {uids:?}");
        for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(capabilities), ["0000000000000000"], "{unit}: {capabilities}");
        }
        assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), (vec!["1".to_owned()], vec!["2".to_owned()]), "{unit}");
        let root = format!("/proc/{here}/root");
        let program = fs::metadata(self.machine.path(PROGRAM)).expect("the program");
        let running = fs::metadata(format!("/proc/{here}/exe")).expect("its program");
        assert_eq!(running.ino(), program.ino(), "{unit} runs another file than {PROGRAM}");
        let mounts = fs::read_to_string(format!("/proc/{here}/mountinfo")).expect("its mounts");
        let at = |place: &str| mounts.lines().find(|line| line.split(' ').nth(4) == Some(place));
        assert!(at("/").is_some_and(|line| line.split(' ').nth(5).is_some_and(|how| how.starts_with("ro"))), "{root}");
    }
}

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}
