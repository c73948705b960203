//! Compiling components outside the serving process: what a compiler is given is hostile, and it may take seconds and
//! gigabytes. Each compiler is a child of its own under limits of memory, time and files, without an environment, a
//! key, or a way to open anything; it gets the component as its input and gives the artefact as its output.

pub mod child;

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use eyot_bundle::refusal::{Reason, Refusal};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

/// What a compiler may say about its failure, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;
/// A compiler that in this time
const STILL: Duration = Duration::from_secs(60);
/// uses less CPU than this hangs, and is killed: how long it takes is a matter of what else the machine does.
const PACE: Duration = Duration::from_millis(100);
/// The unit of times in `/proc`, which is the same on all of Linux.
const TICK: Duration = Duration::from_millis(10);

/// How components are compiled.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program whose hidden verb `compile` is [`child::run`]: this one.
    pub program: PathBuf,
    /// Compilers at once.
    pub processes: usize,
    /// Address space of one, in bytes.
    pub memory_bytes: u64,
    /// CPU time of one, in milliseconds.
    pub cpu_ms: u64,
    /// Threads of one.
    pub threads: usize,
    /// The file of functions that were compiled before; none: all are compiled.
    pub known: Option<PathBuf>,
}

/// The compilers of one node.
#[derive(Debug)]
pub struct Compilers {
    options: Options,
    places: Semaphore,
}

impl Compilers {
    /// Compilers as `options` say.
    pub fn new(options: Options) -> Self {
        let places = Semaphore::new(options.processes.max(1));
        Self { options, places }
    }

    /// Compiles the component in the file `wasm` into the new file `out`. Dropped, it kills its compiler.
    ///
    /// # Errors
    /// [`Reason::CompileFailed`] with what the compiler said; [`Reason::DiskFull`] if `out` cannot be made.
    pub async fn compile(&self, wasm: &Path, out: &Path) -> Result<(), Refusal> {
        let failed = |text: String| Refusal::new(Reason::CompileFailed, text);
        let _place = self.places.acquire().await.map_err(|error| failed(error.to_string()))?;
        let input = File::open(wasm).map_err(|error| failed(format!("{}: {error}", wasm.display())))?;
        let output =
            make(out).map_err(|error| Refusal::new(Reason::DiskFull, format!("{}: {error}", out.display())))?;
        let mut child = self.spawn(input, output).map_err(|error| failed(self.no_program(&error)))?;
        let process = child.id();
        let ended = tokio::select! {
            ended = watch(&mut child) => Some(ended),
            () = stands_still(process) => None,
        };
        if let Some(ended) = ended {
            return ended.map_err(failed);
        }
        let _ = child.kill().await;
        Err(failed(format!("it hung: less than {} ms of CPU in {} s", PACE.as_millis(), STILL.as_secs())))
    }

    fn spawn(&self, input: File, output: File) -> io::Result<Child> {
        let options = &self.options;
        let known = options.known.iter().flat_map(|file| [OsStr::new("--known"), file.as_os_str()]);
        // As a rule one thread: the other cores go on serving.
        Command::new(&options.program)
            .arg("compile")
            .args(["--memory-bytes", &options.memory_bytes.to_string()])
            .args(["--cpu-ms", &options.cpu_ms.to_string()])
            .args(known)
            .env_clear()
            .env("RAYON_NUM_THREADS", options.threads.to_string())
            .current_dir("/")
            .stdin(input)
            .stdout(output)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }

    fn no_program(&self, error: &io::Error) -> String {
        format!("the compiler {} does not start: {error}", self.options.program.display())
    }
}

/// Waits until the process does nothing any more. What it may use in all, the kernel counts (`child::Limits`).
async fn stands_still(process: Option<u32>) {
    let mut before = Duration::ZERO;
    loop {
        tokio::time::sleep(STILL).await;
        let spent = process.and_then(spent).unwrap_or(before);
        if spent < before + PACE {
            return;
        }
        before = spent;
    }
}

