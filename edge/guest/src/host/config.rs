//! `wasi:config`: what the release says to this function, by name.
//!
//! The interface was called `runtime` before it was called `store`, and has had several versions; all of them are the
//! same on the wire.

use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::{Hosts, View};

/// The names that components ask for it by.
const NAMES: [&str; 4] = [
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/store@0.2.0-draft",
    "wasi:config/runtime@0.2.0-draft",
];

/// The interface's error. Nothing here fails.
#[derive(Clone, ComponentType, Debug, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

pub(super) fn add_to_linker<T: Hosts>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    for name in NAMES {
        let mut config = linker.instance(name)?;
        config.func_wrap("get", |mut store, (key,): (String,)| Ok((get(&store.data_mut().view(), &key),)))?;
        config.func_wrap("get-all", |mut store, (): ()| Ok((all(&store.data_mut().view()),)))?;
    }
    Ok(())
}

fn pairs<'a>(view: &'a View<'_>) -> &'a [(String, String)] {
    view.host.function.as_ref().map_or(&[], |function| &function.config)
}

fn get(view: &View<'_>, key: &str) -> Result<Option<String>, Error> {
    Ok(pairs(view).iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()))
}

fn all(view: &View<'_>) -> Result<Vec<(String, String)>, Error> {
    Ok(pairs(view).to_vec())
}
