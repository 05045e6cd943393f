"""A headless Chromium on a pair of pipes, spoken to in its own protocol: enough to open a file and look at it."""

from __future__ import annotations

import base64
import json
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions", "--mute-audio")
_SECONDS = 60.0


class Chromium:
    """One browser with one page; a context manager. `events`: what the page reported since it was opened."""

    def __init__(self, profile: Path) -> None:
        assert PATH is not None
        child_reads, self._out = os.pipe()
        self._in, child_writes = os.pipe()
        # The browser reads 3 and writes 4. Copies first, as either number may be taken by a pipe of ours.
        self._process = subprocess.Popen(
            [PATH, *_FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"],
            preexec_fn=_as_3_and_4(child_reads, child_writes),
            pass_fds=(3, 4),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(child_reads)
        os.close(child_writes)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._in, selectors.EVENT_READ)
        self._buffer, self._last, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Chromium:
        pages = self.send("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._selector.close()
        os.close(self._in)
        os.close(self._out)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, page: Path, width: int, height: int, *, scripts: bool = True) -> None:
        """Load a file at this size in CSS pixels; below 600 as a phone."""
        phone = width < 600
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.prefer(is_dark=False)
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.events.clear()
        self.send("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive()

    def prefer(self, *, is_dark: bool) -> None:
        """The reader's colour scheme, also under an open page; light when one is opened."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page. The protocol is not bound by the page's policy."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Exceptions, console messages and log entries, policy violations among them."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [json.dumps(event["params"])[:400] for event in self.events if event["method"] in kinds]

    def requests(self) -> list[str]:
        """Addresses the page asked for, itself included; data: addresses, which ask nobody, left out."""
        asked = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        urls = [event["params"]["request"]["url"] for event in asked]
        return [url for url in urls if not url.startswith("data:")]

    def picture(self, path: Path, *, whole: bool = False) -> Path:
        """A PNG of what is on the screen, or of the whole page."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._buffer:
            assert self._selector.select(max(deadline - time.monotonic(), 0)), "Chromium does not answer"
            piece = os.read(self._in, 1 << 16)
            assert piece, "Chromium has gone"
            self._buffer += piece
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        if "method" in message:
            self.events.append(message)
        return message


def _as_3_and_4(reads: int, writes: int) -> Callable[[], None]:
    def move() -> None:
        copies = os.dup(reads), os.dup(writes)
        high = [os.dup(fd) if fd in (3, 4) else fd for fd in copies]
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    return move
