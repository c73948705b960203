//! What a room has on disk: found there when memory does not have it, and stored there when it is here.

use std::sync::Arc;
use std::time::Duration;

use eyot_plan::cache::Kept;
use eyot_plan::cache::key;
use eyot_plan::cache::vary::Selected;
use http::HeaderMap;
use http::header::{ETAG, LAST_MODIFIED};
use tokio::time::timeout;

use super::{Found, Room};
use crate::disk::{Disk, Id, Reader, Writer};
use crate::fill::Fill;
use crate::meta::Meta;
use crate::object::Object;
use crate::purges::Verdict;
use crate::source::{OnDisk, Source};
use crate::stored::Stored;

/// Bodies on disk of at most so many bytes are read whole before they answer, and are in memory then.
pub const WHOLE_BYTES_MAX: u64 = 1 << 20;
/// What is fresh for less than this and cannot be asked for anew is not stored.
pub const USE_MS_MIN: u64 = 10_000;
/// How long it may take to find something on disk.
const LOAD_WAIT: Duration = Duration::from_secs(1);
/// How long the disk may take to have room for what is stored.
pub(super) const STORE_WAIT: Duration = Duration::from_secs(10);

/// What the disk knows all answers of one key by.
pub(super) fn primary(id: u128) -> Id {
    id.to_be_bytes()
}

