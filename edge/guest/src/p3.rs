//! A call of a handler of WASI 0.3: a task that gives its response and may go on, beside those it starts. The call has
//! ended when none of them runs any more and the body is out.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use http::{Request, Response};
use wasmtime::component::Accessor;
use wasmtime::{Store, format_err};
use wasmtime_wasi_http::p3;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use crate::account::Account;
use crate::blame;
use crate::flow::Flow;
use crate::pipe::Pump;
use crate::state::State;

/// Turns in which nothing happens before a body is known to be left behind: what moves it may need one to notice.
const TURNS: usize = 3;

/// Calls it, to the end of its tasks and of its body.
pub(crate) async fn call(
    service: &Service,
    store: &mut Store<State>,
    request: Request<Flow>,
    account: &Arc<Account>,
) -> wasmtime::Result<()> {
    let left = AtomicBool::new(false);
    let mut serving = pin!(store.run_concurrent(async |accessor| {
        let body = answer(service, accessor, request, account).await?;
        go_on(accessor, body, &left).await;
        Ok(())
    }));
    let (mut turns, mut at_once) = (0, false);
    std::future::poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(done.and_then(|called| called)),
        Poll::Pending if left.swap(false, Ordering::Relaxed) && !account.has_flows() => {
            turns += 1;
            if turns > TURNS {
                return Poll::Ready(Err(format_err!("it left its body unfinished")));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => {
            turns = 0;
            // A task that has just answered writes its body in its next turn: the head waits for that.
            if !at_once && account.has_answered() {
                at_once = true;
                account.gave_way();
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }
    })
    .await
}

/// Gives it the request, waits for its response, and gives that to the account; what is left is to pump its body.
async fn answer(
    service: &Service,
    accessor: &Accessor<State>,
    request: Request<Flow>,
    account: &Arc<Account>,
) -> wasmtime::Result<Option<Pump>> {
    let request = accessor.with(|mut access| p3::Request::from_http(access.data_mut().http().hooks, request).0);
    let response = match service.handle(accessor, request).await? {
        Ok(response) => accessor.with(|mut access| response.into_http(&mut access, async { Ok(()) }))?,
        Err(code) => {
            account.answer(Err(blame::answered(&code)));
            return Ok(None);
        }
    };
    let (parts, body): (_, WasiBody) = response.into_parts();
    let (pump, body) = Pump::new(body);
    account.answer(Ok(Response::from_parts(parts, body)));
    Ok(Some(pump))
}

/// Goes on until all tasks have ended and the body is out. `left`: the tasks have, and the body has not, at which it waits
/// for nobody but them.
async fn go_on(accessor: &Accessor<State>, pump: Option<Pump>, left: &AtomicBool) {
    let waits = AtomicBool::new(false);
    let mut pumping = pin!(async {
        if let Some(pump) = pump {
            pump.run(&waits).await;
        }
    });
    let mut is_out = false;
    std::future::poll_fn(|cx| {
        is_out = is_out || pumping.as_mut().poll(cx).is_ready();
        if accessor.poll_no_interesting_tasks(cx).is_pending() {
            return Poll::Pending;
        }
        left.store(!is_out && waits.load(Ordering::Relaxed), Ordering::Relaxed);
        if is_out { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
