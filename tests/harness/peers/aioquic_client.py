"""One request over HTTP/3 with aioquic; prints what came back as one line of JSON.

usage: aioquic_client.py CA URL METHOD BODY_BYTES [name=value of a trailer]...
The URL's host is what is asked for; the connection goes to 127.0.0.1 and the URL's port.
"""
import asyncio
import hashlib
import json
import sys
from urllib.parse import urlsplit

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.done = asyncio.get_event_loop().create_future()
        self.head = None
        self.trailers = {}
        self.digest = hashlib.sha256()
        self.count = 0

    def finish(self, error=None):
        if not self.done.done():
            self.done.set_result(error)

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.finish(f"connection ended: {event.error_code} {event.reason_phrase}")
        if isinstance(event, StreamReset):
            self.finish(f"stream reset: {event.error_code}")
        for http_event in self.http.handle_event(event):
            if isinstance(http_event, HeadersReceived):
                fields = {k.decode(): v.decode() for k, v in http_event.headers}
                if self.head is None and not fields.get(":status", "").startswith("1"):
                    self.head = fields
                elif self.head is not None:
                    self.trailers = fields
            elif isinstance(http_event, DataReceived):
                self.digest.update(http_event.data)
                self.count += len(http_event.data)
            if getattr(http_event, "stream_ended", False):
                self.finish()


def pieces(count):
    """The body that all peers send: byte i is i modulo 251."""
    block = bytes(i % 251 for i in range(251 * 256))
    while count > 0:
        piece = block[: min(count, len(block))]
        count -= len(piece)
        yield piece


async def main():
    ca, url, method, body_bytes, *trailers = sys.argv[1:]
    parts = urlsplit(url)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=parts.hostname)
    configuration.load_verify_locations(ca)
    configuration.max_data = 1 << 24
    configuration.max_stream_data = 1 << 23
    async with connect("127.0.0.1", parts.port, configuration=configuration, create_protocol=Client) as client:
        stream = client._quic.get_next_available_stream_id()
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        head = [(b":method", method.encode()), (b":scheme", b"https"), (b":authority", parts.netloc.encode()),
                (b":path", path.encode()), (b"user-agent", b"aioquic")]
        head += [(b"trailer", trailer.split("=", 1)[0].encode()) for trailer in trailers]
        count = int(body_bytes)
        client.http.send_headers(stream, head, end_stream=count == 0 and not trailers)
        for piece in pieces(count):
            client.http.send_data(stream, piece, end_stream=False)
            client.transmit()
            await asyncio.sleep(0)
        if trailers:
            fields = [tuple(part.encode() for part in trailer.split("=", 1)) for trailer in trailers]
            client.http.send_headers(stream, fields, end_stream=True)
        elif count:
            client.http.send_data(stream, b"", end_stream=True)
        client.transmit()
        error = await asyncio.wait_for(client.done, 300)
        head = client.head or {}
        print(json.dumps({"error": error, "status": int(head.get(":status", 0)), "protocol": "h3", "headers": head,
                          "trailers": client.trailers, "bytes": client.count, "sha256": client.digest.hexdigest()}))


asyncio.run(main())
