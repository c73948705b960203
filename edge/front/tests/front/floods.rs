//! Clients that ask for more than a connection gives, or make it work for nothing.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use eyot_front::Settings;
use eyot_plan::arrival::{Arrival, Protocol};
use eyot_plan::body;
use futures_util::FutureExt as _;
use http::Response;
use tokio::sync::Semaphore;

use crate::frames::{ENHANCE_YOUR_CALM, REFUSED_STREAM, Raw, Said, cancel, frame, get, overflow, stream};
use crate::harness::{Front, read, text};

/// Requests at once on a connection, unless a setting says otherwise.
const AT_ONCE: u32 = 100;

/// A listener that answers everything but `/held`.
fn holding() -> Front {
    Front::answering(|arrival: Arrival| async move {
        if arrival.request.uri().path() == "/held" {
            pending::<()>().await;
        }
        text("served")
    })
}

/// Whether the listener still answers others.
async fn serves(front: &Front) -> bool {
    let mut client = front.client(Protocol::H2).await;
    read(client.get("https://a.net/").await.expect("a response")).await.is_ok_and(|said| said == "served")
}

#[tokio::test]
async fn resets_of_requests_that_nobody_has_seen_end_the_connection() {
    let front = holding();
    for (resets, is_ended) in [(20, false), (200, true)] {
        let mut raw = Raw::connect(&front).await;
        // All at once, so that the server reads a reset before it has looked at the request.
        let flood = (0..resets).flat_map(|number| [get(stream(number), false), cancel(stream(number))]);
        let last = stream(resets);
        raw.send(&flood.chain([get(last, false)]).collect::<Vec<_>>().concat()).await;
        let mut said = raw.said().await.expect("an end or an answer");
        while !is_ended && said != Said::Head(last) {
            assert!(!matches!(said, Said::Goaway(_)), "{said:?}");
            said = raw.said().await.expect("an answer");
        }
        if is_ended {
            assert_eq!(said, Said::Goaway(ENHANCE_YOUR_CALM));
            assert_eq!(raw.until_closed().await, []);
        }
        assert!(serves(&front).await);
    }
    front.ended().await;
}

/// Requests that a client may break off, over those that ended well.
const BROKEN_OFF_MAX: u32 = 100;

#[tokio::test]
async fn a_client_that_breaks_off_what_is_being_answered_again_and_again_is_ended() {
    let front = holding();
    // Errors of a stream that the server has to reset, and resets of its own.
    for (name, break_off) in [("overflow", overflow as fn(u32) -> Vec<u8>), ("cancel", cancel)] {
        for (count, is_ended) in [(BROKEN_OFF_MAX, false), (BROKEN_OFF_MAX + 1, true)] {
            let (mut raw, before) = (Raw::connect(&front).await, front.arrivals.load(Ordering::Relaxed));
            // One after the other: each is seen, begun, and has to be given up.
            for number in 0..count {
                raw.send(&get(stream(number), true)).await;
                while front.arrivals.load(Ordering::Relaxed) <= before + number as usize {
                    tokio::task::yield_now().await;
                }
                raw.send(&break_off(stream(number))).await;
            }
            raw.send(&get(stream(count), false)).await;
            let answered = loop {
                match raw.said().await {
                    Some(Said::Reset(..)) => {}
                    said => break said,
                }
            };
            let expect = if is_ended { Said::Goaway(ENHANCE_YOUR_CALM) } else { Said::Head(stream(count)) };
            assert_eq!(answered, Some(expect), "{name}");
            assert!(serves(&front).await);
        }
    }
    front.ended().await;
}

#[tokio::test]
async fn a_client_that_breaks_off_answers_for_which_it_gave_no_room_is_ended_too() {
    let large = Bytes::from(vec![0; 1 << 20]);
    let front = Front::answering(move |_| std::future::ready(Response::new(body::full(large.clone()))));
    let mut raw = Raw::connect(&front).await;
    for number in 0..=BROKEN_OFF_MAX {
        raw.send(&get(stream(number), false)).await;
        assert_eq!(raw.said().await, Some(Said::Head(stream(number))));
        raw.send(&cancel(stream(number))).await;
    }
    assert_eq!(raw.said().await, Some(Said::Goaway(ENHANCE_YOUR_CALM)));
    front.ended().await;
}

