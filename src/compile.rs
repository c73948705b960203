//! `eyot compile`, hidden: the node's compiler, a process of its own that reads a component and writes an artefact.

use std::path::PathBuf;

use eyot_node::compile::child::{self, Limits};

/// Compile a component on standard input to an artefact on standard output.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// The address space it may use, in bytes.
    #[arg(long)]
    memory_bytes: u64,
    /// The CPU time it may use, in milliseconds.
    #[arg(long)]
    cpu_ms: u64,
    /// The file of functions that were compiled before.
    #[arg(long)]
    known: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let limits = Limits { memory_bytes: args.memory_bytes, cpu_ms: args.cpu_ms };
    Ok(child::run(limits, args.known.as_deref())?)
}
