//! `eyot get`: one request over HTTP/3, HTTP/2 or HTTP/1.1, and what it cost.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use bytes::Bytes;
use eyot_link::body::{self, Body};
use eyot_link::error::Error;
use eyot_link::get::{Get, get};
use eyot_link::line::{Patience, Protocol};
use eyot_link::tls::Authorities;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::out::Out;

/// A body given or kept whole is at most this, in bytes.
const BODY_BYTES_MAX: u64 = 256 << 20;

/// Ask a URL over HTTP/3, HTTP/2 or HTTP/1.1, and see release and CPU.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  eyot get https://shop.example.com/cart
  eyot get --http3 --resolve 127.0.0.1:8443 --cacert fleet-ca.pem https://localhost:8443/hello
  eyot get -X PUT -d @order.json -H 'content-type: application/json' https://shop.example.com/order

Exit codes: 0 for a status below 400, 1 for the others.")]
pub(crate) struct Args {
    /// What to ask, `https` or `http`.
    url: Uri,
    /// Over HTTP/3 only.
    #[arg(long, group = "protocol")]
    http3: bool,
    /// Over HTTP/2 only.
    #[arg(long, group = "protocol")]
    http2: bool,
    /// Over HTTP/1.1 only.
    #[arg(long = "http1", visible_alias = "http1.1", group = "protocol")]
    http1: bool,
    /// The method.
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<Method>,
    /// A header field, as `name: value`; may stand several times.
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The body: text, or `@file`. The method is then POST.
    #[arg(short = 'd', long = "data", value_name = "BODY")]
    data: Option<String>,
    /// Write the response's body into this file.
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show all header fields.
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Trust the authorities in this PEM file instead of the public ones.
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Connect to this address, whatever the host resolves to.
    #[arg(long, value_name = "ADDRESS:PORT")]
    resolve: Option<SocketAddr>,
    /// Take any certificate.
    #[arg(short = 'k', long)]
    insecure: bool,
    /// How long to wait for the response's head, in seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    max_time: u64,
}

