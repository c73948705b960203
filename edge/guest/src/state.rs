//! What a guest's store holds: what stays with the instance, and what is of one call only and is replaced as a whole when
//! the instance serves another one.

use std::sync::Arc;

use tokio::runtime::Handle;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::account::Account;
use crate::call::Function;
use crate::clock;
use crate::doors::{Doors, LogStream};
use crate::egress::Egress;
use crate::host::{Host, Hosts, View};
use crate::room::Room;
use crate::stdio::{Lines, Said};
use crate::world::World;

/// Handles of a guest, and resources behind them.
pub(crate) const HANDLES_MAX: usize = 4096;
/// Random bytes at once.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Resources that an instance may have left when it is to serve another call: those of its standard streams.
const LEFT_MAX: usize = 16;

/// What is of one call only.
pub(crate) struct Visit {
    pub(crate) account: Arc<Account>,
    /// What is called; none: it is only instantiated.
    pub(crate) function: Option<Arc<Function>>,
    pub(crate) request_id: String,
    pub(crate) doors: Doors,
    /// Where connections live.
    pub(crate) io: Handle,
}

/// What a store holds.
pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    /// Of one call.
    egress: Egress,
    /// Of one call.
    host: Host,
    pub(crate) room: Room,
    /// Its standard streams; where they lead is of one call.
    said: Arc<Said>,
    streams: [Lines; 2],
}

impl State {
    pub(crate) fn new(visit: Visit, world: World) -> Self {
        let Visit { account, function, request_id, doors, io } = visit;
        let said = Said::new(Arc::clone(&doors.log));
        let streams = [said.stream(LogStream::Stdout), said.stream(LogStream::Stderr)];
        let [stdout, stderr] = streams.clone();
        let wasi = WasiCtx::builder()
            .envs(function.as_ref().map_or(&[], |function| &function.env))
            .stdout(stdout)
            .stderr(stderr)
            .wall_clock(clock::Wall)
            .monotonic_clock(clock::Monotonic(account.began))
            .max_random_size(RANDOM_BYTES_MAX)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut http = WasiHttpCtx::new();
        // In memory fields take more than on the wire, where `answer` counts them exactly.
        http.set_field_size_limit(usize::try_from(account.limits.header_bytes).unwrap_or(usize::MAX).saturating_mul(2));
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        let host = Host::new(&account, function, request_id, &doors, Arc::clone(&said), io.clone());
        let egress = Egress { account: Arc::clone(&account), fetch: doors.fetch, io, world };
        Self { wasi, http, table, egress, host, room: Room::new(account), said, streams }
    }

    /// The call that is served.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.egress.account
    }

    /// Serves another call from now on, whose room its memory is: nothing of the last one's is left to the guest but that.
    pub(crate) fn turn_to(&mut self, visit: Visit) {
        let Visit { account, function, request_id, doors, io } = visit;
        self.said.turn_to(Arc::clone(&doors.log));
        self.host = Host::new(&account, function, request_id, &doors, Arc::clone(&self.said), io.clone());
        self.egress = Egress { account, fetch: doors.fetch, io, world: self.egress.world };
    }

    /// Lets go of the doors of the call that has ended: what it said is said, and nothing more is.
    pub(crate) fn rest(&mut self) {
        self.finish();
        let doors = Doors::closed();
        self.said.turn_to(Arc::clone(&doors.log));
        let (account, io) = (Arc::clone(&self.egress.account), self.egress.io.clone());
        self.host = Host::new(&account, None, String::new(), &doors, Arc::clone(&self.said), io);
        self.egress.fetch = doors.fetch;
    }

    /// Says what was written of a line.
    fn finish(&self) {
        for stream in &self.streams {
            stream.finish();
        }
    }

    /// Breaks off every body that the guest began and did not finish: what is left of one when its store goes would end
    /// it as if it were whole. Of a response and of a request it sent alike.
    pub(crate) fn break_off(&mut self) {
        for left in self.table.iter_mut() {
            if let Some(body) = left.downcast_mut::<HostOutgoingBody>() {
                let (other, _) = HostOutgoingBody::new(StreamContext::Response, None, 1, 1);
                std::mem::replace(body, other).abort();
            }
        }
    }

    /// Whether nothing of a call is left that another one could find. Streams without the body they are of are the
    /// standard ones.
    pub(crate) fn is_clean(&mut self) -> bool {
        let mut left = 0;
        let harmless = self.table.iter_mut().all(|entry| {
            left += 1;
            entry.is::<DynOutputStream>() || entry.is::<DynInputStream>() || entry.is::<DynPollable>()
        });
        harmless && left <= LEFT_MAX
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.egress, table: &mut self.table, ctx: &mut self.http }
    }
}

impl Hosts for State {
    fn view(&mut self) -> View<'_> {
        View { host: &mut self.host, table: &mut self.table, memory_bytes_left: self.room.left_bytes() }
    }
}
