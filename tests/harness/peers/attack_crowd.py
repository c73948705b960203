"""Many clients at once, from addresses of 127.0.0.0/8, and slow ones; prints a line of JSON for each thing that it did.

usage: attack_crowd.py PORT ATTACK COUNT
Where an attack holds what it has, it says `ready` and goes on when a line comes by its standard input.
"""
import asyncio
import json
import os
import resource
import selectors
import socket
import ssl
import struct
import sys
import threading
import time

from attack_quic import PATIENCE, Client, frame as frame3, integer, name, response, section
from attack_streams import (CONTINUATION, END_HEADERS, H2, HEADERS, PING, PREFACE, SETTINGS, WINDOW_UPDATE, DATA, Tls,
                            context, frame, get, head, post)

PORT, ATTACK, COUNT = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
OF_ONE_ADDRESS = 100
REFUSED = "connection 0x2"


def tell(case, end, **more):
    print(json.dumps({"case": case, "end": end, **more}), flush=True)


def source(at, each=OF_ONE_ADDRESS):
    """The address of the how-manieth client: so many share one, and none is the one of good clients."""
    block = at // each
    return f"127.{1 + block // 62_500}.{block // 250 % 250}.{block % 250 + 1}"


def told(loop):
    """Resolves when a line comes."""
    done = loop.create_future()
    loop.add_reader(sys.stdin.fileno(), lambda: done.done() or done.set_result(os.read(0, 100)))
    return done


class Crowd:
    """Connections of QUIC, each of which is served now and then."""

    def __init__(self):
        self.clients = []
        self.ready = selectors.DefaultSelector()
        self.shown = time.monotonic()

    def add(self, client):
        client.quic.connect(client.node, now=time.monotonic())
        client.flush()
        self.clients.append(client)
        self.ready.register(client.udp, selectors.EVENT_READ, client)

    def turn(self, wait=0.0):
        for key, _ in self.ready.select(wait):
            key.data.hear(0.0001)
            key.data.flush()
        now = time.monotonic()
        if now - self.shown > 8:
            # Each shows that it is there, before its silence is an end.
            self.shown = now
            for client in self.clients:
                if client.is_open and client.end is None:
                    client.quic.send_ping(0)
                    client.flush()
        for client in self.clients:
            timer = client.quic.get_timer()
            if client.end is None and timer is not None and now >= timer:
                client.quic.handle_timer(now=now)
                client.events()
                client.flush()

    def until(self, done):
        deadline = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError("nothing happens")
            self.turn(0.05)

    def leave(self):
        for client in self.clients:
            client.close()

    def connect(self, count, first=0, each=OF_ONE_ADDRESS):
        """So many more, a few at a time, until each is open or was turned away."""
        for at in range(count):
            self.add(Client(PORT, source=source(first + at, each)))
            if at % 20 == 19 or at == count - 1:
                self.until(lambda: all(client.is_open or client.end for client in self.clients))


async def of_tcp(at, protocol, each=OF_ONE_ADDRESS):
    """An open connection over TLS; none if it was closed at once."""
    try:
        return await asyncio.open_connection("127.0.0.1", PORT, ssl=context(protocol), server_hostname="shop.test",
                                             local_addr=(source(at, each), 0), ssl_handshake_timeout=PATIENCE)
    except (ConnectionError, ssl.SSLError):
        return None


async def attend(reader, writer):
    """Answers the pings of HTTP/2; ends when the connection does."""
    try:
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == PING and not head[4] & 1:
                writer.write(frame(PING, 1, 0, payload))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass


async def idle():
    """Connections that ask for nothing: a third over HTTP/1.1, HTTP/2 and HTTP/3 each."""
    third, watched = COUNT // 3, []

    async def one(at, protocol):
        reader, writer = await of_tcp(at, protocol)
        if protocol == "h2":
            writer.write(PREFACE + frame(SETTINGS, 0, 0))
        return writer, asyncio.create_task(attend(reader, writer) if protocol == "h2" else reader.read(1))

    for protocol, first in [("http/1.1", 0), ("h2", third)]:
        for at in range(first, first + third, 20):
            some = [one(each, protocol) for each in range(at, min(at + 20, first + third))]
            watched += await asyncio.gather(*some)
    go_on, crowd = told(asyncio.get_running_loop()), Crowd()
    await asyncio.to_thread(crowd.connect, COUNT - 2 * third, 2 * third)
    tell("ready", "", connections=len(watched) + sum(client.is_open for client in crowd.clients))
    while not go_on.done():
        await asyncio.to_thread(crowd.turn, 0.05)
    left = sum(not task.done() for _, task in watched) + sum(client.end is None for client in crowd.clients)
    tell("left", "", connections=left)
    crowd.leave()


