//! What functions keep by names of their own, in the room of their app: looked up so that one makes what many want, and
//! read while it comes.

use std::sync::Arc;

use eyot_plan::body::Body;
use eyot_plan::cache::key;
use eyot_plan::cache::life::Use;
use eyot_plan::cache::named::{self, Times};
use http::HeaderMap;
use tokio::sync::oneshot;

use crate::flight::Outcome;
use crate::object::Object;
use crate::purges::{Hash, Verdict};
use crate::room::{Ask, Found, Leading, Room, Way};

/// How often a lookup waits for others that give up before they have made anything.
const WAITS_MAX: usize = 3;

/// The objects of an app in one environment.
#[derive(Clone, Debug)]
pub struct Objects {
    room: Arc<Room>,
    app: Box<str>,
    environment: Box<str>,
}

/// An object that is read from its beginning.
#[derive(Debug)]
pub struct Opened {
    /// What is known of it.
    pub object: Arc<Object>,
    /// All of it, also what is still to come.
    pub body: Body,
}

/// What a lookup has found.
#[derive(Debug)]
pub struct Looked {
    /// What is kept.
    pub object: Option<Opened>,
    /// The turn to make it, where that is this one's: there is nothing, or it is stale.
    pub slot: Option<Slot>,
    /// What it is counted as in `eyot_cache_requests_total`.
    pub result: &'static str,
}

impl Opened {
    /// None: its beginning was let go of already, or it has broken off.
    fn of(object: Arc<Object>) -> Option<Self> {
        let body = object.read(0, None)?;
        Some(Self { object, body })
    }
}

impl Looked {
    fn nothing(slot: Option<Slot>, result: &'static str) -> Self {
        Self { object: None, slot, result }
    }

    fn object(object: Opened, result: &'static str) -> Self {
        Self { object: Some(object), slot: None, result }
    }
}

/// A name in the form that the room knows.
struct Key {
    id: u128,
    /// The surrogate key that its object has by the name alone.
    tag: Hash,
    none: HeaderMap,
}

impl Key {
    fn ask(&self) -> Ask<'_> {
        Ask { id: self.id, url: self.tag, request: &self.none }
    }
}

impl Objects {
    /// Those of `app` in `environment`, in its room.
    pub fn new(room: Arc<Room>, app: &str, environment: &str) -> Self {
        Self { room, app: app.into(), environment: environment.into() }
    }

    fn key(&self, name: &str) -> Key {
        let id = key::id(&key::named(&self.app, &self.environment, name));
        Key { id, tag: Hash::key(&self.app, &named::tag(name)), none: HeaderMap::new() }
    }

    /// What is kept by `name` and good now, fresh or stale; waits for nobody.
    pub async fn find(&self, name: &str, now_ms: impl Fn() -> u64) -> Looked {
        match self.good(&self.key(name), &now_ms).await {
            Some((object, Use::StaleWhile)) => Looked::object(object, "stale"),
            Some((object, _)) => Looked::object(object, "hit"),
            None => Looked::nothing(None, "miss"),
        }
    }

    /// What is kept by `name`, or the turn to make it. Whoever looks it up while another makes it waits for that, and reads
    /// it while it comes. What is stale and still good is given to all, and the turn to one of them.
    pub async fn lookup(&self, name: &str, now_ms: impl Fn() -> u64) -> Looked {
        let key = self.key(name);
        for _ in 0..WAITS_MAX {
            if let Some((object, good)) = self.good(&key, &now_ms).await {
                if good == Use::Fresh {
                    return Looked::object(object, "hit");
                }
                let slot = match self.room.way(&key.ask(), now_ms()) {
                    Way::Lead(leading) => Some(self.slot(leading)),
                    Way::Alone | Way::Wait(_) => None,
                };
                return Looked { object: Some(object), slot, result: "stale" };
            }
            match self.room.way(&key.ask(), now_ms()) {
                Way::Lead(leading) => {
                    // It may have come since this one looked.
                    let Some((object, Use::Fresh)) = self.in_memory(&key, now_ms()) else {
                        return Looked::nothing(Some(self.slot(leading)), "miss");
                    };
                    return Looked::object(object, "hit");
                }
                Way::Alone => break,
                Way::Wait(waiting) => {
                    // What was just made is good for those who waited for it, however short its time is.
                    if let Outcome::Kept(object) = waiting.outcome().await
                        && matches!(self.room.verdict(&object, now_ms()), Verdict::Fresh | Verdict::Stale)
                        && let Some(object) = Opened::of(object)
                    {
                        return Looked::object(object, "collapsed");
                    }
                }
            }
        }
        Looked::nothing(Some(self.slot(self.room.alone(&key.ask(), now_ms()))), "bypass")
    }

