//! The compiler's own side: it takes its limits upon itself before it reads a byte, then turns standard input into
//! standard output.

use std::io::{self, Read as _, Write as _};

use rustix::process::{Resource, Rlimit, setrlimit};

/// What a compiler may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Address space, in bytes.
    pub memory_bytes: u64,
    /// CPU time, in milliseconds.
    pub cpu_ms: u64,
}

/// Why there is no artefact.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It does not compile.
    #[error(transparent)]
    Compile(#[from] eyot_guest::Error),
    /// The limits could not be set, or input or output failed.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// Compiles the component on standard input, and writes the artefact to standard output. For a process that does nothing
/// else: its limits can only be lowered, never raised again.
///
/// # Errors
/// What to say on standard error before ending with failure.
pub fn run(limits: Limits) -> Result<(), ChildError> {
    confine(limits).map_err(|error| ChildError::System("limits", error))?;
    let mut wasm = Vec::new();
    let most = eyot_guest::compile::WASM_BYTES_MAX as u64 + 1;
    io::stdin().lock().take(most).read_to_end(&mut wasm).map_err(|error| ChildError::System("input", error))?;
    let artefact = eyot_guest::compile::compile(&wasm)?;
    let mut out = io::stdout().lock();
    out.write_all(&artefact).and_then(|()| out.flush()).map_err(|error| ChildError::System("output", error))
}

/// No more memory and time than given; no file or socket but the three that are open; no core, no new rights; and it dies
/// with its parent. (No `nice`: under the units' system call filter it would kill the process.)
fn confine(limits: Limits) -> io::Result<()> {
    let seconds = limits.cpu_ms.div_ceil(1000).max(1);
    for (resource, most) in [
        (Resource::As, limits.memory_bytes),
        (Resource::Cpu, seconds),
        (Resource::Core, 0),
        (Resource::Fsize, 1 << 30),
        (Resource::Nofile, 3),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}