/// What it knows one of them by.
pub(super) fn own(id: u128, selected: &Selected) -> Id {
    let mut bytes = id.to_be_bytes().to_vec();
    for (name, value) in selected {
        for part in [Some(name.as_str()), value.as_deref()] {
            bytes.push(u8::from(part.is_some()));
            let part = part.unwrap_or_default();
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    key::id(&bytes).to_be_bytes()
}

/// Whether it is of use for a while.
fn is_of_use(kept: &Kept) -> bool {
    let fresh = i64::try_from(USE_MS_MIN).is_ok_and(|least| kept.life.ttl_ms(kept.life.answered_ms) >= least);
    fresh || kept.headers.contains_key(ETAG) || kept.headers.contains_key(LAST_MODIFIED)
}

/// All of a body on disk, in memory. None: some of it is not what was written, or cannot be had.
async fn whole(disk: &OnDisk) -> Option<Arc<Fill>> {
    let mut pieces = Vec::new();
    for number in 0..disk.reader.chunks() {
        pieces.push(disk.reader.chunk(number).await.ok()?);
    }
    let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    disk.reader.answers();
    (bytes == disk.reader.body_bytes()).then(|| Fill::here(&pieces, disk.trailers.clone()))
}

impl Room {
    /// What is on disk for a request, where memory has nothing for it. At once, if the disk has nothing of its URI.
    pub async fn load(&self, id: u128, request: &HeaderMap, now_ms: u64) -> Found {
        let Some(disk) = self.common.disk().filter(|disk| disk.has(&primary(id))) else { return Found::Nothing };
        let load = async {
            // Those who ask for the same at once read it once.
            let _turn = self.turns[self.stripe_of(id)].lock().await;
            match self.find(id, request, now_ms) {
                found @ Found::Object(..) => found,
                Found::Nothing | Found::Others => self.load_in_turn(&disk, (id, request), now_ms).await,
            }
        };
        timeout(LOAD_WAIT, load).await.unwrap_or(Found::Nothing)
    }

    async fn load_in_turn(&self, disk: &Disk, (id, request): (u128, &HeaderMap), now_ms: u64) -> Found {
        let (mut others, mut best) = (Found::Nothing, None::<(Object, Verdict)>);
        for reader in disk.find(&primary(id)).await {
            let (own, file) = (reader.id(), reader.file());
            let object = self.on_disk(id, reader);
            let verdict = object.as_ref().map_or(Verdict::Gone, |object| self.verdict(object, now_ms));
            match object {
                None => disk.remove_file(&own, file),
                Some(_) if verdict == Verdict::Gone => disk.remove_file(&own, file),
                Some(object) if !object.kept.matches(request) => others = Found::Others,
                Some(object) => {
                    let age = |object: &Object| (object.kept.life.answered_ms, object.stored.file());
                    if best.as_ref().is_none_or(|(best, _)| age(best) < age(&object)) {
                        best = Some((object, verdict));
                    }
                }
            }
        }
        let Some((mut object, verdict)) = best else { return others };
        if let Source::Disk(body) = &object.body
            && body.reader.body_bytes() <= WHOLE_BYTES_MAX
        {
            let Some(fill) = whole(body).await else { return others };
            object.body = Source::Fill(fill);
        }
        match self.promote(disk, id, object) {
            Some(object) => Found::Object(object, verdict),
            // Something newer came meanwhile, or it went.
            None => match self.find(id, request, now_ms) {
                Found::Nothing => others,
                found => found,
            },
        }
    }

    /// What a file says that it is, if that is something of this key.
    fn on_disk(&self, id: u128, reader: Reader) -> Option<Object> {
        let Meta { file, life, born, count, url, keys, kept, trailers } = Meta::decode(reader.meta())?;
        if file != reader.file() || own(id, &kept.selected) != reader.id() {
            return None;
        }
        // What another process counted means nothing here: all that ended here ended it.
        let count = if life == self.common.life { count } else { 0 };
        let body = Source::Disk(Arc::new(OnDisk { reader, trailers }));
        let stored = Arc::new(Stored::with(file));
        Some(Object { kept, born, count, url, keys: keys.into(), body, stored })
    }

    /// Has what was read in memory, unless something took its place meanwhile.
    fn promote(&self, disk: &Disk, id: u128, object: Object) -> Option<Arc<Object>> {
        let file = object.stored.file()?;
        let object = Arc::new(object);
        let _stripe = self.stripe(id);
        let old = self.memory.peek(&id);
        let is_newer = old.is_some_and(|set| set.iter().any(|it| it.kept.selected == object.kept.selected));
        if is_newer || !disk.has_file(&own(id, &object.kept.selected), file) {
            return None;
        }
        if matches!(object.body, Source::Fill(_)) {
            self.put(id, &object);
        }
        Some(object)
    }

    /// What stands beside the body of `object` in `file`.
    fn meta(&self, object: &Object, file: u64, trailers: Option<&HeaderMap>) -> Meta {
        let (keys, kept) = (object.keys.to_vec(), object.kept.clone());
        let (born, count, url, trailers) = (object.born, object.count, object.url, trailers.cloned());
        Meta { file, life: self.common.life, born, count, url, keys, kept, trailers }
    }

    /// Begins to write `object`, if the disk takes it.
    pub(super) fn begin_store(&self, id: u128, object: &Object, trailers: Option<&HeaderMap>) -> Option<Writer> {
        let disk = self.common.disk().filter(|_| is_of_use(&object.kept))?;
        let meta = self.meta(object, 0, trailers).encode()?;
        disk.begin_write(primary(id), own(id, &object.kept.selected), &meta)
    }

    /// Stores what is in memory. What it replaces goes at once: that would be an older one.
    pub(super) async fn store(&self, id: u128, object: &Object) {
        let Some(disk) = self.common.disk() else { return };
        drop(disk.remove(&own(id, &object.kept.selected)));
        let Source::Fill(fill) = &object.body else { return };
        let Some((pieces, trailers)) = fill.whole() else { return };
        let Some(mut writer) = self.begin_store(id, object, trailers) else { return };
        for piece in pieces {
            if timeout(STORE_WAIT, writer.ready()).await.is_err() || !writer.push(piece.clone()) {
                return;
            }
        }
        self.finish_store(id, object, writer, trailers).await;
    }

    /// The body of `object` is written. If it was forgotten, purged or ended meanwhile, nothing is left of it.
    pub(super) async fn finish_store(&self, id: u128, object: &Object, writer: Writer, trailers: Option<&HeaderMap>) {
        let is_gone = || object.stored.is_forgotten() || self.verdict(object, object.born.at_ms) == Verdict::Gone;
        let file = writer.file();
        let Some(meta) = self.meta(object, file, trailers).encode().filter(|_| !is_gone()) else { return };
        object.stored.set(file);
        if writer.finish(meta).await
            && is_gone()
            && let Some(disk) = self.common.disk()
        {
            disk.remove_file(&own(id, &object.kept.selected), file);
        }
    }

    /// Has the disk know what is new of `object`, if it has its body. It comes when what is given has come.
    pub(super) fn restore(&self, id: u128, object: &Object) -> Option<impl Future<Output = bool> + Send + use<>> {
        let (disk, file) = (self.common.disk()?, object.stored.file()?);
        let own = own(id, &object.kept.selected);
        let trailers = match &object.body {
            Source::Disk(body) => body.trailers.as_ref(),
            Source::Fill(fill) => fill.whole().and_then(|(_, trailers)| trailers),
            Source::Slices(_) => None,
        };
        let meta = self.meta(object, file, trailers).encode();
        if !disk.has_file(&own, file) {
            return None;
        }
        match meta {
            Some(meta) => Some(disk.remeta(own, meta)),
            None => {
                disk.remove_file(&own, file);
                None
            }
        }
    }

    /// Has the disk forget the body of `object`, also if it is being written.
    pub(super) fn unstore(&self, id: u128, object: &Object) {
        object.stored.forget();
        if let (Some(disk), Some(file)) = (self.common.disk(), object.stored.file()) {
            disk.remove_file(&own(id, &object.kept.selected), file);
        }
    }

    /// Has the disk forget what answers the same requests as `object`, which is kept elsewhere.
    pub(super) fn unstore_like(&self, id: u128, object: &Object) {
        if let Some(disk) = self.common.disk() {
            drop(disk.remove(&own(id, &object.kept.selected)));
        }
    }

    /// Has the disk forget all of one key.
    pub(super) fn unstore_all(&self, id: u128) {
        if let Some(disk) = self.common.disk() {
            drop(disk.remove_primary(&primary(id)));
        }
    }
}
