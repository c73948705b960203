//! The floor: what HTTP/3 costs when nothing is done. A process of its own, with quinn, the transport of a node and a node's
//! two threads, which reads each request to its end, looks at none, and answers all with the same bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, RecvStream, SendStream, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::fleet::{self, Fleet};
use super::process::{Process, until};
use super::{BULK_BYTES, What};

/// The word that makes this executable the floor; the chain, the key and the kind of answer follow.
const WORD: &str = "be-the-floor";
/// More than a request of the load has.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Requests at once on a connection, as a node allows them.
const REQUESTS_MAX: u32 = 100;
/// The field section `:status: 200`, `content-type: text/plain` by the static table (RFC 9204, appendix A).
const HEAD: &[u8] = &[0x01, 0x04, 0x00, 0x00, 0xc0 | 25, 0xc0 | 53];
/// The control stream with empty SETTINGS (RFC 9114, section 6.2.1).
const CONTROL: &[u8] = &[0x00, 0x04, 0x00];

/// Starts it for one kind of answer: the process and its port.
pub(crate) fn start(fleet: &Fleet, what: What) -> (Process, u16) {
    let [chain, key] = fleet.certificate();
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command.arg(WORD).arg(chain).arg(key).arg(what.path());
    let process = Process::start("floor", &mut command);
    let port = until("the floor listens", || process.log().lines().find_map(|line| line.parse().ok()));
    (process, port)
}

/// Becomes the floor, if this process was started to be; it is ended from outside.
pub(crate) fn become_it() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, word, chain, key, path] = arguments.as_slice() else { return };
    if word != WORD {
        return;
    }
    let body = if path == What::Small.path() { fleet::BODY.to_vec() } else { vec![b'e'; BULK_BYTES] };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(serve(&PathBuf::from(chain), &PathBuf::from(key), body.into()));
}

async fn serve(chain: &Path, key: &Path, body: Bytes) {
    let endpoint = Endpoint::server(config(chain, key), ([127, 0, 0, 1], 0).into()).expect("a port");
    println!("{}", endpoint.local_addr().expect("bound").port());
    let mut frame = HEAD.to_vec();
    frame.push(0x00);
    frame.extend_from_slice(&(0x8000_0000_u32 | u32::try_from(body.len()).expect("four bytes")).to_be_bytes());
    let frame = Bytes::from(frame);
    while let Some(incoming) = endpoint.accept().await {
        let (frame, body) = (frame.clone(), body.clone());
        tokio::spawn(async move {
            let Ok(quic) = incoming.await else { return };
            let Ok(mut control) = quic.open_uni().await else { return };
            let _ = control.write_all(CONTROL).await;
            while let Ok((send, receive)) = quic.accept_bi().await {
                tokio::spawn(answer(send, receive, [frame.clone(), body.clone()]));
            }
            drop(control);
        });
    }
}

async fn answer(mut send: SendStream, mut receive: RecvStream, mut pieces: [Bytes; 2]) {
    if receive.read_to_end(REQUEST_BYTES_MAX).await.is_ok() && send.write_all_chunks(&mut pieces).await.is_ok() {
        let _ = send.finish();
    }
}

fn config(chain: &Path, key: &Path) -> ServerConfig {
    let chain = CertificateDer::pem_slice_iter(&fs::read(chain).expect("a chain"))
        .collect::<Result<Vec<_>, _>>()
        .expect("certificates");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth();
    let mut tls = tls.with_single_cert(chain, key).expect("a certificate");
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("QUIC's cipher")));
    config.transport_config(Arc::new(eyot_h3::server_transport(REQUESTS_MAX)));
    config
}
