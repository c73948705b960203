//! One guest: its store, its instance, its calls. All of it lives on one thread, and ends there.

use std::sync::Arc;

use eyot_plan::fault::Fault;
use http::Request;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p3::bindings::Service;

use crate::account::Account;
use crate::blame;
use crate::code::{Code, Pre};
use crate::flow::Flow;
use crate::state::{HANDLES_MAX, State, Visit};
use crate::{p2, p3};

/// What a guest may give to one host call, in bytes.
const HOSTCALL_BYTES_MAX: usize = 4 << 20;

/// An instance in its store.
pub(crate) struct Live {
    /// Its code, which stays loaded as long.
    code: Arc<Code>,
    store: Store<State>,
    /// Absent: it is not instantiated yet.
    handler: Option<Handler>,
    /// Calls it has served.
    served: u32,
}

/// What a component exports.
enum Handler {
    V02(Proxy),
    V03 {
        service: Service,
        /// Tasks, streams and futures that there were before its first call.
        idle: usize,
    },
}

impl Live {
    /// A store under the account's limits, without an instance.
    fn new(code: Arc<Code>, visit: Visit) -> Self {
        let mut store = Store::new(code.engine(), State::new(visit, code.world()));
        store.limiter(|state| &mut state.room);
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        store.epoch_deadline_callback(|context| {
            let account = context.data().account();
            if let Some(fault) = account.spent_under_way() {
                account.cut(fault);
                return Ok(UpdateDeadline::Interrupt);
            }
            account.gave_way();
            // The plain `Yield` would be scheduled before all others.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store.set_epoch_deadline(1);
        Self { code, store, handler: None, served: 0 }
    }

    /// One that has served, for another call; a new one where there is none, or where its app has no room for it.
    fn of(code: Arc<Code>, kept: Option<Self>, visit: Visit) -> Self {
        let Some(mut live) = kept else { return Self::new(code, visit) };
        if !live.store.data_mut().room.turn_to(&visit.account) {
            drop(live);
            return Self::new(code, visit);
        }
        live.store.data_mut().turn_to(visit);
        live.store.set_epoch_deadline(1);
        live
    }

    async fn start(&mut self) -> wasmtime::Result<()> {
        let store = &mut self.store;
        self.handler = Some(match &self.code.pre {
            Pre::V02(pre) => Handler::V02(pre.instantiate_async(store).await?),
            Pre::V03(pre) => {
                let service = pre.instantiate_async(&mut *store).await?;
                Handler::V03 { service, idle: store.concurrent_state_table_size() }
            }
        });
        Ok(())
    }

    async fn serve(&mut self, request: Request<Flow>, account: &Arc<Account>) -> wasmtime::Result<()> {
        if self.handler.is_none() {
            self.start().await?;
        }
        self.served += 1;
        match &self.handler {
            Some(Handler::V02(proxy)) => p2::call(proxy, &mut self.store, request, account).await,
            Some(Handler::V03 { service, .. }) => p3::call(service, &mut self.store, request, account).await,
            None => Ok(()),
        }
    }

    /// Whether it may serve another call: of so many in all, and only if nothing of this one is left.
    fn may_go_on(&mut self, requests: u32) -> bool {
        let is_idle = match self.handler {
            Some(Handler::V03 { idle, .. }) => self.store.concurrent_state_table_size() == idle,
            _ => true,
        };
        self.served < requests && is_idle && self.store.data_mut().is_clean()
    }
}

/// Runs a call to its end, which the account knows before the store goes; in `kept` if there is one. Gives back what may
/// serve another one: of at most `requests` in all, after a good end.
pub(crate) async fn run(
    code: Arc<Code>,
    kept: Option<Live>,
    visit: Visit,
    request: Request<Flow>,
    requests: u32,
) -> Option<Live> {
    let account = Arc::clone(&visit.account);
    let mut live = Live::of(code, kept, visit);
    let called = live.serve(request, &account).await;
    let returned = called.is_ok();
    let how = called.or_else(|error| blame::ended(&error, &account));
    live.store.data_mut().break_off();
    let late = || account.is_cut().or_else(|| account.spent_under_way());
    let how = how.and_then(|()| late().map_or(Ok(()), Err));
    let goes_on = requests > 1 && returned && how.is_ok() && live.may_go_on(requests);
    account.end(how);
    if !goes_on {
        drop(live);
        return None;
    }
    live.store.data_mut().rest();
    Some(live)
}

/// Instantiates, and no more.
pub(crate) async fn probe(code: Arc<Code>, visit: Visit) {
    let account = Arc::clone(&visit.account);
    let mut live = Live::new(code, visit);
    let how: Result<(), Fault> = match live.start().await {
        Ok(()) => Ok(()),
        Err(error) => blame::ended(&error, &account),
    };
    account.end(how);
    drop(live);
}
