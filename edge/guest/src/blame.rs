//! What went wrong, in the words of the error contract: traps and refusals of guests to faults, faults to what a guest is
//! told.

use std::fmt::Debug;

use eyot_plan::fault::{Code, Fault};
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::{Error as WasiError, FieldMapError};

use crate::account::Account;

/// The cause in the log is cut here, in bytes: it holds names from the guest.
const CAUSE_BYTES_MAX: usize = 4 << 10;

/// How a guest that did not return ended.
pub(crate) fn ended(error: &wasmtime::Error, account: &Account) -> Result<(), Fault> {
    let exit = error.downcast_ref::<I32Exit>();
    if exit.is_some_and(|exit| exit.0 == 0) {
        return Ok(());
    }
    if let Some(fault) = account.is_cut().or_else(|| account.blamed()) {
        return Err(fault);
    }
    let limits = &account.limits;
    Err(match (error.downcast_ref::<Trap>(), error.downcast_ref::<FieldMapError>()) {
        (Some(Trap::Interrupt | Trap::OutOfFuel), _) => {
            let used_us = account.limits.cpu_us.max(account.meter.cpu_us());
            Fault::new(Code::CpuBudgetExceeded).over("cpu_us", limits.cpu_us, used_us)
        }
        (_, Some(FieldMapError::TooManyFields | FieldMapError::TotalSizeTooBig)) => {
            Fault::new(Code::ResponseTooLarge).over("header_bytes", limits.header_bytes, limits.header_bytes + 1)
        }
        _ if error.is::<PoolConcurrencyLimitError>() => {
            tracing::error!(%error, "the pool is smaller than its semaphore");
            Fault::new(Code::Overloaded).because(error)
        }
        _ => Fault::new(Code::FunctionTrapped).because(cause(error)),
    })
}

/// The cause of a trap, for the log.
fn cause(error: &wasmtime::Error) -> String {
    cut(format!("{error:#}"))
}

/// An error that a guest gave instead of a response, for the log.
pub(crate) fn answered(code: &impl Debug) -> String {
    cut(format!("{code:?}"))
}

fn cut(mut text: String) -> String {
    if text.len() > CAUSE_BYTES_MAX {
        let cut = (0..=CAUSE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
    }
    text
}

/// What a guest is told of a fault of what it asked for. It holds no addresses and no causes.
pub(crate) fn wasi_error(fault: &Fault) -> WasiError {
    match fault.code {
        Code::EgressDenied => WasiError::DestinationIpProhibited,
        Code::Forbidden => WasiError::HttpRequestDenied,
        Code::LoopDetected => WasiError::LoopDetected,
        Code::NoHealthyUpstream => WasiError::DestinationUnavailable,
        Code::RequestTooLarge => WasiError::HttpRequestBodySize(None),
        Code::SubrequestsExceeded => WasiError::ConnectionLimitReached,
        Code::UpstreamBadResponse => WasiError::HttpProtocolError,
        Code::UpstreamTimeout => WasiError::HttpResponseTimeout,
        Code::UpstreamTls => WasiError::TlsProtocolError,
        Code::UpstreamUnreachable => WasiError::ConnectionRefused,
        Code::BadRequest | Code::ClientTimeout => WasiError::ConnectionTerminated,
        _ => WasiError::InternalError(None),
    }
}
