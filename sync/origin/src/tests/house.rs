//! What every test here stands on: an operator with keys, two apps with a publisher each, nodes with tokens, and an
//! origin that runs on its own threads, so that it can be ended in the middle of anything.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use eyot_bundle::digest::Digest;
use eyot_bundle::fleet::{Node, Nodes};
use eyot_bundle::grant::{Grant, GrantState, Share};
use eyot_bundle::name::Name;
use eyot_bundle::release::{Bundle, Function, PathPattern, Release, Respond, Rollout, Route, Target};
use eyot_bundle::sign::{self, Delegation, Header, Holders, Key, RootRoles};
use eyot_bundle::trust::TargetFile;
use eyot_bundle::{component, verify};
use eyot_link::client::{Client, Parents, Token};
use eyot_link::wire::{Base64, OperatorUpload, Publish};
use jiff::Timestamp;

use crate::config::Config;
use crate::run::{Bound, Bounds, run_within};

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name of this test")
}

/// The token of a node.
pub(crate) fn token(node: &str) -> String {
    format!("token-of-{node}-0123456789")
}

/// A component that exports the handler, and nothing else; `salt` makes its bytes its own.
pub(crate) fn wasm(salt: &str) -> Bytes {
    component_of(&format!(
        r#"(component (instance $h) (export "wasi:http/incoming-handler@0.2.3" (instance $h)) (@custom "salt" "{salt}"))"#
    ))
}

pub(crate) fn component_of(text: &str) -> Bytes {
    wat::parse_str(text).expect("a component of this test").into()
}

/// Everyone's keys, and the folder of the origin.
pub(crate) struct House {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) operator: Key,
    timestamp: Key,
    snapshot: Key,
    director: Key,
    pub(crate) publishers: BTreeMap<Name, Key>,
    ca_pem: String,
    pub(crate) targets_version: u64,
    /// Where it listens; 0: the system chooses.
    pub(crate) port: u16,
    /// Lines of origin.toml beside the usual.
    pub(crate) more: String,
    /// What the origin keeps within.
    pub(crate) bounds: Bounds,
}

/// A running origin.
pub(crate) struct Origin {
    runtime: Option<tokio::runtime::Runtime>,
    pub(crate) bound: Bound,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    ended: std::sync::mpsc::Receiver<Result<(), crate::Error>>,
}

impl Origin {
    /// Ends it well.
    pub(crate) fn stop(mut self) {
        self.begin_to_stop();
        self.await_end();
    }

    /// Tells it to end.
    pub(crate) fn begin_to_stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// Whether it has not ended.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self.ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty))
    }

    /// Waits until it has ended well.
    pub(crate) fn await_end(&self) {
        self.ended.recv_timeout(Duration::from_secs(60)).expect("the origin ends").expect("and ends well");
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Everything it was doing stops where it stands.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(30));
        }
    }
}

fn key() -> Key {
    Key::generate().expect("randomness")
}

/// Another handle to a key.
pub(crate) fn copy(key: &Key) -> Key {
    Key::from_pem(&key.to_pem().expect("PEM")).expect("the key")
}

pub(crate) fn header(version: u64) -> Header {
    Header { version, expires: Timestamp::now() + Duration::from_secs(30 * 86_400) }
}

