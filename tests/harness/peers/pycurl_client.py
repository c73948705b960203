"""One request with pycurl (libcurl); prints what came back as one line of JSON.

usage: pycurl_client.py h3|h2|h1 CA URL METHOD BODY_BYTES
The URL's host is what is asked for; the connection goes to 127.0.0.1 and the URL's port.
"""
import hashlib
import json
import sys
from urllib.parse import urlsplit

import pycurl

VERSIONS = {"h3": pycurl.CURL_HTTP_VERSION_3ONLY, "h2": pycurl.CURL_HTTP_VERSION_2TLS, "h1": pycurl.CURL_HTTP_VERSION_1_1}
PROTOCOLS = {30: "h3", 3: "h2", 2: "h1"}


class Body:
    """The body that all peers send: byte i is i modulo 251."""

    def __init__(self, count):
        self.count, self.at = count, 0
        self.block = bytes(i % 251 for i in range(251 * 512))

    def read(self, room):
        start = self.at % 251
        size = min(room, self.count - self.at, len(self.block) - start)
        self.at += size
        return self.block[start : start + size]


def main():
    protocol, ca, url, method, body_bytes = sys.argv[1:]
    parts = urlsplit(url)
    digest, count, heads = hashlib.sha256(), 0, [{}]

    def write(data):
        nonlocal count
        digest.update(data)
        count += len(data)

    def header(line):
        text = line.decode("latin-1").strip()
        if text.startswith("HTTP/"):
            heads.append({})
        elif ":" in text:
            name, value = text.split(":", 1)
            heads[-1][name.lower()] = value.strip()

    curl = pycurl.Curl()
    for option, value in [
        (pycurl.URL, url), (pycurl.CAINFO, ca), (pycurl.HTTP_VERSION, VERSIONS[protocol]), (pycurl.WRITEFUNCTION, write),
        (pycurl.HEADERFUNCTION, header), (pycurl.TIMEOUT, 300), (pycurl.PROXY, ""), (pycurl.CUSTOMREQUEST, method),
        (pycurl.RESOLVE, [f"{parts.hostname}:{parts.port}:127.0.0.1"]),
    ]:
        curl.setopt(option, value)
    if method == "HEAD":
        curl.setopt(pycurl.NOBODY, True)
    elif int(body_bytes) > 0:
        curl.setopt(pycurl.UPLOAD, True)
        curl.setopt(pycurl.CUSTOMREQUEST, method)
        curl.setopt(pycurl.INFILESIZE_LARGE, int(body_bytes))
        curl.setopt(pycurl.READFUNCTION, Body(int(body_bytes)).read)
    error = None
    try:
        curl.perform()
    except pycurl.error as failure:
        error = str(failure)
    print(json.dumps({"error": error, "status": curl.getinfo(pycurl.RESPONSE_CODE),
                      "protocol": PROTOCOLS.get(curl.getinfo(pycurl.INFO_HTTP_VERSION), "?"), "headers": heads[-1],
                      "trailers": {}, "bytes": count, "sha256": digest.hexdigest()}))


main()
