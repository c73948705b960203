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

/// Calls of one measurement.
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

async fn call(runtime: &Runtime, function: &Arc<Function>, doors: &Doors, meter: &Arc<Meter>) -> Duration {
    let began = Instant::now();
    let mut request = Request::new(body::empty());
    *request.uri_mut() = http::Uri::from_static("https://app.example/");
    let call = Call {
        function: Arc::clone(function),
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
async fn measure(runtime: &Runtime, function: &Arc<Function>, at_once: usize) -> Row {
    let open = Arc::new(Open);
    let doors = Doors { fetch: open.clone(), log: open.clone(), share: open, ..Doors::closed() };
    let meter = Arc::<Meter>::default();
    let before = process_cpu();
    let calls = stream::iter(0..CALLS).map(|_| call(runtime, function, &doors, &meter)).buffer_unordered(at_once);
    let wall = calls.fold(Duration::ZERO, |sum, wall| async move { sum + wall }).await;
    let process = process_cpu() - before;
    let each = |duration: Duration| duration.as_secs_f64() * 1e6 / CALLS as f64;
    Row { process: each(process), charged: meter.cpu_us() as f64 / CALLS as f64, wall: each(wall) }
}

/// The functions that are measured: guests, and what `EYOT_BENCH` names as `name=file,name=file`.
fn functions() -> Vec<(String, Vec<u8>)> {
    let guests = ["hello", "p3-hello"].map(|name| (name.to_owned(), guests::wasm(name)));
    let given = std::env::var("EYOT_BENCH").unwrap_or_default();
    let given = given.split(',').filter_map(|pair| pair.split_once('='));
    let given = given.map(|(name, file)| (name.to_owned(), std::fs::read(file).expect("a component")));
    guests.into_iter().chain(given).collect()
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
    say(format!("{CALLS} calls, the best of {ROUNDS} rounds, in microseconds a call"));
    say("function      instance  where         at once   process CPU   charged     wall".to_owned());
    let inline = caller.block_on(async { Runtime::inline(settings(1)) }).expect("a runtime");
    let apart = Runtime::new(settings(1)).expect("a runtime");
    for (title, wasm) in functions() {
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
            for (place, runtime) in [("inline", &inline), ("guest thread", &apart)] {
                for at_once in [1, 16] {
                    let mut best = caller.block_on(measure(runtime, &function, at_once));
                    for _ in 1..ROUNDS {
                        let row = caller.block_on(measure(runtime, &function, at_once));
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
