//! The room that one app has in the cache of a node: what it keeps in memory, what it asks for, and what it knows not to be
//! kept. Nothing of it is reached through another app's.

mod load;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use eyot_plan::body::Body;
use eyot_plan::cache::slices::Slices;
use eyot_plan::cache::{Kept, key};
use eyot_plan::fault::Fault;
use http::HeaderMap;
use quick_cache::sync::Cache as Quick;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::disk::{self, Disk};
use crate::fill::{Fill, Pumped, Reader};
use crate::flight::{Flights, Joined, Lead, Outcome, Wait};
use crate::object::Object;
use crate::purges::{Born, Hash, Purges, Verdict};
use crate::source::Source;
use crate::stored::Stored;
use crate::tee::Tee;

pub use load::{USE_MS_MIN, WHOLE_BYTES_MAX};

/// Answers of one URI that are kept at once; of more, the oldest goes.
pub const VARIANTS_MAX: usize = 32;
/// Requests of one app that are asked for at once and that others may wait for.
pub const FLIGHTS_MAX: usize = 4096;
/// Slices of one app's large answers that are asked for, or on their way, at once; who is one too many waits.
pub const SLICES_MAX: usize = 256;
/// How long it is remembered that an answer was not kept, so that nobody waits for the next one, in milliseconds.
pub const PASS_MS: u64 = 10_000;
/// URIs of one app that this is remembered of.
const PASSED_MAX: usize = 4096;
/// URLs that unsafe requests ended, that are told apart.
const ENDED_MAX: usize = 4096;
/// Locks over what is kept, so that two who add to one URI do not lose one of them.
const STRIPES: usize = 64;

/// The answers that are kept of one URI, the newest first.
type Set = Arc<[Arc<Object>]>;

#[derive(Clone, Debug)]
struct Weigh;

impl Weighter<u128, Set> for Weigh {
    fn weight(&self, _: &u128, set: &Set) -> u64 {
        set.iter().map(|object| object.weight()).sum::<u64>().max(1)
    }
}

/// The largest body that is kept in so much memory.
fn object_bytes_max(memory_bytes: u64) -> u64 {
    memory_bytes / 16
}

/// What all rooms of a node have in common.
#[derive(Debug)]
pub struct Common {
    /// What was purged.
    pub purges: Arc<Purges>,
    /// The disk tier, while this process has one.
    disk: RwLock<Option<Disk>>,
    /// A random number: what this process has counted means nothing to the next.
    life: u64,
}

impl Common {
    /// Without a disk tier.
    pub fn new(purges: Arc<Purges>) -> Self {
        Self { purges, disk: RwLock::default(), life: RandomState::new().build_hasher().finish() }
    }

    /// Keeps answers on `disk` too, from now on.
    pub fn set_disk(&self, disk: Disk) {
        *self.disk.write().unwrap_or_else(PoisonError::into_inner) = Some(disk);
    }

