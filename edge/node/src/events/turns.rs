//! What keeps a time of a schedule from being run twice on this node: a file for each schedule, which says the last time that
//! was begun, and is locked while one is run. So it is known after a restart, and while one process takes over from another;
//! the kernel unlocks what a process leaves behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use eyot_bundle::name::Name;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};

/// What was not touched for so long is of no release any more.
const OLD: Duration = Duration::from_secs(90 * 86_400);
/// A file holds no more, in bytes.
const BYTES_MAX: u64 = 64;

/// The files of all schedules.
#[derive(Clone, Debug)]
pub(super) struct Files(PathBuf);

/// Whether a time may be run.
pub(super) enum May {
    /// It was begun already, or a later one was.
    NotAgain,
    /// An earlier one is still run.
    NotYet,
    /// As long as this lives, nobody else on this node does.
    Run(File),
}

impl Files {
    pub(super) fn new(state: &Path) -> Self {
        Self(state.join("events"))
    }

    /// The last time that was begun here.
    pub(super) async fn last(&self, app: &Name, schedule: &str) -> Option<Timestamp> {
        let path = self.path(app, schedule);
        tokio::task::spawn_blocking(move || read(&mut File::open(path).ok()?)).await.ok().flatten()
    }

    /// Notes that `planned` is begun, if it may be. What is noted is on disk.
    pub(super) async fn begin(&self, app: &Name, schedule: &str, planned: Timestamp) -> io::Result<May> {
        let (folder, path) = (self.0.clone(), self.path(app, schedule));
        let begun = tokio::task::spawn_blocking(move || begin(&folder, &path, planned)).await;
        begun.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Removes the files of schedules that have long been none.
    pub(super) async fn tidy(&self) {
        let folder = self.0.clone();
        let _ = tokio::task::spawn_blocking(move || {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
                if modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > OLD) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        })
        .await;
    }

    fn path(&self, app: &Name, schedule: &str) -> PathBuf {
        self.0.join(format!("{app}.{schedule}"))
    }
}

fn begin(folder: &Path, path: &Path, planned: Timestamp) -> io::Result<May> {
    std::fs::create_dir_all(folder)?;
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(May::NotYet),
        Err(error) => return Err(error.into()),
    }
    if read(&mut file).is_some_and(|last| last >= planned) {
        return Ok(May::NotAgain);
    }
    let text = format!("{planned:.9}\n");
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_data()?;
    Ok(May::Run(file))
}

/// What a file says; none if it says nothing that can be understood.
fn read(file: &mut File) -> Option<Timestamp> {
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_time_is_begun_once_on_a_node_and_none_while_another_is_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let app: Name = "shop".parse().expect("a name");
        let at = |second| Timestamp::from_second(second).expect("a time");
        // Each asks through its own files, as processes do that take over from each other.
        let begin = |schedule: &'static str, planned| {
            let (files, app) = (Files::new(folder.path()), app.clone());
            async move { files.begin(&app, schedule, at(planned)).await.expect("a disk") }
        };
        assert_eq!(Files::new(folder.path()).last(&app, "a").await, None);
        let held = begin("a", 60).await;
        assert!(matches!(held, May::Run(_)));
        assert!(matches!(begin("a", 120).await, May::NotYet));
        assert!(matches!(begin("b", 120).await, May::Run(_)), "another schedule has its own");
        drop(held);
        assert!(matches!(begin("a", 60).await, May::NotAgain));
        assert_eq!(Files::new(folder.path()).last(&app, "a").await, Some(at(60)));
        assert!(matches!(begin("a", 120).await, May::Run(_)));
        assert!(matches!(begin("a", 60).await, May::NotAgain));
        std::fs::write(folder.path().join("events/shop.a"), "torn").expect("a file");
        assert!(matches!(begin("a", 180).await, May::Run(_)), "what cannot be read holds nothing back");
    }
}
