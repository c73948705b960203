//! A small world of real processes: the keys of a fleet, an origin, nodes, all of the command under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use super::app::App;
use super::client::{Answer, Ask, Protocol, ask};
use super::process::{Process, free_port, listens, until};
use super::tools;

/// The hosts that the certificate of all nodes holds.
const HOSTS: [&str; 8] = [
    "localhost",
    "127.0.0.1",
    "shop.test",
    "*.shop.test",
    "books.test",
    "other.test",
    // Nobody's, whatever a certificate says.
    "events.eyot.internal",
    "tick.function.eyot.internal",
];

/// The command under test.
pub(crate) fn eyot() -> Command {
    clean(Path::new(env!("CARGO_BIN_EXE_eyot")))
}

/// A program that inherits nothing that would change what it does.
fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC", "EYOT_ORIGIN", "EYOT_CA", "EYOT_KEY"] {
        command.env_remove(name);
    }
    command
}

/// A fleet with its origin.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    origin_port: u16,
    origin: Option<Process>,
}

/// A node of the world.
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) port: u16,
    pub(crate) admin: u16,
    pub(crate) process: Process,
    config: PathBuf,
}

impl World {
    /// Keys for nodes `a`, `b` and `c`, and a running origin.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys");
        let mut init = eyot();
        init.args(["keys", "init", "--plain", "--fleet", "test", "--keys"]).arg(&keys);
        for host in HOSTS {
            init.args(["--origin-name", host]);
        }
        for node in ["a=eu-test", "b=us-test", "c=ap-test"] {
            init.args(["--node", node]);
        }
        good(init);
        let mut world = Self { folder, origin_port: free_port(), origin: None };
        world.start_origin();
        world
    }

    /// A path in the world's folder.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The fleet's CA.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path("keys/fleet-ca.pem")
    }

    /// The origin's URL.
    pub(crate) fn origin_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.origin_port)
    }

    /// Starts the origin, on the port it always had.
    pub(crate) fn start_origin(&mut self) {
        let keys = self.path("keys");
        let (keys, state, port) = (keys.display(), self.path("origin"), self.origin_port);
        let text = format!(
            "[origin]\nlisten = [\"127.0.0.1:{port}\"]\nstate = \"{state}\"\nfleet = \"test\"\nroot = \"{keys}/root.json\"\n\
             [tls]\nchain = \"{keys}/origin/origin.pem\"\nkey = \"{keys}/origin/origin.key\"\n\
             [keys]\ntimestamp = \"{keys}/origin/timestamp.key\"\nsnapshot = \"{keys}/origin/snapshot.key\"\n\
             director = \"{keys}/origin/director.key\"\n[quotas]\npublishes_per_hour = 10000\n",
            state = state.display(),
        );
        let config = self.path("origin.toml");
        fs::write(&config, text).expect("origin.toml");
        // Its port may be the local end of somebody's connection for a moment: then it ends, and is started again.
        self.origin = Some(until("the origin is started", || {
            let mut process = Process::start("origin", eyot().arg("origin").arg("--config").arg(&config));
            let begun = || listens(port).then_some(true).or_else(|| process.has_ended().then_some(false));
            until("the origin listens or ends", begun).then_some(process)
        }));
    }

    /// Takes the origin away.
    pub(crate) fn stop_origin(&mut self) {
        self.origin = None;
    }

    /// Grants an app its hosts, with more arguments of `eyot app add`.
    pub(crate) fn grant(&self, app: &str, hosts: &[&str], more: &[&str]) -> Output {
        let keys = self.path("keys");
        let mut add = eyot();
        add.args(["app", "add", app, "--replace", "--keys"]).arg(&keys).arg("--key").arg(keys.join("publisher.pub"));
        add.args(["--origin", &self.origin_url()]).args(more);
        for host in hosts {
            add.args(["--host", host]);
        }
        add.output().expect("eyot app add")
    }

    /// The identity of the node `id`, made by it and put into the fleet by the operator.
    pub(crate) fn identify(&self, id: &str) {
        let config = self.path(format!("{id}.toml"));
        if !config.exists() {
            self.configure(id, 1, 2, "");
        }
        let mut identity = eyot();
        identity.args(["node", "identity", "--json", "--config"]).arg(config);
        let told: Value = serde_json::from_str(&good(identity)).expect("an identity");
        let mut set = eyot();
        set.args(["fleet", "set-identity", id, told["identity"].as_str().expect("a text"), "--keys"]);
        set.arg(self.path("keys")).args(["--origin", &self.origin_url()]);
        good(set);
    }

    /// Publishes with the fleet's publisher's key; the number of the release, or what was said against it.
    pub(crate) fn try_publish(&self, app: &App) -> Result<u64, String> {
        self.publish_as(app, &self.path("keys/publisher.key"))
    }

    /// Publishes with a key of one's own.
    pub(crate) fn publish_as(&self, app: &App, key: &Path) -> Result<u64, String> {
        let mut publish = eyot();
        publish.args(["publish", "--json", "--no-build", "--origin", &self.origin_url(), "--app"]).arg(app.folder());
        publish.arg("--ca").arg(self.ca()).arg("--key").arg(key).arg("--root").arg(self.path("keys/root.json"));
        let output = publish.output().expect("eyot publish");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("{told}{}", String::from_utf8_lossy(&output.stderr)));
        }
        let told: Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"));
        Ok(told["number"].as_u64().unwrap_or_else(|| panic!("{told}")))
    }

    /// Publishes what must be taken.
    pub(crate) fn publish(&self, app: &App) -> u64 {
        self.try_publish(app).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Goes back to an earlier release.
    pub(crate) fn rollback(&self, app: &str, to: u64) {
        let mut rollback = eyot();
        rollback.args(["rollback", "--name", app, "--to", &to.to_string(), "--origin", &self.origin_url(), "--ca"]);
        rollback.arg(self.ca()).arg("--key").arg(self.path("keys/publisher.key"));
        good(rollback);
    }

    /// Starts the node `id`, with more lines for its configuration, and waits until it listens.
    pub(crate) fn node_with(&self, id: &str, more: &str) -> Node {
        let (port, admin) = (free_port(), free_port());
        let config = self.configure(id, port, admin, more);
        let process = start_node(id, &config);
        let node = Node { id: id.to_owned(), port, admin, process, config };
        node.wait_until_up();
        node
    }

    /// The same, of the program at this path, with more of an environment.
    pub(crate) fn node_of(&self, program: &Path, id: &str, environment: &[(&str, &Path)], more: &str) -> Node {
        let command = |config: &Path| {
            let mut command = clean(program);
            command.envs(environment.iter().copied()).arg("node").arg("--config").arg(config);
            command
        };
        self.node_by(id, free_port(), |text| text + more, command)
    }

    /// The same, on `port`, by a command that is told where the configuration is, which `edit` changes.
    pub(crate) fn node_by(
        &self,
        id: &str,
        port: u16,
        edit: impl FnOnce(String) -> String,
        command: impl FnOnce(&Path) -> Command,
    ) -> Node {
        let admin = free_port();
        let config = self.path(format!("{id}.toml"));
        fs::write(&config, edit(self.node_toml(id, port, admin, ""))).expect("node.toml");
        let process = Process::start(id, &mut command(&config));
        let node = Node { id: id.to_owned(), port, admin, process, config };
        node.wait_until_up();
        node
    }

    /// Writes the configuration of the node `id`.
    pub(crate) fn configure(&self, id: &str, port: u16, admin: u16, more: &str) -> PathBuf {
        let config = self.path(format!("{id}.toml"));
        fs::write(&config, self.node_toml(id, port, admin, more)).expect("node.toml");
        config
    }

    /// Starts the node `id` on `port`, with its configuration changed by `edit`, and waits until it listens.
    pub(crate) fn node_edited(&self, id: &str, port: u16, edit: impl FnOnce(String) -> String) -> Node {
        self.node_by(id, port, edit, |config| {
            let mut command = eyot();
            command.arg("node").arg("--config").arg(config);
            command
        })
    }

    /// Starts the node `id`.
    pub(crate) fn node(&self, id: &str) -> Node {
        self.node_with(id, "")
    }

    fn node_toml(&self, id: &str, port: u16, admin: u16, more: &str) -> String {
        let (keys, folder, origin) = (self.path("keys"), self.path(id), self.origin_url());
        let (keys, folder, compiled) = (keys.display(), folder.display(), compiled());
        let (cache, key) = (compiled.display(), compiled.join("key"));
        format!(
            "[node]\nid = \"{id}\"\nregion = \"test\"\nfleet = \"test\"\nstate = \"{folder}\"\nrun = \"{folder}\"\n\
             [listen]\nhttps = [\"127.0.0.1:{port}\"]\nadmin = [\"{folder}/admin.sock\", \"127.0.0.1:{admin}\"]\n\
             [tls]\ncertificates = [{{ chain = \"{keys}/origin/origin.pem\", key = \"{keys}/origin/origin.key\" }}]\n\
             [origin]\nurls = [\"{origin}\"]\nca = \"{keys}/fleet-ca.pem\"\nroot = \"{keys}/root.json\"\n\
             token = \"{keys}/nodes/{id}.token\"\npoll = \"2s\"\n\
             [functions]\nslots = 64\ncompile = {{ cache = \"{cache}\", key = \"{key}\" }}\n\
             [log]\naccess = \"stdout\"\n[debug]\nheaders = true\n{more}",
            key = key.display(),
        )
    }
}

