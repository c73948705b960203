//! What stands on disk beside a body, as bytes: all of a kept answer but the body. Pure, and distrustful of every byte: what
//! is not wholly right is nothing.
//!
//! Numbers are little-endian. The version stands first; what another version wrote is nothing.

use bytes::Bytes;
use eyot_plan::cache::Kept;
use eyot_plan::cache::life::Life;
use eyot_plan::cache::tags::TAGS_MAX;
use eyot_plan::cache::vary::{FIELDS_MAX as SELECTED_MAX, Selected};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::disk::META_BYTES_MAX;
use crate::purges::{Born, Hash};

const VERSION: u8 = 1;
/// Fields of an answer, and of its trailers.
pub const FIELDS_MAX: usize = 1024;
/// What an answer is purged by: its keys, and its URL in the forms in which people write it.
pub const KEYS_MAX: usize = TAGS_MAX + 8;

/// What stands beside a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The number of the file that it was written for: with another body it means nothing.
    pub file: u64,
    /// The process that wrote it, by a random number.
    pub life: u64,
    /// When its fill began.
    pub born: Born,
    /// The room's count then, which only that process understands.
    pub count: u64,
    /// The URL it is purged by.
    pub url: Hash,
    /// The keys it is purged by.
    pub keys: Vec<Hash>,
    /// What is known of the answer.
    pub kept: Kept,
    /// What followed the body.
    pub trailers: Option<HeaderMap>,
}

impl Meta {
    /// As bytes; none where it is larger than it may be.
    pub fn encode(&self) -> Option<Bytes> {
        let mut out = vec![VERSION];
        let Life { answered_ms, initial_age_ms, fresh_ms, stale_while_ms, stale_error_ms, strict, no_cache } =
            self.kept.life;
        let numbers = [self.file, self.life, self.born.mark, self.born.at_ms, self.count];
        let times = [answered_ms, initial_age_ms, fresh_ms, stale_while_ms];
        numbers.iter().chain(&times).for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        out.push(u8::from(stale_error_ms.is_some()));
        out.extend_from_slice(&stale_error_ms.unwrap_or(0).to_le_bytes());
        out.extend([u8::from(strict), u8::from(no_cache)]);
        out.extend_from_slice(self.url.as_bytes());
        count(&mut out, self.keys.len(), KEYS_MAX)?;
        self.keys.iter().for_each(|key| out.extend_from_slice(key.as_bytes()));
        out.extend_from_slice(&self.kept.status.as_u16().to_le_bytes());
        fields(&mut out, &self.kept.headers)?;
        count(&mut out, self.kept.selected.len(), SELECTED_MAX)?;
        for (name, value) in &self.kept.selected {
            put(&mut out, name.as_str().as_bytes())?;
            out.push(u8::from(value.is_some()));
            put(&mut out, value.as_deref().unwrap_or_default().as_bytes())?;
        }
        out.push(u8::from(self.trailers.is_some()));
        fields(&mut out, self.trailers.as_ref().unwrap_or(&HeaderMap::new()))?;
        (out.len() <= META_BYTES_MAX).then(|| out.into())
    }

    /// From its bytes; none where they are not what this version would have written.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(Some(bytes).filter(|bytes| bytes.len() <= META_BYTES_MAX)?);
        if rest.byte()? != VERSION {
            return None;
        }
        let (file, life) = (rest.number()?, rest.number()?);
        let born = Born { mark: rest.number()?, at_ms: rest.number()? };
        let count = rest.number()?;
        let (answered_ms, initial_age_ms) = (rest.number()?, rest.number()?);
        let (fresh_ms, stale_while_ms) = (rest.number()?, rest.number()?);
        let (has_error, error_ms) = (rest.flag()?, rest.number()?);
        let stale_error_ms = has_error.then_some(error_ms);
        let (strict, no_cache) = (rest.flag()?, rest.flag()?);
        let times = Life { answered_ms, initial_age_ms, fresh_ms, stale_while_ms, stale_error_ms, strict, no_cache };
        let url = rest.hash()?;
        let keys = (0..rest.count(KEYS_MAX)?).map(|_| rest.hash()).collect::<Option<_>>()?;
        let status = StatusCode::from_u16(u16::from_le_bytes(rest.array()?)).ok()?;
        let headers = rest.fields()?;
        let selected = (0..rest.count(SELECTED_MAX)?).map(|_| rest.selected()).collect::<Option<Selected>>()?;
        let (has_trailers, trailers) = (rest.flag()?, rest.fields()?);
        let trailers = has_trailers.then_some(trailers);
        let kept = Kept { status, headers, selected, life: times };
        rest.0.is_empty().then_some(Self { file, life, born, count, url, keys, kept, trailers })
    }
}

fn count(out: &mut Vec<u8>, count: usize, most: usize) -> Option<()> {
    let number = u16::try_from(count).ok().filter(|_| count <= most)?;
    out.extend_from_slice(&number.to_le_bytes());
    Some(())
}

/// A part after its length.
fn put(out: &mut Vec<u8>, part: &[u8]) -> Option<()> {
    out.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
    out.extend_from_slice(part);
    Some(())
}

fn fields(out: &mut Vec<u8>, fields: &HeaderMap) -> Option<()> {
    count(out, fields.len(), FIELDS_MAX)?;
    for (name, value) in fields {
        put(out, name.as_str().as_bytes())?;
        put(out, value.as_bytes())?;
    }
    Some(())
}

/// What was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn hash(&mut self) -> Option<Hash> {
        self.array().map(Hash::from_bytes)
    }

    fn count(&mut self, most: usize) -> Option<usize> {
        let count = usize::from(u16::from_le_bytes(self.array()?));
        Some(count).filter(|count| *count <= most)
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let bytes = u32::from_le_bytes(self.array()?);
        self.take(usize::try_from(bytes).ok()?)
    }

    fn fields(&mut self) -> Option<HeaderMap> {
        let mut fields = HeaderMap::new();
        for _ in 0..self.count(FIELDS_MAX)? {
            let name = HeaderName::from_bytes(self.part()?).ok()?;
            fields.try_append(name, HeaderValue::from_bytes(self.part()?).ok()?).ok()?;
        }
        Some(fields)
    }

    fn selected(&mut self) -> Option<(HeaderName, Option<Box<str>>)> {
        let name = HeaderName::from_bytes(self.part()?).ok()?;
        let (has_value, value) = (self.flag()?, std::str::from_utf8(self.part()?).ok()?);
        Some((name, has_value.then(|| value.into())))
    }
}

#[cfg(test)]
mod tests;
