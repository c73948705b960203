use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::*;

#[test]
fn both_families_take_turns_and_no_answer_is_endless() {
    let v6 = |n: u16| IpAddr::from([0x2600, 0, 0, 0, 0, 0, 0, n]);
    let v4 = |n: u8| IpAddr::from([1, 1, 1, n]);
    assert_eq!(by_turns(vec![v6(1), v6(2), v6(3)], vec![v4(1)]), [v6(1), v4(1), v6(2), v6(3)]);
    assert_eq!(by_turns(vec![], vec![v4(1), v4(2)]), [v4(1), v4(2)]);
    assert_eq!(by_turns((0..99).map(v6).collect(), (0..99).map(v4).collect()).len(), ADDRESSES_MAX);
}

/// What a server wants to be believed for, in seconds: longer than anybody is.
const BELIEVED: u32 = 24 * 3600;

/// A server that knows names which begin with `good` and says of the others that they are none. Both are good for a
/// day. The count is of questions for IPv4.
async fn server() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let (address, asked) = (socket.local_addr().expect("bound"), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).expect("a question");
            count.fetch_add(usize::from(query.queries[0].query_type() == RecordType::A), Ordering::SeqCst);
            socket.send_to(&answer(&query), client).await.expect("sent");
        }
    });
    (address, asked)
}

fn answer(query: &Message) -> Vec<u8> {
    let question = query.queries[0].clone();
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.add_query(question.clone());
    let is_good = question.name().to_string().starts_with("good");
    if is_good && question.query_type() == RecordType::A {
        let data = RData::A(A::new(127, 0, 0, 1));
        message.add_answer(Record::from_rdata(question.name().clone(), BELIEVED, data));
    } else {
        let zone: Name = "test.".parse().expect("a name");
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 3600, 3600, 3600, BELIEVED);
        message.add_authority(Record::from_rdata(zone, BELIEVED, RData::SOA(soa)));
    }
    if !is_good {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    message.to_vec().expect("a message")
}

#[tokio::test]
async fn an_answer_is_believed_no_longer_than_its_bound_whatever_its_server_says() {
    let none = Duration::ZERO;
    for (host, bounds, questions) in [
        ("good.test", Bounds::default(), 1),
        ("bad.test", Bounds::default(), 1),
        ("good.test", Bounds { good_max: none, ..Bounds::default() }, 3),
        ("bad.test", Bounds { good_max: none, ..Bounds::default() }, 1),
        ("good.test", Bounds { bad_max: none, ..Bounds::default() }, 1),
        ("bad.test", Bounds { bad_max: none, ..Bounds::default() }, 3),
    ] {
        let (address, asked) = server().await;
        let names = Names::within(&Resolver::Servers(vec![address]), &bounds).expect("a resolver");
        for _ in 0..3 {
            assert_eq!(names.addresses(host).await.is_ok(), host.starts_with("good"));
        }
        assert_eq!(asked.load(Ordering::SeqCst), questions, "{host} {:?} {:?}", bounds.good_max, bounds.bad_max);
    }
    let (address, _) = server().await;
    let names = Names::new(&Resolver::Servers(vec![address])).expect("a resolver");
    let found = names.0.lookup_ip("good.test.").await.expect("an address");
    assert!(found.valid_until() <= Instant::now() + Duration::from_secs(300));
}

#[tokio::test]
async fn names_that_no_longer_fit_into_the_cache_are_asked_for_again() {
    const NAMES: usize = 300;
    for (cached_max, least, most) in [(4096, 0, 0), (8, NAMES / 2, NAMES)] {
        let (address, asked) = server().await;
        let bounds = Bounds { cached_max, ..Bounds::default() };
        let names = Names::within(&Resolver::Servers(vec![address]), &bounds).expect("a resolver");
        for round in 0..2 {
            for name in 0..NAMES {
                names.addresses(&format!("good{name}.test")).await.expect("an address");
            }
            assert!(round > 0 || asked.load(Ordering::SeqCst) == NAMES);
        }
        let again = asked.load(Ordering::SeqCst) - NAMES;
        assert!((least..=most).contains(&again), "{again} of {NAMES} were asked for again");
    }
}
