"""A real headless browser, by its own protocol over a pair of pipes: no driver, no network."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

_EXEC = (
    "import os, sys; [os.dup2(int(sys.argv[n]), n + 2) for n in (1, 2)];"
    " os.execv(sys.argv[3], sys.argv[3:])"
)


class Page:
    """One page.  `troubles` is what its console has complained of."""

    def __init__(self, to: Any, back: Any) -> None:
        self._to, self._back = to, back
        self._numbers = iter(range(1, 1 << 30))
        self._session: str | None = None
        self.troubles: list[str] = []
        self._loaded = False

    def open(self, path: Path, *, width: int = 1200, height: int = 800, dark: bool = False) -> None:
        """Load a file and wait until it is loaded."""
        if self._session is None:
            target = self.ask("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)[
                "sessionId"
            ]
            for domain in ("Page", "Runtime", "Log"):
                self.ask(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self._loaded = False
        self.ask("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._hear()

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def move_to(self, x: float, y: float) -> None:
        """Move the mouse there."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    def screenshot(self, path: Path) -> None:
        """All of the page as a PNG."""
        answer = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def ask(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol, and its answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while (answer := self._hear()).get("id") != number:
            pass
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _hear(self) -> dict[str, Any]:
        parts = bytearray()
        while (byte := self._back.read(1)) != b"\0":
            assert byte, "the browser has gone"
            parts += byte
        told: dict[str, Any] = json.loads(parts)
        match told.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown" | "Log.entryAdded":
                self.troubles.append(json.dumps(told["params"]))
            case "Runtime.consoleAPICalled" if told["params"]["type"] in {"error", "warning"}:
                self.troubles.append(json.dumps(told["params"]))
        return told


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A browser with a profile of its own in this folder; gone at the end of the block."""
    assert CHROMIUM is not None
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    # The protocol wants descriptors 3 and 4: far numbers, so that none is overwritten on the way.
    far_in, far_out = (fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in (theirs_in, theirs_out))
    os.close(theirs_in)
    os.close(theirs_out)
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-dev-shm-usage", "--disable-extensions", "--hide-scrollbars",
        "--remote-debugging-pipe", f"--user-data-dir={folder}/profile",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", _EXEC, str(far_in), str(far_out), *command],
        pass_fds=(far_in, far_out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    os.close(far_in)
    os.close(far_out)
    with process, open(ours_out, "wb") as to, open(ours_in, "rb") as back:
        page = Page(to, back)
        try:
            yield page
            page._session = None
            page.ask("Browser.close")
        finally:
            process.kill()
