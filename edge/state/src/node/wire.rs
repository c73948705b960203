//! What two processes of a node say to each other of stores: a JSON document behind its length each way, an answer for
//! each ask, by its number. Both ends are ours, but may be of two versions.

use std::borrow::Cow;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use eyot_bundle::name::Name;
use eyot_bundle::release::Store as Spec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::ask::{Ask, Bound, Current, Page, Said, Write};
use crate::error::Error;

/// A document of more bytes is none: values asked at once, in base64, and their keys.
const DOCUMENT_BYTES_MAX: u32 = 16 << 20;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) number: u64,
    app: Name,
    store: Name,
    spec: Spec,
    disk_bytes_max: u64,
    ask: What,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Current(String),
    Exists(String),
    Get(Vec<String>),
    Increment(String, i64),
    Keys(Option<String>),
    Swap(String, u64, Blob),
    Write(Vec<(String, Option<Blob>)>),
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) number: u64,
    said: Words,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Words {
    Current(Option<Blob>, u64),
    Done,
    Exists(bool),
    Keys(Vec<String>, Option<String>),
    Refused(String),
    Sum(i64),
    Swapped(bool),
    Unavailable(String),
    Values(Vec<Option<Blob>>),
}

/// A value, base64.
#[derive(Debug)]
struct Blob(Bytes);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(&*text).map(|bytes| Self(bytes.into())).map_err(serde::de::Error::custom)
    }
}

impl Asked {
    pub(super) fn new(number: u64, bound: &Bound, ask: Ask) -> Self {
        let Bound { app, store, spec, disk_bytes_max } = bound.clone();
        let ask = match ask {
            Ask::Current(key) => What::Current(key),
            Ask::Exists(key) => What::Exists(key),
            Ask::Get(keys) => What::Get(keys),
            Ask::Increment { key, delta } => What::Increment(key, delta),
            Ask::Keys { cursor } => What::Keys(cursor),
            Ask::Swap { key, revision, value } => What::Swap(key, revision, Blob(value)),
            Ask::Write(writes) => {
                What::Write(writes.into_iter().map(|write| (write.key, write.value.map(Blob))).collect())
            }
        };
        Self { number, app, store, spec, disk_bytes_max, ask }
    }

    pub(super) fn into_parts(self) -> (u64, Bound, Ask) {
        let Self { number, app, store, spec, disk_bytes_max, ask } = self;
        let ask = match ask {
            What::Current(key) => Ask::Current(key),
            What::Exists(key) => Ask::Exists(key),
            What::Get(keys) => Ask::Get(keys),
            What::Increment(key, delta) => Ask::Increment { key, delta },
            What::Keys(cursor) => Ask::Keys { cursor },
            What::Swap(key, revision, Blob(value)) => Ask::Swap { key, revision, value },
            What::Write(writes) => {
                let write = |(key, value): (String, Option<Blob>)| Write { key, value: value.map(|value| value.0) };
                Ask::Write(writes.into_iter().map(write).collect())
            }
        };
        (number, Bound { app, store, spec, disk_bytes_max }, ask)
    }
}

impl Answer {
    pub(super) fn new(number: u64, said: Result<Said, Error>) -> Self {
        let said = match said {
            Ok(Said::Current(current)) => Words::Current(current.value.map(Blob), current.revision),
            Ok(Said::Done) => Words::Done,
            Ok(Said::Exists(exists)) => Words::Exists(exists),
            Ok(Said::Keys(page)) => Words::Keys(page.keys, page.cursor),
            Ok(Said::Sum(sum)) => Words::Sum(sum),
            Ok(Said::Swapped(swapped)) => Words::Swapped(swapped),
            Ok(Said::Values(values)) => Words::Values(values.into_iter().map(|value| value.map(Blob)).collect()),
            Err(Error::Refused(text)) => Words::Refused(text.into_owned()),
            Err(Error::Unavailable(text)) => Words::Unavailable(text.into_owned()),
        };
        Self { number, said }
    }

    pub(super) fn into_said(self) -> Result<Said, Error> {
        Ok(match self.said {
            Words::Current(value, revision) => Said::Current(Current { value: value.map(|value| value.0), revision }),
            Words::Done => Said::Done,
            Words::Exists(exists) => Said::Exists(exists),
            Words::Keys(keys, cursor) => Said::Keys(Page { keys, cursor }),
            Words::Refused(text) => return Err(Error::Refused(text.into())),
            Words::Sum(sum) => Said::Sum(sum),
            Words::Swapped(swapped) => Said::Swapped(swapped),
            Words::Unavailable(text) => return Err(Error::Unavailable(text.into())),
            Words::Values(values) => Said::Values(values.into_iter().map(|value| value.map(|value| value.0)).collect()),
        })
    }
}

/// Says one document.
pub(super) async fn say(line: &mut (impl AsyncWrite + Unpin), document: &impl Serialize) -> io::Result<()> {
    let mut text = vec![0; 4];
    serde_json::to_writer(&mut text, document)?;
    let length = u32::try_from(text.len() - 4).ok().filter(|length| *length <= DOCUMENT_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("too much to say"))?;
    text[..4].copy_from_slice(&length.to_be_bytes());
    line.write_all(&text).await
}

/// Hears the next document; an error when the other side has ended.
pub(super) async fn hear<T: DeserializeOwned>(line: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = line.read_u32().await?;
    if length > DOCUMENT_BYTES_MAX {
        return Err(io::Error::other("more is said than can be heard"));
    }
    let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    line.read_exact(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}
