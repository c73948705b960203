//! Who did what: `audit.jsonl`, one synced line each, and the newest of them in memory for those who ask. Only what a
//! proven key asked for is written, so a stranger cannot fill the disk.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use eyot_link::status::AuditRecord;

/// Records kept in memory.
const RECENT_MAX: usize = 1000;
/// The file is moved to `audit.1.jsonl` when it is larger than this, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// How much of its end is read at the start, in bytes.
const TAIL_BYTES: u64 = 1 << 20;
/// A record's words are cut to this, in bytes.
const DETAIL_BYTES_MAX: usize = 500;

/// The audit. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Audit(Arc<Mutex<Open>>);

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    file_bytes_max: u64,
    recent: VecDeque<AuditRecord>,
}

impl Audit {
    /// Opens the file, or makes it. A last line that was cut off is ended and passed over.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::open_within(path, FILE_BYTES_MAX)
    }

    /// The same, with files of at most so many bytes.
    fn open_within(path: &Path, file_bytes_max: u64) -> io::Result<Self> {
        let mut file = append(path)?;
        let length = file.metadata()?.len();
        let from = length.saturating_sub(TAIL_BYTES);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        io::Read::by_ref(&mut file).take(TAIL_BYTES).read_to_end(&mut tail)?;
        if tail.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n")?;
        }
        let lines = tail.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        let mut recent: VecDeque<AuditRecord> = lines.collect();
        recent.drain(..recent.len().saturating_sub(RECENT_MAX));
        Ok(Self(Arc::new(Mutex::new(Open { path: path.to_owned(), file, file_bytes_max, recent }))))
    }

    /// Writes a record. A disk that is full does not stop what was done; the log says so.
    pub(crate) async fn write(&self, mut record: AuditRecord) {
        if record.detail.len() > DETAIL_BYTES_MAX {
            let end = (0..=DETAIL_BYTES_MAX).rev().find(|at| record.detail.is_char_boundary(*at)).unwrap_or(0);
            record.detail.truncate(end);
        }
        let open = Arc::clone(&self.0);
        let written =
            tokio::task::spawn_blocking(move || open.lock().unwrap_or_else(PoisonError::into_inner).write(record));
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the audit cannot be written: make room on the disk"),
            Err(error) => tracing::error!(%error, "the audit was not written"),
        }
    }

    /// The newest records that `keep` lets through, newest last.
    pub(crate) fn recent(&self, keep: impl Fn(&AuditRecord) -> bool) -> Vec<AuditRecord> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.recent.iter().filter(|record| keep(record)).cloned().collect()
    }
}

impl Open {
    fn write(&mut self, record: AuditRecord) -> io::Result<()> {
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(record);
        if self.file.metadata()?.len() + line.len() as u64 > self.file_bytes_max {
            std::fs::rename(&self.path, self.path.with_extension("1.jsonl"))?;
            self.file = append(&self.path)?;
        }
        self.file.write_all(&line)?;
        self.file.sync_data()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(action: &str) -> AuditRecord {
        AuditRecord {
            time: jiff::Timestamp::UNIX_EPOCH,
            who: "key".to_owned(),
            action: action.to_owned(),
            app: None,
            result: "done".to_owned(),
            detail: "é".repeat(DETAIL_BYTES_MAX),
        }
    }

    #[tokio::test]
    async fn a_full_file_is_moved_aside_and_no_third_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        let one = serde_json::to_vec(&record("0")).expect("a record").len() as u64;
        // The record's words are cut: a line is shorter than this.
        let audit = Audit::open_within(&path, 2 * one).expect("a file");
        for number in 0..20 {
            audit.write(record(&format!("{number:04}"))).await;
            for file in std::fs::read_dir(folder.path()).expect("the folder") {
                assert!(file.expect("a file").metadata().expect("its size").len() <= 2 * one);
            }
        }
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .expect("the folder")
            .map(|file| file.expect("a file").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        assert_eq!(names, ["audit.1.jsonl", "audit.jsonl"]);
        let kept = names.iter().map(|name| std::fs::read_to_string(folder.path().join(name)).expect("lines"));
        let kept: Vec<AuditRecord> =
            kept.collect::<String>().lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        assert_eq!(kept.last().map(|record| record.action.as_str()), Some("0019"));
        assert!(kept.len() > 2 && kept.len() < 20, "{}", kept.len());
        assert!(kept.iter().all(|record| record.detail.len() == DETAIL_BYTES_MAX), "cut, and at a character");
        assert_eq!(audit.recent(|_| true).len(), 20, "those in memory are others");
    }

    #[tokio::test]
    async fn the_newest_thousand_records_are_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        let short = |number: usize| AuditRecord { detail: String::new(), ..record(&number.to_string()) };
        let lines = (0..1_001).map(|number| serde_json::to_string(&short(number)).expect("a record") + "\n");
        std::fs::write(&path, lines.collect::<String>()).expect("the file");
        let audit = Audit::open(&path).expect("the file");
        let ends = || {
            let recent = audit.recent(|_| true);
            (recent.len(), recent[0].action.clone(), recent[recent.len() - 1].action.clone())
        };
        assert_eq!(ends(), (1_000, "1".to_owned(), "1000".to_owned()));
        audit.write(short(1_001)).await;
        assert_eq!(ends(), (1_000, "2".to_owned(), "1001".to_owned()));
    }

    #[tokio::test]
    async fn records_outlive_the_process_and_a_line_that_was_cut_off_costs_only_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        Audit::open(&path).expect("a file").write(record("one")).await;
        std::fs::OpenOptions::new().append(true).open(&path).expect("the file").write_all(b"{\"ti").expect("half");
        let audit = Audit::open(&path).expect("the file");
        audit.write(record("two")).await;
        for audit in [audit, Audit::open(&path).expect("the file")] {
            let actions: Vec<_> = audit.recent(|_| true).into_iter().map(|record| record.action).collect();
            assert_eq!(actions, ["one", "two"]);
        }
    }
}
