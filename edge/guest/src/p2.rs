//! A call of a handler of WASI 0.2: a function that is called, and answers while it runs or by its end.

use std::sync::Arc;

use http::Request;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use crate::account::Account;
use crate::blame;
use crate::flow::Flow;
use crate::state::State;

/// Calls it, to its return.
pub(crate) async fn call(
    proxy: &Proxy,
    store: &mut Store<State>,
    request: Request<Flow>,
    account: &Arc<Account>,
) -> wasmtime::Result<()> {
    let scheme = match request.uri().scheme_str() {
        Some("http") => Scheme::Http,
        _ => Scheme::Https,
    };
    let answering = Arc::clone(account);
    let answer = move |answer: Result<_, _>| answering.answer(answer.map_err(|code| blame::answered(&code)));
    let request = store.data_mut().http().new_incoming_request(scheme, request)?;
    let out = store.data_mut().http().new_response_outparam_from_callback(answer)?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}
