//! `POST /purge?app=shop&key=product-9`: a purge on this node alone, for its operator.

use eyot_bundle::name::Name;
use eyot_link::purge::{Kind, PurgeRequest};
use http::StatusCode;
use serde_json::{Value, json};

use crate::purge::{Purger, Unsent};

/// Purges what the query names: an `app` and its `url`, its `key` or `all=1`; with `soft=1` it may answer while it is
/// fetched anew.
pub(super) fn purge(purger: &Purger, query: &str) -> Result<Value, (StatusCode, String)> {
    let (app, request) = read(query).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    purger.here(&app, &request).map_err(|error| match error {
        Unsent::Disk(cause) => {
            (StatusCode::INSUFFICIENT_STORAGE, format!("{}: {cause}", Unsent::Disk(cause.kind().into())))
        }
        error => (StatusCode::BAD_REQUEST, error.to_string()),
    })?;
    tracing::info!(%app, kind = ?request.kind, value = request.value, soft = request.soft, "the operator purged here");
    Ok(json!({"app": app, "purged": request}))
}

fn read(query: &str) -> Result<(Name, PurgeRequest), String> {
    let (mut app, mut what, mut soft) = (None, Vec::new(), false);
    for (name, value) in query.split('&').filter_map(|part| part.split_once('=')) {
        let value = decode(value).ok_or_else(|| format!("`{name}` is not percent-encoded UTF-8"))?;
        match (name, value.as_str()) {
            ("app", _) => app = Some(value.parse::<Name>().map_err(|error| error.to_string())?),
            ("url", _) => what.push((Kind::Url, value)),
            ("key", _) => what.push((Kind::Key, value)),
            ("all", "1") => what.push((Kind::App, String::new())),
            ("soft", "0" | "1") => soft = value == "1",
            _ => return Err(format!("`{name}={value}` is not known here")),
        }
    }
    let app = app.ok_or("say which: app=shop")?;
    let [(kind, value)] = <[_; 1]>::try_from(what).map_err(|_| "say one of url=…, key=… and all=1")?;
    let request = PurgeRequest { kind, value, soft };
    request.check()?;
    Ok((app, request))
}

/// The text of a percent-encoded one (RFC 3986, section 2.1).
pub(super) fn decode(text: &str) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_one_thing_of_one_app() {
        for (query, expect) in [
            ("app=shop&key=product-9", Some(("key", "product-9", false))),
            (
                "app=shop&soft=1&url=https%3A%2F%2Fshop.example.com%2Fa%3Fb%3D1%262",
                Some(("url", "https://shop.example.com/a?b=1&2", true)),
            ),
            ("app=shop&all=1", Some(("app", "", false))),
            ("key=product-9", None),
            ("app=shop", None),
            ("app=shop&key=a&key=b", None),
            ("app=shop&key=a&all=1", None),
            ("app=shop&key=%4", None),
            ("app=shop&key=%ff", None),
            ("app=shop&key=a%20b", None),
            ("app=shop&url=/a", None),
            ("app=shop&key=a&hard=1", None),
            ("app=../a&key=a", None),
            ("", None),
        ] {
            let read = read(query).ok().map(|(app, request)| {
                assert_eq!(app.as_str(), "shop");
                (serde_json::to_value(request.kind).expect("a word"), request.value, request.soft)
            });
            let expect = expect.map(|(kind, value, soft)| (json!(kind), value.to_owned(), soft));
            assert_eq!(read, expect, "{query}");
        }
    }
}
