//! One guest: its store, its instance, its call. All of it lives and ends on one thread.

use std::sync::Arc;

use eyot_plan::fault::Fault;
use http::Request;
use tokio::runtime::Handle;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::account::Account;
use crate::blame;
use crate::call::Function;
use crate::clock;
use crate::code::Code;
use crate::doors::{Doors, LogStream};
use crate::egress::Egress;
use crate::flow::Flow;
use crate::host::{Host, Hosts, View};
use crate::room::Room;
use crate::stdio::Said;

/// What a guest may give to one host call, in bytes.
const HOSTCALL_BYTES_MAX: usize = 4 << 20;
/// Handles of a guest, and resources behind them.
const HANDLES_MAX: usize = 4096;
/// Random bytes at once.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// What a store holds.
pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    egress: Egress,
    host: Host,
    room: Room,
}

impl State {
    /// The state of a call of `function`; of none: only to instantiate.
    pub(crate) fn new(
        account: &Arc<Account>,
        function: Option<Arc<Function>>,
        request_id: String,
        doors: &Doors,
        io: Handle,
    ) -> Self {
        let said = Said::new(Arc::clone(&doors.log));
        let wasi = WasiCtx::builder()
            .envs(function.as_ref().map_or(&[], |function| &function.env))
            .stdout(said.stream(LogStream::Stdout))
            .stderr(said.stream(LogStream::Stderr))
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
        let host = Host::new(account, function, request_id, doors, said, io.clone());
        let egress = Egress { account: Arc::clone(account), fetch: Arc::clone(&doors.fetch), io };
        Self { wasi, http, table, egress, host, room: Room::new(Arc::clone(account)) }
    }
}

impl State {
    /// Breaks off every body that the guest began and did not finish: what is left of one when its store goes would end
    /// it as if it were whole. Of a response and of a request it sent alike.
    fn break_off(&mut self) {
        for left in self.table.iter_mut() {
            if let Some(body) = left.downcast_mut::<HostOutgoingBody>() {
                let (other, _) = HostOutgoingBody::new(StreamContext::Response, None, 1, 1);
                std::mem::replace(body, other).abort();
            }
        }
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

/// A store under the account's limits.
fn store(code: &Code, state: State, account: &Arc<Account>) -> Store<State> {
    let mut store = Store::new(code.pre.engine(), state);
    store.limiter(|state| &mut state.room);
    store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
    store.set_max_component_handles(HANDLES_MAX);
    store.set_epoch_deadline(1);
    let account = Arc::clone(account);
    store.epoch_deadline_callback(move |_| {
        if let Some(fault) = account.spent_under_way() {
            account.cut(fault);
            return Ok(UpdateDeadline::Interrupt);
        }
        account.gave_way();
        // The plain `Yield` would be scheduled before all others.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store
}

/// Runs a call to its end, which the account knows before the store goes.
pub(crate) async fn run(code: Arc<Code>, state: State, request: Request<Flow>, account: Arc<Account>) {
    let mut store = store(&code, state, &account);
    let how = match call(&code, &mut store, request, &account).await {
        Ok(()) => Ok(()),
        Err(error) => blame::ended(&error, &account),
    };
    store.data_mut().break_off();
    let late = || account.is_cut().or_else(|| account.spent_under_way());
    account.end(how.and_then(|()| late().map_or(Ok(()), Err)));
    drop(store);
}

async fn call(
    code: &Code,
    store: &mut Store<State>,
    request: Request<Flow>,
    account: &Arc<Account>,
) -> wasmtime::Result<()> {
    let scheme = match request.uri().scheme_str() {
        Some("http") => Scheme::Http,
        _ => Scheme::Https,
    };
    let answering = Arc::clone(account);
    let request = store.data_mut().http().new_incoming_request(scheme, request)?;
    let out = store.data_mut().http().new_response_outparam_from_callback(move |answer| answering.answer(answer))?;
    let proxy = code.pre.instantiate_async(&mut *store).await?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}

/// Instantiates, and no more.
pub(crate) async fn probe(code: Arc<Code>, state: State, account: Arc<Account>) {
    let mut store = store(&code, state, &account);
    let how: Result<(), Fault> = match code.pre.instantiate_async(&mut store).await {
        Ok(_) => Ok(()),
        Err(error) => blame::ended(&error, &account),
    };
    account.end(how);
    drop(store);
}
