//! The runtime: from a call to its response. What it holds ends with its last clone.

use std::path::Path;
use std::sync::{Arc, Weak};

use eyot_bundle::digest::Digest;
use eyot_bundle::release::Limits;
use eyot_plan::body::Body;
use eyot_plan::fault::{Code as FaultCode, Fault};
use http::Response;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::account::Account;
use crate::answer::AbortOnDrop;
use crate::artefacts::Artefacts;
use crate::call::{Call, Meter};
use crate::charged::{Charged, Held, Slot};
use crate::code::{Code, Codes};
use crate::doors::{Closed, Doors};
use crate::engine::{self, Engines};
use crate::flow::{self, Kind};
use crate::guest;
use crate::kept::Kept;
use crate::settings::{Error, Settings};
use crate::slots::Slots;
use crate::state::Visit;
use crate::threads::{Place, Threads, Turn};
use crate::tick::Ticker;
use crate::world::World;

/// What a function may spend to be instantiated once when it is staged, in microseconds of CPU.
const PROBE_CPU_US: u64 = 1_000_000;

/// Runs functions. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

/// A runtime that does not live on because of this: for what its own guests hold.
#[derive(Clone)]
pub struct WeakRuntime(Weak<Inner>);

impl WeakRuntime {
    /// The runtime, if it is not ending.
    pub fn upgrade(&self) -> Option<Runtime> {
        self.0.upgrade().map(Runtime)
    }
}

struct Inner {
    codes: Codes,
    slots: Arc<Slots>,
    /// What the pool of WASI 0.3 has room for, beside a slot.
    slots_0_3: Arc<Semaphore>,
    /// Where guests run; absent: where they are called.
    threads: Option<Threads>,
    /// Instances that wait for another call, where there are no threads.
    kept: Arc<Kept>,
    memory_bytes_max: u64,
    ticker: Ticker,
}