    /// Keeps answers in memory alone from now on. Who takes the disk tier closes it, so that another process may have it.
    pub fn take_disk(&self) -> Option<Disk> {
        self.disk.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What the disk tier holds; none: there is none.
    pub fn disk_stats(&self) -> Option<disk::Stats> {
        self.disk().map(|disk| disk.stats())
    }

    fn disk(&self) -> Option<Disk> {
        self.disk.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One app's part of the cache.
#[derive(Debug)]
pub struct Room {
    app: Box<str>,
    common: Arc<Common>,
    memory: Quick<u128, Set, Weigh>,
    passed: Quick<u128, u64>,
    /// URLs that unsafe requests ended, each with the count and the time when that was.
    ended: Quick<Hash, (u64, u64)>,
    /// Counts fills and ends, so that each is before or after the other.
    count: AtomicU64,
    flights: Arc<Flights>,
    /// Who may ask for a slice.
    slices: Arc<Semaphore>,
    stripes: Box<[Mutex<()>]>,
    /// Whose turn it is to read from the disk.
    turns: Box<[tokio::sync::Mutex<()>]>,
    object_bytes_max: AtomicU64,
    /// Requests that looked for something since this was last looked at.
    asks: AtomicU64,
    /// Bodies that broke off on their way.
    broken: AtomicU64,
}

/// What a request asks the cache for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Its key: [`key::id`].
    pub id: u128,
    /// The URL it is purged by.
    pub url: Hash,
    /// Its fields.
    pub request: &'a HeaderMap,
}

/// What is kept for a request.
#[derive(Debug)]
pub enum Found {
    /// Nothing of its URI.
    Nothing,
    /// This, and what purges say of it: never [`Verdict::Gone`].
    Object(Arc<Object>, Verdict),
    /// Something of its URI, for other requests.
    Others,
}

/// How a request may ask for what is not kept.
#[derive(Debug)]
pub enum Way {
    /// For itself alone: what comes is not likely to be kept, or too much is asked for at once.
    Alone,
    /// For all who ask for the same.
    Lead(Leading),
    /// Another request asks for it.
    Wait(Waiting),
}

/// Another request asks for the same.
#[derive(Debug)]
pub struct Waiting(Wait);

impl Waiting {
    /// What becomes of it.
    pub async fn outcome(self) -> Outcome {
        self.0.outcome().await
    }
}

impl Room {
    /// A room for `app` of so many bytes in memory.
    pub fn new(app: &str, memory_bytes: u64, common: Arc<Common>) -> Self {
        // A shard holds nothing larger than itself.
        let shards = if memory_bytes < 64 << 20 { 1 } else { 4 };
        let items = usize::try_from(memory_bytes >> 14).unwrap_or(usize::MAX).clamp(64, 1 << 24);
        let mut options = OptionsBuilder::new();
        options.shards(shards).weight_capacity(memory_bytes).estimated_items_capacity(items);
        let options = options.build().expect("all that is needed is given");
        Self {
            app: app.into(),
            common,
            memory: Quick::with_options(options, Weigh, DefaultHashBuilder::default(), Default::default()),
            passed: Quick::new(PASSED_MAX),
            ended: Quick::new(ENDED_MAX),
            count: AtomicU64::new(1),
            broken: AtomicU64::new(0),
            flights: Arc::new(Flights::new(FLIGHTS_MAX)),
            slices: Arc::new(Semaphore::new(SLICES_MAX)),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            turns: (0..STRIPES).map(|_| tokio::sync::Mutex::default()).collect(),
            object_bytes_max: AtomicU64::new(object_bytes_max(memory_bytes)),
            asks: AtomicU64::new(0),
        }
    }

    /// Has so many bytes in memory from now on.
    pub fn resize(&self, memory_bytes: u64) {
        if self.memory.capacity() != memory_bytes {
            self.memory.set_capacity(memory_bytes);
            self.object_bytes_max.store(object_bytes_max(memory_bytes), Ordering::Relaxed);
        }
    }

    /// The bytes that it may have in memory.
    pub fn capacity(&self) -> u64 {
        self.memory.capacity()
    }

    /// How many requests looked for something since this was last asked.
    pub fn take_asks(&self) -> u64 {
        self.asks.swap(0, Ordering::Relaxed)
    }

    /// What is kept under this key for a request with these fields.
    pub fn find(&self, id: u128, request: &HeaderMap, now_ms: u64) -> Found {
        self.asks.fetch_add(1, Ordering::Relaxed);
        let Some(set) = self.memory.get(&id) else { return Found::Nothing };
        let mut others = false;
        for object in set.iter() {
            match self.verdict(object, now_ms) {
                Verdict::Gone => {}
                verdict if object.kept.matches(request) => return Found::Object(Arc::clone(object), verdict),
                _ => others = true,
            }
        }
        if others { Found::Others } else { Found::Nothing }
    }

    /// What purges say of an answer.
    pub fn verdict(&self, object: &Object, now_ms: u64) -> Verdict {
        if !self.ended.is_empty() && self.ended.get(&object.url).is_some_and(|(end, _)| object.count < end) {
            return Verdict::Gone;
        }
        self.common.purges.judge(&self.app, object.born, object.url, &object.keys, now_ms)
    }

    /// How a request may ask for what is not kept; at most one asks for all.
    pub fn way(self: &Arc<Self>, ask: &Ask<'_>, now_ms: u64) -> Way {
        if self.is_passed(ask.id, now_ms) {
            return Way::Alone;
        }
        match self.flights.join((ask.id, self.fork(ask))) {
            Joined::Full => Way::Alone,
            Joined::Wait(wait) => Way::Wait(Waiting(wait)),
            Joined::Lead(lead) => Way::Lead(self.leading(ask, Some(lead), now_ms)),
        }
    }

    /// The turn to ask for a slice, until it is here.
    pub(crate) async fn slice_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slices).acquire_owned().await.ok()
    }

