"""A server of WebSockets on 127.0.0.1; prints its port as the first line.

Every message comes back as it is; /refuse is refused with 403; the subprotocol "chat" is taken where it is offered.
"""
import asyncio
import http

from websockets.asyncio.server import serve


async def echo(socket):
    async for message in socket:
        await socket.send(message)


def judge(connection, request):
    if request.path == "/refuse":
        return connection.respond(http.HTTPStatus.FORBIDDEN, "no\n")
    return None


async def main():
    async with serve(echo, "127.0.0.1", 0, process_request=judge, subprotocols=["chat"], max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
