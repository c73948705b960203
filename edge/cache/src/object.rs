//! A kept answer with its body.

use std::sync::Arc;

use eyot_plan::body::Body;
use eyot_plan::cache::Kept;
use eyot_plan::cache::slices::Slices;

use crate::purges::{Born, Hash};
use crate::source::Source;
use crate::stored::Stored;

/// What an answer weighs beside its fields and its body, in bytes: what holds it.
const HOLD_BYTES: u64 = 512;
/// What a field weighs beside its name and value, in bytes.
const FIELD_BYTES: u64 = 64;

/// A kept answer.
#[derive(Clone, Debug)]
pub struct Object {
    /// What is known of it.
    pub kept: Kept,
    /// When its fill began.
    pub born: Born,
    /// The room's count then.
    pub count: u64,
    /// The URL it is purged by.
    pub url: Hash,
    /// The keys it is purged by.
    pub keys: Arc<[Hash]>,
    /// Its body, which later versions of its fields have too.
    pub body: Source,
    /// What the disk tier has of that body.
    pub stored: Arc<Stored>,
}

impl Object {
    /// Its body's length: what it has, or what it was said to have while it is coming.
    pub fn length(&self) -> Option<u64> {
        let declared = || self.kept.headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        self.body.length().or_else(declared)
    }

    /// The bytes from `from` to before `to`, or to the end. None: they were let go of already.
    pub fn read(&self, from: u64, to: Option<u64>) -> Option<Body> {
        self.body.read(from, to)
    }

    /// How its body is kept, if that is in slices.
    pub fn slices(&self) -> Option<Arc<Slices>> {
        match &self.body {
            Source::Slices(slices) => Some(Arc::clone(slices)),
            Source::Disk(_) | Source::Fill(_) => None,
        }
    }

    /// Whether it is another version of the same body.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stored, &other.stored)
    }

    /// What it takes in memory, in bytes.
    pub fn weight(&self) -> u64 {
        let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            FIELD_BYTES + name.as_str().len() as u64 + value.len() as u64
        };
        let fields: u64 = self.kept.headers.iter().map(field).sum();
        let selected = self.kept.selected.iter();
        let selected: u64 =
            selected.map(|(_, value)| FIELD_BYTES + value.as_ref().map_or(0, |value| value.len() as u64)).sum();
        HOLD_BYTES + fields + selected + (self.keys.len() * Hash::BYTES) as u64 + self.body.weight()
    }
}
