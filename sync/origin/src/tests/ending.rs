//! The end of an origin: streams end at once, what is in flight is answered, and then it is gone.

use bytes::Bytes;
use eyot_link::line::Protocol;
use http::StatusCode;
use http_body_util::BodyExt as _;

use super::house::{House, block_on, wasm};
use super::most::{Ask, asked, bearer, fed};
use super::publish::change;

#[test]
fn an_origin_that_ends_ends_its_streams_and_answers_what_is_in_flight_before_it_goes() {
    let mut house = House::new();
    // Nothing here may rest on the time to drain.
    house.bounds.front.drain = std::time::Duration::from_secs(24 * 3600);
    let mut origin = house.start_granted();
    let nodes = [house.node(&origin, "fra-1"), house.node(&origin, "fra-2")];
    block_on(async {
        let mut streams = Vec::new();
        for node in &nodes {
            let mut stream = node.watch(0, None).await.expect("a stream");
            change(&mut stream).await;
            streams.push(stream);
        }
        let mut plain = Vec::new();
        for protocol in [Protocol::H1, Protocol::H2, Protocol::H3] {
            let ask = Ask { protocol, ..Ask::get("/v1/watch?seq=0", bearer("fra-1")) };
            let response = asked(&house, &origin, ask).await;
            assert_eq!(response.status(), StatusCode::OK);
            plain.push(response.into_body());
        }
        let bytes = Bytes::from(wasm("in flight").repeat(10_000));
        let uploading = fed(&house, &origin, &bytes).await;
        origin.begin_to_stop();
        for mut stream in streams {
            while stream.next().await.is_ok() {}
        }
        for body in plain {
            let _ = body.collect().await;
        }
        assert!(origin.is_there(), "an upload is in flight");
        let (status, _) = uploading.end().await;
        assert_eq!(status, StatusCode::CREATED);
    });
    // The nodes are still there, each with its connection.
    origin.await_end();
    drop(nodes);
}
