//! A node whose program can be replaced, with an app of a function, upstreams and a fixed answer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use serde_json::Value;

use crate::harness::app::App;
use crate::harness::client::unix;
use crate::harness::process::{PATIENCE, Process, free_port, until};
use crate::harness::tools::python;
use crate::harness::upstream::Upstream;
use crate::harness::world::{Node, World, eyot};

/// Who a node is that is started as somebody else.
const NOBODY: u32 = 65_534;
/// What is open waits for as long as a slow machine needs.
const PATIENT: &str = "connect = \"60s\", first_byte = \"10m\", between_bytes = \"10m\", total = \"20m\"";
const LIMITS: &str = "[limits]\ndrain = \"5m\"\nbody_idle = \"10m\"\nsend_idle = \"10m\"\n";

/// The node, and all around it.
pub(super) struct House {
    pub(super) world: World,
    pub(super) node: Node,
    pub(super) app: App,
    pub(super) program: PathBuf,
    pub(super) upstream: Upstream,
    manager: Option<UnixDatagram>,
    /// The processes that took over, which are nobody's children.
    heirs: Mutex<Vec<u64>>,
    _sockets: Process,
}

impl Drop for House {
    fn drop(&mut self) {
        for pid in self.heirs.get_mut().expect("no panic") {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).output();
        }
    }
}

/// The world with what is published, a program, and a server of WebSockets.
fn around() -> (World, App, PathBuf, Upstream, Process) {
    around_with(&[], |app| app)
}

fn around_with(granted: &[&str], with: impl FnOnce(App) -> App) -> (World, App, PathBuf, Upstream, Process) {
    let (world, upstream) = (World::new(), Upstream::start());
    let sockets = Process::start("websockets", &mut python("websocket_server.py"));
    let port: u16 = until("the server's port", || sockets.log().lines().next().and_then(|line| line.parse().ok()));
    let [private, other] = [upstream.address.port(), port].map(|port| format!("127.0.0.1/32={port}"));
    world.grant("shop", &["shop.test"], &[&["--private", &private, "--private", &other], granted].concat());
    let app = App::new("shop", &["shop.test"])
        .function("env", "env", "env = { WORD = \"word-1\" }")
        .upstream("api", &upstream.url(), &format!("timeouts = {{ {PATIENT} }}"))
        .upstream("ws", &format!("http://127.0.0.1:{port}"), "")
        .route("shop.test", "/env", "function = \"env\"")
        .route("shop.test", "/up/*", "upstream = \"api\"")
        .route("shop.test", "/ws/*", "upstream = \"ws\"")
        .route("shop.test", "/fixed", "respond = { status = 200, body = \"fixed\" }");
    let app = with(app).written();
    world.publish(&app);
    let program = world.path("eyot");
    fs::hard_link(env!("CARGO_BIN_EXE_eyot"), &program)
        .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_eyot"), &program).map(drop))
        .expect("the program");
    (world, app, program, upstream, sockets)
}

/// A node that binds its sockets itself.
pub(super) fn house() -> House {
    house_with(&[], |app| app, "")
}

/// The same, with more of a grant, of the app, and of the configuration.
pub(super) fn house_with(granted: &[&str], with: impl FnOnce(App) -> App, more: &str) -> House {
    let (world, app, program, upstream, sockets) = around_with(granted, with);
    let notify = world.path("notify");
    let manager = UnixDatagram::bind(&notify).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let node = world.node_of(&program, "a", &[("NOTIFY_SOCKET", &notify)], &(LIMITS.to_owned() + more));
    House::of(world, node, app, program, upstream, Some(manager), sockets)
}

/// A node that the kernel allows no program to steer QUIC.
pub(super) fn refused() -> House {
    let (world, app, program, upstream, sockets) = around();
    let notify = world.path("notify");
    let manager = UnixDatagram::bind(&notify).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let edit = |text: String| text.replace("[listen]\n", "[listen]\nudp_sockets = 2\n") + LIMITS;
    let command = |config: &Path| {
        let mut command = python("refuse_steering.py");
        command.env("NOTIFY_SOCKET", &notify).arg(&program).arg("node").arg("--config").arg(config);
        command
    };
    let node = world.node_by("a", free_port(), edit, command);
    House::of(world, node, app, program, upstream, Some(manager), sockets)
}

