"""HTTP/1.1 and HTTP/2 by the byte, over the TLS of Python's library: what `attack_tcp.py` and `attack_crowd.py` stand on."""
import functools
import socket
import ssl
import struct
import time

# Nothing that must happen takes so long; a wait that does fails.
PATIENCE = 120.0

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CODES = {0: "NO_ERROR", 1: "PROTOCOL_ERROR", 2: "INTERNAL_ERROR", 3: "FLOW_CONTROL_ERROR", 5: "STREAM_CLOSED",
         6: "FRAME_SIZE_ERROR", 7: "REFUSED_STREAM", 8: "CANCEL", 9: "COMPRESSION_ERROR", 11: "ENHANCE_YOUR_CALM"}


@functools.cache
def context(protocol):
    """A TLS that trusts everyone; made once, without the machine's authorities, which take long to read."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_alpn_protocols([protocol])
    return made


class Tls:
    """A connection that never waits to write what it should read."""

    def __init__(self, port, protocol, source="127.0.0.1", buffer=None):
        raw = socket.socket()
        if buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        raw.bind((source, 0))
        raw.settimeout(PATIENCE)
        raw.connect(("127.0.0.1", port))
        self.tls = context(protocol).wrap_socket(raw, server_hostname="shop.test")
        self.tls.settimeout(0)
        self.came = bytearray()
        self.sent = 0
        self.is_over = False

    def hear(self, wait=0.0):
        """Takes what is there; waits so long for some of it."""
        deadline = time.monotonic() + wait
        while not self.is_over:
            try:
                data = self.tls.recv(1 << 16)
                self.is_over |= not data
                self.came += data
                return bool(data)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.002)
            except OSError:
                self.is_over = True
        return False

    def put(self, data, listens=True, still=PATIENCE):
        """Writes all of it, unless the node ends the connection or takes nothing for this long; whether it did."""
        at, moved = memoryview(data), time.monotonic()
        while at and not self.is_over:
            try:
                # A write that has begun must be repeated with the same bytes.
                count = self.tls.send(at[:16 << 10])
                at, moved = at[count:], time.monotonic()
                self.sent += count
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if time.monotonic() - moved > still:
                    return False
                time.sleep(0.002)
            except OSError:
                # What it said before is still to be read.
                while self.hear():
                    pass
                self.is_over = True
            if listens:
                self.hear()
        return not self.is_over

    def rest(self, patience=PATIENCE):
        """Listens to the end; what came."""
        deadline = time.monotonic() + patience
        while not self.is_over:
            if time.monotonic() > deadline:
                raise TimeoutError("the connection does not end")
            self.hear(0.5)
        return bytes(self.came)

    def close(self):
        self.tls.close()


class H2(Tls):
    """A connection of HTTP/2."""

    def __init__(self, port, settings=b"", **more):
        super().__init__(port, "h2", **more)
        from hpack import Decoder
        self.decoder = Decoder()
        self.put(PREFACE + frame(SETTINGS, 0, 0, settings))

    def frames(self):
        """The whole frames that came and were not given yet: type, flags, stream, payload."""
        while len(self.came) >= 9:
            length = int.from_bytes(self.came[:3], "big")
            if len(self.came) < 9 + length:
                return
            kind, flags = self.came[3], self.came[4]
            stream = int.from_bytes(self.came[5:9], "big") & 0x7FFFFFFF
            payload = bytes(self.came[9:9 + length])
            del self.came[:9 + length]
            yield kind, flags, stream, payload

    def said(self, wait=0.0):
        """The resets, heads and ends among what came."""
        self.hear(wait)
        for kind, flags, stream, payload in self.frames():
            if kind == GOAWAY:
                yield "goaway", stream, code(payload[4:8])
            elif kind == RST_STREAM:
                yield "reset", stream, code(payload)
            elif kind == HEADERS:
                yield "head", stream, dict(self.decoder.decode(payload)).get(":status")
            elif kind == PING and not flags & ACK:
                self.put(frame(PING, ACK, 0, payload))

    def end(self):
        """Listens to the end: the code that the connection ended with."""
        found, deadline = None, time.monotonic() + PATIENCE
        while True:
            for what, _, why in self.said(0.5):
                if what == "goaway" and why != "NO_ERROR":
                    found = f"GOAWAY {why}"
            if self.is_over:
                return found or "cut"
            if time.monotonic() > deadline:
                raise TimeoutError("the connection does not end")


def code(payload):
    number = int.from_bytes(payload, "big")
    return CODES.get(number, hex(number))


def frame(kind, flags, stream, payload=b"", length=None):
    length = len(payload) if length is None else length
    return struct.pack(">I", length)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def head(path="/fixed", method=b"\x82", more=b""):
    path = path.encode()
    return method + b"\x87\x01\x09shop.test\x04" + bytes([len(path)]) + path + more


def get(stream, path="/fixed"):
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, head(path))


def post(stream, path="/up/never"):
    return frame(HEADERS, END_HEADERS, stream, head(path, b"\x83"))


def number(at):
    """The stream of a client's request, by its number from 0."""
    return 2 * at + 1
