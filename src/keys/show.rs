//! `eyot keys show`: who holds which role, and until when it is believed. No private key is opened.

use anyhow::Context as _;
use eyot_bundle::sign::{self, Draft};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Folder;
use crate::operator;
use crate::out::Out;

/// What ends within so many days is warned of.
const WARN_DAYS: i64 = 30;

/// Show who holds which role of a fleet, and when its documents expire.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    folder: Folder,
}

/// One signed document.
struct Row {
    role: String,
    version: u64,
    expires: Timestamp,
    keys: Vec<String>,
}

pub(crate) fn run(args: &Args, out: Out) -> anyhow::Result<()> {
    let ring = args.folder.ring();
    let root: Value = serde_json::from_slice(&ring.document("root.json")?).context("root.json")?;
    let holders = |role: &str| texts(&root["signed"]["roles"][role]["keyids"]);
    let targets = operator::targets(&ring)?;
    let fleet = sign::read(&ring.document("fleet.json")?)?;
    let root_row = Row {
        role: "root".to_owned(),
        version: root["signed"]["version"].as_u64().unwrap_or_default(),
        expires: root["signed"]["expires"].as_str().unwrap_or_default().parse().context("root.json")?,
        keys: holders("root"),
    };
    let fleet_keys = delegated(&targets, "fleet");
    let rows = [
        root_row,
        Row {
            role: "targets".to_owned(),
            version: targets.version,
            expires: targets.expires,
            keys: holders("targets"),
        },
        Row { role: "fleet".to_owned(), version: fleet.version, expires: fleet.expires, keys: fleet_keys },
    ];
    for row in &rows {
        out.say(format!("{:<10} version {:<4} until {}  {}", row.role, row.version, row.expires, row.keys.join(" ")));
        if row.expires < Timestamp::now().saturating_add(SignedDuration::from_hours(24 * WARN_DAYS))? {
            out.warn(format!("{} expires on {}; sign it anew before", row.role, row.expires));
        }
    }
    let online = [
        ("timestamp", holders("timestamp")),
        ("snapshot", holders("snapshot")),
        ("director", delegated(&targets, "director")),
    ];
    for (role, keys) in &online {
        out.say(format!("{role:<10} signed by the origin            {}", keys.join(" ")));
    }
    let offline = |row: &Row| json!({"version": row.version, "expires": row.expires, "keys": row.keys});
    let mut all: serde_json::Map<_, _> = rows.iter().map(|row| (row.role.clone(), offline(row))).collect();
    all.extend(online.into_iter().map(|(role, keys)| (role.to_owned(), json!({"keys": keys}))));
    out.result(&Value::Object(all));
    Ok(())
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn delegated(draft: &Draft, role: &str) -> Vec<String> {
    let found = draft.delegations.iter().find(|delegation| delegation.role == role);
    found.into_iter().flat_map(|delegation| &delegation.holders.keys).map(|key| key.id()).collect()
}
