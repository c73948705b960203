"""One WebSocket by extended CONNECT (RFC 8441, RFC 9220) over `h2` or aioquic; prints what was seen as one line of JSON.

usage: websocket_streams.py h2|h3 CA URL BYTES [hold]
The URL's host is what is asked for; the connection goes to 127.0.0.1 and the URL's port. The frames are the package
`websockets`' own: a text, a message in fragments, a binary message of so many bytes, a ping, a close with 1000. With
`hold` it says `open` when the fragments are back, and goes on when it is told a line.
"""
import asyncio
import hashlib
import json
import ssl
import sys
from urllib.parse import urlsplit

from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

PROTOCOL, CA, URL, COUNT, *HOLD = sys.argv[1:]
PARTS = urlsplit(URL)
HEAD = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", PARTS.netloc),
        (":path", PARTS.path), ("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat")]


class Talk:
    """What is said in the tunnel: bytes in, bytes out; done when the close came back."""

    def __init__(self):
        self.ws = Protocol(CLIENT, state=OPEN, max_size=None)
        self.seen = {"error": None, "status": 0, "subprotocol": None, "texts": [], "sha256": None, "pong": False,
                     "close": None}
        self.message, self.binary, self.done = b"", False, False

    def opened(self, fields):
        fields = dict(fields)
        self.seen["status"] = int(fields[":status"])
        self.seen["subprotocol"] = fields.get("sec-websocket-protocol")
        if self.seen["status"] != 200:
            self.done = True
            return b""
        self.ws.send_text("text ü".encode())
        self.ws.send_text(b"in ", fin=False)
        self.ws.send_continuation(b"three ", fin=False)
        self.ws.send_continuation(b"pieces", fin=True)
        return self.out() if HOLD else self.goes_on()

    def goes_on(self):
        self.ws.send_binary(bytes(i % 251 for i in range(int(COUNT))))
        self.ws.send_ping(b"there?")
        return self.out()

    def out(self):
        return b"".join(data for data in self.ws.data_to_send() if data)

    def heard(self, data):
        self.ws.receive_data(data)
        for frame in self.ws.events_received():
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self.binary = frame.opcode is Opcode.BINARY or (self.binary and frame.opcode is Opcode.CONT)
                self.message += frame.data
                if frame.fin and self.binary:
                    self.seen["sha256"] = hashlib.sha256(self.message).hexdigest()
                elif frame.fin:
                    self.seen["texts"].append(self.message.decode())
                    if HOLD and len(self.seen["texts"]) == 2:
                        print("open", flush=True)
                self.message = b"" if frame.fin else self.message
            elif frame.opcode is Opcode.PONG:
                self.seen["pong"] = True
            elif frame.opcode is Opcode.CLOSE:
                self.seen["close"] = Close.parse(frame.data).code
                self.done = True
        if self.seen["sha256"] and self.seen["pong"] and self.ws.state is OPEN:
            self.ws.send_close(1000, "bye")
        return self.out()

    def ended(self, why):
        if not self.done:
            self.seen["error"], self.done = why, True


async def told():
    """The line that ends the hold."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def without_goaway(data):
    """Whole frames of what came, and the rest: GOAWAY with NO_ERROR is left out, after which `h2` would send nothing."""
    kept = b""
    while len(data) >= 9 and len(data) >= (size := 9 + int.from_bytes(data[:3], "big")):
        frame, data = data[:size], data[size:]
        kept += b"" if frame[3] == 7 and frame[13:17] == bytes(4) else frame
    return kept, data


async def over_h2(talk):
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import ConnectionTerminated, DataReceived, RemoteSettingsChanged, ResponseReceived, StreamEnded, StreamReset
    from h2.settings import SettingCodes

    context = ssl.create_default_context(cafile=CA)
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", PARTS.port, ssl=context, server_hostname=PARTS.hostname)
    http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False))
    http.initiate_connection()
    stream, waiting, rest = None, b"", b""
    reading, holding = asyncio.ensure_future(reader.read(1 << 16)), asyncio.ensure_future(told()) if HOLD else None
    while not talk.done:
        while stream and waiting and (room := http.local_flow_control_window(stream)) > 0:
            size = min(room, http.max_outbound_frame_size, len(waiting))
            http.send_data(stream, waiting[:size])
            waiting = waiting[size:]
        writer.write(http.data_to_send())
        await writer.drain()
        await asyncio.wait({reading, holding} - {None}, return_when=asyncio.FIRST_COMPLETED)
        if holding and holding.done():
            waiting, holding = waiting + talk.goes_on(), None
            continue
        data = reading.result()
        if not data:
            return talk.ended("the connection ended")
        reading = asyncio.ensure_future(reader.read(1 << 16))
        data, rest = without_goaway(rest + data)
        for event in http.receive_data(data):
            if isinstance(event, RemoteSettingsChanged) and stream is None:
                changed = event.changed_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL)
                if changed is None or changed.new_value != 1:
                    return talk.ended("extended CONNECT is not offered")
                stream = http.get_next_available_stream_id()
                http.send_headers(stream, HEAD)
            elif isinstance(event, ResponseReceived):
                waiting += talk.opened(event.headers)
            elif isinstance(event, DataReceived):
                http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if talk.seen["status"] == 200:
                    waiting += talk.heard(event.data)
            elif isinstance(event, (ConnectionTerminated, StreamReset, StreamEnded)):
                talk.ended(f"{event}")
    http.close_connection()
    writer.write(http.data_to_send())
    writer.close()


async def over_h3(talk):
    from aioquic.asyncio.client import connect
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.h3.connection import H3_ALPN, H3Connection
    from aioquic.h3.events import DataReceived, HeadersReceived
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.events import ConnectionTerminated, StreamReset

    done = asyncio.get_event_loop().create_future()

    class Client(QuicConnectionProtocol):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.http = H3Connection(self._quic)
            self.stream = None

        def open(self):
            self.stream = self._quic.get_next_available_stream_id()
            self.http.send_headers(self.stream, [(name.encode(), value.encode()) for name, value in HEAD])
            self.transmit()

        def say(self, data):
            if data:
                self.http.send_data(self.stream, data, end_stream=False)
                self.transmit()

        def quic_event_received(self, event):
            if isinstance(event, (ConnectionTerminated, StreamReset)):
                talk.ended(f"{event}")
            for event in self.http.handle_event(event):
                if isinstance(event, HeadersReceived):
                    self.say(talk.opened((name.decode(), value.decode()) for name, value in event.headers))
                elif isinstance(event, DataReceived):
                    if talk.seen["status"] == 200:
                        self.say(talk.heard(event.data))
                    if event.stream_ended:
                        talk.ended("the stream ended")
            if talk.done and not done.done():
                done.set_result(None)

    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=PARTS.hostname)
    configuration.load_verify_locations(CA)
    async with connect("127.0.0.1", PARTS.port, configuration=configuration, create_protocol=Client) as client:
        client.open()
        if HOLD:
            await told()
            client.say(talk.goes_on())
        await done


async def main():
    talk = Talk()
    try:
        await asyncio.wait_for({"h2": over_h2, "h3": over_h3}[PROTOCOL](talk), 600 if HOLD else 120)
    except Exception as error:
        talk.ended(f"{type(error).__name__}: {error}")
    print(json.dumps(talk.seen))


asyncio.run(main())
