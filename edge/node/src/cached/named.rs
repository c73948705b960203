//! What functions keep by names of their own: the door of a call to its app's room.

use std::sync::Arc;

use eyot_cache::named;
use eyot_cache::named::{Looked, Objects, Opened, Slot};
use eyot_guest::{Looking, Made, Making, Unmade};
use eyot_plan::body::Body;
use eyot_plan::cache::named::{Times, metadata};

use super::PRODUCTION;
use crate::call::Kin;
use crate::purge::now_ms;
use crate::telemetry::Text;

/// What lookups of functions are counted under, where requests of clients have their route.
const OBJECTS: Text = Text::const_str("objects");

/// The door of one call.
pub(crate) struct Named {
    kin: Arc<Kin>,
}

impl Named {
    pub(crate) fn new(kin: Arc<Kin>) -> Self {
        Self { kin }
    }

    /// The app's objects; none: it has no room.
    fn objects(&self) -> Option<Objects> {
        let entry = &self.kin.entry;
        Some(Objects::new(Arc::clone(entry.room.as_ref()?), entry.app.as_str(), PRODUCTION))
    }

    fn looked(kin: &Kin, looked: Looked) -> eyot_guest::Looked {
        kin.telemetry.cache_requests(&kin.entry.label, &OBJECTS, looked.result).increment(1);
        eyot_guest::Looked {
            object: looked.object.map(|Opened { object, body }| {
                Box::new(Object { object, body: Some(body) }) as Box<dyn eyot_guest::Object>
            }),
            slot: looked.slot.map(|slot| Box::new(Turn(slot)) as Box<dyn eyot_guest::Slot>),
        }
    }
}

impl eyot_guest::Objects for Named {
    fn find(&self, name: String) -> Looking {
        let (kin, objects) = (Arc::clone(&self.kin), self.objects());
        Box::pin(async move { Some(Self::looked(&kin, objects?.find(&name, now_ms).await)) })
    }

    fn lookup(&self, name: String) -> Looking {
        let (kin, objects) = (Arc::clone(&self.kin), self.objects());
        Box::pin(async move { Some(Self::looked(&kin, objects?.lookup(&name, now_ms).await)) })
    }
}

/// An object, for who reads it.
struct Object {
    object: Arc<eyot_cache::object::Object>,
    body: Option<Body>,
}

impl eyot_guest::Object for Object {
    fn metadata(&self) -> Vec<u8> {
        metadata(&self.object.kept)
    }

    fn age_ms(&self) -> u64 {
        self.object.kept.life.age_ms(now_ms())
    }

    fn left_ms(&self) -> i64 {
        self.object.kept.life.ttl_ms(now_ms())
    }

    fn length(&self) -> Option<u64> {
        self.object.length()
    }

    fn take(&mut self) -> Option<Body> {
        self.body.take()
    }
}

/// The turn to make one.
struct Turn(Slot);

impl eyot_guest::Slot for Turn {
    fn make(self: Box<Self>, making: Making, body: Body) -> Result<Made, Unmade> {
        let Making { fresh_ms, stale_ms, keys, metadata, length } = making;
        let making = named::Making { times: Times { fresh_ms, stale_ms }, keys, metadata, length };
        let made = self.0.make(&making, body, now_ms()).map_err(|unmade| match unmade {
            named::Unmade::Invalid => Unmade::Invalid,
            named::Unmade::TooLarge => Unmade::TooLarge,
        })?;
        Ok(Box::pin(async { made.await.is_ok() }))
    }
}
