"""A client of HTTP/3 (aioquic) that comes back with the session it was given; for each line it is told it connects anew,
asks, and prints the status and whether the session came back: `200 new`, `200 resumed`.

usage: resume_http3.py CA URL
The URL's host is what is asked for; the connection goes to 127.0.0.1 and the URL's port.
"""
import asyncio
import sys
from urllib.parse import urlsplit

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated

CA, URL = sys.argv[1:]
PARTS = urlsplit(URL)
HELD = []


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answer = asyncio.get_running_loop().create_future()

    def said(self, status):
        if not self.answer.done():
            self.answer.set_result(status)

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.said(f"ended: {event.error_code} {event.reason_phrase}")
        for event in self.http.handle_event(event):
            if isinstance(event, HeadersReceived):
                self.said(dict(event.headers)[b":status"].decode())


async def once():
    before = len(HELD)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=PARTS.hostname)
    configuration.load_verify_locations(CA)
    configuration.session_ticket = HELD[-1] if HELD else None
    taking = dict(configuration=configuration, create_protocol=Client, session_ticket_handler=HELD.append)
    async with connect("127.0.0.1", PARTS.port, **taking) as client:
        stream = client._quic.get_next_available_stream_id()
        head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", PARTS.netloc.encode()),
                (b":path", PARTS.path.encode())]
        client.http.send_headers(stream, head, end_stream=True)
        client.transmit()
        status = await asyncio.wait_for(client.answer, 60)
        # A session is given with the handshake's end; the answer may come before it.
        while len(HELD) == before and status.isdigit():
            await asyncio.sleep(0.01)
        return f"{status} {'resumed' if client._quic.tls.session_resumed else 'new'}"


async def main():
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(await once(), flush=True)


asyncio.run(main())