async def one_address():
    """More connections from one address than it may have, over TCP, then over QUIC from another."""
    pairs = [await of_tcp(0, "h2", COUNT) for _ in range(COUNT)]
    writers = [pair[1] for pair in pairs if pair]
    tell("TCP", "closed" if len(writers) < COUNT else "all were taken", connections=len(writers))
    crowd = Crowd()
    await asyncio.to_thread(crowd.connect, COUNT, COUNT, COUNT)
    crowd_open = [client for client in crowd.clients if client.is_open]
    ends = sorted({client.end for client in crowd.clients if not client.is_open})
    tell("QUIC", " or ".join(ends), connections=len(crowd_open), retries=sum(c.retried for c in crowd.clients))
    crowd.leave()
    for writer in writers:
        writer.close()


async def full():
    """As many connections as there may be in all; one more over TCP waits, over QUIC is refused."""
    loop = asyncio.get_running_loop()
    go_on = told(loop)
    pairs = [await of_tcp(at, "http/1.1", 10) for at in range(COUNT)]
    tell("ready", "", connections=sum(pair is not None for pair in pairs))
    turned_away = Crowd()
    await asyncio.to_thread(turned_away.connect, 20, 10 * COUNT, 1)
    tell("QUIC", " or ".join(sorted({str(client.end) for client in turned_away.clients})), connections=0,
         retries=sum(client.retried for client in turned_away.clients))
    waiting = [asyncio.create_task(of_tcp(20 * COUNT + at, "http/1.1", 1)) for at in range(20)]
    await go_on
    tell("TCP", "waits" if not any(task.done() for task in waiting[1:]) else "is served", connections=0)
    for pair in pairs:
        pair[1].close()
    served = [pair for pair in await asyncio.gather(*waiting) if pair]
    tell("TCP, when places come free", "is served", connections=len(served))
    for _, writer in served:
        writer.close()


def first():
    """The first datagram of a handshake."""
    client = Client(PORT)
    client.quic.connect(client.node, now=time.monotonic())
    client.udp.close()
    return client.quic.datagrams_to_send(now=time.monotonic())[0][0]


def initials():
    """First datagrams of handshakes, each from an address and a port of its own, that nothing follows. They are made before
    and come at once: what nothing follows has its place for no longer than a connection may be silent."""
    datagrams, opened = [first() for _ in range(COUNT)], []
    back, retries, quiet = 0, 0, 0

    def hear():
        nonlocal back, retries
        before = back
        for udp in opened:
            try:
                while True:
                    data = udp.recv(65536)
                    back += len(data)
                    retries += data[0] & 0xF0 == 0xF0
            except OSError:
                pass
        return back > before

    for at, datagram in enumerate(datagrams):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((source(at, 4), 0))
        udp.setblocking(False)
        udp.sendto(datagram, ("127.0.0.1", PORT))
        opened.append(udp)
        # No faster than the node's buffer takes them.
        if at % 20 == 19:
            time.sleep(0.01)
    while quiet < 20:
        quiet = 0 if hear() else quiet + 1
        time.sleep(0.1)
    sent = sum(len(datagram) for datagram in datagrams)
    tell(ATTACK, "answered" if back else "unanswered", sent=sent, back=back, retries=retries, connections=COUNT)


async def hellos():
    """TLS handshakes of which only the first message comes."""
    outgoing = ssl.MemoryBIO()
    made = context("h2").wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="shop.test")
    try:
        made.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = outgoing.read()

    async def one(at):
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT, local_addr=(source(at), 0))
        writer.write(hello if at % 2 else hello[:40])
        try:
            while await reader.read(1 << 16):
                pass
        except ConnectionError:
            pass
        writer.close()

    some = [asyncio.create_task(one(at)) for at in range(COUNT)]
    await asyncio.wait_for(asyncio.gather(*some), PATIENCE)
    tell(ATTACK, "closed", connections=COUNT)


