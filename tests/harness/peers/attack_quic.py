"""QUIC by aioquic without its HTTP/3: a client that writes what it likes on its streams, from the address it likes.

It knows nothing of what an attack is; `attack_http3.py` and `attack_crowd.py` do.
"""
import socket
import ssl
import struct
import time

import pylsqpack
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

# Nothing that must happen takes so long; a wait that does fails.
PATIENCE = 120.0

CODES = {
    0x100: "H3_NO_ERROR", 0x101: "H3_GENERAL_PROTOCOL_ERROR", 0x102: "H3_INTERNAL_ERROR",
    0x103: "H3_STREAM_CREATION_ERROR", 0x104: "H3_CLOSED_CRITICAL_STREAM", 0x105: "H3_FRAME_UNEXPECTED",
    0x106: "H3_FRAME_ERROR", 0x107: "H3_EXCESSIVE_LOAD", 0x108: "H3_ID_ERROR", 0x109: "H3_SETTINGS_ERROR",
    0x10a: "H3_MISSING_SETTINGS", 0x10b: "H3_REQUEST_REJECTED", 0x10c: "H3_REQUEST_CANCELLED",
    0x10d: "H3_REQUEST_INCOMPLETE", 0x10e: "H3_MESSAGE_ERROR", 0x200: "QPACK_DECOMPRESSION_FAILED",
    0x201: "QPACK_ENCODER_STREAM_ERROR", 0x202: "QPACK_DECODER_STREAM_ERROR",
}


def name(code):
    return CODES.get(code, hex(code))


class Stubborn(QuicConnection):
    """It hears that it should stop sending, and goes on."""

    def _handle_stop_sending_frame(self, context, frame_type, buf):
        stream = buf.pull_uint_var()
        self._events.append(events.StopSendingReceived(error_code=buf.pull_uint_var(), stream_id=stream))


class Stream:
    """What came back on a stream."""

    def __init__(self):
        self.data = bytearray()
        self.is_ended = False
        self.reset = None
        self.stopped = None


