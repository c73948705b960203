"""Opens a page in a Chromium that runs, and waits until the page has told what it saw; prints that as JSON.

usage: chromium_page.py PROFILE URL SCREENSHOT
PROFILE is the folder in which Chromium says where its DevTools listen. The page keeps a promise in `reported`.
"""
import base64
import json
import sys
from pathlib import Path

from websockets.sync.client import connect

PROFILE, URL, SCREENSHOT = sys.argv[1:]


class DevTools:
    """Commands to a browser, and what it tells of its own accord."""

    def __init__(self, socket):
        self.socket, self.count, self.session, self.events = socket, 0, None, []

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while (heard := json.loads(self.socket.recv(timeout=120))).get("id") != self.count:
            self.events.append(heard)
        if "error" in heard:
            raise RuntimeError(f"{method}: {heard['error']}")
        return heard["result"]


port, path = Path(PROFILE, "DevToolsActivePort").read_text().split()
with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as socket:
    tools = DevTools(socket)
    version = tools.call("Browser.getVersion")["product"]
    target = tools.call("Target.createTarget", url="about:blank", newWindow=True, width=1000, height=700)["targetId"]
    tools.session = tools.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ["Page", "Network", "Runtime"]:
        tools.call(f"{domain}.enable")
    error = tools.call("Page.navigate", url=URL).get("errorText")
    report = None
    if not error:
        # Until the page's own script runs there is no such promise; the load event is behind it.
        while not any(event.get("method") == "Page.loadEventFired" for event in tools.events):
            tools.events.append(json.loads(socket.recv(timeout=120)))
        report = tools.call("Runtime.evaluate", expression="reported", awaitPromise=True)["result"].get("value")
        shot = tools.call("Page.captureScreenshot", format="png")["data"]
        Path(SCREENSHOT).write_bytes(base64.b64decode(shot))
    answers = [event["params"]["response"] for event in tools.events if event.get("method") == "Network.responseReceived"]
    failed = [event["params"]["errorText"] for event in tools.events if event.get("method") == "Network.loadingFailed"]
    print(json.dumps({"version": version, "error": error, "failed": failed, "report": report and json.loads(report),
                      "dom": tools.call("Runtime.evaluate", expression="document.getElementById('report')?.textContent")
                      ["result"].get("value"),
                      "answers": [[answer["status"], answer.get("protocol")] for answer in answers]}))
    tools.session = None
    tools.call("Browser.close")
