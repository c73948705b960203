"""What a QUIC client must not do, each on a connection of its own; prints a line of JSON for each: how the server closed it.

usage: quic_errors.py PORT
`code` is that of the server's CONNECTION_CLOSE of the transport, null where the connection stayed open: those cases show
that what is written here by hand is taken where nothing is wrong with it.
"""
import json
import sys
import time
from unittest.mock import patch

from aioquic.quic import connection
from aioquic.quic.packet import QuicPreferredAddress
from aioquic.tls import Epoch
from attack_quic import Client, integer

PORT = int(sys.argv[1])
EARLY, HANDSHAKE, SHORT = Epoch.ZERO_RTT, Epoch.HANDSHAKE, Epoch.ONE_RTT
# The first bytes of packets, with a packet number of four bytes: none need be there for its protection.
FIRST = {EARLY: 0xD3, HANDSHAKE: 0xE3, SHORT: 0x43}
PING, CRYPTO, STREAM, STREAM_AT = b"\x01", b"\x06", b"\x0a", b"\x0e"
# The two bits that header protection hides and that must be 0 (RFC 9000, section 17.2).
RESERVED = {HANDSHAKE: 0x0C, SHORT: 0x18}
# TLS messages: their type, and a length of three bytes (RFC 8446, section 4).
KEY_UPDATE, END_OF_EARLY_DATA = b"\x18\0\0\x01\x01", b"\x05\0\0\0"
# There are no identifiers for more streams (RFC 9000, section 4.6).
STREAMS_MAX = 1 << 60
TOKEN = bytes(range(16))


class Wrong(Client):
    """A connection that keeps what the server closed it with: a timeout of its own, or an end by aioquic, is none of that."""

    def __init__(self):
        super().__init__(PORT, host="localhost")
        self.heard = None
        begin = self.quic._close_begin

        def begun(is_initiator, now):
            if not is_initiator and self.quic._close_event.frame_type is not None:
                self.heard = self.quic._close_event
            begin(is_initiator=is_initiator, now=now)

        self.quic._close_begin = begun

    def begin(self):
        self.quic.connect(self.node, now=time.monotonic())


def packet(quic, epoch, payload, reserved):
    """The number of a packet of these frames, good or not, and the packet."""
    number, crypto, to = quic._packet_number, quic._cryptos[epoch].send, quic._peer_cid.cid
    quic._packet_number += 1
    first = FIRST[epoch] | (RESERVED[epoch] if reserved else 0)
    if epoch is SHORT:
        header = bytes([first | crypto.key_phase << 2]) + to
    else:
        header = bytes([first]) + quic._version.to_bytes(4, "big") + bytes([len(to)]) + to
        header += bytes([len(quic.host_cid)]) + quic.host_cid + integer(4 + len(payload) + 16)
    return number, crypto.encrypt_packet(header + number.to_bytes(4, "big"), payload, number)


def sends(epoch, payload, reserved=False):
    """A connection that says this in a packet of its own, again each turn until it is closed or that is acknowledged."""

    def run(client):
        quic, numbers = client.quic, set()
        if epoch is HANDSHAKE:
            withhold(quic)
        space = SHORT if epoch is EARLY else epoch
        client.begin()

        def said():
            if client.end or quic._spaces[space].largest_acked_packet in numbers:
                return True
            if quic._handshake_confirmed if epoch is SHORT else quic._cryptos[epoch].send.is_valid():
                number, datagram = packet(quic, epoch, payload, reserved)
                numbers.add(number)
                client.udp.sendto(datagram, client.node)
            return False

        client.until(said)

    return run


def sends_early(payload):
    """The same in early data, with the session of a connection before."""

    def run(client):
        before, sessions = Wrong(), []
        before.quic._session_ticket_handler = sessions.append
        before.begin()
        before.until(lambda: sessions)
        assert sessions[0].max_early_data_size, "the server takes no early data"
        before.close()
        client.quic.configuration.session_ticket = sessions[0]
        sends(EARLY, payload)(client)

    return run


def withhold(quic):
    """Keeps the client from ending the handshake, with which the keys of that epoch would go."""
    write = quic._write_handshake
    quic._write_handshake = lambda builder, epoch, now: None if epoch is HANDSHAKE else write(builder, epoch, now)


def hello(spoil):
    """A connection whose client is changed before it begins, up to the end of its handshake."""

    def run(client):
        spoil(client.quic)
        client.begin()
        client.until(lambda: client.quic._handshake_confirmed)

    return run


def no_protocol(quic):
    """Offers none of HTTP in ALPN."""
    quic.configuration.alpn_protocols = ["dummy"]


def parameters(**changed):
    """A connection with such transport parameters, None for what is left out."""
    push = connection.push_quic_transport_parameters

    def pushed(buf, params):
        for name, value in changed.items():
            setattr(params, name, value)
        push(buf, params)

    def run(client):
        with patch.object(connection, "push_quic_transport_parameters", pushed):
            hello(lambda quic: None)(client)

    return run


def no_parameters(quic):
    """Takes the transport parameters out of the ClientHello."""
    initialize = quic._initialize

    def initialized(cid):
        initialize(cid)
        quic.tls.handshake_extensions = []

    quic._initialize = initialized