    /// Whether what is asked for by this key was not kept lately.
    pub fn is_passed(&self, id: u128, now_ms: u64) -> bool {
        self.passed.get(&id).is_some_and(|until_ms| now_ms < until_ms)
    }

    /// What is asked for by this key is not kept.
    pub fn pass(&self, id: u128, now_ms: u64) {
        self.passed.insert(id, now_ms.saturating_add(PASS_MS));
    }

    /// A request that asks for itself alone, whose answer may yet be kept.
    pub fn alone(self: &Arc<Self>, ask: &Ask<'_>, now_ms: u64) -> Leading {
        self.leading(ask, None, now_ms)
    }

    fn leading(self: &Arc<Self>, ask: &Ask<'_>, lead: Option<Lead>, now_ms: u64) -> Leading {
        let (born, count) = self.now(now_ms);
        Leading {
            room: Arc::clone(self),
            id: ask.id,
            url: ask.url,
            born,
            count,
            lead,
            told: None,
            breaks: Breaks::default(),
        }
    }

    /// Those who ask for different answers of one URI do not wait for each other, as far as it is known by what they differ.
    fn fork(&self, ask: &Ask<'_>) -> u128 {
        let Some(set) = self.memory.peek(&ask.id) else { return 0 };
        let Some(first) = set.first().filter(|object| !object.kept.selected.is_empty()) else { return 0 };
        let names = first.kept.selected.iter().map(|(name, _)| name);
        key::fork(names, ask.request)
    }

    /// Keeps `object` in the place of those that answer the same requests.
    fn insert(&self, id: u128, object: &Arc<Object>) {
        let _stripe = self.stripe(id);
        self.put(id, object);
        self.passed.remove(&id);
    }

    /// The same for who has the stripe.
    fn put(&self, id: u128, object: &Arc<Object>) {
        let old = self.memory.peek(&id);
        let (same, others): (Vec<_>, Vec<_>) =
            old.iter().flat_map(|set| set.iter()).partition(|it| it.kept.selected == object.kept.selected);
        // What is still being stored of it would come after what is stored of this.
        same.iter().filter(|it| !it.is(object)).for_each(|it| self.unstore(id, it));
        let others = others.into_iter().cloned();
        let set: Vec<_> = std::iter::once(Arc::clone(object)).chain(others).take(VARIANTS_MAX).collect();
        self.memory.insert(id, set.into());
    }

    /// Forgets `object` if it is what is kept.
    pub fn forget(&self, id: u128, object: &Arc<Object>) {
        let _stripe = self.stripe(id);
        self.unstore(id, object);
        let Some(old) = self.memory.peek(&id) else { return };
        let left: Vec<_> = old.iter().filter(|it| !it.is(object)).cloned().collect();
        if left.is_empty() {
            self.memory.remove(&id);
        } else if left.len() < old.len() {
            self.memory.insert(id, left.into());
        }
    }

    /// Puts `kept` in the place of what `object` says of itself: it was asked for anew, or a HEAD told of it. `born` is
    /// [`Room::now`] of before that was asked.
    pub fn freshen(&self, id: u128, object: &Object, kept: Kept, born: (Born, u64)) -> Arc<Object> {
        self.freshen_all(id, object, kept, born).0
    }