impl House {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let house = Self {
            operator: key(),
            timestamp: key(),
            snapshot: key(),
            director: key(),
            publishers: ["shop", "blog"].map(|app| (name(app), key())).into(),
            ca_pem: certificate(folder.path(), "127.0.0.1"),
            targets_version: 0,
            port: 0,
            more: String::new(),
            bounds: Bounds::default(),
            folder,
        };
        house.write_keys();
        house.file("root.json", &house.root(1));
        house
    }

    fn write_keys(&self) {
        for (file, key) in [("timestamp", &self.timestamp), ("snapshot", &self.snapshot), ("director", &self.director)]
        {
            self.file(&format!("{file}.key"), key.to_pem().expect("PEM").as_bytes());
        }
    }

    /// The origin's `timestamp` and `snapshot` keys are replaced.
    pub(crate) fn new_online_keys(&mut self) {
        (self.timestamp, self.snapshot) = (key(), key());
        self.write_keys();
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name), bytes).expect("a file");
    }

    pub(crate) fn root(&self, version: u64) -> Vec<u8> {
        let one = |key: &Key| Holders::one(key.public());
        let roles = RootRoles {
            root: one(&self.operator),
            snapshot: one(&self.snapshot),
            targets: one(&self.operator),
            timestamp: one(&self.timestamp),
        };
        sign::root(header(version), &roles, &[&self.operator]).expect("a root")
    }

    pub(crate) fn grant(hosts: &[&str]) -> Grant {
        Grant {
            state: GrantState::Active,
            hosts: hosts.iter().map(|host| host.parse().expect("a host")).collect(),
            limits: Default::default(),
            share: Share::default(),
            egress_private: Vec::new(),
            stores: eyot_bundle::grant::own_engine(),
            placement: "*".to_owned(),
            keys: Default::default(),
        }
    }

    pub(crate) fn delegations(&self) -> Vec<Delegation> {
        let app = |app: &str, hosts: &[&str]| {
            Delegation::app(&name(app), Holders::one(self.publishers[app].public()), Self::grant(hosts))
        };
        vec![
            Delegation::fleet(Holders::one(self.operator.public())),
            Delegation::director(Holders::one(self.director.public())),
            app("shop", &["shop.example.com", "*.shop.example.com"]),
            app("blog", &["blog.example.com"]),
        ]
    }

    pub(crate) fn nodes() -> Nodes {
        let node = |node: &str| Node {
            region: "eu-fra".to_owned(),
            token_sha256: Digest::of(token(node).as_bytes()),
            labels: BTreeMap::new(),
            identity: None,
            shield: None,
            revoked: false,
        };
        Nodes { nodes: ["fra-1", "fra-2"].map(|id| (name(id), node(id))).into() }
    }

    /// What the operator uploads, in its next version.
    pub(crate) fn upload(&mut self, delegations: &[Delegation], nodes: &Nodes) -> OperatorUpload {
        self.targets_version += 1;
        let version = self.targets_version;
        let targets = sign::targets(header(version), delegations, &[&self.operator]).expect("targets");
        let nodes = sign::document(nodes).expect("a document");
        let file = TargetFile::new("fleet/nodes.json", &nodes);
        let fleet = sign::delegated(header(version), &[file], &[&self.operator]).expect("fleet");
        OperatorUpload {
            metadata: [("targets.json".to_owned(), Base64(targets)), ("fleet.json".to_owned(), Base64(fleet))].into(),
            targets: [("fleet/nodes.json".to_owned(), Base64(nodes))].into(),
        }
    }

    pub(crate) fn config(&self) -> Config {
        let at = |file: &str| self.folder.path().join(file).display().to_string();
        let source = format!(
            r#"
[origin]
listen = ["127.0.0.1:{}"]
admin = ["127.0.0.1:0"]
state = "{}"
fleet = "test"
root = "{}"
[tls]
chain = "{}"
key = "{}"
[keys]
timestamp = "{}"
snapshot = "{}"
director = "{}"
{}"#,
            self.port,
            at("state"),
            at("root.json"),
            at("chain.pem"),
            at("tls.key"),
            at("timestamp.key"),
            at("snapshot.key"),
            at("director.key"),
            self.more
        );
        Config::parse("origin.toml", &source).expect("a good configuration")
    }

    /// Starts the origin, or tells why it does not start.
    pub(crate) fn try_start(&self) -> Result<Origin, crate::Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (config, bounds) = (self.config(), self.bounds.clone());
        runtime.spawn(async move {
            let tell = ready.clone();
            let stopped = async { stopped.await.unwrap_or(()) };
            let result =
                run_within(bounds, config, move |bound| tell.send(bound).expect("the test waits"), stopped).await;
            drop(ready);
            let _ = end.send(result);
        });
        match is_ready.recv_timeout(Duration::from_secs(60)) {
            Ok(bound) => Ok(Origin { runtime: Some(runtime), bound, stop: Some(stop), ended }),
            Err(_) => Err(ended.recv_timeout(Duration::from_secs(60)).expect("an end").expect_err("it did not start")),
        }
    }

    pub(crate) fn start(&self) -> Origin {
        self.try_start().expect("the origin starts")
    }

    /// Starts the origin, and uploads what the operator signed.
    pub(crate) fn start_granted(&mut self) -> Origin {
        let origin = self.start();
        let upload = self.upload(&self.delegations(), &Self::nodes());
        block_on(self.operator_client(&origin).upload(&upload)).expect("the first upload");
        origin
    }

    pub(crate) fn client(&self, origin: &Origin, token: Option<&str>, signer: Option<&Key>) -> Client {
        let address: SocketAddr = origin.bound.wire[0];
        Client::new(Parents {
            urls: vec![format!("https://{address}")],
            ca_pem: self.ca_pem.clone().into_bytes(),
            token: token.map(|token| Token::new(token).expect("a token")),
            signer: signer.map(copy),
        })
        .expect("a client")
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub(crate) fn node(&self, origin: &Origin, id: &str) -> Client {
        self.client(origin, Some(&token(id)), None)
    }

    pub(crate) fn publisher(&self, origin: &Origin, app: &str) -> Client {
        self.client(origin, None, Some(&self.publishers[app]))
    }

    pub(crate) fn operator_client(&self, origin: &Origin) -> Client {
        self.client(origin, None, Some(&self.operator))
    }

    /// The publish of a release, whose role is of version `number` and lists it and its `previous`.
    pub(crate) fn publish(&self, release: &Release, earlier: &[&Release]) -> Publish {
        let key = &self.publishers[&release.app];
        let bytes = sign::document(release).expect("a document");
        let files: Vec<TargetFile> = earlier.iter().chain([&release]).map(|release| file(release)).collect();
        let role = sign::delegated(header(release.number), &files, &[key]).expect("a role");
        Publish { role: Base64(role), release: Base64(bytes) }
    }
}

