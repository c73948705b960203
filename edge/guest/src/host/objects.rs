//! `eyot:edge/objects`: what functions keep by names of their own. What a call holds of it is the call's: at its end, and
//! not when an instance forgets its handles, turns pass on and what is being written breaks off.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use eyot_plan::body::Body;
use eyot_plan::cache::named;
use eyot_plan::fault::{Code, Fault};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use wasmtime::component::{Linker, Resource};

use super::edge::{KEYS_MAX, is_key};
use super::{Hosts, Lent, Memory, View};
use crate::answer::AbortOnDrop;
use crate::doors::{self, Looked, Looking, Made, Making, Purge, PurgeError, Purged, Unmade};
use bindings::eyot::edge::objects::{self, Error, Found, Keeping, PurgeError as Unpurged};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../functions/wit",
        inline: "
            package eyot:kept;
            world kept { import eyot:edge/objects@0.1.0; }
        ",
        world: "eyot:kept/kept",
        imports: { default: async | trappable },
        with: {
            "eyot:edge/objects.object": super::Object,
            "eyot:edge/objects.slot": super::Slot,
            "eyot:edge/objects.writer": super::Writer,
        },
        require_store_data_send: true,
    });
}

/// What one call holds at once: objects, slots and writers.
const HANDS_MAX: usize = 64;
/// What is read at once, in bytes.
const READ_BYTES_MAX: usize = 1 << 20;
/// Pieces that are written before they are taken.
const PIECES: usize = 2;
/// A piece, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// The handle of an object.
#[expect(unreachable_pub, reason = "the bindings export it again, within this file")]
pub struct Object(u32);

/// The handle of a turn.
#[expect(unreachable_pub, reason = "the bindings export it again, within this file")]
pub struct Slot(u32);

/// The handle of what is being written.
#[expect(unreachable_pub, reason = "the bindings export it again, within this file")]
pub struct Writer(u32);

/// What a call has in hand.
pub(super) struct Hands {
    door: Arc<dyn doors::Objects>,
    next: u32,
    reading: HashMap<u32, Reading>,
    turns: HashMap<u32, Turn>,
    writing: HashMap<u32, Writing>,
}

/// An object, and how far it was read.
struct Reading {
    object: Box<dyn doors::Object>,
    body: Option<Body>,
    /// What came of it and was not asked for yet.
    rest: Bytes,
    broken: bool,
}

/// The turn to make an object.
struct Turn {
    name: String,
    slot: Box<dyn doors::Slot>,
}

/// An object that is being written.
struct Writing {
    name: String,
    pieces: mpsc::Sender<Option<Bytes>>,
    made: Made,
    /// What of it is in memory before it is kept.
    memory: Memory,
}

impl Hands {
    pub(super) fn new(door: &Arc<dyn doors::Objects>) -> Self {
        let (reading, turns, writing) = Default::default();
        Self { door: Arc::clone(door), next: 0, reading, turns, writing }
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn are_full(&self) -> bool {
        self.reading.len() + self.turns.len() + self.writing.len() >= HANDS_MAX
    }

    fn hold(&self, name: &str) -> bool {
        let turns = self.turns.values().map(|turn| &turn.name);
        turns.chain(self.writing.values().map(|writing| &writing.name)).any(|held| held == name)
    }
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

pub(super) fn add_to_linker<T: Hosts>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    objects::add_to_linker::<T, Lent>(linker, T::view)
}

impl View<'_> {
    /// Looks something up, on the runtime of the I/O.
    async fn looked(&mut self, looking: Looking) -> Result<Looked, Error> {
        let looking = self.host.io.spawn(looking);
        let _cancel = AbortOnDrop::new(looking.abort_handle());
        looking.await.ok().flatten().ok_or(Error::Unavailable)
    }

    fn object(&mut self, mut object: Box<dyn doors::Object>) -> wasmtime::Result<Resource<Object>> {
        let (number, body) = (self.host.hands.number(), object.take());
        let broken = body.is_none();
        self.host.hands.reading.insert(number, Reading { object, body, rest: Bytes::new(), broken });
        Ok(self.table.push(Object(number))?)
    }

