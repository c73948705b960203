"""Attacks on HTTP/3 by the byte of a stream; prints a line of JSON for each: what was done and how it ended.

usage: attack_http3.py PORT ATTACK BYTES COUNT
BYTES is how much is sent where an attack is a matter of bytes, COUNT how often something is done where it is one of number.
"""
import json
import signal
import sys

from attack_quic import Client, frame, integer, name, pull, response, section

PORT, ATTACK, BYTES, COUNT = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
HUGE = 1 << 40
FILL = bytes(64 << 10)
# A flood of so many small things that nothing ends is one that the node bears.
MANY = 100_000
BORNE = "still open"
DATA, HEADERS, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID = 0, 1, 3, 4, 5, 7, 13
PRIORITY_UPDATE, UNKNOWN = 0xF0700, 0x21
CONTROL = b"\0" + frame(SETTINGS)
GET = [(":method", "GET"), (":scheme", "https"), (":authority", "shop.test"), (":path", "/fixed")]


def request(fields=(), method="GET", path="/fixed"):
    head = [(":method", method), (":scheme", "https"), (":authority", "shop.test"), (":path", path)]
    return frame(HEADERS, section(head + list(fields)))


def client(**more):
    return Client(PORT, **more).connect()


def tell(case, end, **more):
    print(json.dumps({"case": case, "end": end, **more}), flush=True)


def outcome(at, here):
    """How a request ended: with a status, with a reset, with a STOP_SENDING, or with the connection."""
    if here.end:
        return here.end
    stream, said = here.stream(at), []
    if stream.is_ended:
        said.append(response(stream)[0].get(":status", "no head"))
    if stream.reset is not None:
        said.append(f"reset {name(stream.reset)}")
    if stream.stopped is not None:
        said.append(f"stopped {name(stream.stopped)}")
    return ", ".join(said)


def over(at, here):
    stream = here.stream(at)
    return stream.is_ended or stream.reset is not None


def ask(here, data, fin=True):
    """One request on a stream of its own, up to the end of its answer."""
    at = here.open(data, fin)
    here.until(lambda: over(at, here))
    return at


def pour(here, at, most):
    """Sends up to so many bytes on a stream, and ends when the node gives no more room for them."""
    poured, still = 0, 0
    while poured < most and still < 3 and here.end is None:
        if here.waiting(at) < len(FILL):
            here.write(at, FILL)
            poured += len(FILL)
        here.flush()
        still = still + 1 if here.room(at) <= 0 else 0
        here.hear(0.02 if still or here.waiting(at) else 0.001)


def again(open_one):
    """Attacks by one connection after the other, until so many bytes were sent; all must end in the same way."""
    sent, ends, connections = 0, set(), 0
    while sent < BYTES:
        here = client(stubborn=True)
        here.hurry()
        # All that the window of a stream allows is on its way before the node can say anything.
        here.write(open_one(here), bytes(256 << 10))
        here.flush()
        here.until(lambda: here.end)
        sent, connections = sent + here.sent, connections + 1
        ends.add(here.end)
        here.udp.close()
    tell(ATTACK, " or ".join(sorted(ends)), sent=sent, connections=connections)


def huge_headers():
    """HEADERS of 2^40 bytes on stream after stream, by a client that does not stop when it is told to."""
    sent, ends, connections = 0, set(), 0
    while sent < BYTES:
        here, connections = client(stubborn=True), connections + 1
        # Few enough to be over before a connection that has no request is ended.
        for _ in range(20):
            at = here.open(frame(HEADERS, b"", HUGE))
            pour(here, at, 256 << 10)
            here.until(lambda: over(at, here) and here.stream(at).stopped is not None)
            ends.add(outcome(at, here))
            if here.end or sent + here.sent >= BYTES:
                break
        sent += here.sent
        here.close()
    tell(ATTACK, " or ".join(sorted(ends)), sent=sent, connections=connections)


def huge_trailers():
    """Trailers of 2^40 bytes, after the beginning of a body that is being passed on."""
    sent, ends, connections = 0, set(), 0
    while sent < BYTES:
        here, connections = client(stubborn=True), connections + 1
        at = here.open(request(method="POST", path="/up/echo") + frame(DATA, b"begun") + frame(HEADERS, b"", HUGE))
        pour(here, at, 256 << 10)
        here.until(lambda: over(at, here))
        ends.add(outcome(at, here))
        sent += here.sent
        here.close()
    tell(ATTACK, " or ".join(sorted(ends)), sent=sent, connections=connections)


