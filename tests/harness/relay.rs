//! A relay of UDP between one client and a node, whose own address towards the node changes when it is told to: what a
//! client behind a NAT, or on another network, looks like.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

/// A running relay. Its threads end with the test's process; there are few.
pub(crate) struct Relay {
    /// Where the client sends to.
    pub(crate) port: u16,
    node: SocketAddr,
    near: Arc<UdpSocket>,
    client: Arc<Mutex<Option<SocketAddr>>>,
    far: Arc<Mutex<Arc<UdpSocket>>>,
}

impl Relay {
    /// A relay to the node's port.
    pub(crate) fn start(port: u16) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("loopback"));
        let node = SocketAddr::from(([127, 0, 0, 1], port));
        let far = Arc::new(Mutex::new(Arc::new(UdpSocket::bind("127.0.0.1:0").expect("loopback"))));
        let relay = Self { port: near.local_addr().expect("bound").port(), node, near, client: Arc::default(), far };
        let (near, client, far) = (Arc::clone(&relay.near), Arc::clone(&relay.client), Arc::clone(&relay.far));
        std::thread::spawn(move || {
            let mut datagram = [0; 65_536];
            while let Ok((length, from)) = near.recv_from(&mut datagram) {
                *client.lock().expect("no panic") = Some(from);
                let far = Arc::clone(&far.lock().expect("no panic"));
                let _ = far.send_to(&datagram[..length], node);
            }
        });
        relay.back();
        relay
    }

    /// From now on the node sees another address.
    pub(crate) fn change_address(&self) {
        *self.far.lock().expect("no panic") = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("loopback"));
        self.back();
    }

    /// What comes back to the present address goes to the client.
    fn back(&self) {
        let far = Arc::clone(&self.far.lock().expect("no panic"));
        let (near, client, node) = (Arc::clone(&self.near), Arc::clone(&self.client), self.node);
        std::thread::spawn(move || {
            let mut datagram = [0; 65_536];
            while let Ok((length, from)) = far.recv_from(&mut datagram) {
                let to = *client.lock().expect("no panic");
                if let Some(to) = to.filter(|_| from == node) {
                    let _ = near.send_to(&datagram[..length], to);
                }
            }
        });
    }
}