/// A node whose sockets a manager holds: for each of two generations so many for UDP. It has no privilege.
pub(super) fn managed(udp_sockets: usize) -> House {
    let (world, app, program, upstream, sockets) = around();
    let is_root = rustix::process::geteuid().is_root();
    let uid = if is_root { NOBODY } else { 0 };
    println!("{}", if is_root { "the node runs as nobody" } else { "not root: the node runs as who runs the tests" });
    let (port, notify, cache) = (free_port(), world.path("notify"), world.path("cache"));
    for folder in ["a", "cache"] {
        fs::create_dir_all(world.path(folder)).expect("a folder");
    }
    let edit = |text: String| {
        let at = text.find("compile = {").expect("a line of it");
        let (before, rest) = text.split_at(at);
        let rest = rest.split_once('\n').expect("more lines").1;
        let text = format!("{before}compile = {{ cache = \"{}\" }}\n{rest}", cache.display());
        text.replace("[listen]\n", &format!("[listen]\nudp_sockets = {udp_sockets}\n")) + LIMITS
    };
    let command = |config: &Path| {
        if is_root {
            let paths = [".", "a", "cache", "a.toml"].map(|path| world.path(path));
            let mut chown = Command::new("chown");
            assert!(chown.arg(uid.to_string()).args(paths).status().expect("chown").success());
            let mut chown = Command::new("chown");
            assert!(chown.arg("-R").arg(uid.to_string()).arg(world.path("keys")).status().expect("chown").success());
        }
        let mut command = python("manager.py");
        command.args([port.to_string(), (2 * udp_sockets).to_string(), uid.to_string()]).arg(&notify);
        command.arg(&program).arg("node").arg("--config").arg(config);
        command
    };
    let node = world.node_by("a", port, edit, command);
    House::of(world, node, app, program, upstream, None, sockets)
}

impl House {
    fn of(
        world: World,
        node: Node,
        app: App,
        program: PathBuf,
        upstream: Upstream,
        manager: Option<UnixDatagram>,
        sockets: Process,
    ) -> Self {
        node.wait_for_release(&world, "shop.test", "/env", "shop/1");
        Self { world, node, app, program, upstream, manager, heirs: Mutex::default(), _sockets: sockets }
    }

    pub(super) fn upgrade(&self) -> Output {
        self.upgrade_within(120)
    }

    pub(super) fn upgrade_within(&self, seconds: u64) -> Output {
        let mut command = eyot();
        command.args(["upgrade", "--json", "--wait", &seconds.to_string(), "--admin"]).arg(self.socket());
        command.output().expect("the command")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.world.path("a/admin.sock")
    }

    /// What the process that is to be asked says of itself and its successor.
    pub(super) fn state(&self) -> Value {
        serde_json::from_str(&unix(&self.socket(), "/status/upgrade")).expect("JSON")
    }

    /// The process that serves.
    pub(super) fn serves(&self) -> u64 {
        let pid = self.state()["pid"].as_u64().expect("a process");
        self.heirs.lock().expect("no panic").push(pid);
        pid
    }

    /// Upgrades, and gives the process that serves then.
    pub(super) fn upgraded(&self) -> u64 {
        let output = self.upgrade();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{complained}\n{}", self.node.process.log());
        let told: Value = serde_json::from_str(&text).expect("JSON");
        let pid = told["process"].as_u64().expect("a process");
        self.heirs.lock().expect("no panic").push(pid);
        pid
    }

    /// Waits until the service manager was told that `pid` is the main process now.
    pub(super) fn told_main(&self, pid: u64) {
        let Some(manager) = &self.manager else {
            let line = format!("told MAINPID={pid}");
            until("the manager is told", || self.node.process.log().lines().any(|said| said == line).then_some(()));
            return;
        };
        let mut buffer = [0; 4096];
        loop {
            let length = manager.recv(&mut buffer).expect("the manager is told");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains("MAINPID=") {
                assert_eq!(text, format!("MAINPID={pid}\nREADY=1\n"));
                return;
            }
        }
    }

    pub(super) fn replace_program(&self, text: &str) {
        let aside = self.world.path("eyot.new");
        fs::write(&aside, text).expect("written");
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).expect("ours");
        fs::rename(&aside, &self.program).expect("replaced");
    }

    /// Publishes the next release, and waits for it: the ledger takes it.
    pub(super) fn takes_a_release(&self, number: u64) {
        self.app.edit(&format!("word-{}", number - 1), &format!("word-{number}"));
        self.world.publish(&self.app);
        self.node.wait_for_release(&self.world, "shop.test", "/env", &format!("shop/{number}"));
    }
}

/// Sends a signal.
pub(super) fn signal(pid: u64, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill");
    assert!(sent.success(), "kill -{name} {pid}");
}