    fn reading(&mut self, object: &Resource<Object>) -> wasmtime::Result<Option<&mut Reading>> {
        let number = self.table.get(object)?.0;
        Ok(self.host.hands.reading.get_mut(&number))
    }
}

impl objects::Host for View<'_> {
    async fn find(&mut self, name: String) -> Answer<Option<Resource<Object>>> {
        if !named::is_name(&name) {
            return Ok(Err(Error::Invalid));
        }
        if self.host.hands.are_full() {
            return Ok(Err(Error::TooMany));
        }
        let looking = self.host.hands.door.find(name);
        Ok(match self.looked(looking).await {
            Ok(Looked { object: Some(object), .. }) => Ok(Some(self.object(object)?)),
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        })
    }

    async fn lookup(&mut self, name: String) -> Answer<Found> {
        if !named::is_name(&name) {
            return Ok(Err(Error::Invalid));
        }
        if self.host.hands.hold(&name) {
            return Ok(Err(Error::Held));
        }
        if self.host.hands.are_full() {
            return Ok(Err(Error::TooMany));
        }
        let looking = self.host.hands.door.lookup(name.clone());
        let Looked { object, slot } = match self.looked(looking).await {
            Ok(looked) => looked,
            Err(error) => return Ok(Err(error)),
        };
        let mut found = Found { object: None, slot: None };
        if let Some(object) = object {
            found.object = Some(self.object(object)?);
        }
        if let Some(slot) = slot {
            let number = self.host.hands.number();
            self.host.hands.turns.insert(number, Turn { name, slot });
            found.slot = Some(self.table.push(Slot(number))?);
        }
        Ok(Ok(found))
    }

    async fn purge(&mut self, name: String, soft: bool) -> wasmtime::Result<Result<(), Unpurged>> {
        if !named::is_name(&name) {
            return Ok(Err(Unpurged::Invalid));
        }
        let purged = self.host.purge(Purge { what: Purged::Key(named::tag(&name)), soft }).await;
        Ok(purged.map_err(|error| match error {
            PurgeError::NotPermitted => Unpurged::NotPermitted,
            PurgeError::Unavailable => Unpurged::Unavailable,
        }))
    }
}

impl objects::HostObject for View<'_> {
    async fn metadata(&mut self, object: Resource<Object>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.reading(&object)?.map(|reading| reading.object.metadata()).unwrap_or_default())
    }

    async fn age_ms(&mut self, object: Resource<Object>) -> wasmtime::Result<u64> {
        Ok(self.reading(&object)?.map_or(0, |reading| reading.object.age_ms()))
    }

    async fn left_ms(&mut self, object: Resource<Object>) -> wasmtime::Result<i64> {
        Ok(self.reading(&object)?.map_or(0, |reading| reading.object.left_ms()))
    }

    async fn length(&mut self, object: Resource<Object>) -> wasmtime::Result<Option<u64>> {
        Ok(self.reading(&object)?.and_then(|reading| reading.object.length()))
    }

    async fn read(&mut self, object: Resource<Object>, most: u32) -> Answer<Vec<u8>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(READ_BYTES_MAX);
        if most == 0 {
            return Ok(Err(Error::Invalid));
        }
        let io = self.host.io.clone();
        // What an instance kept from an earlier call is none of this one's.
        let Some(reading) = self.reading(&object)? else { return Ok(Err(Error::Broken)) };
        if reading.broken {
            return Ok(Err(Error::Broken));
        }
        if reading.rest.is_empty()
            && let Some(body) = reading.body.take()
        {
            let next = io.spawn(next(body));
            let _cancel = AbortOnDrop::new(next.abort_handle());
            match next.await.unwrap_or(Err(Code::InternalError.into())) {
                Ok((rest, body)) => (reading.rest, reading.body) = (rest, body),
                Err(_) => {
                    reading.broken = true;
                    return Ok(Err(Error::Broken));
                }
            }
        }
        let most = most.min(reading.rest.len());
        Ok(Ok(reading.rest.split_to(most).into()))
    }

    async fn drop(&mut self, object: Resource<Object>) -> wasmtime::Result<()> {
        let Object(number) = self.table.delete(object)?;
        self.host.hands.reading.remove(&number);
        Ok(())
    }
}

