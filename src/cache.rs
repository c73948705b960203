//! `eyot cache`: what the node of this machine keeps of answers, for its operator.

use anyhow::bail;
use clap::Subcommand;
use eyot_bundle::name::Name;
use serde_json::Value;

use crate::admin::Admin;
use crate::out::Out;

/// Show what the node of this machine keeps of answers, and take something out of it.
///
/// `eyot purge` takes something out of the caches of all nodes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot cache stats
  eyot cache lookup https://shop.example.com/product/9
  eyot cache purge --app shop --tag product-9")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What each app keeps: objects, bytes, and what is asked for now.
    #[command(after_help = "Examples:
  eyot cache stats --json")]
    Stats {
        #[command(flatten)]
        admin: Admin,
    },
    /// What is kept of a URL, how old it is, for how long it is fresh, and by which fields of a request it is chosen.
    #[command(after_help = "Examples:
  eyot cache lookup 'https://shop.example.com/list?page=2'")]
    Lookup {
        /// The URL, with its query.
        url: String,
        #[command(flatten)]
        admin: Admin,
    },
    /// Take something out of the cache of this node alone.
    #[command(after_help = "Examples:
  eyot cache purge --app shop --url https://shop.example.com/product/9
  eyot cache purge --app shop --all --soft")]
    Purge(Purge),
}

#[derive(Debug, clap::Args)]
struct Purge {
    /// Whose.
    #[arg(long)]
    app: Name,
    /// A URL, with its query.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A surrogate key.
    #[arg(long, value_name = "SURROGATE-KEY", conflicts_with = "url")]
    tag: Option<String>,
    /// All that is kept of the app.
    #[arg(long, conflicts_with_all = ["url", "tag"])]
    all: bool,
    /// What is kept may answer while it is fetched anew, and when that fails.
    #[arg(long)]
    soft: bool,
    #[command(flatten)]
    admin: Admin,
}

pub(crate) fn run(args: &Args, out: Out) -> anyhow::Result<()> {
    match &args.verb {
        Verb::Stats { admin } => stats(&admin.document("GET", "/status/cache")?, out),
        Verb::Lookup { url, admin } => {
            lookup(&admin.document("GET", &format!("/status/cache?url={}", encoded(url)))?, out);
        }
        Verb::Purge(purge) => {
            let what = match (&purge.url, &purge.tag, purge.all) {
                (Some(url), ..) => format!("url={}", encoded(url)),
                (_, Some(tag), _) => format!("key={}", encoded(tag)),
                (_, _, true) => "all=1".to_owned(),
                _ => bail!("say what to purge: `--url URL`, `--tag KEY`, or `--all`"),
            };
            let path = format!("/purge?app={}&{what}&soft={}", purge.app, u8::from(purge.soft));
            out.result(&purge.admin.document("POST", &path)?);
            out.say(format!("{}: purged on this node", purge.app));
        }
    }
    Ok(())
}

fn stats(document: &Value, out: Out) {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let memory = |value: &Value| format!("{:.1} MiB", number(value) as f64 / f64::from(1 << 20));
    out.say(format!("{:<24} {:>10} {:>12} {:>8}", "app", "objects", "memory", "flights"));
    for (app, room) in document["apps"].as_object().into_iter().flatten() {
        let (objects, flights) = (number(&room["objects"]), number(&room["flights"]));
        out.say(format!("{app:<24} {objects:>10} {:>12} {flights:>8}", memory(&room["bytes"])));
    }
    out.say(format!("of at most {} in memory", memory(&document["memory_bytes_max"])));
    if let Some(disk) = document["disk"].as_object() {
        let get = |name: &str| disk.get(name).map(number).unwrap_or_default();
        out.say(format!(
            "on disk: {} objects, {}, {} hits, {} damaged, {} write errors",
            get("objects"),
            memory(&document["disk"]["bytes"]),
            get("hits"),
            get("damaged"),
            get("write_errors")
        ));
    }
    out.result(document);
}

fn lookup(document: &Value, out: Out) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    out.say(format!("{}, {}: {}", text(&document["app"]), text(&document["route"]), text(&document["says"])));
    for kept in document["kept"].as_array().into_iter().flatten() {
        let seconds = |name: &str| kept[name].as_i64().unwrap_or_default();
        out.say(format!(
            "  {} {:>10} bytes, {} s old, {}{}",
            kept["status"],
            kept["bytes"].as_u64().map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string()),
            seconds("age"),
            match (text(&kept["verdict"]).as_str(), seconds("ttl")) {
                ("fresh", ttl) if ttl > 0 => format!("fresh for {ttl} s more"),
                ("fresh", ttl) => format!("stale for {} s", -ttl),
                ("doubted", _) => "asked for anew first: the origin was not heard".to_owned(),
                (verdict, _) => verdict.to_owned(),
            },
            kept["vary"].as_object().filter(|vary| !vary.is_empty()).map_or_else(String::new, |vary| {
                let pairs = vary.iter().map(|(name, value)| format!("{name}: {}", value.as_str().unwrap_or("(none)")));
                format!(", for {}", pairs.collect::<Vec<_>>().join("; "))
            }),
        ));
    }
    out.result(document);
}

/// Percent-encoded for a query (RFC 3986, section 2.1).
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