#[tokio::test]
async fn a_client_whose_requests_are_no_requests_is_refused_so_many_and_then_ended() {
    const OURS_MAX: u32 = 1024;
    let front = holding();
    for (errors, is_ended) in [(OURS_MAX, false), (OURS_MAX + 1, true)] {
        let mut raw = Raw::connect(&front).await;
        for number in 0..errors {
            // A field of the connection (RFC 9113, section 8.2.2): nobody but the library sees the request.
            raw.send(&frame(1, 5, stream(number), b"\x82\x87\x84\x01\x05a.net\0\x0aconnection\x01y")).await;
            let said = raw.said().await.expect("an answer");
            let last = number == OURS_MAX;
            assert_eq!(matches!(said, Said::Goaway(ENHANCE_YOUR_CALM)), last, "{said:?}");
            assert_eq!(matches!(said, Said::Reset(..)), !last, "{said:?}");
        }
        if !is_ended {
            raw.send(&get(stream(errors), false)).await;
            assert_eq!(raw.said().await, Some(Said::Head(stream(errors))));
        }
        assert!(serves(&front).await);
    }
    front.ended().await;
}

#[tokio::test]
async fn requests_that_end_well_make_good_for_those_that_are_broken_off() {
    let front = holding();
    let mut raw = Raw::connect(&front).await;
    for number in 0..2 * BROKEN_OFF_MAX {
        let before = front.arrivals.load(Ordering::Relaxed);
        raw.send(&get(stream(2 * number), true)).await;
        while front.arrivals.load(Ordering::Relaxed) == before {
            tokio::task::yield_now().await;
        }
        raw.send(&[cancel(stream(2 * number)), get(stream(2 * number + 1), false)].concat()).await;
        assert_eq!(raw.said().await, Some(Said::Head(stream(2 * number + 1))));
    }
    front.ended().await;
}

#[tokio::test]
async fn what_is_over_a_hundred_requests_at_once_is_refused_over_http_2_and_who_goes_on_is_ended() {
    let front = holding();
    let mut raw = Raw::connect(&front).await;
    let held: Vec<_> = (0..AT_ONCE).map(|number| get(stream(number), true)).collect();
    raw.send(&held.concat()).await;
    for number in AT_ONCE..AT_ONCE + 2 {
        raw.send(&get(stream(number), true)).await;
        assert_eq!(raw.said().await, Some(Said::Reset(stream(number), REFUSED_STREAM)));
    }
    assert_eq!(front.arrivals.load(Ordering::Relaxed), AT_ONCE as usize);
    // Where one ends, another may begin.
    raw.send(&[cancel(stream(0)), get(stream(AT_ONCE + 2), false)].concat()).await;
    assert_eq!(raw.said().await, Some(Said::Head(stream(AT_ONCE + 2))));
    for number in AT_ONCE + 3..AT_ONCE + 2000 {
        raw.send(&get(stream(number), true)).await;
    }
    assert_eq!(raw.until_closed().await.last(), Some(&Said::Goaway(ENHANCE_YOUR_CALM)));
    assert!(serves(&front).await);
    assert!(front.arrivals.load(Ordering::Relaxed) < 2 * AT_ONCE as usize);
    front.ended().await;
}

