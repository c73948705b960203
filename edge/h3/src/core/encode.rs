//! Writing heads and trailers as HEADERS frames, with the static table alone.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Method, header};

use super::head::Protocol;
use super::section::FIELD_OVERHEAD_BYTES;
use super::settings::Settings;
use super::table::{self, Found};
use super::{frame, huffman, integer, varint};

/// Room before the section for the frame's type (one byte) and its length (at most four).
const FRAME_ROOM_BYTES: usize = 5;

/// A HEADERS frame, and how large its section is by the count of RFC 9114, section 4.2.2.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The whole frame.
    pub frame: BytesMut,
    /// The size that the peer's SETTINGS_MAX_FIELD_SECTION_SIZE limits.
    pub section_bytes: u64,
}

/// Why a head cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// The request's URI has no scheme or no authority.
    #[error("the request's URI has no scheme or no authority")]
    NotAbsolute,
    /// A CONNECT without a [`Protocol`], which this crate does not speak.
    #[error("a CONNECT without a protocol is not spoken here")]
    Connect,
    /// The status is one that this response cannot have.
    #[error("the status is one that this response cannot have")]
    Status,
    /// The head is larger than a frame may be here.
    #[error("the head is too large")]
    TooLarge,
}

/// A request's head. Connection-specific fields and `host` are left out (RFC 9114, section 4.2 and 4.3.1). A CONNECT has
/// its [`Protocol`] among its extensions, and no content-length.
pub fn request(head: &http::request::Parts) -> Result<Encoded, Unsendable> {
    let connect = head.method == Method::CONNECT;
    let protocol = head.extensions.get::<Protocol>().filter(|_| connect);
    if connect && protocol.is_none() {
        return Err(Unsendable::Connect);
    }
    let (Some(scheme), Some(authority)) = (head.uri.scheme_str(), head.uri.authority()) else {
        return Err(Unsendable::NotAbsolute);
    };
    // RFC 9114, section 4.3.1: no userinfo in :authority.
    let authority = authority.as_str().rsplit('@').next().unwrap_or_default();
    let path = match head.uri.path_and_query().map(|it| it.as_str()) {
        None | Some("") => "/",
        Some(path) => path,
    };
    let mut out = Encoder::new();
    out.field(":method", head.method.as_str().as_bytes(), false);
    if let Some(protocol) = protocol {
        out.field(":protocol", protocol.as_str().as_bytes(), false);
    }
    out.field(":scheme", scheme.as_bytes(), false);
    out.field(":authority", authority.as_bytes(), false);
    if path.starts_with('?') {
        out.field(":path", format!("/{path}").as_bytes(), false);
    } else {
        out.field(":path", path.as_bytes(), false);
    }
    out.fields(&head.headers, |name| *name != header::HOST && !(connect && *name == header::CONTENT_LENGTH));
    out.finish()
}

/// A response's head. Connection-specific fields are left out.
pub fn response(head: &http::response::Parts) -> Result<Encoded, Unsendable> {
    let mut out = Encoder::new();
    out.field(":status", head.status.as_str().as_bytes(), false);
    out.fields(&head.headers, |name| *name != header::TE);
    out.finish()
}

/// Trailers. Connection-specific fields are left out.
pub fn trailers(fields: &HeaderMap) -> Result<Encoded, Unsendable> {
    let mut out = Encoder::new();
    out.fields(fields, |name| *name != header::TE);
    out.finish()
}