def finished(before=b"", after=b""):
    """A client with more TLS messages around its Finished."""

    def spoil(quic):
        push = quic._push_crypto_data

        def pushed():
            buf = quic._crypto_buffers[HANDSHAKE]
            if message := buf.data:
                buf.seek(0)
                buf.push_bytes(before + message + after)
            push()

        quic._push_crypto_data = pushed

    return spoil


def frame(kind, *fields):
    """A frame of numbers."""
    return b"".join(integer(field) for field in (kind, *fields))


def stream(at, data=b"", offset=None):
    """A STREAM frame with a length."""
    head = STREAM if offset is None else STREAM_AT
    return head + integer(at) + (b"" if offset is None else integer(offset)) + integer(len(data)) + data


def new_connection_id(sequence, retire_prior_to, cid):
    """A NEW_CONNECTION_ID frame."""
    return frame(0x18, sequence, retire_prior_to) + bytes([len(cid)]) + cid + TOKEN


# Streams by who may open them (RFC 9000, section 2.1): 0, 4… the client, 1, 5… the server, 2, 6… the client and one way,
# 3, 7… the server and one way.
CASES = {
    "nothing wrong, Handshake": sends(HANDSHAKE, PING),
    "nothing wrong, Short": sends(SHORT, PING),
    "nothing wrong, 0-RTT": sends_early(PING),
    "numbers of streams at their limits": sends(SHORT, frame(0x12, STREAMS_MAX) + frame(0x16, STREAMS_MAX)),
    "transport parameters at their limits": parameters(
        max_udp_payload_size=1200, ack_delay_exponent=20, max_ack_delay=(1 << 14) - 1),
    "STREAM with a large offset": sends(SHORT, stream(0, b"GET", 1 << 40)),
    "STREAM beyond the limit of streams": sends(SHORT, stream(1 << 40, b"GET")),
    "no initial_source_connection_id": parameters(initial_source_connection_id=None),
    "original_destination_connection_id": parameters(original_destination_connection_id=b"another"),
    "preferred_address": parameters(preferred_address=QuicPreferredAddress(("127.0.0.1", 443), None, TOKEN[:8], TOKEN)),
    "retry_source_connection_id": parameters(retry_source_connection_id=b"another"),
    "stateless_reset_token": parameters(stateless_reset_token=TOKEN),
    "max_udp_payload_size under 1200": parameters(max_udp_payload_size=1199),
    "ack_delay_exponent over 20": parameters(ack_delay_exponent=21),
    "max_ack_delay of 2^14": parameters(max_ack_delay=1 << 14),
    "frame of an unknown type": sends(SHORT, b"\x20"),
    "packet without frames": sends(SHORT, b""),
    "reserved bits in Handshake": sends(HANDSHAKE, PING, reserved=True),
    "reserved bits in Short": sends(SHORT, PING, reserved=True),
    "PATH_CHALLENGE in Handshake": sends(HANDSHAKE, b"\x1a" + TOKEN[:8]),
    "RESET_STREAM of a send-only stream": sends(SHORT, frame(4, 3, 0, 0)),
    "STOP_SENDING of a stream that is not there": sends(SHORT, frame(5, 101, 0)),
    "NEW_TOKEN": sends(SHORT, frame(7, 5) + b"token"),
    "STREAM of the server's that is not there": sends(SHORT, stream(1)),
    "STREAM of a send-only stream": sends(SHORT, stream(3)),
    "MAX_STREAM_DATA of a stream that is not there": sends(SHORT, frame(0x11, 101, 1 << 20)),
    "MAX_STREAM_DATA of a receive-only stream": sends(SHORT, frame(0x11, 2, 1 << 20)),
    "MAX_STREAMS over 2^60": sends(SHORT, frame(0x12, STREAMS_MAX + 1)),
    "STREAMS_BLOCKED over 2^60": sends(SHORT, frame(0x16, STREAMS_MAX + 1)),
    "NEW_CONNECTION_ID that retires itself": sends(SHORT, new_connection_id(1, 11, TOKEN[:8])),
    "NEW_CONNECTION_ID of 0 bytes": sends(SHORT, new_connection_id(1, 0, b"")),
    "HANDSHAKE_DONE": sends(SHORT, b"\x1e"),
    "KeyUpdate in Handshake": hello(finished(after=KEY_UPDATE)),
    "KeyUpdate in Short": sends(SHORT, CRYPTO + frame(0, len(KEY_UPDATE)) + KEY_UPDATE),
    "no protocol of the server's in ALPN": hello(no_protocol),
    "no transport parameters": hello(no_parameters),
    "EndOfEarlyData": hello(finished(before=END_OF_EARLY_DATA)),
    "CRYPTO in 0-RTT": sends_early(CRYPTO + frame(0, len(END_OF_EARLY_DATA)) + END_OF_EARLY_DATA),
}


def main():
    for case, run in CASES.items():
        client = Wrong()
        run(client)
        heard = client.heard
        told = {"code": heard.error_code, "reason": heard.reason_phrase} if heard else {"code": None, "reason": client.end}
        print(json.dumps({"case": case, **told}), flush=True)
        client.close()


if __name__ == "__main__":
    main()
