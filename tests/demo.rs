//! The first command of the README, as a smoke test.

use crate::harness::world::{eyot, good};

#[test]
fn the_demo_shows_nine_good_answers_and_ends() {
    let mut demo = eyot();
    // What its user has set for cargo is not for the functions, whose manifest says where they are built.
    demo.args(["demo", "--once"]).env("CARGO_TARGET_DIR", std::env::temp_dir().join("eyot-not-here"));
    let told = good(demo);
    for protocol in ["h3", "h2", "http/1.1"] {
        assert_eq!(
            told.lines().filter(|line| line.contains(protocol) && line.contains("200")).count(),
            3,
            "{protocol}:\n{told}"
        );
    }
}
