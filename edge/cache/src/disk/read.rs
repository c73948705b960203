//! Reading: at once where the page cache has it, else on a thread that may wait, of which there are few. Nothing is given
//! on whose sum was not right.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::ReadWriteFlags;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::folder::Access;
use super::format::{CHUNK, Id, Loaded, Source, chunks};
use super::shared::{Pin, Shared, count};

/// A file whose pages are in memory; else an error.
struct AtOnce<'a>(&'a File);

impl Source for AtOnce<'_> {
    fn read(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut out = vec![0; bytes];
        let read = rustix::io::preadv2(self.0, &mut [IoSliceMut::new(&mut out)], at, ReadWriteFlags::NOWAIT)?;
        out.truncate(read);
        Ok(out)
    }
}

/// A file that is waited for.
pub(crate) struct Waits<'a>(pub(crate) &'a File);

impl Source for Waits<'_> {
    fn read(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes);
        while out.len() < bytes {
            let from = at + out.len() as u64;
            match rustix::io::pread(self.0, spare_capacity(&mut out), from) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(out)
    }
}

/// A part of a body cannot be had. What was damaged is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part of what was stored cannot be read")]
pub struct Damaged;

/// An open file.
#[derive(Debug)]
struct Opened {
    file: File,
    _pin: Pin,
}

/// An object that can be read as it was when it was found, whatever becomes of it.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    /// Not needed where all is in `loaded`.
    opened: Option<Arc<Opened>>,
    loaded: Loaded,
    hash: u64,
    asked: AtomicBool,
}

/// What became of the attempt to open an object.
enum Found {
    /// It has to be waited for.
    Later(Pin),
    /// It is not there, or cannot be opened now.
    Nothing,
    Object(Box<Reader>),
}

/// Whose an object must be.
#[derive(Clone, Copy)]
pub(crate) enum Whose {
    Id(Id),
    Primary(Id),
}

impl Whose {
    fn is(self, loaded: &Loaded) -> bool {
        match self {
            Self::Id(id) => loaded.head.id == id,
            Self::Primary(primary) => loaded.head.primary == primary,
        }
    }
}

/// Opens what is found; what takes too long is not found.
pub(crate) async fn open(shared: &Arc<Shared>, pins: Vec<Pin>, whose: Whose) -> Vec<Reader> {
    let (mut readers, mut later) = (Vec::new(), Vec::new());
    for pin in pins {
        match at_once(pin, whose) {
            Found::Later(pin) => later.push(pin),
            Found::Nothing => {}
            Found::Object(reader) => readers.push(*reader),
        }
    }
    if later.is_empty() {
        return readers;
    }
    let Ok(permit) = Arc::clone(&shared.reads).try_acquire_owned() else {
        count(&shared.counts.slow);
        return readers;
    };
    let waits = spawn_blocking(move || {
        let _permit: OwnedSemaphorePermit = permit;
        later.into_iter().filter_map(|pin| waiting(pin, whose)).collect::<Vec<_>>()
    });
    match timeout(shared.options.find_wait, waits).await {
        Ok(found) => readers.extend(found.unwrap_or_default()),
        Err(_) => count(&shared.counts.slow),
    }
    readers
}

fn at_once(pin: Pin, whose: Whose) -> Found {
    let Ok(file) = pin.shared.folder.open_at_once(pin.serial) else { return Found::Later(pin) };
    match Loaded::load(&AtOnce(&file), pin.serial) {
        Ok(Some(loaded)) if whose.is(&loaded) => Found::Object(Box::new(Reader::new(pin, file, loaded))),
        Ok(Some(_)) => Found::Nothing,
        // A reading at once may be cut short: only one that waits may say that it is damaged.
        Ok(None) | Err(_) => Found::Later(pin),
    }
}

