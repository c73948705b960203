//! `wasi:logging`: messages with a level, which go where the standard streams go and are bounded with them.

use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::Hosts;
use crate::doors::LogLevel;

/// The names that components ask for it by: it had no version at first.
const NAMES: [&str; 2] = ["wasi:logging/logging@0.1.0-draft", "wasi:logging/logging"];

/// The interface's level.
#[derive(Clone, ComponentType, Copy, Debug, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "guests make them")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
            Level::Critical => Self::Critical,
        }
    }
}

pub(super) fn add_to_linker<T: Hosts>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    for name in NAMES {
        linker.instance(name)?.func_wrap("log", |mut store, (level, context, text): (Level, String, String)| {
            store.data_mut().view().host.said.logged(level.into(), &context, &text);
            Ok(())
        })?;
    }
    Ok(())
}
