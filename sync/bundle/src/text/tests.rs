//! The walker against documents with mistakes: what it says, at which line, and that it says all of it.

use super::*;
use crate::name::Name;

/// Reads `source` by `take` and gives the problems as text, without the file.
fn problems<T>(source: &str, take: impl FnOnce(&mut Table<'_>) -> T) -> Vec<String> {
    let problems = read("a.toml", source, take).err().map_or_else(Vec::new, |problems| problems.0);
    problems.iter().map(|problem| problem.to_string().trim_start_matches("a.toml:").to_owned()).collect()
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_at_its_line() {
    let source = "a = 1\nb = \"x\"\nc = -1\nd = 70000\ne = \"10\"\nf = \"1MB\"\ng = [1, \"x\"]\nh = \"odd\"\ni = 1.5\n";
    let found = problems(source, |root| {
        let _ = root.string("a").optional();
        let _ = root.boolean("b").optional();
        let _ = root.integer::<u64>("c").optional();
        let _ = root.integer::<u16>("d").optional();
        let _ = root.duration_ms("e").optional();
        let _ = root.size_bytes("f").optional();
        let _ = root.strings("g").optional();
        let _ = root.choice("h", &[("one", 1), ("two", 2)]).optional();
        let _ = root.integer::<u32>("i").optional();
    });
    assert_eq!(
        found,
        [
            "1: `a`: is a whole number; it should be a text in quotes",
            "2: `b`: is a text; it should be `true` or `false`",
            "3: `c`: -1 is below 0 or too large",
            "4: `d`: 70000 is below 0 or too large",
            "5: `e`: `10` is no duration: write a whole number and its unit: `50ms`, `10s`, `5m`, `24h`",
            "6: `f`: `1MB` is no size: write a whole number and its unit: `64KiB`, `128MiB`, `10GiB`",
            "7: `g`: is a whole number; it should be a text in quotes",
            "8: `h`: `odd` is none of `one`, `two`",
            "9: `i`: is a number; it should be a whole number",
        ]
    );
}

#[test]
fn numbers_are_read_with_separators_and_in_every_base() {
    let read = read("a.toml", "a = 50_000\nb = 0x10\nc = 0.25\nd = 1\n", |root| {
        let whole = (root.integer::<u64>("a").required(), root.integer::<u16>("b").required());
        (whole, root.float("c").required(), root.float("d").required())
    });
    assert_eq!(read, Ok(((50_000, 16), 0.25, 1.0)));
}

#[test]
fn a_key_nobody_asked_for_is_refused_in_every_table_with_the_nearest_known_one() {
    let source =
        "[functions.cart]\npaht = \"x\"\nzzz = 1\n[functions.Cart]\nx = 1\n[[routes]]\nhots = \"a\"\n[other]\n";
    let found = problems(source, |root| {
        for (_, mut function) in root.named_tables::<Name>("functions") {
            let _ = function.string("path").optional();
        }
        for mut route in root.tables("routes") {
            let _ = route.string("host").required();
        }
    });
    assert_eq!(
        found,
        [
            "2: `functions.cart.paht` is not known; did you mean `path`?",
            "3: `functions.cart.zzz` is not known; known here: path",
            "4: `functions`: `Cart` is no name: a lower-case letter, then at most 39 lower-case letters, digits or `-`",
            "6: `routes.host` is missing",
            "7: `routes.hots` is not known; did you mean `host`?",
            "8: `other` is not known; known here: functions, routes",
        ]
    );
}

#[test]
fn broken_syntax_is_told_with_all_else_but_hides_what_may_stand_in_the_broken_part() {
    let found = problems("a = \nb = 1\nb = 2\nc = true\n", |root| {
        let _ = root.string("a").required();
        let _ = root.integer::<u64>("b").required();
        let _ = root.string("c").required();
        let _ = root.string("d").required();
    });
    let lines: Vec<_> = found.iter().filter_map(|text| text.split(':').next()).collect();
    assert_eq!(lines, ["1", "3", "4"], "{found:#?}");
}

#[test]
fn a_document_full_of_mistakes_gives_a_bounded_list() {
    let source: String = (0..500).map(|number| format!("k{number} = 1\n")).collect();
    let found = problems(&source, |_| ());
    assert_eq!(found.len(), PROBLEMS_MAX + 1);
    let large = "#".repeat(TEXT_BYTES_MAX + 1);
    assert_eq!(problems(&large, |_| ()), [format!("1: is larger than {TEXT_BYTES_MAX} bytes")]);
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let source = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(
        !problems(&source, |root| {
            let _ = root.strings("a").optional();
        })
        .is_empty()
    );
}
