//! A process that ends while somebody else holds its sockets: who comes meanwhile is the next one's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eyot_front::Settings;
use eyot_plan::arrival::{Arrival, Protocol};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;

use crate::harness::{AnyBody, Client, Front, listening, read, tcp, text};

/// How often something goes to and fro over the connection that keeps the process.
const TIMES: usize = 20;

#[tokio::test]
async fn who_begins_to_connect_while_a_process_drains_is_answered_by_the_next_one_on_the_same_sockets() {
    let mut held = listening(1);
    held.bound.clear();
    let sockets = held.try_clone().expect("descriptors");
    let mut front = Front::on(sockets, Settings::default(), |arrival: Arrival| async {
        Response::new(arrival.request.into_body())
    });
    let mut long = Long::on(&front).await;
    front.stop();
    tokio::time::pause();
    // Now it is no more than drained; the clock stands still otherwise.
    tokio::time::sleep(Duration::from_secs(1)).await;
    tokio::time::resume();
    let over_tcp = [Protocol::H1, Protocol::H2].map(|protocol| (protocol, tcp(front.tls)));
    let over_quic = tokio::spawn(eyot_h3::client::connect(Arc::new(front.trust(&["h3"])), front.tls, "a.net"));
    let mut connected = Vec::new();
    for (protocol, connecting) in over_tcp {
        connected.push((protocol, connecting.await.expect("it waits with the kernel")));
    }
    for _ in 0..TIMES {
        long.go_on().await;
    }
    assert!(!over_quic.is_finished(), "nobody answered it: {:?}", over_quic.await.map(|told| told.map(drop)));
    long.end().await;
    let front = front.followed(held, |_| async { text("of the next") }).await;
    let mut clients = vec![Client::H3(over_quic.await.expect("no panic").expect("it asked again"))];
    for (protocol, stream) in connected {
        clients.push(front.client_on(protocol, stream).await.expect("it waited"));
    }
    for mut client in clients {
        let response = client.get("https://a.net/").await.expect("a response");
        assert_eq!(read(response).await.expect("a body"), "of the next");
    }
    front.ended().await;
}

/// A request over QUIC that is echoed as it goes on.
struct Long {
    more: mpsc::UnboundedSender<Bytes>,
    back: AnyBody,
    _client: Client,
}

impl Long {
    async fn on(front: &Front) -> Self {
        let mut client = front.client(Protocol::H3).await;
        let (more, mut pieces) = mpsc::unbounded_channel::<Bytes>();
        let pieces = futures_util::stream::poll_fn(move |cx| {
            pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        });
        let request = Request::post("https://a.net/").body(StreamBody::new(pieces).boxed_unsync());
        let back = client.send(request.expect("a request")).await.expect("a response").into_body();
        Self { more, back, _client: client }
    }

    async fn go_on(&mut self) {
        self.more.send(Bytes::from_static(b"more")).expect("it is read");
        let frame = self.back.frame().await.expect("it goes on").expect("no error");
        assert_eq!(frame.into_data().expect("a piece"), "more");
    }

    async fn end(mut self) {
        drop(self.more);
        assert!(self.back.frame().await.is_none());
    }
}
