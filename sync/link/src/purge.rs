//! The messages of purges: what is asked of an origin, what it tells nodes in their stream, and how far nodes are.

use std::collections::BTreeMap;

use eyot_bundle::name::Name;
use http::Method;
use serde::{Deserialize, Serialize};

use crate::client::{Ask, Client};
use crate::error::Error;
use crate::path;

/// A URL to purge is no longer, in bytes.
pub const URL_BYTES_MAX: usize = 2_048;
/// A surrogate key is no longer, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// A line of the stream tells no more purges than this.
pub const LINE_PURGES_MAX: usize = 128;

/// What of an app is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// All of it.
    App,
    /// What has a surrogate key.
    Key,
    /// What was kept for a URL.
    Url,
}

/// `POST /v1/apps/{app}/purge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    /// What is named.
    pub kind: Kind,
    /// The URL or the key; of an app nothing.
    #[serde(default)]
    pub value: String,
    /// Whether it may answer while it is fetched anew.
    #[serde(default)]
    pub soft: bool,
}

impl PurgeRequest {
    /// Refuses what names nothing.
    ///
    /// # Errors
    /// What is wrong, for whoever asked.
    pub fn check(&self) -> Result<(), String> {
        match self.kind {
            Kind::App if self.value.is_empty() => Ok(()),
            Kind::App => Err("a purge of an app names nothing else".to_owned()),
            Kind::Key if is_key(&self.value) => Ok(()),
            Kind::Key => Err(format!("a surrogate key is one word of 1 to {KEY_BYTES_MAX} bytes")),
            Kind::Url if is_url(&self.value) => Ok(()),
            Kind::Url => {
                Err(format!("a URL is absolute, as https://shop.example.com/a, of at most {URL_BYTES_MAX} bytes"))
            }
        }
    }
}

fn is_key(text: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&text.len()) && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn is_url(text: &str) -> bool {
    text.len() <= URL_BYTES_MAX
        && text.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
        })
}

/// What a purge answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Its number in the origin's log: a node that reports this or more has done it.
    pub purge: u64,
    /// Whether it became a purge of the whole app, since there were too many.
    #[serde(default)]
    pub widened: bool,
}

/// One purge of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// Its number; later ones are higher.
    pub n: u64,
    /// The app.
    pub app: Name,
    /// What is named.
    pub kind: Kind,
    /// The URL or the key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Whether it may answer while it is fetched anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
    /// Purges of this app were forgotten that this node was not told: all of it is asked for again before it answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missed: bool,
}

/// A line of the stream: purges that the node has not done, the lowest number first, and how far it is with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The purges.
    pub purges: Vec<Logged>,
    /// The log: 32 hexadecimal digits.
    pub log: String,
    /// How far a node is in it that has done these.
    pub n: u64,
    /// The node is not of this log, or beyond it: purges of any app may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missed: bool,
    /// More follow at once: the node is not yet where the log is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl Told {
    /// Reads a line. One with a purge that a later version knows may mean anything; one that says not even how far it goes
    /// is of no use.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Least {
            log: String,
            n: u64,
            #[serde(default)]
            more: bool,
        }
        let unknown = |Least { log, n, more }| Self { purges: Vec::new(), log, n, missed: true, more };
        serde_json::from_slice(line).or_else(|_| serde_json::from_slice(line).map(unknown)).ok()
    }
}

/// How far a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// The log.
    pub log: String,
    /// The last of it that was done.
    pub n: u64,
}

/// `GET /v1/apps/{app}/purge`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The last purge of the log.
    pub purge: u64,
    /// The nodes that are in the fleet.
    pub nodes: BTreeMap<Name, NodeProgress>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeProgress {
    /// Its region, as signed.
    pub region: String,
    /// Whether it holds a stream now.
    pub watching: bool,
    /// The last purge it said it has done.
    pub purge: u64,
    /// When it said so first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
}

impl Client {
    /// Purges something of an app. It is safe to ask twice.
    pub async fn purge(&self, app: &Name, request: &PurgeRequest) -> Result<Purged, Error> {
        self.ask(&Ask::json(Method::POST, path::purge(app.as_str()), request)?).await?.json().await
    }

    /// How far the nodes are with purges.
    pub async fn purge_progress(&self, app: &Name) -> Result<Progress, Error> {
        self.ask(&Ask::get(path::purge(app.as_str()))).await?.json().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::WatchLine;

    #[test]
    fn the_purges_of_the_formats_document_are_read_and_what_names_nothing_is_refused() {
        let read = |text: &str| serde_json::from_str::<PurgeRequest>(text).map_err(|error| error.to_string());
        let check = |text: &str| read(text).and_then(|request| request.check());
        for good in [
            r#"{"kind":"url","value":"https://shop.example.com/a","soft":true}"#,
            r#"{"kind":"key","value":"product-9"}"#,
            r#"{"kind":"app"}"#,
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let (long_key, long_url) = ("k".repeat(257), format!("https://a.example/{}", "a".repeat(2_048)));
        for (kind, value) in [
            ("url", "/a"),
            ("url", "ftp://a.example/"),
            ("url", long_url.as_str()),
            ("key", ""),
            ("key", "a b"),
            ("key", long_key.as_str()),
            ("app", "shop"),
        ] {
            assert!(check(&format!(r#"{{"kind":"{kind}","value":"{value}"}}"#)).is_err(), "{kind} {value}");
        }
        assert!(read(r#"{"kind":"app","all":true}"#).is_err());
        let line = r#"{"n":77,"app":"shop","kind":"key","value":"product-9","soft":true}"#;
        let logged: Logged = serde_json::from_str(line).expect("a purge");
        assert_eq!(serde_json::to_string(&logged).expect("text"), line);
        let told = Told { purges: vec![logged], log: "0a".to_owned(), n: 77, missed: false, more: false };
        let line = WatchLine::Purges(told.clone()).encode();
        assert_eq!(WatchLine::decode(&line[..line.len() - 1]).expect("a line"), Some(WatchLine::Purges(told)));
        // Of a later version: this node cannot know what was purged.
        let later = br#"{"purges":[{"n":78,"app":"shop","kind":"prefix","value":"/a"}],"log":"0a","n":78}"#;
        let missed = Told { purges: Vec::new(), log: "0a".to_owned(), n: 78, missed: true, more: false };
        assert_eq!(WatchLine::decode(later).expect("a line"), Some(WatchLine::Purges(missed)));
    }
}
