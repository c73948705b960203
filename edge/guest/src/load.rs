//! Loading an artefact: the one place where bytes become code.
#![allow(unsafe_code)] // Machine code cannot be checked, only be known: see the note below.

use std::path::Path;

use wasmtime::component::Component;

use crate::engine::Engines;
use crate::world::World;

/// Maps an artefact whose MAC was checked, or that the compiler wrote just now. It belongs to one engine; the other
/// refuses it.
pub(crate) fn component(engines: &Engines, path: &Path) -> wasmtime::Result<(World, Component)> {
    let load = |world| {
        // SAFETY: the file was written by `compile` on this node: it is the output that its caller gave to the compiler
        // and has kept to itself since, or its MAC, under a key that never leaves the node, was checked just now by
        // `artefacts::open`; its folder is writable by this process alone, and files there are replaced by rename,
        // never changed in place.
        unsafe { Component::deserialize_file(engines.of(world), path) }.map(|component| (world, component))
    };
    load(World::V02).or_else(|_| load(World::V03))
}
