//! The lines of an app that runs, as people see them: `eyot dev`, `eyot test` and `eyot logs` show them alike. What comes
//! from a request or from a function writes nothing to a terminal but text.

use std::fmt::Write as _;

use eyot_link::tail::{Fault, Line, Request, Said, Told};

use crate::out::Out;

/// Shows one line: as text, or as JSON.
pub(crate) fn show(told: &Told, out: Out) {
    if out.is_json() {
        out.result(&serde_json::to_value(told).unwrap_or_default());
        return;
    }
    let node = if told.node.is_empty() { String::new() } else { format!("{:<10} ", safe(&told.node)) };
    for line in text(&told.line).lines() {
        out.say(format!("{node}{line}"));
    }
}

/// One line as text; a fault with its trace has several.
pub(crate) fn text(line: &Line) -> String {
    match line {
        Line::Activated(activated) => format!("{}/{} answers", safe(&activated.app), activated.release),
        Line::Fault(fault) => self::fault(fault),
        Line::Log(said) => self::said(said),
        Line::Lost(lost) => format!("… {} lines were dropped: too many came at once", lost.lines),
        Line::Refused(refused) => format!(
            "{}/{} is refused: {}: {}",
            safe(&refused.app),
            refused.release,
            safe(&refused.reason),
            safe(&refused.detail)
        ),
        Line::Request(request) => self::request(request),
    }
}

fn request(request: &Request) -> String {
    let mut text = format!("{:<6} {} {}", safe(&request.method), request.status, safe(&request.path));
    let _ = write!(text, "  {}  wall {}", safe(&request.target), time(request.wall_us));
    if let Some(most) = request.cpu_us_max {
        let _ = write!(text, "  cpu {}/{}", time(request.cpu_us), time(most));
        let _ = write!(text, "  memory {}  subrequests {}", size(request.memory_bytes), request.subrequests);
    }
    if let Some(fault) = &request.fault {
        let _ = write!(text, "  {}", safe(fault));
    }
    text
}

fn said(said: &Said) -> String {
    let mut from = format!("{} {}", safe(&said.function), safe(&said.stream));
    for more in [&said.level, &said.context].into_iter().flatten().filter(|more| !more.is_empty()) {
        let _ = write!(from, " {}", safe(more));
    }
    format!("  [{from}] {}", safe(&said.text))
}

fn fault(fault: &Fault) -> String {
    let mut text = format!("  fault {}", safe(&fault.code));
    if !fault.target.is_empty() {
        let _ = write!(text, " of {}", safe(&fault.target));
    }
    for line in fault.cause.lines() {
        let _ = write!(text, "\n    {}", safe(line));
    }
    text
}

/// Microseconds in the unit that suits them: `310us`, `1.2ms`, `50ms`, `2.1s`.
pub(crate) fn time(us: u64) -> String {
    let unit = |whole: u64, part: u64, name: &str| {
        if part == 0 || whole >= 100 { format!("{whole}{name}") } else { format!("{whole}.{part}{name}") }
    };
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => unit(us / 1_000, us % 1_000 / 100, "ms"),
        _ => unit(us / 1_000_000, us % 1_000_000 / 100_000, "s"),
    }
}

/// Bytes in the unit that suits them: `512B`, `64KiB`, `1.2MiB`.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes}B"),
        1_024..1_048_576 => format!("{}KiB", bytes / 1_024),
        _ => format!("{}.{}MiB", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20),
    }
}

/// The text without what would be an order to a terminal.
pub(crate) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\t' || !character.is_control() {
            safe.push(character);
        } else {
            safe.extend(character.escape_default());
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str) -> String {
        text(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_request_is_one_line_with_what_it_spent_of_what_it_may() {
        let request = r#"{"event":"request","time":"2026-11-22T12:00:00Z","id":"1","app":"shop","method":"GET",
            "host":"h","path":"/cart","target":"function:cart","status":200,"wall_us":2140,"cpu_us":1260,
            "cpu_us_max":50000,"memory_bytes":1310720,"subrequests":1}"#;
        let expect = "GET    200 /cart  function:cart  wall 2.1ms  cpu 1.2ms/50ms  memory 1.2MiB  subrequests 1";
        assert_eq!(line(request), expect);
        let upstream = r#"{"event":"request","time":"2026-11-22T12:00:00Z","id":"1","app":"shop","method":"GET",
            "host":"h","path":"/","target":"upstream:api","status":502,"wall_us":310,"fault":"upstream_tls"}"#;
        assert_eq!(line(upstream), "GET    502 /  upstream:api  wall 310us  upstream_tls");
    }

    #[test]
    fn a_fault_has_its_whole_trace_and_nothing_orders_the_terminal() {
        let fault = "{\"event\":\"fault\",\"time\":\"2026-11-22T12:00:00Z\",\"id\":\"1\",\"app\":\"shop\",\
            \"target\":\"function:cart\",\"code\":\"function_trapped\",\"cause\":\"trap\\n 0: main\\u001b[2J\"}";
        assert_eq!(line(fault), "  fault function_trapped of function:cart\n    trap\n     0: main\\u{1b}[2J");
        let said = "{\"event\":\"log\",\"time\":\"2026-11-22T12:00:00Z\",\"id\":\"1\",\"app\":\"shop\",\"release\":1,\
            \"function\":\"cart\",\"stream\":\"stderr\",\"text\":\"a\\tb\\u0007\\u009b2J\"}";
        assert_eq!(line(said), "  [cart stderr] a\tb\\u{7}\\u{9b}2J");
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        for (us, expect) in
            [(0, "0us"), (999, "999us"), (1_000, "1ms"), (1_250, "1.2ms"), (50_000, "50ms"), (2_100_000, "2.1s")]
        {
            assert_eq!(time(us), expect);
        }
    }
}
