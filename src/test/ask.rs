//! One test: its request, its answer, and whether that is what must come back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use eyot_link::body;
use eyot_link::get::{Get, get};
use eyot_link::line::{Patience, Protocol};
use eyot_link::tail::{Line, Request};
use eyot_link::tls::Authorities;
use eyot_node::tap::Following;
use http::{HeaderMap, StatusCode};

use super::table::{Case, Expect};
use crate::local::Local;

/// A head must come within this, in milliseconds: longer than the longest wall time that a node allows.
const HEAD_MS: u64 = 70_000;
/// A body is looked at up to this, in bytes.
const BODY_BYTES_MAX: usize = 16 << 20;
/// A function may go on after its answer: what it spent is waited for so long.
const SPENT_WAIT: Duration = Duration::from_secs(60);
/// A node has so long to compile a release.
const ACTIVE_WAIT: Duration = Duration::from_secs(300);
/// Of a body that is not the expected one so many characters are shown.
const SHOWN_CHARS: usize = 200;

/// Who asks, and hears what the node tells.
pub(super) struct Asker {
    address: SocketAddr,
    authorities: Authorities,
    lines: Following,
}

/// What became of one test.
#[derive(Default)]
pub(super) struct Passage {
    /// What is not as it must be; nothing: it passed.
    pub(super) problems: Vec<String>,
    /// The request as the node tells it.
    pub(super) request: Option<Request>,
    /// What else the node told of it: faults, and what functions said.
    pub(super) told: Vec<Line>,
}

/// What came back.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// A body that broke off: why.
    body: Result<Bytes, String>,
}

impl Asker {
    pub(super) fn new(local: &Local, lines: Following) -> Self {
        let address = (Ipv4Addr::LOCALHOST, local.port).into();
        Self { address, authorities: Authorities::Pem(local.ca().pem().as_bytes().to_vec()), lines }
    }

    /// Waits until the node answers with this release.
    pub(super) async fn until_active(&mut self, number: u64) -> anyhow::Result<()> {
        let waiting = async {
            loop {
                match self.lines.next().await {
                    Line::Activated(activated) if activated.release == number => return Ok(()),
                    Line::Refused(refused) if refused.release == number => {
                        bail!("the node refuses the release: {}: {}", refused.reason, refused.detail)
                    }
                    _ => {}
                }
            }
        };
        match tokio::time::timeout(ACTIVE_WAIT, waiting).await {
            Ok(active) => active,
            Err(_) => bail!("the node does not answer with the release after {} s", ACTIVE_WAIT.as_secs()),
        }
    }

    /// Asks, and compares.
    pub(super) async fn ask(&mut self, case: &Case) -> Passage {
        let answer = match self.answer(case).await {
            Ok(answer) => answer,
            Err(error) => return Passage { problems: vec![format!("no answer: {error:#}")], ..Passage::default() },
        };
        let id = answer.headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        let mut passage = Passage::default();
        let waited = tokio::time::timeout(SPENT_WAIT, self.hear(&id, &mut passage)).await;
        if waited.is_err() {
            passage.problems.push(format!("the function still runs after {} s", SPENT_WAIT.as_secs()));
        }
        passage.problems.extend(compare(&case.expect, &answer, passage.request.as_ref()));
        passage
    }

    /// Takes in what the node tells of the request `id`, until it has ended.
    async fn hear(&mut self, id: &str, passage: &mut Passage) {
        loop {
            match self.lines.next().await {
                Line::Request(request) if request.id == id => {
                    passage.request = Some(request);
                    return;
                }
                Line::Fault(fault) if fault.id == id => passage.told.push(Line::Fault(fault)),
                Line::Log(said) if said.id == id => passage.told.push(Line::Log(said)),
                _ => {}
            }
        }
    }

