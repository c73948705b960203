//! What the tier holds, in memory: who is there, in what file, how many bytes of the disk that takes, and who goes next.
//! It knows no meta, and of the ids only hashes: the file says whose it is. It never grows past what it was made for.

use std::collections::HashMap;

use super::barred::Barred;
use super::queue::{Link, Objects, Queues};
use super::table::{NONE, Table};

/// How many objects may share a primary id; the oldest of them goes when there are more.
pub(crate) const VARIANTS_MAX: usize = 32;
/// Bytes are counted in these.
const SECTOR: u64 = 512;
const BLOCK: u64 = 4096;

/// What a file of this length takes of the disk: whole blocks, and its inode and name.
pub(crate) fn cost(file_bytes: u64) -> u64 {
    file_bytes.next_multiple_of(BLOCK) + SECTOR
}

/// An object, as it is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) primary: u64,
    pub(crate) id: u64,
    pub(crate) serial: u64,
    pub(crate) bytes: u64,
}

/// A file that is of no object any more, and counts until it is unlinked and nobody has it open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    pub(crate) serial: u64,
    bytes: u64,
}

/// Whether there is room.
#[derive(Debug)]
pub(crate) enum Room {
    /// Not before this one is unlinked.
    After(Gone),
    Granted,
    /// And nothing may go.
    None,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    primary: u64,
    id: u64,
    serial: u64,
    sectors: u32,
    /// The next older object of the same primary id, or the next free entry.
    next: u32,
    link: Link,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pin {
    readers: usize,
    /// What is counted until the last of them leaves.
    leaving: u64,
}

#[derive(Debug)]
struct Slab {
    entries: Vec<Entry>,
    pins: HashMap<u64, Pin>,
}

impl Slab {
    fn at(&self, place: u32) -> &Entry {
        &self.entries[place as usize]
    }

    fn at_mut(&mut self, place: u32) -> &mut Entry {
        &mut self.entries[place as usize]
    }
}

impl Objects for Slab {
    fn link(&mut self, place: u32) -> &mut Link {
        &mut self.at_mut(place).link
    }

    fn hash(&self, place: u32) -> u64 {
        self.at(place).id
    }

    fn bytes(&self, place: u32) -> u64 {
        u64::from(self.at(place).sectors) * SECTOR
    }

    fn is_held(&self, place: u32) -> bool {
        self.pins.contains_key(&self.at(place).serial)
    }
}

#[derive(Debug)]
pub(crate) struct Index {
    slab: Slab,
    by_id: Table,
    by_primary: Table,
    queues: Queues,
    free: u32,
    objects: usize,
    objects_max: usize,
    bytes_max: u64,
    used: u64,
    writing: u64,
    leaving: u64,
    /// How often it was cleared: what was begun before is not put in.
    pub(crate) clears: u64,
    barred: Option<Barred>,
}

impl Index {
    /// While it recovers, until `recovered`.
    pub(crate) fn new(bytes_max: u64, objects_max: usize) -> Self {
        Self {
            // Memory that nobody touched is not there.
            slab: Slab { entries: Vec::with_capacity(objects_max), pins: HashMap::new() },
            by_id: Table::new(objects_max),
            by_primary: Table::new(objects_max),
            queues: Queues::new(objects_max),
            free: NONE,
            objects: 0,
            objects_max,
            bytes_max,
            used: 0,
            writing: 0,
            leaving: 0,
            clears: 0,
            barred: Some(Barred::default()),
        }
    }

    pub(crate) fn objects(&self) -> usize {
        self.objects
    }

    /// What the tier takes of the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.used + self.writing + self.leaving
    }

    pub(crate) fn is_recovering(&self) -> bool {
        self.barred.is_some()
    }

    pub(crate) fn recovered(&mut self) {
        self.barred = None;
    }

    /// Room for this many bytes more of a file that is written, and for an object more.
    pub(crate) fn room(&mut self, bytes: u64) -> Room {
        if self.bytes() + bytes <= self.bytes_max && self.objects < self.objects_max {
            self.writing += bytes;
            return Room::Granted;
        }
        self.evict().map_or(Room::None, Room::After)
    }

    /// Takes out the object that should go next.
    pub(crate) fn evict(&mut self) -> Option<Gone> {
        let place = self.queues.victim(&mut self.slab)?;
        Some(self.take(place))
    }

