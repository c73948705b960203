//! What a client is told that asks for a name we do not have: `unrecognized_name` (RFC 6066, section 3). The library
//! says `access_denied` then, so over TCP the name is looked at before it, and over QUIC its alert is replaced.

use std::any::Any;
use std::sync::Arc;

use quinn::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion,
};
use quinn::{ConnectionId, Side, TransportErrorCode};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;
use rustls::AlertDescription;

/// The alert as a record of TLS: fatal, `unrecognized_name`.
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A configuration of QUIC whose connections tell of unknown names.
pub(crate) struct Naming<C>(pub(crate) Arc<C>);

impl<C: ServerConfig + 'static> ServerConfig for Naming<C> {
    fn initial_keys(&self, version: u32, destination: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(version, destination)
    }

    fn retry_tag(&self, version: u32, original: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, original, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, parameters: &TransportParameters) -> Box<dyn Session> {
        Box::new(NamingSession(self.0.clone().start_session(version, parameters)))
    }
}

struct NamingSession(Box<dyn Session>);

impl Session for NamingSession {
    fn initial_keys(&self, destination: &ConnectionId, side: Side) -> Keys {
        self.0.initial_keys(destination, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.0.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.0.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.0.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.0.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    /// In TLS 1.3 the library's server says `access_denied` for one reason only: there is no certificate for the name.
    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        let code = |alert: AlertDescription| TransportErrorCode::crypto(alert.into());
        self.0.read_handshake(bytes).map_err(|mut error| {
            if error.code == code(AlertDescription::AccessDenied) {
                error.code = code(AlertDescription::UnrecognisedName);
            }
            error
        })
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.0.transport_parameters()
    }

    fn write_handshake(&mut self, bytes: &mut Vec<u8>) -> Option<Keys> {
        self.0.write_handshake(bytes)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.0.next_1rtt_keys()
    }

    fn is_valid_retry(&self, original: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.0.is_valid_retry(original, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.0.export_keying_material(output, label, context)
    }
}
