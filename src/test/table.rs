//! `tests.toml`: what an app is asked, and what must come back (`docs/formats.md`). It reads a text and asks nobody.

use eyot_bundle::host::HostPattern;
use eyot_bundle::text::{self, Field, Problems, Table};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Tests of one table.
const TESTS_MAX: usize = 10_000;

/// One test.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    /// What it says of the app.
    pub(crate) name: String,
    /// What is asked.
    pub(crate) request: Request,
    /// What must come back.
    pub(crate) expect: Expect,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    /// The method.
    pub(crate) method: Method,
    /// The host.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
    /// The header fields.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: String,
}

/// What must come back; what is not named may be anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Expect {
    /// The status.
    pub(crate) status: Option<u16>,
    /// Header fields and their values.
    pub(crate) headers: HeaderMap,
    /// The whole body.
    pub(crate) body: Option<String>,
    /// A part of the body.
    pub(crate) body_contains: Option<String>,
    /// What its functions may spend of CPU, in microseconds.
    pub(crate) cpu_us_max: Option<u64>,
    /// The code of the fault that must be met.
    pub(crate) fault: Option<String>,
}

/// Reads the table `source`, called `file` in problems.
///
/// # Errors
/// Everything that is wrong with it, by line.
pub(crate) fn parse(file: &str, source: &str) -> Result<Vec<Case>, Problems> {
    text::read(file, source, |root| {
        let mut names = std::collections::BTreeSet::new();
        let mut cases = Vec::new();
        for mut table in root.tables("test") {
            let case = case(&mut table);
            if !case.name.is_empty() && !names.insert(case.name.clone()) {
                table.note(format!("there is another test of the name `{}`", case.name));
            }
            cases.push(case);
        }
        if cases.is_empty() && root.noted() == 0 {
            root.note_lack("there is no test: begin one with `[[test]]`");
        }
        if cases.len() > TESTS_MAX {
            root.note(format!("there are more than {TESTS_MAX} tests"));
        }
        cases
    })
}

fn case(table: &mut Table<'_>) -> Case {
    let name = table.string("name").not_empty().required();
    let mut request = table.table("request");
    let mut expect = table.table("expect");
    let case = Case { name, request: self::request(&mut request), expect: self::expect(&mut expect) };
    if case.expect == Expect::default() && table.noted() == 0 {
        table.note_lack("`expect` says nothing: name a status, a body, a fault or what it may spend");
    }
    case
}

fn request(table: &mut Table<'_>) -> Request {
    Request {
        method: table.parsed("method").or(Method::GET),
        host: table.string("host").and_then(|text| host(&text)).or("localhost".to_owned()),
        path: table.string("path").and_then(path).or("/".to_owned()),
        headers: headers(table),
        body: table.string("body").or_default(),
    }
}

fn expect(table: &mut Table<'_>) -> Expect {
    Expect {
        status: table.integer("status").within(100, 599).optional(),
        headers: headers(table),
        body: table.string("body").optional(),
        body_contains: table.string("body_contains").not_empty().optional(),
        cpu_us_max: table.duration_us("cpu_max").optional(),
        fault: table.string("fault").and_then(code).optional(),
    }
}

fn host(text: &str) -> Result<String, String> {
    match text.parse() {
        Ok(HostPattern::Exact(host)) => Ok(host),
        _ => Err(format!("`{text}` is no host: write `shop.example.com`")),
    }
}

fn path(text: String) -> Result<String, String> {
    match text.parse::<http::uri::PathAndQuery>() {
        Ok(_) if text.starts_with('/') => Ok(text),
        _ => Err(format!("`{text}` is no path: write `/cart?item=1`")),
    }
}

fn code(text: String) -> Result<String, String> {
    let is_code = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_code { Ok(text) } else { Err(format!("`{text}` is no code of a fault: write `function_trapped`")) }
}

fn headers(table: &mut Table<'_>) -> HeaderMap {
    let fields: Field<_> = table.string_map("headers").and_then(|fields| {
        let field = |(name, value): (String, String)| {
            let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is no field name"))?;
            let value: HeaderValue = value.parse().map_err(|_| format!("`{name}` has no field value"))?;
            Ok((name, value))
        };
        fields.into_iter().map(field).collect::<Result<HeaderMap, String>>()
    });
    fields.optional().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_and_what_it_does_not_say_has_its_usual_value() {
        let source = r#"
            [[test]]
            name = "a cart is kept"
            request = { method = "PUT", path = "/cart?x=1", host = "shop.test", headers = { Accept = "*/*" }, body = "{}" }
            expect = { status = 201, headers = { location = "/cart/1" }, body = "ok", body_contains = "o", cpu_max = "5ms" }
            [[test]]
            name = "it traps"
            expect = { fault = "function_trapped" }
        "#;
        let cases = parse("tests.toml", source).unwrap_or_else(|problems| panic!("{problems}"));
        let Case { request, expect, .. } = &cases[0];
        assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/cart?x=1"));
        assert_eq!(
            (request.host.as_str(), &request.headers["accept"]),
            ("shop.test", &"*/*".parse::<HeaderValue>().unwrap())
        );
        assert_eq!((expect.status, expect.cpu_us_max, expect.body.as_deref()), (Some(201), Some(5_000), Some("ok")));
        let Case { request, expect, .. } = &cases[1];
        assert_eq!((request.method.as_str(), request.path.as_str(), request.host.as_str()), ("GET", "/", "localhost"));
        assert_eq!(*expect, Expect { fault: Some("function_trapped".to_owned()), ..Expect::default() });
    }

    #[test]
    fn all_that_is_wrong_is_told_by_line() {
        let source = "[[test]]\n\
            name = \"\"\n\
            request = { method = \"G T\", path = \"cart\", host = \"*.x\", headers = { \"a b\" = \"\" } }\n\
            expect = { status = 99, cpu_max = \"soon\", fault = \"Trap\", trap = 1 }\n\
            [[test]]\n\
            name = \"twice\"\n\
            expect = { status = 200 }\n\
            [[test]]\n\
            name = \"twice\"\n\
            expect = { status = 200 }\n";
        let problems = parse("tests.toml", source).expect_err("much is wrong");
        let lines: Vec<_> = problems.0.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [2, 3, 3, 3, 3, 4, 4, 4, 4, 8], "{problems}");
        for (source, expect) in [("", "there is no test"), ("[[test]]\nname = \"x\"\n", "`expect` says nothing")] {
            assert!(parse("tests.toml", source).expect_err(source).to_string().contains(expect), "{source}");
        }
    }
}