    /// What was granted is not needed.
    pub(crate) fn spare(&mut self, bytes: u64) {
        self.writing -= bytes;
    }

    /// An object is complete, of which `granted` bytes were; false if it cannot be taken in. Gives what goes for it.
    pub(crate) fn put(&mut self, record: Record, granted: u64) -> (bool, Vec<Gone>) {
        let mut gone: Vec<_> = self.remove(record.id).into_iter().collect();
        if self.objects >= self.objects_max {
            gone.extend(self.evict());
        }
        let chain = self.chain(record.primary);
        if chain.len() >= VARIANTS_MAX {
            gone.extend(chain.last().map(|place| self.take(*place)));
        }
        self.writing -= granted;
        let place = self.entry(record);
        if let Some(place) = place {
            self.queues.push(&mut self.slab, place);
        }
        (place.is_some(), gone)
    }

    /// An object of an earlier life, older than all that were put in before. False: it must go.
    pub(crate) fn put_old(&mut self, record: Record) -> bool {
        let fits = self.bytes() + record.bytes <= self.bytes_max && self.objects < self.objects_max;
        let barred = self.barred.as_ref().is_none_or(|barred| barred.has(&record));
        let other = self.place_of(record.id).is_some() || self.chain(record.primary).len() >= VARIANTS_MAX;
        if !fits || barred || other {
            return false;
        }
        let place = self.entry(record);
        place.inspect(|place| self.queues.push_old(&mut self.slab, *place)).is_some()
    }

    fn entry(&mut self, record: Record) -> Option<u32> {
        if self.objects >= self.objects_max {
            return None;
        }
        let head = self.head_of(record.primary);
        let sectors = u32::try_from(record.bytes.div_ceil(SECTOR)).ok()?;
        let Record { primary, id, serial, .. } = record;
        let entry = Entry { primary, id, serial, sectors, next: head.unwrap_or(NONE), link: Link::ALONE };
        let place = self.fresh(entry)?;
        self.by_id.put(id, place);
        match head {
            Some(head) => self.by_primary.swap(primary, head, place),
            None => self.by_primary.put(primary, place),
        }
        self.objects += 1;
        self.used += self.slab.bytes(place);
        Some(place)
    }

    fn fresh(&mut self, entry: Entry) -> Option<u32> {
        if self.free == NONE {
            let place = u32::try_from(self.slab.entries.len()).ok()?;
            self.slab.entries.push(entry);
            return Some(place);
        }
        let place = self.free;
        self.free = self.slab.at(place).next;
        *self.slab.at_mut(place) = entry;
        Some(place)
    }

    fn place_of(&self, id: u64) -> Option<u32> {
        self.by_id.find(id, |place| self.slab.at(place).id == id)
    }

    fn head_of(&self, primary: u64) -> Option<u32> {
        self.by_primary.find(primary, |place| self.slab.at(place).primary == primary)
    }

    /// The places of the objects with this primary id, the newest first.
    fn chain(&self, primary: u64) -> Vec<u32> {
        let next = |place: &u32| Some(self.slab.at(*place).next).filter(|next| *next != NONE);
        std::iter::successors(self.head_of(primary), next).collect()
    }