    fn slot(&self, leading: Leading) -> Slot {
        Slot { leading, room: Arc::clone(&self.room), app: self.app.clone() }
    }

    /// What is kept in memory or on disk and answers.
    async fn good(&self, key: &Key, now_ms: &impl Fn() -> u64) -> Option<(Opened, Use)> {
        if let Some(good) = self.in_memory(key, now_ms()) {
            return Some(good);
        }
        let found = self.room.load(key.id, &key.none, now_ms()).await;
        judged(found, now_ms())
    }

    fn in_memory(&self, key: &Key, now_ms: u64) -> Option<(Opened, Use)> {
        judged(self.room.find(key.id, &key.none, now_ms), now_ms)
    }
}

fn judged(found: Found, now_ms: u64) -> Option<(Opened, Use)> {
    let Found::Object(object, verdict) = found else { return None };
    let good = match verdict {
        Verdict::Fresh | Verdict::Stale => object.kept.life.judge(None, verdict == Verdict::Stale, now_ms),
        Verdict::Doubted | Verdict::Gone => Use::Ask,
    };
    Some((Opened::of(object)?, good)).filter(|_| good != Use::Ask)
}

/// The turn to make what is looked up. Dropped, it passes to one of those who wait.
#[derive(Debug)]
pub struct Slot {
    leading: Leading,
    room: Arc<Room>,
    app: Box<str>,
}

/// What is said of an object that is made.
#[derive(Clone, Debug, Default)]
pub struct Making {
    /// How long it is good for.
    pub times: Times,
    /// The surrogate keys it is purged by, beside that of its name.
    pub keys: Vec<String>,
    /// What its maker says of it.
    pub metadata: Vec<u8>,
    /// How long its body is, if that is known, in bytes.
    pub length: Option<u64>,
}

/// Why nothing is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmade {
    /// It is kept for too long, or too much is said of it.
    Invalid,
    /// Its body is longer than what is kept.
    TooLarge,
}

impl Slot {
    /// The longest body that is kept, in bytes.
    pub fn body_bytes_max(&self) -> u64 {
        self.room.object_bytes_max()
    }

    /// Keeps what `body` brings. Those who wait read it from now on; who comes later finds it when what is given has come.
    /// That is gone where it is not kept: the body broke off, or nobody reads on what is too large.
    ///
    /// # Errors
    /// Why nothing is kept; the turn has passed to another then.
    pub fn make(mut self, making: &Making, body: Body, now_ms: u64) -> Result<oneshot::Receiver<()>, Unmade> {
        let Making { times, metadata, length, .. } = making;
        let kept = named::kept(*times, metadata, *length, now_ms).ok_or(Unmade::Invalid)?;
        if making.length.is_some_and(|length| length > self.room.object_bytes_max()) {
            return Err(Unmade::TooLarge);
        }
        let keys: Vec<Hash> = making.keys.iter().map(|key| Hash::key(&self.app, key)).collect();
        let told = self.leading.told();
        drop(self.leading.keep(kept, &keys, body, making.length));
        Ok(told)
    }
}

#[cfg(test)]
mod tests;
