"""A page with 50 resources, over HTTP/1.1 on 127.0.0.1; prints its port as the first line.

/page/ has 20 PNG images, each of another size, 10 SVG images, 10 style sheets and 10 scripts. In the end it counts what
works, and writes that with the protocol that brought each into the element `report`, as JSON. With ?ws=PATH it first says
something to a WebSocket there, which has to come back.
"""
import http.server
import json
import re
import struct
import zlib

PNGS, SVGS, STYLES, SCRIPTS = 20, 10, 10, 10

END = """
<script>
const styles = getComputedStyle(document.documentElement);
function count(many, is) { return [...Array(many).keys()].filter(is).length; }
function width(name) { return document.getElementById(name).naturalWidth; }
function socket(path) {
  return new Promise((done) => {
    const heard = [], socket = new WebSocket("wss://" + location.host + path, "chat");
    socket.onopen = () => { socket.send("text \\u00fc"); socket.send(new Uint8Array(100000)); };
    socket.onmessage = (message) => {
      heard.push(message.data.size ?? message.data);
      if (heard.length == 2) socket.close(1000, "bye");
    };
    socket.onclose = (closed) => done({ heard, code: closed.code });
  });
}
async function report() {
  const path = new URLSearchParams(location.search).get("ws");
  const told = { socket: path && await socket(path), protocols: {},
    pngs: count(%(pngs)d, (i) => width("png-" + i) == 32 + i), svgs: count(%(svgs)d, (i) => width("svg-" + i) == 60 + i),
    styles: count(%(styles)d, (i) => styles.getPropertyValue("--style-" + i).trim() == "" + i),
    scripts: count(%(scripts)d, (i) => (window.scripts || []).includes(i)) };
  for (const entry of [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")])
    told.protocols[entry.nextHopProtocol] = (told.protocols[entry.nextHopProtocol] || 0) + 1;
  document.getElementById("report").textContent = JSON.stringify(told);
  return JSON.stringify(told);
}
const reported = new Promise((done) => { window.onload = () => done(report()); });
</script>
""" % {"pngs": PNGS, "svgs": SVGS, "styles": STYLES, "scripts": SCRIPTS}


def png(i):
    """A picture of (32 + i) by (32 + i) pixels, of a colour of its own that fades."""
    side = 32 + i
    rows = b"".join(b"\0" + b"".join(bytes([(i * 12 + x * 3) % 256, (y * 5) % 256, 255 - i * 12])
                                     for x in range(side)) for y in range(side))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
                                           for kind, data in chunks)


def svg(i):
    side = 60 + i
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}"><rect width="100%" height="100%" '
            f'fill="hsl({i * 36} 70% 50%)"/><text x="8" y="38" font-size="24" fill="white">{i}</text></svg>')


def page():
    lines = ["<!DOCTYPE html>", "<html lang=en>", "<meta charset=utf-8>", "<title>50</title>", '<link rel=icon href="data:,">']
    lines += [f'<link rel=stylesheet href="{i}.css">' for i in range(STYLES)]
    lines += ["<h1>A page with 50 resources</h1>", "<p>"] + [f'<img id="png-{i}" src="{i}.png" alt="">' for i in range(PNGS)]
    lines += ["<p>"] + [f'<img id="svg-{i}" src="{i}.svg" alt="">' for i in range(SVGS)] + ["<p>"]
    lines += [f'<span class="style-{i}">{i}</span>' for i in range(STYLES)]
    lines += [f'<script src="{i}.js"></script>' for i in range(SCRIPTS)]
    return "\n".join(lines + ["<pre id=report></pre>", END])


FILES = {"": ("text/html; charset=utf-8", page())}
FILES |= {f"{i}.png": ("image/png", png(i)) for i in range(PNGS)}
FILES |= {f"{i}.svg": ("image/svg+xml", svg(i)) for i in range(SVGS)}
FILES |= {f"{i}.css": ("text/css", f":root {{ --style-{i}: {i}; }} .style-{i} {{ background: hsl({i * 36} 60% 80%); padding: 8px; }}"
                       "pre { white-space: pre-wrap; }") for i in range(STYLES)}
FILES |= {f"{i}.js": ("text/javascript", f"(window.scripts ||= []).push({i});") for i in range(SCRIPTS)}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        kind, body = FILES.get(re.sub(r"^/page/|\?.*$", "", self.path), (None, b""))
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(200 if kind else 404)
        self.send_header("content-length", str(len(body)))
        if kind:
            self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
