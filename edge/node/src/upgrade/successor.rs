//! The process that is to take over, as a child of this one.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Blocking;
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::take::VARIABLE;

/// What a service manager tells one process and not its child.
const NOT_INHERITED: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID"];

/// It is ended with this, unless it was let go.
#[derive(Debug)]
pub(crate) struct Successor {
    child: Option<Child>,
    /// The line once more: as long as this is there, the new process sees that the old one is.
    _line: Blocking,
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It fails for a process that has ended.
            let _ = child.start_kill();
        }
    }
}

impl Successor {
    /// Starts the program by the name this one was started by: its file may be another one now. With the line to it.
    pub(super) fn start() -> io::Result<(Self, UnixStream)> {
        let (here, there) = Blocking::pair()?;
        let mut arguments = std::env::args_os();
        let program = arguments.next().ok_or_else(|| io::Error::other("this process has no name"))?;
        let mut command = Command::new(&program);
        command.args(arguments).stdin(Stdio::from(OwnedFd::from(there))).env(VARIABLE, "1");
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        let child = command
            .spawn()
            .map_err(|error| io::Error::other(format!("{} cannot be started: {error}", program.display())))?;
        here.set_nonblocking(true)?;
        Ok((Self { child: Some(child), _line: here.try_clone()? }, UnixStream::from_std(here)?))
    }

    /// Its number while it has not been waited for.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// It lives on without this process. Should it fail while this one still drains, `fell` is told.
    pub(super) fn let_go(mut self, fell: Arc<Notify>) {
        let Some(child) = self.child.take() else { return };
        // It is nobody's to wait for but the service manager's, which inherits it from this process and sees how it ended.
        let child = ManuallyDrop::new(child);
        tokio::spawn(async move {
            match failed(&child).await {
                Ok(true) => fell.notify_one(),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "whether the new process lives is not known"),
            }
        });
    }

    /// Asks it to drain and end.
    pub(super) fn terminate(&self) {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It fails for a process that has ended.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.start_kill();
        }
    }

    /// Waits until it has ended: then nothing is its own any more.
    pub(crate) async fn ended(&mut self) {
        if let Some(child) = &mut self.child
            && let Err(error) = child.wait().await
        {
            tracing::error!(%error, "the new process cannot be waited for");
        }
    }
}

/// Waits until a child has ended, and leaves it as it is; whether it ended badly.
async fn failed(child: &Child) -> io::Result<bool> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let mut children = signal(SignalKind::child())?;
    loop {
        let seen = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)?;
        if let Some(status) = seen {
            return Ok(status.exit_status() != Some(0));
        }
        children.recv().await.ok_or_else(|| io::Error::other("no signals arrive any more"))?;
    }
}