    /// The same, and what comes when the disk knows it.
    fn freshen_all(
        &self,
        id: u128,
        object: &Object,
        kept: Kept,
        born: (Born, u64),
    ) -> (Arc<Object>, Option<impl Future<Output = bool> + Send + use<>>) {
        let mut fresh = Object { kept, born: born.0, count: born.1, ..object.clone() };
        // With other fields to select by it is another one on disk.
        if fresh.kept.selected != object.kept.selected {
            self.unstore(id, object);
            fresh.stored = Arc::default();
        }
        let fresh = Arc::new(fresh);
        // A file that is open is none of memory's.
        if !matches!(fresh.body, Source::Disk(_)) {
            self.insert(id, &fresh);
        }
        let stored = self.restore(id, &fresh);
        (fresh, stored)
    }

    /// What is kept of `url`, or on its way in, answers no more: it was changed. `id`: its plain key.
    pub fn end(&self, id: u128, url: Hash, now_ms: u64) {
        self.ended.insert(url, (self.count.fetch_add(1, Ordering::AcqRel) + 1, now_ms));
        let _stripe = self.stripe(id);
        self.memory.remove(&id);
        self.unstore_all(id);
    }

    /// When `url` was ended here last, in milliseconds since 1970; 0: never, as far as that is remembered.
    pub fn ended_ms(&self, url: Hash) -> u64 {
        self.ended.get(&url).map_or(0, |(_, ended_ms)| ended_ms)
    }

    /// What an answer remembers whose fill begins now.
    pub fn now(&self, now_ms: u64) -> (Born, u64) {
        (self.common.purges.now(now_ms), self.count.load(Ordering::Acquire))
    }

    fn stripe(&self, id: u128) -> std::sync::MutexGuard<'_, ()> {
        self.stripes[self.stripe_of(id)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stripe_of(&self, id: u128) -> usize {
        usize::try_from(id % STRIPES as u128).unwrap_or(0)
    }

    /// The largest body that is kept, in memory or on disk, in bytes.
    pub fn object_bytes_max(&self) -> u64 {
        let disk = self.common.disk().map_or(0, |disk| disk.object_bytes_max());
        self.object_bytes_max.load(Ordering::Relaxed).max(disk)
    }

    /// All that is kept in memory under a key: for its operator.
    pub fn kept(&self, id: u128) -> Vec<Arc<Object>> {
        self.memory.peek(&id).map(|set| set.to_vec()).unwrap_or_default()
    }

    /// What is kept and asked for now.
    pub fn stats(&self) -> Stats {
        Stats {
            objects: self.memory.len() as u64,
            bytes: self.memory.weight(),
            flights: self.flights.count() as u64,
            broken: self.broken.load(Ordering::Relaxed),
        }
    }
}

/// What a room has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// URIs of which something is kept.
    pub objects: u64,
    /// The bytes of that.
    pub bytes: u64,
    /// What is asked for now.
    pub flights: u64,
    /// Bodies that broke off on their way, or that nobody went on reading.
    pub broken: u64,
}

/// A request that asks for what may be kept. Dropped without a word, those who wait choose another.
#[derive(Debug)]
pub struct Leading {
    room: Arc<Room>,
    id: u128,
    url: Hash,
    born: Born,
    count: u64,
    lead: Option<Lead>,
    /// Who wants to know when it is kept.
    told: Option<oneshot::Sender<()>>,
    /// Who is told if its body breaks off.
    breaks: Breaks,
}

/// Who is told of a body that broke off on its way, or that nobody went on reading.
#[derive(Clone, Default)]
pub struct Breaks(Option<Arc<dyn Fn() + Send + Sync>>);

impl Breaks {
    /// Calls this then.
    pub fn to(tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }
}

impl std::fmt::Debug for Breaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Breaks(…)" } else { "Breaks" })
    }
}

impl Leading {
    /// Comes when what is kept of it is found from then on. Gone without that: it is not kept.
    pub fn told(&mut self) -> oneshot::Receiver<()> {
        let (told, kept) = oneshot::channel();
        self.told = Some(told);
        kept
    }

    /// Has this told if its body breaks off.
    pub fn breaking(self, breaks: &Breaks) -> Self {
        Self { breaks: breaks.clone(), ..self }
    }

