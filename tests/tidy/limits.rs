//! The tests that `LIMITS.md` names, which have to exist, and its letters, which have to have a legend.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{files, root};

/// Where the tests of each crate are, by the word that `LIMITS.md` has for it.
const CRATES: &[(&str, &[&str])] = &[
    ("bundle", &["sync/bundle/src", "sync/bundle/tests"]),
    ("cache", &["edge/cache/src", "edge/cache/tests"]),
    ("e2e", &["tests"]),
    ("eyot", &["src"]),
    ("fetch", &["edge/fetch/src", "edge/fetch/tests"]),
    ("front", &["edge/front/src", "edge/front/tests"]),
    ("guest", &["edge/guest/src", "edge/guest/tests"]),
    ("h3", &["edge/h3/src", "edge/h3/tests"]),
    ("link", &["sync/link/src", "sync/link/tests"]),
    ("node", &["edge/node/src"]),
    ("origin", &["sync/origin/src", "sync/origin/tests"]),
    ("plan", &["edge/plan/src", "edge/plan/tests"]),
    ("state", &["edge/state/src", "edge/state/tests"]),
];

/// All tests of a crate, each as the parts of its path: `pull/tests/deaths.rs` and `a_name` give `[pull, deaths, a_name]`.
type Tests = Vec<Vec<String>>;

fn tests_of(folders: &[&str]) -> Tests {
    let mut found = Tests::new();
    for folder in folders.iter().filter(|folder| root().join(folder).exists()) {
        for source in files(folder, ".rs") {
            let below = source.path.strip_prefix(folder).unwrap_or(&source.path).trim_end_matches(".rs");
            let module: Vec<_> = below.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
            for name in names(&source.text) {
                found.push(module.iter().cloned().chain([name]).collect());
            }
        }
    }
    found
}

/// The functions of a source that are tests: those with `#[test]` or `#[tokio::test…]`.
fn names(text: &str) -> Vec<String> {
    let mut is_test = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(rest) = line.trim_start_matches("async ").strip_prefix("fn ")
            && std::mem::take(&mut is_test)
        {
            found.push(rest.split(['(', '<']).next().unwrap_or_default().to_owned());
        }
    }
    found
}

/// Whether `path`, `module::name` with any of its modules left out, is among `tests`.
fn is_there(path: &str, tests: &Tests) -> bool {
    let wanted: Vec<_> = path.split("::").collect();
    tests.iter().any(|test| {
        let mut parts = test.iter();
        test.last().map(String::as_str) == wanted.last().copied()
            && wanted.iter().all(|wanted| parts.any(|part| part == wanted))
    })
}

/// What is wrong with the tests and letters that a document names.
fn mistakes(document: &str, tests: &BTreeMap<&str, Tests>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut letters = BTreeSet::new();
    for (number, line) in document.lines().enumerate() {
        let at = number + 1;
        for name in quoted(line) {
            let Some((word, path)) = name.split_once(' ') else { continue };
            match tests.get(word) {
                Some(tests) if path.contains("::") && !is_there(path, tests) => {
                    wrong.push(format!("{at}: there is no test `{name}`"));
                }
                // How the document says that it names tests.
                None if name == "crate module::name" => {}
                None if path.contains("::") => wrong.push(format!("{at}: `{name}` is of no crate")),
                _ => {}
            }
        }
        letters.extend(legends(line));
        if line.starts_with('|') {
            let unknown = bold(line).into_iter().filter(|letter| !letters.contains(letter));
            wrong.extend(unknown.map(|letter| format!("{at}: **{letter}** has no legend above")));
        }
    }
    wrong
}

/// What stands between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Single letters in bold.
fn bold(line: &str) -> Vec<char> {
    let marks = line.split("**").skip(1).step_by(2);
    marks.filter_map(|text| text.chars().next().filter(|_| text.chars().count() == 1)).collect()
}

/// The letters that a line of prose explains: `**H** is …`.
fn legends(line: &str) -> Vec<char> {
    bold(line).into_iter().filter(|letter| line.contains(&format!("**{letter}** is "))).collect()
}

fn tests() -> BTreeMap<&'static str, Tests> {
    CRATES.iter().map(|(word, folders)| (*word, tests_of(folders))).collect()
}

#[test]
fn every_test_that_the_limits_name_is_there_and_every_letter_is_explained() {
    let document = std::fs::read_to_string(root().join("LIMITS.md")).expect("the limits");
    let wrong = mistakes(&document, &tests());
    assert!(wrong.is_empty(), "LIMITS.md:\n{}", wrong.join("\n"));
    assert!(quoted(&document).filter(|name| name.contains("::")).count() > 100, "the names are read at all");
}

#[test]
fn a_name_of_no_test_and_a_letter_of_no_legend_are_found() {
    let tests =
        BTreeMap::from([("node", vec![["pull", "tests", "deaths", "a_kill_is_a_kill"].map(str::to_owned).into()])]);
    for (line, expect) in [
        ("| a | `node pull::deaths::a_kill_is_a_kill` |", 0),
        ("| a | `node pull::a_kill_is_a_kill`; `EYOT_TESTS`, `limits.cpu` |", 0),
        ("| a | `node pull::deaths::a_kill_is_no_kill` |", 1),
        ("| a | `node deaths::pull::a_kill_is_a_kill` |", 1),
        ("| a | `node ledger::a_kill_is_a_kill` |", 1),
        ("| a | `nod pull::a_kill_is_a_kill` |", 1),
        ("**X** is `node pull::a_kill_is_a_kill`.\n\n| a | **X** (`b`) |", 0),
        ("| a | **X** |\n\n**X** is too late.", 1),
        ("| **a word** | **Y**; **Z** |", 2),
    ] {
        assert_eq!(mistakes(line, &tests).len(), expect, "{line}");
    }
    let text =
        "#[test]\nfn one() {}\nfn two() {}\n    #[tokio::test(start_paused = true)]\n    async fn three<T>() {}\n";
    assert_eq!(names(text), ["one", "three"]);
}
