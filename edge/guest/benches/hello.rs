//! What one call of a small function takes in CPU, with every budget on: a fresh instance, or one that has served others;
//! on guest threads and where it is called. `cargo bench -p eyot-guest`; the figures stand in `docs/benchmarks.md`.

#[path = "../../../tests/guests/make.rs"]
mod guests;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eyot_bundle::digest::Digest;
use eyot_bundle::release::{Limits, Reuse};
use eyot_guest::{
    Call, Doors, Entering, Fetch, FetchTimeouts, Fetching, Function, Limit, Log, LogLevel, LogStream, Meter, Runtime,
    Settings, compile,
};
use eyot_plan::body::{self, Body};
use eyot_plan::fault::Code;
use futures_util::stream::{self, StreamExt};
use http::Request;
use http_body_util::BodyExt;
use rustix::time::{ClockId, clock_gettime};

/// Calls of one measurement, unless `EYOT_BENCH_CALLS` says otherwise.
const CALLS: usize = 10_000;
/// Measurements of one row; the least is given, since what disturbs only ever adds.
const ROUNDS: usize = 3;

/// Doors that lead nowhere and limits that hold nothing back.
struct Open;

impl Fetch for Open {
    fn fetch(&self, _request: Request<Body>, _timeouts: FetchTimeouts) -> Fetching {
        Box::pin(std::future::ready(Err(Code::EgressDenied.into())))
    }
}

impl Log for Open {
    fn line(&self, _stream: LogStream, _text: &str) {}

    fn logged(&self, _level: LogLevel, _context: &str, _text: &str) {}
}

impl Limit for Open {
    fn memory(&self, _bytes: u64) -> bool {
        true
    }

    fn memory_back(&self, _bytes: u64) {}

    fn cpu(&self, _us: u64) -> bool {
        true
    }

    fn enter(&self) -> Entering {
        Box::pin(std::future::ready(Ok(Box::new(()) as Box<dyn Send>)))
    }
}

/// What one call took, in microseconds.
#[derive(Clone, Copy)]
struct Row {
    /// CPU of the whole process: the caller's, the guest's, the ticker's.
    process: f64,
    /// CPU charged to the call.
    charged: f64,
    /// From the call to the whole response.
    wall: f64,
}

fn process_cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The function that is called, and with what.
struct Target {
    function: Arc<Function>,
    uri: http::Uri,
    calls: usize,
}

async fn call(runtime: &Runtime, target: &Target, doors: &Doors, meter: &Arc<Meter>) -> Duration {
    let began = Instant::now();
    let mut request = Request::new(body::empty());
    request.uri_mut().clone_from(&target.uri);
    let call = Call {
        function: Arc::clone(&target.function),
        request,
        doors: doors.clone(),
        meter: Arc::clone(meter),
        request_id: String::new(),
        witness: Box::new(()),
        tree: None,
        depth: 0,
    };
    let response = runtime.call(call).await.expect("an answer");
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.expect("no fault");
    began.elapsed()
}

/// One measurement, with so many calls at once.
async fn measure(runtime: &Runtime, target: &Target, at_once: usize) -> Row {
    let open = Arc::new(Open);
    let doors = Doors { fetch: open.clone(), log: open.clone(), share: open, ..Doors::closed() };
    let meter = Arc::<Meter>::default();
    let before = process_cpu();
    let calls = stream::iter(0..target.calls).map(|_| call(runtime, target, &doors, &meter)).buffer_unordered(at_once);
    let wall = calls.fold(Duration::ZERO, |sum, wall| async move { sum + wall }).await;
    let process = process_cpu() - before;
    let count = target.calls as f64;
    let each = |duration: Duration| duration.as_secs_f64() * 1e6 / count;
    Row { process: each(process), charged: meter.cpu_us() as f64 / count, wall: each(wall) }
}

/// The functions that are measured, each with the path that it is asked for: guests, or what `EYOT_BENCH` names instead as
/// `name=file,name=file:/path`.
fn functions() -> Vec<(String, Vec<u8>, String)> {
    let Ok(given) = std::env::var("EYOT_BENCH") else {
        return ["hello", "p3-hello"].map(|name| (name.to_owned(), guests::wasm(name), "/".to_owned())).into();
    };
    let given = given.split(',').filter_map(|pair| pair.split_once('='));
    let given = given.map(|(name, file)| {
        let (file, path) = file.split_once(':').unwrap_or((file, "/"));
        (name.to_owned(), std::fs::read(file).expect("a component"), path.to_owned())
    });
    given.collect()
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = |threads| Settings {
        slots: 256,
        threads,
        memory_bytes_max: 512 << 20,
        code_bytes_max: 1 << 30,
        queued_max: 1000,
        queue_wait_ms: 10_000,
        artefacts: folder.path().into(),
        key: [7; 32],
    };
    let name = |text: &str| text.parse().expect("a name");
    let caller = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| writeln!(out, "{line}").expect("standard output");
    let calls = std::env::var("EYOT_BENCH_CALLS").map_or(CALLS, |calls| calls.parse().expect("a number"));
    say(format!("{calls} calls, the best of {ROUNDS} rounds, in microseconds a call"));
    say("function      instance  where         at once   process CPU   charged     wall".to_owned());
    let inline = caller.block_on(async { Runtime::inline(settings(1)) }).expect("a runtime");
    let apart = Runtime::new(settings(1)).expect("a runtime");
    for (title, wasm, path) in functions() {
        let code = Digest::of(&wasm);
        inline.artefacts().store(code, &compile::compile(&wasm).expect("compiled")).expect("stored");
        for (kind, requests) in [("fresh", 1), ("reused", 128)] {
            let function = Arc::new(Function {
                app: name("app"),
                name: name("hello"),
                release: 1,
                code,
                limits: Limits::default(),
                env: Vec::new(),
                config: Vec::new(),
                reuse: Reuse { requests, ..Reuse::default() },
            });
            let uri = format!("https://app.example{path}").parse().expect("a path");
            let target = Target { function, uri, calls };
            for (place, runtime) in [("inline", &inline), ("guest thread", &apart)] {
                for at_once in [1, 16] {
                    let mut best = caller.block_on(measure(runtime, &target, at_once));
                    for _ in 1..ROUNDS {
                        let row = caller.block_on(measure(runtime, &target, at_once));
                        best = if row.process < best.process { row } else { best };
                    }
                    let Row { process, charged, wall } = best;
                    let what = format!("{title:<14}{kind:<10}{place:<14}{at_once:>7}");
                    say(format!("{what}   {process:>11.1}   {charged:>7.1}   {wall:>6.1}"));
                }
            }
        }
    }
}