/// The next bytes of `body`, and what follows them; no bytes: it was whole.
async fn next(mut body: Body) -> Result<(Bytes, Option<Body>), Fault> {
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame?.into_data()
            && !bytes.is_empty()
        {
            return Ok((bytes, Some(body)));
        }
    }
    Ok((Bytes::new(), None))
}

impl objects::HostSlot for View<'_> {
    async fn insert(&mut self, slot: Resource<Slot>, how: Keeping) -> Answer<Resource<Writer>> {
        let Slot(number) = self.table.delete(slot)?;
        // The turn passes on where nothing comes of it.
        let Some(Turn { name, slot }) = self.host.hands.turns.remove(&number) else { return Ok(Err(Error::Broken)) };
        let Keeping { fresh_ms, stale_ms, keys, metadata, length } = how;
        if keys.len() > KEYS_MAX || !keys.iter().all(|key| is_key(key)) {
            return Ok(Err(Error::Invalid));
        }
        let (pieces, receiver) = mpsc::channel(PIECES);
        let body = Written { receiver, is_over: false }.boxed_unsync();
        let made = {
            let _io = self.host.io.enter();
            slot.make(Making { fresh_ms, stale_ms, keys, metadata, length }, body)
        };
        let made = match made {
            Ok(made) => made,
            Err(Unmade::Invalid) => return Ok(Err(Error::Invalid)),
            Err(Unmade::TooLarge) => return Ok(Err(Error::TooLarge)),
        };
        let (number, memory) = (self.host.hands.number(), self.host.memory());
        self.host.hands.writing.insert(number, Writing { name, pieces, made, memory });
        Ok(Ok(self.table.push(Writer(number))?))
    }

    async fn drop(&mut self, slot: Resource<Slot>) -> wasmtime::Result<()> {
        let Slot(number) = self.table.delete(slot)?;
        self.host.hands.turns.remove(&number);
        Ok(())
    }
}

impl objects::HostWriter for View<'_> {
    async fn write(&mut self, writer: Resource<Writer>, bytes: Vec<u8>) -> Answer<()> {
        let number = self.table.get(&writer)?.0;
        let Some(writing) = self.host.hands.writing.get_mut(&number) else { return Ok(Err(Error::Broken)) };
        if !writing.memory.grow(bytes.len()) {
            return Ok(Err(Error::TooMany));
        }
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            if writing.pieces.send(Some(piece)).await.is_err() {
                self.host.hands.writing.remove(&number);
                return Ok(Err(Error::TooLarge));
            }
        }
        Ok(Ok(()))
    }

    async fn finish(&mut self, writer: Resource<Writer>) -> Answer<()> {
        let Writer(number) = self.table.delete(writer)?;
        let Some(writing) = self.host.hands.writing.remove(&number) else { return Ok(Err(Error::Broken)) };
        let is_taken = writing.pieces.send(None).await.is_ok();
        Ok(if is_taken && writing.made.await { Ok(()) } else { Err(Error::TooLarge) })
    }

    async fn drop(&mut self, writer: Resource<Writer>) -> wasmtime::Result<()> {
        let Writer(number) = self.table.delete(writer)?;
        self.host.hands.writing.remove(&number);
        Ok(())
    }
}

/// The body of what is being written: it ends well when its writer says so.
struct Written {
    receiver: mpsc::Receiver<Option<Bytes>>,
    is_over: bool,
}

impl http_body::Body for Written {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let piece = ready!(self.receiver.poll_recv(cx));
        if let Some(Some(piece)) = piece {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        self.is_over = true;
        let given_up = || Err(Fault::new(Code::InternalError).because("a function gave up writing it"));
        Poll::Ready(piece.is_none().then(given_up))
    }
}
