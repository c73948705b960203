//! The release document: the publisher's signed, immutable statement of what an app is (`docs/formats.md`, section 4).
//!
//! These types are the wire. Parsing alone does not make a release good: [`crate::verify`] checks it against its grant.

pub mod cache;
pub mod policy;
pub mod upstream;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::host::HostPattern;
use crate::name::Name;
use crate::release::upstream::Upstream;

/// The format this build reads and writes.
pub const FORMAT: u32 = 1;
/// A release document larger than this is refused before it is parsed, in bytes.
pub const RELEASE_BYTES_MAX: usize = 1 << 20;

/// A release: `releases/<app>/<number>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The document's format, [`FORMAT`].
    pub format: u32,
    /// The app.
    pub app: Name,
    /// The number, counted up by the publisher from 1.
    pub number: u64,
    /// When it was made, RFC 3339 UTC.
    pub created: jiff::Timestamp,
    /// The releases that control may go back to.
    #[serde(default)]
    pub previous: Vec<u64>,
    /// Nothing below this number may run again.
    #[serde(default)]
    pub min_release: u64,
    /// The hosts of the app; inside the grant.
    pub hosts: Vec<HostPattern>,
    /// The functions by name.
    #[serde(default)]
    pub functions: BTreeMap<Name, Function>,
    /// The upstreams by name.
    #[serde(default)]
    pub upstreams: BTreeMap<Name, Upstream>,
    /// The folders of files by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<Name, Files>,
    /// The stores by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stores: BTreeMap<Name, Store>,
    /// What is called at set times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<Schedule>,
    /// What is called for each message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<Queue>,
    /// The routes, in no particular order: `plan::routes` orders them.
    pub routes: Vec<Route>,
    /// How it is rolled out.
    #[serde(default)]
    pub rollout: Rollout,
}

impl Release {
    /// Every blob that it names: of functions, secrets and files. One may come several times.
    pub fn bundles(&self) -> impl Iterator<Item = Bundle> {
        self.named_bundles().map(|(_, bundle)| bundle)
    }

    /// The same with what each is: "function `cart`".
    pub fn named_bundles(&self) -> impl Iterator<Item = (BundleOf<'_>, Bundle)> {
        let functions = self.functions.iter().map(|(name, function)| (BundleOf::Function(name), function.bundle));
        let secrets = self.functions.values().flat_map(|function| &function.secrets);
        let secrets = secrets.map(|(name, secret)| (BundleOf::Secret(name), secret.sealed));
        let keys = self.upstreams.values().filter_map(|upstream| upstream.tls.as_ref()?.client.as_ref());
        let keys = keys.map(|client| (BundleOf::Secret(&client.secret), client.key.sealed));
        let files = self.files.iter().map(|(name, files)| (BundleOf::Files(name), files.bundle));
        functions.chain(secrets).chain(keys).chain(files)
    }
}

/// What a blob of a release is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleOf<'a> {
    /// A folder of files.
    Files(&'a Name),
    /// A component.
    Function(&'a Name),
    /// A sealed secret.
    Secret(&'a str),
}

impl std::fmt::Display for BundleOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Files(name) => write!(f, "files `{name}`"),
            Self::Function(name) => write!(f, "function `{name}`"),
            Self::Secret(name) => write!(f, "secret `{name}`"),
        }
    }
}

/// One function as a release names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// The component's bytes.
    pub bundle: Bundle,
    /// The world it exports, such as `wasi:http/incoming-handler@0.2`.
    pub world: String,
    /// The interfaces it imports, sorted.
    #[serde(default)]
    pub imports: Vec<String>,
    /// What one call may spend.
    #[serde(default)]
    pub limits: Limits,
    /// The origins it may fetch: `https://api.example`, `https://*.cdn.example:8443`, or `*` for every public one.
    #[serde(default)]
    pub egress: Vec<String>,
    /// Its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What `wasi:config` tells it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Its secrets by the name it asks for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// The stores it may open, by the name it opens: each is one of the release's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stores: BTreeMap<String, Name>,
    /// The functions of this release that it may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Name>,
    /// How often one instance of it is used.
    #[serde(default, skip_serializing_if = "Reuse::is_default")]
    pub reuse: Reuse,
    /// Whether it may purge what the cache keeps of its app.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub purge: bool,
}