def huge_unknown():
    again(lambda here: here.open(frame(UNKNOWN, b"", HUGE)))


def huge_unknown_in_body():
    again(lambda here: here.open(request(method="POST", path="/up/never") + frame(UNKNOWN, b"", HUGE)))


def huge_on_control():
    again(lambda here: here.open(CONTROL + frame(UNKNOWN, b"", HUGE), uni=True))


def huge_settings():
    again(lambda here: here.open(b"\0" + frame(SETTINGS, b"", HUGE), uni=True))


def huge_priority_update():
    again(lambda here: here.open(CONTROL + frame(PRIORITY_UPDATE, b"\0", HUGE), uni=True))


def held_body():
    """DATA of 2^40 bytes that nobody reads, on a hundred streams: as far as the windows go."""
    here = client(stubborn=True)
    streams = [here.open(request(method="POST", path="/up/never") + frame(DATA, b"", HUGE)) for _ in range(100)]
    for at in streams:
        pour(here, at, BYTES // 100)
    other = client()
    ends = {outcome(at, here) for at in streams} | {outcome(ask(other, request()), other)}
    tell(ATTACK, " or ".join(sorted(ends)), sent=here.sent)
    here.close()


def undrained_body():
    """An answer that needs nothing of the request's body."""
    here = client()
    for case, more in [("declared 2^40", frame(DATA, b"", HUGE)), ("in small frames", frame(DATA, bytes(900)) * 50)]:
        at = here.open(request(method="POST") + more)
        here.until(lambda: over(at, here) and here.stream(at).stopped is not None)
        tell(case, outcome(at, here))
    tell("afterwards", outcome(ask(here, request()), here))


def malformed():
    """Requests that could be read two ways, or that HTTP/3 forbids. Each is alone on its stream."""
    def of(*fields):
        return frame(HEADERS, section(fields))

    method, scheme, authority, path = GET
    post = [(":method", "POST"), scheme, authority, (":path", "/up/echo")]
    body = frame(DATA, b"abc")
    table = [
        ("transfer-encoding", request([("transfer-encoding", "chunked")])),
        ("connection", request([("connection", "close")])),
        ("keep-alive", request([("keep-alive", "timeout=5")])),
        ("proxy-connection", request([("proxy-connection", "close")])),
        ("upgrade", request([("upgrade", "websocket")])),
        ("te: gzip", request([("te", "gzip")])),
        ("two lengths", request([("content-length", "3"), ("content-length", "4")], "POST") + body),
        ("two lengths in one", request([("content-length", "3, 4")], "POST") + body),
        ("a length that is none", request([("content-length", "+3")], "POST") + body),
        ("a length too long", request([("content-length", "4")], "POST", "/up/echo") + body),
        ("a length too short", request([("content-length", "2")], "POST", "/up/echo") + body),
        ("a length and no body", request([("content-length", "3")])),
        (":method twice", of(method, method, scheme, authority, path)),
        (":path twice", of(method, scheme, authority, path, path)),
        (":authority twice", of(method, scheme, authority, (":authority", "other.test"), path)),
        ("a late pseudo-header", of(method, scheme, path, ("x", "y"), authority)),
        ("a pseudo-header in trailers", of(*post) + body + of((":path", "/"))),
        (":status", of(method, scheme, authority, path, (":status", "200"))),
        ("an unknown pseudo-header", of(method, scheme, authority, path, (":made-up", "1"))),
        ("no :path", of(method, scheme, authority)),
        ("no :method", of(scheme, authority, path)),
        ("no :scheme", of(method, authority, path)),
        ("an empty :path", of(method, scheme, authority, (":path", ""))),
        (":path = *", of(method, scheme, authority, (":path", "*"))),
        (":path without a slash", of(method, scheme, authority, (":path", "fixed"))),
        ("userinfo", of(method, scheme, (":authority", "user:pw@shop.test"), path)),
        ("another host", request([("host", "other.test")])),
        ("two hosts", request([("host", "shop.test"), ("host", "shop.test")])),
        ("an upper-case name", request([("X-Upper", "y")])),
        ("a line break in a value", request([("x", "a\r\nb: c")])),
        ("a zero in a value", request([("x", "a\0b")])),
        ("an empty name", request([("", "y")])),
        ("a space in a name", request([("x y", "z")])),
    ]
    here = client()
    for case, data in table:
        tell(case, outcome(ask(here, data), here))
    tell("afterwards", outcome(ask(here, request()), here))


def cookies():
    """Cookies in crumbs (RFC 9114, section 4.2.1) are one field upstream."""
    here = client()
    at = ask(here, request([("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")], path="/up/echo"))
    tell("upstream saw", response(here.stream(at))[0].get("x-saw-cookie"))


def stop_sending():
    """STOP_SENDING while the node waits for the rest of a body, and while it sends; what it was of lives on."""
    here = client()
    for round in range(COUNT):
        for path in ["/up/echo", "/up/never", "/up/large"]:
            at = here.open(request(method="POST", path=path) + frame(DATA, b"begun"))
            if path != "/up/never":
                here.until(lambda: here.stream(at).data)
            here.quic.stop_stream(at, 0x10C)
            here.flush()
            if round % 2:
                here.write(at, frame(DATA, b"more"))
            here.until(lambda: here.stream(at).reset is not None)
            here.quic.reset_stream(at, 0x10C)
            # One that ends well for one that was broken off, or there would be too many.
            ask(here, request())
    tell("afterwards", outcome(ask(here, request()), here), sent=here.sent)


def rapid_reset():
    """Requests that are reset as soon as they are made."""
    ends, sent = set(), 0
    for _ in range(COUNT):
        here, number = client(), 0
        while here.end is None and number < MANY // 20:
            for _ in range(20):
                at = here.open(request(path="/up/never"))
                here.flush()
                here.quic.reset_stream(at, 0x10C)
            number += 20
            here.flush()
            here.hear(0.01)
        ends.add(here.end or BORNE)
        sent += here.sent
        here.udp.close()
    tell(ATTACK, " or ".join(sorted(ends)), sent=sent, connections=COUNT)


def flood(open_one, more):
    """The same small thing again and again on a stream, from a connection after the other."""
    ends, sent, took = set(), 0, 0
    for _ in range(COUNT):
        here, number = client(stubborn=True), 0
        at = open_one(here)
        while here.end is None and number < MANY:
            if here.waiting(at) < 16 << 10:
                here.write(at, b"".join(more(number + each) for each in range(100)))
                number += 100
            here.flush()
            here.hear(0.01)
        ends.add(here.end or BORNE)
        sent, took = sent + here.sent, max(took, number)
        here.udp.close()
    tell(ATTACK, " or ".join(sorted(ends)), sent=sent, connections=COUNT)


def control(here):
    return here.open(CONTROL, uni=True)


def max_push_id():
    flood(control, lambda number: frame(MAX_PUSH_ID, integer(number)))


def cancel_push():
    flood(control, lambda number: frame(CANCEL_PUSH, integer(number)))


def priority_update():
    flood(control, lambda number: frame(PRIORITY_UPDATE, integer(4 * number) + b"u=1"))


def empty_on_control():
    flood(control, lambda _: frame(UNKNOWN))


def goaways():
    flood(control, lambda _: frame(GOAWAY, integer(0)))


def settings_again():
    flood(control, lambda _: frame(SETTINGS))


def settings_many():
    flood(lambda here: here.open(b"\0" + integer(SETTINGS) + integer(16000), uni=True),
          lambda number: integer(0x4021 + 31 * number) + b"\0")


def empty_data():
    flood(lambda here: here.open(request(method="POST", path="/up/echo")), lambda _: frame(DATA))


def empty_unknown():
    flood(lambda here: here.open(request(method="POST", path="/up/echo")), lambda _: frame(UNKNOWN))


def capacity_of_0():
    flood(lambda here: here.open(b"\2", uni=True), lambda _: b"\x20")


def stream_cancellations():
    flood(lambda here: here.open(b"\3", uni=True), lambda _: b"\x41")


def uni_streams():
    """Unidirectional streams of a type that nobody knows, one after the other."""
    ends, sent = set(), 0
    for _ in range(COUNT):
        here, number = client(), 0
        while here.end is None and number < MANY // 20:
            for _ in range(8):
                here.open(integer(0x2F), fin=True, uni=True)
            number += 8
            here.flush()
            here.hear(0.01)
        ends.add(here.end or BORNE)
        sent += here.sent
        here.udp.close()
    tell(ATTACK, " or ".join(sorted(ends)), sent=sent, connections=COUNT)


def qpack():
    """Instructions and references of a dynamic table that is not there."""
    table = [
        ("a capacity", lambda here: here.open(b"\2\x3f\xe1\x1f", uni=True)),
        ("an insertion with a name of the static table", lambda here: here.open(b"\2\xc1\x01a", uni=True)),
        ("an insertion with a literal name", lambda here: here.open(b"\2\x41a\x01b", uni=True)),
        ("a duplicate", lambda here: here.open(b"\2\x00", uni=True)),
        ("an acknowledgement", lambda here: here.open(b"\3\x80", uni=True)),
        ("an increment", lambda here: here.open(b"\3\x01", uni=True)),
        ("an increment of 0", lambda here: here.open(b"\3\x00", uni=True)),
        ("a name without end", lambda here: here.open(b"\2\x5f" + b"\xff" * 10, uni=True)),
        ("a required insert count", lambda here: here.open(frame(HEADERS, b"\x02\0\x80"), fin=True)),
        ("a dynamic reference", lambda here: here.open(frame(HEADERS, b"\0\0\x80"), fin=True)),
        ("a post-base reference", lambda here: here.open(frame(HEADERS, b"\0\0\x10"), fin=True)),
        ("a static entry that is not there", lambda here: here.open(frame(HEADERS, b"\0\0\xff\x25"), fin=True)),
    ]
    for case, attack in table:
        here = client()
        attack(here)
        here.until(lambda: here.end)
        tell(case, here.end)


def critical():
    """Breaches of what a stream may carry, and of which streams must stay."""
    def closed(kind):
        def attack(here):
            at = here.open(kind, uni=True)
            ask(here, request())
            here.write(at, b"", fin=True)
        return attack

    table = [
        ("no settings", lambda here: here.open(b"\0" + frame(GOAWAY, b"\0"), uni=True)),
        ("a setting twice", lambda here: here.open(b"\0" + frame(SETTINGS, b"\1\0\1\0"), uni=True)),
        ("a setting of HTTP/2", lambda here: here.open(b"\0" + frame(SETTINGS, b"\2\0"), uni=True)),
        ("DATA on the control stream", lambda here: here.open(CONTROL + frame(DATA), uni=True)),
        ("a second control stream", lambda here: (control(here), control(here))),
        ("a push stream", lambda here: here.open(b"\1\0", uni=True)),
        ("DATA first", lambda here: here.open(frame(DATA, b"a"))),
        ("a PUSH_PROMISE", lambda here: here.open(frame(PUSH_PROMISE, b"\0\0\0"))),
        ("half a frame", lambda here: here.open(request()[:9], fin=True)),
        ("the control stream ends", closed(CONTROL)),
        ("the encoder's stream ends", closed(b"\2")),
    ]
    for case, attack in table:
        here = client()
        attack(here)
        here.until(lambda: here.end)
        tell(case, here.end)


def drain():
    """Requests in flight while the node ends: what it says of the last one, and what becomes of those and of a later one."""
    here = client()
    held = [here.open(request(method="POST", path="/up/echo") + frame(DATA, b"begun")) for _ in range(3)]
    here.until(lambda: all(here.stream(at).data for at in held))
    tell("ready", "")
    here.until(lambda: len(goaways_of(here)) > 1)
    tell("GOAWAY", " then ".join(str(each) for each in goaways_of(here)))
    tell("a later request", outcome(ask(here, request()), here))
    for at in held:
        here.write(at, frame(DATA, b", ended"), fin=True)
    here.until(lambda: all(over(at, here) for at in held))
    tell("those before", " or ".join(sorted({outcome(at, here) for at in held})))
    here.until(lambda: here.end)
    tell("the end", here.end)


def goaways_of(here):
    """What the frames of the node's control stream say of GOAWAY."""
    for at, stream in here.streams.items():
        if at % 4 == 3 and stream.data[:1] == b"\0":
            data, place, found = bytes(stream.data), 1, []
            while place < len(data):
                (kind, length), place = pull(data, place, 2)
                if kind == GOAWAY:
                    found += pull(data, place, 1)[0]
                place += length
            return found
    return []


# An attack that nobody ends is ended, and is no success.
signal.alarm(900)
globals()[ATTACK]()
