"""What a function can do, one path each: /hello, /stream, /fetch?url=…, /kv/<key>, /config."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast
from urllib.parse import parse_qs, urlsplit

import poll_loop
from componentize_py_types import Err, Ok
from poll_loop import PollLoop, Sink, Stream
from wit_world import exports
from wit_world.imports import monotonic_clock, types
from wit_world.imports import wasi_config_store as config
from wit_world.imports import wasi_keyvalue_store as keyvalue
from wit_world.imports.types import Fields, IncomingRequest, OutgoingRequest, OutgoingResponse, ResponseOutparam

TEXT = [("content-type", b"text/plain; charset=utf-8")]


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        loop = PollLoop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(answer(request, response_out))


async def answer(request: IncomingRequest, out: ResponseOutparam) -> None:
    url = urlsplit(request.path_with_query() or "/")
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    match url.path:
        case "/hello":
            await text(out, 200, f"hello, {query.get('name', 'world')}\n")
        case "/stream":
            await stream(out, 200, count())
        case "/fetch":
            await fetch(out, query.get("url", ""))
        case "/config":
            await text(out, 200, "".join(f"{name} = {value}\n" for name, value in sorted(config.get_all())))
        case path if path.startswith("/kv/"):
            await notes(out, request, path.removeprefix("/kv/"))
        case path:
            await text(out, 404, f"nothing at {path}\n")


async def count() -> AsyncIterator[bytes]:
    """Ten lines, each when it is ready."""
    for number in range(1, 11):
        await sleep(10)
        yield f"{number}\n".encode()


async def fetch(out: ResponseOutparam, target: str) -> None:
    """What another server answers, passed on while it comes. `egress` in eyot.toml says which may be asked."""
    url = urlsplit(target)
    if not url.netloc:
        return await text(out, 400, "say ?url=\n")
    request = OutgoingRequest(Fields())
    request.set_scheme(types.Scheme_Https() if url.scheme == "https" else types.Scheme_Http())
    request.set_authority(url.netloc)
    request.set_path_with_query((url.path or "/") + (f"?{url.query}" if url.query else ""))
    try:
        response = await poll_loop.send(request)
    except Err as error:
        return await text(out, 502, f"{error.value}\n")
    await stream(out, response.status(), chunks(response.consume()))


async def notes(out: ResponseOutparam, request: IncomingRequest, key: str) -> None:
    """One note: GET, PUT or DELETE. `stores` in eyot.toml says which store `default` opens."""
    store = keyvalue.open("default")
    match request.method():
        case types.Method_Get():
            note = store.get(key)
            if note is None:
                await text(out, 404, f"no note {key}\n")
            else:
                await send(out, 200, [], note)
        case types.Method_Put():
            store.set(key, b"".join([chunk async for chunk in chunks(request.consume())]))
            await text(out, 200, f"kept {key}\n")
        case types.Method_Delete():
            store.delete(key)
            await text(out, 200, f"forgot {key}\n")
        case _:
            await text(out, 405, "GET, PUT or DELETE\n")


async def text(out: ResponseOutparam, status: int, words: str) -> None:
    await send(out, status, TEXT, words.encode())


async def send(out: ResponseOutparam, status: int, fields: list[tuple[str, bytes]], body: bytes) -> None:
    sink = begin(out, status, fields)
    await sink.send(body)
    sink.close()


async def stream(out: ResponseOutparam, status: int, parts: AsyncIterator[bytes]) -> None:
    sink = begin(out, status, [])
    async for part in parts:
        await sink.send(part)
    sink.close()


def begin(out: ResponseOutparam, status: int, fields: list[tuple[str, bytes]]) -> Sink:
    response = OutgoingResponse(Fields.from_list(fields))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(out, Ok(response))
    return Sink(body)


async def chunks(body: types.IncomingBody) -> AsyncIterator[bytes]:
    source = Stream(body)
    while (chunk := await source.next()) is not None:
        yield chunk


async def sleep(milliseconds: int) -> None:
    loop = cast(PollLoop, asyncio.get_event_loop())
    await poll_loop.register(loop, monotonic_clock.subscribe_duration(milliseconds * 1_000_000))
