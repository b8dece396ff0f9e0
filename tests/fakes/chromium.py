"""A headless Chromium behind its own driver, spoken to in plain WebDriver."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.services.servers import free_port

WAIT_S: Final = 120.0
_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
_ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1100,900",
)


class Browser:
    """One window."""

    def __init__(self, chromium: str, driver_url: str, *arguments: str) -> None:
        self._driver = httpx2.Client(base_url=driver_url, timeout=90)
        options = {"binary": chromium, "args": [*_ARGUMENTS, *arguments]}
        match = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._call("/session", capabilities={"alwaysMatch": match})
        self._session = f"/session/{session['sessionId']}"
        self._call(f"{self._session}/timeouts", script=80_000)

    def open(self, url: str, *, bypass_policy: bool = False) -> None:
        """Show a page; its own content policy aside when a test's script stands for a page."""
        if bypass_policy:
            bypass = {"cmd": "Page.setBypassCSP", "params": {"enabled": True}}
            self._call(f"{self._session}/goog/cdp/execute", **bypass)
        self._call(f"{self._session}/url", url=url)

    def run(self, script: str, *arguments: str) -> Any:
        """Run a script that calls its last argument when it is done."""
        return self._call(f"{self._session}/execute/async", script=script, args=list(arguments))

    def ask(self, script: str, *arguments: str) -> Any:
        """Return what a script returns."""
        return self._call(f"{self._session}/execute/sync", script=script, args=list(arguments))

    def wait(self, script: str, *arguments: str, seconds: float = WAIT_S) -> Any:
        """Return what a script returns once that is true."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            found = self.ask(script, *arguments)
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}; {self.ask('return document.body.innerText')}")

    def click(self, css: str) -> None:
        self.wait("return document.querySelector(arguments[0]) !== null", css)
        self._call(f"{self._session}/element/{self._find(css)}/click")

    def type(self, css: str, text: str) -> None:
        self._call(f"{self._session}/element/{self._find(css)}/value", text=text)

    def text(self, css: str) -> str:
        found: str = self.ask("return document.querySelector(arguments[0]).innerText", css)
        return found

    def screenshot(self, path: Path) -> None:
        answer = self._driver.get(f"{self._session}/screenshot")
        path.write_bytes(base64.b64decode(answer.json()["value"]))

    def complaints(self) -> list[str]:
        """Return what the browser complained about since the last time."""
        found = self._call(f"{self._session}/se/log", type="browser")
        return [one["message"] for one in found]

    def close(self) -> None:
        self._driver.delete(self._session)
        self._driver.close()

    def _find(self, css: str) -> str:
        found = self._call(f"{self._session}/element", using="css selector", value=css)
        element: str = found[_ELEMENT]
        return element

    def _call(self, path: str, **body: Any) -> Any:
        answer = self._driver.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@contextmanager
def open_browser(chromium: str, chromedriver: str, *arguments: str) -> Iterator[Browser]:
    """Start a driver and one window of a browser."""
    port = free_port()
    driver = subprocess.Popen(
        [chromedriver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        transport = httpx2.HTTPTransport(retries=8)
        with httpx2.Client(transport=transport, timeout=20) as probe:
            assert probe.get(f"{url}/status").status_code == 200
        opened = Browser(chromium, url, *arguments)
        try:
            yield opened
        finally:
            opened.close()
    finally:
        driver.terminate()
        driver.wait()
