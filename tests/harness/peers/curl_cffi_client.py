"""Requests with curl_cffi (libcurl as Chrome speaks) in one session; prints what came back as a list in JSON.

usage: curl_cffi_client.py v3only|v3|v2 CA URL BYTES...
Five GETs of <URL>curl, then a POST to <URL>echo of each number of bytes. The connection goes to 127.0.0.1.
"""
import hashlib
import json
import sys
from urllib.parse import urlsplit

from curl_cffi import CurlOpt, requests

PROTOCOLS = {30: "h3", 3: "h2", 2: "h1"}
VERSION, CA, URL, *COUNTS = sys.argv[1:]
PARTS = urlsplit(URL)


def body(count):
    """The body that all peers send: byte i is i modulo 251."""
    return (bytes(range(251)) * (count // 251 + 1))[:count]


def ask(session, method, path, data=None):
    seen = {"error": None, "status": 0, "protocol": "?", "sha256": "", "local_port": 0}
    try:
        answer = session.request(method, URL + path, data=data)
        seen.update(status=answer.status_code, protocol=PROTOCOLS.get(answer.http_version, "?"),
                    sha256=hashlib.sha256(answer.content).hexdigest(), local_port=answer.local_port)
    except Exception as error:
        seen["error"] = f"{type(error).__name__}: {error}"
    return seen


resolve = {CurlOpt.RESOLVE: [f"{PARTS.hostname}:{PARTS.port}:127.0.0.1"]}
with requests.Session(impersonate="chrome", http_version=VERSION, verify=CA, timeout=300, curl_options=resolve) as session:
    asked = [ask(session, "GET", "curl") for _ in range(5)]
    asked += [ask(session, "POST", "echo", body(int(count))) for count in COUNTS]
print(json.dumps(asked))
