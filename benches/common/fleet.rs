//! One origin and one node, real processes on loopback, with everything on that a node in service has; and the app that
//! is asked. At `/respond` it always has a fixed answer.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cpu::Clock;
use super::process::free_port;

/// What `/respond` answers.
pub(crate) const BODY: &[u8] = b"hello\n";
/// How long a process may take until it says that it is ready.
const READY_WAIT: Duration = Duration::from_secs(60);

/// What the app has beside `/respond`.
#[derive(Default)]
pub(crate) struct More {
    /// Tables of its `eyot.toml`.
    pub(crate) tables: String,
    /// Files that its folder has copies of, by their names there.
    pub(crate) files: Vec<(&'static str, PathBuf)>,
    /// A port on loopback that it may reach.
    pub(crate) port: Option<u16>,
}

/// An origin, and a node that holds the app.
pub(crate) struct Fleet {
    /// The node's port.
    pub(crate) port: u16,
    node: Service,
    _origin: Service,
    /// Goes last: the processes live in it.
    folder: tempfile::TempDir,
}

/// What was charged to the function since the node began.
#[derive(Clone, Copy)]
pub(crate) struct Charged {
    /// CPU time, in microseconds.
    pub(crate) cpu_us: f64,
    /// Calls.
    pub(crate) calls: f64,
}

impl Fleet {
    /// Makes the keys, starts the origin, publishes the app, starts the node. The node may still have to compile.
    pub(crate) fn start(more: &More) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys");
        let (origin_port, port) = (free_port(), free_port());
        let url = format!("https://127.0.0.1:{origin_port}");
        let mut init = eyot();
        init.args(["keys", "init", "--plain", "--fleet", "bench", "--node", "a=bench", "--keys"]).arg(&keys);
        good(init.args(["--origin-name", "localhost", "--origin-name", "127.0.0.1"]));
        let origin = Service::start(folder.path(), "origin", &origin_toml(folder.path(), origin_port));
        // The whole node: a smaller share would hold the function back, and that is not what is asked here.
        let mut add = eyot();
        add.args(["app", "add", "bench", "--host", "localhost", "--share", "100", "--origin", &url]);
        if let Some(port) = more.port {
            add.args(["--private", &format!("127.0.0.1/32={port}")]);
        }
        good(add.arg("--keys").arg(&keys).arg("--key").arg(keys.join("publisher.pub")));
        let app = app(folder.path(), more);
        let mut publish = eyot();
        publish.args(["publish", "--no-build", "--origin", &url, "--app"]).arg(app);
        publish.arg("--ca").arg(keys.join("fleet-ca.pem")).arg("--root").arg(keys.join("root.json"));
        good(publish.arg("--key").arg(keys.join("publisher.key")));
        let node = Service::start(folder.path(), "node", &node_toml(folder.path(), port, &url));
        Self { port, node, _origin: origin, folder }
    }

    /// The fleet's CA in PEM.
    pub(crate) fn ca(&self) -> Vec<u8> {
        fs::read(self.folder.path().join("keys/fleet-ca.pem")).expect("the CA")
    }

    /// The chain and the key, in PEM, that the node serves `localhost` with.
    pub(crate) fn certificate(&self) -> [PathBuf; 2] {
        ["keys/origin/origin.pem", "keys/origin/origin.key"].map(|path| self.folder.path().join(path))
    }

    /// A folder that ends with the fleet.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The node's process.
    #[allow(dead_code, reason = "the benchmark of the cache counts processes with what they begin")]
    pub(crate) fn id(&self) -> u32 {
        self.node.child.id()
    }

    /// The CPU clock of the node's process.
    pub(crate) fn clock(&self) -> Clock {
        Clock::of(self.node.child.id())
    }

    /// The node's access log.
    pub(crate) fn log(&self) -> &File {
        &self.node.log
    }

    /// What was charged to the function. Asking costs the node CPU time.
    pub(crate) fn charged(&self) -> Charged {
        let metrics = self.metrics();
        Charged {
            cpu_us: value(&metrics, "eyot_function_cpu_seconds_sum") * 1e6,
            calls: value(&metrics, "eyot_function_cpu_seconds_count"),
        }
    }

    /// Access lines that were dropped.
    pub(crate) fn lines_dropped(&self) -> f64 {
        value(&self.metrics(), "eyot_log_dropped_total{log=\"access\"}")
    }

    fn metrics(&self) -> String {
        let socket = self.folder.path().join("node/admin.sock");
        let mut stream = UnixStream::connect(&socket).expect("the node's admin");
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("read");
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        text
    }
}

