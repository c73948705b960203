"""Attacks on HTTP/2 and HTTP/1.1 by the byte; prints a line of JSON for each: what was done and how it ended.

usage: attack_tcp.py PORT ATTACK BYTES COUNT
BYTES is how much is sent where an attack is a matter of bytes, COUNT how often one of number is repeated.
"""
import json
import signal
import socket
import struct
import sys

from attack_streams import (CONTINUATION, DATA, END_HEADERS, END_STREAM, H2, HEADERS, PING, PRIORITY, RST_STREAM,
                            SETTINGS, WINDOW_UPDATE, PATIENCE, Tls, frame, get, head, number, post)

PORT, ATTACK, BYTES, COUNT = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def tell(case, ends, **more):
    end = ends if isinstance(ends, str) else " or ".join(sorted(ends))
    print(json.dumps({"case": case, "end": end, **more}), flush=True)


def rounds(attack):
    """The same attack on one connection after the other."""
    ends, sent = set(), 0
    for _ in range(COUNT):
        here = H2(PORT)
        attack(here)
        ends.add(here.end())
        sent += here.sent
        here.close()
    return ends, sent


def endless(case, piece, first=b"", listens=True, most=None):
    """Writes a piece again and again until the connection ends, or so many bytes were written."""
    def attack(here):
        here.put(first)
        some = piece * max(1, (16 << 10) // len(piece))
        while here.sent < (most or BYTES) and here.put(some, listens):
            pass
        if not here.is_over and most is None:
            raise AssertionError(f"{case}: all {here.sent} bytes were taken")
    ends, sent = rounds(attack)
    tell(case, ends, sent=sent, connections=COUNT)


def rapid_reset():
    def attack(here):
        at = 0
        while not here.is_over and at < 20_000:
            some = range(at, at + 50)
            at += 50
            here.put(b"".join(get(number(each), "/up/never") + frame(RST_STREAM, 0, number(each), b"\0\0\0\x08")
                              for each in some))
        if not here.is_over:
            raise AssertionError(f"{at} were taken")
    ends, sent = rounds(attack)
    tell(ATTACK, ends, sent=sent, connections=COUNT)


def continuation():
    begun = frame(HEADERS, 0, 1, head())
    literal = b"\0\1x\x78" + b"y" * 120
    endless("of literals", frame(CONTINUATION, 0, 1, literal * 130), begun)
    endless("of small literals", frame(CONTINUATION, 0, 1, literal), begun)
    endless("of one value without end", frame(CONTINUATION, 0, 1, b"y" * 16000), begun +
            frame(CONTINUATION, 0, 1, b"\0\1x\x7f\xff\xff\xff\x7f"))
    endless("empty", frame(CONTINUATION, 0, 1), begun)


def made_you_reset():
    """Requests on which the client makes an error that is the stream's alone, so that the server has to reset it."""
    table = [
        ("a window that overflows", lambda at: frame(WINDOW_UPDATE, 0, at, b"\x7f\xff\xff\xff")),
        ("an increment of 0", lambda at: frame(WINDOW_UPDATE, 0, at, b"\0\0\0\0")),
        ("a head after the end", lambda at: frame(HEADERS, END_STREAM | END_HEADERS, at, head())),
        ("DATA after the end", lambda at: frame(DATA, 0, at, b"x")),
        ("a stream that depends on itself", lambda at: frame(PRIORITY, 0, at, struct.pack(">IB", at, 1))),
    ]
    for case, breach in table:
        def attack(here):
            at = 0
            while not here.is_over and at < 20_000:
                here.put(get(number(at), "/up/never"))
                here.put(breach(number(at)))
                at += 1
            if not here.is_over:
                here.is_over = True
                raise AssertionError(f"{case}: {at} were taken")
        ends, sent = rounds(attack)
        tell(case, ends, sent=sent, connections=COUNT)


def work_for_nothing():
    opened = post(1, "/up/never")
    for case, piece, first in [
        ("SETTINGS", frame(SETTINGS, 0, 0), b""),
        ("SETTINGS that change a window", frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)), b""),
        ("PING", frame(PING, 0, 0, bytes(8)), b""),
        ("PRIORITY", frame(PRIORITY, 0, 3, b"\0\0\0\0\x10"), b""),
        ("unknown frames", frame(0x42, 0, 0), b""),
        ("empty DATA", frame(DATA, 0, 1), opened),
        ("padding", frame(DATA, 8, 1, b"\0"), opened),
    ]:
        endless(case, piece, first)
        endless(f"{case}, answers unread", piece, first, listens=False)


def hpack():
    """Heads that are small on the way and large in memory, and tables that nobody allowed."""
    bomb = head() + b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000
    many = head() + b"\xbe" * 16000
    ends, sent = set(), 0
    for _ in range(COUNT):
        here = H2(PORT)
        here.put(frame(HEADERS, END_STREAM | END_HEADERS, 1, bomb))
        heads = {}
        for at in range(1, 50):
            here.put(frame(HEADERS, END_STREAM | END_HEADERS, number(at), many))
            while number(at) not in heads and not here.is_over:
                for what, stream, why in here.said(0.5):
                    heads[number(at) if what == "goaway" else stream] = why if what == "head" else f"{what} {why}"
            if here.is_over:
                break
        ends |= {end for stream, end in heads.items() if stream > 1}
        sent += here.sent
        here.close()
    tell("a bomb", ends, sent=sent, connections=COUNT)
    for case, block in [("an index that is not there", head() + b"\xff\x7f"),
                        ("a table over its size", b"\x3f\xff\xff\x03" + head()),
                        ("an integer without end", head() + b"\xff" + b"\x80" * 20),
                        ("a broken Huffman code", head() + b"\0\1x\x84\xff\xff\xff\xff")]:
        here = H2(PORT)
        here.put(frame(HEADERS, END_STREAM | END_HEADERS, 1, block))
        tell(case, here.end())
        here.close()