/// Whether a field says something about one connection and has no place in HTTP/3 (RFC 9114, section 4.2).
pub fn is_connection_specific(name: &HeaderName) -> bool {
    matches!(*name, header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// The head of a DATA frame whose payload has `bytes` bytes.
pub fn data(bytes: usize, out: &mut impl BufMut) {
    varint::write(frame::DATA, out);
    varint::write(bytes as u64, out);
}

struct Encoder {
    out: BytesMut,
    section_bytes: usize,
}

impl Encoder {
    fn new() -> Self {
        let mut out = BytesMut::with_capacity(512);
        out.put_bytes(0, FRAME_ROOM_BYTES);
        // The section's prefix: required insert count 0, base 0 (RFC 9204, section 4.5.1).
        out.put_slice(&[0, 0]);
        Self { out, section_bytes: 0 }
    }

    fn fields(&mut self, fields: &HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
        for (name, value) in fields {
            let te = *name == header::TE && !value.as_bytes().eq_ignore_ascii_case(b"trailers");
            if keep(name) && !te && !is_connection_specific(name) {
                self.field(name.as_str(), value.as_bytes(), value.is_sensitive());
            }
        }
    }

    /// One field line (RFC 9204, section 4.5.2, 4.5.4, 4.5.6).
    fn field(&mut self, name: &str, value: &[u8], sensitive: bool) {
        self.section_bytes += name.len() + value.len() + FIELD_OVERHEAD_BYTES;
        let never = u8::from(sensitive);
        match table::find(name, value) {
            Some(Found::Field(index)) if !sensitive => self.integer(index, 6, 0xc0),
            Some(Found::Field(index) | Found::Name(index)) => {
                self.integer(index, 4, 0x50 | never << 5);
                self.string(value, 7, 0);
            }
            None => {
                self.string(name.as_bytes(), 3, 0x20 | never << 4);
                self.string(value, 7, 0);
            }
        }
    }

    fn integer(&mut self, value: u64, bits: u32, flags: u8) {
        integer::write(usize::try_from(value).unwrap_or_default(), bits, flags, &mut self.out);
    }

    /// A string, in the shorter of its two forms; the bit above the prefix says Huffman.
    fn string(&mut self, text: &[u8], bits: u32, flags: u8) {
        let coded = huffman::encoded_len(text);
        if coded < text.len() {
            integer::write(coded, bits, flags | 1 << bits, &mut self.out);
            huffman::encode(text, &mut self.out);
        } else {
            integer::write(text.len(), bits, flags, &mut self.out);
            self.out.put_slice(text);
        }
    }

    /// Puts the frame's head before the section.
    fn finish(mut self) -> Result<Encoded, Unsendable> {
        let length = self.out.len() - FRAME_ROOM_BYTES;
        if length >= 1 << 30 {
            return Err(Unsendable::TooLarge);
        }
        let start = FRAME_ROOM_BYTES - 1 - varint::len(length as u64);
        let mut head = &mut self.out[start..FRAME_ROOM_BYTES];
        varint::write(frame::HEADERS, &mut head);
        varint::write(length as u64, &mut head);
        let _ = self.out.split_to(start);
        Ok(Encoded { frame: self.out, section_bytes: self.section_bytes as u64 })
    }
}

/// The control stream's first bytes: its type and a SETTINGS frame (RFC 9114, section 6.2.1) that says these.
pub fn control_prelude(said: Settings) -> Bytes {
    let mut settings = BytesMut::new();
    let connect_protocol = said.connect_protocol.then_some((super::settings::ENABLE_CONNECT_PROTOCOL, 1));
    let always = [
        (super::settings::QPACK_MAX_TABLE_CAPACITY, 0),
        (super::settings::MAX_FIELD_SECTION_SIZE, said.header_bytes_max.min(varint::MAX)),
        (super::settings::QPACK_BLOCKED_STREAMS, 0),
    ];
    for (id, value) in always.into_iter().chain(connect_protocol) {
        varint::write(id, &mut settings);
        varint::write(value, &mut settings);
    }
    let mut out = BytesMut::new();
    varint::write(super::peer::CONTROL, &mut out);
    varint::write(frame::SETTINGS, &mut out);
    varint::write(settings.len() as u64, &mut out);
    out.put_slice(&settings);
    out.freeze()
}

/// A GOAWAY frame (RFC 9114, section 7.2.6).
pub fn goaway(id: u64) -> Bytes {
    let mut out = BytesMut::new();
    varint::write(frame::GOAWAY, &mut out);
    varint::write(varint::len(id) as u64, &mut out);
    varint::write(id, &mut out);
    out.freeze()
}

/// A frame that says nothing and must be passed over: the first of the reserved types (RFC 9114, section 7.2.8).
pub fn nothing() -> Bytes {
    Bytes::from_static(&[0x21, 0])
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request, Response};

    use super::super::section::Section;
    use super::*;

    fn payload(encoded: &Encoded) -> &[u8] {
        let mut rest = &encoded.frame[..];
        assert_eq!(varint::read(&mut rest), Some(frame::HEADERS));
        assert_eq!(varint::read(&mut rest), Some(rest.len() as u64));
        rest
    }

    fn fields(encoded: &Encoded) -> Vec<String> {
        let section = Section::decode(payload(encoded), 1 << 20).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        section.fields().map(|it| format!("{}: {}", text(it.name.bytes()), text(it.value.bytes()))).collect()
    }

    #[test]
    fn heads_are_written_and_connection_specific_fields_left_out() {
        let request = Request::post("https://me@a.example:8443?b")
            .header("host", "b.example")
            .header("connection", "x")
            .header("transfer-encoding", "chunked")
            .header("te", "gzip")
            .header("te", "trailers")
            .header("x-y", "z");
        let encoded = self::request(&request.body(()).unwrap().into_parts().0).unwrap();
        let expect =
            [":method: POST", ":scheme: https", ":authority: a.example:8443", ":path: /?b", "te: trailers", "x-y: z"];
        assert_eq!(fields(&encoded), expect);
        assert_eq!(encoded.section_bytes, expect.iter().map(|it| it.len() as u64 - 2 + 32).sum::<u64>());
        let response =
            Response::builder().status(204).header("keep-alive", "1").header("upgrade", "h2").header("age", "0");
        assert_eq!(fields(&response_of(response)), [":status: 204", "age: 0"]);
    }

    fn response_of(builder: http::response::Builder) -> Encoded {
        response(&builder.body(()).unwrap().into_parts().0).unwrap()
    }

    #[test]
    fn known_fields_are_short_and_lengths_take_as_little_as_they_need() {
        let short = response_of(Response::builder().header("content-type", "text/plain"));
        assert_eq!(short.frame, &[1, 4, 0, 0, 0xd9, 0xf5][..]);
        for size in [40, 100, 20_000] {
            let value = "\\".repeat(size);
            let encoded = response_of(Response::builder().header("x-y", &value));
            assert_eq!(fields(&encoded), [":status: 200".to_owned(), format!("x-y: {value}")]);
        }
    }

    #[test]
    fn a_sensitive_field_is_sent_so_that_nobody_indexes_it() {
        let mut value = HeaderValue::from_static("secret");
        value.set_sensitive(true);
        for name in ["authorization", "x-token"] {
            let encoded = response_of(Response::builder().header(name, value.clone()));
            let section = Section::decode(payload(&encoded), 1000).unwrap();
            assert!(section.fields().last().unwrap().sensitive, "{name}");
        }
    }

    #[test]
    fn an_extended_connect_says_what_it_is_for_and_no_other_request_does() {
        let request = |method: &str| {
            let request = Request::builder().method(method).uri("https://a.example/chat").header("content-length", "0");
            let parts = request.extension(Protocol::WEBSOCKET).body(()).unwrap().into_parts().0;
            fields(&self::request(&parts).unwrap())
        };
        let tunnel =
            [":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: a.example", ":path: /chat"];
        assert_eq!(request("CONNECT"), tunnel);
        let other = [":method: GET", ":scheme: https", ":authority: a.example", ":path: /chat", "content-length: 0"];
        assert_eq!(request("GET"), other);
    }

    #[test]
    fn settings_that_are_said_are_read_again() {
        for connect_protocol in [false, true] {
            let said = Settings { header_bytes_max: 12345, connect_protocol };
            let prelude = control_prelude(said);
            let mut reader = super::super::settings::Reader::default();
            prelude[3..].iter().for_each(|byte| reader.push(*byte).unwrap());
            assert_eq!((prelude[..2].to_vec(), usize::from(prelude[2])), (vec![0, 4], prelude.len() - 3));
            assert_eq!(reader.finish(), Ok(said));
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let table = [("/a", "GET", Unsendable::NotAbsolute), ("a.example:443", "CONNECT", Unsendable::Connect)];
        for (uri, method, why) in table {
            let request = Request::builder().method(method).uri(uri).body(()).unwrap();
            assert_eq!(self::request(&request.into_parts().0).err(), Some(why));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(fields in proptest::collection::vec(("[a-z0-9_-]{1,12}", "[!-~]{0,40}|[ -~\\t]{0,40}"), 0..20)) {
            let mut response = Response::new(());
            for (name, value) in &fields {
                let name: HeaderName = format!("x{name}").parse().unwrap();
                response.headers_mut().append(name, HeaderValue::from_str(value.trim()).unwrap());
            }
            let (parts, ()) = response.into_parts();
            let encoded = self::response(&parts).unwrap();
            let section = Section::decode(payload(&encoded), usize::try_from(encoded.section_bytes).unwrap()).unwrap();
            let (back, _) = super::super::head::response(&section).unwrap();
            assert_eq!(back.headers(), &parts.headers);
        }
    }
}
