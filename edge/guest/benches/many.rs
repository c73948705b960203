//! Many functions on one node: what they take of memory when traffic to them follows Zipf's law, each loaded when it is
//! first called and let go by bytes; and what the first call of one takes. `cargo bench -p eyot-guest --bench many`;
//! `EYOT_FUNCTIONS=10000` says how many. The figures stand in `docs/benchmarks.md`.

#[path = "../../../tests/guests/make.rs"]
mod guests;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eyot_bundle::digest::Digest;
use eyot_bundle::release::{Limits, Reuse};
use eyot_guest::{Call, Doors, Function, Meter, Runtime, Settings, compile};
use eyot_plan::body;
use http::Request;
use http_body_util::BodyExt;

/// Calls for each function.
const CALLS_EACH: usize = 10;
/// Code kept loaded, in bytes: a node's default.
const CODE_BYTES_MAX: u64 = 512 << 20;

/// A line of `/proc/self/status`, in MiB.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("this process");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line of this name");
    let kib: u64 = line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number");
    kib / 1024
}

/// The same sequence each time (SplitMix64), from 0 to 1.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((word ^ (word >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// How far along all traffic each function ends: the n-th gets one n-th of what the first gets.
fn zipf(count: usize) -> Vec<f64> {
    let weights = (1..=count).map(|rank| 1.0 / rank as f64);
    let all: f64 = weights.clone().sum();
    weights
        .scan(0.0, |sum, weight| {
            *sum += weight / all;
            Some(*sum)
        })
        .collect()
}

async fn call(runtime: &Runtime, function: &Arc<Function>) -> Duration {
    let began = Instant::now();
    let mut request = Request::new(body::empty());
    *request.uri_mut() = http::Uri::from_static("https://app.example/");
    let call = Call {
        function: Arc::clone(function),
        request,
        doors: Doors::closed(),
        meter: Arc::<Meter>::default(),
        request_id: String::new(),
        witness: Box::new(()),
        tree: None,
        depth: 0,
    };
    let response = runtime.call(call).await.expect("an answer");
    response.into_body().collect().await.expect("no fault");
    began.elapsed()
}

fn main() {
    let count = std::env::var("EYOT_FUNCTIONS").map_or(1_000, |count| count.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings {
        slots: 2_048,
        threads: 0,
        memory_bytes_max: 512 << 20,
        code_bytes_max: CODE_BYTES_MAX,
        queued_max: 1_000,
        queue_wait_ms: 10_000,
        artefacts: folder.path().into(),
        key: [7; 32],
    };
    let runtime = Runtime::new(settings).expect("a runtime");
    let artefact = compile::compile(&guests::wasm("hello")).expect("compiled");
    let functions: Vec<_> = (0..count).map(|at| deploy(&runtime, &artefact, at)).collect();
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| writeln!(out, "{line}").expect("standard output");
    say(format!("{count} functions, an artefact of {} KiB each", artefact.len() >> 10));
    say(format!("deployed, none called: {} MiB resident", status("VmRSS:")));
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (zipf, mut state) = (zipf(count), 1);
    let mut seen = vec![false; count];
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..count * CALLS_EACH {
        let at = zipf.partition_point(|end| *end < random(&mut state)).min(count - 1);
        let took = io.block_on(call(&runtime, &functions[at]));
        if std::mem::replace(&mut seen[at], true) {
            warm.push(took)
        } else {
            cold.push(took)
        };
    }
    let (resident, anonymous, file) = (status("VmRSS:"), status("RssAnon:"), status("RssFile:"));
    say(format!(
        "after {} calls of {} of them: {resident} MiB resident, {anonymous} anonymous, {file} of files",
        count * CALLS_EACH,
        cold.len()
    ));
    say(format!("code loaded: {} MiB", runtime.code_bytes() >> 20));
    for (what, mut times) in [("first call, loaded from disk", cold), ("later calls", warm)] {
        times.sort_unstable();
        let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e6;
        say(format!("{what}: {:.0} us at the median, {:.0} at 99 %", at(50), at(99)));
    }
}

/// One more function, with code of its own.
fn deploy(runtime: &Runtime, artefact: &[u8], at: usize) -> Arc<Function> {
    let code = Digest::of(&at.to_le_bytes());
    runtime.artefacts().store(code, artefact).expect("stored");
    Arc::new(Function {
        app: "app".parse().expect("a name"),
        name: "hello".parse().expect("a name"),
        release: 1,
        code,
        limits: Limits::default(),
        env: Vec::new(),
        config: Vec::new(),
        reuse: Reuse::default(),
    })
}
