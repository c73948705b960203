//! What is larger than what a node keeps in one piece: asked for in slices, once each, for all clients, over each protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::client::{Ask, PROTOCOLS};
use crate::harness::scripted::{Made, Seen};

use super::answers::{House, answer, house_with, status};

const LENGTH: usize = 8_000_000;

/// A version of the whole.
fn whole(version: usize) -> Vec<u8> {
    (0..LENGTH).map(|at| u8::try_from((at / 1000 + version) % 251).expect("small")).collect()
}

/// What an upstream answers that takes ranges.
fn ranged(seen: &Seen, version: usize) -> Made {
    let field = |name: &str| seen.headers.get(name).map(|value| value.to_str().expect("text").to_owned());
    let (body, tag) = (whole(version), format!("\"{version}\""));
    let range = field("range").filter(|_| field("if-range").is_none_or(|one| one == tag));
    let range = range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let made = match range {
        None => Made::of(body),
        Some((from, to)) => {
            let (from, to): (usize, usize) = (from.parse().expect("a number"), to.parse().expect("a number"));
            let part = Made::of(body[from..=to].to_vec()).status(206);
            part.field("content-range", format!("bytes {from}-{to}/{LENGTH}"))
        }
    };
    made.control("max-age=6000").field("accept-ranges", "bytes").field("etag", tag).field("surrogate-key", "all")
}

/// A node that keeps at most 2 MiB in one piece.
fn house() -> (House, Arc<AtomicUsize>) {
    let version = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&version);
    let edit = |text: String, _| format!("{text}\n[cache]\nmemory = \"32MiB\"\n");
    (house_with("", edit, move |seen, _| ranged(seen, now.load(Ordering::Relaxed))).0, version)
}

impl House {
    fn part(&self, nth: usize, range: &str) -> Ask {
        self.get(PROTOCOLS[nth % 3], "/large").header("range", range)
    }

    fn asked_large(&self) -> usize {
        self.upstream.asked().get("/large").copied().unwrap_or_default()
    }
}

#[test]
fn parts_of_a_large_file_are_asked_for_in_slices_and_answer_again_whoever_asks() {
    let (house, version) = house();
    let one = whole(1);
    for (nth, (range, from, to, asked)) in [
        ("bytes=5000000-5000099", 5_000_000, 5_000_100, 2),
        ("bytes=5000000-5000099", 5_000_000, 5_000_100, 2),
        ("bytes=4800000-5100000", 4_800_000, 5_100_001, 2),
        ("bytes=-10", LENGTH - 10, LENGTH, 3),
        ("bytes=1048570-1048579", 1_048_570, 1_048_580, 5),
        ("bytes=0-", 0, LENGTH, 9),
    ]
    .into_iter()
    .enumerate()
    {
        let got = answer(house.part(nth, range));
        assert!(got.status == 206 && got.body == one[from..to], "{range}: {} {} bytes", got.status, got.body.len());
        assert_eq!(house.asked_large(), asked, "{range}: {}", status(&got));
    }
    for protocol in PROTOCOLS {
        let got = answer(house.get(protocol, "/large"));
        assert!(got.status == 200 && got.body == one && status(&got).starts_with("eyot; hit"), "{}", status(&got));
    }
    assert_eq!(house.asked_large(), 9, "it was all there");
    // It is another one by now, of which a purge tells.
    version.store(2, Ordering::Relaxed);
    let purged =
        crate::harness::client::unix_asks(&house.world.path("a/admin.sock"), "POST", "/purge?app=shop&key=all");
    assert_eq!(purged.0, 200, "{}", purged.1);
    let got = answer(house.part(0, "bytes=5000000-5000099"));
    assert!(got.status == 206 && got.body == whole(2)[5_000_000..5_000_100]);
    // And another one, of which nothing does: what is there is of one version, what is not ends as broken off or is asked anew.
    version.store(3, Ordering::Relaxed);
    let got = answer(house.part(1, "bytes=5000000-5000099"));
    assert!(got.body == whole(2)[5_000_000..5_000_100], "it is still fresh");
    let got = answer(house.part(2, "bytes=1000-1099"));
    assert!(got.status == 206 && got.body == whole(3)[1000..1100], "{}", status(&got));
}