/// A secret: sealed to the nodes of the fleet, so that only they can read it (`docs/formats.md`, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// The sealed bytes: an age file.
    pub sealed: Bundle,
    /// Counted up by the publisher with each new value; the sealed text names it too.
    pub version: u64,
}

/// How often one instance of a function is used: by default once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reuse {
    /// Calls that one instance answers, one after another, before it ends.
    pub requests: u32,
    /// How long it waits for the next one, in milliseconds.
    pub idle_ms: u64,
}

impl Default for Reuse {
    fn default() -> Self {
        Self { requests: 1, idle_ms: 1_000 }
    }
}

impl Reuse {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A blob by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The digest of the bytes.
    pub sha256: Digest,
    /// Their count.
    pub size: u64,
}

/// The budget of one call. All that is absent has its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// Wall time to the head of the response, in milliseconds.
    pub wall_ms: u64,
    /// Wall time without a byte in either direction after the head, in milliseconds.
    pub idle_ms: u64,
    /// All linear memories together, in bytes.
    pub memory_bytes: u64,
    /// Outbound requests.
    pub subrequests: u32,
    /// The request's body, in bytes.
    pub body_bytes: u64,
    /// The request's head, and the response's head, in bytes each.
    pub header_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_us: 50_000,
            wall_ms: 10_000,
            idle_ms: 60_000,
            memory_bytes: 128 << 20,
            subrequests: 32,
            body_bytes: 100 << 20,
            header_bytes: 64 << 10,
        }
    }
}

impl Limits {
    /// The smaller of each.
    pub fn min(self, other: Self) -> Self {
        Self {
            cpu_us: self.cpu_us.min(other.cpu_us),
            wall_ms: self.wall_ms.min(other.wall_ms),
            idle_ms: self.idle_ms.min(other.idle_ms),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            subrequests: self.subrequests.min(other.subrequests),
            body_bytes: self.body_bytes.min(other.body_bytes),
            header_bytes: self.header_bytes.min(other.header_bytes),
        }
    }
}

/// A folder of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// All of them: one POSIX tar.
    pub bundle: Bundle,
    /// What answers for a folder: `index.html`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// What answers, with 404, where there is no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_found: Option<String>,
    /// What answers, with 200, where there is no file: the page of an app that routes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

/// A store of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// What keeps it.
    pub engine: Engine,
    /// What its readers may count on.
    #[serde(default)]
    pub consistency: Consistency,
    /// How long a value lives after it was written, in milliseconds; absent: until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The largest value, in bytes.
    #[serde(default = "value_max_bytes")]
    pub value_max_bytes: u64,
    /// The most keys.
    #[serde(default = "keys_max")]
    pub keys_max: u64,
}

/// The default of [`Store::value_max_bytes`].
pub(crate) fn value_max_bytes() -> u64 {
    1 << 20
}

/// The default of [`Store::keys_max`].
pub(crate) fn keys_max() -> u64 {
    100_000
}

/// What keeps a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// NATS JetStream, for the fleet.
    Nats,
    /// Each node by itself.
    Node,
    /// Valkey or Redis, for the fleet.
    Redis,
}

impl Engine {
    /// Its name, as manifests and grants write it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Node => "node",
            Self::Redis => "redis",
        }
    }
}

/// What readers of a store may count on, the weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Sometime, what was written.
    Eventual,
    /// What this node wrote, or what was written later.
    #[default]
    ReadYourWrites,
    /// What was written last, by whomever.
    Linearizable,
}

/// A function that is called at set times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// When: minute, hour, day, month, weekday; or six fields, the first of seconds.
    pub cron: String,
    /// The zone of these times, by its name in the IANA database.
    pub zone: String,
    /// By whom.
    pub run: Run,
    /// What is called.
    pub function: Name,
}

/// By whom a schedule is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Run {
    /// By each node.
    EachNode,
    /// By one node of the fleet.
    #[default]
    Once,
}

