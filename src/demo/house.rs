//! The demo's processes and their folder: an origin and three nodes, each a child that ends with its owner.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use eyot_bundle::name::Name;
use eyot_link::line::Protocol;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::ask;
use super::ports::{NODES, Ports};
use crate::keyfile::{self, Lock};
use crate::keyring::Keyring;
use crate::keys::init::{self, NewFleet};
use crate::out::Out;
use crate::reach::Reach;

/// The three nodes and their regions.
const REGIONS: [(&str, &str); NODES] = [("fra-1", "eu-fra"), ("nyc-1", "us-nyc"), ("sin-1", "ap-sin")];
/// How long a process may take until it says that it is ready.
const READY_WAIT: Duration = Duration::from_secs(60);
/// How long the nodes may take until they answer with the release: they compile it.
const ANSWER_WAIT: Duration = Duration::from_secs(300);
/// The moment between two questions.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a process may take to end before it is killed.
const END_WAIT: Duration = Duration::from_secs(5);
/// Lines of a log that are shown when its process fails.
const LOG_LINES_MAX: usize = 20;

/// A node, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct NodeAt {
    /// Its id.
    pub(crate) id: &'static str,
    /// Its region.
    pub(crate) region: &'static str,
    /// Its public port.
    pub(crate) port: u16,
    /// Its admin's port.
    pub(crate) admin: u16,
}

/// The demo's folder and processes.
pub(crate) struct House {
    folder: tempfile::TempDir,
    ring: Keyring,
    origin_port: u16,
    nodes: Vec<NodeAt>,
    processes: Vec<Process>,
}

struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl House {
    /// An empty folder.
    pub(crate) fn new(ports: Ports) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("eyot-demo-").tempdir().context("a folder for the demo")?;
        fs::create_dir(folder.path().join("logs"))?;
        let nodes = REGIONS.iter().zip(ports.nodes);
        let nodes = nodes.map(|((id, region), (port, admin))| NodeAt { id, region, port, admin }).collect();
        let ring = Keyring::new(folder.path().join("keys"));
        Ok(Self { folder, ring, origin_port: ports.origin, nodes, processes: Vec::new() })
    }

    /// The folder; it is gone when the house is closed.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the logs are.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder().join("logs")
    }

    /// The fleet's keys.
    pub(crate) fn ring(&self) -> &Keyring {
        &self.ring
    }

    /// The nodes.
    pub(crate) fn nodes(&self) -> &[NodeAt] {
        &self.nodes
    }

    /// The fleet's CA, in PEM.
    pub(crate) fn ca(&self) -> anyhow::Result<Vec<u8>> {
        self.ring.document("fleet-ca.pem")
    }

    /// How to reach the origin.
    pub(crate) fn reach(&self) -> Reach {
        Reach {
            origin: Some(format!("https://127.0.0.1:{}", self.origin_port)),
            ca: Some(self.ring.path("fleet-ca.pem")),
            key: Some(self.ring.path("publisher.key")),
        }
    }

    /// Makes the fleet's keys, and the certificate of its nodes. All unencrypted: they live as long as the demo.
    pub(crate) fn make_keys(&self, out: Out) -> anyhow::Result<()> {
        let node = |(id, region): &(&str, &str)| Ok((id.parse::<Name>()?, (*region).to_owned()));
        let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let fleet = NewFleet {
            fleet: "demo".parse()?,
            origin_names: local.to_vec(),
            nodes: REGIONS.iter().map(node).collect::<anyhow::Result<_>>()?,
        };
        let authority = init::make(&self.ring, &fleet, &Lock::Plain, out)?;
        let pair = authority.server(&local)?;
        self.ring.put("nodes/tls.pem", pair.pem.as_bytes())?;
        keyfile::write_new(&self.ring.path("nodes/tls.key"), &pair.key, &Lock::Plain)
    }

    /// Starts the origin, and waits until it listens.
    pub(crate) async fn start_origin(&mut self) -> anyhow::Result<()> {
        let keys = self.ring.folder().display();
        let state = self.folder().join("origin");
        let text = format!(
            "[origin]\nlisten = [\"127.0.0.1:{}\"]\nstate = \"{}\"\nfleet = \"demo\"\nroot = \"{keys}/root.json\"\n\
             [tls]\nchain = \"{keys}/origin/origin.pem\"\nkey = \"{keys}/origin/origin.key\"\n\
             [keys]\ntimestamp = \"{keys}/origin/timestamp.key\"\nsnapshot = \"{keys}/origin/snapshot.key\"\n\
             director = \"{keys}/origin/director.key\"\n",
            self.origin_port,
            state.display(),
        );
        let process = self.start("origin", "origin", &text).await?;
        self.processes.push(process);
        Ok(())
    }

    /// Starts the nodes, and waits until all listen.
    pub(crate) async fn start_nodes(&mut self) -> anyhow::Result<()> {
        // One cache of compiled code, sealed by one key: each component is compiled once for the three.
        let key = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        keyfile::write_new(&self.folder().join("compile.key"), &key, &Lock::Plain)?;
        for node in self.nodes.clone() {
            let process = self.start(node.id, "node", &self.node_toml(&node)).await?;
            self.processes.push(process);
        }
        Ok(())
    }

    fn node_toml(&self, node: &NodeAt) -> String {
        let (keys, folder) = (self.ring.folder().display(), self.folder().display());
        let NodeAt { id, region, port, admin } = node;
        let six = std::net::TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 0)).is_ok();
        let six = if six { format!(", \"[::1]:{port}\"") } else { String::new() };
        format!(
            "[node]\nid = \"{id}\"\nregion = \"{region}\"\nfleet = \"demo\"\nstate = \"{folder}/{id}\"\nrun = \"{folder}/{id}\"\n\
             [listen]\nhttps = [\"127.0.0.1:{port}\"{six}]\nadmin = [\"127.0.0.1:{admin}\"]\n\
             [tls]\ncertificates = [{{ chain = \"{keys}/nodes/tls.pem\", key = \"{keys}/nodes/tls.key\" }}]\n\
             [origin]\nurls = [\"https://127.0.0.1:{origin}\"]\nca = \"{keys}/fleet-ca.pem\"\nroot = \"{keys}/root.json\"\n\
             token = \"{keys}/nodes/{id}.token\"\n\
             [limits]\ndrain = \"2s\"\n\
             [functions]\nslots = 128\ncompile = {{ cache = \"{folder}/cache\", key = \"{folder}/compile.key\" }}\n\
             [log]\naccess = \"stdout\"\n\
             [debug]\nheaders = true\n",
            origin = self.origin_port,
        )
    }

    /// Starts `eyot <verb>` under the configuration `text`, and waits until it says that it is ready, as a service does.
    async fn start(&self, name: &str, verb: &str, text: &str) -> anyhow::Result<Process> {
        let config = self.folder().join(format!("{name}.toml"));
        fs::write(&config, text)?;
        let notify = self.folder().join(format!("{name}.notify"));
        let told = UnixDatagram::bind(&notify).with_context(|| notify.display().to_string())?;
        let log = self.logs().join(format!("{name}.log"));
        let file = fs::File::create(&log)?;
        let child = Command::new(std::env::current_exe()?)
            .arg(verb)
            .arg("--config")
            .arg(&config)
            .env("NOTIFY_SOCKET", &notify)
            .env_remove("LISTEN_FDS")
            .env_remove("WATCHDOG_USEC")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut process = Process { name: name.to_owned(), child, log };
        tokio::select! {
            ready = timeout(READY_WAIT, ready(&told)) => match ready {
                Ok(ready) => ready?,
                Err(_) => bail!("{name} is not ready after {} s:\n{}", READY_WAIT.as_secs(), process.tail()),
            },
            status = process.child.wait() => return Err(process.gone(&status?)),
        }
        Ok(process)
    }

    /// Waits until every node answers `path` with `release`.
    pub(crate) async fn wait_for(&mut self, path: &str, release: &str) -> anyhow::Result<()> {
        let ca = self.ca()?;
        let until = Instant::now() + ANSWER_WAIT;
        for node in self.nodes.clone() {
            loop {
                let answer = ask::ask(&node, &ca, Protocol::H2, path).await;
                if matches!(&answer, Ok((facts, _)) if facts.release.as_deref() == Some(release)) {
                    break;
                }
                self.check()?;
                if Instant::now() > until {
                    let last = match answer {
                        Ok((facts, _)) => format!("{} of release {:?}", facts.status, facts.release),
                        Err(error) => format!("{error:#}"),
                    };
                    let process = self.processes.iter().find(|process| process.name == node.id);
                    let log = process.map(Process::tail).unwrap_or_default();
                    bail!("{} does not answer with {release}; the last answer: {last}\n{log}", node.id);
                }
                sleep(AGAIN).await;
            }
        }
        Ok(())
    }

    /// Fails if a process has ended.
    fn check(&mut self) -> anyhow::Result<()> {
        for process in &mut self.processes {
            if let Some(status) = process.child.try_wait()? {
                return Err(process.gone(&status));
            }
        }
        Ok(())
    }

    /// Waits until a process ends that should not; why.
    pub(crate) async fn broken(&mut self) -> anyhow::Error {
        loop {
            if let Err(error) = self.check() {
                return error;
            }
            sleep(AGAIN).await;
        }
    }

    /// Ends all processes, the nodes first, and removes the folder.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        for process in &mut self.processes {
            process.terminate();
        }
        for process in &mut self.processes {
            if timeout(END_WAIT, process.child.wait()).await.is_err() {
                let _ = process.child.kill().await;
            }
        }
        self.folder.close().context("removing the demo's folder")
    }
}

impl Process {
    fn terminate(&self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
    }

    fn gone(&self, status: &ExitStatus) -> anyhow::Error {
        anyhow!("{} ended with {status}:\n{}", self.name, self.tail())
    }

    /// The end of its log.
    fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n")
    }
}

/// Waits for `READY=1` (sd_notify).
async fn ready(socket: &UnixDatagram) -> anyhow::Result<()> {
    let mut message = [0; 4096];
    loop {
        let count = socket.recv(&mut message).await?;
        let message = String::from_utf8_lossy(message.get(..count).unwrap_or_default());
        if message.lines().any(|line| line == "READY=1") {
            return Ok(());
        }
    }
}