#[tokio::test]
async fn a_client_of_http_3_waits_with_what_is_over_the_requests_at_once() {
    for at_once in [AT_ONCE, 3] {
        let settings = Settings { streams_max: at_once, ..Settings::default() };
        let release = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&release);
        let front = Front::with(settings, move |_| {
            let held = Arc::clone(&held);
            async move {
                held.acquire().await.expect("never closed").forget();
                text("served")
            }
        });
        let quic = front.quic().await;
        let mut streams = Vec::new();
        for _ in 0..at_once {
            streams.push(quic.open_bi().await.expect("a stream"));
        }
        let one_more = quic.open_bi();
        let mut one_more = std::pin::pin!(one_more);
        for (send, _) in &mut streams {
            send.write_all(GET).await.expect("it is read");
            send.finish().expect("it is open");
        }
        while front.arrivals.load(Ordering::Relaxed) < at_once as usize {
            assert!(one_more.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        assert!(one_more.as_mut().now_or_never().is_none());
        // All are answered, and so another may be opened.
        release.add_permits(at_once as usize + 1);
        let (mut send, mut recv) = one_more.await.expect("a stream");
        send.write_all(GET).await.expect("it is read");
        send.finish().expect("it is open");
        assert!(recv.read_to_end(1 << 16).await.expect("a response").ends_with(b"served"));
        front.ended().await;
    }
}

/// `GET https://a.net/` in HTTP/3: one HEADERS frame of fields of the static table and a literal (RFC 9204, section 4.5).
const GET: &[u8] = b"\x01\x0c\0\0\xd1\xd7\xc1\x50\x05a.net";

#[tokio::test]
async fn frames_that_only_make_work_and_heads_without_end_end_the_connection() {
    let front = holding();
    let begun = || frame(1, 0, 1, b"\x82\x87\x84\x01\x05a.net");
    let open = || frame(1, 4, 1, b"\x83\x87\x01\x05a.net\x04\x05/held");
    for (name, first, again) in [
        ("PING", vec![], frame(6, 0, 0, b"00000000")),
        ("SETTINGS", vec![], frame(4, 0, 0, b"")),
        ("PRIORITY", vec![], frame(2, 0, 3, &[0, 0, 0, 0, 16])),
        ("unknown", vec![], frame(0x42, 0, 0, b"")),
        ("empty DATA", open(), frame(0, 0, 1, b"")),
        ("DATA of padding", open(), frame(0, 8, 1, b"\0")),
        ("DATA of a byte", open(), frame(0, 0, 1, b"x")),
        ("empty CONTINUATION", begun(), frame(9, 0, 1, b"")),
        (
            "CONTINUATION",
            begun(),
            frame(9, 0, 1, &[0, 1, b'x', 120].iter().copied().chain([b'y'; 120]).collect::<Vec<_>>()),
        ),
    ] {
        let mut raw = Raw::connect(&front).await;
        raw.send(&first).await;
        let some = again.repeat(500);
        let flood = async {
            for _ in 0..100 {
                raw.send(&some).await;
                // What is said to it is read, so that neither side waits for the other.
                while let Some(Some(said)) = raw.frame().now_or_never() {
                    if said.0 == 7 {
                        return Some(said.3);
                    }
                }
            }
            while let Some(said) = raw.frame().await {
                if said.0 == 7 {
                    return Some(said.3);
                }
            }
            None
        };
        if let Some(goaway) = flood.await {
            assert!([1, 11].contains(&goaway[7]), "{name}: {goaway:?}");
        }
        assert!(serves(&front).await, "{name}");
    }
    front.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gives_no_room_loses_its_responses_and_they_do_not_wait_for_it() {
    let front = Front::answering(|_| async { text("served") });
    for room in [0_u8, 1] {
        let mut raw = Raw::connect(&front).await;
        raw.send(&frame(4, 0, 0, &[0, 4, 0, 0, 0, room])).await;
        raw.send(&(0..10).flat_map(|number| get(stream(number), false)).collect::<Vec<_>>()).await;
        let mut resets = 0;
        while resets < 10 {
            match raw.said().await.expect("the connection lives") {
                Said::Reset(..) => resets += 1,
                Said::Head(_) => {}
                Said::Goaway(code) => panic!("{code}"),
            }
        }
    }
    front.ended().await;
}
