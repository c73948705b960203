"""One WebSocket with the package `websockets` over HTTP/1.1; prints what was seen as one line of JSON.

usage: websocket_client.py CA URL BYTES [hold]
The URL's host is what is asked for; the connection goes to 127.0.0.1 and the URL's port. It sends a text, a message in
three fragments, a binary message of so many bytes, a ping, and closes with 1000. With `hold` it says `open` after the
fragments, and goes on when it is told a line.
"""
import asyncio
import hashlib
import json
import ssl
import sys
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


async def fragments():
    for piece in ["in ", "three ", "pieces"]:
        yield piece


async def main():
    ca, url, count, *hold = sys.argv[1:]
    parts = urlsplit(url)
    seen = {"error": None, "status": 101, "subprotocol": None, "texts": [], "sha256": None, "pong": False, "close": None}
    options = dict(ssl=ssl.create_default_context(cafile=ca), server_hostname=parts.hostname, host="127.0.0.1",
                   port=parts.port, subprotocols=["chat"], max_size=None, proxy=None)
    try:
        async with connect(url, **options) as socket:
            seen["subprotocol"] = socket.subprotocol
            await socket.send("text ü")
            seen["texts"].append(await socket.recv())
            await socket.send(fragments())
            seen["texts"].append(await socket.recv())
            if hold:
                print("open", flush=True)
                await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            body = bytes(i % 251 for i in range(int(count)))
            await socket.send(body)
            back = await socket.recv()
            seen["sha256"] = hashlib.sha256(back).hexdigest()
            await (await socket.ping())
            seen["pong"] = True
            await socket.close(1000, "bye")
            seen["close"] = socket.close_code
    except InvalidStatus as refusal:
        seen["status"] = refusal.response.status_code
    except Exception as error:
        seen["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(seen))


asyncio.run(asyncio.wait_for(main(), 600 if sys.argv[4:] else 120))