/// The sum of a metric's rows.
fn value(metrics: &str, name: &str) -> f64 {
    let rows = metrics.lines().filter(|row| row.starts_with(name));
    rows.filter_map(|row| row.rsplit(' ').next()?.parse::<f64>().ok()).fold(0.0, |sum, value| sum + value)
}

fn origin_toml(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "[origin]\nlisten = [\"127.0.0.1:{port}\"]\nstate = \"{folder}/origin\"\nfleet = \"bench\"\n\
         root = \"{folder}/keys/root.json\"\n\
         [tls]\nchain = \"{folder}/keys/origin/origin.pem\"\nkey = \"{folder}/keys/origin/origin.key\"\n\
         [keys]\ntimestamp = \"{folder}/keys/origin/timestamp.key\"\nsnapshot = \"{folder}/keys/origin/snapshot.key\"\n\
         director = \"{folder}/keys/origin/director.key\"\n"
    )
}

fn node_toml(folder: &Path, port: u16, origin: &str) -> String {
    let key = folder.join("compile.key");
    private(&key, "5b".repeat(32).as_bytes());
    let folder = folder.display();
    format!(
        "[node]\nid = \"a\"\nregion = \"bench\"\nfleet = \"bench\"\nstate = \"{folder}/node\"\nrun = \"{folder}/node\"\n\
         [listen]\nhttps = [\"127.0.0.1:{port}\"]\nadmin = [\"{folder}/node/admin.sock\"]\n\
         [tls]\ncertificates = [{{ chain = \"{folder}/keys/origin/origin.pem\", key = \"{folder}/keys/origin/origin.key\" }}]\n\
         [origin]\nurls = [\"{origin}\"]\nca = \"{folder}/keys/fleet-ca.pem\"\nroot = \"{folder}/keys/root.json\"\n\
         token = \"{folder}/keys/nodes/a.token\"\n\
         [functions]\ncompile = {{ cache = \"{folder}/cache\", key = \"{key}\" }}\n\
         [log]\naccess = \"stdout\"\n",
        key = key.display(),
    )
}

/// The app's folder.
fn app(folder: &Path, more: &More) -> PathBuf {
    let app = folder.join("app");
    fs::create_dir(&app).expect("a folder");
    for (name, file) in &more.files {
        fs::copy(file, app.join(name)).expect("a copy");
    }
    let text = format!(
        "app = \"bench\"\nhosts = [\"localhost\"]\n\
         [[routes]]\nhost = \"localhost\"\npath = \"/respond\"\n\
         respond = {{ status = 200, headers = {{ content-type = \"text/plain\" }}, body = \"hello\\n\" }}\n{}",
        more.tables
    );
    fs::write(app.join("eyot.toml"), text).expect("eyot.toml");
    app
}

fn private(path: &Path, bytes: &[u8]) {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).expect("a file of ours");
}

/// The command, in the profile of this benchmark; or the one that `EYOT` names, such as one of another profile.
fn eyot() -> Command {
    let named = std::env::var_os("EYOT").filter(|path| !path.is_empty());
    let mut command = Command::new(named.unwrap_or_else(|| env!("CARGO_BIN_EXE_eyot").into()));
    for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC", "EYOT_ORIGIN", "EYOT_CA", "EYOT_KEY"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command that must end well.
fn good(command: &mut Command) {
    let output = command.output().expect("the command starts");
    let (told, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {told}{complained}");
}

/// A running process; it ends with its owner.
struct Service {
    child: Child,
    /// Its standard output.
    log: File,
}

impl Service {
    /// Starts `eyot <verb>` under the configuration `text`, and waits until it says that it is ready.
    fn start(folder: &Path, verb: &str, text: &str) -> Self {
        let at = |end: &str| folder.join(format!("{verb}.{end}"));
        fs::write(at("toml"), text).expect("a configuration");
        let told = UnixDatagram::bind(at("notify")).expect("a socket");
        told.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket's timeout");
        let log = File::options().create(true).append(true).open(at("log")).expect("a log");
        let errors = File::create(at("errors")).expect("a log");
        let mut command = eyot();
        command.arg(verb).arg("--config").arg(at("toml")).env("NOTIFY_SOCKET", at("notify")).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().expect("a handle")).stderr(errors).spawn().expect("started");
        let service = Self { child, log };
        let words = || fs::read_to_string(at("errors")).unwrap_or_default();
        assert!(ready(&told), "{verb} is not ready after {READY_WAIT:?}: {}", words());
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `READY=1` (sd_notify) comes in time.
fn ready(socket: &UnixDatagram) -> bool {
    let (until, mut message) = (Instant::now() + READY_WAIT, [0; 4096]);
    while Instant::now() < until {
        let count = socket.recv(&mut message).unwrap_or(0);
        if message[..count].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
            return true;
        }
    }
    false
}
