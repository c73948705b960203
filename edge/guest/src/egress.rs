//! The one hook for all egress: what a guest sends goes through the `Fetch` door, counted, on the runtime of the I/O.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use wasmtime_wasi_http::{Error as WasiError, RequestOptions, WasiBody, WasiHttpHooks};

use crate::account::Account;
use crate::answer::AbortOnDrop;
use crate::blame;
use crate::charged::Beside;
use crate::clock;
use crate::doors::{Fetch, FetchTimeouts};
use crate::flow::{self, Kind, Outgoing};
use crate::world::World;

/// Pieces of an outgoing body that may wait to be read.
const BODY_PIECES_MAX: usize = 8;
/// The size of such a piece, in bytes.
const BODY_PIECE_BYTES: usize = 64 << 10;

/// The way out of one call.
pub(crate) struct Egress {
    pub(crate) account: Arc<Account>,
    pub(crate) fetch: Arc<dyn Fetch>,
    /// Where connections live.
    pub(crate) io: Handle,
    /// Whose way out it is.
    pub(crate) world: World,
}

type Ending = Box<dyn Future<Output = Result<(), WasiError>> + Send>;
type Sent = Result<(Response<WasiBody>, Ending), WasiError>;

impl WasiHttpHooks for Egress {
    fn set_host_header(&mut self) -> bool {
        false // The URI is absolute; who speaks HTTP/1.1 makes the field of it.
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _done: Box<dyn Future<Output = Result<(), WasiError>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let sender = match self.account.ask() {
            Ok(sender) => sender,
            Err(fault) => {
                let told = blame::wasi_error(&fault);
                self.account.blame(fault);
                return Box::new(std::future::ready(Err(told)));
            }
        };
        let account = Arc::clone(&self.account);
        let io = self.io.clone();
        let mut request = request.map(|body| Outgoing::new(body, &account, &io).boxed_unsync());
        request.extensions_mut().insert(sender);
        let fetching = io.spawn(self.fetch.fetch(request, timeouts(options)));
        let cancel = AbortOnDrop::new(fetching.abort_handle());
        let beside = Arc::clone(&account);
        let work = async move {
            let _cancel = cancel;
            let response = match fetching.await {
                Ok(fetched) => fetched.map_err(|fault| blame::wasi_error(&fault))?,
                Err(_) => return Err(WasiError::InternalError(None)),
            };
            let (parts, body) = response.into_parts();
            let body = flow::open(body, &io, &account, Kind::Response).await.boxed_unsync();
            let ending: Ending = Box::new(std::future::ready(Ok(())));
            Ok((Response::from_parts(parts, body), ending))
        };
        match self.world {
            World::V02 => Box::new(Beside { work: Box::pin(work), account: beside }),
            // It is polled within the guest's own turn, which is charged.
            World::V03 => Box::new(work),
        }
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        BODY_PIECES_MAX
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_PIECE_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_PIECE_BYTES
    }
}

fn timeouts(options: Option<RequestOptions>) -> FetchTimeouts {
    let ms = |duration: Option<Duration>| duration.map(clock::ms);
    let options = options.unwrap_or_default();
    FetchTimeouts {
        connect_ms: ms(options.connect_timeout),
        first_byte_ms: ms(options.first_byte_timeout),
        between_bytes_ms: ms(options.between_bytes_timeout),
    }
}