    /// The answer is kept while it comes: whoever reads `Object::body` reads what `body` brings. It is found from when it is
    /// here whole. `length`: what the answer says of it. As long as the reader is there nothing is let go of.
    pub fn keep(self, kept: Kept, keys: &[Hash], body: Body, length: Option<u64>) -> (Arc<Object>, Option<Reader>) {
        let (fill, writer) = Fill::begin(length, self.room.object_bytes_max.load(Ordering::Relaxed));
        let reader = fill.read(0, None);
        let (body_in, stored) = (Source::Fill(fill), Arc::new(Stored::default()));
        let (born, count, url, keys) = (self.born, self.count, self.url, keys.into());
        let object = Arc::new(Object { kept, born, count, url, keys, body: body_in, stored });
        if let Some(lead) = &self.lead {
            lead.tell(Outcome::Kept(Arc::clone(&object)));
        }
        let kept = Arc::clone(&object);
        tokio::spawn(async move { self.fill(&kept, writer, body, length).await });
        (object, reader)
    }

    /// The head of the answer is kept, and its body in slices, by whoever reads it.
    pub fn keep_head(self, kept: Kept, keys: &[Hash], slices: Slices) -> Arc<Object> {
        let (body, stored) = (Source::Slices(Arc::new(slices)), Arc::new(Stored::default()));
        let (born, count, url, keys) = (self.born, self.count, self.url, keys.into());
        let object = Arc::new(Object { kept, born, count, url, keys, body, stored });
        self.room.insert(self.id, &object);
        self.room.unstore_like(self.id, &object);
        if let Some(lead) = &self.lead {
            lead.tell(Outcome::Kept(Arc::clone(&object)));
        }
        object
    }

    async fn fill(self, object: &Arc<Object>, writer: crate::fill::Writer, body: Body, length: Option<u64>) {
        let Self { room, id, lead, told, breaks, .. } = self;
        let tell = || {
            let _ = told.map(|told| told.send(()));
        };
        let (begins, its) = (Arc::clone(&room), Arc::clone(object));
        let most = room.common.disk().map_or(0, |disk| disk.object_bytes_max());
        let mut tee = Tee::default();
        if length.unwrap_or(0) <= most {
            tee = Tee::new(Box::new(move || begins.begin_store(id, &its, None)));
        }
        match writer.pump(body, &mut tee).await {
            // Purged meanwhile, it is not found; the purges judge it by when it was born.
            Pumped::Whole => {
                room.insert(id, object);
                tell();
                drop(lead);
                room.store(id, object).await;
            }
            Pumped::Passed(trailers) => {
                if let Some(writer) = tee.into_writer() {
                    room.finish_store(id, object, writer, trailers.as_ref()).await;
                    tell();
                }
                drop(lead);
            }
            Pumped::Broken => {
                room.broken.fetch_add(1, Ordering::Relaxed);
                breaks.0.iter().for_each(|tell| tell());
                drop(lead);
            }
        }
    }

    /// What was kept is still good.
    pub fn freshened(self, object: &Object, kept: Kept) -> Arc<Object> {
        let (fresh, stored) = self.room.freshen_all(self.id, object, kept, (self.born, self.count));
        if let Some(lead) = &self.lead {
            lead.tell(Outcome::Kept(Arc::clone(&fresh)));
        }
        // What is on disk alone is found as it now is when the disk knows it.
        if let Some((stored, lead)) = stored.zip(self.lead) {
            tokio::spawn(async move {
                let _ = tokio::time::timeout(load::STORE_WAIT, stored).await;
                drop(lead);
            });
        }
        fresh
    }

    /// The answer is not kept. Those who wait ask for themselves, and so does whoever comes soon.
    pub fn release(self, now_ms: u64) {
        self.room.pass(self.id, now_ms);
        if let Some(lead) = &self.lead {
            lead.tell(Outcome::Alone);
        }
    }

    /// There was no good answer, and what was kept stands in for it.
    pub fn stood_in(self, object: &Arc<Object>) {
        if let Some(lead) = &self.lead {
            lead.tell(Outcome::StoodIn(Arc::clone(object)));
        }
    }

    /// There was no answer.
    pub fn fail(self, fault: &Fault) {
        if let Some(lead) = &self.lead {
            lead.tell(Outcome::Failed(fault.clone()));
        }
    }
}
