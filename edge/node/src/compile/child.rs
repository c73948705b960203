//! The compiler's own side: it takes its limits upon itself before it reads a byte, then turns standard input into
//! standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eyot_guest::known::{KNOWN_BYTES_MAX, Known};

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
/// else: its limits can only be lowered, never raised again. What the file `known` has is not compiled again, and what was
/// compiled is in it then.
///
/// # Errors
/// What to say on standard error before ending with failure.
pub fn run(limits: Limits, known: Option<&Path>) -> Result<(), ChildError> {
    let files = known.map(Files::open).transpose().map_err(|error| ChildError::System("what is known", error))?;
    confine(limits, if files.is_some() { 5 } else { 3 }).map_err(|error| ChildError::System("limits", error))?;
    let mut wasm = Vec::new();
    let most = eyot_guest::compile::WASM_BYTES_MAX as u64 + 1;
    io::stdin().lock().take(most).read_to_end(&mut wasm).map_err(|error| ChildError::System("input", error))?;
    let known = files.as_ref().map(Files::read).transpose()?;
    let artefact = eyot_guest::compile::compile_with(&wasm, known.clone())?;
    let mut out = io::stdout().lock();
    out.write_all(&artefact).and_then(|()| out.flush()).map_err(|error| ChildError::System("output", error))?;
    match (files, known) {
        (Some(files), Some(known)) => files.keep(&known).map_err(|error| ChildError::System("what is known", error)),
        _ => Ok(()),
    }
}

/// The file of functions that were compiled before, and the one that takes its place. They are opened before the limits are
/// there.
struct Files {
    before: File,
    after: File,
    /// The name of the first.
    name: PathBuf,
    /// The name of the second.
    aside: PathBuf,
}

impl Files {
    fn open(name: &Path) -> io::Result<Self> {
        let mut aside = name.to_owned();
        aside.as_mut_os_string().push(format!(".{}.part", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let before = options.clone().read(true).open(name)?;
        Ok(Self { before, after: options.truncate(true).open(&aside)?, name: name.to_owned(), aside })
    }

    fn read(&self) -> Result<Arc<Known>, ChildError> {
        let mut kept = Vec::new();
        let read = (&self.before).take(KNOWN_BYTES_MAX as u64 + 64).read_to_end(&mut kept);
        read.map_err(|error| ChildError::System("what is known", error))?;
        Ok(Arc::new(Known::new(&kept)?))
    }

    /// Keeps what is known now, whole or not at all.
    fn keep(mut self, known: &Known) -> io::Result<()> {
        let Some(kept) = known.kept(KNOWN_BYTES_MAX) else { return Ok(()) };
        self.after.write_all(&kept)?;
        fs::rename(&self.aside, &self.name)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.aside);
    }
}

/// No more memory and time than given; no file or socket but the first that are open, `files` of them; no core, no new rights;
/// and it dies with its parent. (No `nice`: under the units' system call filter it would kill the process.)
fn confine(limits: Limits, files: u64) -> io::Result<()> {
    let seconds = limits.cpu_ms.div_ceil(1000).max(1);
    for (resource, most) in [
        (Resource::As, limits.memory_bytes),
        (Resource::Cpu, seconds),
        (Resource::Core, 0),
        (Resource::Fsize, 1 << 30),
        (Resource::Nofile, files),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// Set in the process that confines itself: what it then tries.
    const TRIES: &str = "EYOT_TEST_TRIES";
    const LIMITS: Limits = Limits { memory_bytes: 1 << 30, cpu_ms: 900 };

    #[test]
    fn a_confined_process_gets_no_more_memory_time_files_or_output_than_it_may() {
        if let Ok(what) = std::env::var(TRIES) {
            assert!(is_confined(&what), "{what}");
            return;
        }
        let this = "compile::child::tests::a_confined_process_gets_no_more_memory_time_files_or_output_than_it_may";
        let out = tempfile::NamedTempFile::new().expect("a file");
        // What it may do ends with 0; what it may not ends there, or by one of these signals: XCPU or KILL, XFSZ.
        for (what, signals) in [("memory", &[][..]), ("files", &[]), ("time", &[24, 9]), ("output", &[25])] {
            let mut child = Command::new(std::env::current_exe().expect("this test"));
            child.args([this, "--exact", "--nocapture"]).env(TRIES, what).stderr(Stdio::null());
            let status = child.stdout(out.reopen().expect("opened")).status().expect("run");
            match status.signal() {
                None => assert!(status.success() && signals.is_empty(), "{what}: {status}"),
                Some(signal) => assert!(signals.contains(&signal), "{what}: {status}"),
            }
        }
        assert_eq!(out.as_file().metadata().expect("there").len(), 1 << 30, "it wrote up to its limit");
    }

    fn is_confined(what: &str) -> bool {
        let mut out = File::from(io::stdout().as_fd().try_clone_to_owned().expect("another handle"));
        confine(LIMITS, 3).expect("confined");
        match what {
            "memory" => reserves(64 << 20) && !reserves(1 << 30),
            "files" => File::open("/dev/null").is_err_and(|error| error.raw_os_error() == Some(libc::EMFILE)),
            "time" => loop {
                std::hint::spin_loop();
            },
            _ => {
                out.seek(io::SeekFrom::Start((1 << 30) - 1)).expect("a place");
                out.write_all(b"the last byte it may write, and more").is_err()
            }
        }
    }

    fn reserves(bytes: usize) -> bool {
        Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
    }
}