    /// Takes an object out.
    fn take(&mut self, place: u32) -> Gone {
        let Entry { primary, id, serial, next, .. } = *self.slab.at(place);
        let bytes = self.slab.bytes(place);
        self.queues.take(&mut self.slab, place);
        let chain = self.chain(primary);
        match chain.iter().position(|it| *it == place) {
            Some(0) if next == NONE => self.by_primary.take(primary, place, |it| self.slab.at(it).primary),
            Some(0) => self.by_primary.swap(primary, place, next),
            Some(at) => self.slab.at_mut(chain[at - 1]).next = next,
            None => {}
        }
        self.by_id.take(id, place, |it| self.slab.at(it).id);
        self.slab.at_mut(place).next = self.free;
        self.free = place;
        self.objects -= 1;
        self.used -= bytes;
        self.leaving += bytes;
        if let Some(barred) = &mut self.barred {
            barred.bar(Some(id), None);
        }
        Gone { serial, bytes }
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Gone> {
        if let Some(barred) = &mut self.barred {
            barred.bar(Some(id), None);
        }
        self.place_of(id).map(|place| self.take(place))
    }

    pub(crate) fn remove_primary(&mut self, primary: u64) -> Vec<Gone> {
        if let Some(barred) = &mut self.barred {
            barred.bar(None, Some(primary));
        }
        self.chain(primary).into_iter().map(|place| self.take(place)).collect()
    }

    /// Takes the object out if its file is still this one.
    pub(crate) fn remove_file(&mut self, id: u64, serial: u64) -> Option<Gone> {
        let place = self.place_of(id).filter(|place| self.slab.at(*place).serial == serial)?;
        Some(self.take(place))
    }

    /// Takes all out at once, and bars what was begun or is not found yet. Gives what must be unlinked.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = Gone> + Send + use<> {
        let objects_max = self.objects_max;
        if let Some(barred) = &mut self.barred {
            barred.bar_all();
        }
        self.clears += 1;
        self.leaving += std::mem::take(&mut self.used);
        (self.objects, self.free) = (0, NONE);
        self.by_id = Table::new(objects_max);
        self.by_primary = Table::new(objects_max);
        let queues = std::mem::replace(&mut self.queues, Queues::new(objects_max));
        let entries = std::mem::replace(&mut self.slab.entries, Vec::with_capacity(objects_max));
        let gone = |entry: &Entry| Gone { serial: entry.serial, bytes: u64::from(entry.sectors) * SECTOR };
        let mut next = queues.newest();
        std::iter::from_fn(move || {
            let at = next.iter().position(|place| *place != NONE)?;
            let entry = entries.get(next[at] as usize)?;
            next[at] = entry.link.older();
            Some(gone(entry))
        })
    }

    /// The file is unlinked. What readers have open stays on the disk until they leave.
    pub(crate) fn unlinked(&mut self, gone: Gone) {
        match self.slab.pins.get_mut(&gone.serial) {
            Some(pin) => pin.leaving += gone.bytes,
            None => self.leaving -= gone.bytes,
        }
    }

    /// The file of an object, which a reader now has.
    pub(crate) fn read(&mut self, id: u64) -> Option<(u64, u64)> {
        let place = self.place_of(id)?;
        Some((id, self.pin(place)))
    }

    /// The ids and files of all objects with this primary id, which a reader now has.
    pub(crate) fn read_primary(&mut self, primary: u64) -> Vec<(u64, u64)> {
        let chain = self.chain(primary);
        chain.into_iter().map(|place| (self.slab.at(place).id, self.pin(place))).collect()
    }

    pub(crate) fn has_primary(&self, primary: u64) -> bool {
        self.head_of(primary).is_some()
    }

    fn pin(&mut self, place: u32) -> u64 {
        let serial = self.slab.at(place).serial;
        self.slab.pins.entry(serial).or_default().readers += 1;
        serial
    }

    /// A reader leaves.
    pub(crate) fn unpin(&mut self, serial: u64) {
        let Some(pin) = self.slab.pins.get_mut(&serial) else { return };
        pin.readers -= 1;
        if pin.readers == 0 {
            self.leaving -= pin.leaving;
            self.slab.pins.remove(&serial);
        }
    }

    /// An object was of use.
    pub(crate) fn ask(&mut self, id: u64, serial: u64) {
        if let Some(place) = self.place_of(id)
            && self.slab.at(place).serial == serial
        {
            self.slab.link(place).ask();
        }
    }

    /// The file that an object has, and what it is counted with.
    pub(crate) fn file(&self, id: u64) -> Option<(u64, u64)> {
        self.place_of(id).map(|place| (self.slab.at(place).serial, self.slab.bytes(place)))
    }

    /// The file of an object now takes so many bytes, `granted` of them more than before.
    pub(crate) fn resize(&mut self, id: u64, serial: u64, bytes: u64, granted: u64) {
        self.writing -= granted;
        let place = self.place_of(id).filter(|place| self.slab.at(*place).serial == serial);
        let (Some(place), Ok(sectors)) = (place, u32::try_from(bytes.div_ceil(SECTOR))) else { return };
        let was = self.slab.bytes(place);
        self.queues.resize(&mut self.slab, place, u64::from(sectors) * SECTOR);
        self.slab.at_mut(place).sectors = sectors;
        self.used = self.used - was + u64::from(sectors) * SECTOR;
    }
}