class Client:
    """One connection."""

    def __init__(self, port, source="127.0.0.1", stubborn=False, host="shop.test", window=1 << 20, udp=None):
        configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=host, max_data=window,
                                          max_stream_data=window, verify_mode=ssl.CERT_NONE, idle_timeout=120.0)
        self.quic = (Stubborn if stubborn else QuicConnection)(configuration=configuration)
        self.node = ("127.0.0.1", port)
        self.udp = udp or socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if udp is None:
            self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self.udp.bind((source, 0))
        self.streams = {}
        self.is_open = False
        self.end = None
        self.sent = 0
        self.retried = False

    def connect(self):
        """Ends once the handshake has, well or not."""
        self.quic.connect(self.node, now=time.monotonic())
        self.until(lambda: self.is_open or self.end)
        return self

    def stream(self, at):
        return self.streams.setdefault(at, Stream())

    def open(self, data=b"", fin=False, uni=False):
        """A stream of its own with these bytes."""
        at = self.quic.get_next_available_stream_id(is_unidirectional=uni)
        self.stream(at)
        self.write(at, data, fin)
        return at

    def write(self, at, data, fin=False):
        """More bytes on a stream, unless the library has reset it because the node asked for that."""
        if self.stream(at).stopped is not None and not isinstance(self.quic, Stubborn):
            return
        self.quic.send_stream_data(at, data, end_stream=fin)

    def hurry(self):
        """From now on it sends what the windows allow, whatever the network thinks of that."""
        self.quic._loss._cc.congestion_window = 1 << 30
        self.quic._loss._pacer.next_send_time = lambda now: None

    def waiting(self, at):
        """The bytes that were written on a stream and have not left."""
        sender = self.quic._streams[at].sender if at in self.quic._streams else None
        return max(0, sender._buffer_stop - sender.highest_offset) if sender else 0

    def room(self, at):
        """The bytes that the node would take on a stream now."""
        stream = self.quic._streams.get(at)
        if stream is None:
            return 0
        return min(stream.max_stream_data_remote - stream.sender.highest_offset,
                   self.quic._remote_max_data - self.quic._remote_max_data_used)

    def until(self, done, patience=PATIENCE):
        """Sends and hears until something is so; false if the connection ended before."""
        deadline = time.monotonic() + patience
        while True:
            self.flush()
            if done():
                return True
            if self.end is not None:
                return False
            if time.monotonic() > deadline:
                raise TimeoutError("nothing happens")
            self.hear()

    def flush(self):
        for datagram, _ in self.quic.datagrams_to_send(now=time.monotonic()):
            self.sent += len(datagram)
            try:
                self.udp.sendto(datagram, self.node)
            except OSError:
                pass

    def hear(self, longest=0.5):
        now = time.monotonic()
        timer = self.quic.get_timer()
        wait = longest if timer is None else min(longest, timer - now)
        self.udp.settimeout(max(wait, 0.0001))
        try:
            self.take(self.udp.recv(65536))
            self.udp.settimeout(0)
            for _ in range(64):
                self.take(self.udp.recv(65536))
        except (TimeoutError, BlockingIOError, socket.timeout):
            pass
        except OSError:
            pass
        timer = self.quic.get_timer()
        if timer is not None and time.monotonic() >= timer:
            self.quic.handle_timer(now=time.monotonic())
        self.events()

    def take(self, datagram):
        # A long header of the type Retry (RFC 9000, section 17.2.5).
        self.retried |= datagram[0] & 0xF0 == 0xF0 and datagram[1:5] == b"\0\0\0\1"
        self.quic.receive_datagram(datagram, self.node, now=time.monotonic())

    def events(self):
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, events.HandshakeCompleted):
                self.is_open = True
            elif isinstance(event, events.StreamDataReceived):
                stream = self.stream(event.stream_id)
                if len(stream.data) < 1 << 20:
                    stream.data += event.data
                stream.is_ended |= event.end_stream
            elif isinstance(event, events.StreamReset):
                self.stream(event.stream_id).reset = event.error_code
            elif isinstance(event, events.StopSendingReceived):
                self.stream(event.stream_id).stopped = event.error_code
        # The library tells of an end only when it has been silent for a while after it.
        ended = self.quic._close_event
        if ended is not None and self.end is None:
            self.end = f"connection {name(ended.error_code)}"

    def close(self):
        """Says that it leaves, and leaves."""
        self.quic.close(error_code=0x100)
        self.flush()
        self.udp.close()


def integer(value):
    """A variable-length integer (RFC 9000, section 16)."""
    if value < 1 << 6:
        return bytes([value])
    if value < 1 << 14:
        return struct.pack(">H", value | 0x4000)
    if value < 1 << 30:
        return struct.pack(">I", value | 0x80000000)
    return struct.pack(">Q", value | 0xC000000000000000)


def frame(kind, payload=b"", length=None):
    """A frame of HTTP/3, or the beginning of one that says it was this long."""
    return integer(kind) + integer(len(payload) if length is None else length) + payload


def section(fields):
    """A field section of literals (RFC 9204, section 4.5.6): no table, no Huffman."""
    out = bytearray(b"\0\0")
    for field, value in fields:
        field, value = field.encode("latin-1"), value.encode("latin-1")
        out += prefixed(len(field), 3, 0x20) + field + prefixed(len(value), 7, 0) + value
    return bytes(out)


def prefixed(value, bits, first):
    """An integer with a prefix (RFC 7541, section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = bytearray([first | most]), value - most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def response(stream):
    """The fields of a response's head, and its body."""
    data, at, fields, body = bytes(stream.data), 0, {}, b""
    while at < len(data):
        (kind, length), at = pull(data, at, 2)
        payload, at = data[at:at + length], at + length
        if kind == 1 and not fields:
            decoder = pylsqpack.Decoder(0, 0)
            for key, value in decoder.feed_header(0, payload)[1]:
                key, value = key.decode(), value.decode()
                fields[key] = f"{fields[key]} | {value}" if key in fields else value
        elif kind == 0:
            body += payload
    return fields, body


def pull(data, at, count):
    found = []
    for _ in range(count):
        size = 1 << (data[at] >> 6)
        found.append(int.from_bytes(data[at:at + size], "big") & ((1 << (8 * size - 2)) - 1))
        at += size
    return found, at