fn waiting(pin: Pin, whose: Whose) -> Option<Reader> {
    let file = match pin.shared.folder.open_file(pin.serial, Access::Read) {
        Ok(file) => file,
        Err(error) => {
            if error.kind() == io::ErrorKind::NotFound {
                pin.shared.damaged(pin.id, pin.serial);
            }
            return None;
        }
    };
    // A meta may be replaced, and the one before it be written over, while this one reads.
    for _ in 0..3 {
        match Loaded::load(&Waits(&file), pin.serial) {
            Ok(Some(loaded)) => return whose.is(&loaded).then(|| Reader::new(pin, file, loaded)),
            Ok(None) => {}
            Err(_) => break,
        }
    }
    pin.shared.damaged(pin.id, pin.serial);
    None
}

impl Reader {
    fn new(pin: Pin, file: File, loaded: Loaded) -> Self {
        let (shared, hash) = (Arc::clone(&pin.shared), pin.id);
        let opened = loaded.body.is_none().then(|| Arc::new(Opened { file, _pin: pin }));
        Self { shared, opened, loaded, hash, asked: AtomicBool::new(false) }
    }

    /// The object's own id.
    pub fn id(&self) -> Id {
        self.loaded.head.id
    }

    /// The number of its file: each object that is stored has another.
    pub fn file(&self) -> u64 {
        self.loaded.head.serial
    }

    /// The id that it shares with its variants.
    pub fn primary(&self) -> Id {
        self.loaded.head.primary
    }

    /// What is kept beside the body.
    pub fn meta(&self) -> &Bytes {
        &self.loaded.meta
    }

    /// The length of the body in bytes.
    pub fn body_bytes(&self) -> u64 {
        self.loaded.head.body_bytes
    }

    /// How many chunks the body has: all of `CHUNK` bytes but for the last.
    pub fn chunks(&self) -> u64 {
        chunks(self.body_bytes())
    }

    /// It answers: it stays longer than what does not. The first chunk that is read says so too.
    pub fn answers(&self) {
        if !self.asked.swap(true, Ordering::Relaxed) {
            count(&self.shared.counts.hits);
            self.shared.index().ask(self.hash, self.loaded.head.serial);
        }
    }

    /// The body from `offset` to the end of the chunk that it is in; nothing where the body has ended.
    ///
    /// # Errors
    /// It is not what was written, or cannot be read in time.
    pub async fn at(&self, offset: u64) -> Result<Bytes, Damaged> {
        let chunk = self.chunk(offset / CHUNK as u64).await?;
        let within = usize::try_from(offset % CHUNK as u64).unwrap_or(CHUNK);
        Ok(chunk.slice(within.min(chunk.len())..))
    }

    /// A chunk of the body; nothing where the body has ended.
    ///
    /// # Errors
    /// It is not what was written, or cannot be read in time.
    pub async fn chunk(&self, number: u64) -> Result<Bytes, Damaged> {
        self.answers();
        if number >= self.chunks() {
            return Ok(Bytes::new());
        }
        let read = match &self.opened {
            None => self.loaded.chunk(&&[][..], number),
            Some(opened) => match self.loaded.chunk(&AtOnce(&opened.file), number) {
                Ok(Some(chunk)) => return Ok(chunk),
                Ok(None) | Err(_) => self.wait_for(Arc::clone(opened), number).await?,
            },
        };
        match read {
            Ok(Some(chunk)) => Ok(chunk),
            Ok(None) | Err(_) => {
                self.shared.damaged(self.hash, self.loaded.head.serial);
                Err(Damaged)
            }
        }
    }

    async fn wait_for(&self, opened: Arc<Opened>, number: u64) -> Result<io::Result<Option<Bytes>>, Damaged> {
        let (reads, loaded) = (Arc::clone(&self.shared.reads), self.loaded.clone());
        let waits = async {
            let permit = reads.acquire_owned().await.map_err(|_| Damaged)?;
            let read = spawn_blocking(move || {
                let _permit: OwnedSemaphorePermit = permit;
                loaded.chunk(&Waits(&opened.file), number)
            });
            read.await.map_err(|_| Damaged)
        };
        timeout(self.shared.options.read_wait, waits).await.unwrap_or_else(|_| {
            count(&self.shared.counts.slow);
            Err(Damaged)
        })
    }
}
