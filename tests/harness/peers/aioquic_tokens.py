"""Connections with aioquic, the first without a token, each later one with one that the one before it was given; then one with a
token that was used already. Prints a list in JSON: whether each had to prove its address.

usage: aioquic_tokens.py CA HOST PORT
"""
import asyncio
import json
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration

CA, HOST, PORT = sys.argv[1:]


async def ask(token):
    """Whether there was a Retry, and the token that came."""
    given = asyncio.get_event_loop().create_future()
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=HOST, token=token)
    configuration.load_verify_locations(CA)

    def keep(token):
        if not given.done():
            given.set_result(token)

    async with connect("127.0.0.1", int(PORT), configuration=configuration, create_protocol=QuicConnectionProtocol,
                       token_handler=keep) as client:
        return client._quic._retry_count > 0, await asyncio.wait_for(given, 60)


async def main():
    told, token, used = [], b"", b""
    for _ in range(3):
        was_asked, fresh = await ask(token)
        told.append(was_asked)
        token, used = fresh, token
    told.append((await ask(used))[0])
    print(json.dumps(told))


asyncio.run(main())