def slow():
    """Clients that are slower than anyone may be, of each kind so many; each ends by the node's doing."""
    ends, lock = {}, threading.Lock()

    def run(case, one, at):
        try:
            end = one(source(at, 50))
        except Exception as error:
            end = f"{type(error).__name__}: {error} ({case})"
        with lock:
            ends.setdefault(case, set()).add(end)

    kinds = [(case, one) for case, one in globals().items() if case.startswith("slow_")]
    threads = [threading.Thread(target=run, args=(case, one, place * COUNT + at))
               for place, (case, one) in enumerate(kinds) for at in range(COUNT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for case in sorted(ends):
        tell(case.removeprefix("slow_").replace("_", " "), " or ".join(sorted(ends[case])), connections=COUNT)


def drip(here, data, pause=0.25):
    """A byte at a time, until the connection ends."""
    for at in range(len(data)):
        here.put(data[at:at + 1])
        here.hear(pause)
        if here.is_over:
            return


def answer(here):
    return here.rest().split(b"\r\n")[0][9:12].decode() or "cut"


def slow_h1_head(address):
    here = Tls(PORT, "http/1.1", source=address)
    drip(here, b"GET /fixed HTTP/1.1\r\nhost: shop.test\r\n" + b"x: y\r\n" * 1000)
    return answer(here)


def slow_h1_body(address):
    here = Tls(PORT, "http/1.1", source=address)
    here.put(b"POST /up/never HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 100000\r\n\r\n")
    drip(here, bytes(1000))
    return answer(here)


def slow_h1_chunks(address):
    here = Tls(PORT, "http/1.1", source=address)
    here.put(b"POST /up/never HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n")
    drip(here, b"1\r\nx\r\n" * 200)
    return answer(here)


def slow_h2_preface(address):
    here = Tls(PORT, "h2", source=address)
    drip(here, PREFACE * 10)
    here.rest()
    return "cut"


def slow_h2_head(address):
    here = H2(PORT, source=address)
    drip(here, get(1)[:-1])
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not here.is_over:
        for what, _, why in here.said(0.25):
            # One that was let go because it answers no PING was not ended for its slow head.
            if what == "goaway":
                here.close()
                return f"GOAWAY {why}"
    return "cut" if here.is_over else "not ended"


def slow_h2_continuation(address):
    here = H2(PORT, source=address)
    here.put(frame(HEADERS, 0, 1, head()))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not here.is_over:
        here.put(frame(CONTINUATION, 0, 1, b"\0\1x\1y"))
        here.hear(0.25)
    return here.end()


def slow_h2_body(address):
    here = H2(PORT, source=address)
    here.put(post(1))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not here.is_over:
        for what, _, why in here.said(0.25):
            here.close()
            return f"{what} {why}"
        here.put(frame(DATA, 0, 1, b"x"))
    return here.end()


def read3(here, at):
    stream = here.stream(at)
    return stream.is_ended or stream.reset is not None


def end3(here, at):
    stream = here.stream(at)
    here.close()
    if here.end and here.end != "connection H3_NO_ERROR":
        return here.end
    if stream.reset is not None:
        return f"reset {name(stream.reset)}"
    return response(stream)[0][":status"] if stream.is_ended else "open"


def request3(path, method="GET"):
    fields = [(":method", method), (":scheme", "https"), (":authority", "shop.test"), (":path", path)]
    return frame3(1, section(fields))


def slow_h3_head(address):
    here = Client(PORT, source=address).connect()
    data = request3("/fixed")
    at = here.open(data[:1])
    for each in range(1, len(data) - 1):
        here.write(at, data[each:each + 1])
        here.flush()
        here.hear(0.25)
    here.until(lambda: read3(here, at))
    return end3(here, at)


def slow_h3_body(address):
    here = Client(PORT, source=address).connect()
    at = here.open(request3("/up/never", "POST") + integer(0) + integer(100_000))
    while not read3(here, at) and here.end is None:
        here.write(at, b"x")
        here.flush()
        here.hear(0.25)
    return end3(here, at)


def slow_h1_read(address):
    here = Tls(PORT, "http/1.1", source=address, buffer=2048)
    here.put(b"GET /up/large HTTP/1.1\r\nhost: shop.test\r\n\r\n")
    return gone(here)


def slow_h2_read(address):
    here = H2(PORT, source=address, settings=struct.pack(">HI", 4, 1 << 30), buffer=2048)
    here.put(get(1, "/up/large") + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)))
    return gone(here)


def gone(here):
    """Takes nothing, until the node has let go and the kernel keeps nothing of what was sent: by the kernel's list of
    connections, because who takes nothing is told nothing."""
    (host, port), deadline = here.tls.getsockname(), time.monotonic() + PATIENCE
    ends = f":{PORT:04X} {socket.inet_aton(host)[::-1].hex().upper()}:{port:04X} "
    state = None
    while time.monotonic() < deadline:
        before = state
        with open("/proc/net/tcp") as connections:
            state = next((line.split()[3] for line in connections if ends in line), None)
        if state is None:
            here.close()
            return "cut" if before else "not in the kernel's list"
        time.sleep(0.1)
    return "kept by the kernel" if state == "04" else "open"


def slow_h2_trickle(address):
    """Room for 20 bytes now and then."""
    here = H2(PORT, source=address, settings=struct.pack(">HI", 4, 0))
    here.put(get(1, "/up/large"))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not here.is_over:
        for what, _, why in here.said(0.25):
            if what != "head":
                here.close()
                return f"{what} {why}"
        here.put(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 20)))
    return here.end()


def slow_h3_read(address):
    return trickle3(address, 0)


def slow_h3_trickle(address):
    return trickle3(address, 20)


def trickle3(address, room):
    """Room for so many bytes now and then, and for 4 KiB at first."""
    here = Client(PORT, source=address, window=4096)
    inner = here.quic._write_stream_limits
    given = [4096]

    def limits(builder, space, stream):
        if stream.max_stream_data_local >= given[0]:
            return
        stream.max_stream_data_local = given[0]
        inner(builder=builder, space=space, stream=stream)
    here.quic._write_stream_limits = limits
    here.connect()
    at = here.open(request3("/up/large"), fin=True)
    while not read3(here, at) and here.end is None:
        given[0] += room
        here.flush()
        here.hear(0.25)
    return end3(here, at)


soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
done = globals()[ATTACK]()
if done is not None:
    asyncio.run(done)