def zero_window():
    """A hundred large answers on each connection, and room for none of them, or for a few bytes now and then."""
    for case, room in [("no room", 0), ("a byte of room", 1)]:
        crowd = [H2(PORT, settings=struct.pack(">HI", 4, room)) for _ in range(COUNT)]
        for here in crowd:
            here.put(b"".join(get(number(at), "/up/large") for at in range(100)))
        ends = set()
        for here in crowd:
            left = 100
            while left and not here.is_over:
                for what, _, why in here.said(0.5):
                    left -= what == "reset"
                    if what != "head":
                        ends.add(f"{what} {why}")
            here.close()
        tell(case, ends, sent=sum(here.sent for here in crowd), connections=COUNT)


def frames():
    table = [
        ("a frame of 16 MiB", frame(DATA, 0, 1, b"", (1 << 24) - 1)),
        ("HEADERS on stream 0", frame(HEADERS, 5, 0, head())),
        ("an even stream", get(2)),
        ("a stream that goes back", get(5) + get(3)),
        ("a window that overflows", frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")),
        ("SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, bytes(5))),
        ("another frame amid a head", frame(HEADERS, 0, 1, head()) + frame(PING, 0, 0, bytes(8))),
    ]
    for case, data in table:
        here = H2(PORT)
        here.put(data)
        tell(case, here.end())
        here.close()


def h1(data, more=b""):
    """What HTTP/1.1 answers to bytes that go on until the connection ends."""
    ends, sent = set(), 0
    for _ in range(COUNT):
        here = Tls(PORT, "http/1.1")
        here.put(data)
        while more and here.sent < BYTES and here.put(more):
            pass
        said = here.rest()
        ends.add(said.split(b"\r\n")[0][9:12].decode() or "cut")
        sent += here.sent
        here.close()
    return ends, sent


def huge_heads():
    for case, data, more in [
        ("a field without end", b"GET /fixed HTTP/1.1\r\nhost: shop.test\r\nx: ", b"y" * 65536),
        ("fields without end", b"GET /fixed HTTP/1.1\r\nhost: shop.test\r\n", b"x: yyyyyyyyyyyyyyyy\r\n" * 1000),
        ("a name without end", b"GET /fixed HTTP/1.1\r\nhost: shop.test\r\n", b"x" * 65536),
        ("a target without end", b"GET /", b"y" * 65536),
        ("a method without end", b"", b"G" * 65536),
        ("empty lines without end", b"", b"\r\n" * 32768),
    ]:
        ends, sent = h1(data, more)
        tell(case, ends, sent=sent, connections=COUNT)


def chunks():
    post = b"POST /up/never HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n"
    for case, data, more in [
        ("an extension without end", post + b"1;", b"x" * 65536),
        ("extensions of each chunk", post, (b"1;" + b"x" * 300 + b"\r\na\r\n") * 100),
        ("a size without end", post + b"0", b"0" * 65536),
        ("a size over all", post + b"ffffffffffffffff1\r\n", b"x" * 65536),
        ("trailers without end", post + b"0\r\n", b"x: yyyyyyyyyyyyyyyy\r\n" * 1000),
    ]:
        ends, sent = h1(data, more)
        tell(case, ends, sent=sent, connections=COUNT)


def pipelining():
    """Requests without end, whose answers nobody reads: the node reads no further than it can answer, and gives up."""
    for path, case in [("/fixed", "small answers"), ("/up/large", "large answers")]:
        sent, ends = 0, set()
        some = (f"GET {path} HTTP/1.1\r\nhost: shop.test\r\n\r\n").encode() * 500
        for _ in range(COUNT):
            here = Tls(PORT, "http/1.1", buffer=4096)
            while here.put(some, listens=False):
                pass
            ends.add("cut" if here.is_over else "taken")
            sent += here.sent
            here.close()
        tell(case, ends, sent=sent, connections=COUNT)


def hellos():
    """What is no ClientHello, or one without end."""
    def record(payload, kind=22):
        return bytes([kind, 3, 1]) + struct.pack(">H", len(payload)) + payload

    for case, first, more in [
        ("a message of 16 MiB", record(b"\1\xff\xff\xff"), record(bytes(16000))),
        ("records of a byte", b"", record(b"\1") * 1000),
        ("empty records", b"", record(b"") * 1000),
        ("plain HTTP", b"GET / HTTP/1.1\r\n\r\n", b""),
        ("alerts", b"", record(b"\1\x5a", 21) * 1000),
    ]:
        ends, sent = set(), 0
        for _ in range(COUNT):
            with socket.create_connection(("127.0.0.1", PORT), PATIENCE) as here:
                taken = 0
                try:
                    here.sendall(first)
                    while more and taken < BYTES:
                        here.sendall(more)
                        taken += len(more)
                    while here.recv(1 << 16):
                        pass
                    ends.add("closed")
                except ConnectionError:
                    ends.add("closed")
                sent += taken
        tell(case, ends, sent=sent, connections=COUNT)


# An attack that nobody ends is ended, and is no success.
signal.alarm(900)
globals()[ATTACK]()
