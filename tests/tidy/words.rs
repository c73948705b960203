//! Words that may not stand in our sources, and where their exceptions are.

use super::source::{Source, files};

/// All sources that ship.
fn shipped() -> Vec<Source> {
    ["src", "edge", "sync"].into_iter().flat_map(|part| files(part, ".rs")).filter(Source::ships).collect()
}

/// Fails for each line of shipped code with `word`, outside the files named.
fn only_in(word: &str, homes: &[&str]) {
    for source in shipped() {
        for (number, line) in source.code() {
            let home = homes.iter().any(|home| source.path.starts_with(home));
            assert!(home || !line.contains(word), "{}:{number}: `{word}` may stand only in {homes:?}", source.path);
        }
    }
}

#[test]
fn every_socket_that_goes_out_is_opened_in_its_one_place() {
    only_in("TcpStream::connect", &["edge/fetch/src/dial", "sync/link/src/tcp"]);
    only_in("TcpSocket::new", &["edge/fetch/src/dial", "sync/link/src/tcp"]);
    only_in("Endpoint::client", &["edge/h3/src/client"]);
    only_in("UnixStream::connect", &["src/"]);
}

#[test]
fn nothing_is_left_for_later_in_code_that_ships() {
    for word in ["todo!(", "unimplemented!(", "FIXME", "XXX", "dbg!("] {
        only_in(word, &[]);
    }
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    for source in shipped() {
        assert!(source.text.starts_with("//! "), "{}: opens without a module doc", source.path);
    }
}

#[test]
fn no_test_is_switched_off_and_none_is_named_test() {
    for source in ["src", "edge", "sync", "tests"].into_iter().flat_map(|part| files(part, ".rs")) {
        for (number, line) in source.code() {
            let marks = [concat!("#[", "ignore"), concat!("fn ", "test_")];
            assert!(!marks.iter().any(|mark| line.trim_start().starts_with(mark)), "{}:{number}: {line}", source.path);
        }
    }
}

#[test]
fn the_size_of_the_tests_is_read_in_one_place() {
    let variable = concat!("EYOT", "_TESTS");
    for source in ["src", "edge", "sync", "tests"].into_iter().flat_map(|part| files(part, ".rs")) {
        let home = source.path == "tests/harness/size.rs" || source.path.starts_with("tests/tidy/");
        for (number, line) in source.code() {
            assert!(home || !line.contains(variable), "{}:{number}: reads {variable}", source.path);
        }
    }
}

#[test]
fn unsafe_code_is_allowed_only_by_files_that_say_why() {
    for source in shipped() {
        if source.text.contains("allow(unsafe_code") || source.text.contains("expect(unsafe_code") {
            assert!(source.text.contains("SAFETY:"), "{}: unsafe without a SAFETY note", source.path);
        }
    }
}
