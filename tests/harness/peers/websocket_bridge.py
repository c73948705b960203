"""A door for clients of WebSockets that speak HTTP/1.1 only, and name no server in TLS: each socket goes on to a node.

usage: websocket_bridge.py h1|h2|h3 CA HOST PORT
Listens on 127.0.0.1 and prints its port. Over HTTP/1.1 all goes on as it came, but for the host; over `h2` (RFC 8441) and
aioquic (RFC 9220) a handshake goes on as an extended CONNECT, and what follows it as it comes, both ways. Each socket has
a connection of its own to 127.0.0.1:PORT.
"""
import asyncio
import base64
import hashlib
import re
import ssl
import sys

PROTOCOL, CA, HOST, PORT = sys.argv[1:]
HIGH_BYTES = 1 << 20


def asked(head):
    """The path, and the fields in lower case."""
    first, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    return first.split(" ")[1], fields


def connect_head(path, fields):
    kept = [name for name in ("sec-websocket-version", "sec-websocket-protocol", "sec-websocket-extensions") if name in fields]
    return [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", f"{HOST}:{PORT}"),
            (":path", path)] + [(name, fields[name]) for name in kept]


def accepted(key, answer):
    """The 101 of a handshake with this key (RFC 6455, section 4.2.2)."""
    sum_ = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
             f"Sec-WebSocket-Accept: {base64.b64encode(sum_).decode()}"]
    lines += [f"{name}: {value}" for name, value in answer.items() if name in ("sec-websocket-protocol", "sec-websocket-extensions")]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Tunnel:
    """The node's side of one socket: `status` is set by the head, then bytes come by `heard`; None is the end."""

    def __init__(self):
        self.status = asyncio.get_running_loop().create_future()
        self.heard = asyncio.Queue()

    def opened(self, fields):
        fields = dict(fields)
        if not self.status.done():
            self.status.set_result((int(fields[":status"]), fields))

    def ended(self):
        if not self.status.done():
            self.status.set_result((502, {}))
        self.heard.put_nowait(None)


async def over_h2(head):
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import ConnectionTerminated, DataReceived, RemoteSettingsChanged, ResponseReceived, StreamEnded, StreamReset

    context = ssl.create_default_context(cafile=CA)
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", int(PORT), ssl=context, server_hostname=HOST)
    http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False))
    http.initiate_connection()
    writer.write(http.data_to_send())
    tunnel, waiting, room = Tunnel(), [b"", False], asyncio.Event()
    stream = None

    def flush():
        while waiting[0] and (size := min(http.local_flow_control_window(stream), http.max_outbound_frame_size, len(waiting[0]))) > 0:
            http.send_data(stream, waiting[0][:size])
            waiting[0] = waiting[0][size:]
        if waiting[1] and not waiting[0]:
            waiting[1] = False
            http.end_stream(stream)
        if len(waiting[0]) < HIGH_BYTES:
            room.set()
        writer.write(http.data_to_send())

    async def read():
        nonlocal stream
        try:
            while data := await reader.read(1 << 16):
                for event in http.receive_data(data):
                    if isinstance(event, RemoteSettingsChanged) and stream is None:
                        stream = http.get_next_available_stream_id()
                        http.send_headers(stream, head)
                    elif isinstance(event, ResponseReceived):
                        tunnel.opened(event.headers)
                    elif isinstance(event, DataReceived):
                        http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                        tunnel.heard.put_nowait(event.data)
                    elif isinstance(event, (StreamEnded, StreamReset, ConnectionTerminated)):
                        tunnel.ended()
                flush()
        finally:
            tunnel.ended()

    task = asyncio.create_task(read())

    async def say(data):
        room.clear()
        waiting[0] += data
        waiting[1] = waiting[1] or not data
        flush()
        await room.wait()

    def close():
        task.cancel()
        writer.close()

    return tunnel, say, close


async def over_h3(head):
    from aioquic.asyncio.client import connect
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.h3.connection import H3_ALPN, H3Connection
    from aioquic.h3.events import DataReceived, HeadersReceived
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.events import ConnectionTerminated, StreamReset

    tunnel = Tunnel()

    class Client(QuicConnectionProtocol):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.http = H3Connection(self._quic)

        def quic_event_received(self, event):
            if isinstance(event, (ConnectionTerminated, StreamReset)):
                tunnel.ended()
            for event in self.http.handle_event(event):
                if isinstance(event, HeadersReceived):
                    tunnel.opened((name.decode(), value.decode()) for name, value in event.headers)
                elif isinstance(event, DataReceived):
                    tunnel.heard.put_nowait(event.data)
                if getattr(event, "stream_ended", False):
                    tunnel.ended()

    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=HOST)
    configuration.load_verify_locations(CA)
    opening = connect("127.0.0.1", int(PORT), configuration=configuration, create_protocol=Client)
    client = await opening.__aenter__()
    tunnel.kept = opening  # without it the connection would be closed
    stream = client._quic.get_next_available_stream_id()
    client.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in head])
    client.transmit()

    async def say(data):
        client.http.send_data(stream, data, end_stream=not data)
        client.transmit()

    return tunnel, say, client.close


async def pump(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


async def over_h1(reader, writer, head):
    context = ssl.create_default_context(cafile=CA)
    theirs, ours = await asyncio.open_connection("127.0.0.1", int(PORT), ssl=context, server_hostname=HOST)
    ours.write(re.sub(rb"(?im)^host:.*?\r", f"Host: {HOST}:{PORT}\r".encode(), head))
    sending = asyncio.create_task(pump(reader, ours))
    try:
        await pump(theirs, writer)
    finally:
        sending.cancel()
        ours.close()


async def serve(reader, writer):
    close = None
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if PROTOCOL == "h1":
            return await over_h1(reader, writer, head)
        path, fields = asked(head)
        tunnel, say, close = await {"h2": over_h2, "h3": over_h3}[PROTOCOL](connect_head(path, fields))
        status, answer = await tunnel.status
        if status != 200:
            print(f"refused with {status} {answer}", file=sys.stderr, flush=True)
            writer.write(f"HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return
        writer.write(accepted(fields["sec-websocket-key"], answer))

        async def up():
            while data := await reader.read(1 << 16):
                await say(data)
            await say(b"")

        sending = asyncio.create_task(up())
        while data := await tunnel.heard.get():
            writer.write(data)
            await writer.drain()
        sending.cancel()
    except (OSError, EOFError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        if close:
            close()
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