    async fn answer(&self, case: &Case) -> anyhow::Result<Answer> {
        let request = &case.request;
        let url = format!("https://{}:{}{}", request.host, self.address.port(), request.path);
        let mut headers = request.headers.clone();
        if !request.body.is_empty() {
            headers.entry(http::header::CONTENT_LENGTH).or_insert(request.body.len().into());
        }
        let get_it = Get {
            url: url.parse()?,
            protocol: Protocol::H2,
            connect: Some(self.address),
            authorities: self.authorities.clone(),
            method: request.method.clone(),
            headers,
            body: if request.body.is_empty() { body::empty() } else { body::full(request.body.clone().into()) },
            patience: Patience::each(HEAD_MS),
            head_ms: HEAD_MS,
        };
        let response = get(get_it).await?;
        let (head, body) = response.into_parts();
        let body = body::read(body, &url, BODY_BYTES_MAX).await.map_err(|error| error.to_string());
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

/// All that is not as it must be.
fn compare(expect: &Expect, answer: &Answer, request: Option<&Request>) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(status) = expect.status.filter(|status| *status != answer.status.as_u16()) {
        problems.push(format!("status is {}, not {status}", answer.status.as_u16()));
    }
    for name in expect.headers.keys() {
        let values = |headers: &HeaderMap| {
            let values =
                headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            values.collect::<Vec<_>>().join(", ")
        };
        let (is, must) = (values(&answer.headers), values(&expect.headers));
        if is != must {
            problems.push(format!("header `{name}` is `{is}`, not `{must}`"));
        }
    }
    problems.extend(compare_body(expect, answer));
    let fault = request.and_then(|request| request.fault.as_deref());
    match (&expect.fault, fault) {
        (Some(must), is) if is != Some(must) => {
            problems.push(format!("fault is {}, not `{must}`", is.map_or("none".to_owned(), |is| format!("`{is}`"))));
        }
        // Whoever names a status expects what leads to it.
        (None, Some(fault)) if expect.status.is_none() => problems.push(format!("the fault `{fault}`")),
        _ => {}
    }
    if let (Some(most), Some(request)) = (expect.cpu_us_max, request)
        && request.cpu_us > most
    {
        problems.push(format!("cpu is {} us, more than {most}", request.cpu_us));
    }
    problems
}

fn compare_body(expect: &Expect, answer: &Answer) -> Vec<String> {
    let body = match &answer.body {
        Ok(body) => String::from_utf8_lossy(body),
        // A fault after the head is told by breaking off, and that may be what must come.
        Err(_) if expect.body.is_none() && expect.body_contains.is_none() => return Vec::new(),
        Err(error) => return vec![format!("the body broke off: {error}")],
    };
    let mut problems = Vec::new();
    if let Some(must) = expect.body.as_ref().filter(|must| **must != body) {
        problems.push(format!("body is {}, not {}", shown(&body), shown(must)));
    }
    if let Some(part) = expect.body_contains.as_ref().filter(|part| !body.contains(part.as_str())) {
        problems.push(format!("body is {}, and does not contain {}", shown(&body), shown(part)));
    }
    problems
}

/// The beginning of a text, in quotes.
fn shown(text: &str) -> String {
    let mut kept: String = text.chars().take(SHOWN_CHARS).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    format!("{kept:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let headers =
            [("vary", "a"), ("vary", "b")].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers: HeaderMap = headers.into_iter().collect();
        Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: Ok(Bytes::from(body.to_owned())) }
    }

    fn expect(text: &str) -> Expect {
        let source = format!("[[test]]\nname = \"x\"\nexpect = {text}\n");
        super::super::table::parse("tests.toml", &source)
            .unwrap_or_else(|problems| panic!("{problems}"))
            .remove(0)
            .expect
    }

    fn request(fault: Option<&str>, cpu_us: u64) -> Request {
        let request = serde_json::json!({"time": "2026-11-22T12:00:00Z", "id": "1", "app": "shop", "method": "GET",
            "host": "h", "path": "/", "status": 200, "cpu_us": cpu_us, "fault": fault});
        serde_json::from_value(request).unwrap()
    }

    #[test]
    fn an_answer_passes_only_if_all_that_is_named_is_so() {
        for (is, status, fault, problems) in [
            (
                "{ status = 200, body = \"hello\", body_contains = \"ell\", headers = { vary = \"a, b\" } }",
                200,
                None,
                0,
            ),
            (
                "{ status = 201, body = \"hell\", body_contains = \"x\", headers = { vary = \"a\", age = \"1\" } }",
                200,
                None,
                5,
            ),
            ("{ cpu_max = \"1ms\" }", 200, None, 0),
            ("{ cpu_max = \"999us\" }", 200, None, 1),
            ("{ fault = \"function_trapped\" }", 502, Some("function_trapped"), 0),
            ("{ fault = \"function_trapped\" }", 502, Some("memory_exceeded"), 1),
            ("{ fault = \"function_trapped\" }", 200, None, 1),
            ("{ status = 404 }", 404, Some("no_route"), 0),
            ("{ body = \"hello\" }", 200, Some("function_trapped"), 1),
        ] {
            let found = compare(&expect(is), &answer(status, "hello"), Some(&request(fault, 1_000)));
            assert_eq!(found.len(), problems, "{is}: {found:?}");
        }
    }

    #[test]
    fn a_body_that_broke_off_passes_only_where_nothing_is_said_of_it() {
        let broken = || Answer { body: Err("reset".to_owned()), ..answer(200, "") };
        let trapped = request(Some("function_trapped"), 0);
        assert!(compare(&expect("{ fault = \"function_trapped\" }"), &broken(), Some(&trapped)).is_empty());
        assert_eq!(compare(&expect("{ status = 200, body = \"\" }"), &broken(), Some(&trapped)).len(), 1);
    }
}