/// A function that is called for each message of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// What keeps the messages: [`Engine::Nats`].
    pub engine: Engine,
    /// The subject, within the app's own.
    pub subject: String,
    /// What is called.
    pub function: Name,
    /// Messages that one node handles at once.
    pub concurrency: u32,
    /// How often one is tried in all.
    pub attempts: u32,
    /// The waits between two tries, in milliseconds; the last one goes on.
    pub backoff_ms: Vec<u64>,
    /// Where a message goes that was tried so often in vain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its id, `<host><path>` and the methods when it has some: the metrics' label.
    pub id: String,
    /// The hosts.
    pub host: HostPattern,
    /// The paths.
    pub path: PathPattern,
    /// The methods; none named: all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// What answers.
    pub target: Target,
    /// The functions that are asked before it, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Name>,
    /// What a fault of the target does.
    #[serde(default)]
    pub on_fault: OnFault,
    /// What answers instead when `on_fault` is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Target>,
    /// Whether safe requests may come in TLS early data, and so be replays (RFC 8470).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early_data: bool,
    /// How its answers are kept; absent: those of upstreams as they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<cache::Cache>,
    /// What is asked of requests and done to answers, whoever the target is.
    #[serde(default, skip_serializing_if = "policy::Policy::is_none")]
    pub policy: policy::Policy,
}

/// `"/x"` exactly, `"/x/*"` for `/x` and below, `"/*"` for all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathPattern {
    /// This path only.
    Exact(String),
    /// This path, without its last slash, and all below it: `/x/*` holds `/x`, `/*` holds the empty text.
    Prefix(String),
}

/// Why a text is no path pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no path: write `/x`, `/x/*` or `/*`, without `?`, `#`, `..` or a doubled `/`")]
pub struct PathError(String);

impl std::str::FromStr for PathPattern {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let refuse = || Err(PathError(text.chars().take(80).collect()));
        let (path, prefix) = match text.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (text, false),
        };
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'?' | b'#' | b'\\'));
        let rooted = path.starts_with('/') || (prefix && path.is_empty());
        let dotted = path.split('/').any(|segment| matches!(segment, "." | ".."));
        if !plain || !rooted || dotted || path.contains("//") || text.len() > 1024 {
            return refuse();
        }
        Ok(if prefix { Self::Prefix(path.to_owned()) } else { Self::Exact(path.to_owned()) })
    }
}

impl std::fmt::Display for PathPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{path}/*"),
        }
    }
}

impl Serialize for PathPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PathPattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What answers a route: `{"function":"cart"}`, `{"upstream":"api"}`, `{"files":"site"}`, `{"respond":{…}}` or
/// `{"redirect":{…}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Target {
    /// A folder of files of this release.
    Files(Name),
    /// A function of this release.
    Function(Name),
    /// A redirect.
    Redirect(Redirect),
    /// A fixed response.
    Respond(Respond),
    /// An upstream of this release.
    Upstream(Name),
}

/// A fixed response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// Its fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Its body.
    #[serde(default)]
    pub body: String,
}

/// A redirect. In `to`, `{path}` is the request's path and `{query}` its `?query`, or nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// Where to: an absolute URL, or a path.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// What a fault of the target does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFault {
    /// The client sees the fault.
    #[default]
    Close,
    /// The fallback answers.
    Open,
}

/// How a release is rolled out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// What a cohort is made of: `node`.
    pub unit: RolloutUnit,
    /// What the cohort's hash begins with; `<app>/<number>`.
    pub salt: String,
    /// The steps, at least one.
    pub steps: Vec<Step>,
    /// No bakes, for an emergency.
    pub instant: bool,
}

impl Default for Rollout {
    fn default() -> Self {
        let all = Step { select: "*".to_owned(), percent_bp: 10_000, bake_ms: 0 };
        Self { unit: RolloutUnit::Node, salt: String::new(), steps: vec![all], instant: false }
    }
}

/// What a cohort is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RolloutUnit {
    /// Nodes.
    Node,
}

/// One step of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// `*` for every node (region and label selectors come with geography).
    pub select: String,
    /// The share of the selected nodes, in hundredths of a percent: 0 to 10,000.
    pub percent_bp: u16,
    /// How long it is watched before the next step, in milliseconds.
    pub bake_ms: u64,
}