/// What a response's head says of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    /// The status.
    pub(crate) status: StatusCode,
    /// `h3`, `h2` or `http/1.1`.
    pub(crate) protocol: &'static str,
    /// `shop/417`, from `Eyot-Release`.
    pub(crate) release: Option<String>,
    /// CPU in milliseconds, from `Server-Timing`.
    pub(crate) cpu_ms: Option<f64>,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write `name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is no field name"))?;
    let value = value.trim().parse().map_err(|_| format!("`{value}` is no field value"))?;
    Ok((name, value))
}

pub(crate) async fn run(args: Args, out: &Out) -> anyhow::Result<ExitCode> {
    let authorities = authorities(&args)?;
    let body = args.data.as_deref().map(data).transpose()?;
    let began = Instant::now();
    let response = ask(&args, &authorities, body.as_ref()).await?;
    let facts = facts(&response);
    let head_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if args.verbose {
        for (name, value) in response.headers() {
            out.note(format!("< {name}: {}", String::from_utf8_lossy(value.as_bytes())));
        }
    }
    let headers = header_rows(response.headers());
    let (count, kept) = drain(response.into_body(), &args, *out, BODY_BYTES_MAX).await?;
    let told = |text: Option<String>| text.map(|text| format!(" · {text}")).unwrap_or_default();
    let release = told(facts.release.as_ref().map(|release| format!("release {release}")));
    let cpu = told(facts.cpu_ms.map(|cpu_ms| format!("cpu {cpu_ms} ms")));
    out.note(format!(
        "{} over {}{release}{cpu} · head after {head_ms} ms · {count} bytes",
        facts.status, facts.protocol
    ));
    out.result(&json!({
        "status": facts.status.as_u16(), "protocol": facts.protocol, "release": facts.release, "cpu_ms": facts.cpu_ms,
        "head_ms": head_ms, "headers": headers, "body_bytes": count, "body": kept,
    }));
    let good = facts.status.as_u16() < 400;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn authorities(args: &Args) -> anyhow::Result<Authorities> {
    match &args.cacert {
        _ if args.insecure => Ok(Authorities::Anyone),
        None => Ok(Authorities::Public),
        Some(file) => Ok(Authorities::Pem(std::fs::read(file).with_context(|| file.display().to_string())?)),
    }
}

fn data(text: &str) -> anyhow::Result<Bytes> {
    let Some(file) = text.strip_prefix('@') else { return Ok(Bytes::from(text.to_owned())) };
    if std::fs::metadata(file).with_context(|| file.to_owned())?.len() > BODY_BYTES_MAX {
        bail!("{file} has more than {BODY_BYTES_MAX} bytes");
    }
    Ok(std::fs::read(file).with_context(|| file.to_owned())?.into())
}

/// Asks over the protocol that was named; else over each in turn until one connects.
async fn ask(args: &Args, authorities: &Authorities, data: Option<&Bytes>) -> anyhow::Result<http::Response<Body>> {
    let secure = args.url.scheme_str() == Some("https");
    let protocols: &[Protocol] = match () {
        () if args.http3 => &[Protocol::H3],
        () if args.http2 => &[Protocol::H2],
        () if args.http1 || !secure => &[Protocol::H1],
        () => &[Protocol::H3, Protocol::H2, Protocol::H1],
    };
    // A protocol that is the only one has all the time there is.
    let patience = match protocols {
        [_] => Patience::each(args.max_time.saturating_mul(1_000)),
        _ => Patience::default(),
    };
    let mut causes = Vec::new();
    for &protocol in protocols {
        let method = args.method.clone().unwrap_or(if data.is_some() { Method::POST } else { Method::GET });
        let request = Get {
            url: args.url.clone(),
            protocol,
            connect: args.resolve,
            authorities: authorities.clone(),
            method,
            headers: args.headers.iter().cloned().collect(),
            body: data.map_or_else(body::empty, |data| body::full(data.clone())),
            patience,
            head_ms: args.max_time.saturating_mul(1_000),
        };
        match get(request).await {
            Ok(response) => return Ok(response),
            Err(Error::Connect { cause, .. }) => causes.push(cause),
            Err(error) => return Err(error.into()),
        }
    }
    bail!("cannot connect to {}: {}", args.url, causes.join("; "))
}

/// What the head of a response says.
pub(crate) fn facts(response: &http::Response<Body>) -> Facts {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    Facts {
        status: response.status(),
        protocol: match response.version() {
            Version::HTTP_3 => "h3",
            Version::HTTP_2 => "h2",
            _ => "http/1.1",
        },
        release: text("eyot-release").map(str::to_owned),
        cpu_ms: text("server-timing").and_then(cpu_ms),
    }
}

/// The duration of the metric `cpu` (Server Timing, section 3).
fn cpu_ms(server_timing: &str) -> Option<f64> {
    let metric =
        server_timing.split(',').find(|metric| metric.split(';').next().is_some_and(|name| name.trim() == "cpu"));
    metric?.split(';').find_map(|parameter| parameter.trim().strip_prefix("dur=")?.parse().ok())
}

fn header_rows(headers: &HeaderMap) -> Value {
    let mut rows = Map::new();
    for name in headers.keys() {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        rows.insert(name.to_string(), values.collect::<Vec<_>>().join(", ").into());
    }
    Value::Object(rows)
}

/// Brings the body where it is wanted: a file, standard output, or the JSON document. Gives its length and, for JSON,
/// the text, of at most `kept_bytes_max`; bytes that are no text as base64.
async fn drain(mut body: Body, args: &Args, out: Out, kept_bytes_max: u64) -> anyhow::Result<(u64, Option<Value>)> {
    let url = args.url.to_string();
    let mut file = match &args.output {
        Some(path) => Some(tokio::fs::File::create(path).await.with_context(|| path.display().to_string())?),
        None => None,
    };
    let (mut count, mut kept, mut ended) = (0_u64, Vec::new(), true);
    while let Some(piece) = body::next(&mut body, &url, body::IDLE_S).await? {
        count += piece.len() as u64;
        match &mut file {
            Some(file) => file.write_all(&piece).await?,
            None if out.is_json() && count > kept_bytes_max => bail!("the body is too large for JSON; use `-o FILE`"),
            None if out.is_json() => kept.extend_from_slice(&piece),
            None => {
                ended = piece.last().map_or(ended, |byte| *byte == b'\n');
                out.bytes(&piece)?;
            }
        }
    }
    if let Some(mut file) = file {
        file.flush().await?;
        return Ok((count, None));
    }
    if !ended {
        // So that what is said of the response begins a line of its own. It is not part of the body.
        out.note("");
    }
    Ok((count, out.is_json().then(|| json_body(kept))))
}

fn json_body(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => Value::String(text),
        Err(error) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(error.as_bytes())}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_of_server_timing_is_found_among_other_metrics() {
        for (field, expect) in [
            ("cpu;dur=0.4", Some(0.4)),
            ("cache;desc=\"hit\", cpu;desc=\"x\";dur=12, total;dur=13", Some(12.0)),
            ("cpu", None),
            ("total;dur=13", None),
            ("cpus;dur=1", None),
        ] {
            assert_eq!(cpu_ms(field), expect, "{field}");
        }
    }

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        args: Args,
    }

    fn typed(arguments: &[&str]) -> Args {
        use clap::Parser as _;
        Typed::parse_from(["get"].iter().chain(arguments)).args
    }

    #[test]
    fn a_head_has_30_s_unless_another_time_is_typed() {
        assert_eq!(typed(&["https://shop.test/"]).max_time, 30);
        assert_eq!(typed(&["--max-time", "5", "https://shop.test/"]).max_time, 5);
    }

    #[test]
    fn a_body_from_a_file_of_more_than_256_mib_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("body");
        // It has a hole, and takes no room.
        std::fs::File::create(&path).and_then(|file| file.set_len((256 << 20) + 1)).expect("a file");
        let error = data(&format!("@{}", path.display())).expect_err("too large");
        assert!(error.to_string().contains("has more than 268435456 bytes"), "{error}");
        std::fs::write(&path, "small").expect("written");
        assert_eq!(data(&format!("@{}", path.display())).expect("small"), "small");
    }

    #[tokio::test]
    async fn a_body_is_kept_for_json_only_up_to_its_bound() {
        let args = typed(&["https://shop.test/"]);
        let body = || body::full(Bytes::from_static(b"12345678"));
        let (count, kept) = drain(body(), &args, Out::new(true), 8).await.expect("it fits");
        assert_eq!((count, kept), (8, Some(Value::from("12345678"))));
        assert!(drain(body(), &args, Out::new(true), 7).await.is_err());
    }
}
