//! Loading an artefact: the one place where bytes become code.
#![allow(unsafe_code)] // Machine code cannot be checked, only be known: see the note below.

use std::path::Path;

use wasmtime::Engine;
use wasmtime::component::Component;

/// Maps an artefact whose MAC was checked, or that the compiler wrote just now.
pub(crate) fn component(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file was written by `compile` on this node: it is the output that its caller gave to the compiler and has
    // kept to itself since, or its MAC, under a key that never leaves the node, was checked just now by `artefacts::open`;
    // its folder is writable by this process alone, and files there are replaced by rename,
    // never changed in place.
    unsafe { Component::deserialize_file(engine, path) }
}