/// The CPU time of a process so far.
fn spent(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After its name, which may hold anything: state and ten more, then the times in user and in system (proc(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?);
    Some(TICK * user.saturating_add(system))
}

/// An empty file that only its owner may read.
fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Waits for a compiler's end; what it complained about if that was not a good one.
async fn watch(child: &mut Child) -> Result<(), String> {
    let mut complaint = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = (&mut stderr).take(COMPLAINT_BYTES_MAX).read_to_end(&mut complaint).await;
        // The rest is read and dropped, so that a compiler that complains at length still ends.
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let complaint: String = String::from_utf8_lossy(&complaint).chars().filter(|char| !char.is_control()).collect();
    Err(if complaint.is_empty() { format!("the compiler ended with {status}") } else { complaint })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use futures_util::FutureExt as _;

    use super::*;

    /// Compilers that are the shell script `body`.
    fn compilers(folder: &Path, body: &str) -> Compilers {
        let program = folder.join("compiler");
        std::fs::write(&program, format!("#!/bin/sh\n{body}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
        Compilers::new(Options { program, processes: 1, memory_bytes: 1 << 30, cpu_ms: 10, threads: 1, known: None })
    }

    async fn compile(body: &str) -> (Result<(), Refusal>, Vec<u8>) {
        let folder = tempfile::tempdir().expect("a folder");
        let (wasm, out) = (folder.path().join("wasm"), folder.path().join("out"));
        std::fs::write(&wasm, b"component").expect("written");
        let result = compilers(folder.path(), body).compile(&wasm, &out).await;
        (result, std::fs::read(out).unwrap_or_default())
    }

    #[tokio::test]
    async fn a_compiler_gets_the_component_and_gives_the_artefact() {
        assert_eq!(compile("cat").await, (Ok(()), b"component".to_vec()));
    }

    #[tokio::test]
    async fn a_compiler_has_an_empty_environment_and_says_its_limits() {
        let (result, out) = compile("echo $# $1 $2 $3 $4 $5; pwd; /usr/bin/env | /usr/bin/cut -d= -f1").await;
        assert_eq!(result, Ok(()));
        let out = String::from_utf8(out).expect("text");
        let mut lines = out.lines();
        assert_eq!(lines.next(), Some("5 compile --memory-bytes 1073741824 --cpu-ms 10"));
        assert_eq!(lines.next(), Some("/"));
        let shells_own = ["PWD", "OLDPWD", "_", "SHLVL"];
        assert_eq!(lines.filter(|name| !shells_own.contains(name)).collect::<Vec<_>>(), ["RAYON_NUM_THREADS"]);
    }

    #[tokio::test]
    async fn a_compiler_is_told_its_threads_and_what_is_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let compilers = compilers(folder.path(), "echo $RAYON_NUM_THREADS $*");
        let options = Options { threads: 3, known: Some("/a/file".into()), ..compilers.options };
        let out = folder.path().join("out");
        Compilers::new(options).compile(Path::new("/dev/null"), &out).await.expect("it ends well");
        let told = std::fs::read_to_string(out).expect("text");
        assert_eq!(told, "3 compile --memory-bytes 1073741824 --cpu-ms 10 --known /a/file\n");
    }

    #[tokio::test]
    async fn a_compiler_that_fails_is_heard_and_bounded() {
        for (body, expect) in [
            ("echo too hard >&2; exit 1", "too hard"),
            ("kill -9 $$", "signal: 9"),
            ("exit 3", "exit status: 3"),
            ("/usr/bin/head -c 300000 /dev/zero | /usr/bin/tr '\\0' x >&2; exit 1", "xxxx"),
        ] {
            let (result, _) = compile(body).await;
            let refusal = result.expect_err(body);
            assert_eq!(refusal.reason, Reason::CompileFailed);
            assert!(
                refusal.detail.contains(expect) && refusal.detail.len() <= 5000,
                "{body}: {}",
                refusal.detail.len()
            );
        }
    }

    #[tokio::test]
    async fn no_more_compilers_run_at_once_than_may_and_one_that_is_given_up_makes_room() {
        for processes in [1, 2] {
            let folder = tempfile::tempdir().expect("a folder");
            let compilers = compilers(folder.path(), "exec /bin/sleep 1000");
            let compilers = Compilers::new(Options { processes, ..compilers.options });
            let outs = [folder.path().join("one"), folder.path().join("two")];
            let mut one = Box::pin(compilers.compile(Path::new("/dev/null"), &outs[0]));
            let mut two = Box::pin(compilers.compile(Path::new("/dev/null"), &outs[1]));
            // The place of its output is made before a compiler starts.
            assert!(one.as_mut().now_or_never().is_none() && outs[0].exists());
            assert!(two.as_mut().now_or_never().is_none());
            assert_eq!(outs[1].exists(), processes == 2, "{processes} at once");
            drop(one);
            assert!(two.as_mut().now_or_never().is_none() && outs[1].exists());
        }
    }

    #[tokio::test]
    async fn a_compiler_that_is_not_there_is_a_refusal() {
        let options = Options {
            program: "/nonexistent".into(),
            processes: 1,
            memory_bytes: 1,
            cpu_ms: 1,
            threads: 1,
            known: None,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let result = Compilers::new(options).compile(Path::new("/dev/null"), &folder.path().join("out")).await;
        assert_eq!(result.expect_err("none").reason, Reason::CompileFailed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_compiler_that_hangs_is_killed() {
        let (result, _) = compile("exec /bin/sleep 1000").await;
        assert!(result.expect_err("it hangs").detail.contains("it hung"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_compiler_that_works_is_left_alone_however_slow_the_machine_is() {
        let mut busy =
            Command::new("/bin/sh").args(["-c", "while :; do :; done"]).kill_on_drop(true).spawn().expect("sh");
        let (id, still) = (busy.id().expect("it runs"), stands_still(busy.id()));
        let mut still = std::pin::pin!(still);
        let mut before = Duration::ZERO;
        for _ in 0..3 {
            // No clock of the test's goes on while it works.
            while spent(id).expect("it runs") < before + PACE {
                std::thread::yield_now();
            }
            assert!(still.as_mut().now_or_never().is_none());
            before = spent(id).expect("it runs");
            tokio::time::advance(STILL).await;
            assert!(still.as_mut().now_or_never().is_none(), "it works");
        }
        busy.kill().await.expect("killed");
        still.await;
    }
}