/// A release as its role lists it.
pub(crate) fn file(release: &Release) -> TargetFile {
    let path = format!("releases/{}/{}.json", release.app, release.number);
    TargetFile::new(path, &sign::document(release).expect("a document"))
}

/// A release with one route to a fixed response.
pub(crate) fn release(app: &str, number: u64, previous: &[u64]) -> Release {
    let host = format!("{app}.example.com").parse().expect("a host");
    let path = PathPattern::Prefix(String::new());
    let respond = Respond { status: 204, headers: BTreeMap::new(), body: String::new() };
    let route = Route {
        id: verify::route_id(&host, &path, &[]),
        host: host.clone(),
        path,
        methods: Vec::new(),
        target: Target::Respond(respond),
        before: Vec::new(),
        on_fault: Default::default(),
        fallback: None,
        early_data: false,
        cache: None,
        policy: Default::default(),
    };
    Release {
        format: 1,
        app: name(app),
        number,
        created: Timestamp::UNIX_EPOCH,
        previous: previous.to_vec(),
        min_release: 0,
        hosts: vec![host],
        functions: BTreeMap::new(),
        upstreams: BTreeMap::new(),
        files: Default::default(),
        stores: Default::default(),
        schedules: Vec::new(),
        queues: Vec::new(),
        routes: vec![route],
        rollout: Rollout::default(),
    }
}

/// The same with a function.
pub(crate) fn with_function(mut release: Release, wasm: &Bytes) -> Release {
    let (world, imports) = match component::inspect(wasm) {
        Ok(facts) => (facts.world, facts.imports),
        Err(_) => (component::WORLD.to_owned(), Vec::new()),
    };
    let function = Function {
        bundle: Bundle { sha256: Digest::of(wasm), size: wasm.len() as u64 },
        world,
        imports,
        limits: Default::default(),
        egress: Vec::new(),
        env: BTreeMap::new(),
        config: Default::default(),
        secrets: Default::default(),
        stores: Default::default(),
        calls: Vec::new(),
        reuse: Default::default(),
        purge: false,
    };
    release.functions.insert(name("cart"), function);
    release.routes[0].target = Target::Function(name("cart"));
    release
}

/// A certificate for `first` and loopback, signed by itself, and its PEM.
pub(crate) fn certificate(folder: &Path, first: &str) -> String {
    let names = [first, "127.0.0.1", "localhost"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let pem = made.cert.pem();
    std::fs::write(folder.join("chain.pem"), &pem).expect("a file");
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).expect("a file");
    pem
}

/// Runs a client's call. A call that hangs fails the test.
pub(crate) fn block_on<T>(call: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), call).await.expect("the call ends") })
    })
}