impl Runtime {
    /// A runtime with guest threads of its own.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let threads = Threads::start(settings.threads)?;
        Self::build(settings, Some(threads))
    }

    /// A runtime whose guests run on the runtime that calls them: what the benchmark compares guest threads with. A guest
    /// that computes then delays whatever else that runtime does.
    pub fn inline(settings: Settings) -> Result<Self, Error> {
        Self::build(settings, None)
    }

    fn build(settings: Settings, threads: Option<Threads>) -> Result<Self, Error> {
        let engines = Engines::new(&settings)?;
        let slots = Arc::new(Slots::new(settings.slots, settings.queued_max, settings.queue_wait_ms));
        let artefacts = Artefacts::new(settings.artefacts, &settings.key)?;
        let (ticked, gauge) = (engines.clone(), Arc::clone(&slots));
        let ticker = Ticker::start(move || ticked.tick(), move || gauge.is_busy())?;
        Ok(Self(Arc::new(Inner {
            codes: Codes::new(engines, artefacts, settings.code_bytes_max)?,
            slots,
            slots_0_3: Arc::new(Semaphore::new(engine::SLOTS_0_3_MAX)),
            kept: Kept::new(1),
            threads,
            memory_bytes_max: settings.memory_bytes_max,
            ticker,
        })))
    }

    /// Runs a call. It has to be awaited on a tokio runtime, where its fetches then run. Dropping the future or the
    /// response's body ends the guest.
    pub async fn call(&self, call: Call) -> Result<Response<Body>, Fault> {
        let limits = self.limits(&call);
        if let Some(bytes) = call.request.body().size_hint().exact().filter(|bytes| *bytes > limits.body_bytes) {
            return Err(Fault::new(FaultCode::RequestTooLarge).over("body_bytes", limits.body_bytes, bytes));
        }
        let inside = match call.depth {
            0 => call.doors.share.enter().await?,
            depth => call.doors.share.enter_below(depth).await?,
        };
        let code = self.0.codes.get(call.function.code).await.map_err(|error| {
            tracing::error!(id = call.request_id, app = %call.function.app, function = %call.function.name, %error, "no code");
            Fault::new(FaultCode::NotReady).because(error)
        })?;
        let slot = self.slot(call.depth, code.world()).await?;
        let io = Handle::current();
        let account = Account::new(limits, Arc::clone(&call.doors.share), call.meter);
        let account = Arc::new(account.within(call.tree, call.depth));
        let (parts, body) = call.request.into_parts();
        let method = parts.method.clone();
        let body = flow::open(body, &io, &account, Kind::Request).await;
        let request = http::Request::from_parts(parts, body);
        let Place { handle, turn, kept } = self.place(call.function.code);
        let (function, doors, request_id) = (call.function, call.doors, call.request_id);
        let share = Arc::clone(&doors.share);
        let visit =
            Visit { account: Arc::clone(&account), function: Some(Arc::clone(&function)), request_id, doors, io };
        let guest = async move {
            let requests = function.reuse.requests;
            let live = if requests > 1 { kept.take(&function) } else { None };
            if let Some(live) = guest::run(code, live, visit, request, requests).await {
                kept.keep(live, &function, &share);
            }
        };
        let (caller, answer) = oneshot::channel();
        let held = Held { _witness: call.witness, _share: inside, _slot: slot };
        let charged = Charged::new(guest, Arc::clone(&account), method, caller, turn, held);
        let guest = AbortOnDrop::new(handle.spawn(charged).abort_handle());
        match answer.await {
            Ok(delivery) => delivery.map(|response| response.map(|body| body.hold(guest).boxed_unsync())),
            Err(_) => Err(account.failed().unwrap_or(FaultCode::NotReady.into())),
        }
    }

    /// Loads a function's code and instantiates it once, so that what cannot run is found before it is asked to.
    pub async fn warm(&self, wasm: Digest) -> Result<(), Error> {
        let code = self.0.codes.get(wasm).await?;
        self.start(code, wasm).await
    }

    /// The same with an artefact of this component that is not kept yet: the file that the compiler wrote just now. What
    /// fails here need never be found by a call.
    pub async fn probe(&self, wasm: Digest, artefact: &Path) -> Result<(), Error> {
        let code = self.0.codes.try_out(artefact.to_owned()).await?;
        self.start(code, wasm).await
    }

    /// A slot; while it is held, guests are interrupted.
    async fn slot(&self, depth: u8, world: World) -> Result<Slot, Fault> {
        let slot = self.0.slots.take(depth).await?;
        let of_0_3 = match world {
            World::V02 => None,
            World::V03 => {
                let none = |_| Fault::new(FaultCode::Overloaded).because("too many calls of WASI 0.3 at once");
                Some(Arc::clone(&self.0.slots_0_3).try_acquire_owned().map_err(none)?)
            }
        };
        self.0.ticker.wake();
        Ok(Slot { _of_0_3: of_0_3, _slot: slot })
    }

    async fn start(&self, code: Arc<Code>, wasm: Digest) -> Result<(), Error> {
        let slot = self.slot(0, code.world()).await.map_err(Error::Probe)?;
        let limits = Limits { cpu_us: PROBE_CPU_US, memory_bytes: self.0.memory_bytes_max, ..Limits::default() };
        let doors = Doors::closed();
        let account = Arc::new(Account::new(limits, Arc::new(Closed), Arc::<Meter>::default()));
        let (io, request_id) = (Handle::current(), String::new());
        let visit = Visit { account: Arc::clone(&account), function: None, request_id, doors, io };
        let guest = guest::probe(code, visit);
        let (caller, answer) = oneshot::channel();
        let Place { handle, turn, .. } = self.place(wasm);
        let held = Held { _witness: Box::new(()), _share: Box::new(()), _slot: slot };
        let charged = Charged::new(guest, Arc::clone(&account), http::Method::GET, caller, turn, held);
        let guest = AbortOnDrop::new(handle.spawn(charged).abort_handle());
        let answered = answer.await;
        drop(guest);
        match (account.ended(), answered) {
            (Some(Ok(())), _) => Ok(()),
            (Some(Err(fault)), _) | (None, Ok(Err(fault))) => Err(Error::Probe(fault)),
            (None, _) => Err(Error::Probe(FaultCode::NotReady.into())),
        }
    }

    /// The same, for whom it may not outlive.
    pub fn downgrade(&self) -> WeakRuntime {
        WeakRuntime(Arc::downgrade(&self.0))
    }

    /// The artefacts it loads from.
    pub fn artefacts(&self) -> &Artefacts {
        self.0.codes.artefacts()
    }

    /// Resolves when no call runs: all is spent, and every witness knows. Calls that come meanwhile wait for it.
    pub async fn idle(&self) {
        self.0.slots.idle().await;
    }

    /// Slots that are free for calls from outside.
    pub fn slots_free(&self) -> usize {
        self.0.slots.free()
    }

    /// Calls that wait for a slot.
    pub fn queued(&self) -> usize {
        self.0.slots.queued()
    }

    /// Instances that wait for another call of their function.
    pub fn kept(&self) -> usize {
        self.0.kept.count() + self.0.threads.as_ref().map_or(0, Threads::kept)
    }

    /// Compiled code that is loaded, in bytes.
    pub fn code_bytes(&self) -> u64 {
        self.0.codes.bytes()
    }

    /// What a call may spend: its function's limits, what its tree has left, and what this node has at all.
    fn limits(&self, call: &Call) -> Limits {
        let mut limits = call.function.limits;
        limits.memory_bytes = limits.memory_bytes.min(self.0.memory_bytes_max);
        if let Some(remaining) = call.tree.as_ref().map(|tree| tree.remaining()) {
            limits.cpu_us = limits.cpu_us.min(remaining.cpu_us);
            limits.subrequests = limits.subrequests.min(remaining.subrequests);
        }
        limits
    }

    fn place(&self, code: Digest) -> Place {
        match &self.0.threads {
            Some(threads) => threads.pick(code),
            None => Place { handle: Handle::current(), turn: Turn::here(), kept: Arc::clone(&self.0.kept) },
        }
    }
}
