//! Clients that say anything at all.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eyot_h3::Limits;
use futures_util::FutureExt;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use quinn::VarInt;

use crate::harness::{echo, frame, head, headers, request, serve, uni};

/// What a client may do that nobody foresaw: streams, the bytes on each, and how each ends.
fn noise() -> impl Strategy<Value = Vec<(bool, Vec<u8>, u8)>> {
    let good = head("POST", &[]);
    let part = prop_oneof![
        Just(good.clone()),
        Just(good[..good.len() / 2].to_vec()),
        Just(vec![0, 4, 0]),
        Just(headers(&[("x", "y")])),
        vec(any::<u8>(), 0..40).prop_map(|payload| frame(0, &payload)),
        (any::<u8>(), vec(any::<u8>(), 0..40)).prop_map(|(kind, payload)| frame(kind, &payload)),
        vec(any::<u8>(), 0..10),
    ];
    vec((any::<bool>(), vec(part, 0..4).prop_map(|parts| parts.concat()), 0_u8..4), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_on_any_stream_make_the_server_panic(streams in noise()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let calm = Arc::new(AtomicBool::new(true));
            let seen = Arc::clone(&calm);
            let server = serve(Limits::default(), move |request, responder| {
                let seen = Arc::clone(&seen);
                async move {
                    if AssertUnwindSafe(echo(request, responder)).catch_unwind().await.is_err() {
                        seen.store(false, Ordering::Relaxed);
                    }
                }
            });
            let raw = server.raw().await;
            let mut open = Vec::new();
            for (bidi, bytes, end) in streams {
                let (mut send, mut recv) = match (bidi, raw.close_reason()) {
                    (_, Some(_)) => break,
                    (true, None) => request(&raw, &bytes, false).await,
                    (false, None) => {
                        open.push((uni(&raw, &bytes).await, None));
                        continue;
                    }
                };
                let code = VarInt::from_u32(0x10c);
                match end {
                    0 => drop(send.finish()),
                    1 => drop(send.reset(code)),
                    2 => drop(recv.stop(code)),
                    _ => {}
                }
                open.push((send, Some(recv)));
            }
            raw.close(VarInt::from_u32(0x100), b"");
            drop(open);
            let _ = server.end().await;
            assert!(calm.load(Ordering::Relaxed));
        });
    }
}
