"""Greets whoever `?name=` names."""

from urllib.parse import parse_qs, urlsplit

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        url = urlsplit(request.path_with_query() or "/")
        if url.path == "/":
            name = parse_qs(url.query).get("name", ["world"])[0]
            send(response_out, 200, f"hello, {name}\n")
        else:
            send(response_out, 404, f"nothing at {url.path}\n")


def send(response_out: ResponseOutparam, status: int, text: str) -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain; charset=utf-8")]))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        # One write takes 4096 bytes; `poll_loop.Sink` sends more.
        stream.blocking_write_and_flush(text.encode()[:4096])
    OutgoingBody.finish(body, None)
