//! One connection of which the client's side is small enough to be full at once.

use eyot_plan::arrival::{Arrival, Protocol};
use eyot_plan::body::Body;
use tokio::io::{AsyncWriteExt as _, duplex};
use tokio::time::Instant;

use super::*;
use crate::certificates::Certificates;
use crate::connection::{Activity, Door};
use crate::drain::drain;
use crate::guard::Guards;
use crate::settings::{Plain, Settings};

/// Accepts every tunnel, and sends back what comes through it.
struct Echo;

impl Answer for Echo {
    async fn answer(&self, arrival: Arrival) -> Response<Body> {
        Response::new(arrival.request.into_body())
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_the_answer_which_opens_its_tunnel_is_waited_for_like_any_other() {
    let settings = Settings { plain: Plain::Serve, ..Settings::default() };
    let (send_idle, tunnel_idle) = (settings.send_idle, settings.tunnel_idle);
    let challenges = Certificates::none().challenges();
    let exchanges = Exchanges { answer: Arc::new(Echo), challenges, settings, alt_svc: None, https_port: 443 };
    let (door, client) = (Door::Common(Guards::none()), ([192, 0, 2, 1], 1).into());
    let connection = Connection { protocol: Protocol::H1, client, tls: None, door, activity: Activity::new() };
    // The head of a 101 does not fit.
    let (ours, mut theirs) = duplex(64);
    let (_phase, drain) = drain();
    let serving = tokio::spawn(serve(Arc::new(exchanges), Arc::new(connection), ours, drain));
    let began = Instant::now();
    let handshake = "GET / HTTP/1.1\r\nhost: a.net\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    theirs.write_all(handshake.as_bytes()).await.expect("it is read");
    serving.await.expect("no panic");
    assert!(began.elapsed() >= send_idle && began.elapsed() < tunnel_idle, "{:?}", began.elapsed());
}
