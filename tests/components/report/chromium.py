"""A headless Chromium, spoken to in its DevTools protocol: what a page looks like, and what goes wrong in it."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

SECONDS = 60
AXE = "KUBETFX_AXE"
"""Environment variable: the folder of another axe-core (an npm package), or its axe.min.js."""

PROBLEMS: dict[str, Callable[[dict[str, Any]], str]] = {
    "Log.entryAdded": lambda params: params["entry"]["text"],
    "Runtime.exceptionThrown": lambda params: params["exceptionDetails"]["text"],
    "Runtime.consoleAPICalled": lambda params: f"console.{params['type']}",
    "Network.loadingFailed": lambda params: f"{params['type']} failed: {params['errorText']}",
}


@dataclass
class Page:
    """A tab."""

    socket: ClientConnection
    number: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=SECONDS))
            if message.get("id") == self.number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def wait_for(self, method: str) -> None:
        while not any(event["method"] == method for event in self.events):
            self.events.append(json.loads(self.socket.recv(timeout=SECONDS)))

    def evaluate(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, path: Path, *, width: int, scheme: str, height: int = 900, media: str = "screen") -> None:
        """Show a file, with the network cut."""
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    @property
    def problems(self) -> list[str]:
        """What the browser complained about."""
        return [PROBLEMS[event["method"]](event["params"]) for event in self.events if event["method"] in PROBLEMS]

    @property
    def requests(self) -> list[str]:
        """What was asked for, besides the file itself and what it holds in itself."""
        urls = [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith(("file:", "data:"))]


@contextlib.contextmanager
def running() -> Iterator[Page]:
    """A browser with one tab; the test is skipped where there is none."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("there is no Chromium: install Debian's package chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        process = subprocess.Popen(
            [binary, *flags, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": folder},
        )
        assert process.stderr is not None
        try:
            found = (re.search(r"ws://127\.0\.0\.1:(\d+)/", line) for line in process.stderr)
            port = next(match[1] for match in found if match)
            tabs = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
            address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            with connect(address, max_size=None, proxy=None) as socket:
                yield Page(socket)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


def axe_source() -> str:
    """axe-core: the one that axe-playwright-python holds, which is not imported, or another."""
    package = importlib.util.find_spec("axe_playwright_python")
    assert package is not None
    assert package.origin is not None
    root = Path(os.environ.get(AXE) or Path(package.origin).parent)
    return (root / "axe.min.js" if root.is_dir() else root).read_text(encoding="utf-8")


OVERLAPS = """
(() => {
  const boxes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.textContent.trim() || !parent.checkVisibility({visibilityProperty: true})) continue;
    let [left, top, right, bottom] = [0, -Infinity, Infinity, Infinity];
    for (let outer = parent; outer; outer = outer.parentElement)
      if (getComputedStyle(outer).overflowX !== "visible") {
        const frame = outer.getBoundingClientRect();
        left = Math.max(left, frame.left); right = Math.min(right, frame.right);
        top = Math.max(top, frame.top); bottom = Math.min(bottom, frame.bottom);
      }
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      const seen = [Math.max(box.left, left), Math.max(box.top, top)];
      seen.push(Math.min(box.right, right), Math.min(box.bottom, bottom));
      if (seen[2] - seen[0] > 1 && seen[3] - seen[1] > 1)
        boxes.push([...seen, parent, node.textContent.trim().slice(0, 40)]);
    }
  }
  boxes.sort((a, b) => a[1] - b[1]);
  const found = [];
  for (let i = 0; i < boxes.length; i++)
    for (let j = i + 1; j < boxes.length && boxes[j][1] < boxes[i][3] - 3; j++) {
      const a = boxes[i], b = boxes[j];
      const wide = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), high = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
      if (a[4] !== b[4] && wide > 2 && high > 4 && !a[4].contains(b[4]) && !b[4].contains(a[4]))
        found.push([a[5], b[5], Math.round(wide), Math.round(high), Math.round(a[1] + scrollY)]);
    }
  return found;
})()
"""
"""Pairs of texts that lie over each other, as far as they can be seen: what a box cuts off does not count."""

CUT_OFF = """
[...document.querySelectorAll("svg text")].filter(text => {
  const box = text.getBBox(), view = text.ownerSVGElement.viewBox.baseVal;
  return box.x < -1 || box.y < -1 || box.x + box.width > view.width + 1 || box.y + box.height > view.height + 1;
}).map(text => text.textContent)
"""
"""Texts of figures that reach over the edge of theirs."""

FIRST_LAYOUT = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
"""Width of the content and of the window: the first is larger where the page scrolls sideways."""