/// The cache of compiled code that all nodes of all tests share, and beside it the key that seals it.
fn compiled() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tools::target().join("compiled");
        fs::create_dir_all(&folder).expect("a folder in target");
        let key = folder.join("key");
        if !key.exists() {
            fs::write(&key, "5b".repeat(32)).expect("a key");
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
        }
        folder
    })
}

fn start_node(id: &str, config: &Path) -> Process {
    Process::start(id, eyot().arg("node").arg("--config").arg(config))
}

impl Node {
    /// Starts it again, after it was ended.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = start_node(&self.id, &self.config);
        self.wait_until_up();
    }

    fn wait_until_up(&self) {
        until("the node's admin answers", || self.try_admin("/healthz").filter(|answer| answer.status == 200));
    }

    /// A page of its admin on loopback.
    pub(crate) fn admin(&self, path: &str) -> Answer {
        self.try_admin(path).unwrap_or_else(|| panic!("{path}: the admin does not answer"))
    }

    fn try_admin(&self, path: &str) -> Option<Answer> {
        ask(Ask::plain(self.admin, path)).ok()
    }

    /// Its `/status`.
    pub(crate) fn status(&self, world: &World) -> Value {
        let socket = world.path(format!("{}/admin.sock", self.id));
        let text = super::client::unix(&socket, "/status");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Asks for `https://<host><path>` over the protocol.
    pub(crate) fn ask(&self, world: &World, protocol: Protocol, host: &str, path: &str) -> Answer {
        let what = format!("{protocol:?} https://{host}{path}");
        ask(Ask::get(world, self, protocol, host, path)).unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Waits until it answers for the host with this release, as `shop/2`.
    pub(crate) fn wait_for_release(&self, world: &World, host: &str, path: &str, release: &str) {
        until(&format!("{} answers with {release}", self.id), || {
            let answer = ask(Ask::get(world, self, Protocol::H2, host, path)).ok()?;
            (answer.header("eyot-release") == Some(release)).then_some(())
        });
    }

    /// Waits until it keeps answers on disk: what came before that is in memory alone.
    pub(crate) fn wait_for_disk(&self, world: &World) {
        until("its disk is there", || {
            let told = super::client::unix(&world.path(format!("{}/admin.sock", self.id)), "/status/cache");
            let told: Value = serde_json::from_str(&told).ok()?;
            (told["disk"]["recovering"] == false).then_some(())
        });
    }

    /// The value of a metric, 0 when there is no such line.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let page = self.admin("/metrics");
        let text = page.text();
        let found = text
            .lines()
            .filter(|row| row.starts_with(line))
            .filter_map(|row| row.rsplit(' ').next()?.parse::<f64>().ok());
        found.sum()
    }
}

/// Runs a command that must end well; its output.
pub(crate) fn good(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (told, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {told}{complained}");
    told.into_owned()
}
