//! The folder of the tier: whose it is, and where in it which file stands.
//!
//! ```text
//! lock                 held by the process that has the tier
//! owner                the layout, the epoch of the last opening, and the first epoch whose files still count
//! objects/xx/<serial>  the files, in 256 folders; a serial is never used twice: 24 bits of epoch, 40 that count
//! gone-*               what another layout left, to be removed
//! ```

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, ResolveFlags};

const LAYOUT: &str = "eyot disk tier 1";
/// The bits of a serial below its epoch.
pub(crate) const EPOCH_SHIFT: u32 = 40;
const FOLDERS: u64 = 256;

/// The file is held while this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Which files count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// That of all that is written from now on.
    pub(crate) now: u64,
    /// Files of earlier ones than this are of what was cleared.
    pub(crate) floor: u64,
}

#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    objects: OwnedFd,
}

impl Folder {
    /// Takes the folder, which is made if it is not there, and begins an epoch in it.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Lock, Epoch)> {
        fs::create_dir_all(path)?;
        let place = path.join("lock");
        if !place.exists() {
            File::create(&place)?;
        }
        // Not open for writing: that would keep the file system from being made read-only.
        let lock = File::open(place)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => io::Error::new(io::ErrorKind::ResourceBusy, "another process has it"),
            other => other.into(),
        })?;
        let epoch = begin(path)?;
        for number in 0..FOLDERS {
            let folder = path.join(format!("objects/{number:02x}"));
            if !folder.is_dir() {
                fs::create_dir_all(folder)?;
            }
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let objects = rustix::fs::open(path.join("objects"), flags, Mode::empty())?;
        Ok((Self { path: path.to_path_buf(), objects }, Lock { _file: lock }, epoch))
    }

    /// Says durably which files count.
    pub(crate) fn write_owner(&self, epoch: Epoch) -> io::Result<()> {
        write_owner(&self.path, epoch)
    }

    pub(crate) fn create(&self, serial: u64) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(&self.objects, name(serial), flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    pub(crate) fn open_file(&self, serial: u64, access: Access) -> io::Result<File> {
        let access = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(rustix::fs::openat(&self.objects, name(serial), flags, Mode::empty())?.into())
    }

    /// Opens a file to read if that needs no disk; an error if it does, or if it cannot be told.
    pub(crate) fn open_at_once(&self, serial: u64) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let resolve = ResolveFlags::CACHED;
        Ok(rustix::fs::openat2(&self.objects, name(serial), flags, Mode::empty(), resolve)?.into())
    }

    /// A file that is not there is fine.
    pub(crate) fn unlink(&self, serial: u64) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.objects, name(serial), AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The serials of all files there are, in no order. What is no file of the tier is removed.
    pub(crate) fn list(&self, go_on: impl Fn() -> bool) -> Vec<u64> {
        let mut serials = Vec::new();
        for number in 0..FOLDERS {
            let Ok(entries) = fs::read_dir(self.path.join(format!("objects/{number:02x}"))) else { continue };
            for entry in entries.flatten() {
                if !go_on() {
                    return serials;
                }
                let parsed = entry.file_name().to_str().and_then(serial_of).filter(|it| it % FOLDERS == number);
                match parsed {
                    Some(serial) => serials.push(serial),
                    None => drop(fs::remove_file(entry.path())),
                }
            }
        }
        serials
    }

    /// Removes what was set aside.
    pub(crate) fn sweep(&self, go_on: impl Fn() -> bool) {
        let aside = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for folder in aside.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"gone-")) {
            let below = fs::read_dir(folder.path()).into_iter().flatten().flatten();
            for file in below.filter_map(|shard| fs::read_dir(shard.path()).ok()).flatten().flatten() {
                if !go_on() {
                    return;
                }
                let _ = fs::remove_file(file.path());
            }
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    Read,
    Write,
}

fn name(serial: u64) -> String {
    format!("{:02x}/{serial:016x}", serial % FOLDERS)
}

fn serial_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name, 16).ok().filter(|serial| format!("{serial:016x}") == name)
}

/// Begins an epoch. What another layout left is moved out of the way; what is of somebody else is left alone.
fn begin(path: &Path) -> io::Result<Epoch> {
    let said = match fs::read(path.join("owner")) {
        Ok(said) => parse_owner(&said),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.join("objects").exists() => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(io::Error::other("it holds `objects` that are not of a cache"));
        }
        Err(error) => return Err(error),
    };
    if said.is_none() {
        set_aside(path)?;
    }
    let Epoch { now, floor } = said.unwrap_or(Epoch { now: 0, floor: 0 });
    let epoch = Epoch { now: now + 1, floor };
    write_owner(path, epoch)?;
    Ok(epoch)
}

fn write_owner(path: &Path, epoch: Epoch) -> io::Result<()> {
    let (new, place) = (path.join("owner.new"), path.join("owner"));
    fs::write(&new, format!("{LAYOUT}\n{} {}\n", epoch.now, epoch.floor))?;
    File::open(&new)?.sync_all()?;
    fs::rename(new, place)?;
    File::open(path)?.sync_all()
}

/// What the owner's file says, if it is of this layout and can be gone on from.
fn parse_owner(said: &[u8]) -> Option<Epoch> {
    let text = std::str::from_utf8(said).ok()?;
    let (now, floor) = text.strip_prefix(LAYOUT)?.strip_prefix('\n')?.strip_suffix('\n')?.split_once(' ')?;
    let epoch = Epoch { now: now.parse().ok()?, floor: floor.parse().ok()? };
    (epoch.floor <= epoch.now && epoch.now < (1 << (64 - EPOCH_SHIFT)) - (1 << 16)).then_some(epoch)
}

/// Moves objects of which nothing is known out of the way.
fn set_aside(path: &Path) -> io::Result<()> {
    let aside =
        (0_u32..).map(|number| path.join(format!("gone-{number}"))).find(|it| fs::symlink_metadata(it).is_err());
    match aside.map(|aside| fs::rename(path.join("objects"), aside)) {
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
